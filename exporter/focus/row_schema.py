"""Row schema: header, version, wanted columns, and how raw fields become values.

A caller states it as a named tuple. `billed_cost: Decimal` is the column BilledCost, which the file must have and every
row must fill; `sku_id: str | None` is SkuId, None where the file or the row has none. `int` is a number in nano-units,
rounded half-even at the ninth place, `Atto` one in atto-units; `Month` is the UTC month of a date. A field that begins
with `x_` is the custom column of that name, whatever its capitals and underscores. `provider_name` falls back to
ServiceProviderName, and the other way round.

A field whose type is a dataclass stands for all columns that its own fields name. Rows in which these have the same
texts share one object, as long as the reader remembers it: made for what occurs in every hour again, so that a caller
has to think about it once. It must not hold dates.

`Month | None` is None for an unreadable date as well, which is then no problem of the row. A field of the type `Texts`
holds the texts of columns that are named when the file is read.

A shape with a `Count` can be added up: one row may stand for several lines that differ in nothing but their numbers,
which are then the sums of theirs. Where the lines were is lost; the row is in the place of the first.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import NamedTuple, NewType, get_args, get_type_hints

from exporter.focus.columns import COLUMNS, is_custom, other_data_set, version_of
from exporter.focus.csv_parser import COMMA, MOST_FIELDS, FieldValues, Record, is_text, unquoted
from exporter.focus.findings import MissingColumnError, TruncatedFileError, WrongContentError
from exporter.focus.values import NULLS, Month, Value, instant, number, scaled_number, told_amount

_LONGEST_QUOTE = 200
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1f]")
_FILE_KINDS: Mapping[bytes, str] = MappingProxyType(
    {
        b"\x1f\x8b": "a gzip file; decompress it first",
        b"PK": "a ZIP or Excel file; save it as CSV first",
        b"BZh": "a bzip2 file; decompress it first",
        b"\xfd7zXZ": "an xz file; decompress it first",
        b"7z\xbc\xaf": "a 7-Zip file; unpack it first",
        b"Obj\x01": "an Avro file; save it as CSV first",
        b"PAR1": "a Parquet file; save it as CSV first",
        b"\xff\xfe\x00\x00": "a UTF-32 file; save it as UTF-8 first",
        b"\xff\xfe": "a UTF-16 file; save it as UTF-8 first",
        b"\xfe\xff": "a UTF-16 file; save it as UTF-8 first",
        b"<": "an HTML or XML page, not a CSV file; was the address of the download right, and the login still valid?",
    }
)
_TAR, _TAR_PLACE = b"ustar", 257


@dataclass(frozen=True, slots=True)
class Header:
    """The columns of a file.

    Attributes:
        names: in order.
        version: the oldest version of FOCUS whose columns they fit best.
        separator: of the fields.
    """

    names: tuple[str, ...]
    version: str
    separator: bytes = COMMA

    @property
    def places(self) -> dict[str, int]:
        """The place of every column by its name."""
        return {name: place for place, name in enumerate(self.names)}


def parse_header(record: Record, separator: bytes = COMMA) -> Header:
    """Read the first record.

    Args:
        record: its raw fields.
        separator: by which they have been found.

    Raises:
        WrongContentError: it is no header of a Cost and Usage file; the message says what it looks like.
    """
    names = _names(record)
    _refuse_other_kinds(separator.join(record.fields))
    if b"\r" in separator.join(raw for raw in record.fields if raw[:1] != b'"').strip():
        raise WrongContentError("its lines end in carriage returns alone; save it with line feeds first")
    if record.malformed:
        raise WrongContentError(f"line 1 is not a CSV header: {record.malformed}")
    other = other_data_set(names)
    if other is not None:
        raise WrongContentError(f"this is a FOCUS {other} file; a Cost and Usage file is needed")
    if not any(name in COLUMNS for name in names):
        raise WrongContentError(_no_column_sentence(names))
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise WrongContentError(f"the header names the column {twice[0]!r} more than once")
    return Header(tuple(names), version_of(names), separator)


def separator_note(separator: bytes) -> str:
    """Return what a report says of a file whose fields are separated by something other than a comma."""
    return f"fields are separated by {separator.decode()!r}"


def is_header(record: Record) -> bool:
    """Return whether a record names columns only, as where one file has been appended to another."""
    first = unquoted(record.fields[0]).decode("utf-8", "replace").strip() if record.fields else ""
    if first not in COLUMNS and not is_custom(first):
        return False
    names = _names(record)
    return sum(name in COLUMNS for name in names) > 1 and all(name in COLUMNS or is_custom(name) for name in names)


def flaw_of(record: Record, header: Header, *, is_last: bool) -> str:
    """Return what is wrong with a record as a whole; nothing where it has a field for each column.

    Args:
        record: as it was read.
        header: of its file.
        is_last: whether no line feed ends it.

    Raises:
        TruncatedFileError: the file ends inside it.
    """
    found, width = len(record.fields), len(header.names)
    if record.malformed or found == width:
        return record.malformed
    if is_last and found < width:
        raise TruncatedFileError(
            f"the file ends inside line {record.line}, which has {found} of {width} fields: it was cut off; download "
            "it again"
        )
    return f"has {found} fields, the header {width}"


def _names(record: Record) -> list[str]:
    return [unquoted(raw).decode("utf-8", "replace").strip() for raw in record.fields]


def nothing_at_all() -> WrongContentError:
    """Return the error for a file without a first line."""
    return WrongContentError("the file is empty: there is not even a header; was the download complete?")


def _refuse_other_kinds(line: bytes) -> None:
    start = line.lstrip()
    for magic, what in _FILE_KINDS.items():
        if start.startswith(magic):
            raise WrongContentError(f"this is {what}")
    if line[_TAR_PLACE:].startswith(_TAR):
        raise WrongContentError("this is a tar archive; unpack it first")
    if _BINARY.search(line) or not is_text(line):
        raise WrongContentError("this is a binary file, or text that is not UTF-8, and no CSV file")
    if start[:1] in {b"{", b"["}:
        message = _message_of(start)
        raise WrongContentError(f"this is JSON, not CSV{f'; it says: {message}' if message else ''}")


def _message_of(text: bytes) -> str:
    """Return what a JSON error answer of fal says, whichever of its hosts gave it."""
    try:
        found: object = json.loads(text)
    except ValueError:
        return ""
    if isinstance(found, dict):
        error = found.get("error", found)
        for value in (error.get("message"), error.get("detail")) if isinstance(error, dict) else ():
            if isinstance(value, str):
                return value[:_LONGEST_QUOTE]
    return ""


def _no_column_sentence(names: Sequence[str]) -> str:
    folded = {name.lower(): name for name in COLUMNS}
    for name in names:
        if name.lower() in folded:
            return f"the header writes {name!r} for {folded[name.lower()]!r}; FOCUS column names are case-sensitive"
    return f"the header has no column of FOCUS; it begins with {names[0][:_LONGEST_QUOTE]!r}"


_LONGEST_PLAIN = 36
_NANO_PLACES, _ATTO_PLACES = 9, 18
IS_NULL = "is empty, and must not be"
_STAND_INS: Mapping[str, str] = MappingProxyType(
    {
        "providername": "serviceprovidername",
        "serviceprovidername": "providername",
        "publishername": "hostprovidername",
        "hostprovidername": "publishername",
    }
)
_KNOWN = MappingProxyType({name.lower(): name for name in COLUMNS})

Count = NewType("Count", int)
"""Number of lines of the file that a row stands for."""


Atto = NewType("Atto", int)
"""Number in atto-units, a billionth of nano-units, rounded half-even at the 18th place."""


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts of some columns; rows in which they are the same share one, as long as the reader remembers it."""

    values: tuple[str | None, ...]


def _texts(values: Iterable[Value]) -> Texts:
    return Texts(tuple(value if isinstance(value, str) else None for value in values))


class UnreadableError(Exception):
    """A field does not hold what its column is for; the message is to be read after the value."""


class Fields(FieldValues[Value]):
    """Values by raw field."""

    def __init__(self, read: Callable[[str], Value], *, nullable: bool) -> None:
        super().__init__()
        self._read = read
        self._nullable = nullable

    def value(self, raw: bytes) -> Value:
        """Read a field.

        Raises:
            UnreadableError: it is null though it must not be, or no value of its column.
        """
        try:
            text = unquoted(raw).decode()
        except UnicodeDecodeError:
            raise UnreadableError("is not UTF-8") from None
        if text in NULLS:
            if self._nullable:
                return None
            raise UnreadableError(IS_NULL)
        try:
            return self._read(text)
        except ValueError as error:
            raise UnreadableError(str(error)) from None


class Numbers(Fields):
    """Numbers by raw field, null where it is one; most texts are new, so that reading one has to be quick too."""

    def __init__(self) -> None:
        super().__init__(number, nullable=True)

    def value(self, raw: bytes) -> Value:
        """Read a field; what is plainly a number needs no further looks."""
        whole, _, part = raw.partition(b".")
        if whole.isdigit() and part.isdigit() and len(raw) <= _LONGEST_PLAIN:
            return Decimal(raw.decode())
        return super().value(raw)


class ScaledNumbers(Fields):
    """Numbers in units of a decimal place by raw field, null where it is one; as quick as `Numbers`."""

    def __init__(self, places: int) -> None:
        super().__init__(partial(scaled_number, places=places), nullable=True)
        self.places = places

    def value(self, raw: bytes) -> Value:
        """Read a field; what is plainly a number needs no further looks."""
        whole, _, part = raw.partition(b".")
        if whole.isdigit() and part.isdigit() and len(part) <= self.places and len(whole) <= _LONGEST_PLAIN:
            return int(whole + part.ljust(self.places, b"0"))
        return super().value(raw)


class Instants(Fields):
    """Instants, or their months, by raw field; those that do not tell their zone are counted each time they occur.

    A month that may be null is null where a date cannot be read.
    """

    def __init__(self, *, nullable: bool, months: bool = False) -> None:
        read = self._instant if not months else self._month_if_any if nullable else self._month
        super().__init__(read, nullable=nullable)
        self.are_months = months
        self.naive = 0
        self._naive: dict[bytes, Value] = {}
        self._zoned = True

    def __missing__(self, raw: bytes) -> Value:
        """Read a field that is not remembered, or that has to be counted."""
        known = self._naive.get(raw)
        if known is None:
            self._zoned = True
            known = super().__missing__(raw)
            if self._zoned:
                return known
            self.pop(raw, None)
            if len(self._naive) >= MOST_FIELDS:
                self._naive.clear()
            self._naive[raw] = known
        self.naive += 1
        return known

    def of_lines(self, raw: bytes, lines: int) -> Value:
        """Read the same field of so many lines, and count them.

        Raises:
            UnreadableError: as for `value`.
        """
        self._zoned = True
        value = self.value(raw)
        if not self._zoned:
            self.naive += lines
        return value

    def _instant(self, text: str) -> datetime:
        moment, self._zoned = instant(text)
        return moment

    def _month(self, text: str) -> Month:
        moment = self._instant(text)
        return Month(moment.year, moment.month)

    def _month_if_any(self, text: str) -> Month | None:
        try:
            return self._month(text)
        except ValueError:
            return None


class Wanted(NamedTuple):
    """One column that a shape asks for.

    Attributes:
        place: in the row; None where the file lacks it.
        is_needed: whether a null is an error that `fields`, which other columns share, does not see.
    """

    name: str
    place: int | None
    fields: Fields
    is_needed: bool = False

    def value(self, raw: bytes) -> Value:
        """Read a raw field.

        Raises:
            UnreadableError: it is null though it must not be, or no value of its column.
        """
        value = self.fields[raw]
        if value is None and self.is_needed:
            raise UnreadableError(IS_NULL)
        return value


class Part(NamedTuple):
    """One field of a shape.

    Attributes:
        wanted: its column, or its columns; none for a `Count`.
        made: what several of them become together.
    """

    wanted: tuple[Wanted, ...]
    made: Callable[[Iterable[Value]], object] | None = None

    @property
    def is_count(self) -> bool:
        """True for the field that counts the lines a row stands for."""
        return not self.wanted

    @property
    def varies(self) -> bool:
        """True if its text can be expected to differ from row to row."""
        if self.made is not None or self.is_count:
            return False
        only = self.wanted[0]
        return only.place is not None and type(only.fields) is not Fields

    def value(self, raws: Mapping[int, bytes]) -> object:
        """Read it from raw fields by their place.

        Raises:
            UnreadableError: a field is null though it must not be, or no value of its column.
        """
        if self.is_count:
            return Count(1)
        values = [item.value(b"" if item.place is None else raws[item.place]) for item in self.wanted]
        return values[0] if self.made is None else self.made(values)

    def told(self, raws: Mapping[int, bytes]) -> Value:
        """Return the amount that a text tells a person where it is no number; None for anything else."""
        place = self.wanted[0].place if self.wanted and isinstance(self.wanted[0].fields, Numbers) else None
        return None if place is None else told_amount(unquoted(raws[place]).decode("utf-8", "replace"))


def parts_of(shape: type[tuple[object, ...]], header: Header, texts: Sequence[str] = ()) -> list[Part]:
    """Return what a named tuple asks for, in its order.

    Args:
        shape: the named tuple.
        header: of the file.
        texts: the columns of its `Texts`; one that the file lacks is null.

    Raises:
        MissingColumnError: the header lacks a column that must be there.
    """
    columns = _Columns(header, texts)
    hints: dict[str, object] = get_type_hints(shape)
    return [columns.part(field, hint) for field, hint in hints.items()]


class _Columns:
    """The columns of a file as shapes name them."""

    def __init__(self, header: Header, texts: Sequence[str]) -> None:
        self._header = header
        self._places = header.places
        self._texts = texts
        self._names = {_folded(name): name for name in header.names if name.startswith("x_")}
        self._names |= {name.lower(): name for name in header.names if name in COLUMNS}
        self._numbers = Numbers()
        self._scaled = {int: ScaledNumbers(_NANO_PLACES), Atto: ScaledNumbers(_ATTO_PLACES)}

    def part(self, field: str, hint: object) -> Part:
        if hint is Count:
            return Part(())
        if hint is Texts:
            return Part(tuple(self._wanted(name, str | None, is_named=True) for name in self._texts), _texts)
        if isinstance(hint, type) and is_dataclass(hint):
            return Part(tuple(self._wanted(name, item) for name, item in get_type_hints(hint).items()), _maker(hint))
        return Part((self._wanted(field, hint),))

    def _wanted(self, field: str, hint: object, *, is_named: bool = False) -> Wanted:
        """Return a column.

        Args:
            field: of a shape, or the name of the column itself.
            hint: its type.
            is_named: whether a person names the column. A field of ours is no name of a column of FOCUS: a file that
                has a column `billed_cost` of its own does not mean BilledCost by it.
        """
        kinds = get_args(hint) or (hint,)
        nullable = type(None) in kinds
        folded = _folded(field)
        name = field if field in self._places and (is_named or is_custom(field)) else None
        name = name or self._names.get(folded) or self._names.get(_STAND_INS.get(folded, ""))
        if name is None and not nullable:
            raise MissingColumnError(
                f"the file has no column {_KNOWN.get(folded, field)}; "
                f"it is a {self._header.version} file with {len(self._header.names)} columns"
            )
        place = None if name is None else self._places[name]
        numbers = (
            self._numbers
            if Decimal in kinds
            else next((self._scaled[kind] for kind in kinds if kind in self._scaled), None)
        )
        if numbers is not None:
            return Wanted(name or field, place, numbers, is_needed=not nullable)
        if datetime in kinds or Month in kinds:
            return Wanted(name or field, place, Instants(nullable=nullable, months=Month in kinds))
        return Wanted(name or field, place, Fields(str, nullable=nullable))


def _maker(made: type) -> Callable[[Iterable[Value]], object]:
    return lambda values: made(*values)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
