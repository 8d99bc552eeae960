from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Balance
from exporter.forecasting.forecast import BalanceFall, burn_of_usage, runway

NOW = datetime(2026, 11, 22, 14, 30, tzinfo=UTC)
NO_CAP = 2**63
HOURS = 24 * 7


def test_it_is_the_balance_over_the_burn() -> None:
    assert runway(100, 4.0) == timedelta(hours=25)
    assert runway(1, 0.001) == timedelta(hours=1000)


@pytest.mark.parametrize("burn", [0.0, -1.0, None])
def test_without_a_burn_there_is_none_rather_than_an_infinite_one(burn: float | None) -> None:
    assert runway(100, burn) is None


@pytest.mark.parametrize("burn", [0.0, 5.0, None])
@pytest.mark.parametrize("balance", [0, -180_000_000])
def test_nothing_is_left_of_a_balance_of_zero_or_below_whatever_burns(balance: int, burn: float | None) -> None:
    assert runway(balance, burn) == timedelta(0)


def test_a_runway_of_more_than_ten_years_is_ten_years() -> None:
    assert runway(2**62, 1e-6) == timedelta(days=3650)


def test_a_sunday_does_not_hide_that_monday_comes() -> None:
    week = [10] * (HOURS - 24) + [2] * 24
    assert burn_of_usage(week, NO_CAP, 0) == pytest.approx((10 * 144 + 2 * 24) / 168)


def test_a_day_of_more_counts_at_once() -> None:
    assert burn_of_usage([1] * (HOURS - 24) + [50] * 24, NO_CAP, 0) == 50


def test_a_glitch_does_not_burn_on_but_what_is_unusual_now_does() -> None:
    hours = [10] * (HOURS - 1) + [40_500]
    assert burn_of_usage(hours, 30, 0) == pytest.approx((23 * 10 + 30) / 24)
    assert burn_of_usage(hours, 30, 40_500) > 40_500


def test_less_than_a_day_of_hours_tells_nothing() -> None:
    assert burn_of_usage([5] * 23, NO_CAP, 0) == 0


def watched(*balances: tuple[float, int]) -> BalanceFall:
    fall = BalanceFall()
    for hours, amount in balances:
        fall.note(Balance("main", amount, NOW + timedelta(hours=hours)))
    return fall


def test_the_fall_of_a_balance_is_a_burn_once_it_has_been_watched_for_an_hour() -> None:
    assert watched((0, 100), (0.9, 90)).burn is None
    assert watched((0, 100), (0.9, 90), (2, 80)).burn == 10


def test_a_top_up_burns_nothing_and_hides_nothing() -> None:
    assert watched((0, 100), (1, 90), (2, 590), (3, 580)).burn == pytest.approx(20 / 3)


def test_only_the_last_day_counts() -> None:
    assert watched((0, 1000), (1, 100), (26, 76), (27, 74)).burn == pytest.approx(26 / 26)


def test_an_answer_that_comes_late_changes_nothing() -> None:
    assert watched((0, 100), (2, 80), (1, 500)).burn == 10


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=30))
def test_a_balance_never_burns_less_than_nothing(amounts: list[int]) -> None:
    fall = watched(*enumerate(amounts))
    assert fall.burn is not None
    assert fall.burn >= max(0, (amounts[0] - amounts[-1]) / (len(amounts) - 1)) or len(amounts) > 25
