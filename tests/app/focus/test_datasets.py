"""Files and folders that are written in any format are one data set that adds up to the same."""

import json
import resource
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from app.focus.test_files import NOW, OCTOBER, asked, environment, exported
from app.focus.test_files import ledger as ledger  # noqa: PLC0414  a fixture
from e2e.processes import Fal

from exporter.app.focus.files import run_check, run_summary
from exporter.charges import HOUR, decimal_of
from exporter.cli import main
from exporter.errors import ConfigurationError
from exporter.focus.dataset import MANIFEST, parts
from exporter.focus.findings import WrongContentError
from exporter.focus.outputs import Format, format_of
from exporter.focus.parquet import write_parquet

Run = Callable[..., int]


def grand_total(path: Path, capsys: pytest.CaptureFixture[str]) -> Decimal:
    capsys.readouterr()
    assert run_summary([str(path)], output_format="json") == 0
    return Decimal(json.loads(capsys.readouterr().out)["grand_totals"][0]["billed_cost"])


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    return found


def test_parquet_has_exact_decimals_and_utc_stamps_and_passes_the_check(
    ledger: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "october.parquet"
    assert exported(ledger[0], path) == 0
    frame = pl.read_parquet(path)
    assert frame.schema["BilledCost"] == pl.Decimal(38, 9)
    assert frame.schema["ListUnitPrice"] == pl.Decimal(38, 20)
    assert frame.schema["ChargePeriodStart"] == pl.Datetime("us", "UTC")
    assert frame.schema["Tags"] == pl.String
    assert frame["BilledCost"].sum() == decimal_of(ledger[1])
    assert json.loads(frame.filter(pl.col("Tags").is_not_null())["Tags"][0])["app"] == "shop"
    assert run_check([str(path)], version="1.2", output_format="text") == 0
    assert grand_total(path, capsys) == decimal_of(ledger[1])


def test_the_format_is_that_of_the_option_or_of_the_name(ledger: tuple[str, int], tmp_path: Path) -> None:
    assert [format_of(name) for name in ("a.csv", "a.CSV.GZ", "a.zst", "a.parquet", "a")] == [
        *(Format.CSV, Format.GZIP, Format.ZSTD, Format.PARQUET, Format.CSV)
    ]
    named, chosen = tmp_path / "a.csv.zst", tmp_path / "b"
    exported(ledger[0], named)
    exported(ledger[0], chosen, output_format=Format.ZSTD)
    assert named.read_bytes() == chosen.read_bytes()


@pytest.mark.parametrize("output_format", list(Format))
def test_a_partitioned_export_has_a_file_for_each_billing_period_and_a_manifest(
    output_format: Format, ledger: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    request = asked(end=OCTOBER.end + 30 * HOUR)
    assert exported(ledger[0], folder, request, output_format=output_format, by_period=True) == 0
    assert "30 hours of this window are not complete yet" in capsys.readouterr().err
    told = manifest(folder)
    (file,) = told["files"]
    assert file["path"] == f"BillingPeriod=2026-10/focus.{output_format.value}"
    billed = decimal_of(ledger[1])
    assert Decimal(told["sums"]["USD"]["BilledCost"]) == Decimal(file["sums"]["USD"]["EffectiveCost"]) == billed
    assert (told["rows"], file["rows"], told["unreadable"]) == (496, 496, 0)
    assert told["completeness"] == {
        "start": "2026-10-01T00:00:00Z",
        "end": "2026-11-02T06:00:00Z",
        "complete": False,
        "missing_hours": 30,
        "missing_hours_by_billing_period": {"2026-11": 30},
        "open": False,
    }
    assert {"name": "ListUnitPrice", "type": "decimal", "scale": 20} in told["schema"]
    assert grand_total(folder, capsys) == billed
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_second_export_leaves_what_has_not_changed_and_drops_what_is_stale(
    ledger: tuple[str, int], tmp_path: Path
) -> None:
    folder = tmp_path / "out"

    def stamps() -> dict[str, int]:
        return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*.*")}

    exported(ledger[0], folder, output_format=Format.GZIP, by_period=True)
    before = stamps()
    exported(ledger[0], folder, output_format=Format.GZIP, by_period=True, clock=lambda: NOW + timedelta(seconds=1))
    assert stamps() == before
    exported(ledger[0], folder, output_format=Format.CSV, by_period=True)
    assert stamps().keys() == {MANIFEST, "BillingPeriod=2026-10/focus.csv"}


def test_a_file_that_is_not_the_one_of_the_manifest_is_told(ledger: tuple[str, int], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    exported(ledger[0], folder, by_period=True)
    file = folder / "BillingPeriod=2026-10" / "focus.csv"
    file.write_bytes(file.read_bytes().replace(b"shop", b"soap"))
    with pytest.raises(WrongContentError, match=r"focus.csv: this is not the file that manifest.json lists"):
        [*parts([str(folder)])]
    assert exported(ledger[0], folder, by_period=True) == 0, "it is mended"
    assert b"shop" in b"".join(piece for part in parts([str(folder)]) for piece in part.pieces())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"output": None}, "name a folder with --output"),
        ({"omit_empty_columns": True}, "--partition does not go with --omit-empty-columns"),
        ({"metadata_output": Path("x.json")}, "--partition does not go with --metadata"),
    ],
)
def test_what_does_not_go_with_partitions_is_refused(
    changes: dict[str, Any], sentence: str, ledger: tuple[str, int], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        exported(ledger[0], tmp_path / "out", by_period=True, **changes)


def test_parquet_takes_every_number_exactly_or_says_which_it_cannot(tmp_path: Path) -> None:
    table, made = tmp_path / "in.csv", tmp_path / "out.parquet"
    table.write_text("BilledCost,Tags,ChargePeriodStart\n1E-12,,2026-10-01T02:00:00+02:00\n-3,{},NULL\n")
    write_parquet(table, made)
    frame = pl.read_parquet(made)
    assert frame.schema["BilledCost"] == pl.Decimal(38, 12)
    assert frame["BilledCost"].to_list() == [Decimal("1E-12"), Decimal(-3)]
    assert frame["ChargePeriodStart"].to_list() == [OCTOBER.start, None]
    for text, sentence in [
        ("BilledCost\n1E20\n1E-30\n", "BilledCost needs 21 digits before the point and 30 after it"),
        ("BilledCost\n$4\n", r"row 2: BilledCost '\$4' is not a number"),
        ("ChargePeriodStart\nsoon\n", "row 2: ChargePeriodStart 'soon' is not a date"),
    ]:
        table.write_text(text)
        with pytest.raises(WrongContentError, match=sentence):
            write_parquet(table, made)


@pytest.mark.parametrize("options", [(), ("--format", "parquet"), ("--format", "csv.zst", "--partition")], ids=len)
def test_a_fetched_month_is_one_data_set_that_summary_and_check_read(
    options: tuple[str, ...],
    fal: Fal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(fal).items():
        monkeypatch.setenv(name, value)
    last = fal.now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=1)
    start, end = last.replace(day=1), last + timedelta(days=1)
    folder = tmp_path / "month"
    asked_for = ["--month", f"{start:%Y-%m}", "--timeframe", "day", "--folder", str(folder), "--piece-days", "16"]
    assert main(["focus", "fetch", *asked_for, *options]) == 0
    paths = [Path(path) for path in capsys.readouterr().out.split()]
    assert len(paths) == (1 if options else 2)
    truth = Decimal(str(fal.simulator.statement(start=start.isoformat(), end=end.isoformat())["cost"]))
    assert grand_total(folder, capsys) == truth > 0
    told = manifest(folder)
    assert Decimal(told["sums"]["USD"]["BilledCost"]) == truth
    assert told["completeness"] == {
        "start": f"{start:%Y-%m-%d}T00:00:00Z",
        "end": f"{end:%Y-%m-%d}T00:00:00Z",
        "complete": True,
        "open": False,
    }
    assert {str(path.relative_to(folder)) for path in paths} == {file["path"] for file in told["files"]}
    assert [path for path in folder.iterdir() if path.name.startswith(".")] == []
    assert main(["focus", "check", "--fail-on", "never", str(folder)]) == 0


@pytest.mark.parametrize(
    "asked_for",
    [
        ("--month", "YEAR-01"),
        ("--source", "estimate", "--start", "YEAR-01-01", "--end", "YEAR-01-02"),
        ("--source", "invoice", "--charge-month", "YEAR-01"),
        ("--source", "invoice", "--billing-month", "YEAR-01"),
    ],
)
def test_nothing_is_fetched_of_the_future(
    asked_for: tuple[str, ...],
    fal: Fal,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in environment(fal).items():
        monkeypatch.setenv(name, value)
    options = [option.replace("YEAR", str(fal.now.year + 1)) for option in asked_for]
    assert main(["focus", "fetch", *options, "--folder", str(tmp_path / "month")]) == 2
    assert "in the future; nothing has been charged after it yet" in capsys.readouterr().err
    assert not (tmp_path / "month").exists()


@pytest.mark.long
def test_parquet_of_any_size_takes_little_memory(tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    with table.open("w") as file:
        file.write("BilledCost,EffectiveCost,Tags,ChargePeriodStart\n")
        for number in range(400_000):
            stamp = datetime(2026, 10, 1, tzinfo=UTC) + timedelta(hours=number // 1_000)
            file.write(f'{number}.{number:09},{number}.5,"{{""n"": {number}}}",{stamp:%Y-%m-%dT%H:%M:%SZ}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_parquet(table, tmp_path / "out.parquet")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 160 << 10, f"{grown >> 10} MiB more"
    assert pl.scan_parquet(tmp_path / "out.parquet").select(pl.len()).collect().item() == 400_000
