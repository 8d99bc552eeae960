import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.simulator.world.exact import (
    TIMEFRAMES,
    Exact,
    automatic_timeframe,
    bucket_start,
    buckets,
    decimal_text,
    instant_of,
    json_text,
    microseconds,
    month_of,
    months_after,
    nanos_of,
    next_bucket,
    stamp,
)

ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York", "Australia/Lord_Howe", "America/Santiago")


@given(st.integers(-(2**70), 2**70))
def test_decimal_text_is_exact(nanos: int) -> None:
    assert Decimal(decimal_text(nanos)).scaleb(9) == nanos
    assert nanos_of(decimal_text(nanos)) == nanos


@pytest.mark.parametrize(
    ("nanos", "text"), [(0, "0"), (25_000_000, "0.025"), (1, "0.000000001"), (-180_000_000, "-0.18"), (10**10, "10")]
)
def test_decimal_text_is_short_and_never_in_powers(nanos: int, text: str) -> None:
    assert decimal_text(nanos) == text


@pytest.mark.parametrize("text", ["", "much", "nan", "inf", "0.0000000001"])
def test_an_amount_that_is_no_exact_nano_dollar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"decimal"):
        nanos_of(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_json_text_reads_back_as_it_was(value: object) -> None:
    assert json.loads(json_text(value)) == value


def test_json_numbers_are_exact_decimals() -> None:
    assert json_text({"cost": Exact(9_007_199_254_740_993), "n": 3}) == '{"cost":9007199.254740993,"n":3}'


def test_a_float_is_never_written() -> None:
    with pytest.raises(TypeError, match="float"):
        json_text({"cost": 0.1})


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  given by timezones
def test_instants_survive_as_microseconds(instant: datetime) -> None:
    assert instant_of(microseconds(instant)) == instant


def test_stamps_carry_their_offset() -> None:
    instant = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert stamp(instant) == "2026-03-01T12:00:00Z"
    assert stamp(instant + timedelta(microseconds=5)) == "2026-03-01T12:00:00.000005Z"


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
