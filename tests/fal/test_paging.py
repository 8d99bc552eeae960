from datetime import datetime, timedelta

import pytest
from fal.conftest import Answer, Bench, Fal, as_json, bucket, model_row, page, refused

from exporter.charges import Window
from exporter.fal.aggregation import Reading
from exporter.fal.client import Client
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.errors import PagingError, ShapeError
from exporter.fal.paging import pages
from exporter.fal.platform_usage import models

CALL = Endpoint(Host.PLATFORM, "/models/usage")
PATH = "/v1/models/usage"


def numbered(number: int, cursor: str | None) -> Answer:
    return as_json(page(bucket("2026-11-21T10:00:00Z", {"n": number}), cursor=cursor))


async def read(client: Client) -> list[list[object]]:
    return [found async for found in pages(client, CALL, {"a": "b"}, client.deadline())]


async def test_pages_are_followed_to_the_end_with_the_same_question(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, numbered(1, "c1"), numbered(2, "c2"), numbered(3, None))
    assert len(await read(bench.client(page_rows=7))) == 3
    assert [request.query for request in fal.requests] == [
        {"a": ["b"], "limit": ["7"]},
        {"a": ["b"], "limit": ["7"], "cursor": ["c1"]},
        {"a": ["b"], "limit": ["7"], "cursor": ["c2"]},
    ]


async def test_an_empty_answer_is_one_page_without_rows(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json(page()))
    assert await read(bench.client()) == [[]]


async def test_a_repeated_cursor_is_an_error_not_a_loop(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, numbered(1, "c1"), numbered(2, "c2"), numbered(3, "c1"), numbered(4, None))
    with pytest.raises(PagingError, match="form a loop"):
        await read(bench.client())
    assert len(fal.requests) == 3


async def test_a_page_served_twice_is_an_error_not_spend(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, numbered(1, "c1"), numbered(1, "c2"), numbered(2, None))
    with pytest.raises(PagingError, match="twice"):
        await read(bench.client())


@pytest.mark.parametrize(
    ("following", "told"),
    [
        ([bucket("b1", {"n": 3}, {"n": 4})], "the last row of"),
        ([bucket("b1", {"n": 2}, {"n": 3}), bucket("b2", {"n": 1})], "the last 2 rows of"),
        ([bucket("b0", {"n": 1}), bucket("b1", {"n": 2}, {"n": 3}, {"n": 4})], "the last 3 rows of"),
    ],
)
async def test_a_page_that_begins_with_the_end_of_the_one_before_is_an_error_not_spend(
    fal: Fal, bench: Bench, following: list[object], told: str
) -> None:
    first = page(bucket("b0", {"n": 0}, {"n": 1}), bucket("b1", {"n": 2}, {"n": 3}), cursor="c1")
    fal.plays(PATH, as_json(first), as_json(page(*following)))
    with pytest.raises(PagingError, match=f"page 2 begins with {told} the page before"):
        await read(bench.client())


@pytest.mark.parametrize(
    "following",
    [
        [bucket("b2", {"n": 3})],  # another hour
        [bucket("b1", {"n": 2})],  # not where the page before ends
        [bucket("b1"), bucket("b1", {"n": 4}, {"n": 3})],
    ],
)
async def test_a_page_may_have_rows_like_those_of_the_one_before(
    fal: Fal, bench: Bench, following: list[object]
) -> None:
    fal.plays(PATH, as_json(page(bucket("b1", {"n": 2}, {"n": 3}), cursor="c1")), as_json(page(*following)))
    assert len(await read(bench.client())) == 2


async def test_pages_without_end_are_an_error(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, *(numbered(number, f"c{number}") for number in range(9)))
    with pytest.raises(PagingError, match="more than 5 pages") as caught:
        await read(bench.client(pages=3, rows=20, page_rows=10))
    assert caught.value.reason == "endless_pages"
    assert len(fal.requests) == 5


async def test_pages_of_more_rows_than_an_answer_may_have_are_an_error(fal: Fal, bench: Bench) -> None:
    rows = [model_row() for _ in range(10)]
    fal.plays(PATH, *(as_json(page(bucket(f"b{number}", *rows), cursor=f"c{number}")) for number in range(99)))
    with pytest.raises(PagingError, match="more than 50 rows, in 5 pages"):
        await read(bench.client(rows=50))
    assert len(fal.requests) == 5


async def test_one_page_without_rows_after_the_other_is_an_error(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, *(as_json(page(cursor=f"c{number}")) for number in range(99)))
    with pytest.raises(PagingError, match="20 pages without rows"):
        await read(bench.client())
    assert len(fal.requests) == 20


async def test_pages_that_come_round_under_other_cursors_are_an_error(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, *(numbered(number % 7, f"c{number}") for number in range(99)))
    with pytest.raises(PagingError, match="page 8 the second time"):
        await read(bench.client())
    assert len(fal.requests) == 8


@pytest.mark.parametrize(
    "answer",
    [
        [],
        None,
        {},
        {"has_more": False},
        {"time_series": None, "has_more": False, "next_cursor": None},
        {"time_series": {}, "has_more": False},
        {"time_series": []},
        {"time_series": [], "has_more": "no"},
        {"time_series": [], "has_more": True},
        {"time_series": [], "has_more": True, "next_cursor": None},
        {"time_series": [], "has_more": True, "next_cursor": ""},
        {"time_series": [], "has_more": True, "next_cursor": 5},
        {"time_series": [], "has_more": True, "next_cursor": "\ud800"},
    ],
)
async def test_what_is_no_page_is_an_error_and_never_an_empty_one(fal: Fal, bench: Bench, answer: object) -> None:
    fal.plays(PATH, as_json(answer))
    with pytest.raises(ShapeError) as caught:
        await read(bench.client())
    assert caught.value.reason == "shape"


async def test_a_cursor_after_the_last_page_is_not_followed(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"time_series": [], "has_more": False, "next_cursor": "left-over"}))
    assert await read(bench.client()) == [[]]


TEN, ELEVEN = "2026-11-21T10:00:00Z", "2026-11-21T11:00:00Z"
WINDOW = Window(datetime.fromisoformat(TEN), datetime.fromisoformat(TEN) + timedelta(hours=2))


def costing(*dollars: object) -> list[dict[str, object]]:
    return [model_row(endpoint_id=f"m{number}", cost_total=cost) for number, cost in enumerate(dollars)]


def two_pages(fal: Fal, summary: object, *last_hour: Answer, second: tuple[object, ...] = (4,)) -> None:
    """Play a page that costs 3 US dollars, the same with a summary, another page, and the last hour alone."""
    first = page(bucket(TEN, *costing(1, 2)), cursor="c1")
    following = as_json(page(bucket(ELEVEN, *costing(*second))))
    fal.plays(PATH, as_json(first), as_json(first | {"summary": summary}), following, *last_hour)


async def read_usage(client: Client) -> Reading:
    return await models(client).read(WINDOW, with_api_key=False)


LAST_HOUR = as_json(page(bucket(ELEVEN, *costing(4))) | {"summary": costing(4)})


async def test_pages_that_cost_less_than_the_summary_of_the_same_call_are_an_error(fal: Fal, bench: Bench) -> None:
    two_pages(fal, costing(3, "6.5"), LAST_HOUR)
    with pytest.raises(PagingError, match=r"leave rows out: they cost 7\.00 US dollars, and 9\.50 by fal's own"):
        await read_usage(bench.client())
    asked = [request.query for request in fal.requests]
    assert [query["expand"] for query in asked] == [["time_series"], *[["time_series", "summary"]] * 3]
    assert [query.get("cursor") for query in asked] == [None, None, ["c1"], None]
    assert [query["start"] for query in asked] == [[TEN], [TEN], [TEN], [ELEVEN]]


@pytest.mark.parametrize(
    "summary",
    [
        costing(7),
        costing(3, "4.000002"),  # sums of rounded numbers
        costing(6),  # charges have come in between
        costing(3),  # a summary of each page
        costing("many"),
        [],
        None,
        {"cost_total": 9},
        ["9"],
    ],
)
async def test_pages_that_cost_as_much_as_a_summary_or_more_than_it_are_whole(
    fal: Fal, bench: Bench, summary: object
) -> None:
    two_pages(fal, summary)
    reading = await read_usage(bench.client())
    assert sum(charge.amounts.cost for charge in reading.charges) == 7_000_000_000
    assert len(fal.requests) == 3


@pytest.mark.parametrize("answer", [refused(400), refused(422), as_json({"summary": costing(9), "has_more": False})])
async def test_fal_need_not_state_a_summary_with_its_rows(fal: Fal, bench: Bench, answer: Answer) -> None:
    first = as_json(page(bucket(TEN, *costing(1, 2)), cursor="c1"))
    fal.plays(PATH, first, answer, as_json(page(bucket(ELEVEN, *costing(4)))))
    reading = await read_usage(bench.client())
    assert sum(charge.amounts.cost for charge in reading.charges) == 7_000_000_000
    assert [request.query["expand"] for request in fal.requests][2:] == [["time_series"]]


async def test_a_summary_of_newer_data_than_the_rows_says_nothing_about_pages(fal: Fal, bench: Bench) -> None:
    newer = as_json(page(bucket(ELEVEN, *costing(4))) | {"summary": costing(5)})
    two_pages(fal, costing(8), newer)
    assert len((await read_usage(bench.client())).charges) == 3


NO_HOUR = as_json(page() | {"summary": []})


async def test_a_summary_of_other_prices_than_the_rows_have_says_nothing_about_pages(fal: Fal, bench: Bench) -> None:
    """The last hour is empty; in the one before it the summary is higher without pages, too."""
    two_pages(fal, costing(10), NO_HOUR, as_json(page(bucket(TEN, *costing(3))) | {"summary": costing(4)}), second=())
    assert len((await read_usage(bench.client())).charges) == 2
    assert [request.query["start"] for request in fal.requests][3:] == [[ELEVEN], [TEN]]


async def test_rows_are_missed_though_the_last_hour_is_empty(fal: Fal, bench: Bench) -> None:
    two_pages(fal, costing(10), NO_HOUR, as_json(page(bucket(TEN, *costing(3))) | {"summary": costing(3)}), second=())
    with pytest.raises(PagingError, match=r"leave rows out: they cost 3\.00 US dollars, and 10\.00 by fal's own"):
        await read_usage(bench.client())


async def test_a_summary_that_no_single_hour_bears_out_is_not_believed(fal: Fal, bench: Bench) -> None:
    two_pages(fal, costing(10), NO_HOUR, NO_HOUR, second=())
    assert len((await read_usage(bench.client())).charges) == 2


async def test_rows_that_cannot_be_read_are_rejected_and_not_left_out(fal: Fal, bench: Bench) -> None:
    two_pages(fal, costing(7), second=(4, "many"))
    reading = await read_usage(bench.client())
    assert len(reading.charges) == 3
    assert sum(reading.rejected.values()) == 1


async def test_one_page_is_asked_for_once_and_without_a_summary(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json(page(bucket(TEN, *costing(1)))))
    await read_usage(bench.client())
    assert [request.query["expand"] for request in fal.requests] == [["time_series"]]
