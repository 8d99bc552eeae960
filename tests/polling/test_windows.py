from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, Window, hour_of
from exporter.polling.scheduler import (
    PIECE_HOURS,
    Reach,
    current_window,
    history_pieces,
    history_start,
    month_start,
    months_window,
    trailing_window,
)

instants = st.datetimes(datetime(2023, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
spans = st.timedeltas(timedelta(hours=1), timedelta(days=90))
zones = st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]).map(
    ZoneInfo
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@given(now=instants, behind=st.none() | st.timedeltas(timedelta(0), timedelta(days=100)))
def test_the_current_window_leaves_no_gap_behind_what_is_known(now: datetime, behind: timedelta | None) -> None:
    data_through = None if behind is None else hour_of(now - behind)
    window = current_window(now, data_through)
    assert hour_of(now) in window
    assert hour_of(now) - HOUR in window
    assert window.end == hour_of(now) + HOUR
    if data_through is not None:
        assert window.start <= data_through


@given(now=instants)
def test_the_current_window_is_two_hours_while_nothing_is_missing(now: datetime) -> None:
    assert len(current_window(now, hour_of(now))) == 2
    # A clock that was set back is no reason to poll the future or nothing.
    assert len(current_window(now, hour_of(now) + 5 * HOUR)) == 2


@given(now=instants, span=spans)
def test_a_trailing_window_holds_the_running_hour_and_the_whole_span(now: datetime, span: timedelta) -> None:
    window = trailing_window(now, span)
    assert window.end == hour_of(now) + HOUR
    assert window.start <= hour_of(now) - span < window.start + HOUR


@given(now=instants, missing=st.integers(0, 24 * 95), pieces=st.integers(0, 3))
def test_history_pieces_have_no_gap_and_no_overlap_and_come_newest_first(
    now: datetime, missing: int, pieces: int
) -> None:
    loaded_from = hour_of(now)
    start = loaded_from - missing * HOUR - pieces * PIECE_HOURS * HOUR
    edge = loaded_from
    for piece in history_pieces(start, loaded_from):
        assert piece.end == edge
        assert len(piece) <= PIECE_HOURS
        edge = piece.start
    assert edge == start


def test_nothing_is_left_to_load_once_the_history_reaches_further_back_than_configured() -> None:
    assert not list(history_pieces(at("2026-11-02"), at("2026-11-01")))


@given(now=instants, zone=zones)
def test_the_months_window_holds_both_months_of_the_zone_and_of_utc(now: datetime, zone: ZoneInfo) -> None:
    window = months_window(now, zone)
    for calendar in (zone, ZoneInfo("UTC")):
        this_month = month_start(now, calendar)
        last_month = month_start(this_month - HOUR, calendar)
        assert Window(last_month, window.end).start >= window.start
        assert this_month in window
    assert window.end == hour_of(now) + HOUR
    assert len(window) <= 24 * (31 + 31) + 24


@pytest.mark.parametrize(
    ("zone", "now", "start"),
    [
        ("UTC", "2026-03-01T00:00", "2026-02-01T00:00"),
        ("UTC", "2024-03-31T23:59", "2024-02-01T00:00"),
        ("UTC", "2026-01-01T00:00", "2025-12-01T00:00"),
        # In New York it is still February, so January is the previous month.
        ("America/New_York", "2026-03-01T04:59", "2026-01-01T05:00"),
        # Berlin's clocks change at the end of March: its April begins at 22:00 UTC, its March began at 23:00.
        ("Europe/Berlin", "2026-04-01T12:00", "2026-02-28T23:00"),
        ("Asia/Kolkata", "2026-11-21T12:00", "2026-09-30T19:00"),
    ],
)
def test_months_begin_where_the_calendar_says(zone: str, now: str, start: str) -> None:
    assert months_window(at(now), ZoneInfo(zone)).start == at(start)


def test_history_reaches_to_the_start_of_the_previous_month_unless_a_span_is_set() -> None:
    now = at("2026-11-21T14:37")
    reach = Reach(timedelta(hours=48), timedelta(days=8), None, ZoneInfo("UTC"))
    assert history_start(now, reach) == at("2026-10-01T00:00")
    days = Reach(timedelta(hours=48), timedelta(days=8), timedelta(days=3), ZoneInfo("UTC"))
    assert history_start(now, days) == at("2026-11-18T14:00")


@given(now=instants, zone=zones)
def test_history_is_never_longer_than_fal_keeps(now: datetime, zone: ZoneInfo) -> None:
    reach = Reach(timedelta(hours=48), timedelta(days=8), None, zone)
    assert hour_of(now) - history_start(now, reach) <= timedelta(days=90)
