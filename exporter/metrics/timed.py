"""OpenMetrics with timestamps, for `promtool tsdb create-blocks-from openmetrics`.

The format wants all samples of a family together and those of a series in order of time; promtool reads them so too,
and needs nothing more. Prometheus looks back five minutes for a sample, so a value that holds is written again and
again. These lines differ in their timestamps alone, which are made once for all series.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise

from exporter.metrics.catalogue import Family
from exporter.metrics.lines import number_text, openmetrics_header, series_of
from exporter.metrics.timelines import Step
from exporter.samples import Page, Sample


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
