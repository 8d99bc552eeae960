"""OpenMetrics with time stamps: what series would have shown before their creation.

fal bills by the hour, so nothing between the ends of two hours is known, and nothing is interpolated: a value holds
from one hour's end to the next.

The format wants all samples of a family together and those of a series in order of time; promtool reads them so too,
and needs nothing more. Prometheus looks back five minutes for a sample, so a value that holds is written again and
again. These lines differ in their timestamps alone, which are made once for all series.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from exporter.metrics.catalogue import Family
from exporter.metrics.encoding import number_text, openmetrics_header, series_of
from exporter.samples import Page, Sample

_HOUR = 3600


class Step(NamedTuple):
    """From an instant on (seconds since the epoch) a series has a value."""

    at: int
    value: int


def counter(hours: Mapping[int, int], *, before: int, total: int, last: int, resolution: int) -> list[Step]:
    """Return a counter that begins at what was charged before and ends at its total.

    It rises at the hours' ends as they were charged, never falls, and never passes the total. What remains at the
    birth, such as the part of the current hour that was known then, comes with the last sample.

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


def last_day(hours: Mapping[int, int], known_from: int) -> list[Step]:
    """Return the charges of the 23 complete hours before the running one, as a gauge of the last 24 hours.

    Args:
        hours: charges by the hour's number, ascending; not empty.
        known_from: the first hour from which on all charges are known; there is no value before 23 hours are.
    """
    changes: dict[int, int] = {}
    for hour, amount in hours.items():
        for end, change in ((hour + 1, amount), (hour + 24, -amount)):
            changes[end] = changes.get(end, 0) + change
    first = known_from + 23
    value = sum(change for end, change in changes.items() if end <= first)
    steps = [Step(first * _HOUR, value)]
    for end in sorted(end for end in changes if end > first):
        value += changes[end]
        steps.append(Step(end * _HOUR, value))
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


class Grid:
    """The instants at which samples are written: the whole multiples of a resolution in [start, end).

    Args:
        start: seconds since the epoch.
        end: seconds since the epoch.
        resolution: seconds between samples.
    """

    def __init__(self, start: int, end: int, resolution: int) -> None:
        self._resolution = resolution
        self._first = -(-start // resolution)
        self._endings = [f" {at}\n" for at in range(self._first * resolution, end, resolution)]

    def endings(self, start: int, end: int) -> Sequence[str]:
        """Return how lines end whose instants are in [start, end): with the timestamp and a line feed."""
        return self._endings[self._place(start) : self._place(end)]

    def _place(self, instant: int) -> int:
        return max(-(-instant // self._resolution) - self._first, 0)


class TimedFamily:
    """Encodes one family.

    Args:
        family: a counter or a gauge.
        labels: the names that belong to the series' label values, in their order.
        target: the labels that Prometheus adds to what it scrapes, such as job and instance.
        grid: when samples are written.

    Attributes:
        header: the family's first lines.
    """

    def __init__(self, family: Family, labels: Sequence[str], target: Mapping[str, str], grid: Grid) -> None:
        self.header = openmetrics_header(family)
        self._family = family
        self._labels = (*labels, *target)
        self._target = tuple(target.values())
        self._grid = grid

    def lines(self, values: Collection[str], steps: Sequence[Step], until: int) -> Iterator[tuple[str, int]]:
        """Yield a series' lines, run by run, and how many they are.

        Args:
            values: the series' label values.
            steps: its values, ascending in time.
            until: when it ends, in seconds since the epoch; no line is at or after it.
        """
        (labels,) = series_of(self._labels, Page((Sample((*values, *self._target), 0),)))
        for (at, value), (end, _) in pairwise((*steps, Step(until, 0))):
            endings = self._grid.endings(at, min(end, until))
            if endings:
                start = f"{self._family.name}{labels} {number_text(value, self._family.scale)}"
                yield start + start.join(endings), len(endings)
