"""The fast way through plain lines.

Most of a row repeats: everything after its last number or date (service, SKU, sub account, tags) is the same for every
hour of one line of business. That tail is taken apart once for each text that it has; the fields before it are split
off with one call; and a run of lines becomes rows column by column, without a line of Python for each field.

A line is plain where no quotation mark comes before its tail and the tail is a whole number of well-formed fields. What
is plain here reads the same in `exporter.focus.dialect`, which decides what everything else means.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Generic, TypeVar

from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.dialect import Assembler, is_text
from exporter.focus.header import Header
from exporter.focus.shape import Instants, UnreadableError, Wanted
from exporter.focus.values import Value

_MOST_TAILS = 8_192
_LONGEST_TAIL = 4_000

RowT = TypeVar("RowT", bound=tuple[object, ...])
_NOT_PLAIN = -1


class Tails(dict[bytes, int]):
    """The number of quotation marks in each tail, `_NOT_PLAIN` for a text that is none."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self._fields = fields

    def __missing__(self, text: bytes) -> int:
        """Judge a text that is not remembered."""
        record = Assembler().take(0, text) if text else None
        found = 1 if not text else 0 if record is None or record.malformed else len(record.fields)
        quotes = text.count(b'"') if found == self._fields and is_text(text) else _NOT_PLAIN
        if len(text) <= _LONGEST_TAIL:
            if len(self) >= _MOST_TAILS:
                self.clear()
            self[text] = quotes
        return quotes


class TailField(dict[bytes, Value]):
    """The value of one column by the tail that holds it."""

    def __init__(self, wanted: Wanted, place: int) -> None:
        super().__init__()
        self._wanted = wanted
        self._place = place

    def __missing__(self, text: bytes) -> Value:
        """Take a tail apart that is not remembered; a date is not remembered, so that it is counted each time."""
        record = Assembler().take(0, text) if text else None
        value = self._wanted.value(record.fields[self._place] if record else b"")
        if len(text) <= _LONGEST_TAIL and not isinstance(value, datetime):
            if len(self) >= _MOST_TAILS:
                self.clear()
            self[text] = value
        return value


class PlainLines(Generic[RowT]):
    """Tells which lines are plain, and makes rows of them."""

    def __init__(self, header: Header, wanted: Sequence[Wanted], shape: type[RowT]) -> None:
        width = len(header.names)
        varying = [place for place, name in enumerate(header.names) if _varies(name)]
        self._split = min(max(varying, default=-1) + 1, width - 1)
        self._tails = Tails(width - self._split)
        self._instants = [it.fields for it in wanted if isinstance(it.fields, Instants)]
        self._needed = [place for place, it in enumerate(wanted) if it.is_needed]
        self._columns = [self._column(it) for it in wanted]
        self._make: Callable[[Iterable[Value]], RowT] = partial(tuple.__new__, shape)

    def _column(self, wanted: Wanted) -> Callable[[list[list[bytes]]], Iterable[Value]]:
        place, last = wanted.place, itemgetter(self._split)
        if place is None:
            return lambda cut: repeat(None, len(cut))
        if place < self._split:
            read, pick = wanted.fields.__getitem__, itemgetter(place)
            return lambda cut: map(read, map(pick, cut))
        read = TailField(wanted, place - self._split).__getitem__
        return lambda cut: map(read, map(last, cut))

    def cut(self, lines: list[bytes]) -> list[list[bytes]]:
        """Split every line into the fields before its tail, and the tail."""
        return [line.split(b",", self._split) for line in lines]

    def judge(self, lines: list[bytes], cut: list[list[bytes]]) -> bytearray:
        """Return for every line 1 if it is plain, 0 if it needs care."""
        width = self._split + 1
        if set(map(len, cut)) == {width}:
            tails = list(map(itemgetter(self._split), cut))
            quotes = list(map(self._tails.__getitem__, tails))
            marks = sum(map(bytes.count, lines, repeat(b'"')))
            if _NOT_PLAIN not in quotes and sum(quotes) == marks and _are_text(lines):
                return bytearray(b"\1") * len(lines)
        return bytearray(
            len(fields) == width and self._tails[fields[-1]] == line.count(b'"') and is_text(line)
            for line, fields in zip(lines, cut, strict=True)
        )

    def rows(self, cut: list[list[bytes]]) -> list[RowT] | None:
        """Return the rows of plain lines, or None where a field of one of them cannot be read."""
        counted = [it.naive for it in self._instants]
        try:
            columns = [list(column(cut)) for column in self._columns]
            if any(None in columns[place] for place in self._needed):
                raise UnreadableError
            return list(map(self._make, zip(*columns, strict=True)))
        except UnreadableError:
            for it, naive in zip(self._instants, counted, strict=True):
                it.naive = naive
        return None


def _are_text(lines: list[bytes]) -> bool:
    return all(map(bytes.isascii, lines)) or all(map(is_text, lines))


def _varies(name: str) -> bool:
    column = COLUMNS.get(name)
    return column is not None and (column.kind.is_number or column.kind is Kind.INSTANT)
