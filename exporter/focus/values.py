"""Values from their text and back: exact decimals, UTC instants, JSON. No type is guessed, no float is made."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, Inexact
from typing import NamedTuple
from unicodedata import category


class Month(NamedTuple):
    """A month in UTC."""

    year: int
    month: int


Value = str | Decimal | int | datetime | Month | None
"""Types that a field can be read as."""

MOST_DIGITS = 60
"""Digits that a number may have before its point, and after it."""

EXACTLY = Context(prec=40 * MOST_DIGITS, traps=[Inexact])
"""Sums and products of numbers that were read here are exact in it; if one were not, it would raise, not round."""

NULLS = frozenset({"", "NULL", "null"})
"""Texts that stand for no value in files people have."""

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?(?P<exponent>\d+))?", re.ASCII)
_LONGEST_EXPONENT = 3
_LONGEST_SHOWN = 40
_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d+))?)?( ?(?:Z|UTC|[+-]\d\d(?::?\d\d)?))?", re.ASCII
)


def number(text: str) -> Decimal:
    """Read a decimal number; E-notation and a leading plus are read, separators and currency signs are not.

    The one gate for every number of a FOCUS file, those in JSON columns too.

    Raises:
        ValueError: the text is no number, or one of more than `MOST_DIGITS` places.
    """
    found = _NUMBER.fullmatch(text)
    if not found:
        raise ValueError("is not a number")
    # Before it is calculated with: an exponent of some thousands would be refused by `Decimal` itself, or take hours.
    if len((found["exponent"] or "").lstrip("0")) > _LONGEST_EXPONENT:
        raise ValueError(f"has more than {MOST_DIGITS} places")
    value = Decimal(text)
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or exponent < -MOST_DIGITS or exponent + len(digits) > MOST_DIGITS:
        raise ValueError(f"has more than {MOST_DIGITS} places")
    return value


def scaled_number(text: str, *, places: int) -> int:
    """Read a decimal number in units of a decimal place, rounded half-even there; see `number`.

    Raises:
        ValueError: the text is no number, or one of more than `MOST_DIGITS` places.
    """
    return round(EXACTLY.scaleb(number(text), places))


_GROUPED = r"\d{1,3},\d{3}\.\d+|\d{1,3}(?:,\d{3}){2,}(?:\.\d+)?"
"""Numbers whose commas separate thousands for certain; the one of `1,234` may separate a fraction."""

_AMOUNT = re.compile(rf"([^\d.,+-]*)(-?(?:{_GROUPED}|\d+(?:\.\d+)?))([^\d.,+-]*)", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}|[A-Z]{0,3}[^\w\s]", re.ASCII)
_CURRENCY_SYMBOL = "Sc"


def told_amount(text: str) -> Decimal | None:
    """Return the amount that a text tells a person though it is no number of the format, such as `$4.20`.

    Only a currency may be beside the number: anything else may say that it is negative, or in thousands.
    """
    found = _AMOUNT.fullmatch(text.strip())
    try:
        if found and all(_is_currency(beside.strip()) for beside in (found[1], found[3]) if beside.strip()):
            return number(found[2].replace(",", ""))
    except ValueError:
        pass
    return None


def _is_currency(text: str) -> bool:
    """Return whether a text is a code such as USD, or a symbol such as US$."""
    is_code = text.isalpha()
    return _CURRENCY.fullmatch(text) is not None and (is_code or category(text[-1]) == _CURRENCY_SYMBOL)


def number_text(value: Decimal) -> str:
    """Write a decimal as FOCUS wants it and as no type inference mistakes it: `-12.0`, no exponent, no `-0.0`."""
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0")
        text = f"{text}0" if text.endswith(".") else text
    else:
        text = f"{text}.0"
    return "0.0" if text == "-0.0" else text


def instant(text: str) -> tuple[datetime, bool]:
    """Read a date or date-time; return it in UTC, and whether the text says of which time zone it is.

    `T` or a blank between date and time; `Z`, `UTC`, an offset or nothing after it, which is taken for UTC.

    Raises:
        ValueError: the text is no date.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError("is not a date")
    date, time, fraction, zone = found.groups()
    zone = (zone or "").strip()
    try:
        moment = datetime.fromisoformat(f"{date}T{time or '00:00'}").replace(tzinfo=UTC)
        if fraction:
            moment += timedelta(microseconds=int(fraction[:6].ljust(6, "0")))
        if zone[:1] in {"+", "-"}:
            hours, minutes = int(zone[1:3]), int(zone[3:].lstrip(":") or 0)
            offset = timedelta(hours=hours, minutes=minutes)
            moment = moment + offset if zone[0] == "-" else moment - offset
    except (ValueError, OverflowError):
        raise ValueError("is not a date of the calendar") from None
    return moment, bool(zone)


def instant_text(moment: datetime) -> str:
    """Write an aware instant as FOCUS wants it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def key_values(text: str) -> Mapping[str, str | Decimal | bool | None]:
    """Read a key-value column: a JSON object of scalars with unique keys; numbers stay exact.

    Raises:
        ValueError: it is something else; the message says what.
    """
    found = json_object(text)
    for key, value in found.items():
        if not (value is None or isinstance(value, str | Decimal | bool)):
            raise ValueError(f"holds something other than a single value under {key!r}")
    return {key: value for key, value in found.items() if value is None or isinstance(value, str | Decimal | bool)}


def json_object(text: str) -> Mapping[str, object]:
    """Read a JSON object; numbers stay exact.

    Raises:
        ValueError: it is something else; the message says what.
    """
    try:
        found: object = json.loads(
            text,
            parse_float=_json_number,
            parse_int=_json_number,
            parse_constant=_no_number,
            object_pairs_hook=_unique,
        )
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("is not a JSON object")  # noqa: TRY004  the text is wrong, not a type
    return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("has a duplicate key")
    return found


def _json_number(text: str) -> Decimal:
    try:
        return number(text)
    except ValueError as error:
        shown = text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
        raise ValueError(f"holds {shown}, which {error}") from None


def _no_number(name: str) -> object:
    raise ValueError(f"holds {name}, which is not JSON")
