"""What a period will have cost at its end."""

from collections.abc import Callable
from datetime import datetime
from math import exp

from exporter.charges import HOUR, Window
from exporter.outlook.rhythm import Rhythm
from exporter.outlook.state import Forecast

_EDGE_OF_80_PERCENT = 1.2816
"""In standard deviations of a normal distribution."""


def forecast(
    rhythm: Rhythm,
    *,
    edge: datetime,
    known_until: datetime,
    now: datetime,
    period: Window,
    spent: Callable[[Window], int],
) -> Forecast:
    """Add what the rest of a period is expected to cost to what has been spent.

    Hours after `known_until` have been seen in part, or not at all: what they have cost so far counts as a part of what
    was expected of them, and anything above that on top. So a surprise is in what has been spent and is not expected
    again, and a forecast is never below what has been spent.

    Args:
        rhythm: what the past teaches.
        edge: the first hour that it was not learnt from.
        known_until: the end of the last hour that is known as a whole; not before `edge`.
        now: an aware instant in the period.
        period: whole, with the hours that are still to come.
        spent: tells what a window has cost, in nano-USD.
    """
    open_from = min(max(known_until, period.start), period.end)
    first, end = (open_from - edge) // HOUR, (period.end - edge) // HOUR
    total = spent(period)
    if open_from == period.end:
        return Forecast(total, total, total)
    expected = rhythm.expected(first, end)
    seen = 0.0
    for place in range(first, (now - edge) // HOUR + 1):
        hour = edge + place * HOUR
        seen += min(spent(Window(hour, hour + HOUR)), rhythm.expected(place, place + 1))
    rest, spread = max(expected - seen, 0.0), exp(_EDGE_OF_80_PERCENT * rhythm.spread(end - first))
    return Forecast(total + round(rest), total + round(rest / spread), total + round(rest * spread))
