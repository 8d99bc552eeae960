"""The streaming reader: bytes in pieces to typed rows, exact, in bounded memory.

Plain lines take the fast way of `exporter.focus.plain`, all others the careful way of `exporter.focus.dialect`, field
by field; both give the same rows in the order of the file.
"""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from exporter.focus.dialect import PIECE, Assembler, Lines, Record, is_text, unquoted
from exporter.focus.errors import TruncatedFileError
from exporter.focus.header import Header, nothing_at_all, parse_header
from exporter.focus.plain import PlainLines
from exporter.focus.problems import Problems
from exporter.focus.shape import Instants, UnreadableError, Wanted, columns_wanted
from exporter.focus.values import Value

_KEPT_PROBLEMS = 100

RowT = TypeVar("RowT", bound=tuple[object, ...])


class Reader(Generic[RowT]):
    """Reads one file; push its bytes with `feed`, say with `finish` that there are no more.

    Args:
        shape: a named tuple that states which columns are wanted, see `exporter.focus.shape`.
        keep: how many problems are kept word by word; all are counted.

    Attributes:
        header: None until the first line is complete.
        rows: how many have been returned.
        problems: what could not be read; a row with an unreadable field is left out.
    """

    def __init__(self, shape: type[RowT], *, keep: int = _KEPT_PROBLEMS) -> None:
        self.header: Header | None = None
        self.rows = 0
        self.problems = Problems(keep)
        self._shape = shape
        self._lines = Lines()
        self._assembler = Assembler()
        self._wanted: list[Wanted] = []
        self._plain: PlainLines[RowT] | None = None

    @property
    def received(self) -> int:
        """Bytes so far."""
        return self._lines.received

    @property
    def naive_dates(self) -> int:
        """Dates without a time zone that have been taken for UTC, in the wanted columns."""
        return sum(it.fields.naive for it in self._wanted if isinstance(it.fields, Instants))

    def feed(self, piece: bytes) -> list[RowT]:
        """Take a piece and return the rows that are complete.

        Raises:
            WrongContentError: this is no Cost and Usage file.
            MissingColumnError: a column that the shape needs is not there.
        """
        rows: list[RowT] = []
        for start in range(0, len(piece), PIECE):
            lines = self._lines.feed(piece[start : start + PIECE])
            rows += self._read(lines, self._lines.number)
        return rows

    def finish(self, promised: int | None = None) -> list[RowT]:
        """Take note that all bytes are there, and return what is left.

        Args:
            promised: how many bytes the sender has announced, if it has.

        Raises:
            TruncatedFileError: the file was cut off.
            WrongContentError: there was no header at all.
        """
        last = self._lines.finish()
        left = [] if last is None else self._read([last], self._lines.number, is_last=True)
        if promised is not None and self.received < promised:
            raise TruncatedFileError(
                f"{self.received:,} of {promised:,} bytes have come: the download was cut off; try it again"
            )
        if self.header is None and not self._assembler.is_open:
            raise nothing_at_all()
        self._assembler.finish()
        return left

    def _read(self, lines: list[bytes], number: int, *, is_last: bool = False) -> list[RowT]:
        rows: list[RowT] = []
        position = 0
        while position < len(lines) and (self._plain is None or self._assembler.is_open):
            rows += self._one_by_one(lines[position : position + 1], number + position, is_last=is_last)
            position += 1
        if self._plain is not None and position < len(lines):
            rows += self._mostly_plain(self._plain, lines[position:], number + position, is_last=is_last)
        self.rows += len(rows)
        return rows

    def _mostly_plain(
        self, plain: PlainLines[RowT], lines: list[bytes], number: int, *, is_last: bool
    ) -> Iterator[RowT]:
        cut = plain.cut(lines)
        judged = plain.judge(lines, cut)
        position = 0
        while position < len(lines):
            end = position + 1
            found = None
            if judged[position] and not self._assembler.is_open:
                end = judged.find(0, position)
                end = len(lines) if end < 0 else end
                found = plain.rows(cut.part(position, end))
            yield from (
                self._one_by_one(lines[position:end], number + position, is_last=is_last) if found is None else found
            )
            position = end

    def _one_by_one(self, lines: list[bytes], number: int, *, is_last: bool) -> Iterator[RowT]:
        for place, line in enumerate(lines):
            record = self._assembler.take(number + place, line)
            row = None if record is None else self._careful(record, is_last=is_last)
            if row is not None:
                yield row

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
        values: list[Value] = []
        failed = not is_text(b"".join(record.fields))
        if failed:
            self._add_bad_text(record, header)
        for wanted in self._wanted:
            raw = b"" if wanted.place is None else record.fields[wanted.place]
            try:
                values.append(wanted.value(raw))
            except UnreadableError as error:
                self.problems.add(record.line, wanted.name, unquoted(raw).decode("utf-8", "replace"), str(error))
                failed = True
        if failed:
            self.problems.rows += 1
            return None
        return self._make(values)

    def _add_bad_text(self, record: Record, header: Header) -> None:
        wanted = {it.name for it in self._wanted}
        for name, raw in zip(header.names, record.fields, strict=True):
            if name not in wanted and not is_text(raw):
                self.problems.add(record.line, name, raw.decode("utf-8", "replace"), "is not UTF-8")

    def _make(self, values: Iterable[Value]) -> RowT:
        return tuple.__new__(self._shape, values)

    def _begin(self, header: Header) -> None:
        self._wanted = columns_wanted(self._shape, header)
        self.header = header
        self._plain = PlainLines(header, self._wanted, self._shape)
