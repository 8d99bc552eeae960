"""Changes of a month against the same part of the month before, and their causes; and who moved: by a label or a tag.

A change of an amount bought at a price is split into volume (the difference in quantity at the earlier price) and
price (what remains: the later quantity at the difference in price). What is new or gone has neither. Parts add up to
the change to the nano-dollar.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from exporter.charges import HOUR, Window
from exporter.forecasting.drivers import NO_PARTS, Parts
from exporter.samples import Pages

Cause = Literal["price", "volume", "new", "gone", "unknown"]

OTHER = "__other__"
"""Name of the items that are too small to be published by themselves."""


class Item(NamedTuple):
    """Something that is sold, and to which account; a name that it lacks is empty."""

    account: str
    product: str
    model: str
    app: str
    gpu_class: str


class Bought(NamedTuple):
    """Nano-USD and nano-units of one item in one unit."""

    cost: int = 0
    quantity: int = 0


Purchases = Mapping[tuple[Item, str], Bought]
"""Sums by item and unit."""

Changes = Mapping[Item, Mapping[Cause, int]]
"""Nano-USD by item and cause; causes that changed nothing are left out."""


class Move(NamedTuple):
    """Cost of one value of a label or a tag in two windows of as many hours, in nano-USD."""

    name: str
    before: int
    after: int

    @property
    def change(self) -> int:
        """The later cost less the earlier."""
        return self.after - self.before


_NO_OTHERS = Move(OTHER, 0, 0)


@dataclass(frozen=True, slots=True)
class Moves:
    """Values of a label or a tag that moved, the largest change first, and all others: together they are everything.

    Attributes:
        count: how many values are in `rest`.
    """

    top: tuple[Move, ...] = ()
    count: int = 0
    rest: Move = _NO_OTHERS

    @property
    def total(self) -> Move:
        """All values together."""
        return _together("", (*self.top, self.rest))


def moves(before: Mapping[str, int], after: Mapping[str, int], most: int) -> Moves:
    """Return who moved between two windows, at most so many by name; what cost nothing in both is left out."""
    found = [Move(name, before.get(name, 0), after.get(name, 0)) for name in sorted({*before, *after})]
    ranked = sorted((move for move in found if move.before or move.after), key=lambda move: -abs(move.change))
    others = ranked[most:]
    return Moves(tuple(ranked[:most]), len(others), _together(OTHER, others))


def _together(name: str, found: Sequence[Move]) -> Move:
    return Move(name, sum(move.before for move in found), sum(move.after for move in found))


@dataclass(frozen=True, slots=True)
class TagComparison:
    """Comparison of one account's months by tags; in the same hours of both, all of which have been read by tags.

    Attributes:
        through: end of the hours of this month that are compared; None where none can be.
        before, after: nano-USD by tag and value; what a tag does not explain is `untagged`.
        lacking: why nothing is compared, as the end of a sentence about the account; empty where something is.
    """

    through: datetime | None = None
    before: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    after: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lacking: str = ""


@dataclass(frozen=True, slots=True)
class MonthComparison:
    """Published comparison of the current months of all accounts with the months before.

    Attributes:
        last_month: cost of the same part of the last month, by the configured charge labels.
        this_month: cost of this month in the hours that are compared, by the same labels.
        changes: changes of the cost since, by item and cause.
        parts: the same changes of all accounts together, by the causes of `exporter.forecasting.drivers`.
        tags: by account, of those whose spend is read by tags.
        accounts: those that are compared, also where they have spent nothing.
        movers: who moved: cost of this month in the hours that are compared, by account, label or tag, and its value.
        movers_before: the same of the last month; the same series.
    """

    last_month: Pages = ()
    this_month: Pages = ()
    changes: Pages = ()
    parts: Parts = NO_PARTS
    tags: Mapping[str, TagComparison] = field(default_factory=dict)
    accounts: frozenset[str] = frozenset()
    movers: Pages = ()
    movers_before: Pages = ()


NO_COMPARISON = MonthComparison()


def same_part(month: Window, last_month: Window, until: datetime) -> tuple[Window, Window] | None:
    """Return the part of a month before an instant, and as many hours of the month before.

    A month that is longer than the one before is compared with all of it in its last days.

    Returns:
        The earlier part and the later one; None where the month has no hour before the instant.
    """
    if until <= month.start:
        return None
    return (
        Window(last_month.start, min(last_month.start + (until - month.start) // HOUR * HOUR, last_month.end)),
        Window(month.start, min(until, month.end)),
    )


def changes(before: Purchases, after: Purchases) -> Changes:
    """Return by how much each item changed, and why."""
    known, present = ({item for item, _ in purchases} for purchases in (before, after))
    found: dict[Item, dict[Cause, int]] = {}
    for item, unit in sorted({*before, *after}):
        earlier, later = before.get((item, unit), Bought()), after.get((item, unit), Bought())
        causes: Mapping[Cause, int]
        if item not in known:
            causes = {"new": later.cost}
        elif item not in present:
            causes = {"gone": -earlier.cost}
        else:
            causes = _split(earlier, later)
        for cause, amount in causes.items():
            if amount:
                of_item = found.setdefault(item, {})
                of_item[cause] = of_item.get(cause, 0) + amount
    return found


def _split(earlier: Bought, later: Bought) -> Mapping[Cause, int]:
    change = later.cost - earlier.cost
    if earlier == Bought() or later == Bought():
        return {"volume": change}
    if earlier.quantity <= 0 or later.quantity <= 0:
        return {"unknown": change}
    volume = _divided(earlier.cost * (later.quantity - earlier.quantity), earlier.quantity)
    return {"volume": volume, "price": change - volume}


def _divided(amount: int, by: int) -> int:
    """Divide by a positive number, rounded to the nearest, halves up."""
    return (2 * amount + by) // (2 * by)


def largest(found: Changes, count: int) -> Changes:
    """Return the items that changed most, at most so many, and what remains of each account and product as OTHER.

    Items are ranked by the sum of their causes without signs, so that one whose price rose as much as its volume fell
    is among them.
    """
    ranked = sorted(found, key=lambda item: (-sum(map(abs, found[item].values())), item))
    kept: dict[Item, dict[Cause, int]] = {item: dict(found[item]) for item in ranked[:count]}
    for item in ranked[count:]:
        rest = kept.setdefault(Item(item.account, item.product, OTHER, OTHER, OTHER), {})
        for cause, amount in found[item].items():
            rest[cause] = rest.get(cause, 0) + amount
    return kept
