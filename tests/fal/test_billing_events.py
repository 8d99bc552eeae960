"""Billing events: columns are what a careful reading of the rows gives, and pages that lead nowhere are refused."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from fal.conftest import Answer, Bench, Fal, as_json, gzipped
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import BilledRequest, RequestColumns
from exporter.fal import event_rows
from exporter.fal.answers import decoded
from exporter.fal.billing_events import MODELS_EVENTS, EventPage, PageSequence, read_event_page
from exporter.fal.bodies import OversizeError
from exporter.fal.errors import PagingError, ShapeError
from exporter.fal.rows import RejectedError, row_of

HOUR = (datetime(2026, 11, 27, 13, tzinfo=UTC), datetime(2026, 11, 27, 14, tzinfo=UTC))
PATH = "/v1/models/billing-events"
LIMIT = 1 << 20

ROW: Mapping[str, object] = {
    "request_id": "764cabcf-b745-4b3e-ae38-1200304cf45b",
    "endpoint_id": "fal-ai/flux/dev",
    "timestamp": "2026-11-27T13:59:59.999999Z",
    "output_units": 3,
    "unit_price": 0.0123456789,
    "percent_discount": 10,
    "cost_subtotal": 0.037037037,
    "cost_discount": 0.003703704,
    "cost_total": 0.033333333,
    "cost_estimate_nano_usd": 33_333_333,
    "auth_method_structured": {"detail": "key", "api_key_id": "key-1", "login_username": None},
    "tags": {"feature": "search", "customer": "acme"},
    "not_known": [1, {"a": None}],
}
REQUEST = BilledRequest(
    "764cabcf-b745-4b3e-ae38-1200304cf45b",
    HOUR[1] - timedelta(microseconds=1),
    "fal-ai/flux/dev",
    "",
    "key-1",
    "",
    3_000_000_000,
    12_345_679,
    10_000_000_000,
    37_037_037,
    3_703_704,
    33_333_333,
    '{"customer":"acme","feature":"search"}',
)


def body_of(*rows: object, **fields: object) -> bytes:
    return json.dumps({"billing_events": rows, "has_more": False, "next_cursor": None} | fields).encode()


def requests_in(columns: RequestColumns) -> list[BilledRequest]:
    """Return columns as requests."""
    names = RequestColumns.__slots__
    rows = zip(*(getattr(columns, name) for name in names), strict=True)
    return [BilledRequest(row[0], datetime.fromisoformat(row[1]), *row[2:]) for row in rows]


def test_a_page_as_fal_sends_it_is_read_by_columns() -> None:
    rows = [{**ROW, "request_id": f"id-{number}", "output_units": number % 2} for number in range(5)]
    page = event_rows.parsed(body_of(*rows, has_more=True, next_cursor="c"), HOUR, LIMIT)
    assert isinstance(page, event_rows.ColumnPage)
    assert (page.more, page.following) == (True, "c")
    assert requests_in(page.requests) == [
        REQUEST._replace(request_id=f"id-{number}", quantity=number % 2 * 1_000_000_000) for number in range(5)
    ]


def test_an_empty_page_has_no_requests() -> None:
    page = event_rows.parsed(body_of(), HOUR, LIMIT)
    assert isinstance(page, event_rows.ColumnPage)
    assert len(page.requests) == 0


ODD: dict[str, list[object]] = {
    "request_id": ["", None, 5, "x" * 200, "x" * 201, "a\tb", "ä", "a\ud800"],
    "timestamp": [
        None,
        "2026-11-27T13:00:00Z",
        "2026-11-27T13:00:00.5Z",
        "2026-11-27T13:00:00+00:00",
        "2026-11-27T14:30:00+01:00",
        "2026-11-27T14:00:00Z",
        "2026-11-27T12:59:59.999999Z",
        "2026-11-27T24:00:00Z",
        "2026-11-27T13:00:60Z",
        "9999-12-31T23:59:59.999999Z",
        "0001-01-01T00:00:00.000000Z",
        "2026-02-30T13:00:00Z",
        "2026-11-27",
        "20261127T130000Z",
        "٢026-11-27T13:00:00Z",
        7,
    ],
    "endpoint_id": [None, "", 5, "m" * 301, "a\nb", "a\u2028b", {}],
    "output_units": [None, -1, "2", "x", True, 1e-10, 0.1234567895, 10**18, 2.5e7, []],
    "unit_price": [None, -0.0, "0.25", "1,5"],
    "percent_discount": [None, 100, "ten"],
    "cost_subtotal": [None, 9.2e9, -1, 0.0000000005],
    "cost_discount": [None, 0, 9.2e9, "0.1"],
    "cost_total": [None, 0.1, "0.2", -5, True],
    "cost_estimate_nano_usd": [None, 0, -1, 25.0, "25", 2**63 - 1, 2**63, True, 1e3],
    "auth_method_structured": [None, "x", [], {"detail": "only words"}, {"login_username": "ada"}, {"api_key_id": 5}],
    "auth_method": [None, "api key", 5],
    "username": [None, "research", 5, "\\N", "a\rb"],
    "tags": [None, {}, "x", {"a": 1}, {"a": "\n"}, {"b": "ä", "a": '"\\'}],
}

CHANGES = [(name, value) for name, values in ODD.items() for value in values]


def carefully(body: bytes) -> list[BilledRequest]:
    """Read a page row by row."""
    page = decoded(body)
    assert isinstance(page, dict)
    return [event_rows.request_of(row_of(row), HOUR) for row in page["billing_events"]]


def check_columns(body: bytes) -> bool:
    """Check that columns are what each row says, where there are columns; return whether there are."""
    page = event_rows.parsed(body, HOUR, LIMIT)
    if isinstance(page, event_rows.ColumnPage):
        assert requests_in(page.requests) == carefully(body)
        return True
    assert page == decoded(body)
    return False


def test_columns_are_what_a_careful_reading_gives_whatever_a_field_holds() -> None:
    read = [check_columns(body_of(ROW, {**ROW, name: value})) for name, value in CHANGES]
    assert 20 < sum(read) < len(CHANGES) - 20
    assert check_columns(body_of(*({name: ROW[name] for name in ROW if name != missing} for missing in OPTIONAL)))
    assert not any(
        check_columns(body_of({name: ROW[name] for name in ROW if name != missing}))
        for missing in ("request_id", "timestamp", "endpoint_id")
    )


OPTIONAL = ROW.keys() - {"request_id", "timestamp", "endpoint_id"}


@given(st.lists(st.lists(st.sampled_from(CHANGES), max_size=2), min_size=1, max_size=3))
def test_columns_are_what_a_careful_reading_gives_in_any_page(rows: list[list[tuple[str, object]]]) -> None:
    check_columns(body_of(*({**ROW, **dict(changes)} for changes in rows)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("output_units", 0.1234567895),
        ("output_units", "2"),
        ("cost_estimate_nano_usd", 0),
        ("cost_subtotal", None),
        ("tags", None),
        ("auth_method_structured", {"detail": "only words"}),
        ("timestamp", "2026-11-27T13:00:00Z"),
        ("endpoint_id", "m" * 301),
    ],
)
def test_what_may_well_occur_does_not_slow_a_page_down(name: str, value: object) -> None:
    assert isinstance(event_rows.parsed(body_of({**ROW, name: value}), HOUR, LIMIT), event_rows.ColumnPage)


@pytest.mark.parametrize(
    "body",
    [
        body_of(ROW, 5),
        body_of(ROW)[:-1] + b"x",
        body_of(ROW).replace(b'"not_known": [1', b'"not_known": [NaN'),
        body_of(ROW).replace(b"fal-ai", b"fal\xff"),
        body_of(ROW).replace(b'"not_known": [1', b'"not_known": ["\xff"'),
        b"\xef\xbb\xbf" + body_of(ROW),
        body_of({**ROW, "unit_price": 0}).replace(b'"unit_price": 0', b'"unit_price": 1' + b"0" * 5000),
        json.dumps({"billing_events": {}, "has_more": False}).encode(),
        json.dumps({"billing_events": [], "has_more": 1}).encode(),
    ],
)
def test_what_is_not_as_expected_is_left_to_the_careful_reading(body: bytes) -> None:
    try:
        page = event_rows.parsed(body, HOUR, LIMIT)
    except ValueError:
        return
    assert not isinstance(page, event_rows.ColumnPage)


def test_a_large_page_that_is_not_as_expected_is_not_parsed() -> None:
    with pytest.raises(OversizeError, match="bytes of memory"):
        event_rows.parsed(body_of(*[{}] * 1000), HOUR, 2_000)


async def test_odd_rows_are_rejected_one_by_one_and_the_others_kept(fal: Fal, bench: Bench) -> None:
    rows = [ROW, 5, {**ROW, "cost_estimate_nano_usd": None, "cost_total": -1}, {**ROW, "timestamp": "2026-11-27"}]
    fal.plays(PATH, gzipped(body_of(*rows, has_more=True, next_cursor="c")))
    client = bench.client()
    page = await read_event_page(client, MODELS_EVENTS, HOUR, client.deadline())
    assert requests_in(page.requests) == [REQUEST]
    assert (page.cursor, page.rejected) == ("c", {"not_an_object": 1, "negative": 1, "outside_window": 1})


@pytest.mark.parametrize("nanos", [None, -1, 25.0, "25", 2**63, True])
def test_a_cost_in_nano_dollars_that_is_none_is_not_believed(nanos: object) -> None:
    page = event_rows.parsed(body_of({**ROW, "cost_estimate_nano_usd": nanos, "cost_total": 0.5}), HOUR, LIMIT)
    assert isinstance(page, event_rows.ColumnPage)
    assert page.requests.cost == [500_000_000]


def test_a_list_cost_that_no_ledger_holds_is_rejected() -> None:
    with pytest.raises(RejectedError, match="out_of_range"):
        event_rows.request_of(
            {**ROW, "cost_subtotal": None, "cost_estimate_nano_usd": 2**63 - 1, "cost_discount": 1}, HOUR
        )


@pytest.mark.parametrize("odd", [(), (5,)])
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"has_more": True}, "`next_cursor` is not text"),
        ({"has_more": True, "next_cursor": "\ud800"}, "`next_cursor` is not text"),
        ({"has_more": True, "next_cursor": "c"}, "of the same page"),
    ],
)
async def test_a_cursor_that_cannot_be_followed_is_an_error_however_the_page_was_read(
    fal: Fal, bench: Bench, odd: tuple[object, ...], fields: dict[str, object], problem: str
) -> None:
    fal.plays(PATH, Answer(body_of(ROW, *odd, **fields)))
    client = bench.client()
    with pytest.raises(ShapeError, match=problem):
        await read_event_page(client, MODELS_EVENTS, HOUR, client.deadline(), cursor="c")


async def test_an_answer_without_the_list_is_not_an_hour_without_requests(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"has_more": False}))
    client = bench.client()
    with pytest.raises(ShapeError, match="`billing_events` is not a list"):
        await read_event_page(client, MODELS_EVENTS, HOUR, client.deadline())


def page_of(*ids: str, cursor: str | None = "c", rejected: int = 0) -> EventPage:
    columns = RequestColumns.of([REQUEST._replace(request_id=request_id) for request_id in ids])
    return EventPage(columns, cursor, {"negative": rejected} if rejected else {})


def sequence(bench: Bench, rows: int = 0) -> PageSequence:
    return PageSequence(bench.client(events_per_hour=100), MODELS_EVENTS, rows)


async def test_an_hour_has_only_so_many_events(bench: Bench) -> None:
    numbers, pages = count(), sequence(bench)
    for _ in range(9):
        pages.take(page_of(*(f"id-{next(numbers)}" for _ in range(11)), cursor=f"c-{next(numbers)}"))
    pages.take(page_of("one more", cursor="last"))
    with pytest.raises(PagingError, match="more than 100 rows for one hour"):
        pages.take(page_of(cursor=None, rejected=1))
    with pytest.raises(PagingError, match="more than 100 rows for one hour"):
        sequence(bench, rows=99).take(page_of("a", "b"))


async def test_a_page_may_come_twice_but_not_for_ever(bench: Bench) -> None:
    pages = sequence(bench)
    for number in range(20):
        pages.take(page_of("a", cursor=f"c-{number}"))
    with pytest.raises(PagingError, match="20 pages without new rows"):
        pages.take(page_of("a"))


async def test_pages_without_rows_end(bench: Bench) -> None:
    pages = sequence(bench)
    for number in range(30):
        pages.take(page_of(cursor=f"r-{number}", rejected=1))
    for number in range(19):
        pages.take(page_of(cursor=f"c-{number}"))
    with pytest.raises(PagingError, match="20 pages without new rows"):
        pages.take(page_of(cursor=None))


async def test_pages_that_lead_back_are_a_loop(bench: Bench) -> None:
    pages = sequence(bench)
    pages.take(page_of("a", cursor="x"))
    pages.take(page_of("b", cursor="y"))
    with pytest.raises(PagingError, match="form a loop"):
        pages.take(page_of("c", cursor="x"))
