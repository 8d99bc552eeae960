"""What series would have shown before their birth: steps in time, made of hourly charges.

fal bills by the hour, so nothing between the ends of two hours is known, and nothing is interpolated: a value holds
from one hour's end to the next.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

_HOUR = 3600


class Step(NamedTuple):
    """From an instant on (seconds since the epoch) a series has a value."""

    at: int
    value: int


def counter(hours: Mapping[int, int], *, before: int, total: int, last: int, resolution: int) -> list[Step]:
    """Return a counter that begins at what was charged before and ends at its total.

    It rises at the hours' ends as they were charged, never falls, and never passes the total. What remains at the
    birth, such as the part of the running hour that was known then, comes with the last sample.

    Args:
        hours: charges by the hour's number, ascending; not empty.
        before: what was charged in earlier hours.
        total: where it ends; without a positive one there is no step.
        last: the last sample's instant.
        resolution: seconds between samples.
    """
    if total <= 0:
        return []
    known = before
    shown = min(max(before, 0), total)
    # Two samples at the least: increase() is blind to what a series' first one holds.
    steps = [Step(min(next(iter(hours)) * _HOUR, last - resolution), shown)]
    for hour, amount in hours.items():
        end = (hour + 1) * _HOUR
        if end >= last:
            break
        known += amount
        if shown < min(known, total):
            shown = min(known, total)
            steps.append(Step(end, shown))
    if shown < total:
        steps.append(Step(last, total))
    return steps


def last_hour(hours: Mapping[int, int]) -> list[Step]:
    """Return the charges of the last complete hour, as a gauge."""
    steps = [Step(next(iter(hours)) * _HOUR, 0)]
    for hour, amount in hours.items():
        end = (hour + 1) * _HOUR
        if steps[-1].at == end:
            steps.pop()
        steps += (Step(end, amount), Step(end + _HOUR, 0))
    return steps


def since_start(hours: Mapping[int, int], starts: Sequence[int], known_from: int) -> list[Step]:
    """Return the charges of the complete hours since a period began, as a gauge.

    Args:
        hours: charges by the hour's number, ascending; not empty.
        starts: the numbers of the hours with which periods begin, ascending, around all hours.
        known_from: the first hour from which on all charges are known; a period that began before is left out, because
            its sum would be too small.
    """

    def period_of(charge: tuple[int, int]) -> tuple[int, int]:
        place = bisect_right(starts, charge[0])
        return starts[place - 1], starts[place]

    values: dict[int, int] = {}
    for (start, end), charges in groupby(hours.items(), key=period_of):
        if start >= known_from:
            values[start * _HOUR] = known = 0
            for hour, amount in charges:
                known += amount
                values[(hour + 1) * _HOUR] = known
        # The end of a period's last hour is the start of the next period, and there the gauge begins anew.
        values[end * _HOUR] = 0
    return [Step(at, value) for at, value in values.items()]
