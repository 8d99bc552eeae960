"""Which hours each job polls: pure functions of the clock and of what is already known.

Late data are normal at fal (15 hours have been seen) and corrections come days later, so the same hours are read again
at growing distances: the last two every few minutes, two days every hour, eight days and two months every day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.charges import HOUR, Window, hour_of
from exporter.ledger.calendar import periods_at

PIECE_HOURS = 24
"""A longer window is read in pieces of so many hours, each a poll and a transaction of its own."""

_LONGEST_HISTORY = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back the jobs read.

    Attributes:
        history: what is loaded at the first start; None for since the start of the previous month.
        zone: whose months "this month" and "the previous month" are.
    """

    recent: timedelta
    deep: timedelta
    history: timedelta | None
    zone: ZoneInfo


def current_window(now: datetime, data_through: datetime | None) -> Window:
    """Return the running hour and the one before, and the whole gap since the last success if that is longer ago."""
    hour = hour_of(now)
    start = hour - HOUR if data_through is None else min(hour - HOUR, data_through)
    return Window(start, hour + HOUR)


def trailing_window(now: datetime, span: timedelta) -> Window:
    """Return the running hour and the whole hours before it that a span reaches back over."""
    hour = hour_of(now)
    return Window(hour_of(hour - span), hour + HOUR)


def months_window(now: datetime, zone: ZoneInfo) -> Window:
    """Return this month so far and the previous one; fal's billing months are of UTC, the gauges' of the zone."""
    return Window(
        min(periods_at(now, zone).last_month.start, periods_at(now, ZoneInfo("UTC")).last_month.start),
        hour_of(now) + HOUR,
    )


def history_start(now: datetime, reach: Reach) -> datetime:
    """Return the first hour of the history that is loaded at the first start."""
    if reach.history is None:
        return max(months_window(now, reach.zone).start, hour_of(now - _LONGEST_HISTORY))
    return hour_of(now - reach.history)


def history_pieces(start: datetime, loaded_from: datetime) -> Iterator[Window]:
    """Yield what is missing between the start of the history and what is loaded, newest first."""
    end = loaded_from
    while end > start:
        begin = max(start, end - PIECE_HOURS * HOUR)
        yield Window(begin, end)
        end = begin


def month_start(now: datetime, zone: ZoneInfo) -> datetime:
    """Return the first hour of this month in the zone."""
    return periods_at(now, zone).month.start
