from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from exporter.charges import NANO, Dimensions
from exporter.fal.prices import Offer, offer, unit_prices

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
