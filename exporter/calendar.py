"""Local days and months as UTC hours, and the windows named after them ("today", "this month").

The ledger knows hours of UTC only. A local day is the hours that begin in it: in a zone that is half an hour off, its
first hour is the first one that begins after local midnight.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from exporter.charges import HOUR, Window, hour_of


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


Every = Literal["hour", "day", "month"]
"""Periods that sums are made for; days and months are those of a zone."""


def bucket_start(hour: datetime, every: Every, zone: ZoneInfo) -> datetime:
    """Return the start of the hour, local day or local month that holds an hour of UTC."""
    if every == "hour":
        return hour
    day = hour.astimezone(zone).date()
    return first_hour_of(day if every == "day" else day.replace(day=1), zone)


__all__ = ["PERIODS", "Every", "Periods", "bucket_start", "first_hour_of", "month_after", "periods_at"]

PERIODS = ("current_hour", "last_hour", "today", "last_day", "month", "last_month")


@dataclass(frozen=True, slots=True)
class Periods:
    """The windows that gauges are published for, at one instant; `today` and the months reach to their calendar end.

    Attributes:
        last_day: the last 24 hours of UTC, the running one among them.
    """

    current_hour: Window
    last_hour: Window
    today: Window
    last_day: Window
    month: Window
    last_month: Window

    def windows(self) -> dict[str, Window]:
        """Return every period by name."""
        return {name: getattr(self, name) for name in PERIODS}


def periods_at(now: datetime, zone: ZoneInfo) -> Periods:
    """Return the periods that hold at an aware instant, with days and months of the zone."""
    hour = hour_of(now)
    # The hour's own start decides its day, so that at every instant the running hour lies in today.
    today = hour.astimezone(zone).date()
    month = today.replace(day=1)
    last_month = (month - timedelta(days=1)).replace(day=1)
    return Periods(
        current_hour=Window(hour, hour + HOUR),
        last_hour=Window(hour - HOUR, hour),
        today=Window(first_hour_of(today, zone), first_hour_of(today + timedelta(days=1), zone)),
        last_day=Window(hour - 23 * HOUR, hour + HOUR),
        month=Window(first_hour_of(month, zone), first_hour_of(month_after(month), zone)),
        last_month=Window(first_hour_of(last_month, zone), first_hour_of(month, zone)),
    )
