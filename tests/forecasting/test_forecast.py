from datetime import UTC, datetime, timedelta

import pytest
from forecasting.test_rhythm import NANO, WHOLE_DAY, learnt, life
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, Window, hour_of
from exporter.forecasting.forecast import forecast
from exporter.forecasting.state import Forecast

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

    rhythm = learnt(hours[: (edge - BEGIN) // HOUR])
    return forecast(rhythm, edge=edge, known_until=known_until, now=now, period=period, spent=spent)


@pytest.mark.parametrize("day", [1, 2, 14, 30])
@pytest.mark.parametrize("hour", [0, 1, 13, 23])
def test_equal_days_are_forecast_to_go_on_from_the_first_hour_of_a_month(day: int, hour: int) -> None:
    told = forecast_at(datetime(2026, 11, day, hour, 30, tzinfo=UTC), {})
    assert told.expected == pytest.approx(30 * WHOLE_DAY, rel=0.001)
    assert told.low <= told.expected <= told.high


def test_the_band_narrows_as_the_month_passes() -> None:
    widths = [(it := forecast_at(datetime(2026, 11, day, 10, tzinfo=UTC), {})).high - it.low for day in (1, 7, 14, 28)]
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
    told = forecast_at(now, {hour: it for hour, it in extra.items() if hour <= now}, lag=lag)
    spent = sum(it for hour, it in extra.items() if hour < hour_of(now) - timedelta(hours=lag))
    assert all(isinstance(it, int) for it in (told.low, told.expected, told.high))
    assert spent <= told.low <= told.expected <= told.high
