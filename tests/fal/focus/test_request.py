from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from profiles import examples

from exporter.fal.focus.request import FocusRequest, FocusRequestError
from exporter.focus.timeframes import LONGEST


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


WEEK = {"start": at("2026-10-05"), "end": at("2026-10-12")}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"source": ""}, "source '' is unknown; choose invoice, estimate, tagged-estimate"),
        ({"source": "billed"}, "source 'billed' is unknown"),
        ({"source": "estimate", **WEEK, "billing_month": "2026-10"}, "source estimate ignores billing_month"),
        ({"source": "estimate", **WEEK, "charge_month": "2026-10"}, "source estimate ignores charge_month"),
        ({"source": "tagged-estimate", **WEEK, "charge_month": "2026-10"}, "tagged-estimate ignores charge_month"),
        ({"source": "invoice", **WEEK}, "source invoice ignores start and end; name its month by billing_month"),
        ({"source": "invoice", "end": at("2026-10-12")}, "source invoice ignores end"),
        ({"source": "invoice", "timezone": "UTC"}, "source invoice ignores timezone"),
        ({"source": "invoice", "timeframe": "hour"}, "source invoice ignores timeframe"),
        ({"source": "invoice", "bound_to_timeframe": False}, "source invoice ignores bound_to_timeframe"),
        ({"source": "invoice", "billing_month": "2026-11", "charge_month": "2026-10"}, "are both set"),
        ({"source": "invoice", "billing_month": "2026-13"}, "billing_month '2026-13' is not a month"),
        ({"source": "invoice", "charge_month": "October"}, "charge_month 'October' is not a month"),
        ({"source": "invoice", "charge_month": "2026-10-01"}, "write it like 2026-10"),
        ({"source": "estimate"}, "source estimate needs start and end"),
        ({"source": "estimate", "start": at("2026-10-05")}, "source estimate needs start and end"),
        ({"source": "estimate", "end": at("2026-10-05")}, "source estimate needs start and end"),
        ({"source": "estimate", "start": at("2026-10-12"), "end": at("2026-10-05")}, "is not after start"),
        ({"source": "estimate", "start": at("2026-10-12"), "end": at("2026-10-12")}, "end is exclusive"),
        ({"source": "estimate", **WEEK, "start": datetime(2026, 10, 5)}, "start .* has no offset"),  # noqa: DTZ001
        ({"source": "estimate", **WEEK, "end": at("2026-10-12T00:00:00.5")}, "end .* is not on a whole second"),
        ({"source": "estimate", **WEEK, "timeframe": "year"}, "timeframe 'year' is unknown"),
        ({"source": "estimate", **WEEK, "timezone": "Mars/Olympus"}, "'Mars/Olympus' is not an IANA time zone"),
        ({"source": "estimate", **WEEK, "timezone": "/etc/passwd"}, "is not an IANA time zone"),
        ({"source": "estimate", **WEEK, "start": at("2026-10-05T00:30")}, "start .* edge of an hour in UTC"),
        ({"source": "estimate", **WEEK, "end": at("2026-10-12T01:00"), "timeframe": "day"}, "end .* edge of a day"),
        (
            {"source": "estimate", **WEEK, "timeframe": "day", "timezone": "Europe/Berlin"},
            "edge of a day in Europe/Berlin",
        ),
        ({"source": "estimate", **WEEK, "start": at("2026-10-06"), "timeframe": "week"}, "edge of a week"),
        ({"source": "estimate", **WEEK, "timeframe": "month", "bound_to_timeframe": True}, "edge of a month"),
        ({"source": "estimate", **WEEK, "timezone": "Asia/Kolkata"}, "edge of an hour in Asia/Kolkata"),
        ({"source": "invoice", "expand": "teams"}, "expand 'teams' is unknown"),
        ({"source": "invoice", "expand": "organization", "organization": True}, "expand belongs to /account/focus"),
        ({"source": "estimate", **WEEK, "team_username": "acme"}, "team_username belongs to /organization/focus"),
        ({"source": "estimate", **WEEK, "team_username": " ", "organization": True}, "team_username is empty"),
    ],
)
def test_what_fal_rejects_or_ignores_is_refused_with_a_sentence(asked: dict[str, object], sentence: str) -> None:
    with pytest.raises(FocusRequestError, match=sentence):
        FocusRequest(**asked)  # type: ignore[arg-type]  # a mapping has one type for all its values


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({"source": "invoice"}, {"source": "invoice"}),
        ({"source": "invoice", "billing_month": "2026-11"}, {"source": "invoice", "billing_month": "2026-11"}),
        (
            {"source": "invoice", "charge_month": "2026-10", "expand": "organization"},
            {"source": "invoice", "charge_month": "2026-10", "expand": "organization"},
        ),
        (
            {"source": "estimate", **WEEK, "timeframe": "week"},
            {
                "source": "estimate",
                "start": "2026-10-05T00:00:00Z",
                "end": "2026-10-12T00:00:00Z",
                "timezone": "UTC",
                "timeframe": "week",
                "bound_to_timeframe": "false",
            },
        ),
        (
            {
                "source": "tagged-estimate",
                "organization": True,
                "team_username": "acme",
                "start": datetime(2026, 10, 5, 2, tzinfo=timezone(timedelta(hours=2))),
                "end": at("2026-10-05T03:00"),
                "timezone": "Europe/Berlin",
                "bound_to_timeframe": True,
            },
            {
                "source": "tagged-estimate",
                "start": "2026-10-05T00:00:00Z",
                "end": "2026-10-05T03:00:00Z",
                "timezone": "Europe/Berlin",
                "timeframe": "hour",
                "bound_to_timeframe": "true",
                "team_username": "acme",
            },
        ),
        (
            {
                "source": "estimate",
                "start": at("2026-10-05T00:10"),
                "end": at("2026-10-05T01"),
                "bound_to_timeframe": False,
            },
            {
                "source": "estimate",
                "start": "2026-10-05T00:10:00Z",
                "end": "2026-10-05T01:00:00Z",
                "timezone": "UTC",
                "timeframe": "hour",
                "bound_to_timeframe": "false",
            },
        ),
    ],
)
def test_what_fal_takes_is_asked_for_as_it_is(asked: dict[str, object], query: dict[str, str]) -> None:
    request = FocusRequest(**asked)  # type: ignore[arg-type]  # a mapping has one type for all its values
    assert request.parameters() == query
    assert request.call.path == ("/organization/focus" if asked.get("organization") else "/account/focus")


def test_more_than_ninety_days_are_refused_before_the_call_and_fetched_in_pieces() -> None:
    most = FocusRequest(source="estimate", start=at("2026-01-01"), end=at("2026-01-01") + LONGEST)
    assert most.parameters()["start"] == "2026-01-01T00:00:00Z"
    assert list(most.pieces()) == [most]
    more = FocusRequest(source="estimate", start=at("2026-01-01"), end=at("2026-04-01T01:00"))
    with pytest.raises(FocusRequestError, match="more than 90 days apart"):
        more.parameters()
    assert [(piece.start, piece.end) for piece in more.pieces()] == [
        (at("2026-01-01"), at("2026-04-01")),
        (at("2026-04-01"), at("2026-04-01T01:00")),
    ]


def test_pieces_of_months_are_whole_months() -> None:
    request = FocusRequest(source="estimate", start=at("2026-01-01"), end=at("2026-07-01"), timeframe="month")
    assert [piece.start for piece in request.pieces()] == [at(f"2026-0{month}-01") for month in (1, 4, 6)]
    assert [piece.start for piece in request.pieces(timedelta(days=1))] == [
        at(f"2026-0{month}-01") for month in range(1, 7)
    ]


def test_an_invoice_is_one_piece() -> None:
    request = FocusRequest(source="invoice", charge_month="2026-10")
    assert list(request.pieces()) == [request]


@settings(deadline=None, max_examples=examples(20, long=100))
@given(
    first=st.integers(0, 20_000),
    hours=st.integers(1, 4_000),
    longest=st.integers(100, 3_000),
    timeframe=st.sampled_from(["minute", "hour", "day", "week", "month"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/St_Johns", "Asia/Kathmandu"]),
)
def test_pieces_neither_overlap_nor_leave_a_gap_and_each_is_taken(
    first: int, hours: int, longest: int, timeframe: str, zone: str
) -> None:
    start = at("2025-01-01") + timedelta(hours=first)
    whole = FocusRequest(
        source="estimate",
        start=start,
        end=start + timedelta(hours=hours),
        timeframe=timeframe,
        timezone=zone,
        bound_to_timeframe=False,
    )
    pieces = list(whole.pieces(timedelta(hours=longest)))
    assert (pieces[0].start, pieces[-1].end) == (whole.start, whole.end)
    assert all(before.end == after.start for before, after in pairwise(pieces))
    for piece in pieces:
        assert piece.parameters()
    # Only the outer edges may lie within a bucket: every cut is at the edge of one.
    for piece in pieces[1:-1]:
        FocusRequest(source="estimate", start=piece.start, end=piece.end, timeframe=timeframe, timezone=zone)
