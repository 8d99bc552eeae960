"""Requests rather than money: `/models/analytics`, with counts, errors and durations in buckets."""

import asyncio
from binascii import crc32
from collections.abc import Iterator
from datetime import timedelta
from hashlib import blake2b
from itertools import islice
from uuid import UUID

from exporter.simulator.calls import Answer, ApiError, Call, Cursor, Row, Sums, need_admin
from exporter.simulator.exact import HOUR, NANO, Exact, instant_of, microseconds, stamp
from exporter.simulator.lines import MODEL_APIS
from exporter.simulator.usage import structured
from exporter.simulator.world import Charge, charge_of, made_at, visible_requests

_VIEWS = ("time_series", "summary")
_COUNTS = (
    "request_count",
    "success_count",
    "user_error_count",
    "error_count",
    "startup_error_count",
    "connection_error_count",
    "timeout_error_count",
    "runtime_error_count",
    "cold_boot_count",
)
_DURATIONS = {
    **{f"p{rank}_prepare_duration": 40 * share for rank, share in ((50, 10), (75, 14), (90, 21), (95, 28), (99, 60))},
    **{
        f"p{rank}_duration": 1_000 * share
        for rank, share in ((25, 8), (50, 10), (75, 13), (90, 19), (95, 25), (99, 48))
    },
    **{f"p{rank}_cold_boot_duration": 9_000 * share for rank, share in ((50, 10), (75, 12), (90, 16))},
}
_METRICS = (*_COUNTS, *_DURATIONS, "total_billable_duration")


async def analytics(call: Call) -> Answer:
    """Answer counts and durations (seconds); charged requests are the successful ones."""
    endpoints = call.query.values("endpoint_id")
    if not endpoints:
        raise ApiError(400, "endpoint_id: at least one endpoint is required.")
    expand = call.query.choices("expand", (*_VIEWS, *_METRICS), ("time_series", "request_count"))
    if not {*_VIEWS} & {*expand} or not {*_METRICS} & {*expand}:
        raise ApiError(400, "expand: at least one of time_series, summary and at least one metric are needed.")
    period = call.query.period(call.now)

    def wanted(charge: Charge) -> bool:
        return charge.line.product == MODEL_APIS and charge.line.model in endpoints

    async def rows(span: tuple[int, int]) -> list[Row]:
        sums = Sums()
        async for charges in call.charges(span, wanted):
            sums.add(lambda charge: (charge.line.model,), charges)
        return [_row(str(group[0]), amounts[0], expand) for group, amounts in sums.groups.items()]

    body: Row = {"next_cursor": None, "has_more": False}
    if "time_series" in expand:
        series: list[Row] = []
        for stamped, span in period.buckets():
            results = await rows(span)
            if results:
                series.append({"bucket": stamp(stamped), "results": results})
        body["time_series"] = series
    if "summary" in expand:
        body["summary"] = await rows(period.span)
    return Answer(body)


def _row(endpoint_id: str, succeeded: int, expand: tuple[str, ...]) -> Row:
    tempo = 10 + crc32(endpoint_id.encode()) % 90
    failures = {
        "user_error_count": succeeded // 23,
        "startup_error_count": succeeded // 301,
        "connection_error_count": succeeded // 211,
        "timeout_error_count": succeeded // 127,
        "runtime_error_count": succeeded // 67,
    }
    failed = sum(failures.values())
    counts = {
        **failures,
        "request_count": succeeded + failed,
        "success_count": succeeded,
        "error_count": failed - failures["user_error_count"],
        "cold_boot_count": succeeded // 41,
    }
    row: Row = {"endpoint_id": endpoint_id}
    for metric in expand:
        if metric in counts:
            row[metric] = counts[metric]
        elif metric in _DURATIONS:
            row[metric] = Exact(_DURATIONS[metric] * tempo * NANO // 1_000_000)
        elif metric == "total_billable_duration":
            row[metric] = Exact(succeeded * tempo * NANO // 10)
    return row


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
        if line.product != MODEL_APIS or (call.own_team and line.team != call.own_team):
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
