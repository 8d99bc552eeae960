"""The streaming reader: bytes in pieces to typed rows, exact, in bounded memory.

Blocks of plain lines take the fast way of `exporter.focus.plain`, all other lines the careful way of
`exporter.focus.dialect`, field by field; both give the same rows in the order of the file. Shapes that can be added up
take the faster way of `exporter.focus.polars_lines` through large files, where Polars is installed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from exporter.focus.dialect import PIECE, Assembler, Lines, Record, is_text, unquoted
from exporter.focus.errors import TruncatedFileError
from exporter.focus.header import Header, nothing_at_all, parse_header
from exporter.focus.plain import Memory, PlainLines
from exporter.focus.problems import Problems
from exporter.focus.shape import Instants, Part, UnreadableError, parts_of

if TYPE_CHECKING:
    from exporter.focus.polars_lines import Cut, PolarsLines

POLARS_BLOCK = 4 << 20
"""Bytes that Polars is given at once; a shorter file is read before Polars could be imported."""

_KEPT_PROBLEMS = 100

_PARTS = 8
"""Into how many parts a block is cut of which a line needs care, and these again: the lines around it do not."""

RowT = TypeVar("RowT", bound=tuple[object, ...])


class _Begun(NamedTuple):
    """Texts of whole lines; `cut` is None where Polars has not been given them, or they need care.

    Attributes:
        counts: how many lines each text has.
        number: of the first line.
    """

    texts: Sequence[bytes]
    counts: Sequence[int]
    number: int
    cut: "Cut | None"


class Reader(Generic[RowT]):
    """Reads one file; push its bytes with `feed`, say with `finish` that there are no more.

    Args:
        shape: a named tuple that states which columns are wanted, see `exporter.focus.shape`.
        keep: how many problems are kept word by word; all are counted.
        polars_block: so many bytes are given to Polars at once, where it is installed and the shape has a `Count`; the
            first so many are read without it. 0: it is never used.
        memory: of the files before this one, where several are read one after the other.

    Attributes:
        header: None until the first line is complete.
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
    ) -> None:
        self.header: Header | None = None
        self.rows = 0
        self.problems = Problems(keep)
        self._shape = shape
        self._memory = Memory() if memory is None else memory
        self._lines = Lines()
        self._assembler = Assembler()
        self._parts: list[Part] = []
        self._plain: PlainLines[RowT] | None = None
        self._polars: PolarsLines[RowT] | None = None
        self._polars_block = polars_block
        self._begun: _Begun | None = None

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._lines.received

    @property
    def naive_dates(self) -> int:
        """Dates without a time zone that have been taken for UTC, in the wanted columns."""
        wanted = (it for part in self._parts for it in part.wanted)
        return sum(it.fields.naive for it in wanted if isinstance(it.fields, Instants))

    def feed(self, piece: bytes) -> list[RowT]:
        """Take a piece and return rows that are complete; with Polars, not before two blocks of them are.

        Raises:
            WrongContentError: this is no Cost and Usage file.
            MissingColumnError: a column that the shape needs is not there.
        """
        rows: list[RowT] = []
        for start in range(0, len(piece), PIECE):
            self._lines.feed(piece[start : start + PIECE])
            if self._polars is None or self._lines.size >= self._polars_block:
                rows += self._taken()
            if self._polars is None and self.header is not None and 0 < self._polars_block <= self.received:
                self._begin_polars(self.header)
        return rows

    def finish(self, promised: int | None = None) -> list[RowT]:
        """Take note that all bytes are there, and return what is left.

        Args:
            promised: how many bytes the sender has announced, if it has.

        Raises:
            TruncatedFileError: the file was cut off.
            WrongContentError: there was no header at all.
        """
        left = [*self._taken(), *self._waited_for()]
        last = self._lines.finish()
        if last:
            found = self._read(last, self._lines.number, 1, is_last=True)
            self.rows += len(found)
            left += found
        if promised is not None and self.received < promised:
            raise TruncatedFileError(
                f"{self.received:,} of {promised:,} bytes have come: the download was cut off; try it again"
            )
        if self.header is None and not self._assembler.is_open:
            raise nothing_at_all()
        self._assembler.finish()
        return left

    def _taken(self) -> list[RowT]:
        """Read the lines that are complete; where Polars begins with them, those it began with before."""
        texts, number = self._lines.take(), self._lines.number
        cut = self._polars.begin(texts) if self._polars is not None and texts else None
        counts = [text.count(b"\n") for text in texts] if cut is None else cut.counts
        self._lines.number += sum(counts)
        begun = _Begun(texts, counts, number, cut)
        if self._polars is None:
            return self._read_all(begun)
        rows = self._waited_for()
        self._begun = begun
        return rows

    def _waited_for(self) -> list[RowT]:
        """Read the lines that Polars has begun with."""
        begun, self._begun = self._begun, None
        if begun is None:
            return []
        if self._polars is not None and begun.cut is not None and not self._assembler.is_open:
            rows = self._polars.rows(begun.cut)
            if rows is not None:
                self.rows += sum(begun.counts)
                return rows
        return self._read_all(begun)

    def _read_all(self, begun: _Begun) -> list[RowT]:
        """Read whole lines without Polars."""
        rows: list[RowT] = []
        number = begun.number
        for text, count in zip(begun.texts, begun.counts, strict=True):
            rows += self._read(text, number, count)
            number += count
        self.rows += len(rows)
        return rows

    def _read(self, block: bytes, number: int, count: int, *, is_last: bool = False) -> list[RowT]:
        """Read so many whole lines, of which the first has this number."""
        rows: list[RowT] = []
        while count and (self._plain is None or self._assembler.is_open):
            line, _, block = block.partition(b"\n")
            rows += self._line(line, number, is_last=is_last)
            number, count = number + 1, count - 1
        if not count or self._plain is None:
            return rows
        found = self._plain.rows(block, count)
        if found is not None:
            return rows + found if rows else found
        lines = block.split(b"\n")[:-1]
        if count == 1:
            return rows + self._line(lines[0], number, is_last=is_last)
        step = -(-count // _PARTS)
        for start in range(0, count, step):
            part = lines[start : start + step]
            rows += self._read(b"\n".join([*part, b""]), number + start, len(part), is_last=is_last)
        return rows

    def _line(self, line: bytes, number: int, *, is_last: bool) -> list[RowT]:
        record = self._assembler.take(number, line)
        row = None if record is None else self._careful(record, is_last=is_last)
        return [] if row is None else [row]

    def _careful(self, record: Record, *, is_last: bool) -> RowT | None:
        """Read a record field by field, and say of each what is wrong with it."""
        header = self.header
        if header is None:
            self._begin(parse_header(record))
            return None
        if record.malformed or len(record.fields) != len(header.names):
            reason = record.malformed or f"has {len(record.fields)} fields, the header {len(header.names)}"
            if is_last and not record.malformed and len(record.fields) < len(header.names):
                raise TruncatedFileError(
                    f"the file ends inside line {record.line}, which {reason}: it was cut off; download it again"
                )
            self.problems.add(record.line, "", "", reason)
            self.problems.rows += 1
            return None
        raws = dict(enumerate(record.fields))
        values: list[object] = []
        failed = not is_text(b"".join(record.fields))
        if failed:
            self._add_bad_text(record, header)
        for part in self._parts:
            try:
                values.append(part.value(raws))
            except UnreadableError:
                self._add_unreadable(part, record)
                failed = True
        if failed:
            self.problems.rows += 1
            return None
        return tuple.__new__(self._shape, values)

    def _add_unreadable(self, part: Part, record: Record) -> None:
        for wanted in part.wanted:
            raw = b"" if wanted.place is None else record.fields[wanted.place]
            try:
                wanted.value(raw)
            except UnreadableError as error:
                self.problems.add(record.line, wanted.name, unquoted(raw).decode("utf-8", "replace"), str(error))

    def _add_bad_text(self, record: Record, header: Header) -> None:
        wanted = {it.name for part in self._parts for it in part.wanted}
        for name, raw in zip(header.names, record.fields, strict=True):
            if name not in wanted and not is_text(raw):
                self.problems.add(record.line, name, raw.decode("utf-8", "replace"), "is not UTF-8")

    def _begin(self, header: Header) -> None:
        self._parts = parts_of(self._shape, header)
        self.header = header
        self._plain = PlainLines(header, self._parts, self._shape, self._memory)

    def _begin_polars(self, header: Header) -> None:
        """Use Polars from now on if it can be, otherwise never."""
        if not any(part.is_count for part in self._parts):
            self._polars_block = 0
            return
        try:
            from exporter.focus.polars_lines import PolarsLines  # noqa: PLC0415  an extra, and slow to import
        except ImportError:
            self._polars_block = 0
        else:
            self._polars = PolarsLines(header, self._parts, self._shape)
