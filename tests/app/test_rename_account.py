from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from exporter.app import run_rename_account
from exporter.errors import LedgerError
from exporter.ledger import Ledger, Rules
from exporter.settings import Settings


def settings_for(folder: Path) -> Settings:
    return Settings(key=SecretStr("id:secret"), ledger_url=SecretStr(f"sqlite:///{folder / 'ledger.sqlite'}"))


def test_the_ledger_knows_the_account_by_its_new_name_and_the_user_is_told_what_is_left_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(tmp_path)
    ledger = Ledger(
        settings.ledger_url.get_secret_value(), rules=Rules(), clock=lambda: datetime(2026, 11, 21, tzinfo=UTC)
    )
    ledger.activate({"studio": ("models",)})
    ledger.close()
    assert run_rename_account(settings, old="studio", new="atelier") == 0
    assert "Rename it in the configuration too" in capsys.readouterr().out
    with pytest.raises(LedgerError, match="its accounts are: atelier"):
        run_rename_account(settings, old="studio", new="elsewhere")
