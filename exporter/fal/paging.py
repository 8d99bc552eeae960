"""Following an answer through all its pages.

A sequence that hands out the same cursor again, repeats a page, promises more without saying where, or passes the
limit is an error: taking half of it would lose charges, taking it twice would double them.
"""

from collections.abc import AsyncIterator

from exporter.fal.calls import Call, Parameters
from exporter.fal.client import Client
from exporter.fal.errors import PagingError
from exporter.fal.limits import Deadline

Page = list[object]
"""The `time_series` of one page."""


async def pages(client: Client, call: Call, parameters: Parameters, deadline: Deadline) -> AsyncIterator[Page]:
    """Yield the `time_series` of every page, to the end.

    Raises:
        PagingError: the sequence repeats itself or does not end.
        ShapeError: a page is not one.
        CallError: a page could not be had.
    """
    seen: set[str] = set()
    before: Page = []
    query = {**parameters, "limit": str(client.limits.page_rows)}
    for _ in range(client.limits.pages):
        answer = await client.get(call, query, deadline)
        page, cursor = _page(client, call, answer)
        if page and page == before:
            raise client.failure(PagingError, call, "fal sent the same page twice")
        yield page
        if cursor is None:
            return
        if cursor in seen:
            raise client.failure(PagingError, call, "fal's pages lead in a circle")
        seen.add(cursor)
        before = page
        query["cursor"] = cursor
    raise client.failure(PagingError, call, f"fal's answer has more than {client.limits.pages} pages")


def _page(client: Client, call: Call, answer: object) -> tuple[Page, str | None]:
    """Return a page and the cursor of the next, or None after the last."""
    if not isinstance(answer, dict):
        raise client.misshapen(call, "is no object")
    page = answer.get("time_series")
    # An answer without the list must not pass for an empty one: it would take back every charge of the window.
    if not isinstance(page, list):
        raise client.misshapen(call, "`time_series` is no list")
    more = answer.get("has_more")
    if not isinstance(more, bool):
        raise client.misshapen(call, "`has_more` is neither true nor false")
    if not more:
        return page, None
    cursor = answer.get("next_cursor")
    if not isinstance(cursor, str) or not cursor:
        raise client.misshapen(call, "`has_more` is true but `next_cursor` is no text")
    return page, cursor
