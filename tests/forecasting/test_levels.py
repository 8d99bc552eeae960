from math import log
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.forecasting.levels import Level, grown, growth_of, level_of, noise_of, stretches_of

DOLLARS = 100 * 10**9


def days(count: int, *, noise: float = 0.05, growth: float = 0.0, seed: int = 1) -> list[float]:
    chance = Random(seed)  # noqa: S311  reproducible, no secrets
    return [DOLLARS * (1 + growth) ** at * chance.gauss(1, noise) for at in range(count)]


def level(them: list[float], growth: float = 0.0) -> Level:
    return level_of(stretches_of(grown(them, growth), growth, noise_of(them, them)))


def test_growth_is_found_and_a_campaign_is_none() -> None:
    growing = days(56, growth=0.007)
    assert growth_of(growing) == pytest.approx(log(1.007), rel=0.2)
    burst = days(56)
    burst[20:25] = [3 * day for day in burst[20:25]]
    assert abs(growth_of(burst)) < 0.002
    assert growth_of(days(20, growth=0.05)) == 0


def test_growth_explains_growing_days_and_steps_explain_a_step() -> None:
    growing, halved = days(56, growth=0.007), days(28) + [day / 2 for day in days(28, seed=2)]
    for them, is_growth in ((growing, True), (halved, False)):
        noise, found = noise_of(them, them), growth_of(them)
        assert found
        flat, steep = stretches_of(them, 0.0, noise), stretches_of(grown(them, found), found, noise)
        assert (steep.cost < flat.cost) == is_growth


def test_a_growth_that_was_found_is_in_more_doubt_than_that_there_is_none() -> None:
    growing, steady = days(56, growth=0.007), days(56)
    assert level(growing, growth_of(growing)).growth_doubt > 2 * level(steady).growth_doubt


def test_a_level_is_that_of_the_days_since_it_changed() -> None:
    halved = level(days(28) + [day / 2 for day in days(28, seed=2)])
    assert halved.amount == pytest.approx(DOLLARS / 2, rel=0.03)
    assert halved.moved == pytest.approx(log(2) ** 2, rel=0.2)


def test_a_fall_is_believed_sooner_than_a_rise() -> None:
    usual = days(40)
    fallen, risen = (level(usual + [factor * day for day in days(2, seed=3)]).amount for factor in (0.5, 2))
    assert fallen == pytest.approx(DOLLARS / 2, rel=0.05)
    assert DOLLARS * 1.1 < risen < DOLLARS * 1.5
    assert level(usual + [2 * day for day in days(8, seed=3)]).amount == pytest.approx(2 * DOLLARS, rel=0.05)


def test_a_campaign_that_is_over_leaves_the_level_as_it_was() -> None:
    assert level(days(40) + [4 * day for day in days(4, seed=2)] + days(1, seed=3)).amount == pytest.approx(
        DOLLARS, rel=0.1
    )


def test_a_recent_change_is_in_doubt() -> None:
    changed, steady = level(days(40) + [2 * day for day in days(2, seed=3)]), level(days(42))
    assert changed.passing > 20 * steady.doubt
    assert steady.passing == 0


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=56))
def test_a_level_is_never_below_zero_nor_above_every_day(them: list[int]) -> None:
    found = level([float(day) for day in them])
    assert 0 <= found.amount <= max(them) * 1.001
    assert found.noise > 0
    assert found.doubt >= 0
    assert found.passing >= 0
    assert found.growth_doubt > 0
