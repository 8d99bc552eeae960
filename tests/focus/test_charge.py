from datetime import UTC, datetime
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, NANO, Amounts, Dimensions, decimal_of
from exporter.focus.charge import FocusCharge, Price, agrees, prices_of
from exporter.focus.values import EXACTLY

START = datetime(2026, 10, 1, tzinfo=UTC)
amounts = st.integers(0, 10**15)


def charge(quantity: int, list_cost: int, cost: int, price: Price | None) -> FocusCharge:
    dimensions = Dimensions("main", model="flux", unit="image")
    return FocusCharge(START, START + HOUR, dimensions, Amounts(quantity, 0, list_cost, list_cost - cost, cost), price)


@given(st.integers(1, 10**15), amounts, amounts, st.none() | st.builds(Price, amounts, st.integers(0, 100 * NANO)))
def test_a_price_always_agrees_with_its_cost_and_the_difference_is_exact(
    quantity: int, cost: int, discount: int, stated: Price | None
) -> None:
    prices = prices_of(charge(quantity, cost + discount, cost, stated))
    assert prices is not None
    assert agrees(decimal_of(cost + discount), prices.listed, decimal_of(quantity))
    assert agrees(decimal_of(cost), prices.contracted, decimal_of(quantity))
    if stated is None:
        assert prices.difference is None
    else:
        scaled = (cost + discount) * NANO - stated.unit_price * quantity
        assert prices.difference == Decimal(scaled).scaleb(-18, EXACTLY)


def test_nothing_used_and_nothing_charged_has_the_stated_price() -> None:
    prices = prices_of(charge(0, 0, 0, Price(25_000_000, 50 * NANO)))
    assert prices is not None
    assert (prices.listed, prices.contracted) == (Decimal("0.025"), Decimal("0.0125"))
    assert prices_of(charge(0, 0, 0, None)) == (0, 0, None)


def test_something_charged_for_nothing_used_has_no_price() -> None:
    assert prices_of(charge(0, 1, 1, Price(1, 0))) is None
    assert prices_of(charge(0, 1, 0, None)) is None
    assert prices_of(charge(0, 0, 1, None)) is None


def test_the_tolerance_is_a_billionth_of_the_cost_or_of_one() -> None:
    assert agrees(Decimal("0.000000001"), Decimal(0), Decimal(5))
    assert not agrees(Decimal("0.0000000011"), Decimal(0), Decimal(5))
    assert agrees(Decimal(1000000000), Decimal(1), Decimal(1000000001))
    assert not agrees(Decimal(1000000000), Decimal(1), Decimal("1000000001.1"))
