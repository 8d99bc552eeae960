"""Polars must be seen in nothing but the time that a file takes."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import reduce
from typing import NamedTuple, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.focus.findings import FocusError
from exporter.focus.reader import PlainLines, Reader
from exporter.focus.reports import SummaryRow, Totals
from exporter.focus.row_schema import Count
from exporter.focus.values import EXACTLY

START = b"Tags,BilledCost,ListCost,EffectiveCost,ChargePeriodStart,ChargeCategory,BillingCurrency,SkuId\n"
NEVER = 0
RowT = TypeVar("RowT", bound=tuple[object, ...])


@pytest.fixture(autouse=True, scope="module")
def small_marks() -> Iterator[None]:
    """Let blocks be several sources for Polars, as they are in large files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exporter.focus.reader.MARKED", 300)
        yield


class Nanos(NamedTuple):
    charge_period_start: datetime
    tags: str | None
    list_cost: int | None
    lines: Count
    billed_cost: int


class Amount(NamedTuple):
    billed_cost: Decimal
    x_absent: str | None
    lines: Count


TIDY = {
    "tags": b'"{""app"": ""x"", ""k"":1}"',
    "billed": b"1.25",
    "listed": b"-2.5",
    "effective": b"3",
    "start": b"2026-10-01T05:00:00Z",
    "category": b"Usage",
    "currency": b"USD",
    "sku": b"flux",
}


def line(**fields: bytes) -> bytes:
    return b",".join((TIDY | fields).values())


def lists(reader: Reader[RowT], data: bytes, piece: int) -> Iterator[list[RowT]]:
    for start in range(0, len(data), piece):
        yield reader.feed(data[start : start + piece])
    yield reader.finish()


def told(reader: Reader[RowT]) -> tuple[object, ...]:
    problems = reader.problems
    return reader.rows, reader.received, reader.naive_dates, problems.rows, problems.first, problems.counts


def totals_of(data: bytes, polars_block: int, piece: int) -> object:
    """Return all that a summary tells, in its order."""
    reader, totals = Reader(SummaryRow, polars_block=polars_block), Totals()
    try:
        for rows in lists(reader, data, piece):
            totals.add(rows)
    except FocusError as error:
        return str(error)
    return list(totals.sums().items()), told(reader)


def nanos_of(data: bytes, polars_block: int, piece: int) -> object:
    reader = Reader(Nanos, polars_block=polars_block)
    sums: dict[object, list[int]] = {}
    try:
        for rows in lists(reader, data, piece):
            for start, tags, listed, count, billed in rows:
                known = sums.setdefault((start, tags, listed is None), [0, 0, 0])
                known[:] = known[0] + billed, known[1] + (listed or 0), known[2] + count
    except FocusError as error:
        return str(error)
    return list(sums.items()), told(reader)


texts = st.sampled_from([b"", b"a", b'"a, b"', b'"say ""hi"""', b'""', b"NULL", "é".encode(), b'""""', b'",a,"'])
odd_texts = st.sampled_from(
    [b'"a\nb"', b'a"b', b'"a"b', b'"a"b"c"', b'""a', b'"a,"b"', b' "a"', b'"', b"\xff", b"\x01", b"a\rb", b'"a\r\nb"']
)
decimals = st.decimals(-(10**12), 10**12, places=20).map(lambda item: f"{item:f}".encode())
numbers = decimals | st.sampled_from([b"0", b"1.5", b"-0.000000001", b"0.0000000005", b"999999999999.9", b'"2.5"'])
odd_numbers = st.sampled_from(
    [
        *(
            b"4.2E-7",
            b"-1.5e-29",
            b"1.25e+05",
            b"7E30",
            b"1.e1",
            b"2e",
            b"e-05",
            b"1e3",
            b"+3",
            b".5",
            b"5.",
            b"",
            b"NULL",
            b"null",
            b'"1,5"',
            b"1E99",
            b"x",
            b" 1",
            b"NaN",
            b"inf",
        ),
        *(
            "٣".encode(),
            b"0.123456789012345678901234567890",
            b"12345678901234567890",
            b"1_0",
            b"1.000000000000000000005",
        ),
    ]
)
dates = st.sampled_from([b"2026-10-01T05:00:00Z", b"2026-10-31T23:00:00-07:00", b"2026-10-02 05:00:00", b"2026-11-01"])
odd_dates = st.sampled_from([b"", b"today", b"2026-02-30", b'"2026-10-01T05:00:00Z"', b"0001-01-01"])
tidy = {
    **dict.fromkeys(("tags", "sku"), texts),
    **dict.fromkeys(("category", "currency"), st.sampled_from([b"a", b'"b"'])),
    **dict.fromkeys(("billed", "listed", "effective"), numbers),
    "start": dates,
}
odd = {
    **dict.fromkeys(("tags", "category", "currency", "sku"), odd_texts),
    **dict.fromkeys(("billed", "listed", "effective"), odd_numbers),
    "start": odd_dates,
}
LINE = line()
odd_lines = st.fixed_dictionaries({}, optional=odd).map(lambda fields: line(**fields)) | st.sampled_from(
    [
        b"",
        b"1,2",
        LINE + b",",
        LINE + b",\x01",
        LINE[:-5],
        b"\xef\xbb\xbf" + LINE,
        b"#" + LINE,
        b",,,,,,,",
        LINE + b"\r",
    ]
)
files = st.builds(
    lambda rows, odd, end, times, last: START + end.join([*rows * times, *odd, *rows, last]),
    st.lists(st.builds(line, **tidy), min_size=1, max_size=5),
    st.lists(odd_lines, max_size=2),
    st.sampled_from([b"\n", b"\r\n"]),
    st.integers(1, 3),
    st.sampled_from([b"", LINE, b'"']),
)


@given(files, st.integers(1, 2_000), st.integers(1, 2_000))
@settings(max_examples=examples(10, long=500))
def test_any_file_comes_to_the_same_with_polars_and_without(data: bytes, polars_block: int, piece: int) -> None:
    assert totals_of(data, polars_block, piece) == totals_of(data, NEVER, piece)
    assert nanos_of(data, polars_block, piece) == nanos_of(data, NEVER, piece)


@given(st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=3), st.integers(1, 1_500))
@example([(124, 0)], 1)
@settings(max_examples=examples(10, long=500))
def test_a_file_with_wrong_bytes_comes_to_the_same(damages: list[tuple[int, int]], polars_block: int) -> None:
    data = bytearray(START + b"".join(line(sku=b"sku-%d" % (number % 3)) + b"\n" for number in range(20)))
    for place, byte in damages:
        data[len(START) + place % (len(data) - len(START))] = byte
    assert totals_of(bytes(data), polars_block, 200) == totals_of(bytes(data), NEVER, 200)
    assert nanos_of(bytes(data), polars_block, 200) == nanos_of(bytes(data), NEVER, 200)


@pytest.mark.parametrize(
    "body",
    [
        (line() + b"\n") * 9,
        (line() + b"\r\n") * 9,
        (line(tags=b"plain") + b"\n") * 9,
        (line(tags='"ü ""é"""'.encode(), sku='"ß"'.encode()) + b"\n") * 9,
        (b'"' + line(tags=b"{}").replace(b",", b'","') + b'"\n') * 9,
        (line(effective=b"") + b"\n" + line(listed=b"4.2E-7") + b"\n" + line(billed=b"0." + b"3" * 30) + b"\n") * 3,
        (line(start=b"2026-10-01") + b"\n" + line(start=b"2026-11-01 05:00:00") + b"\n") * 4 + line() + b"\n",
    ],
    ids=["LF", "CRLF", "unquoted", "UTF-8", "all quoted", "odd numbers", "naive dates"],
)
def test_polars_reads_the_files_that_are_met_and_makes_one_row_of_many(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = totals_of(START + body, NEVER, 5_000)
    reader, totals = Reader(SummaryRow, polars_block=len(START)), Totals()
    reader.feed(START)
    monkeypatch.setattr(PlainLines, "rows", None)
    rows = reader.feed(body)
    totals.add([*rows, *reader.finish()])
    assert (list(totals.sums().items()), told(reader)) == expected
    assert (len(rows) <= 3, reader.rows) == (True, 9)


def test_a_row_is_in_the_place_of_the_first_of_its_lines() -> None:
    names = [b"sku-%d" % (number * 79 % 200) for number in range(200)]
    reader = Reader(SummaryRow, polars_block=len(START))
    rows = reader.feed(START)
    for _ in range(2):
        rows += reader.feed(b"".join(line(sku=name) + b"\n" for name in names + names))
    rows += reader.finish()
    assert [(row.texts.sku_id or "").encode() for row in rows] == names * 2
    assert {row.lines for row in rows} == {2}


@pytest.mark.parametrize(
    "bad",
    [
        *(b"", b"1,2", LINE + b",", LINE + b",\x01", LINE[:-5], b"\xef\xbb\xbf" + LINE, LINE + b"\r", b",,,,,,,"),
        *(
            line(tags=text)
            for text in (b'x"y,z"', b'"a\nb"', b'"a"b', b'"a"b"c"', b'""a', b'"a,"b"', b' "a"', b'"', b"\xff")
        ),
        *(
            line(billed=text)
            for text in (
                b"1e3",
                b"5e-21",
                b"1E-30",
                b"0e999",
                b"1E99",
                b"",
                b"1.000000000000000000005",
                b"12345678901234567890.5",
            )
        ),
        *(line(start=text) for text in (b"", b"today", b"2026-10-01")),
        line(start=b"2026-10-01", category=b""),
        line(tags=b"\xef\xbb\xbfa"),
    ],
)
def test_a_line_that_is_not_tidy_tells_the_same_wherever_it_is(bad: bytes) -> None:
    before = START + (LINE + b"\n") * 5
    for block in ([bad, LINE, LINE], [LINE, bad, LINE], [LINE, bad, bad]):
        data = before + b"\n".join([*block, b""])
        assert totals_of(data, 1, len(before)) == totals_of(data, NEVER, len(before))
        assert nanos_of(data, 1, len(before)) == nanos_of(data, NEVER, len(before))


def test_short_numbers_too_large_for_polars_add_up_all_the_same() -> None:
    # Of several groups Polars adds up two of them to something else without a word.
    large = b"".join(line(billed=b"999999999999999999", sku=sku) + b"\n" for sku in (b"a", b"b")) * 2
    found = totals_of(START + large * 10, 1, len(large))
    assert found == totals_of(START + large * 10, NEVER, len(large))
    assert "19999999999999999980" in str(found)


def test_numbers_at_the_limits_add_up_to_the_last_digit() -> None:
    largest = b"999999999999.99999999999999999999"
    body = (line(billed=largest) + b"\n") * 2_000 + (line(billed=b"-" + largest) + b"\n") * 1_999
    reader = Reader(Amount, polars_block=1)
    reader.feed(START)
    rows = reader.feed(body) + reader.finish()
    assert reduce(EXACTLY.add, (row.billed_cost for row in rows)) == Decimal(largest.decode())
    assert (len(rows) < 20, sum(row.lines for row in rows)) == (True, 3_999)


def test_numbers_with_exponents_become_a_row_for_each_exponent() -> None:
    # Some providers write all costs below a thousandth so.
    texts = [b"%d.%09dE-%d" % (number % 9 + 1, number * 7919, number % 3 + 5) for number in range(90)]
    body = b"".join(line(billed=text) + b"\n" for text in [*texts, b"0.25"])
    reader = Reader(Amount, polars_block=len(START))
    reader.feed(START)
    rows = reader.feed(body) + reader.finish()
    expected = reduce(EXACTLY.add, (Decimal(text.decode()) for text in [*texts, b"0.25"]))
    assert reduce(EXACTLY.add, (row.billed_cost for row in rows)) == expected
    assert sorted(row.lines for row in rows) == [1, 30, 30, 30]


@pytest.mark.parametrize(("places", "is_used"), [(18, True), (21, False)])
def test_polars_is_given_up_where_it_makes_a_row_of_each_line(
    places: int,
    is_used: bool,  # noqa: FBT001  a case
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = b"".join(line(billed=b"0.%0*d" % (places, number)) + b"\n" for number in range(1_500))
    reader, totals = Reader(SummaryRow, polars_block=len(START)), Totals()
    totals.add(reader.feed(START) + reader.feed(body))
    # Some blocks are begun before it is known of the first whether that was worth it.
    for _ in range(4):
        totals.add(reader.feed(body))
    expected = totals_of(START + body * 6, NEVER, 5_000)
    without, read = [], PlainLines.rows

    def rows(lines: PlainLines[SummaryRow], block: bytes, count: int) -> list[SummaryRow] | None:
        without.append(count)
        return read(lines, block, count)

    monkeypatch.setattr(PlainLines, "rows", rows)
    totals.add([*reader.feed(body), *reader.finish()])
    assert (list(totals.sums().items()), told(reader)) == expected
    assert (not without) is is_used


def test_lines_are_added_up_only_if_their_shape_tells_how_many_they_are() -> None:
    class Lines(NamedTuple):
        billed_cost: Decimal

    reader = Reader(Lines, polars_block=1)
    assert len(reader.feed(START + (line() + b"\n") * 5) + reader.feed((line() + b"\n") * 5)) == 10


@pytest.mark.parametrize(("polars_block", "is_imported"), [(4_000, False), (1_000, True)])
def test_a_short_file_does_not_wait_for_polars_to_be_imported(polars_block: int, is_imported: bool) -> None:  # noqa: FBT001  a case
    data = START + (line() + b"\n") * 20
    code = f"""if True:
        import sys
        from exporter.focus.reader import Reader
        from exporter.focus.reports import SummaryRow
        reader = Reader(SummaryRow, polars_block={polars_block})
        reader.feed({data!r})
        reader.finish()
        assert ("polars" in sys.modules) == {is_imported}
    """
    subprocess.run([sys.executable, "-c", code], check=True)


cells = st.none() | st.sampled_from(
    ["", "a", '"', "a, b", "NULL", "a\nb", "é", "1.5", "-2", "1e3", "x", "0." + "1" * 25]
)
tables = st.lists(
    st.fixed_dictionaries(
        {
            **dict.fromkeys(("Tags", "SkuId"), cells),
            **dict.fromkeys(("BilledCost", "ListCost"), cells | st.sampled_from(["0.25", "7"])),
            "ChargePeriodStart": st.sampled_from(["2026-10-01T05:00:00Z", "2026-11-02", "today", None]),
            "BillingCurrency": st.sampled_from(["USD", "EUR", None]),
            "ChargeCategory": st.just("Usage"),
        }
    ),
    min_size=1,
    max_size=6,
)


@given(tables, st.booleans())
@settings(max_examples=examples(15, long=500))
def test_a_table_comes_to_the_same_as_its_csv(rows: list[dict[str, str | None]], goes_on: bool) -> None:  # noqa: FBT001  a case
    polars = pytest.importorskip("polars")
    module = pytest.importorskip("exporter.focus.polars_reader")
    frame = polars.DataFrame(rows, schema=dict.fromkeys(rows[0], polars.String))
    header = frame.head(0).write_csv().encode()
    frame.columns = [str(place) for place in range(frame.width)]
    table = module.Table(frame)
    found = []
    for pieces in ([header, table], [header + table.csv()]):
        reader, totals = Reader(SummaryRow, polars_block=1 if table in pieces else NEVER), Totals()
        for piece in pieces * (1 + goes_on):
            totals.add(reader.feed(piece))
        totals.add(reader.finish())
        lines = [(problem.column, problem.value) for problem in reader.problems.first]
        found.append((list(totals.sums().items()), reader.rows, reader.naive_dates, reader.problems.rows, lines))
    assert found[0] == found[1]


def test_a_problem_of_a_table_is_in_the_line_of_its_row() -> None:
    polars = pytest.importorskip("polars")
    module = pytest.importorskip("exporter.focus.polars_reader")
    reader = Reader(SummaryRow, polars_block=1)
    reader.feed(START)
    good = [*TIDY.values()]
    for rows in ([good, good], [[b"a\nb", *good[1:]], good], [good, [good[0], b"x", *good[2:]]]):
        texts = [[cell.decode() for cell in row] for row in rows]
        reader.feed(module.Table(polars.DataFrame(texts, schema=[str(place) for place in range(8)], orient="row")))
    reader.finish()
    assert [(problem.line, problem.value) for problem in reader.problems.first] == [(7, "x")]
    assert reader.rows == 5


def test_without_polars_every_file_is_read_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "polars", None)
    monkeypatch.delitem(sys.modules, "exporter.focus.polars_reader", raising=False)
    data = START + (line() + b"\n") * 50
    assert totals_of(data, 100, 300) == totals_of(data, NEVER, 300)
    assert "exporter.focus.polars_reader" not in sys.modules
