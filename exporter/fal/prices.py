"""Unit prices: as usage rows state them and as `/models/pricing` lists them.

One product, model, app, GPU class and unit may have been sold at several prices. The one that counts is that of the
newest hour; in it a regular price before one for surge, and the highest where several are left.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from exporter.charges import NANO, Dimensions, UnitPrice, hour_of
from exporter.fal.client import Client
from exporter.fal.endpoints import Endpoint, Host, Parameters, Scope
from exporter.fal.rows import RejectedError, Row, amount, in_dollars, row_of, text

_WHOLE = 100 * NANO


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
    """Return the price a row states, or None; a price that is none is no reason to lose the charge."""
    price = row.get("unit_price")
    if (type(price) is not Decimal and type(price) is not int) or price < 0:
        return None
    return Offer(hour, row.get("is_surge") is not True, price, row.get("percent_discount"))


def unit_prices(offers: Iterable[tuple[Dimensions, Offer]]) -> tuple[UnitPrice, ...]:
    """Return the prices that count, each once."""
    best: dict[tuple[str, ...], Offer] = {}
    for dimensions, candidate in offers:
        key = _key(dimensions)
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


def _key(dimensions: Dimensions) -> tuple[str, str, str, str, str, str]:
    return (
        dimensions.account,
        dimensions.product,
        dimensions.model,
        dimensions.app,
        dimensions.gpu_class,
        dimensions.unit,
    )


def _discount(percent: object) -> int:
    """Return a discount in nano-percent; 0 without one, or for what is none."""
    try:
        share = amount(percent)
    except RejectedError:
        return 0
    return share if share <= _WHOLE else 0


CALL = Endpoint(Host.PLATFORM, "/models/pricing", Scope.API)

_PRODUCT = "model_apis"
_ENDPOINTS_PER_CALL = 50


class ListPrices(NamedTuple):
    """The prices, and how many were not understood, by reason."""

    prices: tuple[UnitPrice, ...]
    rejected: Mapping[str, int]


async def read_list_prices(client: Client, endpoints: Sequence[str]) -> ListPrices:
    """Read what endpoints cost now, before any discount; one that is not understood is left out and counted.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`. That fal does not know an endpoint is one.
    """
    deadline = client.deadline()
    hour = hour_of(client.now())
    prices: list[UnitPrice] = []
    rejected: Counter[str] = Counter()
    for first in range(0, len(endpoints), _ENDPOINTS_PER_CALL):
        query: Parameters = {"endpoint_id": list(endpoints[first : first + _ENDPOINTS_PER_CALL])}
        answer = await client.get(CALL, query, deadline, track_lock=False)
        rows = answer.get("prices") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise client.misshapen(CALL, "`prices` is not a list")
        for item in rows:
            try:
                row = row_of(item)
                in_dollars(row.get("currency"))
                model, unit, price = text(row.get("endpoint_id")), text(row.get("unit")), amount(row.get("unit_price"))
            except RejectedError as error:
                client.rejections.reject(rejected, "prices", error.reason, item)
            else:
                prices.append(UnitPrice(client.account, _PRODUCT, model, "", "", unit, hour, price, 0))
    return ListPrices(tuple(prices), dict(rejected))
