from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from fal.conftest import Bench, Fal, as_json, bucket, model_row, page, refused
from hypothesis import given
from hypothesis import strategies as st

from exporter.calendar import Every, bucket_start
from exporter.charges import HOUR, NANO, Window
from exporter.fal.aggregation import Detail
from exporter.fal.buckets import MOST_CALLS, Allowance, Buckets, TooMuchError
from exporter.fal.platform_usage import models
from exporter.fal.reporting import ReportingUsage

UTC_ZONE, BERLIN, KOLKATA = ZoneInfo("UTC"), ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata")


def utc(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def pieces(
    start: datetime, end: datetime, every: Every | None, zone: ZoneInfo = UTC_ZONE
) -> list[tuple[str, str, int]]:
    found = Buckets(Window(start, end), every, zone).pieces()
    return [(str(piece.window), piece.timeframe, len(piece.edges)) for piece in found]


def test_a_window_is_asked_for_by_its_whole_months_its_days_and_the_hours_at_its_ends() -> None:
    expected = [
        ("2026-01-30T22Z/2026-01-31T00Z", "hour", 2),
        ("2026-01-31T00Z/2026-02-01T00Z", "day", 1),
        ("2026-02-01T00Z/2026-05-01T00Z", "month", 3),
        ("2026-05-01T00Z/2026-05-03T00Z", "day", 2),
        ("2026-05-03T00Z/2026-05-03T05Z", "hour", 5),
    ]
    assert pieces(utc(1, 30, 22), utc(5, 3, 5), None) == expected
    assert pieces(utc(1, 30, 22), utc(5, 3, 5), "month") == expected


def test_days_are_not_put_together_and_hours_are_asked_for_as_they_are() -> None:
    assert [piece[1] for piece in pieces(utc(1, 30, 22), utc(5, 3, 5), "day")] == ["hour", "day", "hour"]
    assert pieces(utc(1, 30, 22), utc(2, 3), "hour") == [("2026-01-30T22Z/2026-02-03T00Z", "hour", 74)]


def test_months_and_days_are_those_of_the_zone_and_hours_where_those_begin_between_hours() -> None:
    assert pieces(utc(2, 28, 23), utc(4, 30, 22), "month", BERLIN) == [("2026-02-28T23Z/2026-04-30T22Z", "month", 2)]
    assert pieces(utc(2, 28, 23), utc(4, 30, 22), "day", BERLIN) == [("2026-02-28T23Z/2026-04-30T22Z", "day", 61)]
    assert [piece[1] for piece in pieces(utc(3, 1), utc(4, 1), "day", KOLKATA)] == ["hour"]
    assert [piece[1] for piece in pieces(utc(3, 1), utc(4, 1), None, KOLKATA)] == ["month"]


def test_a_long_window_by_hours_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(TooMuchError, match="ask for a shorter window, or by longer periods"):
        Buckets(Window(utc(1, 1), utc(6, 1)), "hour", UTC_ZONE).pieces()


def test_calls_are_counted_and_one_too_many_is_refused() -> None:
    allowance = Allowance()
    for _ in range(MOST_CALLS):
        allowance.take()
    with pytest.raises(TooMuchError, match=f"more than {MOST_CALLS} calls"):
        allowance.take()


@given(
    start=st.integers(0, 2000),
    hours=st.integers(1, 2200),
    every=st.sampled_from([None, "month", "day", "hour"]),
    zone=st.sampled_from([UTC_ZONE, BERLIN, KOLKATA, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/Havana")]),
)
def test_pieces_and_buckets_are_the_window_without_gap_or_overlap(
    start: int, hours: int, every: Every | None, zone: ZoneInfo
) -> None:
    window = Window(utc(1, 1) + start * HOUR, utc(1, 1) + (start + hours) * HOUR)
    buckets = Buckets(window, every, zone)
    for parts in ([piece.window for piece in buckets.pieces()], list(buckets.windows())):
        assert [part.start for part in parts] == [window.start, *(part.end for part in parts[:-1])]
        assert parts[-1].end == window.end
    for piece in buckets.pieces():
        assert min(piece.edges) == piece.window.start
        if every is not None:
            # No bucket reaches into two of those that are wanted.
            ends = [*sorted(piece.edges)[1:], piece.window.end]
            for first, end in zip(sorted(piece.edges), ends, strict=True):
                assert bucket_start(first, every, zone) == bucket_start(end - HOUR, every, zone)


async def test_a_bucket_that_is_none_of_those_asked_for_is_rejected_not_counted(fal: Fal, bench: Bench) -> None:
    # Asked for days, it answers an hour within one: whether that is all of the day nobody can tell.
    days = (bucket("2026-11-01T00:00:00Z", model_row()), bucket("2026-11-02T07:00:00Z", model_row()))
    fal.plays("/v1/models/usage", as_json(page(*days)))
    client = bench.client()
    asked = Buckets(Window(utc(11, 1), utc(11, 3)), "day", UTC_ZONE)
    reading = await models(client).read_buckets(asked, client.deadline(), Allowance())
    assert [request.query["timeframe"] for request in fal.requests] == [["day"]]
    assert (reading.rows, reading.rejected) == (1, {"bucket": 1})


async def test_calls_of_one_question_never_overlap(fal: Fal, bench: Bench) -> None:
    fal.plays("/v1/models/usage", as_json(page()))
    fal.plays("/billing/usage", as_json({"usage": []}))
    client = bench.client()
    asked = Buckets(Window(utc(1, 30, 22), utc(5, 3, 5)), "month", UTC_ZONE)
    for source in (models(client), ReportingUsage(client)):
        await source.read_buckets(asked, client.deadline(), Allowance())
    assert len(fal.asked("/v1/models/usage")) == len(fal.asked("/billing/usage")) == 5
    assert fal.most_at_once == 1


async def test_the_reporting_interface_that_takes_one_dimension_only_is_asked_for_that(fal: Fal, bench: Bench) -> None:
    fal.plays("/billing/usage", refused(422), as_json({"usage": [{"model": "m", "requests": 2, "spend": 1}]}))
    client, source = bench.client(), ReportingUsage(bench.client())
    reading = await source.read_buckets(
        Buckets(Window(utc(10, 1), utc(11, 1)), None, UTC_ZONE), client.deadline(), Allowance()
    )
    assert [request.query["group_by"] for request in fal.requests] == [["model,app,gpu_class"], ["model"]]
    assert [charge.amounts.quantity for charge in reading.charges] == [2 * NANO]
    assert source.detail is Detail.UNKNOWN, "polls find out by themselves"
