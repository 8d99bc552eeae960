from dataclasses import astuple
from datetime import UTC, datetime, timedelta

import pytest
from forecasting.test_rhythm import NANO, WHOLE_DAY, learnt, life
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.charges import HOUR, Balance, Window, hour_of
from exporter.forecasting.forecast import BalanceFall, HourlySpend, burn_of_usage, forecast, path_of, runway
from exporter.forecasting.rhythm import LONGEST, calibrated
from exporter.forecasting.state import Forecast

START = datetime(2026, 11, 21, tzinfo=UTC)


def window(start: int, end: int) -> Window:
    return Window(START + start * HOUR, START + end * HOUR)


MOVES = st.tuples(st.just("move"), st.integers(0, 6), st.integers(0, 0))
SETS = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5), st.integers(0, 3))


@given(st.lists(st.one_of(MOVES, SETS), max_size=40))
def test_it_tells_what_a_plain_mapping_of_hours_would(steps: list[tuple[str, int, int]]) -> None:
    hours: HourlySpend[str] = HourlySpend(window(0, 6))
    plain: dict[tuple[str, int], int] = {}
    first = 0
    for what, place, amount in steps:
        if what == "move":
            first += place
            hours.move_to(window(first, first + 6))
        else:
            hour = first + place
            hours.set_hour(START + hour * HOUR, {what: amount})
            plain = {key: item for key, item in plain.items() if key[1] != hour} | {(what, hour): amount}
        kept = {key: item for key, item in plain.items() if first <= key[1] < first + 6}
        for key in ("a", "b"):
            assert list(hours.of(key)) == [kept.get((key, first + at), 0) for at in range(6)]
            assert hours.total(key, window(first + 1, first + 9)) == sum(hours.of(key)[1:])


def test_what_has_cost_nothing_for_long_is_forgotten() -> None:
    hours: HourlySpend[str] = HourlySpend(window(0, 6))
    hours.set_hour(START, {"a": 7})
    hours.move_to(window(1, 7))
    assert "a" not in hours
    assert list(hours) == []


def test_only_a_change_of_the_past_makes_a_new_version() -> None:
    hours: HourlySpend[str] = HourlySpend(window(0, 6))
    hours.set_hour(START + 5 * HOUR, {"a": 7})
    hours.set_hour(START + 4 * HOUR, {"a": 7})
    assert hours.versions["a"] == 0
    hours.set_hour(START + 3 * HOUR, {"a": 7})
    hours.set_hour(START + 3 * HOUR, {"a": 7})
    assert hours.versions["a"] == 1
    hours.set_hour(START + 3 * HOUR, {})
    assert hours.versions["a"] == 2


def test_it_does_not_move_back() -> None:
    with pytest.raises(ValueError, match="moves forward"):
        HourlySpend(window(1, 6)).move_to(window(0, 5))


MONTH = Window(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
HISTORY = 56
BEGIN = MONTH.start - HISTORY * 24 * HOUR


def forecast_at(now: datetime, extra: dict[datetime, int], *, period: Window = MONTH, lag: int = 0) -> Forecast:
    """Forecast a life of equal days as of an instant, hours seen as far as they have passed, with extra amounts."""
    hours = life(HISTORY + 31)
    for hour, amount in extra.items():
        hours[(hour - BEGIN) // HOUR] += amount
    running = (hour_of(now) - BEGIN) // HOUR
    known_until = hour_of(now) - lag * HOUR
    known = (known_until - BEGIN) // HOUR
    seen = hours[:known] + [0] * (len(hours) - known)
    if not lag:
        surprise = extra.get(hour_of(now), 0)
        seen[running] = (hours[running] - surprise) * now.minute // 60 + surprise
    edge = min(hour_of(now) - HOUR, known_until)

    def spent(window: Window) -> int:
        return sum(seen[(window.start - BEGIN) // HOUR : (window.end - BEGIN) // HOUR])

    rhythm = learnt(hours[: (edge - BEGIN) // HOUR], edge)
    return forecast(rhythm, edge=edge, known_until=known_until, now=now, period=period, spent=spent)


@pytest.mark.parametrize("day", [1, 2, 14, 30])
@pytest.mark.parametrize("hour", [0, 1, 13, 23])
def test_equal_days_are_forecast_to_go_on_from_the_first_hour_of_a_month(day: int, hour: int) -> None:
    told = forecast_at(datetime(2026, 11, day, hour, 30, tzinfo=UTC), {})
    assert told.expected == pytest.approx(30 * WHOLE_DAY, rel=0.001)
    assert told.low <= told.expected <= told.high


def test_the_band_narrows_as_the_month_passes() -> None:
    widths = [
        (found := forecast_at(datetime(2026, 11, day, 10, tzinfo=UTC), {})).high - found.low for day in (1, 7, 14, 28)
    ]
    assert widths == sorted(widths, reverse=True)


def test_a_glitch_is_in_what_was_spent_and_not_expected_again() -> None:
    now = datetime(2026, 11, 10, 10, 20, tzinfo=UTC)
    usual = forecast_at(now, {}).expected
    for hour in (now - 50 * HOUR, now - 2 * HOUR, now - HOUR, now):
        told = forecast_at(now, {hour_of(hour): 40_500 * NANO})
        assert told.expected - usual == pytest.approx(40_500 * NANO, rel=0.01)
        assert told.low > 40_500 * NANO


def test_hours_that_have_not_come_yet_are_expected_and_not_taken_for_free() -> None:
    now = datetime(2026, 11, 10, 10, 20, tzinfo=UTC)
    assert forecast_at(now, {}, lag=15).expected == pytest.approx(forecast_at(now, {}).expected, rel=0.001)


def test_a_late_start_of_the_data_does_not_carry_last_month_over() -> None:
    now = datetime(2026, 11, 1, 2, 20, tzinfo=UTC)
    assert forecast_at(now, {}, lag=5).expected == pytest.approx(30 * WHOLE_DAY, rel=0.001)


def test_a_day_in_its_last_hour_is_nearly_what_has_been_spent() -> None:
    day = Window(datetime(2026, 11, 10, tzinfo=UTC), datetime(2026, 11, 11, tzinfo=UTC))
    told = forecast_at(datetime(2026, 11, 10, 23, 59, tzinfo=UTC), {}, period=day)
    assert told.high - told.low < WHOLE_DAY / 100


@given(
    st.datetimes(datetime(2026, 11, 1), datetime(2026, 11, 30), timezones=st.just(UTC)),  # noqa: DTZ001  given a zone
    st.dictionaries(st.integers(0, 700).map(lambda at: MONTH.start + at * HOUR), st.integers(0, 10**14), max_size=5),
    st.integers(0, 30),
)
def test_it_is_whole_in_order_and_never_below_what_has_been_spent(
    now: datetime, extra: dict[datetime, int], lag: int
) -> None:
    told = forecast_at(now, {hour: item for hour, item in extra.items() if hour <= now}, lag=lag)
    spent = sum(item for hour, item in extra.items() if hour < hour_of(now) - timedelta(hours=lag))
    assert all(isinstance(item, int) for item in (told.low, told.expected, told.high))
    assert spent <= told.low <= told.expected <= told.high


def noisy_forecast(seed: int, now: datetime, times: int) -> Forecast:
    """Forecast the month at an instant of a life of noisy days, each hour so many times as dear."""
    hours = [times * hour for hour in life(HISTORY + 31, noise=0.4, weekend=0.5, seed=seed)]
    known = (hour_of(now) - BEGIN) // HOUR
    edge = hour_of(now) - HOUR
    past = hours[max(0, known - 1 - LONGEST) : known - 1]

    def spent(window: Window) -> int:
        start, end = ((at - BEGIN) // HOUR for at in (window.start, window.end))
        return sum(hours[start : min(end, known)])

    rhythm = calibrated(learnt(past, edge), past, edge)
    return forecast(rhythm, edge=edge, known_until=hour_of(now), now=now, period=MONTH, spent=spent)


@given(seed=st.integers(0, 20), place=st.integers(2, 30 * 24 - 1), times=st.integers(2, 1000))
@settings(max_examples=30, deadline=None)
def test_a_band_scales_with_the_amounts_and_is_the_same_each_time(seed: int, place: int, times: int) -> None:
    now = MONTH.start + place * HOUR
    told, dearer = noisy_forecast(seed, now, 1), noisy_forecast(seed, now, times)
    assert told == noisy_forecast(seed, now, 1)
    for one, many in zip(astuple(told), astuple(dearer), strict=True):
        assert many == pytest.approx(times * one, rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_a_band_is_narrower_week_by_week_and_at_the_end_none(seed: int) -> None:
    ends = [MONTH.start + timedelta(days=day) for day in (2, 9, 16, 23, 27, 29)] + [MONTH.end - HOUR / 60]
    widths = [(told := noisy_forecast(seed, now, 1)).high - told.low for now in ends]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 20


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


def test_a_path_has_the_next_seven_days_by_their_weekday() -> None:
    weekend = learnt(life(28, weekend=2.0))
    edge = datetime(2026, 11, 23, tzinfo=UTC)  # a Monday
    for now in (edge + 2 * HOUR, edge + 30 * HOUR, edge + 120 * HOUR):
        path = path_of(weekend, edge, now)
        # Sunday first, and the two dearest days are those of the weekend.
        assert [round(day / WHOLE_DAY, 3) for day in path.weekdays] == pytest.approx([2, 1, 1, 1, 1, 1, 2], rel=0.02)


def test_a_path_spreads_as_the_forecasts_of_so_many_days_do() -> None:
    noisy = learnt(life(28, noise=0.5))
    edge = datetime(2026, 11, 23, tzinfo=UTC)
    path = path_of(noisy, edge, edge)
    assert set(path.spreads) == {1, 7, 14, 28}
    for days, spread in path.spreads.items():
        period = Window(edge, edge + days * 24 * HOUR)
        told = forecast(noisy, edge=edge, known_until=edge, now=edge, period=period, spent=lambda _: 0)
        assert told.high / told.expected == pytest.approx(spread)
        assert told.expected / told.low == pytest.approx(spread)
    assert path.spreads[1] > path.spreads[7] > 1
