"""Judged by an independent program: focus-data-toolkit."""

import csv
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import pytest
from focus.test_writer import APP_CHARGE, FLUX_CHARGE, written

from exporter.focus.reader import Reader

pytest.importorskip("focus_data_toolkit", reason="the test extra installs focus-data-toolkit")


class Costs(NamedTuple):
    billed_cost: Decimal
    effective_cost: Decimal
    list_cost: Decimal


def toolkit(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "focus_data_toolkit", *arguments], capture_output=True, text=True, check=False
    )


def test_it_accepts_what_we_write(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_bytes(written([FLUX_CHARGE, APP_CHARGE], "1.4")[0])
    judged = toolkit("validate", str(path), "--dataset", "cost-and-usage")
    assert judged.returncode == 0, judged.stdout + judged.stderr
    path.write_bytes(path.read_bytes().replace(b"\n0.09,", b"\n$0.09,"))
    assert toolkit("validate", str(path), "--dataset", "cost-and-usage").returncode == 1


@pytest.mark.parametrize(("provider", "version"), [("aws", "1.2"), ("azure", "1.3"), ("gcp", "1.3")])
def test_we_read_what_it_generates_with_equal_sums(provider: str, version: str, tmp_path: Path) -> None:
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
