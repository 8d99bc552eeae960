"""Sources by name, and a probe of what a key can read.

The sources by name.

What a key can do: every interface tried once, with the smallest question it takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from types import MappingProxyType

from exporter.charges import HOUR, Window, hour_of
from exporter.errors import ConfigurationError
from exporter.fal import account, platform_usage, reporting
from exporter.fal.aggregation import UsageSource
from exporter.fal.client import Client
from exporter.fal.endpoints import Deadline, Endpoint, Scope
from exporter.fal.errors import (
    ApiError,
    FeatureError,
    LockedError,
    NoAnswerError,
    NotFoundError,
    ScopeError,
    TruncatedError,
)
from exporter.fal.focus import request as request_module
from exporter.fal.focus import usage
from exporter.fal.focus.usage import FocusUsage
from exporter.fal.platform_usage import Interface, models, organization, serverless, window_parameters
from exporter.fal.reporting import ReportingUsage

SOURCES: Mapping[str, Callable[[Client], UsageSource]] = MappingProxyType(
    {
        "models": models,
        "serverless": serverless,
        "organization": organization,
        "reporting": ReportingUsage,
        "focus": FocusUsage,
    }
)

TELL_LIST_PRICES = frozenset({"models", "serverless", "focus"})
"""The sources that tell prices before discount."""


def usage_source(name: str, client: Client) -> UsageSource:
    """Return the source of a name, to be kept as long as the client.

    Raises:
        ConfigurationError: there is none of this name.
    """
    make = SOURCES.get(name)
    if make is None:
        raise ConfigurationError(f"there is no source {name!r}; the sources are {', '.join(SOURCES)}.")
    return make(client)


@dataclass(frozen=True, slots=True)
class Probe:
    """How one interface answered.

    Attributes:
        name: of the source, or `account_billing`, `user_balance`, `invoices`.
        call: the path.
        reachable: whether any answer came.
        accepted: whether fal took the key, even if not for this.
        scope: what the answer shows of the key: `admin`, `api`, or empty when it shows nothing.
        ok: whether the interface can be used.
        problem: what went wrong, in a sentence; empty when nothing did.
        advice: what to do about it; empty when there is nothing to do.
        error: the failure itself.
    """

    name: str
    call: str
    reachable: bool
    accepted: bool
    scope: str
    ok: bool
    problem: str = ""
    advice: str = ""
    error: ApiError | None = None


async def probe(client: Client) -> tuple[Probe, ...]:
    """Try every interface with one account's key.

    Locks seen here do not count as the account's lock state: some of these calls are never made again, and could
    not take back what they said.
    """
    deadline = client.deadline()
    last = hour_of(client.now()) - HOUR
    window = Window(last, last + HOUR)
    questions: list[tuple[str, Endpoint, Callable[[], Awaitable[object]]]] = [
        (interface.source, interface.call, _usage(client, interface, window, deadline))
        for interface in (platform_usage.MODELS, platform_usage.SERVERLESS, platform_usage.ORGANIZATION)
    ]
    questions += [
        ("reporting", reporting.CALL, _reporting(client, window, deadline)),
        ("focus", request_module.ACCOUNT_FOCUS, _focus(client, window, deadline)),
        ("account_billing", account.ACCOUNT_BILLING, _balance(client, account.ACCOUNT_BILLING, deadline)),
        ("user_balance", account.USER_BALANCE, _balance(client, account.USER_BALANCE, deadline)),
        ("invoices", account.CALL, _invoices(client, deadline)),
    ]
    return tuple(await asyncio.gather(*(_tried(name, call, ask) for name, call, ask in questions)))


def automatic_sources(probes: Iterable[Probe]) -> tuple[str, ...]:
    """Choose the sources for `SOURCES=auto`: `models` and `serverless` where the key may read them, else `reporting`.

    Never `focus`, which is an enterprise's feature and tells of a whole organization: only a user can know whether that
    is what an account is to count.

    Empty when the key may read none of them. The choice is kept for good, so only a refusal that is final decides.

    Raises:
        ApiError: an interface did not answer, or not in a way that decides; ask again later.
    """
    by_name = {found.name: found for found in probes}
    chosen = tuple(name for name in ("models", "serverless") if _usable(by_name[name]))
    if chosen:
        return chosen
    return ("reporting",) if _usable(by_name["reporting"]) else ()


def _usable(found: Probe) -> bool:
    if found.error is not None and not isinstance(found.error, ScopeError | FeatureError | NotFoundError):
        raise found.error
    return found.ok


def _usage(client: Client, interface: Interface, window: Window, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    query = {**window_parameters(window, by_key=False), "limit": "1"}
    return lambda: client.get(interface.call, query, deadline, track_lock=False)


def _reporting(client: Client, window: Window, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    query = reporting.usage_parameters(window.start, reporting.ONE_DIMENSION)
    return lambda: client.get(reporting.CALL, query, deadline, track_lock=False)


def _focus(client: Client, window: Window, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    async def ask() -> object:
        request = usage.estimate(window)
        async with aclosing(client.stream(request.call, request.parameters(), deadline, track_lock=False)) as body:
            return await anext(body)

    return ask


def _balance(client: Client, call: Endpoint, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    return lambda: account.balance_by(client, call, deadline, track_lock=False)


def _invoices(client: Client, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    return lambda: client.get(account.CALL, {}, deadline, track_lock=False)


async def _tried(name: str, call: Endpoint, ask: Callable[[], Awaitable[object]]) -> Probe:
    try:
        await ask()
    except ApiError as error:
        answered = not isinstance(error, NoAnswerError) or isinstance(error, TruncatedError)
        known = isinstance(error, ScopeError | FeatureError | LockedError | NotFoundError)
        return Probe(
            name=name,
            call=call.path,
            reachable=answered,
            accepted=known,
            scope=Scope.API if isinstance(error, ScopeError) else "",
            ok=False,
            problem=str(error),
            advice=error.advice,
            error=error,
        )
    return Probe(name=name, call=call.path, reachable=True, accepted=True, scope=call.scope, ok=True)
