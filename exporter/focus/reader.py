"""Streaming reader: bytes in pieces to typed rows, exact, in bounded memory.

Most of a row repeats: what is sold, to whom, at which price. So the texts that a caller wants are taken from a row
together and read once for each combination; a date or number is read once for each text. One regular expression cuts a
block of lines into the fields that are wanted and a tail, which begins after the last date or number; the block then
becomes rows column by column, without a line of Python for each field.

A line is plain where it is one whole record and all that is wanted of it can be read. What is plain here reads the same
in `exporter.focus.csv_parser`, which decides what everything else means.

Blocks of plain lines take the fast way of `exporter.focus.reader`, all other lines the careful way of
`exporter.focus.csv_parser`, field by field; both give the same rows in the order of the file. Shapes that can be added
up take the faster way of `exporter.focus.polars_reader` through large files, where Polars is installed.
"""

import re
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from types import NoneType
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar, get_type_hints

from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.csv_parser import Blocks, Record, Remembered, is_text, unquoted
from exporter.focus.findings import Problems
from exporter.focus.row_schema import (
    Header,
    Instants,
    Part,
    UnreadableError,
    flaw_of,
    is_header,
    nothing_at_all,
    parse_header,
    parts_of,
)

if TYPE_CHECKING:
    from exporter.focus.polars_reader import Cut, Marked, Summer, Table


def _bare_field(separator: bytes) -> bytes:
    """Return the pattern of a field that is three times as fast as the other one.

    It is right where neither a quotation mark nor a line feed is in the field. The marks are looked for afterwards, and
    line feeds leave fewer matches than lines.
    """
    return b"[^" + separator + b"]*+"


def _any_field(separator: bytes) -> bytes:
    return b'(?:[^"' + separator + rb'\r\n]*+|"[^"\n]*+(?:""[^"\n]*+)*+")'


RowT = TypeVar("RowT", bound=tuple[object, ...])

Columns = Sequence[Sequence[bytes]]
"""Raw fields, column by column. The first column is all before the tails, the last are these, with line feeds."""

Shared = Sequence[tuple[object, ...]]
"""Bytes that are read together, row by row."""


def _instants_of(parts: Sequence[Part]) -> list[Instants]:
    """Return all columns of dates, which count those without a time zone."""
    wanted = (item.fields for part in parts for item in part.wanted)
    return list({id(fields): fields for fields in wanted if isinstance(fields, Instants)}.values())


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
        separator = header.separator
        self._readings = memory.of(shape, header, Readings(shared, first, width, separator))
        own = [part.wanted[0] for part in parts if part not in shared]
        places = sorted({item.place for item in own if item.place is not None} | set(self._readings.places))
        self._pattern = _pattern(first, places, _bare_field(separator), separator)
        self._any_pattern = _pattern(first, places, _any_field(separator), separator)
        group = {place: number for number, place in enumerate(places, 1)}
        self._key = [*(group[place] for place in self._readings.places), -1]
        self._columns = [
            _shared_column(shared.index(part)) if part in shared else _own_column(part, group) for part in parts
        ]
        self._needed = [place for place, part in enumerate(parts) if part not in shared and part.wanted[0].is_needed]
        self._instants = _instants_of(parts)
        self._make: Callable[[Iterable[object]], RowT] = partial(tuple.__new__, shape)

    def rows(self, block: bytes, lines: int) -> list[RowT] | None:
        """Return the rows of a block of so many lines, or None where one of them needs care."""
        if not is_text(block):
            return None
        counted = [instant.naive for instant in self._instants]
        columns = self._read(block, lines)
        if columns is None or any(NoneType in set(map(type, columns[place])) for place in self._needed):
            for instant, naive in zip(self._instants, counted, strict=True):
                instant.naive = naive
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
    """Parts of a row by the raw fields before the tail that they need, and the tail.

    Attributes:
        places: of these fields.
        are_lasting: whether a reading is the same whenever it is made.
    """

    def __init__(self, parts: Sequence[Part], first: int, width: int, separator: bytes) -> None:
        super().__init__()
        wanted = [item for part in parts for item in part.wanted]
        places = sorted({item.place for item in wanted if item.place is not None})
        self.places = [place for place in places if place < first]
        self._places = places
        self._parts = parts
        self._tail = _tail_pattern(first, width, places, separator)
        # A date without a zone is counted each time that it occurs.
        self.are_lasting = not any(isinstance(item.fields, Instants) for item in wanted)

    def __missing__(self, key: tuple[bytes, ...]) -> tuple[object, ...]:
        """Read a combination that is not remembered.

        Raises:
            UnreadableError: it needs care.
        """
        tail = self._tail.fullmatch(key[-1])
        if tail is None:
            raise UnreadableError("is not a whole number of fields")
        raws = dict(zip(self._places, (*key[:-1], *tail.groups()), strict=True))
        reading = tuple(part.value(raws) for part in self._parts)
        if self.are_lasting:
            self.remember(key, reading)
        return reading


class Memory:
    """Cache of the values of row texts, kept from file to file.

    Files of the same source, one after the other, say nearly the same. It holds what one shape makes of one header:
    that of the last file.
    """

    def __init__(self) -> None:
        self._known: tuple[type, Header, Readings] | None = None

    def of(self, shape: type, header: Header, new: Readings) -> Readings:
        """Return what is known of such files, or else keep what is new."""
        if not new.are_lasting:
            return new
        if self._known is None or self._known[:2] != (shape, header):
            self._known = shape, header, new
        return self._known[2]


def _pattern(first: int, places: Collection[int], field: bytes, separator: bytes) -> re.Pattern[bytes]:
    # From a line that is something else on all is one match, with an empty tail: none begins within a line, and no
    # time is lost.
    end = re.escape(separator)
    fields = ((b"(" + field + b")" if place in places else field) + end for place in range(first))
    return re.compile(b"(" + b"".join(fields) + rb")(.*+\n)|[\s\S]++")


def _tail_pattern(first: int, width: int, places: Collection[int], separator: bytes) -> re.Pattern[bytes]:
    # A blank line is no record, not even where there is one column only.
    field = _any_field(separator)
    fields = [b"(" + field + b")" if place in places else field for place in range(first, width)]
    return re.compile((rb"" if first else rb"(?!\r?\n)") + re.escape(separator).join(fields) + rb"\r?+\n")


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


POLARS_BLOCK = 12 << 20
"""Bytes that Polars is given at once."""

POLARS_FROM = 8 << 20
"""Bytes after which Polars is used; a shorter file is read before Polars could be imported."""

MARKED = 2 << 20
"""Bytes of lines that are marked together, while they are in the cache of a processor; and after which Polars is used
where it has been imported already."""

AT_ONCE = 3
"""Blocks that Polars works on at a time: of a single one it keeps little more than a core busy."""

_MANY_LINES, _MOST_ROWS = 1_000, 0.5
"""Of so many lines Polars has to make fewer rows than this part of them: where each line is a row of its own, as with
numbers of more than 20 places, it takes twice as long as without it, and is not used for the rest of the file."""

_KEPT_PROBLEMS = 100


class _Begun(NamedTuple):
    """Whole lines that Polars has begun to read; `cut` is None where one of them needs care."""

    marked: "Sequence[Marked | bytes]"
    cut: "Cut | None"
    polars: object


class Reader(Blocks, Generic[RowT]):
    """Reads one file; push its bytes with `feed`, say with `finish` that there are no more.

    Args:
        shape: a named tuple that states which columns are wanted, see `exporter.focus.row_schema`.
        keep: how many problems are kept word by word; all are counted.
        polars_block: so many bytes are given to Polars at once, where it is installed and the shape has a `Count`; the
            first so many, or `POLARS_FROM`, are read without it. 0: it is never used.
        memory: of the files before this one, where several are read one after the other.
        unreadable: takes, of every row that is left out, the fields of the shape that can be read, by their names; an
            amount that only a person can read, such as `$4.20`, too.
        texts: columns of the shape's `Texts`.

    Attributes:
        header: None until the first line is complete; the latest where one file has been appended to another.
        rows: how many rows of the file have been returned; one with a `Count` may stand for several.
        problems: what could not be read; a row with an unreadable field is left out.
    """

    def __init__(
        self,
        shape: type[RowT],
        *,
        keep: int = _KEPT_PROBLEMS,
        polars_block: int = POLARS_BLOCK,
        memory: Memory | None = None,
        unreadable: Callable[[Mapping[str, object]], None] | None = None,
        texts: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self._unreadable = unreadable
        self._texts = texts
        self.header: Header | None = None
        self.rows = 0
        self.problems = Problems(keep)
        self._naive_dates = 0
        self._shape = shape
        self._memory = Memory() if memory is None else memory
        self._found: list[RowT] = []
        self._parts: list[Part] = []
        self._instants: list[Instants] = []
        self._names: Sequence[str] = tuple(get_type_hints(shape))
        self._plain: PlainLines[RowT] | None = None
        self._polars: Summer[RowT] | None = None
        self._polars_block = polars_block
        self._begun: deque[_Begun] = deque()
        self._marked: list[Marked | bytes] = []
        self._marked_size = 0

    @property
    def naive_dates(self) -> int:
        """Dates without a time zone that have been taken for UTC, in the wanted columns."""
        wanted = (item for part in self._parts for item in part.wanted)
        return self._naive_dates + sum(item.fields.naive for item in wanted if isinstance(item.fields, Instants))

    def feed(self, piece: "bytes | Table") -> list[RowT]:
        """Take a piece and return rows that are complete; with Polars, not before some blocks of them are.

        Args:
            piece: bytes of the file, or rows after a header that came as bytes.

        Raises:
            WrongContentError: this is no Cost and Usage file.
            MissingColumnError: a column that the shape needs is not there.
        """
        self._feed(piece)
        return self._taken()

    def finish(self, promised: int | None = None) -> list[RowT]:
        """Take note that all bytes are there, and return what is left.

        Args:
            promised: how many bytes the sender has announced, if it has.

        Raises:
            TruncatedFileError: the file was cut off.
            WrongContentError: there was no header at all.
        """
        self._end(promised)
        if self.header is None:
            raise nothing_at_all()
        return self._taken()

    def _taken(self) -> list[RowT]:
        rows, self._found = self._found, []
        return rows

    def _table(self, table: "Table") -> bool:
        """Take rows of a table with Polars."""
        if self._polars is None and self.header is not None and self._polars_block:
            self._begin_polars(self.header)
        rows = None if self._polars is None else self._polars.rows_of(table)
        return rows is not None and self._add(rows, table.frame.height)

    def _add(self, rows: list[RowT], lines: int) -> bool:
        self._found += rows
        self.rows += lines
        return True

    def _lines(self, lines: bytes) -> None:
        """Take whole lines; with Polars, they are read once they are many."""
        if self._polars is not None:
            self._mark(self._polars, lines)
            return
        self._read(lines)
        least = MARKED if "polars" in sys.modules else POLARS_FROM
        if self.header is not None and 0 < min(self._polars_block, least) <= self.received:
            self._begin_polars(self.header)

    def _mark(self, polars: "Summer[RowT]", lines: bytes) -> None:
        """Mark lines for Polars, and let it begin with them once they are a block."""
        self._marked.append(polars.marked(lines) or lines)
        self._marked_size += len(lines)
        if self._marked_size >= self._polars_block:
            self._turn(polars)

    def _turn(self, polars: "Summer[RowT]") -> None:
        """Let Polars begin with the lines that are marked, and read those of earlier blocks, lest it has too many."""
        marked, self._marked, self._marked_size = self._marked, [], 0
        if len(self._begun) >= AT_ONCE:
            self._read_oldest()
        if marked:
            self._begun.append(_Begun(marked, polars.begin(marked), polars))
        if self._polars is None:
            self._settle()

    def _settle(self) -> None:
        """Read all lines that are marked or that Polars has begun with."""
        if self._polars is not None:
            self._turn(self._polars)
        while self._begun:
            self._read_oldest()

    def _read_oldest(self) -> None:
        """Read the lines that Polars began with first."""
        begun = self._begun.popleft()
        polars, cut = self._polars, begun.cut
        if polars is not None and polars is begun.polars and cut is not None and not self._assembler.is_open:
            rows = polars.rows(cut)
            if rows is not None:
                self._add(rows, cut.lines)
                self._number += cut.lines
                if cut.lines >= _MANY_LINES and len(rows) > cut.lines * _MOST_ROWS:
                    self._polars, self._polars_block, self._least = None, 0, 0
                return
        for some in begun.marked:
            self._read(some if isinstance(some, bytes) else some.lines())

    def _block(self, lines: bytes, count: int) -> bool:
        """Take whole lines if all of them are plain."""
        rows = None if self._plain is None else self._plain.rows(lines, count)
        return rows is not None and self._add(rows, count)

    def _record(self, record: Record) -> None:
        """Read a record field by field, and say of each what is wrong with it."""
        header = self.header
        if header is None or is_header(record):
            self._begin(parse_header(record, self._assembler.separator))
            return
        flaw = flaw_of(record, header, is_last=self._is_last)
        if flaw:
            self.problems.add(record.line, "", "", flaw)
            self._leave_out({})
            return
        raws = dict(enumerate(record.fields))
        values: dict[str, object] = {}
        counted = [instant.naive for instant in self._instants]
        failed = not is_text(b"".join(record.fields))
        if failed:
            self._add_bad_text(record, header)
        for name, part in zip(self._names, self._parts, strict=True):
            try:
                values[name] = part.value(raws)
            except UnreadableError:
                self._add_unreadable(part, record)
                failed = True
                if (amount := part.told(raws)) is not None:
                    values[name] = amount
        if failed:
            for instant, naive in zip(self._instants, counted, strict=True):
                instant.naive = naive
            self._leave_out(values)
            return
        self._add([tuple.__new__(self._shape, values.values())], 1)

    def _leave_out(self, values: Mapping[str, object]) -> None:
        self.problems.rows += 1
        if self._unreadable is not None:
            self._unreadable(values)

    def _add_unreadable(self, part: Part, record: Record) -> None:
        for wanted in part.wanted:
            raw = b"" if wanted.place is None else record.fields[wanted.place]
            try:
                wanted.value(raw)
            except UnreadableError as error:
                self.problems.add(record.line, wanted.name, unquoted(raw).decode("utf-8", "replace"), str(error))

    def _add_bad_text(self, record: Record, header: Header) -> None:
        wanted = {item.name for part in self._parts for item in part.wanted}
        for name, raw in zip(header.names, record.fields, strict=True):
            if name not in wanted and not is_text(raw):
                self.problems.add(record.line, name, raw.decode("utf-8", "replace"), "is not UTF-8")

    def _begin(self, header: Header) -> None:
        if self.header == header:
            return
        self._polars, self._least = None, 0
        self._naive_dates = self.naive_dates
        self._parts = parts_of(self._shape, header, self._texts)
        self._instants = _instants_of(self._parts)
        self.header = header
        self._plain = PlainLines(header, self._parts, self._shape, self._memory)

    def _begin_polars(self, header: Header) -> None:
        """Use Polars from now on if it can be, otherwise never."""
        if not any(part.is_count for part in self._parts):
            self._polars_block = 0
            return
        try:
            from exporter.focus.polars_reader import Summer  # noqa: PLC0415  an extra, and slow to import
        except ImportError:
            self._polars_block = 0
        else:
            self._polars = Summer(header, self._parts, self._shape, AT_ONCE)
            self._least = min(MARKED, self._polars_block)
