from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import hour_of
from exporter.forecasting.budgets import PERIODS, Period, running_period

ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Auckland"]).map(ZoneInfo)
INSTANTS = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  given a zone


@pytest.mark.parametrize(
    ("period", "zone", "now", "start", "end"),
    [
        ("day", "UTC", "2026-11-22T14:37", "2026-11-22T00", "2026-11-23T00"),
        ("day", "Europe/Berlin", "2026-11-22T22:59", "2026-11-21T23", "2026-11-22T23"),
        ("day", "Europe/Berlin", "2026-11-22T23:00", "2026-11-22T23", "2026-11-23T23"),
        ("day", "Europe/Berlin", "2026-10-25T12:00", "2026-10-24T22", "2026-10-25T23"),  # the day of 25 hours
        ("day", "Asia/Kolkata", "2026-11-22T18:30", "2026-11-21T19", "2026-11-22T19"),  # its hours begin at half past
        ("week", "UTC", "2026-11-22T23:59", "2026-11-16T00", "2026-11-23T00"),  # a Sunday
        ("week", "UTC", "2026-11-23T00:00", "2026-11-23T00", "2026-11-30T00"),
        ("month", "UTC", "2026-12-31T23:59", "2026-12-01T00", "2027-01-01T00"),
        ("month", "America/New_York", "2026-12-01T04:59", "2026-11-01T04", "2026-12-01T05"),  # clocks went back within
    ],
)
def test_a_period_is_made_of_the_hours_that_begin_in_it(
    period: Period, zone: str, now: str, start: str, end: str
) -> None:
    window = running_period(period, datetime.fromisoformat(now).replace(tzinfo=UTC), ZoneInfo(zone))
    assert (f"{window.start:%Y-%m-%dT%H}", f"{window.end:%Y-%m-%dT%H}") == (start, end)


@given(st.sampled_from(PERIODS), INSTANTS, ZONES)
def test_periods_hold_the_running_hour_and_follow_each_other_without_a_gap(
    period: Period, now: datetime, zone: ZoneInfo
) -> None:
    window = running_period(period, now, zone)
    assert hour_of(now) in window
    assert running_period(period, window.end, zone).start == window.end
    assert running_period(period, window.end - timedelta(seconds=1), zone) == window
