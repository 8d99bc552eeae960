from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import (
    ATTO_PER_NANO,
    NANO,
    Amounts,
    Charge,
    Dimensions,
    RejectedRow,
    Window,
    nano_of_atto,
)
from exporter.fal.aggregation import Offer, Tally, offer, rounded, unit_prices
from exporter.fal.rows import Rejection, Rejections

START = datetime(2026, 11, 21, 10, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=3))

CHARGES = st.builds(
    Charge,
    st.sampled_from(list(WINDOW.hours())),
    st.sampled_from([Dimensions("prod", model=model) for model in "abc"]),
    st.integers(0, 10**12).map(lambda cost: Amounts(cost + 1, cost + 2, cost + 3, 3, cost)),
)


def tally() -> Tally:
    return Tally("prod", "models", WINDOW, Rejections("prod", lambda text: text))


@given(st.lists(CHARGES))
def test_a_reading_holds_one_sum_for_each_hour_and_dimensions(charges: list[Charge]) -> None:
    sums = tally()
    for hour, dimensions, amounts in charges:
        sums.add(hour, dimensions, Amounts(*(value * ATTO_PER_NANO for value in amounts)))
    expected = {
        Charge(*key, Amounts(*map(sum, zip(*(charge.amounts for charge in charges if charge[:2] == key), strict=True))))
        for key in {charge[:2] for charge in charges}
    }
    assert sorted(sums.reading().charges) == sorted(expected)


FINE = st.integers(0, 10**12)


@given(st.lists(st.builds(lambda cost, off, other: Amounts(other, other * 8, cost + off, off, cost), FINE, FINE, FINE)))
def test_an_hour_is_right_to_the_nano_unit_however_fine_its_amounts_are(fine: list[Amounts]) -> None:
    sums = {Dimensions("prod", model=str(number)): amounts for number, amounts in enumerate(fine)}
    whole = dict(rounded(sums))
    assert set(whole) == set(sums)
    for measure in ("quantity", "gpu_seconds", "cost"):
        exact = sum(getattr(item, measure) for item in fine)
        assert abs(sum(getattr(item, measure) for item in whole.values()) - Fraction(exact, ATTO_PER_NANO)) <= Fraction(
            1, 2
        )
    for dimensions, amounts in whole.items():
        assert min(amounts) >= 0
        assert amounts.list_cost - amounts.discount == amounts.cost
        for value, exact in zip(amounts, sums[dimensions], strict=True):
            assert abs(value - Fraction(exact, ATTO_PER_NANO)) <= 2


def test_five_hundred_rows_finer_than_a_nano_dollar_add_up() -> None:
    sums = tally()
    for number in range(500):
        for model in ("a", str(number)):
            sums.add(START, Dimensions("prod", model=model), Amounts(list_cost=400_000_000, cost=400_000_000))
    costs = {charge.dimensions.model: charge.amounts.cost for charge in sums.reading().charges}
    assert (costs.pop("a"), sum(costs.values()), max(costs.values())) == (200, 200, 1)


@given(st.integers(-(10**20), 10**20))
def test_atto_units_become_nano_units_half_even(amount: int) -> None:
    assert nano_of_atto(amount) == round(Fraction(amount, ATTO_PER_NANO))


def test_rejected_rows_are_kept_but_not_those_that_belong_to_another_poll() -> None:
    sums = tally()
    kind = Dimensions("prod", model="a")
    sums.reject(Rejection.OUTSIDE_WINDOW, {})
    sums.reject(Rejection.OUTSIDE_WINDOW, {}, hour=START)
    sums.reject(Rejection.NEGATIVE, {}, hour=START, dimensions=kind, cost=5)
    reading = sums.reading()
    assert reading.rejected == {"outside_window": 2, "negative": 1}
    assert reading.rejected_rows == (RejectedRow("outside_window", START), RejectedRow("negative", START, kind, 5))


def test_stamps_name_hours_within_the_window_or_say_why_not() -> None:
    sums = tally()
    assert sums.hour("2026-11-21T12:00:00+00:00") == START + timedelta(hours=2)
    assert sums.hour("2026-11-21T13:00:00Z") is Rejection.OUTSIDE_WINDOW
    assert sums.hour("2026-11-21T12:00:01Z") is Rejection.BUCKET
    assert sums.hour("20261121") is Rejection.BUCKET
    assert sums.hour([]) is Rejection.BUCKET


PRICE_HOUR = datetime(2026, 11, 21, 10, tzinfo=UTC)
THING = Dimensions("prod", product="models", model="m", unit="image")


def priced(*offers: tuple[Dimensions, Offer | None]) -> list[tuple[str, int, int]]:
    return [
        (price.model, price.price, price.discount)
        for price in unit_prices((dimensions, made) for dimensions, made in offers if made)
    ]


def test_the_newest_hour_wins_then_the_regular_price_then_the_highest() -> None:
    old = offer(PRICE_HOUR - timedelta(hours=1), {"unit_price": 9})
    surge = offer(PRICE_HOUR, {"unit_price": 8, "is_surge": True})
    low = offer(PRICE_HOUR, {"unit_price": Decimal("0.5"), "is_surge": False})
    high = offer(PRICE_HOUR, {"unit_price": Decimal("0.6"), "percent_discount": Decimal("12.5")})
    for order in ([old, surge, low, high], [high, low, surge, old]):
        assert priced(*((THING, made) for made in order)) == [("m", 600_000_000, 12_500_000_000)]
    assert priced((THING, old), (THING, surge)) == [("m", 8 * NANO, 0)]


def test_team_environment_and_key_share_a_price() -> None:
    low, high = offer(PRICE_HOUR, {"unit_price": 1}), offer(PRICE_HOUR, {"unit_price": 2})
    variants = [THING._replace(team="t"), THING._replace(environment="e"), THING._replace(api_key="k")]
    assert priced(*((variant, low) for variant in variants), (THING, high)) == [("m", 2 * NANO, 0)]
    assert len(priced((THING, low), (THING._replace(unit="second"), low))) == 2


@pytest.mark.parametrize("price", [None, "0.1", True, -1, Decimal("-0.1"), [], {}])
def test_a_price_that_is_none_is_left_out(price: object) -> None:
    assert offer(PRICE_HOUR, {"unit_price": price}) is None


def test_a_price_too_large_for_a_ledger_is_left_out() -> None:
    assert priced((THING, offer(PRICE_HOUR, {"unit_price": Decimal("Infinity")}))) == []


@pytest.mark.parametrize("percent", [None, -5, 101, "10 %", Decimal("Infinity")])
def test_a_discount_that_is_none_is_zero(percent: object) -> None:
    assert priced((THING, offer(PRICE_HOUR, {"unit_price": 1, "percent_discount": percent}))) == [("m", NANO, 0)]
