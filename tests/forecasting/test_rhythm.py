from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import erf, log, sqrt
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.forecasting.rhythm import _MEAN_ERRORS, DAY, EDGE, LONGEST, Rhythm, _errors, _mixed, calibrated, learn

NANO = 10**9
WEEK = 7 * DAY
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
OF_A_DAY = [1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 8, 8, 7, 7, 6, 5, 4, 3, 2, 1]
WHOLE_DAY = sum(OF_A_DAY) * NANO
HOURS = st.lists(st.integers(-(10**9), 10**14), min_size=DAY, max_size=16 * DAY)


def life(days: int, *, weekend: float = 1.0, noise: float = 0.0, seed: int = 1) -> list[int]:
    """Days of the same shape, the last two of each week others, the newest day the last of a week."""
    chance = Random(seed)  # noqa: S311  reproducible, no secrets
    hours: list[int] = []
    for day in range(days):
        factor = weekend if (day - days) % 7 >= 5 else 1.0
        hours += [round(share * NANO * factor * (1 + chance.uniform(-noise, noise))) for share in OF_A_DAY]
    return hours


def learnt(hours: list[int], edge: datetime = MONDAY) -> Rhythm:
    rhythm = learn(hours, edge)
    assert rhythm is not None
    return rhythm


def test_nothing_is_learnt_from_less_than_a_day() -> None:
    assert learn(life(1)[1:], MONDAY) is None
    assert learn([], MONDAY) is None
    assert learnt(life(1)).days == 1


def test_days_that_are_all_alike_are_expected_again_hour_by_hour() -> None:
    rhythm = learnt(life(21))
    assert rhythm.expected(0, DAY) == pytest.approx(WHOLE_DAY)
    assert rhythm.expected(0, 30 * DAY) == pytest.approx(30 * WHOLE_DAY)
    assert [rhythm.expected(at, at + 1) for at in range(DAY)] == pytest.approx([item * NANO for item in OF_A_DAY])


def test_the_edge_may_lie_within_a_day() -> None:
    rhythm = learnt(life(21)[:-9])
    assert [rhythm.expected(at, at + 1) for at in range(9)] == pytest.approx([item * NANO for item in OF_A_DAY[-9:]])
    assert rhythm.expected(3, 20) == pytest.approx(sum(rhythm.expected(at, at + 1) for at in range(3, 20)))


@given(HOURS, st.integers(0, 200), st.integers(0, 200))
def test_what_is_expected_adds_up_and_is_never_below_zero(hours: list[int], first: int, more: int) -> None:
    rhythm = learnt(hours)
    whole = rhythm.expected(first, first + more)
    assert whole >= 0
    assert whole == pytest.approx(sum(rhythm.expected(at, at + 1) for at in range(first, first + more)))
    assert rhythm.high(first) >= rhythm.expected(first, first + 1)
    assert all(sum(of_day) == pytest.approx(1) for of_day in rhythm.shares)


def test_a_weekend_is_expected_to_be_one() -> None:
    days = learnt(life(56, weekend=0.2)).weekdays
    assert days[5] / days[0] == pytest.approx(0.2, abs=0.15)
    assert days[6] / days[0] == pytest.approx(0.2, abs=0.15)


def test_one_glitch_is_hardly_expected_again_wherever_it_was() -> None:
    for at in (3, 200, 1000, LONGEST - 30, LONGEST - 1):
        hours = life(56, noise=0.1)
        hours[at] += 40_500 * NANO
        assert learnt(hours).expected(0, 7 * DAY) == pytest.approx(7 * WHOLE_DAY, rel=0.1)


def test_what_has_come_to_stay_is_expected_within_days() -> None:
    hours = life(42) + [3 * item for item in life(14)]
    assert learnt(hours).expected(0, 7 * DAY) == pytest.approx(21 * WHOLE_DAY, rel=0.1)


def test_only_the_last_eight_weeks_are_learnt_from() -> None:
    assert learnt([10**15] * 24 * 3 + life(56)) == learnt(life(56))


def test_the_less_is_known_and_the_longer_the_time_the_wider_the_spread() -> None:
    by_history = [learnt(life(days, noise=0.2)).spread(0, 20 * DAY) for days in (2, 10, 30, 56)]
    assert all(less > more for less, more in pairwise(by_history))
    rhythm = learnt(life(56, noise=0.2))
    assert rhythm.spread(0, 30 * DAY) > rhythm.spread(0, 10 * DAY)


def test_a_restless_account_has_a_wider_spread_than_a_calm_one() -> None:
    restless = [hour * (1, 5, 2, 6, 1, 1)[day * day % 6] for day in range(56) for hour in life(1)]
    assert learnt(restless).spread(0, 7 * DAY) > 2 * learnt(life(56, noise=0.1)).spread(0, 7 * DAY)


def test_an_account_that_costs_nothing_is_expected_to_go_on_so() -> None:
    rhythm = learnt([0] * 24 * 20)
    assert rhythm.expected(0, 30 * DAY) == 0
    assert rhythm.high(0) == 0


def test_two_quiet_weeks_are_never_unusual_and_a_surge_is() -> None:
    hours = life(70, weekend=0.4, noise=0.5, seed=3)
    for edge in range(LONGEST, LONGEST + 14 * DAY):
        rhythm = learnt(hours[edge - LONGEST : edge])
        assert hours[edge] <= rhythm.high(0)
        assert hours[edge] + 5 * WHOLE_DAY / DAY > rhythm.high(0)


def test_a_batch_at_any_hour_of_the_day_is_usual() -> None:
    chance = Random(5)  # noqa: S311  reproducible, no secrets
    hours = [0] * 70 * DAY
    for day in range(70):
        hours[day * DAY + chance.randrange(DAY)] = chance.randrange(80, 120) * NANO
    for edge in range(LONGEST, LONGEST + 14 * DAY):
        assert hours[edge] <= learnt(hours[edge - LONGEST : edge]).high(0)


def test_a_glitch_makes_the_next_one_no_less_unusual() -> None:
    hours = life(56, noise=0.2)
    calm = learnt(hours).high(0)
    hours[-100] += 40_500 * NANO
    assert learnt(hours).high(0) < 1.3 * calm


def scaled(hours: list[int], day: int, factor: float) -> list[int]:
    """Return hours of which a day, counted from the end, cost so many times as much."""
    place = len(hours) - day * DAY
    return [round(hour * factor) if place <= at < place + DAY else hour for at, hour in enumerate(hours)]


def test_a_day_of_the_last_week_counts_for_a_part_in_the_same_day_to_come() -> None:
    hours = life(28, noise=0.05)
    before, after = learnt(hours), learnt(scaled(hours, 7, 1.1))
    same = after.expected(0, DAY) / before.expected(0, DAY)
    others = after.expected(DAY, 7 * DAY) / before.expected(DAY, 7 * DAY)
    assert 1.03 < same < 1.07
    assert 0.99 < others < 1.02


def test_a_day_that_is_half_as_much_again_is_a_surprise_and_counts_for_less_of_it() -> None:
    hours = life(28, noise=0.05)
    before, after = learnt(hours), learnt(scaled(hours, 7, 1.5))
    assert 1.06 < after.expected(0, DAY) / before.expected(0, DAY) < 1.13


def leaps(*factors: float) -> list[int]:
    """Return two weeks of noisy days at each of some levels."""
    return [round(factor * hour) for seed, factor in enumerate(factors) for hour in life(14, noise=0.05, seed=seed)]


def test_a_contract_is_no_habit_and_does_not_say_that_another_comes() -> None:
    rhythm, calm = learnt(leaps(2, 2, 2, 1)), learnt(leaps(2, 2, 2, 2))
    assert rhythm.move == pytest.approx(log(2) ** 2, rel=0.2)
    assert rhythm.moves == 0
    assert rhythm.spread(0, 3 * DAY) < 2 * calm.spread(0, 3 * DAY)
    assert rhythm.spread(0, 28 * DAY) < 4 * calm.spread(0, 28 * DAY)


def test_several_changes_are_a_habit_and_widen_the_band() -> None:
    by_changes = [learnt(leaps(*factors)) for factors in ((2, 2, 2, 1), (2, 2, 1, 3), (4, 2, 1, 3))]
    rates = [rhythm.moves for rhythm in by_changes]
    for rhythm in by_changes:
        # A past that was forecast well by chance does not make less of the changes in it.
        level = replace(rhythm.level, doubt=0.0, growth_doubt=0.0)
        changes = replace(rhythm, level=level, drift=0.0)
        assert replace(changes, scale=0.2).spread(0, 20 * DAY) == changes.spread(0, 20 * DAY)
        assert replace(changes, scale=2.0).spread(0, 20 * DAY) > changes.spread(0, 20 * DAY)
    assert rates == pytest.approx([0, 1 / (30 + 56), 3 / (30 + 56)], rel=0.05)
    spreads = [rhythm.spread(0, 20 * DAY) for rhythm in by_changes]
    assert spreads == sorted(spreads)
    assert spreads[2] > 3 * spreads[0]


def test_a_change_far_above_the_noise_says_less_of_those_that_cannot_be_seen() -> None:
    small, large = learnt(leaps(1, 1, 1, 1.3)), learnt(leaps(1, 1, 1, 5))
    assert small.move < large.move / 10
    assert large.unseen < small.unseen


def test_two_dear_days_are_as_much_in_doubt_as_few_days_are() -> None:
    even, dear = (learnt(life(56, weekend=weekend, noise=0.3)) for weekend in (1.0, 20.0))
    assert dear.level.noise == pytest.approx(even.level.noise, rel=0.5)
    assert dear.spread(0, 7 * DAY) ** 2 / dear.level.noise > 2 * even.spread(0, 7 * DAY) ** 2 / even.level.noise
    assert dear.spread(5 * DAY, 7 * DAY) < 1.1 * dear.spread(0, 7 * DAY) * sqrt(7 / 2)


def test_whether_a_change_lasts_is_in_doubt_whatever_the_errors_of_the_past() -> None:
    usual = life(42, noise=0.05)
    rhythm = learnt([*usual[2 * DAY :], *(3 * hour for hour in life(2, noise=0.05))])
    assert rhythm.level.passing > 0.1
    assert replace(rhythm, scale=0.1).spread(0, 20 * DAY) > 0.9 * replace(rhythm, scale=1.0).spread(0, 20 * DAY)


@given(days=st.integers(1, 56), noise=st.floats(0, 0.9), weekend=st.floats(0, 5), first=st.integers(0, 60))
def test_a_spread_is_never_of_nothing_and_does_not_depend_on_the_amounts(
    days: int, noise: float, weekend: float, first: int
) -> None:
    hours = life(days, noise=noise, weekend=weekend)
    rhythm, dearer = learnt(hours), learnt([1000 * hour for hour in hours])
    for end in (first + 1, first + DAY, first + 20 * DAY):
        assert 0 < rhythm.spread(first, end) < 10
        assert dearer.spread(first, end) == pytest.approx(rhythm.spread(first, end), rel=1e-3)


def test_a_change_that_is_unlikely_to_come_again_in_time_does_not_widen_the_band() -> None:
    calm = learnt(life(56, noise=0.05))
    changed = replace(calm, moves=1 / 100, move=0.5)
    assert changed.spread(0, DAY) < 1.05 * calm.spread(0, DAY)
    assert changed.spread(0, 10 * DAY) < 2 * calm.spread(0, 10 * DAY)
    # As one variance, the same change would count for ten times as much.
    assert replace(calm, drift=calm.drift + 0.5 / 100).spread(0, 10 * DAY) > 5 * calm.spread(0, 10 * DAY)


@given(chance=st.floats(0, 1), wide=st.floats(1, 50))
def test_a_mixture_has_eighty_percent_within_its_band(chance: float, wide: float) -> None:
    found = _mixed(1.0, wide, chance)
    assert 1 <= found <= wide
    edge = EDGE * found / sqrt(2)
    assert (1 - chance) * erf(edge) + chance * erf(edge / wide) == pytest.approx(0.8, abs=1e-4)


def test_the_difference_of_the_weekdays_is_no_noise_once_a_week_has_been_seen() -> None:
    before, after = (learnt(life(days, weekend=0.5, noise=0.05)) for days in (6, 7))
    assert after.spread(0, 14 * DAY) < 0.7 * before.spread(0, 14 * DAY)
    level = replace(after.level, growth_doubt=0.0, passing=0.0)
    noise_alone = replace(after, level=level, drift=0.0, unseen=0.0, moves=0.0).spread(0, 14 * DAY)
    assert noise_alone**2 < 0.8 * (level.noise * 2 / 14 + level.doubt)


# Calibration of the doubt by the account's own past.


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
