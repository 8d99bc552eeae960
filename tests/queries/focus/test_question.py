"""The rules of fal's report, one by one, and its buckets against those of the simulator, which has code of its own."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Window
from exporter.focus.timeframes import TIMEFRAMES, bucket_end, bucket_start, detected_timeframe, widened
from exporter.queries.focus.question import (
    OF_REPORT,
    EstimateRequest,
    InvoiceRequest,
    parse_request,
)
from exporter.queries.parameters import QuestionError
from exporter.simulator.world import exact

NOW = datetime(2026, 11, 20, 12, 30, 15, 999, tzinfo=UTC)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "America/St_Johns"])
INSTANTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  bounds


def asked(**texts: str) -> EstimateRequest:
    request = parse_request(texts, now=NOW)
    assert isinstance(request, EstimateRequest)
    return request


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def month(year: int, number: int) -> Window:
    return Window(datetime(year, number, 1, tzinfo=UTC), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC))


def test_they_are_those_of_fals_report_and_no_more() -> None:
    assert [parameter.name for parameter in OF_REPORT] == [
        *("source", "billing_month", "charge_month", "start", "end", "timezone", "timeframe", "bound_to_timeframe"),
    ]


@given(INSTANTS, st.sampled_from(TIMEFRAMES), ZONES)
def test_buckets_are_fals(instant: datetime, timeframe: str, name: str) -> None:
    zone = ZoneInfo(name)
    start = bucket_start(instant, timeframe, zone)
    assert start == exact.bucket_start(instant, timeframe, zone) <= instant
    assert bucket_end(instant, timeframe, zone) == exact.next_bucket(start, timeframe, zone) > instant


@given(INSTANTS, st.timedeltas(timedelta(minutes=1), timedelta(days=400)), ZONES)
def test_a_window_is_detected_and_widened_as_fal_does(start: datetime, length: timedelta, name: str) -> None:
    zone, end = ZoneInfo(name), start + length
    timeframe = detected_timeframe(start, end)
    assert timeframe == exact.automatic_timeframe(start, end)
    first, last = widened(start, end, timeframe, zone)
    assert first <= start < end <= last
    assert widened(first, last, timeframe, zone) == (first, last)
    assert bucket_end(end - timedelta(microseconds=1), timeframe, zone) == last


@pytest.mark.parametrize(
    ("hours", "timeframe"),
    [(1.9, "minute"), (2, "hour"), (47.9, "hour"), (48, "day"), (64 * 24 - 1, "day"), (64 * 24, "week")],
)
def test_a_timeframe_that_is_not_named_follows_from_the_length(hours: float, timeframe: str) -> None:
    start = NOW - timedelta(hours=hours)
    request = asked(start=f"{start:%Y-%m-%dT%H:%M:%SZ}", end=f"{NOW:%Y-%m-%dT%H:%M:%SZ}")
    assert (request.timeframe, request.is_detected) == (timeframe, True)


def test_lengths_that_only_the_command_line_asks_for_are_by_week_and_month() -> None:
    for end, timeframe in (("2026-07-01", "week"), ("2026-07-03", "month"), ("2026-07-02", "week")):
        request = parse_request({"start": "2026-01-01", "end": end}, now=NOW, longest=None)
        assert isinstance(request, EstimateRequest)
        assert request.timeframe == timeframe


def test_an_estimate_is_of_the_last_day_and_widened_to_whole_hours() -> None:
    request = asked(source="estimate")
    assert (request.start, request.end, request.timeframe) == (at("2026-11-19T12:00Z"), at("2026-11-20T13:00Z"), "hour")
    exactly = asked(source="estimate", bound_to_timeframe="false")
    assert (exactly.start, exactly.end) == (at("2026-11-19T12:30:15Z"), at("2026-11-20T12:30:15Z"))
    assert asked(end="2026-11-03").start == at("2026-11-02T00:00Z")


def test_dates_and_times_without_an_offset_are_of_the_time_zone() -> None:
    berlin = {"timezone": "Europe/Berlin", "timeframe": "day"}
    expected = (at("2026-10-23T22:00Z"), at("2026-10-25T23:00Z"))
    for start in ("2026-10-24", "2026-10-24T05:00", "2026-10-23T23:30Z", "2026-10-24T02:00+02:00"):
        request = asked(start=start, end="2026-10-26", **berlin)
        assert (request.start, request.end) == expected
    kolkata = asked(start="2026-10-24", end="2026-10-25", timezone="Asia/Kolkata")
    assert (kolkata.start, kolkata.end) == (at("2026-10-23T18:30Z"), at("2026-10-24T18:30Z"))


def test_weeks_begin_on_monday() -> None:
    request = asked(start="2026-11-04", end="2026-11-05", timeframe="week")
    assert (request.start, request.end) == (at("2026-11-02T00:00Z"), at("2026-11-09T00:00Z"))


def test_an_invoice_is_of_the_month_after_its_charges_or_the_latest() -> None:
    charged = parse_request({"charge_month": "2025-12"}, now=NOW)
    billed = parse_request({"source": "invoice", "billing_month": "2026-01"}, now=NOW)
    assert isinstance(charged, InvoiceRequest)
    assert isinstance(billed, InvoiceRequest)
    assert charged.charges == billed.charges == month(2025, 12)
    assert (charged.texts, billed.texts) == ({"charge_month": "2025-12"}, {"billing_month": "2026-01"})
    latest = parse_request({}, now=NOW)
    assert latest == InvoiceRequest()
    assert latest.charges is None


@pytest.mark.parametrize("name", ["start", "end", "timezone", "timeframe", "bound_to_timeframe"])
def test_a_source_that_is_not_named_follows_from_what_is(name: str) -> None:
    (example,) = (parameter.example for parameter in OF_REPORT if parameter.name == name)
    # 2026-12-01, the example of an end, is after the present.
    assert asked(**{name: "2026-11-20" if name == "end" else example}).source == "estimate"


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ({"source": "bill"}, "source is not one of invoice, estimate, tagged-estimate"),
        ({"charge_month": "2026-10", "timeframe": "day"}, "charge_month belongs to source=invoice, and timeframe to"),
        ({"source": "invoice", "start": "2026-10-01"}, "start belongs to source=estimate; the month of an invoice is"),
        ({"source": "invoice", "bound_to_timeframe": "true"}, "bound_to_timeframe belongs to source=estimate"),
        ({"source": "estimate", "billing_month": "2026-10"}, "billing_month belongs to source=invoice; the window of"),
        ({"source": "tagged-estimate", "charge_month": "2026-10"}, "charge_month belongs to source=invoice"),
        ({"billing_month": "2026-11", "charge_month": "2026-10"}, "billing_month is given together with charge_month"),
        ({"billing_month": "2026-13"}, "billing_month is not a month; write it like 2026-11"),
        ({"charge_month": "10/2026"}, "charge_month is not a month"),
        ({"start": "2026-10-02", "end": "2026-10-02"}, "start is not before end"),
        ({"start": "2026-12-01"}, "which is exclusive and defaults to now"),
        (
            {"start": "2026-08-01", "end": "2026-10-31"},
            "start is more than 90 days before end; request 90 days at a time",
        ),
        ({"start": "01.10.2026"}, "start is not a date or a time"),
        ({"timezone": "CEST+1"}, "timezone is not an IANA time zone"),
        ({"timeframe": "year"}, "timeframe is not one of minute, hour, day, week, month"),
        ({"bound_to_timeframe": "yes"}, "bound_to_timeframe is not one of true, false"),
        ({"expand": "organization"}, "expand is not"),
    ],
)
def test_what_does_not_go_together_or_cannot_be_read_is_refused(texts: dict[str, str], sentence: str) -> None:
    with pytest.raises(QuestionError) as caught:
        parse_request(texts, now=NOW)
    assert sentence in str(caught.value)


def test_ninety_days_are_not_too_many() -> None:
    request = asked(start="2026-08-02", end="2026-10-31")
    assert (request.timeframe, request.start) == ("week", at("2026-07-27T00:00Z"))
