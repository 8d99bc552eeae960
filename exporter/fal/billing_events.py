"""Billing events: one record for every charged request of model endpoints, page by page.

`/models/billing-events` reports the requests of an account, `/organization/billing-events` those of all teams. A
reading goes from page to page by fal's cursor; whoever keeps the cursor can go on where an earlier process stopped.
Both calls are optional: nothing else depends on their answers.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from exporter.charges import BilledRequest, label_text
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Host, Parameters
from exporter.fal.platform_usage import caller
from exporter.fal.rows import RejectedError, Rejection, Row, amount, instant, optional_text, row_of, text

MODELS_EVENTS = Endpoint(Host.PLATFORM, "/models/billing-events")
ORGANIZATION_EVENTS = Endpoint(Host.PLATFORM, "/organization/billing-events")

_PAGE_ROWS = {MODELS_EVENTS: 10_000, ORGANIZATION_EVENTS: 100}
"""The most that fal gives at once."""

_TAGGED = "tagged-billed"
_LONGEST_ID = 200
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class EventPage:
    """One page of billing events.

    Attributes:
        requests: in fal's order.
        cursor: of the next page; None after the last.
        rejected: how many rows were not understood, by reason (one of `REJECTIONS`).
    """

    requests: tuple[BilledRequest, ...]
    cursor: str | None
    rejected: Mapping[str, int]


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
    start, end = window
    query: Parameters = {
        "start": _stamp(start),
        "end": _stamp(end),
        "limit": str(_PAGE_ROWS[call]),
        "expand": "auth_method_structured",
    }
    if tagged:
        query["source"] = _TAGGED
    if cursor is not None:
        query["cursor"] = cursor
    rows, following = _page(client, call, await client.get(call, query, deadline, track_lock=False), cursor)
    rejected: Counter[str] = Counter()
    requests = []
    for row in rows:
        try:
            requests.append(_request(row_of(row), start, end))
        except RejectedError as error:
            client.rejections.reject(rejected, "billing_events", error.reason, row)
    return EventPage(tuple(requests), following, dict(rejected))


def _page(client: Client, call: Endpoint, answer: object, cursor: str | None) -> tuple[list[object], str | None]:
    """Return the rows of a page and the cursor of the next, or None after the last."""
    if not isinstance(answer, dict):
        raise client.misshapen(call, "is not an object")
    rows, more, following = answer.get("billing_events"), answer.get("has_more"), answer.get("next_cursor")
    # An answer without the list must not pass for an hour without requests.
    if not isinstance(rows, list):
        raise client.misshapen(call, "`billing_events` is not a list")
    if not isinstance(more, bool):
        raise client.misshapen(call, "`has_more` is neither true nor false")
    if not more:
        return rows, None
    if not isinstance(following, str) or not following:
        raise client.misshapen(call, "`has_more` is true but `next_cursor` is not text")
    if following == cursor:
        raise client.misshapen(call, "`next_cursor` is the cursor of the same page")
    return rows, following


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _request(row: Row, start: datetime, end: datetime) -> BilledRequest:
    """Return a row as a request.

    Raises:
        RejectedError: a field that is needed is missing or is not what it should be, or the request is of another
            window.
    """
    get = row.get
    at = instant(get("timestamp"))
    if not start <= at < end:
        raise RejectedError(Rejection.OUTSIDE_WINDOW)
    request_id = text(get("request_id"))
    if not request_id or len(request_id) > _LONGEST_ID:
        raise RejectedError(Rejection.OUT_OF_RANGE)
    nanos, total = get("cost_estimate_nano_usd"), get("cost_total")
    # fal counts in nano-USD itself; the integer needs no rounding.
    cost = nanos if type(nanos) is int and 0 <= nanos <= _LARGEST else amount(total)
    discount = _optional(get("cost_discount")) or 0
    subtotal = _optional(get("cost_subtotal"))
    api_key, member = caller(row)
    return BilledRequest(
        request_id=request_id,
        at=at,
        model=text(get("endpoint_id")),
        team=optional_text(get("username")),
        api_key=label_text(api_key),
        member=label_text(member),
        quantity=_optional(get("output_units")),
        unit_price=_optional(get("unit_price")),
        discount_percent=_optional(get("percent_discount")),
        list_cost=cost + discount if subtotal is None else subtotal,
        discount=discount,
        cost=cost,
        tags=_tags(get("tags")),
    )


def _optional(value: object) -> int | None:
    return None if value is None else amount(value)


def _tags(value: object) -> str:
    """Return tags as canonical JSON; a tag whose value is no text is left out."""
    if not isinstance(value, dict) or not value:
        return "{}"
    kept = {label_text(str(name)): label_text(tag) for name, tag in value.items() if isinstance(tag, str)}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
