"""Timeframes of FOCUS reports: the buckets that fal sums charges up by, in a time zone.

Pure calendar arithmetic on aware instants; weeks begin on Monday, days at the zone's midnight.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.calendar import month_after

TIMEFRAMES = ("minute", "hour", "day", "week", "month")

LONGEST = timedelta(days=90)
"""Longest window of one estimate."""

_DETECTED = (
    (timedelta(hours=2), "minute"),
    (timedelta(days=2), "hour"),
    (timedelta(days=64), "day"),
    (timedelta(days=183), "week"),
)
_HALF_HOUR = timedelta(minutes=30)


def detected_timeframe(start: datetime, end: datetime) -> str:
    """Return the timeframe of a window for which none is named: the shorter the window, the finer."""
    return next((timeframe for limit, timeframe in _DETECTED if end - start < limit), "month")


def bucket_start(instant: datetime, timeframe: str, zone: ZoneInfo) -> datetime:
    """Return the start, in UTC, of the bucket that holds an instant."""
    local = instant.astimezone(zone)
    match timeframe:
        case "minute":
            return local.replace(second=0, microsecond=0).astimezone(UTC)
        case "hour":
            return local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
        case "day":
            return _midnight(local.date(), zone)
        case "week":
            return _midnight(local.date() - timedelta(days=local.weekday()), zone)
        case _:
            return _midnight(local.date().replace(day=1), zone)


def bucket_end(instant: datetime, timeframe: str, zone: ZoneInfo) -> datetime:
    """Return the end, in UTC, of the bucket that holds an instant; it is the start of the next."""
    start = bucket_start(instant, timeframe, zone)
    day = start.astimezone(zone).date()
    match timeframe:
        case "day":
            return _midnight(day + timedelta(days=1), zone)
        case "week":
            return _midnight(day + timedelta(days=7), zone)
        case "month":
            return _midnight(month_after(day), zone)
    # Where clocks go back by half an hour, an hour of the wall clock lasts longer than an hour.
    later, step = start, timedelta(minutes=1) if timeframe == "minute" else _HALF_HOUR
    while (end := bucket_start(later, timeframe, zone)) <= start:
        later += step
    return end


def widened(start: datetime, end: datetime, timeframe: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Return the whole buckets that hold a window."""
    first, last = bucket_start(start, timeframe, zone), bucket_start(end, timeframe, zone)
    return first, end.astimezone(UTC) if last == end else bucket_end(end, timeframe, zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
