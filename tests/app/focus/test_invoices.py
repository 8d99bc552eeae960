"""Invoices to hold files against: `focus check` with its options, as a person gives them."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from focus.conftest import base_rows, to_csv

from exporter.app.focus.files import Invoices
from exporter.charges import NANO, Invoice
from exporter.cli import main
from exporter.errors import ConfigurationError
from exporter.focus.rules.table import by_id
from exporter.focus.rules.wording import says
from exporter.ledger import Ledger, Rules

NOW = datetime(2025, 11, 20, tzinfo=UTC)


def invoice(name: str, total: int, status: str = "open") -> Invoice:
    start, end = datetime(2025, 10, 1, tzinfo=UTC), datetime(2025, 11, 1, tzinfo=UTC)
    return Invoice("main", name, f"N-{name}", status, start, end, NOW, None, "usd", total, 0, 0, total)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate({"main": ("models",)})
    ledger.record_invoices("main", [invoice("A", 3 * NANO), invoice("B", 5 * NANO), invoice("C", NANO, "draft")])
    ledger.close()
    return address


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "october.csv"
    rows = [row | {"InvoiceId": "A", "BilledCost": "1.5", "EffectiveCost": "1.5"} for row in base_rows()[:2]]
    path.write_bytes(to_csv(rows))
    return path


def test_a_file_is_held_against_the_ledger_and_what_is_stated(
    ledger: str, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("invoice_id,amount,currency\nA,3.5,USD\n", encoding="utf-8")
    only = ["focus", "check", str(file), "--format", "json", "--against-ledger", "--ledger-url", ledger]
    main(only)
    right = json.loads(capsys.readouterr().out)
    assert {item["invoice"]: item["state"] for item in right["expected_invoices"]} == {
        "A": "equal",
        "B": "not in the file",
    }
    assert "X-InvoiceTotal" not in right["counts"]
    # What is stated goes before the ledger.
    assert main([*only, "--expect-file", str(wrong)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["counts"]["X-InvoiceTotal"] == 1
    assert [item["message"] for item in found["findings"] if item["rule"] == "X-InvoiceTotal"] == [
        f"{says(by_id()['X-InvoiceTotal'])}; invoice A: expected 3.5 USD, found 3.0 USD, difference -0.5 USD"
    ]


def test_mistakes_are_told_by_the_option(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = tmp_path / "invoices.csv"
    listed.write_text("invoice_id,amount\nA,dear\n", encoding="utf-8")
    assert main(["focus", "check", str(file), "--expect", "A"]) == 2
    assert "--expect: 'A' is not INVOICE_ID=AMOUNT" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match=r"--expect-file: .* line 2: amount 'dear'"):
        Invoices(file=listed).read()
    with pytest.raises(ConfigurationError, match="--expect: invoice A is expected more than once"):
        Invoices(("A=1", "A=1")).read()
