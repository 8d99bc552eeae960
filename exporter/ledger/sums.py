"""What rows of charges add up to by series, over hours that count alike.

A restatement is booked, added to totals of days and shown in periods; each wants other hours together. So its rows,
which come by the hundred thousand, are added up once, over hours that nobody tells apart, and everybody adds up those
sums.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

from exporter.charges import Amounts

CellRow = tuple[int, int, int, int, int, int, int]
"""Hour and series, both as numbers (see `schema`), and the five amounts of `exporter.charges.Amounts`."""

HOURS_OF_DAY = 24

SumsBySeries = Mapping[int, Amounts]

Kind = TypeVar("Kind", bound=Hashable)
Wider = TypeVar("Wider", bound=Hashable)


class HourKind(NamedTuple):
    """What has to be known of an hour to count it.

    Attributes:
        day: days from 1970 to it.
        is_history: whether it was spent before the ledger began to count.
        periods: the names of the running periods that it lies in.
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
