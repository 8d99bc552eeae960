"""Judged by an independent program: focus-data-toolkit."""

import csv
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import programs
import pytest
from focus.official import every_kind
from focus.test_checks import found
from focus.test_writer import FLUX_CHARGE, parsed, written

from exporter.charges import NANO, Amounts
from exporter.focus.charge import Granularity, Settlement
from exporter.focus.findings import WrongContentError
from exporter.focus.reader import Reader

programs.required_module("focus_data_toolkit", "pip:focus-data-toolkit>=0.14")


class Costs(NamedTuple):
    billed_cost: Decimal
    effective_cost: Decimal
    list_cost: Decimal


def toolkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "focus_data_toolkit", *arguments], capture_output=True, text=True, check=False
    )


def judged(path: Path) -> subprocess.CompletedProcess[str]:
    supports = ("--supports", "SupportsUnitPricing", "--supports", "SupportsMultiplePricingCategories")
    return toolkit("validate", str(path), "--dataset", "cost-and-usage", *supports)


@pytest.mark.parametrize("granularity", Granularity, ids=lambda item: item.value)
def test_it_accepts_charges_of_every_kind(granularity: Granularity, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(written(list(every_kind(granularity)), "1.4")[0])
    told = judged(path)
    assert told.returncode == 0, told.stdout + told.stderr
    rows = parsed(path.read_bytes())
    assert {row["PricingCategory"] for row in rows} == {"Standard", "Dynamic", ""}
    assert {row["ChargeCategory"] for row in rows} == {"Usage", "Adjustment"}


def test_it_accepts_an_invoiced_month(tmp_path: Path) -> None:
    usage = [charge._replace(invoice_id="in_1") for charge in every_kind(Granularity.MONTH)]
    settled = [
        usage[0]._replace(
            amounts=Amounts(0, 0, amount, 0, amount), price=None, settlement=Settlement(category, category)
        )
        for category, amount in (("Credit", -5 * NANO), ("Tax", NANO), ("Adjustment", 7))
    ]
    path = tmp_path / "out.csv"
    path.write_bytes(written(usage + settled, "1.4")[0])
    told = judged(path)
    assert told.returncode == 0, told.stdout + told.stderr
    rows = parsed(path.read_bytes())
    assert {row["InvoiceId"] for row in rows} == {"in_1"}
    assert [row["BilledCost"] for row in rows[-3:]] == ["-5.0", "1.0", "0.000000007"]
    assert found(path.read_bytes(), "1.4") == set()


def test_it_would_tell_of_a_currency_sign(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(written([FLUX_CHARGE], "1.4")[0].replace(b",0.09,", b",$0.09,", 1))
    assert judged(path).returncode == 1


@pytest.mark.parametrize("version", ["1.3", "1.4"])
def test_it_takes_our_files_for_their_version_for_certain(version: str, tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(written(list(every_kind(Granularity.MONTH)), version)[0])
    told = toolkit("detect", str(path))
    assert f"dataset=Cost and Usage version={version} confidence=HIGH (score 1.000)" in told.stdout


def test_it_converts_a_file_of_1_3_strictly_with_equal_sums(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(written(list(every_kind(Granularity.MONTH)), "1.3")[0])
    told = toolkit("convert", "--cost-and-usage", str(path), "--mode", "strict", "--out", str(tmp_path / "made"))
    assert "lint [Cost and Usage]: lint OK" in told.stdout, told.stdout + told.stderr
    made = (tmp_path / "made" / "focus_1_4_cost_and_usage.csv").read_bytes()
    for column in ("BilledCost", "ListCost", "EffectiveCost"):
        ours, theirs = ([Decimal(row[column]) for row in parsed(data)] for data in (path.read_bytes(), made))
        assert sorted(ours) == sorted(theirs)
    assert found(made, "1.4") == set()


@pytest.mark.parametrize(("provider", "version"), [("aws", "1.2"), ("azure", "1.3"), ("gcp", "1.3")])
def test_we_read_what_it_generates_with_equal_sums_and_without_findings(
    provider: str, version: str, tmp_path: Path
) -> None:
    wanted = ("--provider", provider, "--focus-version", version, "--rows", "200")
    made = toolkit("generate", *wanted, "--out", str(tmp_path))
    assert made.returncode == 0, made.stdout + made.stderr
    files = [path for path in tmp_path.rglob("*.csv") if "commitment" not in path.name]
    assert files
    for path in files:
        with path.open(newline="", encoding="utf-8-sig") as file:
            sums = [Decimal(row["BilledCost"]) for row in csv.DictReader(file)]
        reader = Reader(Costs)
        rows = reader.feed(path.read_bytes()) + reader.finish()
        assert reader.problems.rows == 0
        assert (len(rows), sum(row.billed_cost for row in rows)) == (len(sums), sum(sums))
        assert found(path.read_bytes(), version) == set()
    for path in tmp_path.rglob("*commitment*.csv"):
        with pytest.raises(WrongContentError, match="a FOCUS Contract Commitment file"):
            found(path.read_bytes())
