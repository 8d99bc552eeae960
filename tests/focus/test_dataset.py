"""Whatever files people have, they are one data set that adds up to the same."""

import gzip
import io
import json
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import pytest
from focus.conftest import base_rows, to_csv
from hypothesis import given
from hypothesis import strategies as st

from exporter.app.focus.files import run_check, run_summary
from exporter.errors import ConfigurationError, FalExporterError
from exporter.focus.dataset import MANIFEST, UnreadableFileError, parts
from exporter.focus.findings import FocusError, TruncatedFileError, WrongContentError
from exporter.focus.reports import Groups, parse_filter

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Json = dict[str, Any]
DATA = to_csv(base_rows())
HEAD, _, BODY = DATA.partition(b"\n")


def zipped(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return file.getvalue()


def read(*paths: Path | str) -> bytes:
    return b"".join(piece for part in parts([str(path) for path in paths]) for piece in part.pieces())


def summary(*paths: Path | str, capsys: pytest.CaptureFixture[str], **options: list[str]) -> Json:
    run_summary([str(path) for path in paths], output_format="json", **options)
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "pack",
    [
        lambda data: data,
        gzip.compress,
        zstd.compress,
        lambda data: zipped(a_csv=data),
        lambda data: zipped(a_gz=gzip.compress(data), readme_md=b"x"),
        lambda data: zstd.compress(gzip.compress(data)),
    ],
    ids=["plain", "gzip", "zstd", "zip", "gzip in zip", "gzip in zstd"],
)
def test_a_file_is_recognised_by_its_content_whatever_its_name(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "report.dat"
    path.write_bytes(pack(DATA))
    assert read(path) == DATA


def test_folders_globs_and_files_are_one_data_set_and_each_file_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "2026-10").mkdir()
    (tmp_path / "2026-10" / "b.csv").write_bytes(b"b")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a"))
    (tmp_path / ".hidden.csv").write_bytes(b"h")
    (tmp_path / "notes.md").write_bytes(b"n")
    assert read(tmp_path) == read(tmp_path, tmp_path / "a.csv.gz") == b"ba"
    assert read(str(tmp_path / "**" / "*.csv")) == b"b"
    with pytest.raises(UnreadableFileError, match="no file has a name like this"):
        read(str(tmp_path / "*.zst"))


def test_of_a_folder_with_a_manifest_the_files_that_it_lists_are_read(tmp_path: Path) -> None:
    for name in ("new.csv", "old.csv"):
        (tmp_path / name).write_text(name)
    (tmp_path / MANIFEST).write_text('{"files": [{"path": "new.csv"}]}')
    assert read(tmp_path) == b"new.csv"
    (tmp_path / MANIFEST).write_text('{"files": [{"path": "../elsewhere.csv"}]}')
    with pytest.raises(WrongContentError, match="not in its folder"):
        read(tmp_path)
    (tmp_path / MANIFEST).write_text('{"manifest_version": 1}')
    with pytest.raises(WrongContentError, match="no manifest of a data set"):
        read(tmp_path)


@pytest.mark.parametrize("text", ['{"manifestVersion": "2024-04-01", "blobs": []}', '{"dataFiles": ["s3://a/b"]}'])
def test_a_manifest_of_another_program_does_not_keep_a_folder_from_being_read(text: str, tmp_path: Path) -> None:
    for name in ("1.csv", "2.csv"):
        (tmp_path / name).write_text(name)
    (tmp_path / MANIFEST).write_text(text)
    assert read(tmp_path) == b"1.csv2.csv"


@pytest.mark.parametrize(
    ("data", "error", "reason"),
    [
        (gzip.compress(DATA)[:-20], TruncatedFileError, "cut off"),
        (zstd.compress(DATA)[:-20], TruncatedFileError, "cut off"),
        (gzip.compress(DATA)[:200] + b"\xff" * 100 + gzip.compress(DATA)[300:], WrongContentError, "damaged"),
        (zipped(a_csv=DATA)[:-30], WrongContentError, "damaged"),
        (zipped(readme_md=DATA), WrongContentError, "no file in this archive"),
        (zipped(), WrongContentError, "no file in this archive"),
        (b"\xd0\xcf\x11\xe0" + b"x" * 50, WrongContentError, "Excel"),
    ],
)
def test_what_is_damaged_is_a_sentence_that_names_the_file(
    data: bytes, error: type[FocusError], reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(error, match=rf"file: .*{reason}"):
        read(path)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"PAR1"]))
def test_any_bytes_are_pieces_or_a_clean_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, magic: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(magic + data)
    told = ""
    try:
        found = read(path)
    except FocusError as error:
        found, told = b"", str(error)
    assert str(path) in told if told else found == magic + data or magic


@pytest.mark.parametrize(("name", "reason"), [("loop.csv", "symbolic links"), ("x" * 300, "too long")])
def test_what_the_system_refuses_to_look_at_is_a_clean_error(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(UnreadableFileError, match=rf"{name} cannot be read: .*{reason}"):
        read(tmp_path / name)


def test_line_ends_of_old_are_told(tmp_path: Path) -> None:
    path = tmp_path / "mac.csv"
    path.write_bytes(DATA.replace(b"\n", b"\r"))
    with pytest.raises(WrongContentError, match="end in carriage returns alone"):
        run_summary([str(path)], output_format="table")
    path.write_bytes(DATA.replace(b"\n", b"\r\n"))
    assert run_summary([str(path)], output_format="table") == 0


def test_binary_files_are_told_without_being_printed(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\n")
    with pytest.raises(WrongContentError, match=r"image\.png: this is a binary file") as told:
        run_summary([str(path)], output_format="table")
    assert "PNG" not in str(told.value)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_other_separators_are_read_and_told(separator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = ["BilledCost", "BillingCurrency", "ChargeCategory", "ChargePeriodStart", "ServiceName"]
    path = tmp_path / "report.csv"
    lines = [columns, ["1.5", "USD", "Usage", "2026-10-01T00:00:00Z", '"a, b"']]
    path.write_text("".join(f"{separator.join(line)}\n" for line in lines))
    found = summary(path, capsys=capsys)
    assert found["grand_totals"][0]["billed_cost"] == "1.5"
    assert found["totals"][0]["service"] == "a, b"
    assert found["notes"] == [f"{path}: fields are separated by {separator!r}"]
    run_check([str(path)], version=None, output_format="json")
    assert json.loads(capsys.readouterr().out)["notes"] == [f"fields are separated by {separator!r}"]
    run_check([str(path), str(path.parent)], version=None, output_format="text")
    assert f"note: {path}: fields are separated by {separator!r}" in capsys.readouterr().out


def test_a_file_appended_to_another_is_read_as_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once, twice = tmp_path / "once.csv", tmp_path / "twice.csv"
    once.write_bytes(DATA)
    twice.write_bytes(DATA + DATA)
    single, double = summary(once, capsys=capsys), summary(twice, capsys=capsys)
    assert double["rows"] == 2 * single["rows"]
    assert double["unreadable_rows"] == 0
    assert run_check([str(twice)], version=None, output_format="json", fail_on=None) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == double["rows"]


def test_parts_are_checked_as_one_and_their_findings_name_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "1.csv", tmp_path / "2.csv"
    first.write_bytes(DATA)
    second.write_bytes(to_csv([base_rows()[0] | {"BilledCost": "$4"}]))
    assert run_check([str(first), str(second)], version=None, output_format="json") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == len(base_rows()) + 1
    assert all(f"in {second}" in finding["message"] for finding in report["findings"] if finding["line"] == 2)
    assert report["findings"]
    second.write_bytes(b"BilledCost,BillingCurrency\n")
    with pytest.raises(WrongContentError, match=r"2\.csv: its columns differ"):
        run_check([str(first), str(second)], version=None, output_format="text")


def test_a_row_that_is_not_included_is_beside_its_total_and_one_without_a_date_is_undated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = base_rows()[0]
    path = tmp_path / "report.csv"
    changes = (
        *({"BilledCost": "1E70", "EffectiveCost": "4.25"}, {"ChargePeriodStart": "yesterday"}, {"BilledCost": "2"}),
        {"BilledCost": "$40.198572", "EffectiveCost": "4.25"},
    )
    path.write_bytes(to_csv([row | change for change in changes]))
    found = summary(path, capsys=capsys, by=["month"])
    total = found["grand_totals"][0]
    # The amount that stands for no number goes before another cost of the row, as in a check.
    assert (total["rows"], total["rows_not_included"], total["known_cost_not_included"]) == (2, 2, "44.448572")
    assert {item["month"]: item["rows"] for item in found["totals"]} == {"undated": 1, row["ChargePeriodStart"][:7]: 1}


def test_rows_are_chosen_and_added_up_by_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.csv"
    path.write_bytes(DATA)
    rows = [row for row in base_rows() if row["ChargeCategory"] == "Usage"]
    found = summary(path, capsys=capsys, by=["SkuId"], where=["ChargeCategory=Usage"])
    sums = {item["SkuId"]: Decimal(item["billed_cost"]) for item in found["totals"]}
    for sku in {row["SkuId"] for row in rows}:
        assert sums[sku] == sum(Decimal(row["BilledCost"]) for row in rows if row["SkuId"] == sku)
    assert sum(item["rows"] for item in found["totals"]) == len(rows)
    others = summary(path, capsys=capsys, where=["ChargeCategory!=Usage"])
    assert others["totals"][0]["rows"] == len(base_rows()) - len(rows)
    run_summary([str(path)], output_format="csv", by=["SkuId"])
    assert capsys.readouterr().out.splitlines()[0].startswith("BillingCurrency,SkuId,rows,billed_cost,")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"by": ["Nothing"]}, "no file has a column Nothing$"),
        ({"by": ["skuid"]}, "no file has a column skuid; did you mean SkuId\\?"),
        ({"by": ["servce"]}, "no file has a column servce; did you mean service\\?"),
        ({"by": ["tag:"]}, "--by or --where: tag: has no key after it; write tag:KEY"),
        ({"where": ["SkuId"]}, "--where: 'SkuId' is not COLUMN=VALUE"),
    ],
)
def test_what_cannot_be_asked_is_refused(options: dict[str, list[str]], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "report.csv"
    path.write_bytes(DATA)
    with pytest.raises(ConfigurationError, match=reason):
        run_summary([str(path)], output_format="table", **options)


def test_groups_beyond_a_bound_are_together_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("exporter.focus.reports._MOST_SKUS", 2)
    path = tmp_path / "report.csv"
    path.write_bytes(DATA)
    found = summary(path, capsys=capsys, by=["ChargePeriodStart"])
    assert len(found["totals"]) <= 3
    assert sum(item["rows"] for item in found["totals"]) == len(base_rows())
    assert Groups([], [parse_filter("a!=b")]).columns == ("BillingCurrency", "a")


def test_an_unreadable_file_is_a_complete_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FalExporterError):
        run_summary([str(tmp_path / "none.csv")], output_format="json")
    assert "No such file" in json.loads(capsys.readouterr().out)["error"]


def test_parquet_reads_as_the_same_table_with_exact_decimals_and_tells_what_is_inexact(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    polars = pytest.importorskip("polars")
    numbers = [name for name in HEAD.decode().strip().split(",") if name.endswith(("Cost", "Quantity"))]
    table = polars.read_csv(io.BytesIO(DATA), infer_schema=False)
    exact, inexact = tmp_path / "exact.parquet", tmp_path / "inexact.parquet"
    table.with_columns(polars.col(numbers).cast(polars.Decimal(38, 12))).write_parquet(exact)
    table.with_columns(polars.col(numbers).cast(polars.Float64)).write_parquet(inexact)
    text = tmp_path / "report.csv"
    text.write_bytes(DATA)
    expected = summary(text, capsys=capsys)
    found = summary(exact, capsys=capsys)
    assert (found["totals"], found["notes"]) == (expected["totals"], [])
    assert "BilledCost" in summary(inexact, capsys=capsys)["notes"][0]
    data = exact.read_bytes()
    exact.write_bytes(data[:-20] + bytes(12) + data[-8:])
    with pytest.raises(WrongContentError, match=r"Parquet file cannot be read: .*; get it again, or save it as CSV"):
        summary(exact, capsys=capsys)


@pytest.mark.parametrize("kept", [5, 1000, -100, -1])
def test_parquet_that_was_cut_off_is_said_to_be_cut_off(tmp_path: Path, kept: int) -> None:
    polars = pytest.importorskip("polars")
    path = tmp_path / "report.parquet"
    polars.read_csv(io.BytesIO(DATA), infer_schema=False).write_parquet(path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TruncatedFileError, match=r"report\.parquet: the Parquet file ends too early: it was cut off"):
        run_check([str(path)], version=None, output_format="json")
    with pytest.raises(TruncatedFileError, match=r"report\.parquet: the Parquet file ends too early: it was cut off"):
        run_summary([str(path)], output_format="json")


def test_a_key_that_a_map_of_parquet_has_twice_is_found_as_in_csv(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    polars = pytest.importorskip("polars")
    text, packed = tmp_path / "report.csv", tmp_path / "report.parquet"
    text.write_bytes(to_csv([row | {"Tags": '{"app": "a", "app": "b"}'} for row in base_rows()]))
    twice = polars.Series("Tags", [[{"key": "app", "value": value} for value in "ab"]])
    table = polars.read_csv(text, infer_schema=False).with_columns(polars.lit(twice).first().alias("Tags"))
    table.write_parquet(packed)
    found = []
    for path in (text, packed):
        run_check([str(path)], version=None, output_format="json")
        rules = json.loads(capsys.readouterr().out)["findings"]
        found.append([(each["rule"], each["line"], each["value"]) for each in rules if each["column"] == "Tags"])
    assert found[0] == found[1] != []


def test_an_empty_name_is_not_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "report.csv").write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableFileError, match="a name of a file is empty"):
        run_summary([""], output_format="table")


def test_conditions_that_no_row_meets_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.csv"
    path.write_bytes(DATA)
    assert run_summary([str(path)], output_format="table", where=["sku=nothing"]) == 0
    assert "no row meets the conditions of --where" in capsys.readouterr().out


def test_sums_are_by_tags_and_short_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.csv"
    path.write_bytes(DATA)
    run_summary([str(path)], output_format="csv", by=["tag:app", "currency"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("BillingCurrency,tag:app,rows,")
    assert lines[0].startswith("USD,shop,")


def test_timestamps_of_parquet_without_a_time_zone_are_utc_and_told_once(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    path = tmp_path / "naive.parquet"
    instant = datetime(2026, 10, 1, 5)  # noqa: DTZ001  the case
    for unit in ("ms", "ns"):
        frame = polars.DataFrame({"ChargePeriodStart": [instant, None]})
        frame.cast(polars.Datetime(unit)).write_parquet(path)
        (part,) = parts([str(path)])
        assert b"".join(part.pieces()) == b"ChargePeriodStart\n2026-10-01T05:00:00Z\n\n"
        assert part.notes == ["stored as timestamps without a time zone, so read as UTC: ChargePeriodStart"]


def test_rows_of_parquet_are_read_some_megabytes_at_a_time_however_long_their_texts_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    polars, module = pytest.importorskip("polars"), pytest.importorskip("exporter.focus.parquet")
    monkeypatch.setattr(module, "_TABLE", 100_000)
    monkeypatch.setattr(module, "_FEWEST_ROWS", 10)
    for length, most in ((1, 1_000), (1_000, 100), (200_000, 10)):
        path = tmp_path / f"{length}.parquet"
        rows = [{"BilledCost": "1.5", "Tags": "x" * length}] * min(2_500, 5_000_000 // length)
        polars.DataFrame(rows).write_parquet(path)
        monkeypatch.setattr(module, "_MOST_ROWS", 1_000)
        header, *tables = module.tables(path, None, [])
        sizes = [table.frame.height for table in tables]
        assert (header, sum(sizes)) == (b"BilledCost,Tags\n", len(rows))
        assert most / 2 < max(sizes) <= most
        assert min(sizes[:-1]) >= 10


def test_no_key_is_made_up_for_an_entry_of_parquet_without_one(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    path = tmp_path / "report.parquet"
    polars.DataFrame({"Tags": [[{"key": None, "value": "a"}]]}).write_parquet(path)
    (part,) = parts([str(path)])
    assert b"".join(part.pieces()).decode() == 'Tags\n"[{""key"": null, ""value"": ""a""}]"\n'


def test_parquet_with_a_duration_of_its_own_is_checked_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    polars = pytest.importorskip("polars")
    table = polars.read_csv(io.BytesIO(DATA), infer_schema=False)
    lasts = polars.duration(hours=25, milliseconds=500).alias("x_Lasts")
    table.with_columns(lasts).write_parquet(tmp_path / "report.parquet")
    assert b",P1DT1H0.5S\n" in read(tmp_path / "report.parquet")
    run_check([str(tmp_path / "report.parquet")], version="1.2", output_format="json")
    assert json.loads(capsys.readouterr().out)["error"] is None


def test_of_many_files_one_is_open_at_a_time(tmp_path: Path) -> None:
    for number in range(60):
        pack: Callable[[bytes], bytes] = (bytes, gzip.compress, zstd.compress, lambda data: zipped(a_csv=data))[
            number % 4
        ]
        (tmp_path / f"{number:03}.csv").write_bytes(pack(DATA))
    opened: list[IO[bytes]] = []
    for part in parts([str(tmp_path)]):
        assert all(stream.closed for stream in opened)
        opened.append(part._stream)
        assert b"".join(part.pieces()) == DATA
    assert len(opened) == 60
