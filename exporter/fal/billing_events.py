"""Billing events: one record for every charged request of model endpoints, page by page.

`/models/billing-events` reports the requests of an account, `/organization/billing-events` those of all teams. A
reading goes from page to page by fal's cursor; whoever keeps the cursor can go on where an earlier process stopped.
Both calls are optional: nothing else depends on their answers.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from exporter.charges import BilledRequest, RequestColumns
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters
from exporter.fal.errors import PagingError
from exporter.fal.paging import EMPTY_PAGES
from exporter.fal.rows import RejectedError, is_sendable, row_of

MODELS_EVENTS = Endpoint(Host.PLATFORM, "/models/billing-events")
ORGANIZATION_EVENTS = Endpoint(Host.PLATFORM, "/organization/billing-events")

_PAGE_ROWS = {MODELS_EVENTS: 10_000, ORGANIZATION_EVENTS: 100}
"""The most that fal gives at once."""

_TAGGED = "tagged-billed"


@dataclass(frozen=True, slots=True)
class EventPage:
    """One page of billing events.

    Attributes:
        requests: in fal's order.
        cursor: of the next page; None after the last.
        rejected: how many rows were not understood, by reason (one of `REJECTIONS`).
    """

    requests: RequestColumns
    cursor: str | None
    rejected: Mapping[str, int]


class PageSequence:
    """Pages of one reading of an hour, held to the bounds that the pages of usage have.

    A page that comes twice is no error, as every request is kept once; pages that bring nothing new without end are.

    Args:
        client: asks.
        call: which interface.
        rows: of the pages that were read before.
    """

    def __init__(self, client: Client, call: Endpoint, rows: int = 0) -> None:
        self._client = client
        self._call = call
        self._rows = rows
        self._cursors: set[str] = set()
        self._before: list[str] = []
        self._idle = 0

    def take(self, page: EventPage) -> None:
        """Check that the sequence goes on, or ends, with a page.

        Raises:
            PagingError: it repeats itself, does not end, or has more rows than it may have.
        """
        failure, call = self._client.failure, self._call
        rows, most = page.requests, self._client.limits.events_per_hour
        count = len(rows) + sum(page.rejected.values())
        self._rows += count
        if self._rows > most:
            raise failure(PagingError, call, f"fal sent more than {most} rows for one hour")
        is_idle = count == 0 or (bool(rows) and rows.request_id == self._before)
        self._idle = self._idle + 1 if is_idle else 0
        self._before = rows.request_id
        if self._idle >= EMPTY_PAGES:
            raise failure(PagingError, call, f"fal sent {self._idle} pages without new rows, one after the other")
        if page.cursor is not None:
            if page.cursor in self._cursors:
                raise failure(PagingError, call, "fal's pages form a loop")
            self._cursors.add(page.cursor)


async def read_event_page(
    client: Client,
    call: Endpoint,
    window: tuple[datetime, datetime],
    deadline: Deadline,
    *,
    cursor: str | None = None,
    tagged: bool = False,
) -> EventPage:
    """Read one page of the requests that were charged for in a window.

    Args:
        client: asks.
        call: MODELS_EVENTS or ORGANIZATION_EVENTS.
        window: from an instant until another, exclusive.
        deadline: ends all attempts.
        cursor: of the page; None for the first.
        tagged: whether to ask for the tags of the requests, too.

    Raises:
        ApiError: every kind of failure; see `exporter.fal.errors`.
    """
    # msgspec comes with the extra `events`, without which no events are read.
    from exporter.fal import event_rows  # noqa: PLC0415

    query: Parameters = {
        "start": _stamp(window[0]),
        "end": _stamp(window[1]),
        "limit": str(_PAGE_ROWS[call]),
        "expand": "auth_method_structured",
    }
    if tagged:
        query["source"] = _TAGGED
    if cursor is not None:
        query["cursor"] = cursor
    parse = partial(event_rows.parsed, window=window, limit=client.limits.answer_bytes)
    answer = await client.get(call, query, deadline, track_lock=False, parse=parse)
    if isinstance(answer, event_rows.ColumnPage):
        return EventPage(answer.requests, _following(client, call, answer.more, answer.following, cursor), {})
    if not isinstance(answer, dict):
        raise client.misshapen(call, "is not an object")
    rows = answer.get("billing_events")
    # An answer without the list must not pass for an hour without requests.
    if not isinstance(rows, list):
        raise client.misshapen(call, "`billing_events` is not a list")
    following = _following(client, call, answer.get("has_more"), answer.get("next_cursor"), cursor)
    rejected: Counter[str] = Counter()
    requests: list[BilledRequest] = []
    for row in rows:
        try:
            requests.append(event_rows.request_of(row_of(row), window))
        except RejectedError as error:
            client.rejections.reject(rejected, "billing_events", error.reason, row)
    return EventPage(RequestColumns.of(requests), following, dict(rejected))


def _following(client: Client, call: Endpoint, more: object, following: object, cursor: str | None) -> str | None:
    """Return the cursor of the next page, or None after the last."""
    if not isinstance(more, bool):
        raise client.misshapen(call, "`has_more` is neither true nor false")
    if not more:
        return None
    if not is_sendable(following):
        raise client.misshapen(call, "`has_more` is true but `next_cursor` is not text")
    if following == cursor:
        raise client.misshapen(call, "`next_cursor` is the cursor of the same page")
    return following


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
