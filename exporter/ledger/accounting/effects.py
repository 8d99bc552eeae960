"""Effects of a restatement: what becomes of totals and counters when the cells of a window are replaced.

fal may report what it reported before under other labels: with fewer dimensions, or under another name. Counters cannot
follow that one by one, as none of them can fall: the new label sets would grow by everything, the old ones would stay,
and the sum over labels would double for good. So an amount that leaves an hour with the label sets that vanish from it,
and comes back with label sets that are new to it, is *moved*: it is no growth of the new ones, and the old ones keep
what they have counted. Each published counter stays where it was, and their sum follows the truth.

All of this is pure arithmetic on the cells of `exporter.ledger.accounting.restatement`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from exporter.charges import Amounts, first_hour_from
from exporter.ledger.accounting.counters import Counter, CounterKey, advanced, measured
from exporter.ledger.accounting.restatement import (
    Booking,
    CellRow,
    Difference,
    HourKind,
    SumsBySeries,
    book,
    difference,
    hour_kinds,
    summed,
)
from exporter.ledger.accounting.totals import Place, Totals


class Move(NamedTuple):
    """A part of the change of one counter's amount in one hour that is moved from or to others.

    Attributes:
        amount: above zero where it was moved to; the moves of an hour and measure, and unit, add up to zero.
    """

    hour: int
    key: CounterKey
    amount: int


@dataclass(frozen=True, slots=True)
class Effects:
    """Effects of a restatement: the cells that change, and what totals and counters make of it.

    Attributes:
        kinds: how each hour counts in which there are changes.
        sums: the changes, added up by kind and series.
        counters: as they are afterwards, those that move or are born.
    """

    change: Difference
    kinds: Mapping[int, HourKind]
    sums: Mapping[HourKind, SumsBySeries]
    booking: Booking
    counters: Mapping[CounterKey, Counter]


def effects_of(
    totals: Totals,
    before: AbstractSet[CellRow],
    after: Sequence[CellRow],
    *,
    observed: Mapping[int, bool],
    counts_from: datetime,
    now: datetime,
) -> Effects:
    """Return what becomes of the ledger when the cells of a window are replaced; nothing is changed yet.

    Args:
        totals: know where each series is published.
        before: the cells of the window as they were.
        after: the cells of the window as they are.
        observed: hours of the window that have been polled before; True for those that were complete.
        counts_from: what was spent before is history, which counters leave out.
        now: the birth of new counters.
    """
    change = difference(before, after)
    kinds = hour_kinds(
        change.deltas,
        observed=observed,
        first_counted=first_hour_from(counts_from),
        periods_of=totals.periods_of,
    )
    sums = summed(change.deltas, kinds)
    moved = moves(
        change.deltas,
        before,
        after,
        is_counted=lambda hour: not kinds[hour].is_history,
        place_of=totals.place_of,
    )
    booking = book(
        change.deltas,
        sums,
        observed=observed,
        label_set_of=lambda number: totals.place_of(number).label_set,
        moved={(move.hour, move.key.label_set): move.amount for move in moved if move.key.measure == "cost"},
    )
    return Effects(change, kinds, sums, booking, _moved_counters(totals, booking, moved, now))


def _moved_counters(
    totals: Totals, booking: Booking, moved: Iterable[Move], now: datetime
) -> dict[CounterKey, Counter]:
    """Return the counters that a booking moves or brings to life.

    Each moves once, by the sum of what its series did: between them fal may have moved an amount from one to another,
    and a counter that followed them one by one would keep the height it passed through. What fal moves to other label
    sets within an hour moves no counter.
    """
    growth: dict[CounterKey, int] = {}
    for amounts_by_series, counts in ((booking.base, 0), (booking.grown, 1)):
        for series, amounts in amounts_by_series.items():
            place = totals.place_of(series)
            for measure, unit, amount in measured(amounts, place.unit):
                key = CounterKey(place.label_set, measure, unit)
                growth[key] = growth.get(key, 0) + amount * counts
    for move in moved:
        growth[move.key] = growth.get(move.key, 0) - move.amount
    new = Counter(0, 0, now, released=False)
    return {key: advanced(totals.counters.get(key, new), by) for key, by in growth.items()}


def moves(
    deltas: Sequence[CellRow],
    before: AbstractSet[CellRow],
    after: Iterable[CellRow],
    *,
    is_counted: Callable[[int], bool],
    place_of: Callable[[int], Place],
) -> list[Move]:
    """Return what a restatement moves between label sets.

    In an hour, what vanishing label sets lose is matched with what label sets new to the hour gain. Where both do not
    add up to the same, the smaller sum is moved, and each counter of the other side takes its share. If the sum of the
    hour stays exactly the same, all that is lost and gained in it is matched: label sets were merged or split. A label
    set that remains and loses in any other hour was corrected, which is nothing to move.

    Quantities are matched per unit, and the label sets of a unit count.

    Args:
        deltas: the changes of one window of one source.
        before: the cells of the window as they were.
        after: the cells of the window as they are.
        is_counted: whether what changes in an hour is counted, not history.
        place_of: where a series is published.
    """
    if not before:
        return []
    falling = {row[0] for row in deltas if min(row[2], row[3], row[5], row[6]) < 0 and is_counted(row[0])}
    # Label sets can only vanish from an hour, or appear, where its series have changed.
    known_series = {row[:2] for row in before if row[0] in falling}
    stated_series = {row[:2] for row in after if row[0] in falling}
    falling &= {hour for hour, _ in known_series ^ stated_series}
    if not falling:
        return []
    known, stated = _present(before, falling, place_of), _present(after, falling, place_of)
    gone, new = known - stated, stated - known
    changes: dict[tuple[int, str, str], dict[CounterKey, int]] = {}
    for hour, series, *amounts in deltas:
        if hour in falling:
            place = place_of(series)
            for measure, unit, amount in measured(Amounts(*amounts), place.unit):
                of_group = changes.setdefault((hour, measure, unit), {})
                key = CounterKey(place.label_set, measure, unit)
                of_group[key] = of_group.get(key, 0) + amount
    found: list[Move] = []
    for (hour, _, _), by_key in changes.items():
        vanished = {key for key in by_key if _presence(hour, key) in gone}
        appeared = {key for key in by_key if _presence(hour, key) in new}
        is_same = sum(by_key.values()) == 0 and bool(vanished or appeared)
        lost = {key: -change for key, change in by_key.items() if change < 0 and (is_same or key in vanished)}
        gained = {key: change for key, change in by_key.items() if change > 0 and (is_same or key in appeared)}
        amount = min(sum(lost.values()), sum(gained.values()))
        if amount:
            found += (Move(hour, key, -share) for key, share in _shares(lost, amount))
            found += (Move(hour, key, share) for key, share in _shares(gained, amount))
    return found


_Presence = tuple[int, int, str | None]


def _present(
    cells: Iterable[CellRow], hours: AbstractSet[int], place_of: Callable[[int], Place]
) -> AbstractSet[_Presence]:
    """Return the label sets that have a cell in some hours, and those that have one of a unit."""
    found: set[_Presence] = set()
    for row in cells:
        if row[0] in hours:
            place = place_of(row[1])
            found.add((row[0], place.label_set, None))
            found.add((row[0], place.label_set, place.unit))
    return found


def _presence(hour: int, key: CounterKey) -> _Presence:
    return hour, key.label_set, key.unit if key.measure == "quantity" else None


def _shares(amounts: Mapping[CounterKey, int], moved: int) -> Iterable[tuple[CounterKey, int]]:
    """Yield the share of each in what is moved: exact in sum, as what is cut off is carried to the next."""
    total = sum(amounts.values())
    passed = given = 0
    for key in sorted(amounts):
        passed += amounts[key]
        share = passed * moved // total - given
        given += share
        if share:
            yield key, share
