"""Exact amounts with their JSON text, instants, and calendar buckets in any time zone.

Amounts are integers of nano-units inside and decimals outside, never floats. Written separately from the exporter's own
money and calendar code on purpose: a bug that both shared would hide from every test.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import cast

NANO = 10**9
"""Nano-units in a unit."""

SECOND = 10**6
"""Microseconds in a second: instants are whole microseconds since 1970 in the inner loops."""

HOUR = 3600 * SECOND
FOREVER = 2**62
"""An instant, in microseconds, after everything that ever becomes visible."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Exact(int):
    """A count of nano-units, written to JSON and CSV as an exact decimal."""

    __slots__ = ()


class FineNumber(str):
    """Text of a JSON number finer than a nano-unit, such as `4E-10`."""

    __slots__ = ()


def decimal_text(count: int, places: int = 9) -> str:
    """Return the shortest exact decimal of a count of nano-units (or of other decimal places), such as `0.025`."""
    digits = str(abs(count)).zfill(places + 1)
    part = digits[-places:].rstrip("0")
    text = f"{digits[:-places]}.{part}" if part else digits[:-places]
    return f"-{text}" if count < 0 else text


def nanos_of(text: str) -> int:
    """Parse an exact decimal of at most nine places as nano-units.

    Raises:
        ValueError: the text is not a finite decimal, or has more than nine places.
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
    """Encode a tree of mappings, sequences, strings, integers, booleans, None, `Exact` and `FineNumber`.

    Raises:
        TypeError: the tree holds anything else, a float above all.
    """
    encode = _ENCODERS.get(type(value)) or _encoder_of(value)
    return encode(value)


@lru_cache(maxsize=1024)
def _name_text(name: str) -> str:
    return f"{encode_basestring_ascii(name)}:"


def _object_text(value: dict[str, object]) -> str:
    texts = []
    for name, item in value.items():
        encode = _ENCODERS.get(type(item)) or _encoder_of(item)
        texts.append(_name_text(name) + encode(item))
    return f"{{{','.join(texts)}}}"


def _array_text(value: Iterable[object]) -> str:
    return f"[{','.join([json_text(item) for item in value])}]"


_Encoder = Callable[[object], str]

_ENCODERS = cast(
    "dict[type, _Encoder]",
    {
        str: encode_basestring_ascii,
        # The same hours are told again and again, by every poll that reaches back to them.
        Exact: lru_cache(maxsize=2**16)(decimal_text),
        FineNumber: str,
        bool: {True: "true", False: "false"}.__getitem__,
        type(None): lambda _: "null",
        int: str,
        dict: _object_text,
        list: _array_text,
        tuple: _array_text,
    },
)
"""By the type itself: the simulator writes millions of values, and most of a test's time with it goes into that."""


def _encoder_of(value: object) -> _Encoder:
    """Return the encoder of a subclass of what can be written, such as a named tuple."""
    for kind in type(value).__mro__:
        if kind in _ENCODERS:
            return _ENCODERS[kind]
    raise TypeError(f"the simulator does not write a {type(value).__name__} as JSON")


TIMEFRAMES = ("minute", "hour", "day", "week", "month")

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_AUTOMATIC = ((2 * _HOUR, "minute"), (2 * _DAY, "hour"), (64 * _DAY, "day"), (183 * _DAY, "week"))


def automatic_timeframe(start: datetime, end: datetime) -> str:
    """Return the timeframe that fal chooses for a span when none is requested."""
    return next((name for limit, name in _AUTOMATIC if end - start < limit), "month")


def bucket_start(instant: datetime, timeframe: str, zone: tzinfo) -> datetime:
    """Return the start (UTC) of the bucket that contains an aware instant."""
    local = instant.astimezone(zone)
    if timeframe == "minute":
        return local.replace(second=0, microsecond=0).astimezone(UTC)
    if timeframe == "hour":
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    return _midnight(_first_day(local.date(), timeframe), zone)


def next_bucket(start: datetime, timeframe: str, zone: tzinfo) -> datetime:
    """Return the start (UTC) of the bucket after the one that starts at `start`."""
    if timeframe in {"minute", "hour"}:
        step = _HOUR if timeframe == "hour" else timedelta(minutes=1)
        later = start + step
        # Where clocks go back by half an hour, an hour of the wall clock lasts longer than an hour.
        while (following := bucket_start(later, timeframe, zone)) <= start:
            later += step
        return following
    day = start.astimezone(zone).date()
    inside = day + {"day": _DAY, "week": 7 * _DAY, "month": 32 * _DAY}[timeframe]
    return _midnight(_first_day(inside, timeframe), zone)


def buckets(start: datetime, end: datetime, timeframe: str, zone: tzinfo) -> Iterator[tuple[datetime, datetime]]:
    """Yield every bucket that overlaps `[start, end)` as half-open UTC spans, in order, whole."""
    edge = bucket_start(start, timeframe, zone)
    while edge < end:
        following = next_bucket(edge, timeframe, zone)
        yield edge, following
        edge = following


def month_of(instant: datetime) -> datetime:
    """Return the start of the UTC calendar month that contains an aware instant."""
    return instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_after(month: datetime, count: int) -> datetime:
    """Return the start of the UTC month `count` months after the one that starts at `month`; negative for before."""
    years, index = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=index + 1)


def _first_day(day: date, timeframe: str) -> date:
    return day - timedelta(days={"day": 0, "week": day.weekday(), "month": day.day - 1}[timeframe])


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
