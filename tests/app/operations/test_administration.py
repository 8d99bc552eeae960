import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.app.operations.administration import (
    run_ledger_backup,
    run_ledger_migrate,
    run_ledger_restore,
    run_ledger_verify,
    run_rename_account,
)
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import Ledger, LedgerInUseError, Rules, take_collector_lock
from exporter.settings import Settings

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def settings_for(folder: Path, account: str = "studio") -> Settings:
    return Settings(
        key=SecretStr("id:secret"), account=account, ledger_url=SecretStr(f"sqlite:///{folder / 'ledger.sqlite'}")
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a ledger that knows one account."""
    made = settings_for(tmp_path)
    activated(made, "studio", NOW)
    return made


def activated(settings: Settings, account: str, now: datetime) -> None:
    with closing(Ledger(settings.ledger_url.get_secret_value(), rules=Rules(), clock=lambda: now)) as ledger:
        ledger.activate({account: ("models",)})


def test_the_ledger_knows_the_account_by_its_new_name_and_the_user_is_told_what_is_left_to_do(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_rename_account(settings, old="studio", new="atelier") == 0
    assert "Rename it in the configuration too" in capsys.readouterr().out
    with pytest.raises(LedgerError, match="its accounts are: atelier"):
        run_rename_account(settings, old="studio", new="elsewhere")


def test_a_name_that_was_polled_meanwhile_is_joined_and_told(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    activated(settings, "atelier", NOW + timedelta(hours=1))
    assert run_rename_account(settings_for(tmp_path, "atelier"), old="studio", new="atelier") == 0
    told = capsys.readouterr().out
    assert 'polled under "atelier" since 2026-11-21 01:00 UTC was merged' in told
    assert "in the configuration" not in told


def test_a_move_says_where_the_ledger_is_now_and_what_is_left_to_do(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = settings.ledger_url.get_secret_value(), f"sqlite:///{tmp_path / 'moved.sqlite'}"
    assert run_ledger_migrate(settings, source=source, target=target) == 0
    told = capsys.readouterr().out
    assert f"The ledger is in {target} now, complete and intact: 0 hourly charges, 0 counters" in told
    assert f"Set FAL_EXPORTER_LEDGER_URL to {target} before starting the exporter." in told
    assert f"{source} was not changed; remove it once the exporter runs on the new one." in told
    with pytest.raises(LedgerError, match="its accounts are: studio"):
        run_rename_account(settings.model_copy(update={"ledger_url": SecretStr(target)}), old="nobody", new="somebody")
    with pytest.raises(LedgerError, match=r"moved\.sqlite"):
        run_ledger_migrate(settings, source=source, target=target)


def test_a_move_to_the_ledger_of_the_settings_needs_no_other_setting(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = SecretStr(f"sqlite:///{tmp_path / 'moved.sqlite'}")
    source = settings.ledger_url.get_secret_value()
    assert run_ledger_migrate(settings.model_copy(update={"ledger_url": place}), source=source, target=None) == 0
    told = capsys.readouterr().out
    assert f"The ledger is in {place.get_secret_value()} now" in told
    assert "FAL_EXPORTER_LEDGER_URL" not in told


def test_backup_restore_and_verify_say_what_they_found_and_did(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = tmp_path / "backup.sqlite"
    assert run_ledger_backup(settings, file=backup) == 0
    assert "is a complete, intact copy of the ledger: 0 hourly charges, 0 counters" in capsys.readouterr().out
    assert run_ledger_verify(settings, file=None) == 0
    assert capsys.readouterr().out.endswith("It is intact.\n")
    assert run_ledger_restore(settings, file=backup) == 0
    told = capsys.readouterr().out
    assert "counting since 2026-11-21 00:00 UTC" in told
    assert "is kept as" in told
    assert "counters may fall" not in told
    (tmp_path / "ledger.sqlite").unlink()
    assert run_ledger_restore(settings, file=backup) == 0
    assert "counters may fall" in capsys.readouterr().out
    with closing(sqlite3.connect(backup)) as connection, connection:
        connection.execute("INSERT INTO span_total SELECT 1, 24, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0")
    assert run_ledger_verify(settings, file=backup) == 1
    told = capsys.readouterr().out
    assert "wrong: " in told
    assert "restore a backup" in told


def test_commands_that_change_the_ledger_are_refused_while_an_exporter_runs_on_it(
    settings: Settings, tmp_path: Path
) -> None:
    run_ledger_backup(settings, file=tmp_path / "backup.sqlite")
    lock = take_collector_lock(settings.ledger_url.get_secret_value())
    with pytest.raises(LedgerInUseError) as caught:
        run_rename_account(settings, old="studio", new="atelier")
    assert caught.value.exit_code == 2
    with pytest.raises(LedgerInUseError):
        run_ledger_restore(settings, file=tmp_path / "backup.sqlite")
    run_ledger_backup(settings, file=tmp_path / "another.sqlite")
    assert run_ledger_verify(settings, file=None) == 0
    lock.release()


def test_a_ledger_on_a_server_has_the_server_s_backup(tmp_path: Path) -> None:
    server = Settings(key=SecretStr("id:secret"), ledger_url=SecretStr("postgresql://me:hidden@127.0.0.1:1/ledger"))
    with pytest.raises(ConfigurationError, match="pg_dump") as caught:
        run_ledger_backup(server, file=tmp_path / "backup")
    assert "hidden" not in str(caught.value)
