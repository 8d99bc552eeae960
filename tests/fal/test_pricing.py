from decimal import Decimal

import pytest
from fal.conftest import Bench, Fal, as_json, refused

from exporter.charges import UnitPrice, hour_of
from exporter.fal.errors import NotFoundError, ShapeError
from exporter.fal.prices import read_list_prices

PATH = "/v1/models/pricing"
FLUX = {"endpoint_id": "fal-ai/flux/dev", "unit": "image", "unit_price": Decimal("0.025"), "currency": "USD"}


async def test_list_prices_are_of_now_and_without_a_discount(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"prices": [FLUX], "has_more": False, "next_cursor": None}))
    client = bench.client()
    prices, rejected = await read_list_prices(client, ["fal-ai/flux/dev"])
    hour = hour_of(client.now())
    assert prices == (UnitPrice("prod", "model_apis", "fal-ai/flux/dev", "", "", "image", hour, 25_000_000, 0),)
    assert rejected == {}


async def test_endpoints_are_asked_for_fifty_at_a_time(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"prices": []}))
    await read_list_prices(bench.client(), [f"fal-ai/model-{number}" for number in range(120)])
    assert [len(request.query["endpoint_id"]) for request in fal.asked(PATH)] == [50, 50, 20]


async def test_a_row_that_is_not_understood_is_left_out_and_counted(fal: Fal, bench: Bench) -> None:
    rows = [FLUX | {"currency": "EUR"}, FLUX | {"unit_price": -1}, "x", FLUX]
    fal.plays(PATH, as_json({"prices": rows}))
    prices, rejected = await read_list_prices(bench.client(), ["fal-ai/flux/dev"])
    assert len(prices) == 1
    assert sum(rejected.values()) == 3


async def test_an_endpoint_that_fal_does_not_know_and_another_shape_are_failures(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, refused(404, "not_found", "Endpoint 'x' was not found."), as_json([FLUX]))
    client = bench.client()
    with pytest.raises(NotFoundError, match="'x' was not found"):
        await read_list_prices(client, ["x"])
    with pytest.raises(ShapeError, match="`prices` is no list"):
        await read_list_prices(client, ["x"])
