"""Local days as the UTC hours that begin in them."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from exporter.charges import HOUR, hour_of


def first_hour_of(day: date, zone: ZoneInfo) -> datetime:
    """Return the start of the first UTC hour that begins on a local day.

    Where midnight does not exist on that day the day begins with the change of clocks; where it comes twice, with the
    first.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    hour = hour_of(midnight)
    return hour if hour == midnight else hour + HOUR


def month_after(day: date) -> date:
    """Return the first day of the next month."""
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)
