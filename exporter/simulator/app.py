"""The simulated fal as an ASGI application: routes, keys, faults and errors of both hosts.

/v1/...          the platform: PLATFORM_URL is http://host:port/v1
/billing/...     the older host: REPORTING_URL is http://host:port
/_simulator/...  the truth and the faults; needs no key
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.simulator.account import Account
from exporter.simulator.analytics import analytics
from exporter.simulator.calls import Call, Download, Endpoint, Options, Row
from exporter.simulator.controls import control_routes
from exporter.simulator.delivery import JSON, Delivery, deliver, hang, stream
from exporter.simulator.errors import ApiError, error_body
from exporter.simulator.events import billing_events
from exporter.simulator.exact import instant_of, json_text, microseconds
from exporter.simulator.faults import Fault, Faults
from exporter.simulator.focus import account_focus, organization_focus
from exporter.simulator.keys import DEFAULT_KEYS, Key, authenticate, by_text
from exporter.simulator.mutations import mutated
from exporter.simulator.plants import Plant
from exporter.simulator.platform import account_billing, pricing, teams
from exporter.simulator.queries import Query
from exporter.simulator.reporting import reported_invoices, reported_usage, user_balance
from exporter.simulator.statement import statement
from exporter.simulator.usage import models_usage, organization_usage, serverless_usage
from exporter.simulator.world import World

CALLS: dict[str, Endpoint] = {
    "/v1/models/usage": models_usage,
    "/v1/models/billing-events": billing_events,
    "/v1/models/pricing": pricing,
    "/v1/models/analytics": analytics,
    "/v1/serverless/usage": serverless_usage,
    "/v1/organization/usage": organization_usage,
    "/v1/organization/teams": teams,
    "/v1/organization/focus": organization_focus,
    "/v1/account/billing": account_billing,
    "/v1/account/focus": account_focus,
    "/billing/usage": reported_usage,
    "/billing/invoices": reported_invoices,
    "/billing/user_balance": user_balance,
}

Clock = Callable[[], datetime]

_MINUTE = timedelta(minutes=1)


def system_clock() -> datetime:
    """Return the system's instant."""
    return datetime.now(UTC)


class Simulator:
    """One simulated fal: a world, a clock, the keys it accepts and what goes wrong.

    Attributes:
        account: what fal knows; faults: what is switched on, also from Python: `simulator.faults.add(Fault("hang"))`.
        clock: tells now, aware; what it says decides what can be seen.
        keys: accepted keys by their text; options: how fal behaves; both may be replaced while it runs.
        seen: how often each path was called.
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
        return statement(self.account, Query(QueryParams(parameters)), microseconds(self.clock()))

    def admit(self, request: Request, hits: dict[str, Fault], now: datetime) -> Key:
        """Return the key of a request that may go on.

        Raises:
            ApiError: 401, 403 or 429.
        """
        key = authenticate(self.keys, request.headers.get("authorization"))
        key_id = key.text.partition(":")[0]
        if "key_revoked" in hits and hits["key_revoked"].key_id in {"", key_id}:
            raise ApiError(401, "Invalid API key: it has been revoked.")
        if "locked" in hits:
            raise ApiError(403, f"User is locked. Reason: {hits['locked'].reason}")
        if "scope_removed" in hits and hits["scope_removed"].key_id in {"", key_id}:
            key = replace(key, scope="api")
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
    """The ASGI application of one call of fal's."""

    def __init__(self, simulator: Simulator, endpoint: Endpoint) -> None:
        self._simulator = simulator
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        simulator, request = self._simulator, Request(scope, receive)
        path = request.url.path
        simulator.seen[path] += 1
        hits = simulator.faults.hits(path)
        now = simulator.clock()
        if "clock_skew" in hits:
            now += timedelta(seconds=hits["clock_skew"].seconds or 0)
        request_id = f"sim-{simulator.seen.total():08x}"
        headers = {"date": format_datetime(now.astimezone(UTC), usegmt=True), "x-request-id": request_id}
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
            await stream(delivery, {"content-type": "text/csv; charset=utf-8"}, answer.chunks)
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
        planted = hits["balance"].amount if "balance" in hits else None
        query = Query(request.query_params)
        cursor = query.cursor(now)
        return Call(simulator.account, query, key, options, instant_of(cursor.as_of), cursor, planted)


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
    """Return the ASGI application of a simulated fal."""

    async def refused(request: Request, error: Exception) -> Response:
        status, message = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
        body = error_body(request.url.path, ApiError(status, message), "sim-unknown")
        return Response(json_text(body), status, media_type=JSON)

    calls: list[Route] = []
    for path, endpoint in CALLS.items():
        call: ASGIApp = _Call(simulator, endpoint)
        calls.append(Route(path, call))
    controls = control_routes(simulator.account, simulator.faults, simulator.clock)
    return Starlette(routes=[*calls, *controls], exception_handlers={HTTPException: refused})
