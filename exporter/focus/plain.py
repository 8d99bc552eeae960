"""The fast way through plain lines.

Most of a row repeats: everything after its last number or date (service, SKU, sub account, tags) is the same for every
hour of one line of business. That tail is taken apart once for each text that it has; the fields before it are split
off with one call; and a run of lines becomes rows column by column, without a line of Python for each field.

A line is plain where no quotation mark comes before its tail and the tail is a whole number of well-formed fields. What
is plain here reads the same in `exporter.focus.dialect`, which decides what everything else means.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import repeat
from operator import itemgetter
from types import NoneType
from typing import Generic, NamedTuple, TypeVar

from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.dialect import Assembler, Record, is_text
from exporter.focus.header import Header
from exporter.focus.shape import Instants, UnreadableError, Wanted
from exporter.focus.values import Value

_MOST_TAILS = 8_192
_LONGEST_TAIL = 4_000

RowT = TypeVar("RowT", bound=tuple[object, ...])


class Tail(NamedTuple):
    """What is known of a tail.

    Attributes:
        quotes: how many quotation marks it has, `_NOT_PLAIN` where it needs care.
        values: of the wanted columns that lie in it.
    """

    quotes: int
    values: tuple[Value, ...] = ()


_NOT_PLAIN = -1
_CARE = Tail(_NOT_PLAIN)


class Tails(dict[bytes, Tail]):
    """Tails by their text."""

    def __init__(self, first: int, fields: int, wanted: Sequence[Wanted]) -> None:
        super().__init__()
        self._fields = fields
        self._wanted = [(it, (it.place or 0) - first) for it in wanted]
        # A date without a zone is counted each time that it occurs.
        self._remembers = not any(isinstance(it.fields, Instants) for it in wanted)

    def __missing__(self, text: bytes) -> Tail:
        """Take a tail apart that is not remembered."""
        tail = self._tail(text)
        if self._remembers and len(text) <= _LONGEST_TAIL:
            if len(self) >= _MOST_TAILS:
                self.clear()
            self[text] = tail
        return tail

    def _tail(self, text: bytes) -> Tail:
        record = Assembler().take(0, text) if text else Record(0, [b""])
        if record is None or record.malformed or len(record.fields) != self._fields or not is_text(text):
            return _CARE
        try:
            values = tuple(wanted.value(record.fields[place]) for wanted, place in self._wanted)
        except UnreadableError:
            return _CARE
        return Tail(text.count(b'"'), values)


class PlainLines(Generic[RowT]):
    """Tells which lines are plain, and makes rows of them."""

    def __init__(self, header: Header, wanted: Sequence[Wanted], shape: type[RowT]) -> None:
        width = len(header.names)
        varying = [place for place, name in enumerate(header.names) if _varies(name)]
        self._split = min(max(varying, default=-1) + 1, width - 1)
        in_tail = [it for it in wanted if it.place is not None and it.place >= self._split]
        self._tails = Tails(self._split, width - self._split, in_tail)
        self._instants = [it.fields for it in wanted if isinstance(it.fields, Instants)]
        self._columns: list[Callable[[Cut], Iterable[Value]]] = []
        for it in wanted:
            self._columns.append(_tail_column(in_tail.index(it)) if it in in_tail else _head_column(it))
        self._needed = [place for place, it in enumerate(wanted) if it.is_needed and it not in in_tail]
        self._make: Callable[[Iterable[Value]], RowT] = partial(tuple.__new__, shape)

    def cut(self, lines: list[bytes]) -> "Cut":
        """Split every line into the fields before its tail, and the tail; look the tails up."""
        fields = [line.split(b",", self._split) for line in lines]
        tails = list(map(self._tails.__getitem__, map(_LAST, fields)))
        return Cut(fields, tails)

    def judge(self, lines: list[bytes], cut: "Cut") -> bytearray:
        """Return for every line 1 if it is plain, 0 if it needs care."""
        width = self._split + 1
        quotes = list(map(_FIRST, cut.tails))
        if _NOT_PLAIN not in quotes and set(map(len, cut.fields)) == {width} and _are_text(lines):
            marks = sum(map(bytes.count, lines, repeat(b'"')))
            if sum(quotes) == marks:
                return bytearray(b"\1") * len(lines)
        return bytearray(
            len(fields) == width and known == line.count(b'"') and is_text(line)
            for line, fields, known in zip(lines, cut.fields, quotes, strict=True)
        )

    def rows(self, cut: "Cut") -> list[RowT] | None:
        """Return the rows of plain lines, or None where a field of one of them cannot be read."""
        counted = [it.naive for it in self._instants]
        try:
            columns = [list(column(cut)) for column in self._columns]
        except UnreadableError:
            columns = []
        if not columns or any(NoneType in set(map(type, columns[place])) for place in self._needed):
            for it, naive in zip(self._instants, counted, strict=True):
                it.naive = naive
            return None
        return list(map(self._make, zip(*columns, strict=True)))


class Cut(NamedTuple):
    """Lines, split: of each the fields with the tail as the last, and what is known of the tail."""

    fields: list[list[bytes]]
    tails: list[Tail]

    def part(self, start: int, end: int) -> "Cut":
        """Return some of the lines."""
        return Cut(self.fields[start:end], self.tails[start:end])


_FIRST: Callable[[Tail], int] = itemgetter(0)
_LAST: Callable[[list[bytes]], bytes] = itemgetter(-1)


def _head_column(wanted: Wanted) -> Callable[[Cut], Iterable[Value]]:
    if wanted.place is None:
        return lambda cut: repeat(None, len(cut.fields))
    read, pick = wanted.fields.__getitem__, itemgetter(wanted.place)
    return lambda cut: map(read, map(pick, cut.fields))


def _tail_column(place: int) -> Callable[[Cut], Iterable[Value]]:
    pick: Callable[[tuple[Value, ...]], Value] = itemgetter(place)
    return lambda cut: map(pick, map(_VALUES, cut.tails))


_VALUES: Callable[[Tail], tuple[Value, ...]] = itemgetter(1)


def _are_text(lines: list[bytes]) -> bool:
    return all(map(bytes.isascii, lines)) or all(map(is_text, lines))


def _varies(name: str) -> bool:
    column = COLUMNS.get(name)
    return column is not None and (column.kind.is_number or column.kind is Kind.INSTANT)
