import bz2
import lzma
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

import pytest
from focus.conftest import FileRow, base_rows, header, to_csv
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.focus import csv_parser
from exporter.focus.findings import FocusError, MissingColumnError, Problem, TruncatedFileError, WrongContentError
from exporter.focus.reader import Memory, PlainLines, Reader
from exporter.focus.reports import SummaryRow
from exporter.focus.row_schema import Header


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    charge_category: str
    list_unit_price: Decimal | None
    charge_description: str | None
    sku_id: str | None
    tags: str | None


class Row(NamedTuple):
    charge_period_start: datetime
    line: Line
    billed_cost: Decimal
    list_cost: int
    pricing_quantity: int | None
    x_environment: str | None


def read(data: bytes, piece: int) -> tuple[list[Row], Reader[Row]]:
    reader, rows = Reader(Row), []
    for start in range(0, len(data), piece):
        rows += reader.feed(data[start : start + piece])
    return rows + reader.finish(), reader


def outcome(data: bytes, piece: int) -> object:
    try:
        rows, reader = read(data, piece)
    except FocusError as error:
        return str(error)
    shown = [tuple(asdict(item) if isinstance(item, Line) else item for item in row) for row in rows]
    return shown, reader.problems.first, reader.problems.counts, reader.problems.rows, reader.naive_dates


texts = st.sampled_from(["", "NULL", "a", "a, b", 'a "b"', "a\nb", "é", '{"k": "v, w"}', "1E2"])
numbers = st.sampled_from(["", "null", "1", "-1.5", "1.0000000005", "4.2E-7", "+3", ".5", "5.", "1,5", "1E99", "NaN"])
dates = st.sampled_from(["2025-10-01T06:00:00Z", "2025-10-01 06:00:00", "2025-10-01T06:00:00-07:00", "today", ""])
changes = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("ChargeDescription", "SkuId", "Tags", "x_Environment", "InvoiceId"), texts),
        **dict.fromkeys(("BilledCost", "ListCost", "PricingQuantity", "ListUnitPrice"), numbers),
        "ChargePeriodStart": dates,
    },
)
damages: list[Callable[[list[bytes]], list[bytes]]] = [
    lambda lines: lines,
    lambda lines: [*lines[:3], b"1.5,x\n", *lines[3:]],
    lambda lines: [*lines[:3], b"\n", b"\r\n", *lines[3:]],
    lambda lines: [*lines[:2], lines[2].replace(b",", b",,", 1), *lines[3:]],
    lambda lines: [*lines[:2], lines[2].replace(b"USD", b"U\xffD", 1), *lines[3:]],
    lambda lines: [*lines[:2], lines[2].replace(b"USD", b'U"D', 1), *lines[3:]],
    lambda lines: [*lines[:2], lines[2].replace(b"USD", b'"U"D', 1), *lines[3:]],
]


@given(
    st.lists(changes, max_size=6),
    st.sampled_from(damages),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.integers(1, 3_000),
)
@settings(max_examples=examples(40, long=300), deadline=None)
def test_the_fast_way_and_the_careful_way_read_any_file_the_same(
    rows: list[dict[str, str]],
    damage: Callable[[list[bytes]], list[bytes]],
    terminator: str,
    starts_with_mark: bool,  # noqa: FBT001  a case
    piece: int,
) -> None:
    changed = [base | change for base, change in zip(base_rows(), [*rows, {}, {}, {}], strict=False)]
    lines = to_csv(changed, terminator=terminator).splitlines(keepends=True)
    data = (b"\xef\xbb\xbf" if starts_with_mark else b"") + b"".join(damage(lines))
    fast = outcome(data, piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainLines, "rows", lambda _self, _block, _lines: None)
        assert outcome(data, len(data)) == fast


def test_lines_are_plain_with_and_without_quotation_marks_before_the_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "_record", None)  # which the header alone takes, before
    for description in ("flux by image", "flux, by image", 'flux "dev", by image'):
        reader = Reader(Row)
        reader._begin(_header())
        body = to_csv([row | {"ChargeDescription": description} for row in base_rows()]).partition(b"\n")[2]
        assert {row.line.charge_description for row in reader.feed(body)} == {description}


def _header() -> Header:
    return Header(tuple(header()), "1.2")


def test_rows_of_the_same_texts_share_one_object() -> None:
    rows, _ = read(to_csv([*base_rows(), *base_rows()]), 100_000)
    assert [first.line is second.line for first, second in zip(rows[:32], rows[32:], strict=True)] == [True] * 32


def test_files_read_one_after_the_other_share_them_as_long_as_their_columns_are_the_same() -> None:
    memory = Memory()

    def rows_of(data: bytes) -> list[Row]:
        reader = Reader(Row, memory=memory)
        return reader.feed(data) + reader.finish()

    first, second = rows_of(to_csv(base_rows())), rows_of(to_csv(base_rows()))
    assert [row.line is same.line for row, same in zip(first, second, strict=True)] == [True] * 32
    moved = [f"{left},{right}\n" for left, right in (("SkuId", "Tags"), ("Tags", "SkuId"))]
    columns = "ChargePeriodStart,ChargeCategory,BilledCost,ListCost,"
    values = "2025-10-01T06:00:00Z,Usage,1,1,left,right\n"
    found = [rows_of((columns + names + values).encode())[0].line for names in moved]
    assert [(line.sku_id, line.tags) for line in found] == [("left", "right"), ("right", "left")]


@pytest.mark.parametrize("is_last", [False, True])
def test_dates_without_a_zone_are_counted_in_every_file_that_shares_a_memory(is_last: bool) -> None:  # noqa: FBT001  a case
    memory = Memory()
    columns, values = ["ChargeCategory", "BilledCost", "ListCost"], ["Usage", "1", "1"]
    place = len(columns) if is_last else 0
    columns.insert(place, "ChargePeriodStart")
    values.insert(place, "2025-10-01 06:00:00")
    data = f"{','.join(columns)}\n{','.join(values)}\n{','.join(values)}\n".encode()
    for _ in range(2):
        reader = Reader(Row, memory=memory)
        assert len(reader.feed(data)) == reader.naive_dates == 2


def test_amounts_are_read_in_nano_units_rounded_to_the_even_one() -> None:
    texts = ["1.0000000005", "1.0000000015", "-0.0000000005", "1E2", "0.000000001", "12345678901234567890.5"]
    rows, _ = read(to_csv([base_rows()[0] | {"ListCost": text} for text in texts]), 100_000)
    assert [row.list_cost for row in rows] == [
        *(1_000_000_000, 1_000_000_002, 0, 100_000_000_000, 1),
        12_345_678_901_234_567_890_500_000_000,
    ]


@pytest.mark.parametrize("body", [b"a\n" * 10_000, b"\n" * 10_000, b'"' * 2_000 + b"\n", b',"' * 20_000 + b"\n"])
def test_bytes_that_are_no_rows_take_no_more_time_than_others(body: bytes) -> None:
    reader = Reader(Row, keep=1)
    reader.feed(to_csv([]))
    assert reader.feed(body) == []


class Wanted(NamedTuple):
    billed_cost: Decimal
    charge_period_start: datetime
    charge_category: str
    sku_id: str | None
    pricing_quantity: Decimal | None
    tags: str | None
    charge_description: str | None
    x_fal_unit: str | None
    service_provider_name: str | None


def read_of_reader(data: bytes, piece: int = 10_000) -> tuple[list[Wanted], Reader[Wanted]]:
    reader, rows = Reader(Wanted), []
    for start in range(0, len(data), piece):
        rows += reader.feed(data[start : start + piece])
    return rows + reader.finish(), reader


def wanted(row: FileRow) -> Wanted:
    return Wanted(
        Decimal(row["BilledCost"]),
        datetime.fromisoformat(row["ChargePeriodStart"]),
        row["ChargeCategory"],
        row.get("SkuId"),
        Decimal(row["PricingQuantity"]) if "PricingQuantity" in row else None,
        row.get("Tags"),
        row.get("ChargeDescription"),
        row.get("x_FalUnit"),
        row["ProviderName"],
    )


@pytest.mark.parametrize("piece", [1, 100, 10_000])
@pytest.mark.parametrize("terminator", ["\n", "\r\n"])
def test_rows_are_typed_exact_and_in_order_whatever_the_pieces(piece: int, terminator: str) -> None:
    rows, reader = read_of_reader(to_csv(base_rows(), terminator=terminator), piece)
    assert rows == [wanted(row) for row in base_rows()]
    assert (reader.rows, reader.problems.rows, reader.naive_dates) == (32, 0, 0)
    assert all(row.charge_period_start.tzinfo is UTC for row in rows)


def test_columns_are_found_in_any_order() -> None:
    rows, _ = read_of_reader(to_csv(base_rows(), header()[::-1]))
    assert rows == [wanted(row) for row in base_rows()]


def test_a_column_that_is_absent_is_none() -> None:
    rows, _ = read_of_reader(to_csv(base_rows(), [name for name in header() if name not in {"SkuId", "x_FalUnit"}]))
    assert {(row.sku_id, row.x_fal_unit) for row in rows} == {(None, None)}


def test_a_column_that_is_needed_and_absent_is_an_error() -> None:
    with pytest.raises(MissingColumnError, match=r"no column BilledCost; it is a 1\.2 file"):
        read_of_reader(to_csv(base_rows(), [name for name in header() if name != "BilledCost"]))


@pytest.mark.parametrize("null", ["", "NULL", "null", '""'])
def test_nulls_come_as_empty_quoted_empty_or_in_words(null: str) -> None:
    data = to_csv([row | {"SkuId": "@", "PricingQuantity": "@"} for row in base_rows()]).replace(b"@", null.encode())
    assert {(row.sku_id, row.pricing_quantity) for row in read_of_reader(data)[0]} == {(None, None)}


@pytest.mark.parametrize(
    ("text", "hour", "naive"),
    [
        ("2025-10-01T06:00:00Z", 6, False),
        ("2025-10-01T06:00:00.000Z", 6, False),
        ("2025-10-01 06:00:00", 6, True),
        ("2025-10-01T06:00", 6, True),
        ("2025-10-01T06:00:00-07:00", 13, False),
        ("2025-10-01 06:00:00+0530", 0, False),
        ("2025-10-01 06:00:00 UTC", 6, False),
        ("2025-10-01", 0, True),
    ],
)
def test_dates_are_read_as_they_are_met_and_naive_ones_are_counted(text: str, hour: int, naive: bool) -> None:  # noqa: FBT001  a case
    rows, reader = read_of_reader(to_csv([row | {"ChargePeriodStart": text} for row in base_rows()]))
    assert {row.charge_period_start.hour for row in rows} == {hour}
    assert reader.naive_dates == (32 if naive else 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4.2E-7", "0.00000042"),
        ("4.2E+3", "4200"),
        ("1e2", "100"),
        ("+4.2", "4.2"),
        ("-0.000000000000000000000000000001", "-0.000000000000000000000000000001"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
    ],
)
def test_numbers_are_exact(text: str, value: str) -> None:
    rows, _ = read_of_reader(to_csv([base_rows()[0] | {"BilledCost": text}]))
    assert rows[0].billed_cost == Decimal(value)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("BilledCost", "1,234.5", "is not a number"),
        ("BilledCost", "$5", "is not a number"),
        ("BilledCost", "NaN", "is not a number"),
        ("BilledCost", "1_000", "is not a number"),
        ("BilledCost", "٣", "is not a number"),
        ("BilledCost", "1E99", "has more than 60 places"),
        ("BilledCost", "", "is empty, and must not be"),
        ("PricingQuantity", "many", "is not a number"),
        ("ChargePeriodStart", "01/10/2025", "is not a date"),
        ("ChargePeriodStart", "2025-02-30T00:00:00Z", "is not a date of the calendar"),
        ("ChargePeriodStart", "0001-01-01T00:00:00+09:00", "is not a date of the calendar"),
    ],
)
def test_what_cannot_be_read_is_told_with_line_column_value_and_reason(column: str, value: str, reason: str) -> None:
    rows = base_rows()
    rows[5] = rows[5] | {column: value}
    found, reader = read_of_reader(to_csv(rows))
    assert len(found) == len(rows) - 1
    assert reader.problems.first == [Problem(7, column, value, reason)]
    assert (reader.problems.rows, sum(reader.problems.counts.values())) == (1, 1)


def test_a_row_with_too_few_fields_is_left_out_and_told() -> None:
    lines = to_csv(base_rows()).splitlines(keepends=True)
    found, reader = read_of_reader(b"".join([*lines[:4], b"1.0,a\n", *lines[4:]]))
    assert len(found) == 32
    assert str(reader.problems.first[0]) == "line 5: has 2 fields, the header 59"


def test_bytes_that_are_no_utf8_are_told_even_in_columns_that_are_not_wanted() -> None:
    data = to_csv(base_rows()).replace(b"Team 1", b"\xc4quipe", 1)
    found, reader = read_of_reader(data)
    assert len(found) == 31
    assert [(item.line, item.column, item.reason) for item in reader.problems.first] == [
        (3, "SubAccountName", "is not UTF-8")
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (b"<!DOCTYPE html>\n<html></html>\n", "HTML"),
        (b'{"error": {"type": "not_found", "message": "FOCUS reports are off."}}', "it says: FOCUS reports are off."),
        (b'{"detail": "Invalid API key"}\n', "it says: Invalid API key"),
        (b"\x1f\x8b\x08rest\n", "gzip"),
        (b"PK\x03\x04rest\n", "ZIP"),
        (b"\xff\xfeB\x00i\x00\n", "UTF-16"),
        ("BilledCost\n".encode("utf-32"), "UTF-32"),
        (bz2.compress(b"BilledCost\n") + b"\n", "bzip2 file; decompress it"),
        (lzma.compress(b"BilledCost\n") + b"\n", "xz file; decompress it"),
        (b"7z\xbc\xaf\x27\x1c\n", "7-Zip"),
        (b"Obj\x01\n", "Avro"),
        (b"report.csv".ljust(257, b"\0") + b"ustar\x0000\nBilledCost\n", "tar archive"),
        (b"name,price\nflux,1\n", "no column of FOCUS"),
        (b"billedcost,BILLINGCURRENCY\n1,USD\n", "case-sensitive"),
        (b"BilledCost,Tags,BilledCost\n", "more than once"),
        (b"ContractCommitmentId,ContractCommitmentCategory,ContractId,BillingCurrency\n", "Contract Commitment"),
        (b"BillingPeriodStart,BillingPeriodEnd,BillingPeriodStatus,BillingPeriodCreated\n", "Billing Period"),
        (b"BilledCost,InvoiceDetailGrain,InvoiceIssueStatus,ChargeCategory\n", "Invoice Detail"),
    ],
)
def test_what_is_no_cost_and_usage_file_is_an_error_that_says_what_it_is(data: bytes, message: str) -> None:
    with pytest.raises(WrongContentError, match=message):
        read_of_reader(data)


def test_a_truncated_file_is_an_error() -> None:
    data = to_csv(base_rows())
    with pytest.raises(TruncatedFileError, match="ends inside line 33"):
        read_of_reader(data[:-200])
    with pytest.raises(TruncatedFileError, match="inside the quoted field"):
        read_of_reader(data[: data.rfind(b"shop")])
    reader = Reader(Wanted)
    reader.feed(data)
    with pytest.raises(TruncatedFileError, match="of 99,999 bytes have come"):
        reader.finish(99_999)


def test_a_last_line_without_line_feed_is_a_row_if_it_is_whole() -> None:
    assert len(read_of_reader(to_csv(base_rows()).rstrip(b"\n"))[0]) == 32


def test_a_header_alone_is_a_report_of_nothing() -> None:
    assert read_of_reader(to_csv([]))[0] == []


odd = st.text(st.sampled_from('ab,"\n é'), max_size=8)


@given(
    st.lists(st.fixed_dictionaries({"ChargeDescription": odd, "SkuId": odd, "Tags": odd, "x_FalUnit": odd}), max_size=8)
)
@settings(max_examples=examples(20, long=100))
def test_quotes_commas_and_line_ends_come_through_wherever_they_are(changes: list[dict[str, str]]) -> None:
    rows = [base | change for base, change in zip(base_rows(), changes, strict=False)]
    found, _ = read_of_reader(to_csv(rows), 200)
    kept = ("charge_description", "sku_id", "tags", "x_fal_unit")
    names = ("ChargeDescription", "SkuId", "Tags", "x_FalUnit")
    assert [tuple(getattr(item, name) for name in kept) for item in found] == [
        tuple(row[name] or None for name in names) for row in rows
    ]


_START = b"Tags,BilledCost,ChargePeriodStart,ChargeCategory,SkuId,x_fal_unit\n"
lines = st.lists(
    st.lists(
        st.sampled_from(
            [
                b"",
                b"1.5",
                b"x",
                b'"',
                b'""',
                b'"a,b"',
                b'"a',
                b'b"',
                b"\xff",
                b"\n",
                b"\r",
                b"2025-10-01T00:00:00Z",
                b'"",',
            ]
        ),
        min_size=4,
        max_size=8,
    ).map(b",".join),
    max_size=8,
).map(b"\n".join)


@given(lines | st.binary(max_size=80), st.integers(1, 50))
@settings(max_examples=examples(80, long=500))
def test_the_fast_way_and_the_careful_way_read_the_same(body: bytes, piece: int) -> None:
    def outcome(size: int) -> object:
        try:
            rows, reader = read_of_reader(_START + body, size)
        except FocusError as error:
            return str(error)
        return rows, reader.problems.first, reader.problems.rows

    fast = outcome(piece)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainLines, "rows", lambda _self, _block, _lines: None)
        assert outcome(10_000) == fast


@given(st.binary(max_size=400))
def test_any_bytes_give_rows_or_a_clean_error(data: bytes) -> None:
    for start in (b"", _START):
        try:
            rows, reader = read_of_reader(start + data, 64)
        except FocusError:
            continue
        assert len(rows) == reader.rows


def test_memory_does_not_grow_with_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parser, "_MOST", 100_000)
    monkeypatch.setattr(csv_parser, "MOST_FIELDS", 500)
    start, _, body = to_csv(base_rows()).partition(b"\n")
    reader = Reader(Wanted)
    reader.feed(start + b"\n")

    def feed(numbers: range) -> int:
        for number in numbers:
            reader.feed(body.replace(b"shop", b"shop %d" % number).replace(b"fal-ai", b"fal %d" % number))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        early = feed(range(40))
        assert feed(range(40, 160)) < early + 500_000
    finally:
        tracemalloc.stop()
    assert reader.rows == 160 * 32


@pytest.mark.parametrize("pieces", [1, 2, 3])
def test_dates_without_a_zone_are_counted_once_each_and_only_of_rows_that_are_read(pieces: int) -> None:
    header = b"BilledCost,BillingCurrency,ChargeCategory,ChargePeriodStart,SkuId,Tags\n"
    good, bad = b"1.5,USD,Usage,2026-11-02,,\n", b",USD,Usage,2026-11-02,,\n"
    data = header + good + bad + good + bad + bad
    reader, size = Reader(SummaryRow, polars_block=0), -(-len(data) // pieces)
    rows = [row for start in range(0, len(data), size) for row in reader.feed(data[start : start + size])]
    rows += reader.finish()
    assert (len(rows), reader.problems.rows, reader.naive_dates) == (2, 3, 2)


def test_a_column_that_is_called_like_a_field_of_ours_is_not_taken_for_one_of_focus() -> None:
    head, _, rest = to_csv(base_rows()[:2]).partition(b"\n")
    with_copy = head + b",billed_cost\n" + rest.replace(b"\n", b",7\n")
    (found, _), (expected, _) = read(with_copy, 1000), read(to_csv(base_rows()[:2]), 1000)
    assert [row.billed_cost for row in found] == [row.billed_cost for row in expected]
    with pytest.raises(MissingColumnError, match="no column BilledCost"):
        read(head.replace(b"BilledCost", b"billed_cost", 1) + b"\n" + rest, 1000)
