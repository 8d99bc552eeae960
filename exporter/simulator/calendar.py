"""Buckets of time: minutes to months in any time zone, and the calendar months of invoices (UTC)."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo

TIMEFRAMES = ("minute", "hour", "day", "week", "month")

_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_AUTOMATIC = ((2 * _HOUR, "minute"), (2 * _DAY, "hour"), (64 * _DAY, "day"), (183 * _DAY, "week"))


def automatic_timeframe(start: datetime, end: datetime) -> str:
    """Return the timeframe that fal chooses for a span when none is asked for."""
    return next((name for limit, name in _AUTOMATIC if end - start < limit), "month")


def bucket_start(instant: datetime, timeframe: str, zone: tzinfo) -> datetime:
    """Return the UTC instant at which the bucket that holds an aware instant began."""
    local = instant.astimezone(zone)
    if timeframe == "minute":
        return local.replace(second=0, microsecond=0).astimezone(UTC)
    if timeframe == "hour":
        return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
    return _midnight(_first_day(local.date(), timeframe), zone)


def next_bucket(start: datetime, timeframe: str, zone: tzinfo) -> datetime:
    """Return the UTC instant at which the bucket after the one that began at `start` begins."""
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
    """Return the start of the UTC calendar month that holds an aware instant."""
    return instant.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_after(month: datetime, count: int) -> datetime:
    """Return the start of the UTC month so many after (or, negative, before) the one that starts at `month`."""
    years, index = divmod(month.month - 1 + count, 12)
    return month.replace(year=month.year + years, month=index + 1)


def _first_day(day: date, timeframe: str) -> date:
    return day - timedelta(days={"day": 0, "week": day.weekday(), "month": day.day - 1}[timeframe])


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
