"""The running period of a budget: the day, week or month of a time zone that holds an instant."""

from datetime import datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from exporter.calendar import first_hour_of, month_after
from exporter.charges import Window, hour_of

Period = Literal["day", "week", "month"]
PERIODS: tuple[Period, ...] = get_args(Period)


def running_period(period: Period, now: datetime, zone: ZoneInfo) -> Window:
    """Return the period that holds an aware instant; weeks begin on Monday.

    It is made of the UTC hours that begin in it, and the running hour's own start decides to which it belongs, as with
    the gauges of today and of the month.
    """
    today = hour_of(now).astimezone(zone).date()
    match period:
        case "day":
            first, after = today, today + timedelta(days=1)
        case "week":
            first = today - timedelta(days=today.weekday())
            after = first + timedelta(days=7)
        case "month":
            first = today.replace(day=1)
            after = month_after(first)
    return Window(first_hour_of(first, zone), first_hour_of(after, zone))
