"""Hourly samples at their true hour, for a store of time series that appends and never overwrites.

Each hour that is over is told once, by its first samples. What changes later is told by further samples inside the same
hour: never by another value of an instant that has been told, which every store refuses or ignores.

A gauge has the hour's charges at the hour's last millisecond, and each correction as the difference at an instant of
its own, so that `sum_over_time` over whole hours is what the ledger says. A counter begins at 0 in every hour: 0 a
second before the hour's end, and the charges at the end. A correction rises from 0 to the difference and falls back to
0 before that. Since a fall to 0 is a restart to every store, `increase` over whole hours is the sum of what was told.
The 0 at the start and the sample at the very end leave Prometheus nothing to extrapolate.

A counter cannot take money back: it waits until its series has grown by as much again. What fal moves between series
of an account within an hour moves no counter, as with counters that are scraped.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.ledger.accounting.counters import CounterKey

HOUR = 3_600_000
"""Milliseconds."""

_SECOND = 1000
_STEP = 3
"""Milliseconds between two corrections of an hour: a counter needs one before and one after."""

_CORRECTIONS = (HOUR - 2 * _SECOND) // _STEP - 1
"""Different instants for corrections in an hour; after so many rounds of corrections they are used again."""

Sample = tuple[int, int]
"""Milliseconds since 1970, and a value in nano-units."""

HourlyAmounts = Mapping[CounterKey, int]
"""Charges of an hour in nano-units; what is 0 may be absent."""


class HourSamples(NamedTuple):
    """Samples of one series and one hour, which a store takes or refuses together.

    Attributes:
        key: the series.
        hour: number of the hour.
        is_correction: not the hour's first samples.
        gauge: samples of the gauge, ascending in time.
        counter: those of the counter.
        amount: what the gauge says with them.
        growth: what the counter grows by with them.
    """

    key: CounterKey
    hour: int
    is_correction: bool
    gauge: tuple[Sample, ...]
    counter: tuple[Sample, ...]
    amount: int
    growth: int


@dataclass(slots=True)
class ToldSeries:
    """State of a series.

    Attributes:
        first: first hour at whose end its counter has a sample.
        last: last hour that was charged for.
        debt: what has been taken back since it was told, and the counter waits for.
        amount: what could not be told of earlier hours, and is told by the gauge with the next hour.
        growth: the same of the counter.
    """

    first: int
    last: int
    debt: int = 0
    amount: int = 0
    growth: int = 0

    @property
    def is_owing(self) -> bool:
        """Something is still to be told, or to be waited for."""
        return bool(self.debt or self.amount or self.growth)

    def grow(self, by: int) -> int:
        """Return by how much the counter can grow; what it cannot fall by it waits for."""
        by -= self.debt
        self.debt = max(-by, 0)
        return max(by, 0)


@dataclass(slots=True)
class Position:
    """Position in the telling; all of it is to be kept.

    Attributes:
        born: number of the hour in which the telling began; what is before is history.
        begun: first hour that is told.
        through: the hour after the last whose first samples have been made.
        rounds: rounds of corrections.
        parcel: number of the last parcel.
        labels: names of the labels, as the ledger keeps them.
        series: those that have been told, but for those not charged for in a long time.
        days: fingerprints of the days that have been compared, by their number.
    """

    born: int
    begun: int
    through: int
    labels: str
    rounds: int = 0
    parcel: int = 0
    series: dict[CounterKey, ToldSeries] = field(default_factory=dict)
    days: dict[int, str] = field(default_factory=dict)

    def first_samples(self, amounts: HourlyAmounts) -> list[HourSamples]:
        """Return the first samples of the hour that is next, of every series, and go on to the hour after."""
        hour, end = self.through, (self.through + 1) * HOUR
        found = []
        for key in sorted(self.series.keys() | amounts.keys()):
            amount = amounts.get(key, 0)
            told = self.series.get(key)
            if told is None:
                told = self.series[key] = ToldSeries(hour, hour)
            value, grown = amount + told.amount, told.grow(amount + told.growth)
            if amount or value:
                told.last = hour
            told.amount = told.growth = 0
            gauge = ((end - 1, value),) if value else ()
            # Without a sample at the end of every hour Prometheus would extrapolate to the end of a range.
            counter = ((end - _SECOND, 0), (end, grown)) if grown else ((end, 0),)
            found.append(HourSamples(key, hour, False, gauge, counter, value, grown))  # noqa: FBT003  a row
        self.through = hour + 1
        return found

    def corrections(
        self, hour: int, deltas: HourlyAmounts, *, account_of: Callable[[int], str], reach: int
    ) -> list[HourSamples]:
        """Return the samples of this round by which an hour that has been told is corrected.

        Args:
            hour: one that has been told.
            deltas: what has changed; not 0.
            account_of: returns the account of a label set.
            reach: first hour of which the store takes samples; what is older is told with the next hour.
        """
        at = (hour + 1) * HOUR - _SECOND - _STEP * (self.rounds % _CORRECTIONS + 1)
        growths = _without_moves(deltas, account_of)
        found = []
        for key, delta in sorted(deltas.items()):
            told = self.series.get(key)
            if told is None:
                told = self.series[key] = ToldSeries(self.through, hour)
            told.last = max(told.last, hour)
            if hour < reach:
                told.amount += delta
                told.growth += growths[key]
                continue
            grown = told.grow(growths[key])
            zeros = tuple(((number + 1) * HOUR, 0) for number in range(hour, told.first))
            told.first = min(told.first, hour)
            counter = ((at - 1, 0), (at, grown), (at + 1, 0)) if grown else ()
            found.append(HourSamples(key, hour, True, ((at, delta),), (*counter, *zeros), delta, grown))  # noqa: FBT003  a row
        return found

    def carry(self, refused: Iterable[HourSamples]) -> None:
        """Tell what a store has refused with the next hour."""
        for samples in refused:
            told = self.series.get(samples.key)
            if told is None:
                told = self.series[samples.key] = ToldSeries(self.through, samples.hour)
            told.amount += samples.amount
            told.growth += samples.growth

    def forget_before(self, hour: int) -> None:
        """Forget what has not been charged for since an hour, and fingerprints of days that ended before it."""
        self.series = {
            key: told
            for key, told in self.series.items()
            if told.last >= hour or told.debt or told.amount or told.growth
        }
        self.days = {day: mark for day, mark in self.days.items() if (day + 1) * 24 > hour}


def _without_moves(deltas: HourlyAmounts, account_of: Callable[[int], str]) -> dict[CounterKey, int]:
    """Return the changes without what has only been moved to other series of the same account, measure and unit."""
    left = dict(deltas)
    pots: dict[tuple[str, str, str], list[CounterKey]] = {}
    for key in sorted(deltas):
        pots.setdefault((account_of(key.label_set), key.measure, key.unit), []).append(key)
    for keys in pots.values():
        ups = sum(max(deltas[key], 0) for key in keys)
        moved = min(ups, ups - sum(deltas[key] for key in keys))
        for sign in (1, -1):
            rest = moved
            for key in keys:
                part = min(max(sign * left[key], 0), rest)
                left[key] -= sign * part
                rest -= part
    return left
