from dataclasses import replace
from datetime import timedelta
from random import Random
from statistics import fmean

import pytest
from forecasting.test_rhythm import MONDAY, learnt, life

from exporter.forecasting.calibration import _MEAN_ERRORS, _errors, calibrated
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
    assert scale_of(life(2)) == scale_of(life(20)) == pytest.approx(0.2)
    assert scale_of(life(21)) < 0.2


def test_a_past_that_was_as_forecast_makes_the_band_narrower_and_one_that_was_not_wider() -> None:
    steady = scale_of(life(56, noise=0.05))
    for seed in range(5):
        assert steady < 0.7 < scale_of(wandering(8, seed))


def test_one_change_is_no_rule_and_two_are() -> None:
    usual = [life(14, noise=0.2, seed=seed) for seed in range(4)]
    calm, once, twice = (
        scale_of([factor * hour for factor, hours in zip(factors, usual, strict=True) for hour in hours])
        for factors in ((1, 1, 1, 1), (1, 1, 1, 3), (1, 1, 6, 1))
    )
    assert once < 1.5 * calm
    assert twice > 2 * once


def test_errors_are_of_forecasts_that_knew_nothing_of_what_came_after() -> None:
    calm, later = life(49, noise=0.2), [9 * hour for hour in life(7)]
    errors = _errors(calm + later, MONDAY)
    # The last week is one error more; those of the weeks before are as they were.
    assert errors[0] > 5 * max(errors[1:])
    assert errors[1:] == _errors(calm, MONDAY - timedelta(weeks=1))


def test_however_far_off_a_week_was_it_counts_for_five_spreads_at_most() -> None:
    calm, later = life(14), [1000 * hour for hour in life(7)]
    (error,) = _errors(calm + later, MONDAY)
    assert error > 100
    assert scale_of(calm + later) == pytest.approx((0.2 + 5 / _MEAN_ERRORS[0]) / 2)


def test_the_only_error_counts_and_of_more_all_but_the_largest_do() -> None:
    chance = Random(1)  # noqa: S311  reproducible, no secrets
    for known, expected in enumerate(_MEAN_ERRORS, 1):
        draws = (sorted(abs(chance.gauss(0, 1)) for _ in range(known)) for _ in range(20_000))
        assert fmean(fmean(errors[: max(1, known - 1)]) for errors in draws) == pytest.approx(expected, rel=0.02)


def test_only_what_is_in_doubt_is_scaled_the_noise_of_days_is_measured() -> None:
    rhythm = learnt(life(56, noise=0.4))
    wide = replace(rhythm, scale=4.0)
    assert 1 < wide.spread(0, DAY) / rhythm.spread(0, DAY) < wide.spread(0, 28 * DAY) / rhythm.spread(0, 28 * DAY) < 4


def test_an_account_that_costs_nothing_can_be_calibrated() -> None:
    assert scale_of([0] * 8 * WEEK) < 0.2
