"""Charges as the writer takes them, and unit prices that agree with what was charged.

FOCUS wants cost = unit price x quantity. Fal's cost stands, whatever the product: the price that fal states is written
where the product agrees with the cost, else the average price of what was charged. How far fal's own price is off is
shown beside it.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import Enum
from typing import NamedTuple

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, decimal_of
from exporter.focus.values import EXACTLY


class Price(NamedTuple):
    """Price of a unit: nano-USD before discount, and the discount in nano-percent."""

    unit_price: int
    discount: int


class FocusCharge(NamedTuple):
    """Cost of one combination of dimensions from `start` to `end`, both aware and in UTC, in one UTC month.

    `price` is the newest price that fal has stated for it, None where none is known.
    """

    start: datetime
    end: datetime
    dimensions: Dimensions
    amounts: Amounts
    price: Price | None = None


class Granularity(Enum):
    """The length of the charge periods."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"

    def start(self, hour: datetime) -> datetime:
        """Return the start of the UTC period that holds an hour."""
        if self is Granularity.HOUR:
            return hour
        return hour.replace(hour=0) if self is Granularity.DAY else month_start(hour)

    def end(self, start: datetime) -> datetime:
        """Return the end of the period that starts then."""
        if self is Granularity.HOUR:
            return start + HOUR
        return start + timedelta(days=1) if self is Granularity.DAY else next_month(start)


def month_start(instant: datetime) -> datetime:
    """Return the start of an instant's UTC month."""
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(instant: datetime) -> datetime:
    """Return the end of an instant's UTC month, exclusive."""
    return month_start(month_start(instant) + timedelta(days=31))


PriceKey = tuple[str, str, str, str, str, str]
"""Account, product, model, app, GPU class and unit."""


def focus_charges(
    charges: Iterable[Charge], window: Window, granularity: Granularity, prices: Mapping[PriceKey, Price]
) -> Iterator[FocusCharge]:
    """Sum up a window's charges by period and dimensions; the sums of one period are held at a time.

    Args:
        charges: in the order of their hours.
        window: clips the first and the last period.
        granularity: of the periods.
        prices: by what they are for.

    Raises:
        ValueError: the hours are not in order, which would tear a period apart.
    """
    sums: dict[Dimensions, Amounts] = {}
    current: datetime | None = None

    def period() -> Iterator[FocusCharge]:
        if current is not None:
            start, end = max(current, window.start), min(granularity.end(current), window.end)
            for dimensions, amounts in sums.items():
                yield FocusCharge(start, end, dimensions, amounts, prices.get(_price_key(dimensions)))

    for hour, dimensions, amounts in charges:
        start = granularity.start(hour)
        if start != current:
            if current is not None and start < current:
                raise ValueError(f"charges of {hour} come after those of {current}")
            yield from period()
            current, sums = start, {}
        known = sums.get(dimensions)
        sums[dimensions] = amounts if known is None else known.plus(amounts)
    yield from period()


def _price_key(dimensions: Dimensions) -> PriceKey:
    return (
        *(dimensions.account, dimensions.product, dimensions.model),
        *(dimensions.app, dimensions.gpu_class, dimensions.unit),
    )


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
