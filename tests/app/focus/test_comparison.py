"""`focus diff`, as a person runs it: files, standard input and the ledger."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from focus.conftest import base_rows, to_csv

from exporter.app.focus.comparison import run_diff
from exporter.charges import NANO, Amounts, Charge, Dimensions, Invoice, Window
from exporter.cli import main
from exporter.errors import ConfigurationError
from exporter.ledger import Ledger, Rules

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    address = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}"
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate({"main": ("models",)})
    flux = Dimensions("main", product="model_apis", model="fal-ai/flux", unit="image")
    charges = [Charge(hour, flux, Amounts(NANO, 1, NANO, 0, NANO)) for hour in list(OCTOBER.hours())[:10]]
    ledger.restate("main", "models", OCTOBER, charges, at=NOW)
    total = 12 * NANO
    ledger.record_invoices(
        "main",
        [Invoice("main", "INV", "1", "paid", OCTOBER.start, OCTOBER.end, NOW, None, "usd", total, 0, 0, total)],
    )
    ledger.close()
    return address


def test_an_estimate_and_an_invoice_of_the_ledger_are_compared(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = run_diff(
        *("ledger:2026-10", "ledger:invoice:2026-10"), ledger=lambda: ledger, output_format="json", clock=lambda: NOW
    )
    found = json.loads(capsys.readouterr().out)
    assert code == 1
    assert found["a"]["name"] == "ledger:2026-10"
    assert [(row["change"], row["charge"]["ChargeCategory"], row["difference"]) for row in found["rows"]] == [
        ("only in B", "Adjustment", "2.0")
    ]
    assert found["totals"][0] | {"a": "10.0", "b": "12.0", "difference": "2.0"} == found["totals"][0]
    assert not found["not_explained"]


@pytest.mark.parametrize("wrong", ["ledger:", "ledger:october", "ledger:bill:2026-10"])
def test_what_is_no_part_of_the_ledger_is_refused(wrong: str, ledger: str) -> None:
    with pytest.raises(ConfigurationError, match="is no part of the ledger; write ledger:estimate:YYYY-MM"):
        run_diff(wrong, "b.csv", ledger=lambda: ledger, output_format="table")


def test_standard_input_is_compared_with_a_file(tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_bytes(to_csv(base_rows()))
    done = subprocess.run(
        [sys.executable, "-m", "exporter", "focus", "diff", "-", str(path)],
        input=path.read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"A: standard input: FOCUS 1.2, 32 rows\n")


def test_the_exit_code_tells_equal_different_and_unreadable(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a.csv", tmp_path / "b.csv"
    a.write_bytes(to_csv(base_rows()))
    b.write_bytes(to_csv(base_rows()[1:]))
    run = ["focus", "diff", str(a)]
    assert main([*run, str(a)]) == 0
    assert main([*run, str(b), "--by", "service, tag:team", "--max-rows", "1"]) == 1
    capsys.readouterr()
    assert main([*run, str(tmp_path / "none.csv"), "--format", "json"]) == 2
    told = capsys.readouterr()
    assert json.loads(told.out)["error"].endswith("none.csv cannot be read: No such file or directory")
    assert "none.csv cannot be read" in told.err
    assert main(["focus", "diff", "-", "-"]) == 2
    assert "A and B are both standard input" in capsys.readouterr().err
    assert main([*run, str(b), "--where", "sku"]) == 2
    assert "--where: 'sku' is not COLUMN=VALUE" in capsys.readouterr().err
