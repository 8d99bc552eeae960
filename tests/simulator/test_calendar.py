from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator.calendar import (
    TIMEFRAMES,
    automatic_timeframe,
    bucket_start,
    buckets,
    month_of,
    months_after,
    next_bucket,
)

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "America/Santiago")


@given(
    st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001  given by timezones
    st.sampled_from(TIMEFRAMES),
    st.sampled_from(ZONES),
)
def test_buckets_hold_their_instants_and_leave_no_gap(instant: datetime, timeframe: str, name: str) -> None:
    zone = ZoneInfo(name)
    start = bucket_start(instant, timeframe, zone)
    end = next_bucket(start, timeframe, zone)
    assert start <= instant < end
    assert bucket_start(end, timeframe, zone) == end
    assert bucket_start(end - timedelta(microseconds=1), timeframe, zone) == start


@pytest.mark.parametrize(
    ("span", "timeframe"),
    [
        (timedelta(minutes=119), "minute"),
        (timedelta(hours=2), "hour"),
        (timedelta(hours=47), "hour"),
        (timedelta(days=2), "day"),
        (timedelta(days=63), "day"),
        (timedelta(days=64), "week"),
        (timedelta(days=182), "week"),
        (timedelta(days=183), "month"),
    ],
)
def test_the_timeframe_follows_the_span_where_none_is_given(span: timedelta, timeframe: str) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert automatic_timeframe(start, start + span) == timeframe


def test_a_day_of_the_clock_change_has_25_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    day = datetime(2026, 10, 25, 12, tzinfo=zone)
    ((start, end),) = buckets(day, day + timedelta(hours=1), "day", zone)
    assert end - start == timedelta(hours=25)
    hours = list(buckets(start, end, "hour", zone))
    assert len(hours) == 25
    assert all(first[1] == second[0] for first, second in pairwise(hours))


def test_months_are_those_of_utc() -> None:
    month = month_of(datetime(2026, 1, 1, 0, 30, tzinfo=ZoneInfo("Europe/Berlin")))
    assert month == datetime(2025, 12, 1, tzinfo=UTC)
    assert months_after(month, 2) == datetime(2026, 2, 1, tzinfo=UTC)
    assert months_after(month, -12) == datetime(2024, 12, 1, tzinfo=UTC)
