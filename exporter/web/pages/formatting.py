"""Amounts, shares and instants in words for people."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal

from exporter.charges import NANO, decimal_of

_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_UNITS = ((_DAY, "day"), (_HOUR, "hour"), (_MINUTE, "minute"), (1, "second"))
_YEAR = 365
"""Days: further ahead nobody needs the number."""

_CENT = Decimal("0.01")
_SMALL = Decimal("0.0001")
_ANY_SIZE = Context(prec=60, rounding=ROUND_HALF_EVEN)


def dollars(amount: int | None) -> str:
    """Write nano-USD as dollars and cents; what is below ten cents with four places."""
    if amount is None:
        return "unknown"
    return _written(amount, _SMALL if 0 < abs(amount) < NANO // 10 else _CENT)


def changes(amounts: Sequence[int]) -> tuple[str, ...]:
    """Write changes in nano-USD beside each other, with their signs: all with cents where one is a dollar or more."""
    places = _CENT if max(map(abs, amounts), default=0) >= NANO else _SMALL
    return tuple(_written(amount, places, "+") for amount in amounts)


def _written(amount: int, places: Decimal, plus: str = "") -> str:
    rounded = decimal_of(abs(amount)).quantize(places, context=_ANY_SIZE)
    # What is nothing once it is rounded has no sign.
    sign = ("-" if amount < 0 else plus) if rounded else ""
    return f"{sign}${rounded:,f}"


def round_dollars(amount: int) -> str:
    """Write a round number of nano-USD shortly, as beside the lines of a chart: $0.002, $50, $20k, $5M."""
    exact = decimal_of(amount)
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if exact >= size:
            return f"${(exact / size).normalize():,f}{letter}"
    return f"${exact.normalize():,f}"


def runway(lasting: timedelta) -> str:
    """Write how long a balance lasts."""
    days = lasting.days
    return "over a year" if days > _YEAR else span(lasting.total_seconds())


def span(seconds: float) -> str:
    """Write a duration in its two largest units, as people say it: 2 days 21 hours; minutes and less in one."""
    whole = max(int(seconds), 0)
    largest = next((place for place, (size, _) in enumerate(_UNITS) if whole >= size), len(_UNITS) - 1)
    shown = _UNITS[largest : largest + (2 if _UNITS[largest][0] > _MINUTE else 1)]
    counts: list[str] = []
    for size, unit in shown:
        count, whole = divmod(whole, size)
        if count or not counts:
            counts.append(f"{count} {unit}{'' if count == 1 else 's'}")
    return " ".join(counts)


def instant(at: datetime) -> str:
    """Write an instant to the minute, in UTC."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def ago(at: datetime, now: datetime) -> str:
    """Return how long ago an instant was, in words."""
    seconds = (now - at).total_seconds()
    return "just now" if seconds < _MINUTE else f"{span(seconds)} ago"


@dataclass(frozen=True, slots=True)
class Timestamp:
    """An instant as a page shows it.

    Attributes:
        iso: ISO 8601, for programs.
        text: to the minute, in UTC.
        ago: how long ago it was.
    """

    iso: str
    text: str
    ago: str


def timestamp(at: datetime | None, now: datetime) -> Timestamp | None:
    """Return an instant as a page shows it; None where it is not known."""
    return None if at is None else Timestamp(at.isoformat(), instant(at), ago(at, now))


def share_of_limit(spend: int, limit: int) -> str:
    """Write a share to a tenth of a percent, as the dashboards do; it is 100% only once the limit is reached."""
    tenths = (2000 * spend + limit) // (2 * limit)
    if spend < limit:
        tenths = min(tenths, 999)
    return f"{tenths / 10:,.1f}".removesuffix(".0") + "%"


def percent(part: int, whole: int) -> float:
    """Return a share in percent, limited to what a bar can show, 0 to 100."""
    return round(min(max(100 * part / whole, 0.0), 100.0), 2) if whole > 0 else 0.0
