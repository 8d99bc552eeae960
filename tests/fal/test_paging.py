import pytest
from fal.conftest import Answer, Bench, Fal, as_json, bucket, page

from exporter.fal.client import Client
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.errors import PagingError, ShapeError
from exporter.fal.platform_usage import pages

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
    with pytest.raises(PagingError, match="circle"):
        await read(bench.client())
    assert len(fal.requests) == 3


async def test_a_page_served_twice_is_an_error_not_spend(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, numbered(1, "c1"), numbered(1, "c2"), numbered(2, None))
    with pytest.raises(PagingError, match="twice"):
        await read(bench.client())


async def test_pages_without_end_are_an_error(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, *(numbered(number, f"c{number}") for number in range(9)))
    with pytest.raises(PagingError, match="more than 5 pages") as caught:
        await read(bench.client(pages=5))
    assert caught.value.reason == "endless_pages"
    assert len(fal.requests) == 5


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
