"""What replacing the charges of a window changes: pure arithmetic on cells.

A cell is one series in one hour. Hours are numbers (see `schema`), so that a cell is a pair of integers.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.charges import NOTHING, Amounts


class Cell(NamedTuple):
    """One series in one hour."""

    hour: int
    series: int


class Delta(NamedTuple):
    """By how much a cell changed."""

    hour: int
    series: int
    amounts: Amounts


@dataclass(frozen=True, slots=True)
class Difference:
    """The cells to insert, to update and to delete, and the change of each."""

    added: Mapping[Cell, Amounts]
    changed: Mapping[Cell, Amounts]
    removed: Collection[Cell]
    deltas: tuple[Delta, ...]


def difference(before: Mapping[Cell, Amounts], after: Mapping[Cell, Amounts]) -> Difference:
    """Compare two states of the same window."""
    added: dict[Cell, Amounts] = {}
    changed: dict[Cell, Amounts] = {}
    deltas: list[Delta] = []
    for cell, amounts in after.items():
        known = before.get(cell)
        if known is None:
            added[cell] = amounts
            deltas.append(Delta(*cell, amounts))
        elif known != amounts:
            changed[cell] = amounts
            deltas.append(Delta(*cell, amounts.minus(known)))
    removed = before.keys() - after.keys()
    deltas.extend(Delta(*cell, NOTHING.minus(before[cell])) for cell in removed)
    return Difference(added, changed, removed, tuple(deltas))


@dataclass(slots=True)
class Booking:
    """How the changes of a window are to be booked.

    Attributes:
        base: per series, what counters leave out: it was spent before the ledger began to count.
        grown: per series, what counters count.
        restated_up: nano-USD added to hours that had been published as complete.
        restated_down: nano-USD taken back from such hours, positive.
        restated_hours: the hours that were so changed.
    """

    base: dict[int, Amounts] = field(default_factory=dict)
    grown: dict[int, Amounts] = field(default_factory=dict)
    restated_up: int = 0
    restated_down: int = 0
    restated_hours: set[int] = field(default_factory=set)


def book(deltas: Iterable[Delta], *, observed: Mapping[int, bool], first_counted: int) -> Booking:
    """Tell new spend from history and from restatements.

    Args:
        deltas: the changes of one window of one source.
        observed: the window's hours that a poll had covered before, and whether one had after the hour's end.
        first_counted: the first hour that began after the source's birth. An earlier hour that is observed for the
            first time is history and goes to the base, so that loading it is no spike in any counter.
    """
    booking = Booking()
    for hour, series, amounts in deltas:
        history = hour < first_counted and hour not in observed
        side = booking.base if history else booking.grown
        known = side.get(series)
        side[series] = amounts if known is None else known.plus(amounts)
        if observed.get(hour, False):
            booking.restated_hours.add(hour)
            if amounts.cost > 0:
                booking.restated_up += amounts.cost
            else:
                booking.restated_down -= amounts.cost
    return booking
