"""Files that settings name: of a pipe nobody waits for what may never come."""

import os
from pathlib import Path

import pytest
import trustme

from exporter.errors import ConfigurationError
from exporter.settings import load_settings
from exporter.settings.credentials import open_regular

PIPE = "not a regular file, which can be read again; write it to one"
KEY = "identity:0123456789"


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
    key = {} if setting == "key_file" else {"key": KEY}
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
        load_settings({"web_config_file": str(web), "key": KEY})


def test_links_to_regular_files_are_followed_as_kubernetes_mounts_have_them(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "key").write_text("\ufeff" + KEY, encoding="utf-8")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "key").symlink_to("..data/key")
    with open_regular(tmp_path / "key") as file:
        assert file.read() == KEY
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)


def test_a_key_that_is_rotated_while_the_settings_are_read_is_a_sentence(pipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY)
    settings = load_settings({"key_file": str(file)})
    file.write_text("")
    (account,) = settings.accounts
    with pytest.raises(ConfigurationError, match=r"the key file .* is empty"):
        account.key()
    assert pipe.exists()
