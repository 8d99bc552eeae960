from dataclasses import replace
from random import Random

import pytest
from forecasting.test_rhythm import MONDAY, learnt, life

from exporter.forecasting.calibration import calibrated
from exporter.forecasting.rhythm import DAY

WEEK = 7 * DAY


def scale_of(hours: list[int]) -> float:
    return calibrated(learnt(hours), hours, MONDAY).scale


def wandering(weeks: int, seed: int) -> list[int]:
    """Weeks of which each costs up to twice or half as much as the one before."""
    chance = Random(seed)  # noqa: S311  reproducible, no secrets
    level, hours = 1.0, []
    for _ in range(weeks):
        level *= 2 ** chance.uniform(-1, 1)
        hours += [round(level * hour) for hour in life(7)]
    return hours


def test_an_account_without_two_weeks_and_another_has_no_errors_yet() -> None:
    assert scale_of(life(2)) == scale_of(life(20)) == pytest.approx(0.6)
    assert scale_of(life(21)) < 0.6


def test_a_past_that_was_as_forecast_makes_the_band_narrower_and_one_that_was_not_wider() -> None:
    steady = scale_of(life(56, noise=0.05))
    for seed in range(5):
        assert steady < 0.7 < scale_of(wandering(8, seed))


def test_one_change_is_no_rule() -> None:
    jumped = life(42) + [3 * hour for hour in life(14)]
    assert scale_of(jumped) <= (1.5 * 0.6 + 6 * 5.0 / 0.8) / 7.5


def test_errors_are_of_forecasts_that_knew_nothing_of_what_came_after() -> None:
    calm, later = life(49), [9 * hour for hour in life(7)]
    before = scale_of(calm)
    # The last week is one error more; those of the weeks before are as they were.
    assert scale_of(calm + later) > before
    assert scale_of([0] * WEEK + calm) == pytest.approx(scale_of(calm), rel=0.5)


def test_only_what_is_in_doubt_is_scaled_the_noise_of_days_is_measured() -> None:
    rhythm = learnt(life(56, noise=0.4))
    wide = replace(rhythm, scale=4.0)
    assert 1 < wide.spread(DAY) / rhythm.spread(DAY) < wide.spread(28 * DAY) / rhythm.spread(28 * DAY) < 4


def test_an_account_that_costs_nothing_can_be_calibrated() -> None:
    assert scale_of([0] * 8 * WEEK) < 0.6
