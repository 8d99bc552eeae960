from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

import pytest
from focus.conftest import base_rows, header, to_csv
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.focus.findings import FocusError
from exporter.focus.reader import Memory, PlainLines, Reader
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
    shown = [tuple(asdict(it) if isinstance(it, Line) else it for it in row) for row in rows]
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
@settings(max_examples=150, deadline=None)
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
    monkeypatch.setattr(Reader, "_careful", None)  # which the header alone takes, before
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
