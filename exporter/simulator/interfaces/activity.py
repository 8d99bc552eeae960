"""Requests rather than sums: analytics in buckets, and billing events with a record for every charged request."""

import asyncio
from binascii import crc32
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from itertools import islice
from uuid import UUID

from exporter.simulator.interfaces.calls import (
    Answer,
    ApiError,
    Call,
    Cursor,
    Row,
    Sums,
    need_admin,
    need_enterprise,
    need_root,
)
from exporter.simulator.interfaces.usage import auth_fields
from exporter.simulator.world.exact import HOUR, NANO, Exact, instant_of, microseconds, stamp
from exporter.simulator.world.lines import MODEL_APIS, Line, tags_of
from exporter.simulator.world.world import charge_of, made_at, visible_requests

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


async def models_analytics(call: Call) -> Answer:
    """Answer `GET /models/analytics`: requests of model endpoints."""

    def endpoint_of(line: Line) -> str:
        return line.model if line.product == MODEL_APIS else ""

    return await answer_analytics(call, endpoint_of)


async def answer_analytics(
    call: Call,
    endpoint_of: Callable[[Line], str],
    billable: Callable[[str, tuple[int, int]], int] | None = None,
) -> Answer:
    """Return counts and durations (seconds) of endpoints in buckets; charged requests are the successful ones.

    Args:
        call: with `endpoint_id`, `expand` and a period.
        endpoint_of: returns the endpoint of a line, empty for a line of another kind.
        billable: returns the billable nanoseconds of an endpoint in a span (microseconds); by default a product of the
            requests.
    """
    endpoints, expand = _asked(call)
    period = call.query.period(call.now)

    async def rows(span: tuple[int, int]) -> list[Row]:
        sums = Sums()
        async for charges in call.charges(span, lambda charge: endpoint_of(charge.line) in endpoints):
            sums.add(lambda charge: (endpoint_of(charge.line),), charges)
        found = [_row(str(group[0]), amounts[0], expand) for group, amounts in sums.groups.items()]
        if billable and "total_billable_duration" in expand:
            for row in found:
                row["total_billable_duration"] = Exact(billable(str(row["endpoint_id"]), span))
        return found

    body: Row = {"next_cursor": None, "has_more": False}
    if "time_series" in expand:
        series = [(stamped, await rows(span)) for stamped, span in period.buckets()]
        body["time_series"] = [{"bucket": stamp(stamped), "results": results} for stamped, results in series if results]
    if "summary" in expand:
        body["summary"] = await rows(period.span)
    return Answer(body)


def _asked(call: Call) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the endpoints that analytics are asked of, and the views and metrics."""
    endpoints = call.query.values("endpoint_id")
    if not endpoints:
        raise ApiError(400, "endpoint_id: at least one endpoint is required.")
    expand = call.query.choices("expand", (*_VIEWS, *_METRICS), ("time_series", "request_count"))
    if not {*_VIEWS} & {*expand} or not {*_METRICS} & {*expand}:
        raise ApiError(400, "expand: at least one of time_series, summary and at least one metric are needed.")
    return endpoints, expand


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
_LARGEST_PAGE_OF_ORGANIZATION = 100
_LONGEST = timedelta(days=90)
_EVENT_SOURCES = ("billed", "tagged-billed")


@dataclass(frozen=True, slots=True)
class _Selection:
    """Filters and additions of an events call; an empty filter takes every event.

    Attributes:
        teams: empty for all; named: rows carry the team's `username`; tagged: rows carry the tags of the request.
    """

    endpoints: tuple[str, ...]
    ids: tuple[str, ...]
    keys: tuple[str, ...]
    logins: tuple[str, ...]
    teams: tuple[str, ...]
    expand: tuple[str, ...]
    named: bool = False
    tagged: bool = False

    def takes(self, line: Line) -> bool:
        """Return True if the events of a line are wanted."""
        return (
            line.product == MODEL_APIS
            and (not self.teams or line.team in self.teams)
            and (not self.endpoints or line.model in self.endpoints)
            and (not self.keys or (line.key is not None and line.key.id in self.keys))
            and (not self.logins or (line.key is not None and line.key.login in self.logins))
        )


async def billing_events(call: Call) -> Answer:
    """Answer `GET /models/billing-events`: the charged requests of a span, by hour and within an hour by line."""
    need_admin(call.key)
    tagged = call.query.choice("source", _EVENT_SOURCES, _EVENT_SOURCES[0]) == _EVENT_SOURCES[1]
    teams = (call.own_team,) if call.own_team else ()
    return await _event_page(call, _selection(call, teams, named=False, tagged=tagged), _LARGEST_PAGE)


async def organization_events(call: Call) -> Answer:
    """Answer `GET /organization/billing-events`: the same of all teams, in smaller pages."""
    need_root(call.key)
    need_enterprise(call)
    teams = call.query.values("team_username")
    return await _event_page(call, _selection(call, teams, named=True, tagged=False), _LARGEST_PAGE_OF_ORGANIZATION)


def _selection(call: Call, teams: tuple[str, ...], *, named: bool, tagged: bool) -> _Selection:
    values = call.query.values
    expand = call.query.choices("expand", ("auth_method", "auth_method_structured"), ())
    return _Selection(
        endpoints=values("endpoint_id"),
        ids=values("request_id"),
        keys=values("api_key_id"),
        logins=values("login_username"),
        teams=teams,
        expand=expand,
        named=named,
        tagged=tagged,
    )


async def _event_page(call: Call, selection: _Selection, largest: int) -> Answer:
    start, end = call.query.span(call.now)
    if end - start > _LONGEST:
        raise ApiError(400, "start: at most 90 days can be asked for in one request.")
    limit = call.query.limit(min(largest, call.options.page_rows), largest)
    span, cursor = (microseconds(start), microseconds(end)), call.cursor
    found: list[Row] = []
    following: Cursor | None = None
    for hour in range(max(span[0], cursor.at) // HOUR, -(-min(span[1], call.as_of) // HOUR)):
        skipped = cursor.row if hour * HOUR == cursor.at else 0
        page = list(islice(_events(call, hour, span, selection), skipped, skipped + limit - len(found) + 1))
        if len(found) + len(page) > limit:
            page.pop()
            following = Cursor(cursor.as_of, hour * HOUR, skipped + len(page), cursor.query)
        found += page
        if following:
            break
        await asyncio.sleep(0)
    body: Row = {"next_cursor": None, "has_more": False, "billing_events": found}
    return Answer(body, cursor, following)


def _events(call: Call, hour: int, span: tuple[int, int], selection: _Selection) -> Iterator[Row]:
    for number, record in enumerate(call.account.records(hour)):
        line = record.line
        if not selection.takes(line):
            continue
        first, last, percent = visible_requests(record, hour, span, call.as_of)
        for request in range(first, last):
            seed = f"{call.account.world.seed}:{hour}:{number}:{request}".encode()
            request_id = str(UUID(bytes=blake2b(seed, digest_size=16).digest()))
            if selection.ids and request_id not in selection.ids:
                continue
            charge = charge_of(record, request, request + 1, percent)
            event: Row = {"username": line.team} if selection.named else {}
            event |= {
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
            event |= auth_fields(selection.expand, line.key)
            if selection.tagged:
                event["tags"] = tags_of(line)
            yield event
