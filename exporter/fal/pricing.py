"""`GET /models/pricing`: list prices of model endpoints, which any key may read; the endpoints have to be named."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from exporter.charges import UnitPrice, hour_of
from exporter.fal.calls import Call, Host, Parameters, Scope
from exporter.fal.client import Client
from exporter.fal.fields import amount, in_dollars, row_of, text
from exporter.fal.rejections import RejectedError

CALL = Call(Host.PLATFORM, "/models/pricing", Scope.API)

_PRODUCT = "model_apis"
_ENDPOINTS_PER_CALL = 50


class ListPrices(NamedTuple):
    """The prices, and how many were not understood, by reason."""

    prices: tuple[UnitPrice, ...]
    rejected: Mapping[str, int]


async def read_list_prices(client: Client, endpoints: Sequence[str]) -> ListPrices:
    """Read what endpoints cost now, before any discount; one that is not understood is left out and counted.

    Raises:
        CallError: every kind of failure; see `exporter.fal.errors`. That fal does not know an endpoint is one.
    """
    deadline = client.deadline()
    hour = hour_of(client.now())
    prices: list[UnitPrice] = []
    rejected: Counter[str] = Counter()
    for first in range(0, len(endpoints), _ENDPOINTS_PER_CALL):
        query: Parameters = {"endpoint_id": list(endpoints[first : first + _ENDPOINTS_PER_CALL])}
        answer = await client.get(CALL, query, deadline, heed_lock=False)
        rows = answer.get("prices") if isinstance(answer, dict) else None
        if not isinstance(rows, list):
            raise client.misshapen(CALL, "`prices` is no list")
        for it in rows:
            try:
                row = row_of(it)
                in_dollars(row.get("currency"))
                model, unit, price = text(row.get("endpoint_id")), text(row.get("unit")), amount(row.get("unit_price"))
            except RejectedError as error:
                client.rejections.reject(rejected, "prices", error.reason, it)
            else:
                prices.append(UnitPrice(client.account, _PRODUCT, model, "", "", unit, hour, price, 0))
    return ListPrices(tuple(prices), dict(rejected))
