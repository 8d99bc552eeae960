from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from fal.conftest import Bench, Fal, as_json, refused

from exporter.charges import NANO, Dimensions, UnitPrice, hour_of
from exporter.fal.errors import NotFoundError, ShapeError
from exporter.fal.prices import Offer, offer, read_list_prices, unit_prices

HOUR = datetime(2026, 11, 21, 10, tzinfo=UTC)
THING = Dimensions("prod", product="models", model="m", unit="image")


def found(*offers: tuple[Dimensions, Offer | None]) -> list[tuple[str, int, int]]:
    return [
        (price.model, price.price, price.discount)
        for price in unit_prices((dimensions, made) for dimensions, made in offers if made)
    ]


def test_the_newest_hour_wins_then_the_regular_price_then_the_highest() -> None:
    old = offer(HOUR - timedelta(hours=1), {"unit_price": 9})
    surge = offer(HOUR, {"unit_price": 8, "is_surge": True})
    low = offer(HOUR, {"unit_price": Decimal("0.5"), "is_surge": False})
    high = offer(HOUR, {"unit_price": Decimal("0.6"), "percent_discount": Decimal("12.5")})
    for order in ([old, surge, low, high], [high, low, surge, old]):
        assert found(*((THING, made) for made in order)) == [("m", 600_000_000, 12_500_000_000)]
    assert found((THING, old), (THING, surge)) == [("m", 8 * NANO, 0)]


def test_team_environment_and_key_share_a_price() -> None:
    low, high = offer(HOUR, {"unit_price": 1}), offer(HOUR, {"unit_price": 2})
    variants = [THING._replace(team="t"), THING._replace(environment="e"), THING._replace(api_key="k")]
    assert found(*((variant, low) for variant in variants), (THING, high)) == [("m", 2 * NANO, 0)]
    assert len(found((THING, low), (THING._replace(unit="second"), low))) == 2


@pytest.mark.parametrize("price", [None, "0.1", True, -1, Decimal("-0.1"), [], {}])
def test_a_price_that_is_none_is_left_out(price: object) -> None:
    assert offer(HOUR, {"unit_price": price}) is None


def test_a_price_too_large_for_a_ledger_is_left_out() -> None:
    assert found((THING, offer(HOUR, {"unit_price": Decimal("Infinity")}))) == []


@pytest.mark.parametrize("percent", [None, -5, 101, "10 %", Decimal("Infinity")])
def test_a_discount_that_is_none_is_zero(percent: object) -> None:
    assert found((THING, offer(HOUR, {"unit_price": 1, "percent_discount": percent}))) == [("m", NANO, 0)]


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
    with pytest.raises(ShapeError, match="`prices` is not a list"):
        await read_list_prices(client, ["x"])
