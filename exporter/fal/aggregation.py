"""Aggregation of rows: what one source reports of one window, added up.

fal splits what one combination of dimensions cost in an hour over several rows: by price, discount, key, surge. `Tally`
adds them up and knows which hours were asked for: fal may widen a window, and what lies outside belongs to another
poll.

Rows may be finer than a nano-unit. They are added up in atto-units; the sums of an hour are rounded together, so that
the hour is right to the nano-unit.

One product, model, app, GPU class and unit may have been sold at several prices. The one that counts is that of the
newest hour; in it a regular price before one for surge, and the highest where several are left.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar

from exporter.charges import (
    ATTO_PER_NANO,
    NANO,
    Amounts,
    Charge,
    Dimensions,
    RejectedRow,
    UnitPrice,
    Window,
    hour_of,
    nano_of_atto,
)
from exporter.fal.buckets import Allowance, Buckets
from exporter.fal.endpoints import Deadline
from exporter.fal.rows import RejectedError, Rejection, Rejections, Row, amount, instant


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything one source said of one window; it replaces whatever the source said of it before.

    Attributes:
        charges: summed, one for every hour and combination of dimensions.
        prices: one for every product, model, app, GPU class and unit.
        rejected: how many rows were not understood, by reason (one of `exporter.fal.rows.REJECTIONS`).
        rejected_rows: these rows, without those that belong to another poll.
        rows: how many rows were counted, in part too.
    """

    account: str
    source: str
    window: Window
    charges: tuple[Charge, ...]
    prices: tuple[UnitPrice, ...]
    rejected: Mapping[str, int]
    rejected_rows: tuple[RejectedRow, ...] = ()
    rows: int = 0


class Detail(StrEnum):
    """Detail in which an interface reports charges, where it does not report the same to everybody.

    It is chosen once, at the birth of a source, and never lowered by a refusal: charges without the detail would be
    counted again under other labels. Whoever keeps the source keeps its detail, too.
    """

    UNKNOWN = ""
    FULL = "full"
    REDUCED = "reduced"


SECOND_LOOK = timedelta(seconds=1)
"""Delay after which a refusal that decides the detail is believed; a stray one is gone by then."""


class UsageSource(Protocol):
    """One of fal's interfaces that yields charges; lives as long as its client.

    Attributes:
        detail: to be set before the first reading where it is known; unknown, the first reading chooses it. None where
            the interface reports the same to every key.
    """

    name: str
    detail: Detail | None

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:
        """Read a window to its end, or fail without a result.

        Args:
            window: whole UTC hours; the last may still be running.
            with_api_key: whether to ask for charges by key, where the interface reports them.

        Raises:
            DetailRefusedError: fal refuses a detail that it has reported before.
            ApiError: every kind of failure; see `exporter.fal.errors`.
        """

    async def read_buckets(self, buckets: Buckets, deadline: Deadline, allowance: Allowance) -> Reading:
        """Read a window in buckets as long as are wanted, for one question; a charge's hour is its bucket's first.

        Calls are made one after the other, so that polls are not kept waiting.

        Raises:
            TooMuchError: it takes more calls than are left.
            ApiError: every kind of failure; see `exporter.fal.errors`.
        """

    async def ask_for_detail(self, window: Window) -> None:
        """Ask again for the detail that fal has refused, and read with it from now on where it is given.

        Args:
            window: one hour that is over.

        Raises:
            ApiError: the answer says neither yes nor no.
        """


_LARGEST = (2**63 - 1) * ATTO_PER_NANO


class Tally:
    """The sums of one reading while its rows come in; amounts are in atto-units.

    Args:
        edges: where the buckets begin that may come; None for every hour of the window.
    """

    def __init__(
        self,
        account: str,
        source: str,
        window: Window,
        rejections: Rejections,
        *,
        edges: Collection[datetime] | None = None,
    ) -> None:
        self._edges = edges
        self._account = account
        self._source = source
        self._window = window
        self._rejections = rejections
        self._rejected: Counter[str] = Counter()
        self._rejected_rows: list[RejectedRow] = []
        self._rows = 0
        self._hours: dict[datetime, dict[Dimensions, Amounts]] = {}
        self._stamps: dict[object, datetime | Rejection] = {}

    def reject(
        self,
        reason: Rejection,
        row: object,
        *,
        hour: datetime | None = None,
        dimensions: Dimensions | None = None,
        cost: int = 0,
        is_counted: bool = False,
    ) -> None:
        """Count a row that is not understood; see `RejectedRow`."""
        self._rejections.reject(self._rejected, self._source, reason, row)
        if reason is not Rejection.OUTSIDE_WINDOW or hour is not None:
            self._rejected_rows.append(RejectedRow(reason.value, hour, dimensions, cost, is_counted))

    def hour(self, stamp: object) -> datetime | Rejection:
        """Return the hour that a bucket's stamp names, or why its rows cannot be taken."""
        if not isinstance(stamp, str):
            return Rejection.BUCKET
        known = self._stamps.get(stamp)
        if known is None:
            known = self._stamps[stamp] = self._hour(stamp)
        return known

    def _hour(self, stamp: str) -> datetime | Rejection:
        try:
            hour = instant(stamp)
        except RejectedError as error:
            return error.reason
        if hour != hour_of(hour) or "T" not in stamp.upper().replace(" ", "T"):
            return Rejection.BUCKET
        if hour not in self._window:
            return Rejection.OUTSIDE_WINDOW
        return hour if self._edges is None or hour in self._edges else Rejection.BUCKET

    def add(self, hour: datetime, dimensions: Dimensions, amounts: Amounts) -> None:
        """Add one row to its charge.

        Raises:
            RejectedError: the sum is too large for a ledger.
        """
        charges = self._hours.get(hour)
        if charges is None:
            charges = self._hours[hour] = {}
        known = charges.get(dimensions)
        total = amounts if known is None else known.plus(amounts)
        # None is negative, so that the union of their bits passes the limit if one of them does.
        if total.quantity | total.gpu_seconds | total.list_cost > _LARGEST:
            raise RejectedError(Rejection.OUT_OF_RANGE)
        charges[dimensions] = total
        self._rows += 1

    def reading(self, prices: tuple[UnitPrice, ...] = ()) -> Reading:
        """Return the sums, with the prices that were seen."""
        return Reading(
            account=self._account,
            source=self._source,
            window=self._window,
            charges=tuple(
                Charge(hour, dimensions, amounts)
                for hour, charges in self._hours.items()
                for dimensions, amounts in rounded(charges)
            ),
            prices=prices,
            rejected=dict(self._rejected),
            rejected_rows=tuple(self._rejected_rows),
            rows=self._rows,
        )


def one_reading(window: Window, readings: Iterable[Reading]) -> Reading:
    """Return readings of parts of a window, of one source, as one."""
    first, *others = readings
    rejected = Counter(first.rejected)
    for other in others:
        rejected.update(other.rejected)
    every = (first, *others)
    return Reading(
        account=first.account,
        source=first.source,
        window=window,
        charges=tuple(charge for reading in every for charge in reading.charges),
        prices=(),
        rejected=dict(rejected),
        rejected_rows=tuple(row for reading in every for row in reading.rejected_rows),
        rows=sum(reading.rows for reading in every),
    )


_Key = TypeVar("_Key", bound=tuple[object, ...])


def rounded(sums: Mapping[_Key, Amounts]) -> Iterator[tuple[_Key, Amounts]]:
    """Round the sums of one hour from atto-units to nano-units.

    What is cut off one sum is carried to the next, so that the sum of all is right to the nano-unit, and each is off by
    a nano-unit at the most. Cost is list cost less discount before and after.
    """
    if not any(value % ATTO_PER_NANO for amounts in sums.values() for value in amounts):
        for dimensions, (quantity, gpu_seconds, list_cost, discount, cost) in sums.items():
            yield (
                dimensions,
                Amounts(
                    quantity // ATTO_PER_NANO,
                    gpu_seconds // ATTO_PER_NANO,
                    list_cost // ATTO_PER_NANO,
                    discount // ATTO_PER_NANO,
                    cost // ATTO_PER_NANO,
                ),
            )
        return
    carried = Amounts()
    # In an order of their own: that of the rows may be another in the next answer.
    for dimensions in sorted(sums):
        wanted = sums[dimensions].plus(carried)
        cost = nano_of_atto(wanted.cost)
        list_cost = max(nano_of_atto(wanted.list_cost), cost)
        amounts = Amounts(
            nano_of_atto(wanted.quantity), nano_of_atto(wanted.gpu_seconds), list_cost, list_cost - cost, cost
        )
        carried = Amounts(*(value - whole * ATTO_PER_NANO for value, whole in zip(wanted, amounts, strict=True)))
        yield dimensions, amounts


_EVERYTHING = 100 * NANO


class Offer(NamedTuple):
    """One row's price; the first three fields rank it."""

    hour: datetime
    regular: bool
    price: Decimal | int
    percent: object

    def beats(self, other: "Offer | None") -> bool:
        """Return whether this price counts rather than another for the same thing."""
        return other is None or self.hour > other.hour or (self.hour == other.hour and self[1:3] > other[1:3])


def offer(hour: datetime, row: Row) -> Offer | None:
    """Return the price a row states, or None; an invalid price is no reason to lose the charge."""
    price = row.get("unit_price")
    if (type(price) is not Decimal and type(price) is not int) or price < 0:
        return None
    return Offer(hour, row.get("is_surge") is not True, price, row.get("percent_discount"))


def unit_prices(offers: Iterable[tuple[Dimensions, Offer]]) -> tuple[UnitPrice, ...]:
    """Return the prices that count, each once."""
    best: dict[tuple[str, ...], Offer] = {}
    for dimensions, candidate in offers:
        key = _price_key(dimensions)
        if candidate.beats(best.get(key)):
            best[key] = candidate
    found = []
    for (account, product, model, app, gpu_class, unit), chosen in best.items():
        try:
            price = amount(chosen.price)
        except RejectedError:
            continue
        found.append(
            UnitPrice(account, product, model, app, gpu_class, unit, chosen.hour, price, _discount(chosen.percent))
        )
    return tuple(found)


def _price_key(dimensions: Dimensions) -> tuple[str, str, str, str, str, str]:
    return (
        dimensions.account,
        dimensions.product,
        dimensions.model,
        dimensions.app,
        dimensions.gpu_class,
        dimensions.unit,
    )


def _discount(percent: object) -> int:
    """Return a discount in nano-percent; 0 without one, or if it is invalid."""
    try:
        share = amount(percent)
    except RejectedError:
        return 0
    return share if share <= _EVERYTHING else 0
