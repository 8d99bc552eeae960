"""The settings that processes are handed: every value is there, and nothing is loaded of what has checked them."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.settings import KeyFile, Settings, load_settings
from exporter.settings.plain import plain

ACCOUNTS = """
accounts:
  - {name: one, key: "one:0123456789abcdef", sources: models, credit_floor: 5}
  - {name: two, key_file: key}
budgets:
  - {name: all, amount: 100, match: {app: "video-*"}, thresholds: [80%]}
  - {name: days, amount: 1.5, period: day, timezone: Europe/Berlin}
remote_write_url: https://example.com/push
remote_write_token: token-0123456789
remote_write_headers: X-Scope-OrgID=team
tags: customer
events: true
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text("two:0123456789abcdef")
    (tmp_path / "config.yaml").write_text(ACCOUNTS)
    return load_settings({"config_file": "config.yaml"})


def text(value: object) -> object:
    return value.get_secret_value() if hasattr(value, "get_secret_value") else value


def test_every_value_arrives_as_it_is(settings: Settings) -> None:
    found = pickle.loads(pickle.dumps(plain(settings)))  # noqa: S301  our own
    names = set(Settings.model_fields) - {"entries", "budgets"} | {"requests_url"}
    assert {name: text(getattr(found, name)) for name in names} == {
        name: text(getattr(settings, name)) for name in names
    }
    for budget, given in zip(found.budgets, settings.budgets, strict=True):
        for name in type(given).model_fields:
            assert getattr(budget, name) == getattr(given, name)
        assert budget.zone(settings.timezone) == given.zone(settings.timezone)
    for account, its in zip(found.accounts, settings.accounts, strict=True):
        assert (account.name, account.sources, account.credit_floor) == (its.name, its.sources, its.credit_floor)
        assert text(account.key()) == text(its.key())
    assert isinstance(found.accounts[1].key, KeyFile)
    assert [text(secret) for secret in found.remote_write_secrets] == ["token-0123456789"]


def test_it_loads_neither_pydantic_nor_the_types_of_settings(settings: Settings) -> None:
    program = (
        "import pickle, sys; found = pickle.load(sys.stdin.buffer); found.accounts[1].key(); "
        "print(*sorted(name for name in sys.modules if name.startswith(('pydantic', 'exporter.settings'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], input=pickle.dumps(plain(settings)), capture_output=True, check=True
    )
    assert done.stdout.decode().split() == [
        "exporter.settings",
        "exporter.settings.credentials",
        "exporter.settings.parsing",
        "exporter.settings.plain",
    ]


def test_settings_that_are_read_again_are_the_same_unless_a_value_differs(settings: Settings, tmp_path: Path) -> None:
    found = plain(settings)
    again = pickle.loads(pickle.dumps(plain(load_settings({"config_file": "config.yaml"}))))  # noqa: S301  our own
    assert again == found
    assert plain(found) is found
    assert found.model_fields_set == settings.model_fields_set
    assert plain(load_settings({"config_file": "config.yaml", "mcp_listen": "127.0.0.1:9090"})) != found
    changed = found.model_copy(update={"access_log": True})
    assert changed != found
    assert changed.access_log
    (tmp_path / "another").write_text("two:0123456789abcdef")
    (tmp_path / "config.yaml").write_text(ACCOUNTS.replace("key_file: key", "key_file: another"))
    assert plain(load_settings({"config_file": "config.yaml"})) != found


def test_a_secret_is_shown_to_nobody(settings: Settings) -> None:
    found = plain(settings)
    shown = f"{found.accounts} {found.accounts[0].key()} {found.accounts[0].key()!r} {found.remote_write_token}"
    assert "0123456789" not in shown
    assert found.accounts[0].key() == SecretStr("one:0123456789abcdef")
    assert found.accounts[0].key() != SecretStr("another")
