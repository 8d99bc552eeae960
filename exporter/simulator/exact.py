"""Exact numbers and their JSON text: integers of nano-units inside, decimals without a float outside.

Written apart from the exporter's own money code on purpose: a bug that both shared would hide from every test.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring_ascii
from types import MappingProxyType

NANO = 10**9
"""Nano-units in a unit."""

SECOND = 10**6
"""Microseconds in a second: instants are whole microseconds since 1970 in the inner loops."""

HOUR = 3600 * SECOND
FOREVER = 2**62
"""An instant, in microseconds, after everything that ever becomes visible."""

_WORDS = MappingProxyType({None: "null", True: "true", False: "false"})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Exact(int):
    """A count of nano-units that JSON and CSV show as the exact decimal it stands for."""

    __slots__ = ()


def decimal_text(count: int, places: int = 9) -> str:
    """Return the shortest exact decimal of a count of nano-units (or of other decimal places), such as `0.025`."""
    digits = str(abs(count)).zfill(places + 1)
    part = digits[-places:].rstrip("0")
    text = f"{digits[:-places]}.{part}" if part else digits[:-places]
    return f"-{text}" if count < 0 else text


def nanos_of(text: str) -> int:
    """Read an exact decimal of at most nine places as nano-units.

    Raises:
        ValueError: the text is no finite decimal, or has more than nine places.
    """
    try:
        scaled = Decimal(text).scaleb(9)
        nanos = int(scaled)
    except (InvalidOperation, OverflowError, ValueError) as error:
        raise ValueError(f"{text!r} is not a decimal amount") from error
    if nanos != scaled:
        raise ValueError(f"{text!r} has more than nine decimal places")
    return nanos


def microseconds(instant: datetime) -> int:
    """Return an aware instant as whole microseconds since 1970."""
    return (instant - _EPOCH) // _MICROSECOND


def instant_of(micros: int) -> datetime:
    """Return microseconds since 1970 as an aware UTC instant."""
    return _EPOCH + timedelta(microseconds=micros)


def stamp(instant: datetime) -> str:
    """Return an aware instant as ISO 8601 in its own offset, with `Z` for UTC."""
    text = instant.isoformat()
    return text[:-6] + "Z" if text.endswith("+00:00") else text


def json_text(value: object) -> str:
    """Encode a tree of mappings, sequences, strings, integers, booleans, None and `Exact` numbers.

    Raises:
        TypeError: the tree holds anything else, a float above all.
    """
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, Exact):
        return decimal_text(value)
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return f"{{{','.join([f'{encode_basestring_ascii(name)}:{json_text(item)}' for name, item in value.items()])}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(json_text, value))}]"
    raise TypeError(f"the simulator does not write a {type(value).__name__} as JSON")
