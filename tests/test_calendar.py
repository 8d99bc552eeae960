from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.calendar import first_hour_of, month_after, periods_at
from exporter.charges import HOUR, hour_of

ZONES = st.sampled_from(
    [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "America/Havana",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Asia/Beirut",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kiritimati",
    ]
).map(ZoneInfo)
INSTANTS = st.datetimes(datetime(2005, 1, 1), datetime(2040, 1, 1)).map(lambda item: item.replace(tzinfo=UTC))  # noqa: DTZ001  made aware here


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]  # parts of a date


@given(INSTANTS, ZONES)
def test_the_running_hour_lies_in_today_and_today_in_the_month(now: datetime, zone: ZoneInfo) -> None:
    periods = periods_at(now, zone)
    assert periods.current_hour.start <= now < periods.current_hour.end
    assert periods.last_hour.end == periods.current_hour.start
    assert periods.current_hour.start in periods.today
    assert periods.month.start <= periods.today.start
    assert periods.today.end <= periods.month.end
    assert periods.last_month.end == periods.month.start


@given(INSTANTS, ZONES)
def test_an_hour_belongs_to_the_local_day_and_month_in_which_it_begins(now: datetime, zone: ZoneInfo) -> None:
    periods = periods_at(now, zone)
    local = hour_of(now).astimezone(zone)
    for hour in periods.today.hours():
        assert hour.astimezone(zone).date() == local.date()
    for edge in (periods.today.start - HOUR, periods.today.end):
        assert edge.astimezone(zone).date() != local.date()
    for inside, outside in (
        (periods.month.start, periods.month.start - HOUR),
        (periods.month.end - HOUR, periods.month.end),
    ):
        assert inside.astimezone(zone).month == local.month
        assert outside.astimezone(zone).month != local.month


@given(INSTANTS, ZONES)
def test_days_and_months_follow_each_other_without_gap_or_overlap(now: datetime, zone: ZoneInfo) -> None:
    periods = periods_at(now, zone)
    assert periods_at(periods.today.end, zone).today.start == periods.today.end
    assert periods_at(periods.month.end, zone).last_month == periods.month


@pytest.mark.parametrize(("day", "hours"), [(date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 6, 1), 24)])
def test_a_day_on_which_clocks_change_is_an_hour_shorter_or_longer(day: date, hours: int) -> None:
    zone = ZoneInfo("Europe/Berlin")
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=zone)
    assert len(periods_at(noon, zone).today) == hours


def test_a_leap_year_s_february_has_29_days() -> None:
    assert len(periods_at(utc(2028, 2, 29, 23, 59), ZoneInfo("UTC")).month) == 29 * 24
    assert len(periods_at(utc(2027, 3, 1), ZoneInfo("UTC")).last_month) == 28 * 24


def test_the_month_turns_at_local_midnight() -> None:
    zone = ZoneInfo("America/New_York")
    assert periods_at(utc(2026, 12, 1, 4, 59), zone).month.start == utc(2026, 11, 1, 4)
    assert periods_at(utc(2026, 12, 1, 5), zone).month.start == utc(2026, 12, 1, 5)


def test_in_a_zone_half_an_hour_off_the_day_begins_with_the_first_hour_after_midnight() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    assert first_hour_of(date(2026, 11, 20), zone) == utc(2026, 11, 19, 19)
    assert periods_at(utc(2026, 11, 19, 18, 45), zone).today.end == utc(2026, 11, 19, 19)


def test_a_day_without_midnight_begins_with_the_change_of_clocks() -> None:
    assert first_hour_of(date(2018, 11, 4), ZoneInfo("America/Sao_Paulo")) == utc(2018, 11, 4, 3)


def test_a_day_with_two_midnights_begins_with_the_first() -> None:
    assert first_hour_of(date(2026, 11, 1), ZoneInfo("America/Havana")) == utc(2026, 11, 1, 4)


def test_december_is_followed_by_january() -> None:
    assert month_after(date(2026, 12, 1)) == date(2027, 1, 1)
    assert month_after(date(2026, 1, 1)) == date(2026, 1, 1) + timedelta(days=31)
