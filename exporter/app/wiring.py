"""Wiring of the left half from the settings."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError, EventsError
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
from exporter.forecasting.budgets import budget_of
from exporter.inquiry import Responder
from exporter.ledger import START_PATIENCE, Ledger, LedgerReader, take_collector_lock
from exporter.ledger.store import Rules
from exporter.metrics.health import Health
from exporter.metrics.jobs import BookedMetrics, FocusPushMetrics, OtlpMetrics, RemoteWriteMetrics
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
    BOOKED_JOB,
    FOCUS_PUSH_JOB,
    FOCUS_PUSH_LOOK,
    JOBS,
    OTLP_JOB,
    REMOTE_WRITE_JOB,
    REQUESTS_JOB,
    Intervals,
    Reach,
    Scheduler,
)
from exporter.publication import Publication
from exporter.queries import live
from exporter.queries.focus import REPORT
from exporter.settings import Account, Settings
from exporter.settings.fields import parse_headers

if TYPE_CHECKING:
    from exporter.polling.booked import BookedComparer
    from exporter.polling.focus_push import FocusPusher
    from exporter.polling.otlp import OtlpPusher
    from exporter.polling.remote_write import RemoteWriter
    from exporter.replicas.lease import Lease

_log = structlog.get_logger(__name__)

_POLLS_OF_GRACE = 4
"""Poll intervals; two polls in a row may fail, and the third take its time, before a window counts as not covered."""

_CALLER = frozenset({"api_key", "member"})
"""Dimensions that fal tells only when it is asked for them."""

_LEAST_GRACE = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class LeftHalf:
    """The collector, the accounts that it polls, and what has to be closed after it.

    Attributes:
        responder: answers what the web process asks of fal.
    """

    collector: Collector
    publisher: Publisher
    accounts: tuple[AccountPoller, ...]
    ledger: AsyncLedger
    clients: tuple[Client, ...]
    responder: Responder
    reports: FocusReports
    requests: RequestStore | None = None
    remote: "RemoteWriter | None" = None
    otlp: "OtlpPusher | None" = None

    async def close(self) -> None:
        """End inquiries, close the connections, and the ledger once its work is done."""
        await self.responder.close()
        if self.remote is not None:
            await self.remote.close()
        if self.otlp is not None:
            await self.otlp.close()
        await self.reports.close()
        if self.requests is not None:
            await self.requests.close()
        for client in self.clients:
            await client.aclose()
        await self.ledger.close()


def client_of(
    account: Account,
    settings: Settings,
    observer: Observer,
    clock: Clock = utc_now,
    *,
    permit: Callable[[], None] = lambda: None,
    pacing: Pacing | None = None,
) -> Client:
    """Return an account's client.

    Args:
        account: whose it is.
        settings: with its limits.
        observer: hears of every request.
        clock: the time.
        permit: called before every request, and may forbid it by an error.
        pacing: shared with the clients of other accounts; None for one of its own.
    """

    def key() -> SecretStr:
        permit()
        return account.key()

    return Client(
        account=account.name,
        key=key,
        observer=observer,
        now=clock,
        pacing=pacing,
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


def _open_requests(settings: Settings) -> RequestStore | None:
    """Open the store of requests, where they are wanted.

    Raises:
        ConfigurationError: its libraries are missing, or its address cannot be used.
        EventsError: it cannot be used.
    """
    if not settings.events:
        return None
    return RequestStore(open_store(settings.requests_url), LedgerReader(settings.ledger_url.get_secret_value()))


def _requests_pollers(
    settings: Settings,
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


def _jobs(settings: Settings) -> tuple[str, ...]:
    """Return the names of all jobs that are wanted."""
    wanted = (
        (settings.events, REQUESTS_JOB),
        (settings.focus_push_url or settings.focus_upload, FOCUS_PUSH_JOB),
        (settings.booked_source, BOOKED_JOB),
        (settings.remote_write_url, REMOTE_WRITE_JOB),
        (settings.otlp_url, OTLP_JOB),
    )
    return (*JOBS, *(job for is_wanted, job in wanted if is_wanted))


def _pushers(
    settings: Settings, registry: CollectorRegistry, health: Health, publisher: Publisher, clock: Clock
) -> "tuple[FocusPusher, ...]":
    """Return what pushes FOCUS files, one for each destination."""
    if not settings.focus_push_url and not settings.focus_upload:
        return ()
    # The libraries of what is not wanted are not loaded.
    from exporter.polling.focus_push import FocusPusher  # noqa: PLC0415
    from exporter.queries.focus_push_process import STORE  # noqa: PLC0415

    destinations = (*((STORE,) if settings.focus_push_url else ()), *settings.focus_upload)
    metrics = FocusPushMetrics(registry)
    return tuple(
        FocusPusher(
            destination,
            address=settings.ledger_url.get_secret_value(),
            url=settings.focus_push_url or "",
            output_format=settings.focus_push_format,
            version=settings.focus_push_version,
            interval=settings.focus_push_interval,
            metrics=metrics,
            health=health,
            changed=publisher.changed,
            clock=clock,
        )
        for destination in destinations
    )


def _check_uploads(settings: Settings) -> None:
    """Make sure that what FOCUS costs are uploaded with is there: it is told at the start, not after the first hours.

    Raises:
        ConfigurationError: a key is missing.
    """
    if settings.focus_upload:
        from exporter.queries.cost_services import service_from_environment  # noqa: PLC0415  where it is wanted

        for name in settings.focus_upload:
            service_from_environment(name)


def _booked(
    settings: Settings, registry: CollectorRegistry, health: Health, publisher: Publisher, clock: Clock
) -> "BookedComparer | None":
    """Return what compares bookings with requests; None where it is not wanted."""
    if settings.booked_source is None:
        return None
    from exporter.booked.process import BookedOrder  # noqa: PLC0415
    from exporter.polling.booked import BookedComparer  # noqa: PLC0415  where it is wanted

    order = BookedOrder(
        settings.booked_source.get_secret_value(),
        settings.requests_url,
        settings.booked_id,
        settings.booked_amount,
        settings.booked_time,
    )
    return BookedComparer(
        order=order.written,
        metrics=BookedMetrics(registry),
        health=health,
        changed=publisher.changed,
        clock=clock,
    )


def _remote_writer(
    settings: Settings,
    ledger: AsyncLedger,
    *,
    registry: CollectorRegistry,
    health: Health,
    publisher: Publisher,
    clock: Clock,
) -> "RemoteWriter | None":
    """Return what sends hourly samples; None where that is not wanted.

    Raises:
        ConfigurationError: a library is missing, or a certificate cannot be used.
    """
    if settings.remote_write_url is None:
        return None
    from exporter.polling.remote_write import RemoteWriter, Store  # noqa: PLC0415  where it is wanted

    headers = settings.remote_write_headers
    store = Store(
        settings.remote_write_url,
        settings.remote_write_reach,
        labels=dict(label.split("=", 1) for label in settings.remote_write_labels),
        headers=parse_headers(headers.get_secret_value()) if headers is not None else {},
        user=settings.remote_write_user,
        password=settings.remote_write_password,
        token=settings.remote_write_token,
        ca_file=settings.remote_write_ca_file,
        cert_file=settings.remote_write_cert_file,
        key_file=settings.remote_write_key_file,
    )
    return RemoteWriter(
        store,
        ledger=ledger,
        metrics=RemoteWriteMetrics(registry),
        health=health,
        changed=publisher.changed,
        clock=clock,
    )


def _otlp_pusher(
    settings: Settings, registry: CollectorRegistry, publisher: Publisher, clock: Clock
) -> "OtlpPusher | None":
    """Return what sends metrics by OTLP; None where that is not wanted.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if settings.otlp_url is None:
        return None
    from exporter.polling.otlp import OtlpPusher  # noqa: PLC0415  where it is wanted

    return OtlpPusher(
        settings.otlp_url,
        settings.otlp_protocol,
        snapshot=lambda: publisher.snapshot,
        metrics=OtlpMetrics(registry),
        changed=publisher.changed,
        clock=clock,
    )


async def open_left_half(
    settings: Settings,
    *,
    emit: Callable[[Publication], None],
    clock: Clock,
    notes: tuple[str, ...] = (),
    links: tuple[tuple[str, str], ...] = (),
    lease: "Lease | None" = None,
    shown: Publication | None = None,
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

    Raises:
        LedgerInUseError: another process is the ledger's collector.
        ConfigurationError, LedgerError, EventsError: the ledger or the store of requests cannot be opened, or two
            accounts are the same fal account.
    """
    rules = Rules(
        labels=settings.labels,
        max_series=settings.max_series,
        birth_hold=settings.series_birth_hold,
        settle_delay=settings.settle_delay,
        poll_grace=max(_POLLS_OF_GRACE * settings.poll_interval, _LEAST_GRACE),
        zone=settings.timezone,
        tags=settings.tags,
    )
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
        jobs=_jobs(settings),
    )
    reach = Reach(settings.recent_window, settings.deep_window, settings.history, settings.timezone)
    accounts: list[AccountPoller] = []
    budgets = tuple(budget_of(budget, settings.timezone) for budget in settings.budgets)
    outlooks = ForecastMaker(budgets=budgets, reach=reach, by_product="product" in settings.labels)
    requests: list[RequestsPoller] = []
    publisher = Publisher(
        ledger=ledger,
        accounts=accounts,
        health=health,
        reach=reach,
        emit=emit,
        outlooks=outlooks,
        notes=notes,
        links=links,
        requests=RecentRequestsMaker(requests),
        openmetrics_created=settings.openmetrics_created,
        clock=clock,
    )
    runner = PollRunner(health=health, clock=clock, changed=publisher.changed)
    try:
        permit = (lambda: None) if lease is None else lease.permit
        pacing = Pacing(
            Rates(
                at_once=settings.total_request_concurrency,
                in_a_second=settings.total_request_rate,
                of_account=settings.request_rate,
            )
        )
        clients = tuple(
            client_of(account, settings, health, clock, permit=permit, pacing=pacing) for account in settings.accounts
        )
        _check_uploads(settings)
        owners = KeyOwners(clients, ledger, clock)
        await owners.recall()
        remote = _remote_writer(settings, ledger, registry=registry, health=health, publisher=publisher, clock=clock)
        otlp = _otlp_pusher(settings, registry, publisher, clock)
        store = _open_requests(settings)
    except (ConfigurationError, EventsError):
        await ledger.close()
        raise
    for account, client in zip(settings.accounts, clients, strict=True):
        health.expect_account(account.name)
        health.credit_floor(account.name, account.credit_floor)
        accounts.append(
            AccountPoller(
                client=client,
                sources=account.sources,
                ledger=ledger,
                runner=runner,
                health=health,
                reach=reach,
                with_api_key=any(
                    not _CALLER.isdisjoint(names) for names in (settings.labels, *(budget.match for budget in budgets))
                ),
                clock=clock,
                price_models=settings.price_models,
                owners=owners,
                credit_floor=account.credit_floor,
                tags=settings.tags,
                machines=settings.machines,
            )
        )
    scheduler = Scheduler(
        intervals=Intervals(
            settings.poll_interval,
            settings.balance_interval,
            settings.invoice_interval,
            settings.names_interval,
            focus_push=min(FOCUS_PUSH_LOOK, settings.focus_push_interval),
            booked=settings.booked_interval,
            remote_write=settings.remote_write_interval,
            otlp=settings.otlp_interval,
        ),
        health=health,
    )
    requests += _requests_pollers(
        settings, store, accounts, clients, runner=runner, owners=owners, registry=registry, reach=reach, clock=clock
    )
    collector = Collector(
        ledger=ledger,
        accounts=accounts,
        publisher=publisher,
        scheduler=scheduler,
        retention=settings.retention,
        clock=clock,
        requests=tuple(requests),
        pushers=_pushers(settings, registry, health, publisher, clock),
        booked=_booked(settings, registry, health, publisher, clock),
        remote=remote,
        otlp=otlp,
    )
    reports = FocusReports(
        {client.account: client for client in clients},
        settings.ledger_url.get_secret_value(),
        invoice_fresh_for=settings.invoice_interval,
        clock=clock,
    )
    responder = Responder({REPORT: reports.answer, live.NAME: LiveUsage(accounts, clock=clock)})
    return LeftHalf(collector, publisher, tuple(accounts), ledger, clients, responder, reports, store, remote, otlp)
