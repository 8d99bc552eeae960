"""Charges as the writer takes them, and unit prices that agree with what was charged.

FOCUS wants cost = unit price x quantity. Fal's cost stands, whatever the product: the price that fal states is written
where the product agrees with the cost, else the average price of what was charged. How far fal's own price is off is
shown beside it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from enum import Enum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from exporter.calendar import first_hour_of, month_after
from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, decimal_of
from exporter.focus.values import EXACTLY

_UTC = ZoneInfo("UTC")


class Price(NamedTuple):
    """Price of a unit: nano-USD before discount, and the discount in nano-percent."""

    unit_price: int
    discount: int


class PriceHistory(NamedTuple):
    """Newest price of an item, and those before it.

    Attributes:
        former: instants, the earliest first, with the price and the discount that held until then; None for what did
            not change there.
    """

    newest: Price
    former: Sequence[tuple[datetime, int | None, int | None]] = ()

    def until(self, end: datetime) -> Price:
        """Return the price of a period that is over at an instant; one in which it changed has the newer one."""
        later = [(price, discount) for until, price, discount in self.former if end <= until]
        return Price(
            next((price for price, _ in later if price is not None), self.newest.unit_price),
            next((discount for _, discount in later if discount is not None), self.newest.discount),
        )


class Settlement(NamedTuple):
    """Charge of an invoice that is not usage.

    `category` is Credit, Tax or Adjustment.
    """

    category: str
    description: str


class FocusCharge(NamedTuple):
    """Cost of one combination of dimensions and tags from `start` to `end`, both aware and in UTC, in one UTC month.

    `price` is the price that fal has stated for it, None where none is known. `invoice_id` is empty before there
    is an invoice. A `settlement` has a cost alone. `tags` are those of the requests, a JSON object; empty without.
    """

    start: datetime
    end: datetime
    dimensions: Dimensions
    amounts: Amounts
    price: Price | None = None
    invoice_id: str = ""
    settlement: Settlement | None = None
    tags: str = ""


class Granularity(Enum):
    """The length of the charge periods."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"

    def period(self, hour: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Return the start and the end of the period that an hour belongs to.

        It has whole hours of UTC: a day is the hours that begin in it. One that reaches over the end of a UTC month is
        divided there, since billing periods are months of UTC.
        """
        if self is Granularity.HOUR:
            return hour, hour + HOUR
        first = hour.astimezone(zone).date()
        match self:
            case Granularity.DAY:
                last = first + timedelta(days=1)
            case Granularity.WEEK:
                first -= timedelta(days=first.weekday())
                last = first + timedelta(days=7)
            case _:
                first = first.replace(day=1)
                last = month_after(first)
        start, end = first_hour_of(first, zone), first_hour_of(last, zone)
        return max(start, month_start(hour)), min(end, next_month(hour))


def month_start(instant: datetime) -> datetime:
    """Return the start of an instant's UTC month."""
    return instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(instant: datetime) -> datetime:
    """Return the end of an instant's UTC month, exclusive."""
    return month_start(month_start(instant) + timedelta(days=31))


Divide = Callable[[Charge], Iterable[tuple[str, Amounts]]]
"""Divides a charge by the tags of its requests, which are JSON objects or the empty text."""

PriceKey = tuple[str, str, str, str, str, str]
"""Account, product, model, app, GPU class and unit."""


def focus_charges(
    charges: Iterable[Charge],
    window: Window,
    granularity: Granularity,
    prices: Mapping[PriceKey, PriceHistory],
    zone: ZoneInfo = _UTC,
    *,
    divide: Divide | None = None,
) -> Iterator[FocusCharge]:
    """Sum up a window's charges by period and dimensions; the sums of one period are held at a time.

    Args:
        charges: in the order of their hours.
        window: clips the first and the last period.
        granularity: of the periods.
        prices: by what they are for.
        zone: whose days, weeks and months the periods are.
        divide: divides a charge by tags; None where there are none.

    Raises:
        ValueError: the hours are not in order, which would tear a period apart.
    """
    sums: dict[tuple[Dimensions, str], Amounts] = {}
    current: tuple[datetime, datetime] | None = None

    def period() -> Iterator[FocusCharge]:
        if current is not None:
            start, end = max(current[0], window.start), min(current[1], window.end)
            for (dimensions, tags), amounts in sums.items():
                price = prices.get(_price_key(dimensions))
                stated = None if price is None else price.until(end)
                yield FocusCharge(start, end, dimensions, amounts, stated, tags=tags)

    for charge in charges:
        hour, dimensions, _ = charge
        if current is None or not current[0] <= hour < current[1]:
            if current is not None and hour < current[0]:
                raise ValueError(f"charges of {hour} come after those of {current[0]}")
            yield from period()
            current, sums = granularity.period(hour, zone), {}
        for tags, amounts in (("", charge.amounts),) if divide is None else divide(charge):
            known = sums.get((dimensions, tags))
            sums[dimensions, tags] = amounts if known is None else known.plus(amounts)
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
    """Return whether price x quantity is the cost: to the billionth of it, or of a unit of currency where that is more.

    The tolerance of the official validator; it lets a cost pass that was rounded to whole nano-units.
    """
    difference = EXACTLY.subtract(EXACTLY.multiply(price, quantity), cost)
    return abs(difference) * NANO <= max(abs(cost), Decimal(1))


def _average(cost: Decimal, quantity: Decimal) -> Decimal:
    if not quantity:
        return Decimal(0)
    with localcontext(prec=80, rounding=ROUND_HALF_EVEN):
        return round(cost / quantity, _AVERAGE_PLACES)
