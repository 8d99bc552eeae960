"""Which columns a caller wants, and how their raw fields become values.

A caller states it as a named tuple. `billed_cost: Decimal` is the column BilledCost, which the file must have and every
row must fill; `sku_id: str | None` is SkuId, None where the file or the row has none. A field that begins with `x_` is
the custom column of that name, whatever its capitals and underscores. `provider_name` falls back to
ServiceProviderName, and the other way round.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple, get_args, get_type_hints

from exporter.focus.columns import COLUMNS
from exporter.focus.dialect import unquoted
from exporter.focus.errors import MissingColumnError
from exporter.focus.header import Header
from exporter.focus.values import NULLS, Value, instant, number

_PLAIN_NUMBER = re.compile(rb"-?[0-9]{1,18}(?:\.[0-9]{1,18})?").fullmatch
_MOST_CACHED = 20_000
_LONGEST_CACHED = 2_000
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


class UnreadableError(Exception):
    """A field does not hold what its column is for; the message is to be read after the value."""


class Fields(dict[bytes, Value]):
    """Values by raw field: each text is read once as long as it is remembered."""

    def __init__(self, read: Callable[[str], Value], *, nullable: bool) -> None:
        super().__init__()
        self._read = read
        self._nullable = nullable

    def __missing__(self, raw: bytes) -> Value:
        """Read a field that is not remembered."""
        value = self.value(raw)
        if len(raw) <= _LONGEST_CACHED:
            if len(self) >= _MOST_CACHED:
                self.clear()
            self[raw] = value
        return value

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

    def __missing__(self, raw: bytes) -> Value:
        """Read a field that is not remembered; what is plainly a number needs no further looks."""
        if not _PLAIN_NUMBER(raw):
            return super().__missing__(raw)
        if len(self) >= _MOST_CACHED:
            self.clear()
        value = self[raw] = Decimal(raw.decode())
        return value


class Instants(Fields):
    """Instants by raw field; those that do not tell their time zone are counted each time they occur."""

    def __init__(self, *, nullable: bool) -> None:
        super().__init__(self._instant, nullable=nullable)
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
            if len(self._naive) >= _MOST_CACHED:
                self._naive.clear()
            self._naive[raw] = known
        self.naive += 1
        return known

    def _instant(self, text: str) -> datetime:
        moment, self._zoned = instant(text)
        return moment


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


def columns_wanted(shape: type[tuple[object, ...]], header: Header) -> list[Wanted]:
    """Return the columns that a named tuple asks for, in its order.

    Raises:
        MissingColumnError: the header lacks one that must be there.
    """
    present = {_folded(name): name for name in header.names if name.startswith("x_")}
    present |= {name.lower(): name for name in header.names if name in COLUMNS}
    places = header.places
    numbers = Numbers()
    found: list[Wanted] = []
    for field, hint in get_type_hints(shape).items():
        kinds = get_args(hint) or (hint,)
        nullable = type(None) in kinds
        folded = _folded(field)
        name = present.get(folded) or present.get(_STAND_INS.get(folded, ""))
        if name is None and not nullable:
            raise MissingColumnError(
                f"the file has no column {_KNOWN.get(folded, field)}; "
                f"it is a {header.version} file with {len(header.names)} columns"
            )
        if Decimal in kinds:
            fields: Fields = numbers
        elif datetime in kinds:
            fields = Instants(nullable=nullable)
        else:
            fields = Fields(str, nullable=nullable)
        place = None if name is None else places[name]
        found.append(Wanted(name or field, place, fields, is_needed=fields is numbers and not nullable))
    return found


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
