"""CSV parser: bytes in pieces become lines, lines become blocks, or records of raw fields.

There is one loop for all who read such files: whole lines come in blocks, to be taken together as fast as one can;
where a line of a block needs care, its parts come again, and in the end a record by itself.

UTF-8 with or without a byte order mark, LF or CRLF, quoted fields that may hold commas, doubled quotes and line ends.
A quotation mark inside an unquoted field is a character like any other. Nothing is decoded here; a raw field keeps its
quotes, because an empty string and FOCUS's null differ in nothing else. Fields are separated by commas, or by
semicolons, tabs or vertical bars where the first line names columns of FOCUS that way.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

from exporter.focus.columns import COLUMNS
from exporter.focus.findings import TruncatedFileError, WrongContentError

if TYPE_CHECKING:
    from exporter.focus.polars_reader import Table

_MOST = 16 << 20
"""Bytes, or characters, of texts that are remembered."""

_LONGEST = 4_000

TextT = TypeVar("TextT", bytes, str)
ValueT = TypeVar("ValueT")


class Remembered(dict[tuple[TextT, ...], tuple[object, ...]]):
    """Readings by the texts from which they come; it forgets all of them when it is full."""

    def __init__(self) -> None:
        super().__init__()
        self._size = 0

    def remember(self, texts: tuple[TextT, ...], reading: tuple[object, ...]) -> None:
        """Keep a reading, unless its texts are long."""
        size = sum(map(len, texts))
        if size > _LONGEST:
            return
        self._size += size
        if self._size > _MOST:
            self.clear()
            self._size = size
        self[texts] = reading


MOST_FIELDS = 20_000
"""Fields of a column of which the values are remembered."""

_LONGEST_FIELD = 500


class FieldValues(dict[bytes, ValueT], ABC):
    """Values of a column by raw field, each read once as long as it is remembered."""

    def __missing__(self, raw: bytes) -> ValueT:
        """Read a field that is not remembered."""
        value = self.value(raw)
        if len(raw) <= _LONGEST_FIELD:
            if len(self) >= MOST_FIELDS:
                self.clear()
            self[raw] = value
        return value

    @abstractmethod
    def value(self, raw: bytes) -> ValueT:
        """Read a field."""


LONGEST_RECORD = 1 << 20
"""Bytes of the longest record that is read; what is longer is taken for a quotation mark that never ends."""

_MOST_BLANK = 20_000
_BLANKS = b"\n" * _MOST_BLANK, b"\r\n" * _MOST_BLANK
"""So many blank lines that no file of charges has them; gigabytes of them would be read for hours."""

PIECE = 1 << 16
"""Bytes of a piece of work: what its rows take still fits the cache of a processor, which halves the time."""

_PARTS = 8
"""Into how many parts a block is cut of which a line needs care, and these again: the lines around it do not."""

READ = 1 << 18
"""Bytes that are read from a file together."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_QUOTED = re.compile(rb'"[^"]*+(?:""[^"]*+)*+"')
_QUOTE = ord('"')


COMMA = b","
SEPARATORS = (COMMA, b";", b"\t", b"|")
"""Characters that may separate fields."""


def separator_of(line: bytes) -> bytes:
    """Return what separates the fields of a header: that by which most columns of FOCUS are found, a comma in doubt."""

    def known(separator: bytes) -> int:
        return sum(raw.strip(b' "\r').decode("utf-8", "replace") in COLUMNS for raw in line.split(separator))

    return max(SEPARATORS, key=known)


class MalformedError(Exception):
    """A record breaks the rules of CSV; the message says how."""


class OpenRecord:
    """A record while its lines come in.

    Attributes:
        line: the number of its first line.
        lines: how many it has taken.
        fields: its raw fields, once complete.
    """

    def __init__(self, line: int, separator: bytes) -> None:
        self.line = line
        self.lines = 0
        self._separator = separator
        self.fields: list[bytes] = []
        self._pending: list[bytes] = []
        self._size = 0

    def take(self, line: bytes) -> bool:
        """Take the next line and tell whether the record is complete with it.

        Raises:
            MalformedError: it never will be.
        """
        self.lines += 1
        if not self._pending:
            return self._scan(line)
        self._size += len(line) + 1
        if self._size > LONGEST_RECORD:
            raise MalformedError(f"a quoted field goes on for more than {LONGEST_RECORD:,} bytes")
        self._pending.append(line)
        # Doubled quotes leave a field open: only an odd number of them can close it.
        if line.count(b'"') % 2 == 0:
            return False
        text, self._pending = b"\n".join(self._pending), []
        return self._scan(text)

    def _scan(self, text: bytes) -> bool:
        position, fields, end = 0, self.fields, len(text)
        while True:
            if position < end and text[position] == _QUOTE:
                quoted = _QUOTED.match(text, position)
                if quoted is None:
                    self._pending = [text[position:]]
                    self._size = end - position
                    return False
                fields.append(quoted[0])
                position = quoted.end()
                if position == end or text[position:] == b"\r":
                    return True
                if text[position] != ord(self._separator):
                    raise MalformedError("text follows the closing quotation mark of a field")
            else:
                # Up to the next field that begins with a quotation mark, no field has a separator in it.
                following = text.find(self._separator + b'"', position)
                if following < 0:
                    *others, last = text[position:].split(self._separator)
                    fields += [*others, last.removesuffix(b"\r")]
                    return True
                fields += text[position:following].split(self._separator)
                position = following
            position += 1


class Record:
    """One record: the number of its first line, its raw fields, or what is wrong with it."""

    __slots__ = ("fields", "line", "malformed")

    def __init__(self, line: int, fields: list[bytes], malformed: str = "") -> None:
        self.line = line
        self.fields = fields
        self.malformed = malformed


class Assembler:
    """Puts lines together to records.

    Attributes:
        separator: of the fields; the first line that is not blank decides it.
    """

    def __init__(self, separator: bytes = b"") -> None:
        self.separator = separator
        self._open: OpenRecord | None = None

    @property
    def is_open(self) -> bool:
        """True while the latest line has left a quoted field open."""
        return self._open is not None

    def take(self, number: int, line: bytes) -> Record | None:
        """Take the line with this number; return the record that it completes, if it does. Blank lines are none."""
        record = self._open
        if record is None:
            if not self.separator and line.strip():
                self.separator = separator_of(line)
            if b'"' not in line:
                line = line.removesuffix(b"\r")
                return Record(number, line.split(self.separator or COMMA)) if line else None
            record = OpenRecord(number, self.separator)
        self._open = None
        try:
            if record.take(line):
                return Record(record.line, record.fields)
        except MalformedError as error:
            return Record(record.line, [], str(error))
        self._open = record
        return None

    def finish(self) -> None:
        """Take note that there are no more lines.

        Raises:
            TruncatedFileError: a quoted field is still open.
        """
        if self._open is not None:
            raise TruncatedFileError(
                f"the file ends inside the quoted field that line {self._open.line} opens: it was cut off; "
                "download it again"
            )


def _pieces(lines: bytes) -> Iterator[bytes]:
    """Cut whole lines into blocks of about a piece's length; a longer line is a block of its own."""
    start = 0
    while start < len(lines):
        if len(lines) - start < PIECE + PIECE // 2:
            # No block of next to nothing is left at the end.
            yield lines[start:]
            return
        end = lines.rfind(b"\n", start, start + PIECE) + 1 or lines.find(b"\n", start) + 1
        yield lines[start:end]
        start = end


class Blocks(ABC):
    """Pieces to whole lines, these to blocks, and where these need care to records, in order.

    Whoever derives from it says what becomes of a record, and may take lines, blocks and tables together.

    Attributes:
        received: bytes so far.
    """

    def __init__(self) -> None:
        self._begin_file()

    def _begin_file(self) -> None:
        """Forget the file before this one."""
        self.received = 0
        self._number = 1
        """Number of the next line that is read; whoever reads lines elsewhere adds them."""
        self._least = 0
        """Bytes of lines that are held until they are so many."""
        self._assembler = Assembler()
        self._held: list[bytes | memoryview] = []
        self._size = 0
        self._rest = b""
        self._is_last = False

    @abstractmethod
    def _record(self, record: Record) -> None:
        """Take one record, whatever it is; `_is_last` says that no line feed ends it, as in a file that was cut off."""

    def _block(self, lines: bytes, count: int) -> bool:
        """Take so many whole lines together, none of which belongs to a record before them.

        Returns:
            False, having done nothing, if one of them needs care; they come again as fewer, or as records.
        """
        del lines, count
        return False

    def _table(self, table: "Table") -> bool:
        """Take rows of a table together; return False, having done nothing, if they are to be read as lines."""
        del table
        return False

    def _lines(self, lines: bytes) -> None:
        """Take whole lines, as many as have come: read them now, or at the latest in `_settle`."""
        self._read(lines)

    def _settle(self) -> None:  # noqa: B027  most read all at once
        """Read the lines that have been taken."""

    def _feed(self, piece: "bytes | Table") -> None:
        """Take a piece, and do with it what can be done.

        Args:
            piece: bytes of the file, or rows after a header that came as bytes, each of which is a line.

        Raises:
            WrongContentError: a line is too long to be one, or most of them are blank.
        """
        if not isinstance(piece, bytes):
            self._release()
            self._settle()
            after = self._number + piece.frame.height
            if not self._table(piece):
                self._read(piece.csv())
            self._number = after
            return
        start = 0
        while start < len(piece):
            step = READ if self._least else PIECE
            self._hold(piece[start : start + step])
            start += step
            if self._size >= self._least:
                self._release()

    def _hold(self, piece: bytes) -> None:
        is_start = self.received < len(BYTE_ORDER_MARK)
        self.received += len(piece)
        if is_start:
            piece, self._rest = self._rest + piece, b""
            if self.received >= len(BYTE_ORDER_MARK):
                piece = piece.removeprefix(BYTE_ORDER_MARK)
        cut = piece.rfind(b"\n") + 1
        if cut:
            # Views: what is held is copied once, when it is released.
            self._held += (self._rest, memoryview(piece)[:cut])
            self._size += len(self._rest) + cut
            self._rest = piece[cut:]
        else:
            self._rest += piece
        if len(self._rest) > LONGEST_RECORD:
            self._release()
            self._settle()
            raise WrongContentError(
                f"line {self._number} goes on for more than {LONGEST_RECORD:,} bytes; this is not a FOCUS CSV file"
            )

    def _release(self) -> None:
        held, self._held, self._size = self._held, [], 0
        if held:
            self._lines(b"".join(held))

    def _read(self, lines: bytes) -> None:
        """Read whole lines.

        Raises:
            WrongContentError: most of them are blank.
        """
        for block in _pieces(lines):
            count = block.count(b"\n")
            if count >= _MOST_BLANK and any(blanks in block for blanks in _BLANKS):
                raise WrongContentError(
                    f"{_MOST_BLANK:,} blank lines follow one another after line {self._number}; this is not a FOCUS "
                    "CSV file"
                )
            self._read_block(block, count)

    def _read_block(self, block: bytes, count: int) -> None:
        if not self._assembler.is_open and self._block(block, count):
            self._number += count
            return
        lines = block.split(b"\n")[:-1]
        # A record that is open takes its lines, and those after it are blocks again.
        done = 0
        while done < count and (count == 1 or self._assembler.is_open):
            record = self._assembler.take(self._number, lines[done])
            self._number += 1
            done += 1
            if record is not None:
                self._record(record)
        step = -(-count // _PARTS)
        for start in range(done, count, step):
            part = lines[start : start + step]
            self._read_block(b"\n".join([*part, b""]), len(part))

    def _end(self, promised: int | None = None) -> None:
        """Take note that there are no more pieces, and read what is left.

        Args:
            promised: how many bytes the sender has announced, if it has.

        Raises:
            TruncatedFileError: the file was cut off.
        """
        self._release()
        self._settle()
        self._is_last = True
        if self._rest:
            self._read(self._rest + b"\n")
        if promised is not None and self.received < promised:
            raise TruncatedFileError(
                f"{self.received:,} of {promised:,} bytes have come: the download was cut off; try it again"
            )
        self._assembler.finish()


class Records(Blocks):
    """Pieces to records, for whoever wants every field as it stands."""

    def __init__(self) -> None:
        super().__init__()
        self._found: list[Record] = []

    def feed(self, piece: bytes) -> list[Record]:
        """Take a piece and return the records that are complete.

        Raises:
            WrongContentError: a line is too long to be one, or most of them are blank.
        """
        self._feed(piece)
        return self._taken()

    def finish(self) -> list[Record]:
        """Return the last record where no line feed ends it.

        Raises:
            TruncatedFileError: it is not complete.
        """
        self._end()
        return self._taken()

    def _taken(self) -> list[Record]:
        found, self._found = self._found, []
        return found

    def _record(self, record: Record) -> None:
        self._found.append(record)


def unquoted(raw: bytes) -> bytes:
    """Return what a raw field stands for."""
    return raw[1:-1].replace(b'""', b'"') if raw[:1] == b'"' else raw


def quoted(text: str) -> bytes:
    """Return a raw field that stands for a text."""
    raw = text.encode()
    return b'"' + raw.replace(b'"', b'""') + b'"' if raw[:1] == b'"' else raw


def is_text(raw: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    if raw.isascii():
        return True
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True
