import os
from pathlib import Path

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from exporter.errors import ConfigurationError
from exporter.settings.credentials import TokenFile, checked_tokens, new_token, read_tokens, token_line


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


def test_a_file_that_vanishes_or_is_damaged_takes_no_token_away_and_is_told_once(path: Path) -> None:
    token = new_token()
    path.write_text(token_line("grafana", token))
    tokens = TokenFile(path)
    with capture_logs() as logs:
        path.unlink()
        for _ in range(3):
            assert tokens.name_of(token.get_secret_value()) == "grafana"
        replaced(path, f"grafana {token.get_secret_value()}")
        for _ in range(3):
            assert tokens.name_of(token.get_secret_value()) == "grafana"
    assert [log["log_level"] for log in logs] == ["warning", "warning"]
    assert token.get_secret_value() not in str(logs)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("grafana: falx_in_plain_text", "has a line 1 that is not"),
        ("# fine\nsha256:00", "has a line 2 that is not"),
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
    with pytest.raises(ValueError, match="holds no token; fal-exporter token makes one"):
        checked_tokens(path)


@pytest.mark.parametrize("name", ["", "two words", "-x", "a:b", "x" * 65])
def test_a_name_is_plain(name: str) -> None:
    with pytest.raises(ValueError, match="is not a plain name"):
        token_line(name, SecretStr("x"))
