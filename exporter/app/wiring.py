"""Wiring of the left half from the settings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from exporter.app.deliveries import Deliveries, deliveries_of, jobs_of
from exporter.charges import Clock, utc_now
from exporter.errors import FalExporterError
from exporter.events.store import open_store
from exporter.fal import (
    LOCK_REASONS,
    REASONS,
    REJECTIONS,
    REPORTING_FALLBACK_URL,
    REPORTING_URL,
    Client,
    Limits,
    Observer,
    Pacing,
    Rates,
)
from exporter.fal.carriage import Carrier
from exporter.forecasting.budgets import Budget, budget_of
from exporter.inquiry import Responder
from exporter.ledger import START_PATIENCE, Ledger, LedgerReader, take_collector_lock
from exporter.ledger.store import Rules
from exporter.logs import Secret
from exporter.metrics.health import Health
from exporter.metrics.requests import RequestMetrics
from exporter.polling.account import AccountPoller
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.collector import Collector
from exporter.polling.forecasts import ForecastMaker
from exporter.polling.inquiries.focus_reports import FocusReports
from exporter.polling.inquiries.live_usage import LiveUsage
from exporter.polling.key_owners import KeyOwners
from exporter.polling.poll_runner import OWN_REASONS, PollRunner
from exporter.polling.publisher import Publisher
from exporter.polling.requests import RecentRequestsMaker, RequestRules, RequestsPoller, RequestStore
from exporter.polling.scheduler import (
    FOCUS_PUSH_LOOK,
    Intervals,
    Reach,
    Scheduler,
)
from exporter.publication import Publication
from exporter.queries import live
from exporter.queries.focus.question import REPORT
from exporter.settings.credentials import Account

if TYPE_CHECKING:
    from exporter.replicas.lease import Lease
    from exporter.settings import Settings

_log = structlog.get_logger(__name__)

_POLLS_OF_GRACE = 4
"""Poll intervals; two polls in a row may fail, and the third take its time, before a window counts as not covered."""

_CALLER = frozenset({"api_key", "member"})
"""Dimensions that fal reports only when it is asked for them."""

_LEAST_GRACE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class LeftHalf:
    """The collector, the accounts that it polls, and what has to be closed after it.

    Attributes:
        health: knows whether fal answers.
        responder: answers what the web process asks of fal.
    """

    collector: Collector
    publisher: Publisher
    accounts: tuple[AccountPoller, ...]
    ledger: AsyncLedger
    clients: tuple[Client, ...]
    responder: Responder
    reports: FocusReports
    deliveries: Deliveries
    health: Health
    requests: RequestStore | None = None

    async def close(self) -> None:
        """End inquiries, close the connections, and the ledger once its work is done."""
        await self.responder.close()
        await self.deliveries.close()
        await self.reports.close()
        if self.requests is not None:
            await self.requests.close()
        for client in self.clients:
            await client.aclose()
        await self.ledger.close()


def client_of(
    account: Account,
    settings: "Settings",
    observer: Observer,
    clock: Clock = utc_now,
    *,
    permit: Callable[[], None] = lambda: None,
    pacing: Pacing | None = None,
    carrier: Carrier | None = None,
) -> Client:
    """Return an account's client.

    Args:
        account: whose it is.
        settings: with its limits.
        observer: hears of every request.
        clock: the time.
        permit: called before every request, and may forbid it by an error.
        pacing: shared with the clients of other accounts; None for one of its own.
        carrier: decides by which replica calls are made; None for this exporter.
    """

    def key() -> Secret:
        permit()
        return account.key()

    return Client(
        account=account.name,
        key=key,
        observer=observer,
        now=clock,
        pacing=pacing,
        carrier=carrier,
        platform_url=settings.platform_url,
        reporting_url=settings.reporting_url,
        reporting_fallback_url=REPORTING_FALLBACK_URL if settings.reporting_url == REPORTING_URL else None,
        limits=Limits(
            connect_timeout=min(settings.request_timeout, Limits().connect_timeout),
            read_timeout=settings.request_timeout,
            deadline=settings.poll_deadline,
            requests_at_once=settings.request_concurrency,
            attempts=settings.request_attempts,
            page_rows=settings.page_size,
            answer_bytes=settings.max_answer_size,
        ),
    )


def _open_ledger(address: str, rules: Rules, clock: Clock, lease: "Lease | None", shown: Publication | None) -> Ledger:
    if lease is not None:
        from exporter.replicas.shown import heights_shown  # noqa: PLC0415  where replicas are

        heights = None if shown is None else heights_shown(shown, rules.labels, rules.tags or ())
        return Ledger(address, rules=rules, clock=clock, lock=lease, first_number=lease.first_number, heights=heights)
    lock = take_collector_lock(address, patience=START_PATIENCE)
    return Ledger(address, rules=rules, clock=clock, lock=lock)


def _open_requests(settings: "Settings") -> RequestStore | None:
    """Open the store of requests, where they are wanted.

    Raises:
        ConfigurationError: its libraries are missing, or its address cannot be used.
    """
    if not settings.events:
        return None
    return RequestStore(open_store(settings.requests_url), LedgerReader(settings.ledger_url.get_secret_value()))


def _requests_pollers(
    settings: "Settings",
    store: RequestStore | None,
    accounts: Sequence[AccountPoller],
    clients: Sequence[Client],
    *,
    runner: PollRunner,
    owners: KeyOwners,
    registry: CollectorRegistry,
    reach: Reach,
    clock: Clock,
) -> tuple[RequestsPoller, ...]:
    """Return what reads the requests of each account; nothing where they are not wanted."""
    if store is None:
        return ()
    metrics = RequestMetrics(registry)
    rules = RequestRules(
        reach=reach,
        settle=settings.settle_delay,
        retention=settings.events_retention,
        tail_every=settings.poll_interval,
    )
    return tuple(
        RequestsPoller(
            client=client,
            requests=store,
            runner=runner,
            metrics=metrics,
            rules=rules,
            usage=account,
            confirm=owners.confirm,
            clock=clock,
        )
        for account, client in zip(accounts, clients, strict=True)
    )


def _rules_of(settings: "Settings") -> Rules:
    return Rules(
        labels=settings.labels,
        max_series=settings.max_series,
        birth_hold=settings.series_birth_hold,
        settle_delay=settings.settle_delay,
        poll_grace=max(_POLLS_OF_GRACE * settings.poll_interval, _LEAST_GRACE),
        zone=settings.timezone,
        tags=settings.tags,
    )


def _intervals_of(settings: "Settings") -> Intervals:
    return Intervals(
        settings.poll_interval,
        settings.balance_interval,
        settings.invoice_interval,
        settings.names_interval,
        focus_push=min(FOCUS_PUSH_LOOK, settings.focus_push_interval),
        booked=settings.booked_interval,
        remote_write=settings.remote_write_interval,
        otlp=settings.otlp_interval,
    )


def _clients_of(
    settings: "Settings",
    observer: Observer,
    clock: Clock,
    *,
    permit: Callable[[], None],
    carrier: Carrier | None,
) -> tuple[Client, ...]:
    """Return the client of each account; they share one pacing."""
    pacing = Pacing(
        Rates(
            at_once=settings.total_request_concurrency,
            in_a_second=settings.total_request_rate,
            of_account=settings.request_rate,
        )
    )
    return tuple(
        client_of(account, settings, observer, clock, permit=permit, pacing=pacing, carrier=carrier)
        for account in settings.accounts
    )


def _account_pollers(
    settings: "Settings",
    clients: Sequence[Client],
    budgets: Sequence[Budget],
    *,
    ledger: AsyncLedger,
    runner: PollRunner,
    health: Health,
    owners: KeyOwners,
    reach: Reach,
    clock: Clock,
) -> Iterator[AccountPoller]:
    """Yield what polls each account; the metrics of the account are there from now on."""
    # Budgets may match what no label shows.
    with_api_key = any(
        not _CALLER.isdisjoint(names) for names in (settings.labels, *(budget.match for budget in budgets))
    )
    for account, client in zip(settings.accounts, clients, strict=True):
        health.expect_account(account.name)
        health.credit_floor(account.name, account.credit_floor)
        yield AccountPoller(
            client=client,
            sources=account.sources,
            ledger=ledger,
            runner=runner,
            health=health,
            reach=reach,
            with_api_key=with_api_key,
            clock=clock,
            price_models=settings.price_models,
            owners=owners,
            credit_floor=account.credit_floor,
            tags=settings.tags,
            machines=settings.machines,
        )


async def open_left_half(
    settings: "Settings",
    *,
    emit: Callable[[Publication], None],
    clock: Clock,
    notes: tuple[str, ...] = (),
    links: tuple[tuple[str, str], ...] = (),
    lease: "Lease | None" = None,
    shown: Publication | None = None,
    carrier: Carrier | None = None,
) -> LeftHalf:
    """Open the ledger and build everything that polls and publishes.

    Args:
        settings: what it works by.
        emit: takes each publication.
        clock: the time.
        notes: sentences for the top of the landing page.
        links: further titles and addresses for its foot.
        lease: the right to be the collector of a ledger that replicas share; released with the ledger.
        shown: what this replica has served last; no counter falls below it where the database has lost something.
        carrier: decides by which replica fal is asked; None for this exporter.

    Raises:
        LedgerInUseError: another process is the ledger's collector.
        ConfigurationError, LedgerError: the ledger cannot be opened, the store of requests has no such address, or
            two accounts are the same fal account.
    """
    rules = _rules_of(settings)
    ledger = AsyncLedger()
    await ledger.open(partial(_open_ledger, settings.ledger_url.get_secret_value(), rules, clock, lease, shown))
    if await ledger.relabelled():
        _log.warning("the labels have changed: all counters start at 0 again; increase() and rate() are not affected")
    registry = CollectorRegistry()
    health = Health(
        registry,
        failure_reasons=(*REASONS, *OWN_REASONS),
        rejection_reasons=REJECTIONS,
        lock_reasons=LOCK_REASONS,
        jobs=jobs_of(settings),
    )
    reach = Reach(settings.recent_window, settings.deep_window, settings.history, settings.timezone)
    # The publisher is asked for a publication by what is made after it, and shows what is put into these two.
    accounts: list[AccountPoller] = []
    requests: list[RequestsPoller] = []
    budgets = tuple(budget_of(budget, settings.timezone) for budget in settings.budgets)
    publisher = Publisher(
        ledger=ledger,
        accounts=accounts,
        health=health,
        reach=reach,
        emit=emit,
        outlooks=ForecastMaker(
            budgets=budgets,
            reach=reach,
            by_product="product" in settings.labels,
            grace=_rules_of(settings).poll_grace,
        ),
        notes=notes,
        links=links,
        requests=RecentRequestsMaker(requests),
        openmetrics_created=settings.openmetrics_created,
        clock=clock,
    )
    runner = PollRunner(health=health, clock=clock, changed=publisher.changed)
    try:
        permit = (lambda: None) if lease is None else lease.permit
        clients = _clients_of(settings, health, clock, permit=permit, carrier=carrier)
        owners = KeyOwners(clients, ledger, clock)
        await owners.recall()
        deliveries = deliveries_of(settings, ledger, registry=registry, health=health, publisher=publisher, clock=clock)
        store = _open_requests(settings)
    except FalExporterError:
        # Nobody else could collect while the lock, or the lease, is held by one that does not.
        await ledger.close()
        raise
    accounts += _account_pollers(
        settings, clients, budgets, ledger=ledger, runner=runner, health=health, owners=owners, reach=reach, clock=clock
    )
    requests += _requests_pollers(
        settings, store, accounts, clients, runner=runner, owners=owners, registry=registry, reach=reach, clock=clock
    )
    collector = Collector(
        ledger=ledger,
        accounts=accounts,
        publisher=publisher,
        scheduler=Scheduler(intervals=_intervals_of(settings), health=health),
        retention=settings.retention,
        clock=clock,
        requests=tuple(requests),
        pushers=deliveries.pushers,
        booked=deliveries.booked,
        remote=deliveries.remote,
        otlp=deliveries.otlp,
    )
    reports = FocusReports(
        {client.account: client for client in clients},
        settings.ledger_url.get_secret_value(),
        invoice_fresh_for=settings.invoice_interval,
        clock=clock,
    )
    responder = Responder({REPORT: reports.answer, live.NAME: LiveUsage(accounts, clock=clock)})
    return LeftHalf(
        collector, publisher, tuple(accounts), ledger, clients, responder, reports, deliveries, health, store
    )
