"""The usage calls of the platform: one way of asking, one way of reading rows, three interfaces.

What differs between `/models/usage`, `/serverless/usage` and `/organization/usage` is an `Interface`: the call, the
fields that decide a row's dimensions, and what they mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter

from exporter.charges import SURGE, Amounts, Dimensions, UnitPrice, Window
from exporter.fal.calls import Call, Parameters
from exporter.fal.client import Client
from exporter.fal.fields import Row, amount, in_dollars, optional_text, row_of, text
from exporter.fal.machines import NO_GPU_TIME, GpuTime
from exporter.fal.paging import pages
from exporter.fal.prices import Offer, offer, unit_prices
from exporter.fal.reading import Reading
from exporter.fal.rejections import RejectedError, Rejection
from exporter.fal.tally import Tally


@dataclass(slots=True)
class Item:
    """What rows with the same names are for, within one reading.

    Attributes:
        gpu: the GPU time in one unit of quantity.
        offer: the price among its rows that counts.
    """

    dimensions: Dimensions
    gpu: GpuTime = NO_GPU_TIME
    offer: Offer | None = None


@dataclass(frozen=True, slots=True)
class Interface:
    """What one usage call promises.

    Attributes:
        source: the name of the source that reads it.
        names: the text fields that decide what a row is for.
        nullable: those of them that may be null or absent.
        describe: makes an item of the account and the values of `names`, in their order.
        tells_key: whether rows can be asked for by key.
        tells_surge: whether rows at surge prices are marked.
        tells_list_price: whether a row's unit price is the one before discount.
    """

    source: str
    call: Call
    names: tuple[str, ...]
    nullable: frozenset[str]
    describe: Callable[[str, Sequence[str]], Item]
    tells_key: bool
    tells_surge: bool = False
    tells_list_price: bool = True


class PlatformUsage:
    """Reads one usage call of the platform for one account."""

    def __init__(self, interface: Interface, client: Client) -> None:
        self.name = interface.source
        self._interface = interface
        self._client = client

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:
        """Read a window through all its pages; see `UsageSource`."""
        by_key = with_api_key and self._interface.tells_key
        client = self._client
        tally = Tally(client.account, self.name, window, client.rejections)
        rows = Rows(self._interface, client.account, tally, by_key=by_key)
        call = self._interface.call
        async for page in pages(client, call, window_parameters(window, by_key=by_key), client.deadline()):
            for bucket in page:
                results = bucket.get("results") if isinstance(bucket, dict) else None
                if not isinstance(bucket, dict) or not isinstance(results, list):
                    raise client.misshapen(call, "`time_series` holds something that is no bucket with `results`")
                rows.take(bucket.get("bucket"), results)
        return tally.reading(rows.prices())


def window_parameters(window: Window, *, by_key: bool) -> Parameters:
    """Return the query for the hours of a window: in UTC, by the hour, and not one more."""
    return {
        "start": f"{window.start:%Y-%m-%dT%H:%M:%SZ}",
        "end": f"{window.end:%Y-%m-%dT%H:%M:%SZ}",
        "timezone": "UTC",
        "timeframe": "hour",
        "bound_to_timeframe": "false",
        "expand": ["time_series", "auth_method_structured"] if by_key else "time_series",
    }


class Rows:
    """Reads the rows of one reading into its tally."""

    def __init__(self, interface: Interface, account: str, tally: Tally, *, by_key: bool) -> None:
        self._interface = interface
        self._account = account
        self._tally = tally
        self._by_key = by_key
        self._names: Callable[[Row], tuple[object, ...]] = itemgetter(*interface.names)
        self._items: dict[tuple[object, ...], Item] = {}

    def take(self, stamp: object, rows: list[object]) -> None:
        """Read the rows of one bucket; a row that is not understood is rejected, the others are taken."""
        hour = self._tally.hour(stamp)
        if isinstance(hour, Rejection):
            for row in rows:
                self._tally.reject(hour, {"bucket": stamp, "row": row})
            return
        for row in rows:
            try:
                self._row(hour, row)
            except RejectedError as rejected:
                self._tally.reject(rejected.reason, row)

    def _row(self, hour: datetime, value: object) -> None:
        row = row_of(value)
        item = self._item(row)
        in_dollars(row.get("currency"))
        self._tally.add(hour, item.dimensions, amounts_of(row, item.gpu.seconds))
        asked = offer(hour, row) if self._interface.tells_list_price else None
        if asked is not None and asked.beats(item.offer):
            item.offer = asked

    def _item(self, row: Row) -> Item:
        """Return what a row is for; worked out once for the same names, which occur by the thousand."""
        try:
            names = self._names(row)
        except KeyError:
            names = tuple(row.get(name) for name in self._interface.names)
        if self._interface.tells_surge:
            names += (row.get("is_surge") is True,)
        if self._by_key:
            names += (api_key(row),)
        try:
            item = self._items.get(names)
        except TypeError:  # a list or an object, which no dictionary takes as a key
            raise RejectedError(Rejection.WRONG_TYPE) from None
        if item is None:
            item = self._items[names] = self._new_item(names)
        return item

    def _new_item(self, names: tuple[object, ...]) -> Item:
        nullable = self._interface.nullable
        texts = [
            optional_text(value) if name in nullable else text(value)
            for name, value in zip(self._interface.names, names, strict=False)
        ]
        item = self._interface.describe(self._account, texts)
        if self._interface.tells_surge and names[len(texts)]:
            item.dimensions = item.dimensions._replace(surge=SURGE)
        if self._by_key:
            item.dimensions = item.dimensions._replace(api_key=text(names[-1]))
        return item

    def prices(self) -> tuple[UnitPrice, ...]:
        """Return the unit prices that the rows stated."""
        return unit_prices((item.dimensions, item.offer) for item in self._items.values() if item.offer)


def amounts_of(row: Row, gpu_seconds: int) -> Amounts:
    """Return how much a row is: what fal charges is `cost_total`, or `cost` in answers that have only that.

    The discount is what is missing between the list cost and the charge, not fal's own figure, so that the three
    always agree to the nano-dollar; a list cost below the charge is raised to it.

    Raises:
        RejectedError: a needed number is absent, none, negative or too large.
    """
    get = row.get
    quantity = amount(get("quantity"))
    total = get("cost_total")
    cost = amount(get("cost") if total is None else total)
    subtotal = get("cost_subtotal")
    if subtotal is not None:
        list_cost = cost if subtotal == total else max(cost, amount(subtotal))
    else:
        discount = get("cost_discount")
        list_cost = cost if discount is None else cost + amount(discount)
    return Amounts(quantity, quantity * gpu_seconds, list_cost, list_cost - cost, cost)


def api_key(row: Row) -> str:
    """Return what tells the key of a row: its id, else the login behind it, else fal's words for it, else nothing."""
    structured = row.get("auth_method_structured")
    if isinstance(structured, dict):
        for name in ("api_key_id", "login_username", "detail"):
            value = structured.get(name)
            if isinstance(value, str) and value:
                return value
    value = row.get("auth_method")
    return value if isinstance(value, str) else ""
