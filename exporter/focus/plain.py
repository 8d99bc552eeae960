"""The fast way through plain lines.

Most of a row repeats: what is sold, to whom, at which price. So the texts that a caller wants are taken from a row
together and read once for each combination; a date or number is read once for each text. One regular expression cuts a
block of lines into the fields that are wanted and a tail, which begins after the last date or number; the block then
becomes rows column by column, without a line of Python for each field.

A line is plain where it is one whole record and all that is wanted of it can be read. What is plain here reads the same
in `exporter.focus.dialect`, which decides what everything else means.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from operator import itemgetter
from types import NoneType
from typing import Generic, TypeVar

from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.dialect import is_text
from exporter.focus.header import Header
from exporter.focus.remembered import Remembered
from exporter.focus.shape import Instants, Part, UnreadableError

_BARE_FIELD = rb"[^,]*+"
"""Three times as fast as the other one; right where neither a quotation mark nor a line feed is in it. The marks are
looked for afterwards, and line feeds leave fewer matches than lines."""

_ANY_FIELD = rb'(?:[^",\r\n]*+|"[^"\n]*+(?:""[^"\n]*+)*+")'

RowT = TypeVar("RowT", bound=tuple[object, ...])

Columns = Sequence[Sequence[bytes]]
"""Raw fields, column by column. The first column is all before the tails, the last are these, with line feeds."""

Shared = Sequence[tuple[object, ...]]
"""What is read together, row by row."""


class PlainLines(Generic[RowT]):
    """Makes rows of blocks of plain lines.

    Args:
        header: of the file.
        parts: what the shape asks for.
        shape: what rows become.
        memory: what earlier files have taught.
    """

    def __init__(self, header: Header, parts: Sequence[Part], shape: type[RowT], memory: "Memory") -> None:
        width = len(header.names)
        varying = [place for place, name in enumerate(header.names) if _varies(name)]
        first = min(max(varying, default=-1) + 1, width - 1)
        shared = [part for part in parts if not part.varies or (part.wanted[0].place or 0) >= first]
        self._readings = memory.of(shape, header, Readings(shared, first, width))
        own = [part.wanted[0] for part in parts if part not in shared]
        places = sorted({it.place for it in own if it.place is not None} | set(self._readings.places))
        self._pattern = _pattern(first, places, _BARE_FIELD)
        self._any_pattern = _pattern(first, places, _ANY_FIELD)
        group = {place: number for number, place in enumerate(places, 1)}
        self._key = [*(group[place] for place in self._readings.places), -1]
        self._columns = [
            _shared_column(shared.index(part)) if part in shared else _own_column(part, group) for part in parts
        ]
        self._needed = [place for place, part in enumerate(parts) if part not in shared and part.wanted[0].is_needed]
        self._instants = [it.fields for it in own if isinstance(it.fields, Instants)]
        self._make: Callable[[Iterable[object]], RowT] = partial(tuple.__new__, shape)

    def rows(self, block: bytes, lines: int) -> list[RowT] | None:
        """Return the rows of a block of so many lines, or None where one of them needs care."""
        if not is_text(block):
            return None
        counted = [it.naive for it in self._instants]
        columns = self._read(block, lines)
        if columns is None or any(NoneType in set(map(type, columns[place])) for place in self._needed):
            for it, naive in zip(self._instants, counted, strict=True):
                it.naive = naive
            return None
        return list(map(self._make, zip(*columns, strict=True)))

    def _read(self, block: bytes, lines: int) -> list[list[object]] | None:
        while True:
            found = self._pattern.findall(block)
            cut: Columns = list(zip(*found, strict=True))
            if self._pattern is self._any_pattern or b'"' not in b"".join(cut[0]):
                break
            self._pattern = self._any_pattern
        if len(found) != lines or not all(cut[-1]):
            return None
        try:
            shared = list(map(self._readings.__getitem__, zip(*[cut[place] for place in self._key], strict=True)))
            return [list(column(cut, shared)) for column in self._columns]
        except UnreadableError:
            return None


class Readings(Remembered[bytes]):
    """What some parts of a row are, by the raw fields before the tail that they need, and the tail.

    Attributes:
        places: of these fields.
        are_lasting: whether a reading is the same whenever it is made.
    """

    def __init__(self, parts: Sequence[Part], first: int, width: int) -> None:
        super().__init__()
        wanted = [it for part in parts for it in part.wanted]
        places = sorted({it.place for it in wanted if it.place is not None})
        self.places = [place for place in places if place < first]
        self._places = places
        self._parts = parts
        self._tail = _tail_pattern(first, width, places)
        # A date without a zone is counted each time that it occurs.
        self.are_lasting = not any(isinstance(it.fields, Instants) for it in wanted)

    def __missing__(self, key: tuple[bytes, ...]) -> tuple[object, ...]:
        """Read a combination that is not remembered.

        Raises:
            UnreadableError: it needs care.
        """
        tail = self._tail.fullmatch(key[-1])
        if tail is None:
            raise UnreadableError("is no whole number of fields")
        raws = dict(zip(self._places, (*key[:-1], *tail.groups()), strict=True))
        reading = tuple(part.value(raws) for part in self._parts)
        if self.are_lasting:
            self.remember(key, reading)
        return reading


class Memory:
    """What the texts of rows have been found to be, kept from file to file.

    Files of the same source, one after the other, say nearly the same. It holds what one shape makes of one header:
    that of the last file.
    """

    def __init__(self) -> None:
        self._known: tuple[type, tuple[str, ...], Readings] | None = None

    def of(self, shape: type, header: Header, new: Readings) -> Readings:
        """Return what is known of such files, or else keep what is new."""
        if not new.are_lasting:
            return new
        if self._known is None or self._known[:2] != (shape, header.names):
            self._known = shape, header.names, new
        return self._known[2]


def _pattern(first: int, places: Collection[int], field: bytes) -> re.Pattern[bytes]:
    # From a line that is something else on all is one match, with an empty tail: none begins within a line, and no
    # time is lost.
    fields = (b"(" + field + b")," if place in places else field + b"," for place in range(first))
    return re.compile(b"(" + b"".join(fields) + rb")(.*+\n)|[\s\S]++")


def _tail_pattern(first: int, width: int, places: Collection[int]) -> re.Pattern[bytes]:
    # A blank line is no record, not even where there is one column only.
    fields = [b"(" + _ANY_FIELD + b")" if place in places else _ANY_FIELD for place in range(first, width)]
    return re.compile((rb"" if first else rb"(?!\r?\n)") + b",".join(fields) + rb"\r?+\n")


def _own_column(part: Part, group: dict[int, int]) -> Callable[[Columns, Shared], Iterable[object]]:
    wanted = part.wanted[0]
    read, place = wanted.fields.__getitem__, group[wanted.place or 0]
    return lambda cut, _: map(read, cut[place])


def _shared_column(place: int) -> Callable[[Columns, Shared], Iterable[object]]:
    pick: Callable[[tuple[object, ...]], object] = itemgetter(place)
    return lambda _, shared: map(pick, shared)


def _varies(name: str) -> bool:
    column = COLUMNS.get(name)
    return column is not None and (column.kind.is_number or column.kind is Kind.INSTANT)
