"""CSV parser: bytes in pieces become lines, lines become records of raw fields.

UTF-8 with or without a byte order mark, LF or CRLF, quoted fields that may hold commas, doubled quotes and line ends.
A quotation mark inside an unquoted field is a character like any other. Nothing is decoded here; a raw field keeps its
quotes, because an empty string and FOCUS's null differ in nothing else. Fields are separated by commas, or by
semicolons, tabs or vertical bars where the first line names columns of FOCUS that way.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TypeVar

from exporter.focus.columns import COLUMNS
from exporter.focus.findings import TruncatedFileError, WrongContentError

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


def refuse_blanks(lines: bytes, count: int, number: int) -> None:
    """Refuse so many whole lines, the first of which has this number, if most of them are blank.

    Raises:
        WrongContentError: they are.
    """
    if count >= _MOST_BLANK and any(blanks in lines for blanks in _BLANKS):
        raise WrongContentError(
            f"{_MOST_BLANK:,} blank lines follow one another after line {number}; this is not a FOCUS CSV file"
        )


def pieces(lines: bytes) -> Iterator[bytes]:
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


class Lines:
    """Cuts pieces at line feeds, and holds the lines until they are taken.

    Attributes:
        number: of the first line that is held, counted from 1; whoever takes lines counts them, and adds it.
        size: bytes of the lines that are held.
        received: bytes so far.
    """

    def __init__(self) -> None:
        self.number = 1
        self.size = 0
        self.received = 0
        self._held: list[bytes | memoryview] = []
        self._rest = b""

    def feed(self, piece: bytes) -> None:
        """Hold the lines that are complete with a piece.

        Raises:
            WrongContentError: a line is too long to be one.
        """
        is_start = self.received < len(BYTE_ORDER_MARK)
        self.received += len(piece)
        if is_start:
            piece, self._rest = self._rest + piece, b""
            if self.received >= len(BYTE_ORDER_MARK):
                piece = piece.removeprefix(BYTE_ORDER_MARK)
        cut = piece.rfind(b"\n") + 1
        if cut:
            # Views: what is held is copied once, when it is taken.
            self._held += (self._rest, memoryview(piece)[:cut])
            self.size += len(self._rest) + cut
            self._rest = piece[cut:]
        else:
            self._rest += piece
        if len(self._rest) > LONGEST_RECORD:
            number = self.number + b"".join(self._held).count(b"\n")
            raise WrongContentError(
                f"line {number} goes on for more than {LONGEST_RECORD:,} bytes; this is not a FOCUS CSV file"
            )

    def take(self) -> bytes:
        """Return the lines that are held, each with its line feed; they are held no more."""
        held, self._held, self.size = self._held, [], 0
        return b"".join(held)

    def finish(self) -> bytes:
        """Return the last line, as if a line feed ended it; nothing where one does."""
        rest, self._rest = self._rest, b""
        return rest + b"\n" if rest else b""


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

    def __init__(self) -> None:
        self.separator = b""
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


class Records:
    """Pieces to records, for whoever wants every field as it stands.

    Attributes:
        number: of the next line that is read; whoever has read lines elsewhere adds them.
    """

    def __init__(self) -> None:
        self.number = 1
        self._lines = Lines()
        self._assembler = Assembler()

    @property
    def separator(self) -> bytes:
        """Separator of the fields."""
        return self._assembler.separator or COMMA

    def feed(self, piece: bytes) -> list[Record]:
        """Take a piece and return the records that are complete.

        Raises:
            WrongContentError: a line is too long to be one.
        """
        return self.read(self.lines(piece))

    def lines(self, piece: bytes, least: int = 0) -> bytes:
        """Take a piece and return the lines that are complete, each of which is to be read, or counted as read.

        Args:
            piece: of the file.
            least: bytes of lines below which they are held, and none returned.

        Raises:
            WrongContentError: a line is too long to be one.
        """
        self._lines.feed(piece)
        return b"" if self._lines.size < least else self.held()

    def held(self) -> bytes:
        """Return the complete lines that are held; each is to be read, or counted as read."""
        taken = self._lines.take()
        self._lines.number += taken.count(b"\n")
        return taken

    def read(self, lines: bytes) -> list[Record]:
        """Return the records that whole lines complete.

        Raises:
            WrongContentError: most of them are blank.
        """
        cut = lines.split(b"\n")[:-1]
        refuse_blanks(lines, len(cut), self.number)
        found = [self._assembler.take(number, line) for number, line in enumerate(cut, self.number)]
        self.number += len(cut)
        return [record for record in found if record is not None]

    @property
    def is_between(self) -> bool:
        """True if the lines that have been read are whole records."""
        return not self._assembler.is_open

    def finish(self) -> list[Record]:
        """Return the last record where no line feed ends it.

        Raises:
            TruncatedFileError: it is not complete.
        """
        left = self.read(self._lines.finish())
        self._assembler.finish()
        return left


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
