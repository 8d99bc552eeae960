import csv
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from e2e.processes import Fal
from focus.conftest import base_rows, header, to_csv

from exporter.app.focus.comparison import run_diff
from exporter.app.focus.fetch import Meter
from exporter.app.focus.files import (
    FaultError,
    ledger_request,
    run_check,
    run_export,
    run_rules,
    run_summary,
)
from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Invoice, UnitPrice, Window, decimal_of
from exporter.cli import main
from exporter.errors import ConfigurationError, LedgerError
from exporter.fal import Progress
from exporter.focus.checks import Checker
from exporter.focus.dataset import UnreadableFileError, parts
from exporter.focus.findings import WrongContentError
from exporter.focus.reader import Reader
from exporter.focus.reports import SummaryRow
from exporter.focus.rules.table import Level
from exporter.focus.values import instant_text
from exporter.ledger import Ledger, Rules
from exporter.queries.focus.files import LackingError
from exporter.queries.focus.question import EstimateRequest, FocusRequest, InvoiceRequest
from exporter.simulator import ADMIN_KEY, API_KEY, Fault

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
FLUX = Dimensions("main", product="model_apis", model="fal-ai/flux", unit="image")
APP = Dimensions("main", product="serverless", app="shop", environment="prod", gpu_class="H100", unit="second")
Read = Callable[[], str]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "report.csv"
    path.write_bytes(to_csv(base_rows()))
    return path


@pytest.fixture
def ledger(tmp_path: Path) -> tuple[str, int]:
    """The address of a ledger with an October, and what it sums up to."""
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
    ledger.activate({"main": ("models", "serverless")})
    total = 0
    for number, (source, dimensions) in enumerate((("models", FLUX), ("serverless", APP))):
        charges = []
        for place, hour in enumerate(OCTOBER.hours()):
            if place % 3 == number:
                cost = 1_234_567 * place + 1
                charges.append(Charge(hour, dimensions, Amounts(place * NANO // 7 + 1, place, cost + 5, 5, cost)))
                total += cost
        ledger.restate("main", source, OCTOBER, charges, at=NOW)
    ledger.record_prices(
        [UnitPrice("main", "model_apis", "fal-ai/flux", "", "", "image", OCTOBER.start, 25_000_000, 0)]
    )
    ledger.close()
    return address, total


class Printed(NamedTuple):
    code: int
    text: str


def asked(start: datetime = OCTOBER.start, end: datetime = OCTOBER.end, timeframe: str = "hour") -> FocusRequest:
    given = {"start": instant_text(start), "end": instant_text(end), "timeframe": timeframe}
    return ledger_request(given, None, clock=lambda: NOW)


def exported(address: str, path: Path, request: FocusRequest | None = None, **changes: object) -> int:
    given: dict[str, object] = {
        "version": "1.2",
        "omit_empty_columns": False,
        "output": path,
        "metadata_output": None,
        "account": None,
        "clock": lambda: NOW,
    }
    return run_export(address, request or asked(), **(given | changes))  # type: ignore[arg-type]  # a mapping has one type for all its values


@pytest.mark.parametrize("granularity", ["hour", "day", "week", "month"])
@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4"])
def test_an_export_sums_up_to_the_ledger_and_passes_the_check(
    granularity: str, version: str, ledger: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, total = ledger
    path = tmp_path / "out.csv"
    assert exported(address, path, asked(timeframe=granularity), version=version) == 0
    reader = Reader(SummaryRow)
    rows = reader.feed(path.read_bytes()) + reader.finish()
    assert sum(row.billed_cost for row in rows) == decimal_of(total)
    with path.open(newline="") as file:
        prices = {(row["SkuId"], row["x_FalUnitPrice"]) for row in csv.DictReader(file)}
    assert prices == {("fal-ai/flux", "0.025"), ("serverless/H100", "")}
    assert len(rows) == {"hour": 496, "day": 62, "week": 10, "month": 2}[granularity]
    assert run_check([str(path)], version=version, output_format="text") == 0
    assert "no findings" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_an_export_is_compressed_as_its_name_says(ending: str, ledger: tuple[str, int], tmp_path: Path) -> None:
    plain, packed = tmp_path / "out.csv", tmp_path / f"out.csv.{ending}"
    assert exported(ledger[0], plain, asked()) == exported(ledger[0], packed, asked()) == 0
    assert packed.stat().st_size < plain.stat().st_size / 2
    assert b"".join(piece for part in parts([str(packed)]) for piece in part.pieces()) == plain.read_bytes()


def test_the_metadata_say_whether_every_hour_was_read(
    ledger: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, described = tmp_path / "out.csv", tmp_path / "out.json"
    exported(ledger[0], path, metadata_output=described)
    told = json.loads(described.read_text())
    assert (told["x_Content"]["Complete"], told["x_Content"]["BilledCost"]) == (True, str(decimal_of(ledger[1])))
    assert capsys.readouterr().err == ""
    exported(ledger[0], path, asked(end=OCTOBER.end + 3 * HOUR), metadata_output=described)
    assert json.loads(described.read_text())["x_Content"]["Complete"] is False
    assert "note: 3 hours of this window are not complete yet" in capsys.readouterr().err


def test_an_export_that_fails_leaves_the_old_file(ledger: tuple[str, int], tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="cannot be written"):
        exported(ledger[0], path, version="1.1")
    assert path.read_text() == "old"
    assert sorted(item.suffix for item in tmp_path.iterdir() if item.name.startswith(".out")) == []
    with pytest.raises(UnreadableFileError, match=r"--output: .* cannot be written"):
        exported(ledger[0], tmp_path / "nowhere" / "out.csv")


def test_a_file_and_its_metadata_appear_both_or_neither(ledger: tuple[str, int], tmp_path: Path) -> None:
    path, link = tmp_path / "out.csv", tmp_path / "link"
    path.write_text("old")
    link.symlink_to(path)
    with pytest.raises(UnreadableFileError, match=r"--metadata: .* cannot be written: No such file"):
        exported(ledger[0], path, metadata_output=tmp_path / "nowhere" / "out.json")
    with pytest.raises(ConfigurationError, match="--output and --metadata are the same file"):
        exported(ledger[0], path, metadata_output=link)
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir() if "out" in item.name] == ["out.csv"]


def test_a_file_may_be_read_by_whom_new_files_may(ledger: tuple[str, int], tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        exported(ledger[0], tmp_path / "out.csv", metadata_output=tmp_path / "out.json")
        assert os.umask(0o027) == 0o027, "it is the same as before"
    finally:
        os.umask(mask)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("out.csv", "out.json")] == [0o640, 0o640]


def test_a_pipe_stays_a_pipe_and_a_link_a_link(ledger: tuple[str, int], tmp_path: Path) -> None:
    pipe, link, target = tmp_path / "pipe", tmp_path / "link", tmp_path / "target.csv"
    os.mkfifo(pipe)
    link.symlink_to(target)
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert exported(ledger[0], pipe, asked(timeframe="month")) == 0
        text = os.read(reading, 1 << 16)
    finally:
        os.close(reading)
    assert exported(ledger[0], link, asked(timeframe="month")) == 0
    assert (pipe.is_fifo(), link.is_symlink()) == (True, True)
    assert text == target.read_bytes()


def test_standard_output_is_the_same_file(
    ledger: tuple[str, int], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    exported(ledger[0], tmp_path / "out.csv")
    assert exported(ledger[0], tmp_path, output=None) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "out.csv").read_bytes()


def test_a_full_disk_behind_standard_output_is_told(ledger: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("wb", buffering=1 << 20) as full, suppress(OSError):
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(full))
        with pytest.raises(UnreadableFileError, match="standard output cannot be written: No space left"):
            exported(ledger[0], Path(), output=None)
        full.close()


def test_a_reader_that_has_enough_is_no_error_of_ours(ledger: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb", buffering=0) as closed:  # noqa: PTH123  a descriptor has no path
        monkeypatch.setattr(sys, "stdout", TextIOWrapper(closed))
        with pytest.raises(BrokenPipeError):
            exported(ledger[0], Path(), output=None)


def test_a_month_that_the_ledger_lacks_or_that_is_yet_to_come_is_refused(
    ledger: tuple[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "out.csv"
    for month, sentence in (
        ("2026-05", "the ledger has nothing of 2026-05-01"),
        ("2026-12", "2026-12-01T00:00:00Z is in the future"),
    ):
        with pytest.raises(LackingError, match=sentence) as caught:
            exported(ledger[0], path, ledger_request({}, month, clock=lambda: NOW))
        assert caught.value.exit_code == 2
    assert not path.exists()


def test_hours_that_the_ledger_has_folded_cannot_be_exported(ledger: tuple[str, int], tmp_path: Path) -> None:
    opened = Ledger(ledger[0], rules=Rules(), clock=lambda: NOW)
    opened.fold_before(OCTOBER.start)
    opened.close()
    with pytest.raises(LackingError, match="starts before 2026-10-01T00:00Z, the first hour that the ledger keeps"):
        exported(ledger[0], tmp_path / "out.csv", asked(start=OCTOBER.start - HOUR))
    assert exported(ledger[0], tmp_path / "out.csv") == 0


def test_an_invoiced_month_is_exported_with_the_total_of_the_invoice(
    ledger: tuple[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, usage = ledger
    request = ledger_request({"billing_month": "2026-11"}, None, clock=lambda: NOW)
    with pytest.raises(LackingError, match=r"no invoice for charges of 2026-10; --source estimate answers"):
        exported(address, tmp_path / "out.csv", request)
    opened = Ledger(address, rules=Rules(), clock=lambda: NOW)
    dates = (OCTOBER.start, OCTOBER.end, None, None)
    amounts = (usage, 3 * NANO, NANO, usage - 2 * NANO)
    opened.record_invoices("main", [Invoice("main", "in_1", "1", "paid", *dates, "USD", *amounts)])
    opened.close()
    assert exported(address, tmp_path / "out.csv", request) == 0
    assert "note: Made from the ledger" in capsys.readouterr().err
    rows = list(csv.DictReader((tmp_path / "out.csv").read_text().splitlines()))
    assert sum(Decimal(row["BilledCost"]) for row in rows) == decimal_of(usage - 2 * NANO)
    assert {row["InvoiceId"] for row in rows} == {"in_1"}
    assert run_check([str(tmp_path / "out.csv")], version=None, output_format="text") == 0


def test_an_export_needs_a_ledger_and_an_account(ledger: tuple[str, int], tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        exported(f"sqlite:///{tmp_path / 'none.sqlite'}", tmp_path / "out.csv")
    with pytest.raises(ConfigurationError, match="does not contain the account 'other'"):
        exported(ledger[0], tmp_path / "out.csv", account="other")


@pytest.mark.parametrize(
    ("given", "month", "sentence"),
    [
        ({"start": "2026-10-01"}, "2026-10", "--month is given together with --start"),
        ({"charge_month": "2026-10"}, "2026-10", "--month is given together with --charge-month"),
        ({}, "October", "--month is not a month; write it like 2026-11"),
        ({"source": "invoice", "timeframe": "day"}, None, "--timeframe belongs to --source estimate"),
        (
            {"charge_month": "2026-10", "billing_month": "2026-11"},
            None,
            "--billing-month is given together with --charge-month",
        ),
        ({"source": "tagged-estimate"}, None, "--source tagged-estimate is available only from fal; use focus fetch"),
        ({"timeframe": "minute"}, None, "--timeframe minute is finer than the ledger"),
        ({"start": "2026-10-02", "end": "2026-10-01"}, None, "--start is not before --end"),
        ({"timezone": "Mars"}, None, "--timezone is not an IANA time zone"),
    ],
)
def test_what_cannot_be_exported_is_refused_by_the_names_of_the_options(
    given: dict[str, str], month: str | None, sentence: str
) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        ledger_request(given, month, clock=lambda: NOW)


def test_an_export_is_asked_for_as_fals_report_is() -> None:
    berlin = {"timezone": "Europe/Berlin", "start": "2025-10-10", "end": "2026-10-10"}
    year = ledger_request(berlin, None, clock=lambda: NOW)
    assert isinstance(year, EstimateRequest)
    assert (year.start, year.timeframe) == (datetime(2025, 9, 30, 22, tzinfo=UTC), "month")
    assert year.end == datetime(2026, 10, 31, 23, tzinfo=UTC)
    month = ledger_request({"timeframe": "hour"}, "2026-10", clock=lambda: NOW)
    assert isinstance(month, EstimateRequest)
    assert (month.start, month.end) == (OCTOBER.start, OCTOBER.end)
    assert ledger_request({}, None, clock=lambda: NOW) == InvoiceRequest()


def test_a_check_tells_rule_line_and_value_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = base_rows()
    rows[4] = rows[4] | {"BilledCost": "$4"}
    path = tmp_path / "wrong.csv"
    path.write_bytes(to_csv(rows))
    assert run_check([str(path)], version=None, output_format="text") == 1
    text = capsys.readouterr().out
    assert "BilledCost-C-002-M (must, once)" in text
    assert "line 6, BilledCost: '$4'" in text
    assert run_check([str(path)], version=None, output_format="json") == 1
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["rule"], finding["line"]) == ("BilledCost-C-002-M", 6)
    assert run_check([str(path)], version=None, output_format="junit") == 1
    suite = ET.fromstring(capsys.readouterr().out)  # noqa: S314  our own
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert sorted(str(name) for name in failed) == ["BilledCost-C-002-M", "NumericFormat-A-008-M"]
    assert (suite.get("failures"), int(suite.get("tests", ""))) == ("2", len(suite))


def test_the_exit_code_of_a_check_depends_on_the_level_that_matters(tmp_path: Path) -> None:
    path = tmp_path / "unit.csv"
    path.write_bytes(
        to_csv([row | {"ConsumedUnit": "GB-Mo"} if row.get("ConsumedUnit") else row for row in base_rows()])
    )
    check = partial(run_check, [str(path)], version=None, output_format="text")
    assert [check(fail_on=level) for level in (Level.MUST, Level.SHOULD, None)] == [0, 1, 0]
    assert check(fail_on=Level.SHOULD, ignored=["ConsumedUnit-C-003-O"]) == 0
    assert check(fail_on=Level.SHOULD, ignored=["CAU-ConsumedUnit-C-000-C"]) == 0
    with pytest.raises(ConfigurationError, match=r"--ignore: there is no rule 'ConsumedUnit'"):
        check(ignored=["ConsumedUnit"])


def test_what_a_provider_does_not_support_is_not_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, stated = tmp_path / "file.csv", tmp_path / "stated.yaml"
    path.write_bytes(to_csv([row | {"SubAccountName": ""} for row in base_rows()]))
    check = partial(run_check, [str(path)], version=None, output_format="text", applicability=stated)
    stated.write_text("SUB_ACCOUNT_SUPPORTED: unsupported\nREGION_SUPPORTED: supported\n")
    assert check() == 0
    stated.write_text("SUB_ACCOUNT_SUPPORTED: supported\n")
    assert check() == 1
    assert "SubAccountName-C-005-C (must, 30 times)" in capsys.readouterr().out
    for text, sentence in (
        ("REGIONS: supported", "'REGIONS' is not known; known are ACCOUNT_NAMING_SUPPORTED, "),
        ("REGION_SUPPORTED: perhaps", "'perhaps' is neither `supported` nor `unsupported`"),
        ("- REGION_SUPPORTED", "is not a list of names"),
        ("{", "is not YAML"),
    ):
        stated.write_text(text)
        with pytest.raises(ConfigurationError, match=sentence):
            check()
    stated.unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        check()


def test_a_column_that_a_provider_must_have_is_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, stated = tmp_path / "file.csv", tmp_path / "stated.yaml"
    path.write_bytes(to_csv(base_rows(), [name for name in header() if name != "RegionId"]))
    stated.write_text("REGION_SUPPORTED: true\n")
    assert run_check([str(path)], version=None, output_format="text") == 0
    assert run_check([str(path)], version=None, output_format="text", applicability=stated) == 1
    assert "the file has the column RegionId" in capsys.readouterr().out


def test_findings_are_shown_up_to_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(to_csv([row | {"BilledCost": "$4", "ServiceName": ""} for row in base_rows()]))
    for most, shown in ((None, 40), (0, 0), (3, 3), (64, 64), (50, 50)):
        assert run_check([str(path)], version=None, output_format="json", most=most) == 1
        told = json.loads(capsys.readouterr().out)
        assert (len(told["findings"]), sum(told["counts"].values())) == (shown, 64)


@pytest.mark.parametrize("output_format", ["json", "junit"])
def test_a_file_that_cannot_be_checked_has_a_whole_report_and_exit_code_2(
    output_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "page.csv"
    path.write_text("<html></html>\n")
    with pytest.raises(WrongContentError):
        run_check([str(path)], version=None, output_format=output_format)
    assert "this is an HTML" in _sentence(capsys.readouterr().out, output_format)
    monkeypatch.setattr(Checker, "feed", _fault)
    with pytest.raises(FaultError, match="failed with ZeroDivisionError; this is a fault of fal-exporter") as caught:
        run_check([str(path)], version=None, output_format=output_format)
    assert caught.value.exit_code == 2
    assert "ZeroDivisionError" in _sentence(capsys.readouterr().out, output_format)
    with pytest.raises(ConfigurationError):
        run_check([str(path)], version=None, output_format=output_format, ignored=["X-None"])
    assert "there is no rule 'X-None'" in _sentence(capsys.readouterr().out, output_format)


@pytest.mark.parametrize("run", [run_summary, partial(run_diff, b="b.csv", ledger=str)])
def test_a_sum_or_a_comparison_that_cannot_be_made_has_a_whole_report_and_exit_code_2(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"paths": ["a.csv"]} if run is run_summary else {"a": "a.csv"}
    with pytest.raises(ConfigurationError):
        run(**first, output_format="json", where=["month"])
    assert "'month' is not COLUMN=VALUE" in _sentence(capsys.readouterr().out, "json")
    monkeypatch.setattr("exporter.focus.dataset.parts", _fault)
    with pytest.raises(FaultError) as caught:
        run(**first, output_format="json")
    assert caught.value.exit_code == 2
    assert "ZeroDivisionError" in _sentence(capsys.readouterr().out, "json")


def _fault(*_: object) -> None:
    raise ZeroDivisionError


def _sentence(document: str, output_format: str) -> str:
    """Return the error that a report in JSON or JUnit XML tells."""
    if output_format == "json":
        return str(json.loads(document)["error"])
    error = ET.fromstring(document).find("testcase/error")  # noqa: S314  our own
    assert error is not None
    return str(error.get("message"))


def test_the_rules_are_printed_by_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_rules("1.2") == 0
    told = capsys.readouterr().out
    assert "| `BilledCost-C-005-C` | MUST | equal | 1.0 to 1.2 | BilledCost equals 0 where ProviderName is not" in told
    assert run_rules(None) == 0
    assert "| `CAU-BilledCost-C-005-C` |" in capsys.readouterr().out


def test_a_summary_shows_exact_sums_and_what_is_missing_from_them(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_summary([str(file)], output_format="table") == 0
    text = capsys.readouterr().out
    for wanted in ("USD 2025-10", "USD Credit", "USD fal Model APIs", "USD fal-ai/veo3", "USD in-202511", "-1.5"):
        assert wanted in text
    file.write_bytes(file.read_bytes().replace(b",-1.5,", b",abc,", 1))
    assert run_summary([str(file)], output_format="table") == 1
    assert "INCOMPLETE: 1 row is left out of these sums, " in capsys.readouterr().out
    assert run_summary([str(file)], output_format="json") == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["unreadable_rows"], told["problems"][0]["column"]) == (31, 1, "BilledCost")


def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(to_csv(base_rows()))))
    assert run_check(["-"], version=None, output_format="text") == 0
    assert capsys.readouterr().out.startswith("standard input: FOCUS 1.2")


def test_a_file_that_cannot_be_read_is_an_error_of_exit_code_2(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="No such file"):
        run_check([str(tmp_path / "none.csv")], version=None, output_format="text")
    page = tmp_path / "page.csv"
    page.write_text("<html></html>\n")
    for run in (partial(run_summary, [str(page)]), partial(run_check, [str(page)], version=None)):
        with pytest.raises(WrongContentError, match=r"page\.csv: this is an HTML"):
            run(output_format="text")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableFileError, match="the folder has no file whose name ends in"):
        run_check([str(tmp_path / "empty")], version=None, output_format="text")
    assert (UnreadableFileError.exit_code, WrongContentError.exit_code) == (2, 2)


def test_the_commands_are_there_with_their_exit_codes(
    file: Path,
    ledger: tuple[str, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert main(["focus", "check", str(file)]) == 0
    assert main(["focus", "summary", str(file), "--format", "json"]) == 0
    assert main(["focus", "check", str(tmp_path / "none.csv")]) == 2
    should = tmp_path / "should.csv"
    should.write_bytes(file.read_bytes().replace(b"x_FalUnit", b"x_fal_unit", 1))
    assert [main(["focus", "check", str(should), "--fail-on", level]) for level in ("must", "should", "never")] == [
        0,
        1,
        0,
    ]
    ignoring = ["--ignore", "ColumnHandling-A-011-O", "--ignore", "X-FloatNoise", "--max-findings", "1"]
    assert main(["focus", "check", str(should), "--fail-on", "should", *ignoring]) == 0
    assert main(["focus", "check", str(should), "--ignore", "nothing"]) == 2
    assert main(["focus", "check", str(should), "--applicability", str(tmp_path / "none.yaml")]) == 2
    assert main(["focus", "rules", "--version", "1.2"]) == 0
    monkeypatch.setenv("FAL_KEY", "id:secret")
    out = tmp_path / "out.csv"
    export = ["focus", "export", "--ledger-url", ledger[0], "--output", str(out)]
    assert main([*export, "--month", "2026-10", "--granularity", "month", "--omit-empty-columns"]) == 0
    assert "note: --granularity is now --timeframe" in capsys.readouterr().err
    header, *rows = out.read_text().splitlines()
    assert len(rows) == 2
    assert "InvoiceId" not in header
    assert main(export) == 2
    assert "the ledger knows of no invoice; --source estimate answers" in capsys.readouterr().err


class Row(NamedTuple):
    billed_cost: Decimal


@pytest.fixture
def fetch(fal: Fal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run `fal-exporter focus fetch` in this process, against the simulator."""
    for name, value in environment(fal).items():
        monkeypatch.setenv(name, value)
    return lambda *arguments: main(["focus", "fetch", "--folder", str(tmp_path / "made" / "here"), *arguments])


def environment(fal: Fal) -> dict[str, str]:
    return {
        "FAL_KEY": ADMIN_KEY,
        "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
        "FAL_EXPORTER_REQUEST_ATTEMPTS": "1",
    }


def billed(paths: list[str]) -> Decimal:
    total = Decimal(0)
    for path in paths:
        reader = Reader(Row)
        rows = [*reader.feed(Path(path).read_bytes()), *reader.finish()]
        assert not reader.problems.rows
        total += sum(row.billed_cost for row in rows)
    return total


def test_the_pieces_of_an_estimate_add_up_to_the_truth(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    end = fal.now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - timedelta(days=3)
    window = ["--source", "estimate", "--start", f"{start:%Y-%m-%d}", "--end", f"{end:%Y-%m-%d}", "--timeframe", "day"]
    assert fetch(*window, "--piece-days", "2") == 0
    told = capsys.readouterr()
    paths = told.out.split()
    assert len(paths) == 2
    truth = fal.simulator.statement(start=start.isoformat(), end=end.isoformat())
    assert billed(paths) == Decimal(str(truth["cost"]))
    assert " of 2: " not in told.err, "nobody watches"
    folder = Path(paths[0]).parent
    (folder / "another.csv").write_text("of an earlier report\n")
    assert run_summary([str(folder)], output_format="json") == 0
    grand = json.loads(capsys.readouterr().out)["grand_totals"][0]
    assert Decimal(grand["billed_cost"]) == Decimal(str(truth["cost"]))

    fal.simulator.faults.add(Fault("server_error"))
    assert fetch(*window, "--piece-days", "2") == 0, "what is there is not asked for again"
    assert capsys.readouterr().out.split() == paths
    assert fetch(*window, "--piece-days", "2", "--anew") == 1


def test_an_estimate_is_widened_to_whole_buckets_unless_it_is_not_to_be(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    end = fal.now.astimezone(UTC).replace(minute=30, second=0, microsecond=0) - timedelta(days=2)
    window = ["--source", "estimate", "--start", f"{end - timedelta(hours=2):%FT%TZ}", "--end", f"{end:%FT%TZ}"]
    half = timedelta(minutes=30)
    for widened, arguments in ((half, ()), (0 * half, ("--exact",)), (0 * half, ("--bound-to-timeframe", "false"))):
        assert fetch(*window, "--timeframe", "hour", "--anew", *arguments) == 0
        truth = fal.simulator.statement(
            start=(end - timedelta(hours=2) - widened).isoformat(), end=(end + widened).isoformat()
        )
        assert billed(capsys.readouterr().out.split()) == Decimal(str(truth["cost"])) > 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--source", "estimate", "--charge-month", "2026-10"], "--charge-month belongs to --source invoice"),
        (["--source", "invoice", "--start", "2026-10-01"], "--start belongs to --source estimate"),
        (
            ["--charge-month", "2026-10", "--zone", "UTC"],
            "--charge-month belongs to --source invoice, and --timezone to",
        ),
        (["--start", "yesterday"], "--start is not a date or a time"),
        (["--organization", "--by-team"], "--by-team"),
        (["--team", "acme"], "--team belongs to /organization/focus"),
        (["--source", "estimate", "--zone", "Mars"], "--timezone is not an IANA time zone"),
        (["--from-account", "nobody"], "there is no account 'nobody'; configured accounts are: default"),
    ],
)
def test_what_fal_would_not_answer_as_asked_is_refused_with_a_sentence(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    before = fal.simulator.seen.total()
    assert fetch(*arguments) == 2
    assert sentence in capsys.readouterr().err
    assert fal.simulator.seen.total() == before


def test_an_account_without_reports_is_told_whom_to_ask(
    fal: Fal, fetch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    fal.simulator.faults.add(Fault("feature_disabled"))
    assert fetch("--charge-month", "2026-10") == 1
    assert "ask fal to enable it for the account" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(
    fal: Fal, fetch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del fal
    (tmp_path / "file").write_bytes(b"")
    assert fetch("--folder", str(tmp_path / "file" / "below")) == 2
    assert "name another --folder" in capsys.readouterr().err


def test_of_several_accounts_one_must_be_chosen(
    fal: Fal,
    fetch: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    accounts = tmp_path / "accounts.yaml"
    accounts.write_text(f"accounts:\n- name: main\n  key: {ADMIN_KEY}\n- name: other\n  key: {API_KEY}\n")
    monkeypatch.delenv("FAL_KEY")
    before = fal.simulator.seen.total()
    assert fetch("--config-file", str(accounts), "--charge-month", "2026-10") == 2
    assert "choose one with --from-account: main, other" in capsys.readouterr().err
    assert fal.simulator.seen.total() == before


def test_progress_is_told_once_a_mebibyte_and_at_the_end_of_a_piece(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meter = Meter(shown=True)
    for size, done in [(10, False), (20, False), (2**20 + 10, False), (2**20 + 20, False), (2**20 + 30, True)]:
        meter(Progress(1, 2, tmp_path / "one.csv", size, done))
    meter(Progress(2, 2, tmp_path / "two.csv", 5, done=False))
    meter.end()
    meter.end()
    told = capsys.readouterr().err
    assert [word.rpartition(", ")[2] for word in told.split("\r")[1:]] == ["0.0 MiB", "1.0 MiB", "1.0 MiB", "0.0 MiB\n"]


@pytest.mark.long
def test_progress_is_shown_to_a_person_who_watches(fal: Fal, tmp_path: Path) -> None:
    watched, terminal = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    start = fal.now.astimezone(UTC) - timedelta(days=2)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "exporter", "focus", "fetch", "--source", "estimate", "--timeframe", "day"),
            *("--start", f"{start:%Y-%m-%d}", "--end", f"{fal.now.astimezone(UTC):%Y-%m-%d}", "--piece-days", "1"),
        ],
        env=inherited | environment(fal),
        cwd=tmp_path,
        stderr=terminal,
        stdout=subprocess.PIPE,
        timeout=60,
        check=True,
    )
    os.close(terminal)
    shown = os.read(watched, 100_000).decode()
    os.close(watched)
    assert "file 2 of 2: focus-account-estimate-day-" in shown
    assert len(done.stdout.split()) == 2


def test_a_month_that_is_over_is_the_same_file_after_a_price_has_changed(
    ledger: tuple[str, int], tmp_path: Path
) -> None:
    address, _ = ledger
    path = tmp_path / "october.csv"
    exported(address, path)
    before = path.read_bytes()
    changed = UnitPrice("main", "model_apis", "fal-ai/flux", "", "", "image", OCTOBER.end, 30_000_000, 10 * NANO)
    store = Ledger(address, rules=Rules(), clock=lambda: NOW)
    store.activate({"main": ("models", "serverless")})
    store.record_prices([changed])
    exported(address, path)
    assert path.read_bytes() == before
    store.record_prices([changed._replace(hour=OCTOBER.end + HOUR, price=25_000_000, discount=0)])
    store.restate(
        "main", "models", Window(OCTOBER.end, OCTOBER.end + HOUR), [Charge(OCTOBER.end, FLUX, Amounts(NANO))], at=NOW
    )
    store.close()
    exported(address, path, asked(OCTOBER.end, OCTOBER.end + HOUR))
    (row,) = csv.DictReader(path.read_text().splitlines())
    assert (row["x_FalUnitPrice"], row["x_FalDiscountPercent"]) == ("0.03", "10.0")
    # It had another price than either, and stays as it was.
    exported(address, path)
    assert path.read_bytes() == before
