import csv
import gc
import io
import weakref
from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus import csv_parser
from exporter.focus.checks import Checker
from exporter.focus.csv_parser import Records, unquoted
from exporter.focus.findings import TruncatedFileError, WrongContentError
from exporter.focus.reader import Reader
from exporter.focus.reports import SummaryRow

Rows = list[list[str]]


def records(data: bytes, cuts: list[int]) -> list[csv_parser.Record]:
    reader, found, start = Records(), [], 0
    for cut in [*sorted(cuts), len(data)]:
        found += reader.feed(data[start:cut])
        start = max(start, cut)
    return found + reader.finish()


def texts(found: list[csv_parser.Record]) -> Rows:
    return [[unquoted(raw).decode() for raw in record.fields] for record in found]


fields = st.text(st.sampled_from('a,"\n\r é\x00'), max_size=6)
tables = st.lists(st.lists(fields, min_size=2, max_size=4), max_size=6)


@given(tables, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]), st.sampled_from(["\n", "\r\n"]), st.data())
def test_what_a_csv_writer_writes_is_read_whatever_the_pieces(
    rows: Rows, quoting: Literal[0, 1], terminator: str, data: st.DataObject
) -> None:
    text = io.StringIO()
    if quoting == csv.QUOTE_MINIMAL:  # a writer of LF leaves a carriage return bare, which then ends the line
        rows = [[field.replace("\r", "") for field in row] for row in rows]
    csv.writer(text, quoting=quoting, lineterminator=terminator).writerows(rows)
    raw = text.getvalue().encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8))
    assert texts(records(raw, cuts)) == rows


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_are_read_the_same_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    def outcome(at: list[int]) -> list[tuple[int, list[bytes], str]] | str:
        try:
            return [(record.line, record.fields, record.malformed) for record in records(data, at)]
        except TruncatedFileError as error:
            return str(error)

    assert outcome([min(cut, len(data)) for cut in cuts]) == outcome([])


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    data = b'\xef\xbb\xbf"a",b\n'
    assert texts(records(data, [1, 2])) == [["a", "b"]]
    assert texts(records(data, [])) == [["a", "b"]]


def test_a_quotation_mark_within_an_unquoted_field_is_a_character() -> None:
    assert texts(records(b'5" disk,a"b\n', [])) == [['5" disk', 'a"b']]


def test_blank_lines_are_no_records_but_count_as_lines() -> None:
    assert [(record.line, record.fields) for record in records(b"a,b\n\r\n\nc,d", [])] == [
        (1, [b"a", b"b"]),
        (4, [b"c", b"d"]),
    ]


def test_text_after_a_closing_quotation_mark_is_malformed_and_the_next_line_is_read() -> None:
    first, second = records(b'"a"b,c\nd,e\n', [])
    assert "closing quotation mark" in first.malformed
    assert second.fields == [b"d", b"e"]


def test_a_quoted_field_that_never_ends_is_given_up_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parser, "LONGEST_RECORD", 1000)
    reader = Records()
    reader.feed(b'"open\n')
    found = [record for _ in range(20) for record in reader.feed(b'a ""b""\n' * 10)]
    assert found[0].line == 1
    assert "goes on for more than" in found[0].malformed


def test_a_line_that_never_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_parser, "LONGEST_RECORD", 1000)
    reader = Records()
    reader.feed(b"a,b\n" + b"x" * 1000)
    with pytest.raises(WrongContentError, match="line 2 goes on"):
        reader.feed(b"x")


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_blank_lines_without_end_are_no_file_of_charges(end: bytes) -> None:
    header = b"BilledCost,BillingCurrency,ChargeCategory" + end
    for feed in (Records().feed, Reader(SummaryRow).feed):
        feed(header + end * 19_998)
        with pytest.raises(WrongContentError, match="20,000 blank lines follow one another after line 20000;"):
            feed(end * 20_000)


@pytest.mark.parametrize("polars_block", [0, 2_000])
def test_a_line_that_never_ends_has_its_number_whoever_holds_the_lines_before_it(
    polars_block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_parser, "LONGEST_RECORD", 1000)
    reader = Reader(SummaryRow, polars_block=polars_block)
    names = ("BilledCost", "BillingCurrency", "ChargeCategory", "ChargePeriodStart", "EffectiveCost", "ListCost")
    row = b"1,USD,Usage,2026-10-01T00:00:00Z,1,1\n"
    reader.feed(",".join(names).encode() + b"\n" + row * 99)
    reader.feed(row * 50)
    with pytest.raises(WrongContentError, match="line 151 goes on"):
        reader.feed(b"x" * 1001)


@pytest.mark.parametrize("make", [Records, partial(Reader, SummaryRow), partial(Checker, "1.2")])
def test_a_reader_is_freed_when_it_is_left_not_when_garbage_is_collected(
    make: Callable[[], Records | Reader[SummaryRow] | Checker],
) -> None:
    gc.disable()
    try:
        reader = make()
        reader.feed(b"BilledCost,BillingCurrency,ChargeCategory,ChargePeriodStart,EffectiveCost,ListCost\n")
        left = weakref.ref(reader)
        del reader
        assert left() is None
    finally:
        gc.enable()
