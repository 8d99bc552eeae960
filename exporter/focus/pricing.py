"""Unit prices that agree with what was charged.

FOCUS wants cost = unit price x quantity. Fal's cost stands, whatever the product: the price that fal states is written
where the product agrees with the cost, else the average price of what was charged. How far fal's own price is off is
shown beside it.
"""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import NamedTuple

from exporter.charges import NANO, decimal_of
from exporter.focus.charge import FocusCharge
from exporter.focus.values import EXACTLY

_HUNDRED_PERCENT = 100 * NANO
_AVERAGE_PLACES = 18


class Prices(NamedTuple):
    """The unit prices of a charge, in dollars.

    Attributes:
        listed: before discount.
        contracted: after discount.
        difference: list cost less fal's own list price x quantity; None where fal has stated no price.
    """

    listed: Decimal
    contracted: Decimal
    difference: Decimal | None


def prices_of(charge: FocusCharge) -> Prices | None:
    """Return a charge's unit prices; None where nothing was used and yet something charged."""
    amounts, stated = charge.amounts, charge.price
    quantity = decimal_of(amounts.quantity)
    list_cost, cost = decimal_of(amounts.list_cost), decimal_of(amounts.cost)
    if not quantity and (list_cost or cost):
        return None
    if stated is None:
        return Prices(_average(list_cost, quantity), _average(cost, quantity), None)
    listed = decimal_of(stated.unit_price)
    share = EXACTLY.divide(Decimal(_HUNDRED_PERCENT - stated.discount), Decimal(_HUNDRED_PERCENT))
    contracted = EXACTLY.multiply(listed, share)
    difference = EXACTLY.subtract(list_cost, EXACTLY.multiply(listed, quantity))
    return Prices(
        listed if agrees(list_cost, listed, quantity) else _average(list_cost, quantity),
        contracted if agrees(cost, contracted, quantity) else _average(cost, quantity),
        difference,
    )


def agrees(cost: Decimal, price: Decimal, quantity: Decimal) -> bool:
    """Tell whether price x quantity is the cost: to the billionth of it, or of a unit of currency where that is more.

    The tolerance of the official validator; it lets a cost pass that was rounded to whole nano-units.
    """
    difference = EXACTLY.subtract(EXACTLY.multiply(price, quantity), cost)
    return abs(difference) * NANO <= max(abs(cost), Decimal(1))


def _average(cost: Decimal, quantity: Decimal) -> Decimal:
    if not quantity:
        return Decimal(0)
    with localcontext(prec=80, rounding=ROUND_HALF_EVEN):
        return round(cost / quantity, _AVERAGE_PLACES)
