"""Sources by name, a probe of what a key can read, and the choice of sources that follows from it.

A probe tries every interface once, with the smallest question it takes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from exporter.charges import HOUR, Window, hour_of
from exporter.errors import ConfigurationError
from exporter.fal import account, listings, platform_usage, reporting
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
from exporter.fal.platform_usage import (
    ORGANIZATION,
    PRODUCT_OF_SOURCE,
    Interface,
    compute,
    models,
    organization,
    organization_totals,
    serverless,
    window_parameters,
)
from exporter.fal.reporting import ReportingUsage

SOURCES: Mapping[str, Callable[[Client], UsageSource]] = MappingProxyType(
    {
        "models": models,
        "serverless": serverless,
        "compute": compute,
        "organization": organization,
        "reporting": ReportingUsage,
        "focus": FocusUsage,
    }
)

TELL_LIST_PRICES = frozenset({"models", "serverless", "focus"})
"""The sources that report prices before discount."""


def usage_source(name: str, client: Client) -> UsageSource:
    """Return the source of a name, to be kept as long as the client.

    Raises:
        ConfigurationError: no source has this name.
    """
    make = SOURCES.get(name)
    if make is None:
        raise ConfigurationError(f"there is no source {name!r}; the sources are {', '.join(SOURCES)}.")
    return make(client)


@dataclass(frozen=True, slots=True)
class Probe:
    """Answer of one interface to a probe.

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
        teams: how many teams the organization has; 0 where the key may not read that.
        products: what the organization was charged for lately; empty where that was not asked.
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
    teams: int = 0
    products: frozenset[str] = frozenset()


USAGE = ("models", "serverless", "compute", "organization", "reporting")
"""The sources that `auto` chooses from."""

DETAILED = ("models", "serverless", "compute")
"""The sources that never overlap and may be polled side by side."""

_LATELY = timedelta(days=31)


async def probe(client: Client, names: Iterable[str] | None = None) -> tuple[Probe, ...]:
    """Try every interface, or those of some names, with one account's key.

    Locks seen here do not count as the account's lock state: some of these calls are never made again, and could
    not take back what they said.
    """
    deadline = client.deadline()
    last = hour_of(client.now()) - HOUR
    window = Window(last, last + HOUR)
    questions: dict[str, tuple[Endpoint, Callable[[], Awaitable[object]]]] = {
        interface.source: (interface.call, _usage(client, interface, window, deadline))
        for interface in (platform_usage.MODELS, platform_usage.SERVERLESS, platform_usage.ORGANIZATION)
    }
    questions |= {
        "reporting": (reporting.CALL, _reporting(client, window, deadline)),
        "focus": (request_module.ACCOUNT_FOCUS, _focus(client, window, deadline)),
        "account_billing": (account.ACCOUNT_BILLING, _balance(client, account.ACCOUNT_BILLING, deadline)),
        "user_balance": (account.USER_BALANCE, _balance(client, account.USER_BALANCE, deadline)),
        "invoices": (account.CALL, _invoices(client, deadline)),
        "keys": (listings.KEYS, lambda: listings.read_api_keys(client, deadline)),
    }
    wanted = set(questions if names is None else names)
    if "compute" in wanted:
        wanted.add("organization")
    probes = await asyncio.gather(
        *(_tried(name, call, ask) for name, (call, ask) in questions.items() if name in wanted)
    )
    found = {one.name: one for one in probes}
    if "organization" in found:
        found["organization"] = await _surveyed(client, found, window.end, deadline)
        found["compute"] = replace(found["organization"], name="compute")
    order = [name for name in (*SOURCES, *questions) if name in found]
    return tuple(found[name] for name in dict.fromkeys(order))


async def _surveyed(client: Client, found: Mapping[str, Probe], until: datetime, deadline: Deadline) -> Probe:
    """Return the probe of `/organization/usage` with what else a choice of sources depends on."""
    organization = found["organization"]
    if not organization.ok:
        return organization
    try:
        teams = len(await listings.read_teams(client, deadline))
    except ApiError:
        teams = 0
    if teams and all(found[name].ok for name in PRODUCT_OF_SOURCE if name in found):
        return replace(organization, teams=teams)
    try:
        totals = await organization_totals(client, Window(until - _LATELY, until), deadline, track_lock=False)
    except ApiError as error:
        return _refused("organization", ORGANIZATION.call, error)
    products = frozenset(product for product, cost in totals.by_product.items() if cost)
    return replace(organization, teams=teams or len(totals.teams), products=products)


def automatic_sources(probes: Iterable[Probe], *, is_patient: bool = True) -> tuple[str, ...]:
    """Choose the sources for `SOURCES=auto`: all that the key can read, in the greatest detail.

    - Where `/organization/usage` cannot be read: `models` and `serverless`, else `reporting`.
    - Where it can, and the organization has one team: `models`, `serverless` and `compute`.
    - Where there are several teams, or the key cannot read `models` or `serverless` though there are such charges:
      `organization`, which contains everything.

    Never `focus`, which is an enterprise's feature and covers a whole organization: only a user can know whether that
    is what an account is to count.

    Args:
        probes: at least those of `USAGE`.
        is_patient: whether to wait for a clear answer of `/organization/usage`, too. Without it, the choice is made
            from the others; an account must not stay without its figures because of a call it may never need.

    Returns:
        The sources; none where the key may read none of them.

    Raises:
        ApiError: an interface did not answer, or not in a way that decides; ask again later.
    """
    by_name = {found.name: found for found in probes}
    detailed = tuple(name for name in PRODUCT_OF_SOURCE if _usable(by_name[name]))
    whole = by_name["organization"]
    if whole.ok if not is_patient else _usable(whole):
        missed = whole.products & {product for name, product in PRODUCT_OF_SOURCE.items() if name not in detailed}
        return (*detailed, "compute") if detailed and whole.teams <= 1 and not missed else ("organization",)
    if detailed:
        return detailed
    return ("reporting",) if _usable(by_name["reporting"]) else ()


def unpolled_sources(polled: Collection[str], readable: Collection[str]) -> tuple[str, ...]:
    """Return the readable sources whose charges no polled source reports.

    None where one that covers every product is polled, or nothing is yet.
    """
    if not polled or not set(polled) <= set(DETAILED):
        return ()
    return tuple(name for name in DETAILED if name in readable and name not in polled)


def _usable(found: Probe) -> bool:
    if found.error is not None and not is_decided(found):
        raise found.error
    return found.ok


def is_decided(found: Probe) -> bool:
    """Return whether an interface answered in a way that decides: it can be read, or fal refuses it to this key."""
    return found.error is None or isinstance(found.error, ScopeError | FeatureError | NotFoundError)


def _usage(client: Client, interface: Interface, window: Window, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    query = {**window_parameters(window, by_key=False), "limit": "1"}
    return lambda: client.get(interface.call, query, deadline, track_lock=False)


def _reporting(client: Client, window: Window, deadline: Deadline) -> Callable[[], Awaitable[object]]:
    query = reporting.usage_parameters(window, reporting.ONE_DIMENSION)
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
        return _refused(name, call, error)
    return Probe(name=name, call=call.path, reachable=True, accepted=True, scope=call.scope, ok=True)


def _refused(name: str, call: Endpoint, error: ApiError) -> Probe:
    return Probe(
        name=name,
        call=call.path,
        reachable=not isinstance(error, NoAnswerError) or isinstance(error, TruncatedError),
        accepted=isinstance(error, ScopeError | FeatureError | LockedError | NotFoundError),
        scope=Scope.API if isinstance(error, ScopeError) else "",
        ok=False,
        problem=str(error),
        advice=error.advice,
        error=error,
    )
