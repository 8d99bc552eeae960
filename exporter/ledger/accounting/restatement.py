"""Restatement: what replacing the charges of a window changes, as pure arithmetic.

A restatement is booked, added to totals of days and shown in periods; each wants other hours together. So its rows,
which come by the hundred thousand, are added up once, over hours of the same kind, and everybody adds up those
sums.

A cell is one series in one hour. Cells come by the hundred thousand, most of them unchanged, so they are plain tuples
of integers: the sets of before and after are compared without a line of Python for each.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from exporter.charges import Amounts, Window

CellRow = tuple[int, int, int, int, int, int, int]
"""Hour and series, both as numbers (see `schema`), and the five amounts of `exporter.charges.Amounts`."""

HOURS_OF_DAY = 24

SumsBySeries = Mapping[int, Amounts]

Kind = TypeVar("Kind", bound=Hashable)
Wider = TypeVar("Wider", bound=Hashable)


class HourKind(NamedTuple):
    """Kind of an hour: all that decides how its charges count.

    Attributes:
        day: days from 1970 to it.
        is_history: whether it was spent before the ledger began to count.
        periods: the names of the current periods that it lies in.
    """

    day: int
    is_history: bool
    periods: tuple[str, ...]


def summed(rows: Iterable[CellRow], kind_of_hour: Mapping[int, Kind]) -> dict[Kind, SumsBySeries]:
    """Add up rows per kind of hour and series."""
    sums: dict[Kind, dict[int, list[int]]] = {kind: {} for kind in kind_of_hour.values()}
    sums_of = {hour: sums[kind] for hour, kind in kind_of_hour.items()}
    for hour, series, quantity, gpu_seconds, list_cost, discount, cost in rows:
        by_series = sums_of[hour]
        known = by_series.get(series)
        if known is None:
            by_series[series] = [quantity, gpu_seconds, list_cost, discount, cost]
        else:
            known[0] += quantity
            known[1] += gpu_seconds
            known[2] += list_cost
            known[3] += discount
            known[4] += cost
    return {
        kind: {series: Amounts._make(amounts) for series, amounts in by_series.items()}
        for kind, by_series in sums.items()
    }


def merged(sums: Mapping[Kind, SumsBySeries], wider: Callable[[Kind], Wider]) -> dict[Wider, SumsBySeries]:
    """Add up the sums of all kinds that fall into the same wider one."""
    together: dict[Wider, list[SumsBySeries]] = {}
    for kind, by_series in sums.items():
        together.setdefault(wider(kind), []).append(by_series)
    return {kind: parts[0] if len(parts) == 1 else _merged(parts) for kind, parts in together.items()}


def _merged(parts: Iterable[SumsBySeries]) -> SumsBySeries:
    sums: dict[int, Amounts] = {}
    for part in parts:
        for series, amounts in part.items():
            known = sums.get(series)
            sums[series] = amounts if known is None else known.plus(amounts)
    return sums


Cell = tuple[int, int]
"""Hour and series, both as numbers (see `schema`)."""


@dataclass(frozen=True, slots=True)
class RejectedRows:
    """The rows of a source that cannot be read now.

    Attributes:
        by_reason: how many there are.
        cost: nano-USD that those which are not counted cost, as far as that can be read.
        first, end: the hours that they are of, `end` exclusive; None where there are none.
    """

    by_reason: Mapping[str, int]
    cost: int = 0
    first: datetime | None = None
    end: datetime | None = None


NO_REJECTED_ROWS = RejectedRows({})


@dataclass(frozen=True, slots=True)
class Restatement:
    """Result of replacing a window: cells added, changed and removed, and nano-USD in complete hours.

    Attributes:
        relabelled: nano-USD that moved to other label sets within their hours, of all hours.
        rejected: the rows of the source that cannot be read now, of any hour.
    """

    window: Window
    added: int
    changed: int
    removed: int
    restated_up: int
    restated_down: int
    restated_hours: int
    relabelled: int
    rejected: RejectedRows = NO_REJECTED_ROWS

    @property
    def is_empty(self) -> bool:
        """True if the window was already as fal states it."""
        return not (self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True)
class Difference:
    """The cells to insert, to update and to delete, in the order of hours and series; and by how much each changes."""

    added: Sequence[CellRow]
    changed: Sequence[CellRow]
    removed: Sequence[Cell]
    deltas: Sequence[CellRow]


def difference(before: AbstractSet[CellRow], after: Sequence[CellRow]) -> Difference:
    """Compare two states of the same window, each with a cell at most once."""
    if not before:
        added = sorted(after)
        return Difference(added, (), (), added)
    stated = set(after)
    gone = {(row[0], row[1]): row for row in before - stated}
    new: list[CellRow] = []
    changed: list[CellRow] = []
    deltas: list[CellRow] = []
    for row in stated - before:
        known = gone.pop((row[0], row[1]), None)
        if known is None:
            new.append(row)
            deltas.append(row)
        else:
            changed.append(row)
            hour, series, quantity, gpu_seconds, list_cost, discount, cost = row
            _, _, quantity_0, gpu_seconds_0, list_cost_0, discount_0, cost_0 = known
            deltas.append(
                (
                    hour,
                    series,
                    quantity - quantity_0,
                    gpu_seconds - gpu_seconds_0,
                    list_cost - list_cost_0,
                    discount - discount_0,
                    cost - cost_0,
                )
            )
    for hour, series, quantity, gpu_seconds, list_cost, discount, cost in gone.values():
        deltas.append((hour, series, -quantity, -gpu_seconds, -list_cost, -discount, -cost))
    return Difference(sorted(new), sorted(changed), sorted(gone), deltas)


@dataclass(frozen=True, slots=True)
class Booking:
    """Booking of the changes of a window.

    Attributes:
        base: per series, what counters leave out: it was spent before the ledger began to count.
        grown: per series, what counters count.
        restated_up: nano-USD added to hours that had been published as complete.
        restated_down: nano-USD taken back from such hours, positive.
        restated_hours: the hours that were so changed.
        relabelled: nano-USD that moved to other label sets within their hours; neither up nor down.
    """

    base: SumsBySeries
    grown: SumsBySeries
    restated_up: int
    restated_down: int
    restated_hours: AbstractSet[int]
    relabelled: int = 0


def hour_kinds(
    deltas: Sequence[CellRow],
    *,
    observed: Mapping[int, bool],
    first_counted: int,
    periods_of: Callable[[int], tuple[str, ...]],
) -> dict[int, HourKind]:
    """Return how the hours count in which there are changes.

    Args:
        deltas: the changes of one window of one source.
        observed: the window's hours that a poll had covered before.
        first_counted: the first hour that began after the source's birth. An earlier hour that is observed for the
            first time is history.
        periods_of: the names of the current periods that an hour lies in.
    """
    return {
        hour: HourKind(hour // HOURS_OF_DAY, hour < first_counted and hour not in observed, periods_of(hour))
        for hour in {row[0] for row in deltas}
    }


def book(
    deltas: Sequence[CellRow],
    sums: Mapping[HourKind, SumsBySeries],
    *,
    observed: Mapping[int, bool],
    label_set_of: Callable[[int], int],
    moved: Mapping[tuple[int, int], int] = MappingProxyType({}),
) -> Booking:
    """Separate new spend from history and from restatements.

    Args:
        deltas: the changes of one window of one source.
        sums: what they add up to; history goes to the base, so that loading it is no spike in any counter.
        observed: the window's hours that a poll had covered before, and whether one had after the hour's end.
        label_set_of: under what a series is published. Amounts that move between series of the same label set within
            an hour change nothing that was published, as when surge became a dimension.
        moved: nano-USD by hour and label set that moved there from others, below zero where they moved away.
    """
    booked = merged(sums, lambda kind: kind.is_history)
    published = {hour for hour, complete in observed.items() if complete}
    published &= {row[0] for row in deltas} if published else set()
    changes: dict[tuple[int, int], int] = {}
    for row in deltas if published else ():
        if row[0] in published:
            place = (row[0], label_set_of(row[1]))
            changes[place] = changes.get(place, 0) + row[6]
    for place, amount in moved.items():
        if place[0] in published:
            changes[place] -= amount
    return Booking(
        base=booked.get(True, {}),
        grown=booked.get(False, {}),
        restated_up=sum(change for change in changes.values() if change > 0),
        restated_down=-sum(change for change in changes.values() if change < 0),
        restated_hours=published,
        relabelled=sum(amount for amount in moved.values() if amount > 0),
    )
