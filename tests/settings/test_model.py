import pickle
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from exporter.settings import Listen, Settings
from exporter.settings.contradictions import Contradiction
from exporter.settings.model import OF_ONE_REPLICA

KEY = SecretStr("key-id:key-secret-value")


def test_settings_built_directly_never_look_at_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY_FILE", "/nowhere")
    for name in ("FAL_EXPORTER_POLL_INTERVAL", "POLL_INTERVAL", "poll_interval"):
        monkeypatch.setenv(name, "1m")
    assert Settings(key=KEY).poll_interval == timedelta(minutes=5)


def test_settings_cannot_be_changed() -> None:
    settings = Settings(key=KEY)
    with pytest.raises(ValidationError):
        settings.max_series = 5


def test_settings_go_to_another_process_whole() -> None:
    settings = Settings(key=KEY, timezone="Europe/Berlin")  # type: ignore[arg-type]  # as a user writes it
    copy = pickle.loads(pickle.dumps(settings))  # noqa: S301  made here
    assert copy == settings
    assert copy.accounts[0].key() == KEY


def test_a_secret_is_not_in_what_is_printed_of_settings() -> None:
    settings = Settings(key=KEY)
    for text in (repr(settings), str(settings), repr(settings.accounts), repr(settings.model_dump())):
        assert "secret-value" not in text


@pytest.mark.parametrize(
    ("shorter", "longer", "values"),
    [
        ("recent_window", "deep_window", {"recent_window": "10d"}),
        ("settle_delay", "deep_window", {"settle_delay": "9d"}),
        ("deep_window", "retention", {"deep_window": "80d", "retention": "70d"}),
        ("history", "retention", {"history": "80d", "retention": "70d"}),
        ("request_timeout", "poll_deadline", {"request_timeout": "5m", "poll_deadline": "1m"}),
    ],
)
def test_windows_that_do_not_fit_into_one_another_are_refused(
    shorter: str, longer: str, values: dict[str, str]
) -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"key": KEY, **values})
    cause = caught.value.errors()[0]["ctx"]["error"]
    assert isinstance(cause, Contradiction)
    assert f"{{{shorter}}}" in str(cause)
    assert f"{{{longer}}}" in str(cause)


@pytest.mark.parametrize(
    ("ledger", "standby"),
    [
        ("sqlite:////data/ledger.sqlite", "postgresql://u:p@standby/ledger"),
        ("postgresql://u:p@db/ledger", "sqlite:///a"),
    ],
)
def test_a_standby_is_of_a_ledger_on_a_server(ledger: str, standby: str) -> None:
    with pytest.raises(ValidationError, match="a SQLite file has none") as caught:
        Settings(key=KEY, ledger_url=SecretStr(ledger), ledger_read_url=SecretStr(standby))
    assert "u:p" not in str(caught.value.errors()[0]["ctx"]["error"])


def test_polling_is_divided_among_replicas_alone() -> None:
    with pytest.raises(ValidationError, match=r"\{divide_polling\} is true, and a single exporter asks fal for all"):
        Settings(key=KEY, divide_polling=True)
    shared = SecretStr("postgresql://u:p@db/ledger")
    divided = Settings(key=KEY, ledger_url=shared, replicated=True, divide_polling=True)
    assert divided.replica_digest != Settings(key=KEY, ledger_url=shared, replicated=True).replica_digest


def test_uploads_need_a_place_for_their_memory() -> None:
    with pytest.raises(ValidationError, match=r"focus upload SERVICE --state FILE"):
        Settings(key=KEY, focus_upload=("datadog",), ledger_url=SecretStr("postgresql://u:p@db/ledger"))


def test_the_name_of_the_single_account_does_not_go_with_a_list_of_accounts() -> None:
    with pytest.raises(ValidationError, match="both set"):
        Settings.model_validate({"account": "one", "accounts": [{"name": "two", "key": KEY}]})


@pytest.mark.parametrize("off", ["off", "OFF", False])
def test_mcp_can_be_switched_off(off: object) -> None:
    assert Settings(key=KEY, mcp_listen=off).mcp_listen is None  # type: ignore[arg-type]  # as a file has it
    assert Settings(key=KEY).mcp_listen == Listen("0.0.0.0", 9090)  # noqa: S104  named, not bound
    assert Settings(key=KEY, mcp_listen="[::1]:81").mcp_listen == Listen("::1", 81)  # type: ignore[arg-type]


def test_names_of_hosts_are_taken_without_scheme_and_port() -> None:
    def allowed(text: str) -> tuple[str, ...]:
        return Settings(key=KEY, mcp_allowed_hosts=text).mcp_allowed_hosts  # type: ignore[arg-type]  # as a user writes it

    assert allowed("fal-exporter.Monitoring.svc, *.example.com") == ("fal-exporter.monitoring.svc", "*.example.com")
    assert allowed("*") == ("*",)
    for wrong in ("http://example.com", "example.com:9090", "*.", "a..b", "ex*mple.com"):
        with pytest.raises(ValidationError, match="is not a list of host names"):
            allowed(wrong)


@pytest.mark.parametrize("other", [{"key": "the-id:the-secret"}, {"key_file": "one.key"}, {"key_env": "OTHER_KEY"}])
def test_two_accounts_with_one_key_are_refused_with_both_names(
    other: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OTHER_KEY", "the-id:the-secret")
    Path("one.key").write_text("the-id:the-secret\n", encoding="utf-8")
    entries = [{"name": "studio", "key": "the-id:the-secret"}, {"name": "ads", "key": "x:y"}, {"name": "lab"} | other]
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"entries": entries})
    cause = str(caught.value.errors()[0]["ctx"]["error"])
    assert 'the accounts "studio" and "lab" have the same key' in cause
    assert "the-secret" not in cause
    assert Settings.model_validate({"entries": entries[:2]}).accounts[1].name == "ads"


OF_ACCOUNTS = {"entries", "account", "sources", "credit_floor", "key", "key_file"}


@pytest.mark.parametrize("name", sorted({*Settings.model_fields} - OF_ACCOUNTS))
def test_replicas_have_all_in_common_but_what_is_named(name: str) -> None:
    settings = Settings(key=KEY)
    other = SecretStr("s3://elsewhere/requests") if name == "events_url" else "another"
    changed = settings.model_copy(update={name: other})
    assert (changed.replica_digest == settings.replica_digest) == (name in OF_ONE_REPLICA)


def test_replicas_have_accounts_in_common_and_not_their_keys(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("other-id:other-secret")
    one = Settings(key=KEY)
    assert Settings(key_file=file).replica_digest == one.replica_digest
    for other in ({"account": "studio"}, {"sources": ("models",)}, {"credit_floor": 5}):
        assert Settings.model_validate({"key": KEY} | other).replica_digest != one.replica_digest


def test_replicas_have_a_store_of_requests_in_common_and_not_its_credentials() -> None:
    def digest(url: str) -> str:
        return Settings(key=KEY, events=True, events_url=SecretStr(url)).replica_digest

    assert digest("clickhouse://fal:one@db.example/fal") == digest("clickhouse://fal:other@db.example/fal")
    assert digest("clickhouse://fal:one@db.example/fal") != digest("clickhouse://fal:one@other.example/fal")
