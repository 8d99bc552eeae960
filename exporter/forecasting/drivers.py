"""Drivers: the difference between the spend of two windows, split into its causes without a remainder.

Both windows are sums by item: a model or app of an account, with the machine and the unit that it is sold by. The
causes of one item are exact fractions, which become nano-USD at the end, so that they add up to the item's difference;
those of the items add up to the difference of the windows.

- *New* and *vanished*: all that is charged for a model or app that was not charged for in the other window.
- *Volume*: more or less of a kind of unit (images, seconds of video, seconds of machines) at the earlier prices, as if
  each item had grown as the kind has as a whole.
- *Mix*: what the items have moved apart from that growth, at the earlier prices: from cheap to dear models, say. A
  model's change to another machine or unit is mix, too.
- *Price*, *surge*, *discount*: the later quantity at the change of the list price, then of the surcharge of surge
  prices, then of the rate of discount. A surcharge or a rate that stays the same is none of them.
- *Unknown*: charges without a quantity, of which neither price nor volume can be told.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import NamedTuple

_MACHINES = frozenset({"serverless", "compute"})


class Item(NamedTuple):
    """Something that is sold by a unit, and to which account; a name that it lacks is empty."""

    account: str
    product: str
    model: str
    app: str
    gpu_class: str
    unit: str

    @property
    def name(self) -> tuple[str, ...]:
        """Thing that is new or has vanished: a model or app, of whatever account; a machine where neither is known."""
        return self.product, self.model, self.app, "" if self.model or self.app else self.gpu_class

    @property
    def kind(self) -> tuple[bool, str]:
        """Key of what can be added up: units of one name; seconds of machines are not those of videos."""
        return self.product in _MACHINES, self.unit


class Purchase(NamedTuple):
    """Nano-units and nano-USD of one item in one window; list costs are before discount, cost is after.

    Attributes:
        surge_quantity, surge_list_cost: what of both was sold at surge prices.
    """

    quantity: int = 0
    list_cost: int = 0
    cost: int = 0
    surge_quantity: int = 0
    surge_list_cost: int = 0

    def plus(self, other: "Purchase") -> "Purchase":
        """Return the sum, field by field."""
        return Purchase(*(one + more for one, more in zip(self, other, strict=True)))


NOT_BOUGHT = Purchase()


class Parts(NamedTuple):
    """A difference by cause, in nano-USD."""

    price: int = 0
    volume: int = 0
    mix: int = 0
    new: int = 0
    vanished: int = 0
    discount: int = 0
    surge: int = 0
    unknown: int = 0

    def plus(self, other: "Parts") -> "Parts":
        """Return the sum, cause by cause."""
        return Parts(*(one + more for one, more in zip(self, other, strict=True)))


NO_PARTS = Parts()

Purchases = Mapping[Item, Purchase]


class Driver(NamedTuple):
    """One item: what was bought of it in both windows, and the causes of the difference of their costs."""

    item: Item
    before: Purchase
    after: Purchase
    parts: Parts

    @property
    def difference(self) -> int:
        """The later cost less the earlier, which is the sum of the parts."""
        return self.after.cost - self.before.cost


def drivers(before: Purchases, after: Purchases) -> tuple[Driver, ...]:
    """Return the items of two windows with the causes of their differences, in the order of the items."""
    known, present = (
        {item.name for item, bought in purchases.items() if bought != NOT_BOUGHT} for purchases in (before, after)
    )
    both = known & present
    growths = _growths(before, after, both)
    found = []
    for item in sorted({*before, *after}):
        earlier, later = before.get(item, NOT_BOUGHT), after.get(item, NOT_BOUGHT)
        if earlier == later == NOT_BOUGHT:
            continue
        if item.name not in known:
            parts = Parts(new=later.cost)
        elif item.name not in present:
            parts = Parts(vanished=-earlier.cost)
        else:
            parts = _parts(earlier, later, growths.get(item.kind))
        found.append(Driver(item, earlier, later, parts))
    return tuple(found)


def total(found: Iterable[Driver]) -> Parts:
    """Return the causes of all items together."""
    parts = NO_PARTS
    for driver in found:
        parts = parts.plus(driver.parts)
    return parts


def ranked(found: Iterable[Driver]) -> list[Driver]:
    """Return the items that moved most first: by the sum of their causes without signs, then by name.

    So that an item whose price rose as much as its volume fell is among the first.
    """
    return sorted(found, key=lambda driver: (-sum(map(abs, driver.parts)), driver.item))


def _is_priced(bought: Purchase) -> bool:
    """Tell whether a purchase has a price: a quantity, and a list cost that the cost can be a part of."""
    return bought.quantity > 0 and (bought.list_cost > 0 or bought.list_cost == bought.cost == 0)


def _growths(
    before: Purchases, after: Purchases, names: "set[tuple[str, ...]]"
) -> Mapping[tuple[bool, str], Fraction | None]:
    """Return by what each kind of unit has been multiplied; None for one that was not sold in both windows."""
    sums: dict[tuple[bool, str], list[int]] = {}
    for item in {*before, *after}:
        pair = before.get(item, NOT_BOUGHT), after.get(item, NOT_BOUGHT)
        if item.name in names and all(bought == NOT_BOUGHT or _is_priced(bought) for bought in pair):
            of_kind = sums.setdefault(item.kind, [0, 0])
            of_kind[0] += pair[0].quantity
            of_kind[1] += pair[1].quantity
    return {kind: Fraction(later, earlier) if earlier and later else None for kind, (earlier, later) in sums.items()}


def _parts(before: Purchase, after: Purchase, growth: Fraction | None) -> Parts:
    """Return the causes of one item of a model or app that was bought in both windows."""
    if not all(bought == NOT_BOUGHT or _is_priced(bought) for bought in (before, after)):
        return Parts(unknown=after.cost - before.cost)
    if growth is None:
        return Parts(mix=after.cost - before.cost)
    volume = before.cost * (growth - 1)
    if NOT_BOUGHT in {before, after}:
        return _rounded({"volume": volume, "mix": after.cost - before.cost - volume})
    earlier, later = _rates(before, after), _rates(after, before)
    unit_cost = Fraction(before.cost, before.quantity)
    quantity = after.quantity
    return _rounded(
        {
            "price": quantity * (later.price - earlier.price) * earlier.surcharge * earlier.kept,
            "volume": volume,
            "mix": unit_cost * (quantity - before.quantity * growth),
            "discount": quantity * later.price * later.surcharge * (later.kept - earlier.kept),
            "surge": quantity * later.price * (later.surcharge - earlier.surcharge) * earlier.kept,
        },
    )


class _Rates(NamedTuple):
    """Factors whose product is what a unit costs on average, in nano-USD for a nano-unit.

    Attributes:
        price: list price without surge.
        surcharge: the average list price in terms of it.
        kept: the cost in terms of the list cost, 1 without a discount.
    """

    price: Fraction
    surcharge: Fraction
    kept: Fraction


def _rates(bought: Purchase, other: Purchase) -> _Rates:
    """Return the rates of a window; those that cannot be told of it, as of the other."""
    if not bought.list_cost:
        # What was free tells no rates; at those of the other window it is the price alone that has changed.
        return _rates(other, bought)._replace(price=Fraction(0)) if other.list_cost else _FREE
    average = Fraction(bought.list_cost, bought.quantity)
    price = average
    if bought.surge_quantity:
        # Where all was sold at surge prices, the price without them is that of the other window, if there is one.
        price = _plain_price(bought) or _plain_price(other) or average
    return _Rates(price, average / price, Fraction(bought.cost, bought.list_cost))


_FREE = _Rates(Fraction(0), Fraction(1), Fraction(1))


def _plain_price(bought: Purchase) -> Fraction | None:
    """Return the list price of what was not sold at surge prices; None where there is none above 0."""
    quantity, list_cost = bought.quantity - bought.surge_quantity, bought.list_cost - bought.surge_list_cost
    return Fraction(list_cost, quantity) if quantity > 0 and list_cost > 0 else None


def _rounded(exact: Mapping[str, Fraction]) -> Parts:
    """Round fractions that add up to a whole number so that they still do.

    Each is rounded down, and what is missing of the sum goes, one by one, to those that lost most; of equals, to the
    first in the order of the causes.
    """
    names: Sequence[str] = [name for name in Parts._fields if name in exact]
    whole = {name: exact[name].numerator // exact[name].denominator for name in names}
    missing = int(sum(exact.values())) - sum(whole.values())
    for name in sorted(names, key=lambda name: (whole[name] - exact[name], names.index(name)))[:missing]:
        whole[name] += 1
    return Parts(**whole)
