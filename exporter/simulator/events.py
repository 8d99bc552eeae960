"""`GET /models/billing-events`: one record a request, which add up to the usage."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from hashlib import blake2b
from itertools import islice
from uuid import UUID

from exporter.simulator.calls import Answer, Call, Row
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import HOUR, Exact, instant_of, microseconds, stamp
from exporter.simulator.keys import need_admin
from exporter.simulator.lines import MODEL_APIS
from exporter.simulator.queries import Cursor
from exporter.simulator.usage import structured
from exporter.simulator.world import charge_of, made_at, visible_requests

_LARGEST_PAGE = 10_000
_LONGEST = timedelta(days=90)


async def billing_events(call: Call) -> Answer:
    """Answer the charged requests of a span, hour by hour; within an hour, line by line."""
    need_admin(call.key)
    query = call.query
    expand = query.choices("expand", ("auth_method", "auth_method_structured"), ())
    start, end = query.span(call.now)
    if end - start > _LONGEST:
        raise ApiError(400, "start: at most 90 days can be asked for in one request.")
    limit = query.limit(call.options.page_rows, _LARGEST_PAGE)
    span, cursor = (microseconds(start), microseconds(end)), call.cursor
    found: list[Row] = []
    following: Cursor | None = None
    for hour in range(max(span[0], cursor.at) // HOUR, -(-min(span[1], call.as_of) // HOUR)):
        skipped = cursor.row if hour * HOUR == cursor.at else 0
        page = list(islice(_events(call, hour, span, expand), skipped, skipped + limit - len(found) + 1))
        if len(found) + len(page) > limit:
            page.pop()
            following = Cursor(cursor.as_of, hour * HOUR, skipped + len(page), cursor.query)
        found += page
        if following:
            break
        await asyncio.sleep(0)
    body: Row = {"next_cursor": None, "has_more": False, "billing_events": found}
    return Answer(body, cursor, following)


def _events(call: Call, hour: int, span: tuple[int, int], expand: tuple[str, ...]) -> Iterator[Row]:
    query = call.query
    endpoints, ids = query.values("endpoint_id"), query.values("request_id")
    keys, logins = query.values("api_key_id"), query.values("login_username")
    for number, record in enumerate(call.account.records(hour)):
        line = record.line
        if line.product != MODEL_APIS or (call.key.team and line.team != call.key.team):
            continue
        if endpoints and line.model not in endpoints:
            continue
        if (keys and (line.key is None or line.key.id not in keys)) or (
            logins and (line.key is None or line.key.login not in logins)
        ):
            continue
        first, last, percent = visible_requests(record, hour, span, call.as_of)
        for request in range(first, last):
            seed = f"{call.account.world.seed}:{hour}:{number}:{request}".encode()
            request_id = str(UUID(bytes=blake2b(seed, digest_size=16).digest()))
            if ids and request_id not in ids:
                continue
            charge = charge_of(record, request, request + 1, percent)
            event: Row = {
                "request_id": request_id,
                "endpoint_id": line.model,
                "timestamp": stamp(instant_of(made_at(record, hour, request))),
                "output_units": Exact(charge.quantity),
                "unit_price": Exact(line.price),
                "percent_discount": percent,
                "cost_subtotal": Exact(charge.subtotal),
                "cost_discount": Exact(charge.discount),
                "cost_total": Exact(charge.cost),
                "cost_estimate_nano_usd": charge.cost,
            }
            if line.key and "auth_method" in expand:
                event["auth_method"] = f"API key: {line.key.detail}"
            if line.key and "auth_method_structured" in expand:
                event["auth_method_structured"] = structured(line.key)
            yield event
