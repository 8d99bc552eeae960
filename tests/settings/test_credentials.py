import os
import pickle
from pathlib import Path

import pytest
import structlog
import trustme
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from exporter.errors import ConfigurationError
from exporter.settings import load_settings
from exporter.settings.credentials import (
    FixedKey,
    KeyFile,
    TokenFile,
    checked_key,
    checked_tokens,
    new_token,
    open_regular,
    read_tokens,
    token_line,
)


@pytest.fixture(autouse=True)
def _plain_structlog() -> None:
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ('"id:secret"', "has quotes"),
        ("'id:secret'", "has quotes"),
        ("Key id:secret", "starts with an authorization scheme"),
        ("Bearer id:secret", "starts with an authorization scheme"),
        ("Authorization: Key id:secret", "starts with an authorization scheme"),
        ("id: secret", "contains spaces"),
        ("id:secret\nid:secret", "contains spaces or line breaks"),
        ("idsecret", "is not a fal key"),
        (":secret", "is not a fal key"),
        ("id:", "is not a fal key"),
        ("id:sécret", "is not a fal key"),
        ("id:sec\x00ret", "is not a fal key"),
    ],
)
def test_a_key_of_the_wrong_shape_is_refused_in_words_that_do_not_hold_it(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        checked_key(text)
    assert "ecret" not in str(caught.value).replace("key_secret", "")


@pytest.mark.parametrize("text", ["id:secret", "id:secret\n", " id:secret\r\n", "id:sec:ret"])
def test_surrounding_blanks_are_taken_off(text: str) -> None:
    assert checked_key(text).get_secret_value() == text.strip()


@given(st.text())
def test_any_text_is_a_key_or_a_sentence(text: str) -> None:
    try:
        key = checked_key(text).get_secret_value()
    except ValueError:
        return
    assert ":" in key
    assert key.isascii()


def replace(path: Path, text: str) -> None:
    """Change a file as a careful writer does: a new one takes its place."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def test_a_key_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("id:first\n")
    key = KeyFile(path)
    assert key().get_secret_value() == "id:first"
    replace(path, "id:other\n")
    assert key().get_secret_value() == "id:other"
    path.write_text("id:longer-than-before")
    assert key().get_secret_value() == "id:longer-than-before"


@pytest.mark.parametrize("text", ["\ufeffid:secret\n", "id:secret"])
def test_a_byte_order_mark_before_a_key_is_not_part_of_the_key(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key"
    path.write_text(text, encoding="utf-8")
    assert KeyFile(path)().get_secret_value() == "id:secret"


def test_an_unchanged_key_file_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("id:first\n")
    key = KeyFile(path)
    assert key() is key()


def test_a_key_behind_links_is_read_again_when_the_links_move(tmp_path: Path) -> None:
    """Kubernetes mounts a secret as links into a folder that it swaps."""
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "key").write_text(f"id:{version}")
    os.utime(tmp_path / "one" / "key", (1, 1))
    os.utime(tmp_path / "two" / "key", (1, 1))
    (tmp_path / "data").symlink_to("one")
    key = KeyFile(tmp_path / "data" / "key")
    assert key().get_secret_value() == "id:one"
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").replace(tmp_path / "data")
    assert key().get_secret_value() == "id:two"


def test_the_last_good_key_outlives_a_file_that_vanishes_or_is_spoilt(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("id:good-secret")
    key = KeyFile(path)
    key()
    with capture_logs() as logs:
        path.unlink()
        assert [key().get_secret_value() for _ in range(3)] == ["id:good-secret"] * 3
    assert [entry["log_level"] for entry in logs] == ["warning"]
    with capture_logs() as logs:
        path.write_text("spoilt-secret")
        assert [key().get_secret_value() for _ in range(3)] == ["id:good-secret"] * 3
    assert [entry["problem"] for entry in logs] == [
        "is a file whose content is not a fal key; it looks like key_id:key_secret"
    ]
    assert "spoilt-secret" not in str(logs)
    replace(path, "id:new-secret")
    assert key().get_secret_value() == "id:new-secret"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot be read: no such file or directory"),
        (b"", "is a file whose content is empty"),
        (b"\xff\xfe", "is not a text file"),
        (b"x" * 100_000, "is a file whose content is not a fal key"),
    ],
)
def test_a_file_that_never_held_a_key_is_an_error(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    key = KeyFile(path)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=problem) as caught:
            key()
        assert str(path) in str(caught.value)


def test_key_sources_go_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("id:secret")
    for source in (FixedKey(SecretStr("id:secret")), KeyFile(path)):
        assert pickle.loads(pickle.dumps(source))().get_secret_value() == "id:secret"  # noqa: S301  made here
        assert "id:secret" not in repr(source)


def replaced(path: Path, text: str) -> None:
    """Put a file in another's place, as a secret is rotated."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token().get_secret_value() for _ in range(100)}
    assert len(tokens) == 100
    assert {len(token) for token in tokens} == {len("falx_") + 43}


def test_a_file_tells_its_tokens_by_name_and_no_others(path: Path) -> None:
    grafana, finops = new_token(), new_token()
    path.write_text(f"# who may ask\n\n{token_line('grafana', grafana)}\n  {token_line('finops@example', finops)}  \n")
    tokens = TokenFile(path)
    assert tokens.name_of(grafana.get_secret_value()) == "grafana"
    assert tokens.name_of(finops.get_secret_value()) == "finops@example"
    for stranger in ("", "x", new_token().get_secret_value(), grafana.get_secret_value() + "x", "\udcff"):
        assert tokens.name_of(stranger) is None


def test_the_hash_admits_nobody(path: Path) -> None:
    line = token_line("grafana", new_token())
    path.write_text(line)
    assert TokenFile(path).name_of(line.rpartition(":")[2]) is None


def test_a_file_that_changes_is_read_again(path: Path) -> None:
    old, new = new_token(), new_token()
    path.write_text(token_line("grafana", old))
    tokens = TokenFile(path)
    replaced(path, token_line("grafana", new))
    assert tokens.name_of(old.get_secret_value()) is None
    assert tokens.name_of(new.get_secret_value()) == "grafana"
    replaced(path, "# nobody any more\n")
    assert tokens.name_of(new.get_secret_value()) is None


def test_a_file_that_vanishes_admits_nobody_until_it_is_back_and_is_told_once(path: Path) -> None:
    token = new_token()
    path.write_text(token_line("grafana", token))
    tokens = TokenFile(path)
    assert not tokens.problem
    with capture_logs() as logs:
        path.unlink()
        for _ in range(3):
            assert tokens.name_of(token.get_secret_value()) is None
        assert tokens.problem == "cannot be read: no such file or directory"
    assert [log["log_level"] for log in logs] == ["error"]
    replaced(path, token_line("grafana", token))
    assert (tokens.problem, tokens.name_of(token.get_secret_value())) == ("", "grafana")


def test_a_damaged_line_takes_its_own_token_away_and_no_other(path: Path) -> None:
    removed, kept = new_token(), new_token()
    path.write_text(f"{token_line('old', removed)}\n{token_line('grafana', kept)}\n")
    tokens = TokenFile(path)
    with capture_logs() as logs:
        replaced(path, f"somebody {removed.get_secret_value()}\n{token_line('grafana', kept)}\n")
        assert tokens.name_of(removed.get_secret_value()) is None, "removed, though another line has a typo"
        assert tokens.name_of(kept.get_secret_value()) == "grafana"
    assert tokens.problem.startswith("has a malformed line 1;")
    assert [log["tokens"] for log in logs] == [1]
    assert removed.get_secret_value() not in str(logs)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("grafana: falx_in_plain_text", "has a malformed line 1;"),
        ("# fine\nsha256:00", "has a malformed line 2;"),
        (f"a: sha256:{'0' * 64}\na: sha256:{'1' * 64}", 'has the name "a" twice'),
        ("x" * (2**20 + 1), "is larger than 1 MiB"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_without_a_part_of_a_token(path: Path, text: str, problem: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=problem) as caught:
        read_tokens(path)
    assert "falx_" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=problem):
        TokenFile(path)


def test_a_file_that_is_no_text_or_not_there_is_told(path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_tokens(path)
    path.write_bytes(os.urandom(64) + b"\xff")
    with pytest.raises(ValueError, match="is not a text file"):
        read_tokens(path)


def test_at_start_a_file_without_a_token_is_wrong(path: Path) -> None:
    path.write_text("# none yet\n")
    with pytest.raises(ValueError, match="contains no token; create one with fal-exporter token"):
        checked_tokens(path)


@pytest.mark.parametrize("name", ["", "two words", "-x", "a:b", "x" * 65])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(ValueError, match="is not a plain name"):
        token_line(name, SecretStr("x"))


# Files that settings name: of a pipe nobody waits for what may never come.

PIPE = "not a regular file, which can be read again; write it to one"
PIPED_KEY = "identity:0123456789"


@pytest.fixture
def pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith("FAL_"):
            monkeypatch.delenv(name)
    made = tmp_path / "pipe.yaml"
    os.mkfifo(made)
    return made


@pytest.mark.parametrize(
    "setting",
    ["key_file", "config_file", "web_config_file", "rest_tokens_file", "metrics_tokens_file", "mcp_tokens_file"],
)
def test_a_pipe_is_refused_in_a_sentence(setting: str, pipe: Path) -> None:
    key = {} if setting == "key_file" else {"key": PIPED_KEY}
    with pytest.raises(ConfigurationError, match=f"cannot be read: {PIPE}"):
        load_settings({setting: str(pipe), **key})


@pytest.mark.parametrize("which", ["cert_file", "key_file", "client_ca_file"])
def test_a_pipe_as_a_certificate_is_refused_in_a_sentence(which: str, pipe: Path, tmp_path: Path) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    files = {"cert_file": "server.pem", "key_file": "server.pem", "client_ca_file": "server.pem", which: pipe.name}
    listed = ", ".join(f"{name}: {file}" for name, file in files.items())
    web = tmp_path / "web.yaml"
    web.write_text(f"tls_server_config: {{{listed}, client_auth_type: RequireAndVerifyClientCert}}\n")
    with pytest.raises(ConfigurationError, match=f"pipe.yaml.*, which cannot be read: {PIPE}"):
        load_settings({"web_config_file": str(web), "key": PIPED_KEY})


def test_links_to_regular_files_are_followed_as_kubernetes_mounts_have_them(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "key").write_text("\ufeff" + PIPED_KEY, encoding="utf-8")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    with open_regular(tmp_path / "key") as file:
        assert file.read() == PIPED_KEY
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_a_key_that_is_rotated_while_the_settings_are_read_is_a_sentence(pipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(PIPED_KEY)
    settings = load_settings({"key_file": str(file)})
    file.write_text("")
    (account,) = settings.accounts
    with pytest.raises(ConfigurationError, match=r"the key file .* is empty"):
        account.key()
    assert pipe.exists()
