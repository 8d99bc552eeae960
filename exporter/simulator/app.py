"""The simulated fal as an ASGI application: routes, authentication, faults, and delivery of answers.

/v1/...          the platform host: PLATFORM_URL is http://host:port/v1
/billing/..., /users/...  the older host: REPORTING_URL is http://host:port
/_simulator/...  statement and faults; needs no key
"""

import asyncio
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import chain, repeat

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.simulator.faults.controls import control_routes, statement
from exporter.simulator.faults.faults import Fault, Faults, refusal_sentence
from exporter.simulator.faults.row_faults import altered_csv, mutated
from exporter.simulator.interfaces.activity import billing_events, models_analytics, organization_events
from exporter.simulator.interfaces.billing import (
    account_billing,
    current_user,
    listed_keys,
    pricing,
    reported_invoices,
    teams,
    user_balance,
    user_details,
)
from exporter.simulator.interfaces.calls import (
    DEFAULT_KEYS,
    JSON,
    ApiError,
    Call,
    Download,
    Endpoint,
    Key,
    Options,
    Query,
    Row,
    authenticate,
    by_text,
    error_body,
    key_id_of,
)
from exporter.simulator.interfaces.focus import account_focus, organization_focus
from exporter.simulator.interfaces.serverless import (
    apps,
    compute_instances,
    queue,
    runners_history,
    serverless_analytics,
)
from exporter.simulator.interfaces.usage import models_usage, organization_usage, reported_usage, serverless_usage
from exporter.simulator.world.account import Account
from exporter.simulator.world.exact import instant_of, json_text, microseconds
from exporter.simulator.world.injected_charges import Plant
from exporter.simulator.world.world import World

_HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"
_TICK = 1.0
_BLANK = b"\n" * 2**20


CALLS: dict[str, Endpoint] = {
    "/v1/models/usage": models_usage,
    "/v1/models/billing-events": billing_events,
    "/v1/models/pricing": pricing,
    "/v1/models/analytics": models_analytics,
    "/v1/serverless/usage": serverless_usage,
    "/v1/serverless/analytics": serverless_analytics,
    "/v1/serverless/apps": apps,
    "/v1/serverless/apps/{owner}/{name}/queue": queue,
    "/v1/serverless/apps/{owner}/{name}/runners/history": runners_history,
    "/v1/compute/instances": compute_instances,
    "/v1/organization/usage": organization_usage,
    "/v1/organization/billing-events": organization_events,
    "/v1/organization/teams": teams,
    "/v1/organization/focus": organization_focus,
    "/v1/account/billing": account_billing,
    "/v1/account/focus": account_focus,
    "/v1/keys": listed_keys,
    "/billing/usage": reported_usage,
    "/billing/invoices": reported_invoices,
    "/billing/user_balance": user_balance,
    "/billing/user_details": user_details,
    "/users/current": current_user,
}

LOCK_REPORTS = frozenset({"/users/current", "/billing/user_details"})
"""Calls that answer for a locked account too, and report the lock."""

Clock = Callable[[], datetime]

_MINUTE = timedelta(minutes=1)


def system_clock() -> datetime:
    """Return the system's instant."""
    return datetime.now(UTC)


class Simulator:
    """Simulated fal: a world, a clock, the accepted keys and the active faults.

    Attributes:
        account: what fal knows; faults: the active ones, also set from Python: `simulator.faults.add(Fault("hang"))`.
        clock: returns the aware instant that decides what is visible.
        date_clock: returns the instant that answers are dated with, where the clock stands still; None for the clock's.
        keys: accepted keys by their text; options: how fal behaves; both may be replaced while it runs.
        seen: number of calls of each path.
    """

    def __init__(
        self,
        world: World,
        clock: Clock = system_clock,
        *,
        keys: Iterable[Key] = DEFAULT_KEYS,
        options: Options | None = None,
        faults: Iterable[Fault | Plant] = (),
    ) -> None:
        self.account = Account(world)
        self.clock = clock
        self.date_clock: Clock | None = None
        self.keys = by_text(keys)
        self.options = options or Options()
        self.faults = Faults(self.account, clock)
        self.faults.add(*faults)
        self.seen: Counter[str] = Counter()
        self._recent: dict[str, deque[datetime]] = {}

    def statement(self, **parameters: str) -> Row:
        """Return the truth as `GET /_simulator/statement` does, for the same parameters.

        Raises:
            ApiError: a parameter cannot be read.
        """
        return statement(self, Query(QueryParams(parameters)), microseconds(self.clock()))

    def admit(self, request: Request, hits: dict[str, Fault], now: datetime) -> Key:
        """Return the key of a request that is admitted.

        Raises:
            ApiError: 401, 403 or 429.
        """
        key = authenticate(self.keys, request.headers.get("authorization"))
        if "key_revoked" in hits:
            raise ApiError(401, "Invalid API key: it has been revoked.")
        if "locked" in hits and not hits["locked"].readable and request.url.path not in LOCK_REPORTS:
            raise ApiError(403, f"User is locked. Reason: {hits['locked'].reason}")
        if "scope_removed" in hits:
            key = replace(key, scope="api")
        if "refused" in hits:
            raise ApiError(hits["refused"].status, hits["refused"].sentence)
        status = key.refusal(request.url.path)
        if status is not None:
            raise ApiError(status, refusal_sentence(status))
        self._limit_rate(key, now)
        return key

    def _limit_rate(self, key: Key, now: datetime) -> None:
        allowed = self.options.requests_per_minute
        if allowed is None:
            return
        recent = self._recent.setdefault(key.text, deque())
        while recent and recent[0] <= now - _MINUTE:
            recent.popleft()
        if len(recent) >= allowed:
            wait = recent[0] + _MINUTE - now
            seconds = str(-(-wait // timedelta(seconds=1)))
            raise ApiError(429, f"Rate limit of {allowed} requests a minute exceeded.", {"retry-after": seconds})
        recent.append(now)


class _Call:
    """ASGI application of one endpoint of fal."""

    def __init__(self, simulator: Simulator, endpoint: Endpoint) -> None:
        self._simulator = simulator
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        simulator, request = self._simulator, Request(scope, receive)
        path = request.url.path
        simulator.seen[path] += 1
        hits = simulator.faults.hits(path, request.query_params, key_id_of(request.headers.get("authorization")))
        now = simulator.clock()
        date = now if simulator.date_clock is None else simulator.date_clock()
        if "clock_skew" in hits:
            skew = timedelta(seconds=hits["clock_skew"].seconds or 0)
            now, date = now + skew, date + skew
        request_id = f"sim-{simulator.seen.total():08x}"
        headers = {"date": format_datetime(date.astimezone(UTC), usegmt=True), "x-request-id": request_id}
        delivery = Delivery(receive, send, headers, hits)
        if "hang" in hits and await hang(receive, hits["hang"].seconds):
            return
        try:
            _refuse(request, hits, now)
            call = self._call(request, hits, now)
            answer = await self._endpoint(call)
        except ApiError as error:
            body = json_text(error_body(path, error, request_id)).encode()
            await deliver(delivery, error.status, {"content-type": JSON, **error.headers}, body)
            return
        if isinstance(answer, Download):
            await stream(delivery, {"content-type": "text/csv; charset=utf-8"}, altered_csv(answer.chunks, hits))
        else:
            body = json_text(mutated(answer, hits)).encode()
            await deliver(delivery, 200, {"content-type": JSON}, body)

    def _call(self, request: Request, hits: dict[str, Fault], now: datetime) -> Call:
        simulator, options = self._simulator, self._simulator.options
        key = simulator.admit(request, hits, now)
        options = replace(
            options,
            cost_only=options.cost_only or "cost_only" in hits,
            single_dimension=options.single_dimension or "single_dimension" in hits,
            enterprise=options.enterprise and "feature_disabled" not in hits,
        )
        if "account_details" in hits:
            details = hits["account_details"]
            options = replace(
                options,
                soft_budget=details.soft_budget,
                hard_budget=details.hard_budget,
                is_paying=details.is_paying,
            )
        renamed = hits.get("key_alias")
        query = Query(request.query_params)
        cursor = query.cursor(now)
        return Call(
            simulator.account,
            query,
            key,
            options,
            instant_of(cursor.as_of),
            cursor,
            balance=hits["balance"].amount if "balance" in hits else None,
            locked=hits["locked"].reason if "locked" in hits else None,
            alias=(renamed.of_key, renamed.alias) if renamed else None,
            path=request.path_params,
        )


def _refuse(request: Request, hits: dict[str, Fault], now: datetime) -> None:
    if "rate_limited" in hits:
        raise ApiError(429, "Too many requests.", _retry_after(hits["rate_limited"], now))
    if "server_error" in hits:
        fault = hits["server_error"]
        raise ApiError(fault.status, "An internal error occurred.", _retry_after(fault, now))
    if "not_found" in hits:
        raise ApiError(404, "Not Found")
    if request.method != "GET":
        raise ApiError(405, f"Method {request.method} is not allowed.", {"allow": "GET"})


def _retry_after(fault: Fault, now: datetime) -> dict[str, str]:
    seconds = fault.seconds or 0
    if fault.retry_after == "seconds":
        return {"retry-after": f"{seconds:g}"}
    if fault.retry_after == "date":
        return {"retry-after": format_datetime((now + timedelta(seconds=seconds)).astimezone(UTC), usegmt=True)}
    return {}


def simulator_app(simulator: Simulator) -> Starlette:
    """Return the ASGI application of a simulator."""

    async def refused(request: Request, error: Exception) -> Response:
        status, message = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
        body = error_body(request.url.path, ApiError(status, message), "sim-unknown")
        return Response(json_text(body), status, media_type=JSON)

    calls: list[Route] = []
    for path, endpoint in CALLS.items():
        call: ASGIApp = _Call(simulator, endpoint)
        calls.append(Route(path, call))
    controls = control_routes(simulator)
    return Starlette(routes=[*calls, *controls], exception_handlers={HTTPException: refused})


@dataclass(frozen=True, slots=True)
class Delivery:
    """Connection, common headers and faults of one answer being sent."""

    receive: Receive
    send: Send
    headers: Mapping[str, str]
    hits: Mapping[str, Fault]


async def deliver(delivery: Delivery, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send a complete body, altered by the faults."""
    send, hits = delivery.send, delivery.hits
    fields = {**delivery.headers, **headers}
    if "gzip_bomb" in hits or "giant_body" in hits:
        await _swell(delivery, status, fields, body)
        return
    if "not_json" in hits:
        fields["content-type"], body = "text/html; charset=utf-8", _HTML
    elif "empty_body" in hits:
        body = b""
    fields["content-length"] = str(len(body))
    await _start(send, status, fields)
    if "truncated_body" in hits:
        await _cut_off(send, body[: len(body) // 2])
        return
    slow = hits.get("slow_body")
    if slow:
        step = max(1, -(-len(body) // slow.pieces))
        for start in range(0, len(body), step):
            await _piece(send, body[start : start + step])
            await _pause(delivery, slow)
    await send({"type": "http.response.body", "body": b"" if slow else body, "more_body": False})


async def _swell(delivery: Delivery, status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Send a body that goes on for megabytes of blank lines, which mean nothing in JSON and in CSV."""
    bomb = delivery.hits.get("gzip_bomb")
    pack = zlib.compressobj(9, wbits=16 + zlib.MAX_WBITS) if bomb else None
    size = (bomb or delivery.hits["giant_body"]).megabytes
    await _start(delivery.send, status, {**headers, "content-encoding": "gzip"} if bomb else headers)
    # The end of the JSON comes last, so that it is read to its end.
    for piece in chain([body[:-1]], repeat(_BLANK, size), [body[-1:]]):
        packed = pack.compress(piece) if pack else piece
        if packed:
            await _piece(delivery.send, packed)
        if await _is_gone(delivery.receive):
            return
    await delivery.send({"type": "http.response.body", "body": pack.flush() if pack else b"", "more_body": False})


async def _is_gone(receive: Receive) -> bool:
    """Return True if the caller has disconnected; waits no longer than other tasks take."""
    with suppress(TimeoutError):
        async with asyncio.timeout(0):
            return bool((await receive())["type"] == "http.disconnect")
    return False


async def stream(delivery: Delivery, headers: Mapping[str, str], chunks: AsyncIterator[str]) -> None:
    """Send a body piece by piece while it is generated, altered by the faults."""
    send, hits = delivery.send, delivery.hits
    slow = hits.get("slow_body")
    if {"truncated_body", "not_json", "empty_body", "gzip_bomb", "giant_body"} & hits.keys():
        whole = [chunk async for chunk in chunks]
        await deliver(delivery, 200, headers, "".join(whole).encode())
        return
    await _start(send, 200, {**delivery.headers, **headers})
    async for chunk in chunks:
        await _piece(send, chunk.encode())
        if slow:
            await _pause(delivery, slow)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def hang(receive: Receive, seconds: float | None) -> bool:
    """Wait for the given seconds or until the caller disconnects; return True if the caller disconnected."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    return False


async def _pause(delivery: Delivery, slow: Fault) -> None:
    await hang(delivery.receive, _TICK if slow.seconds is None else slow.seconds)


async def _start(send: Send, status: int, headers: Mapping[str, str]) -> None:
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _piece(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _cut_off(send: Send, body: bytes) -> None:
    await _piece(send, body)
    # The server notices the missing bytes, raises, and closes the connection.
    with suppress(RuntimeError):
        await send({"type": "http.response.body", "body": b"", "more_body": False})
