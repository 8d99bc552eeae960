"""Deliveries: what an installation may have sent elsewhere or compared, beside its polls; each with its settings.

FOCUS files go to stores and cost services, hourly samples by remote write, metrics by OTLP; bookings are compared with
requests. What is not wanted is not made, and its libraries are not loaded.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from exporter.charges import Clock
from exporter.metrics.health import Health
from exporter.metrics.jobs import BookedMetrics, FocusPushMetrics, OtlpMetrics, RemoteWriteMetrics
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.publisher import Publisher
from exporter.polling.scheduler import BOOKED_JOB, FOCUS_PUSH_JOB, JOBS, OTLP_JOB, REMOTE_WRITE_JOB, REQUESTS_JOB

if TYPE_CHECKING:
    from exporter.polling.booked import BookedComparer
    from exporter.polling.deliveries.focus_push import FocusPusher
    from exporter.polling.deliveries.otlp import OtlpPusher
    from exporter.polling.deliveries.remote_write import RemoteWriter
    from exporter.settings import Settings


@dataclass(frozen=True, slots=True)
class Deliveries:
    """The deliveries that are wanted.

    Attributes:
        pushers: of FOCUS files, one for each destination.
    """

    pushers: "tuple[FocusPusher, ...]"
    booked: "BookedComparer | None"
    remote: "RemoteWriter | None"
    otlp: "OtlpPusher | None"

    async def close(self) -> None:
        """Give up what is being sent, and close the connections."""
        if self.remote is not None:
            await self.remote.close()
        if self.otlp is not None:
            await self.otlp.close()


def jobs_of(settings: "Settings") -> tuple[str, ...]:
    """Return the names of all jobs that are wanted, those of polls first."""
    wanted = (
        (settings.events, REQUESTS_JOB),
        (settings.focus_push_url or settings.focus_upload, FOCUS_PUSH_JOB),
        (settings.booked_source, BOOKED_JOB),
        (settings.remote_write_url, REMOTE_WRITE_JOB),
        (settings.otlp_url, OTLP_JOB),
    )
    return (*JOBS, *(job for is_wanted, job in wanted if is_wanted))


def deliveries_of(
    settings: "Settings",
    ledger: AsyncLedger,
    *,
    registry: CollectorRegistry,
    health: Health,
    publisher: Publisher,
    clock: Clock,
) -> Deliveries:
    """Make the deliveries that are wanted.

    Raises:
        ConfigurationError: a key or a library is missing, or a certificate cannot be used: said at the start, not after
            the first hours.
    """
    _check_uploads(settings)
    return Deliveries(
        _pushers(settings, registry, health, publisher, clock),
        _booked(settings, registry, health, publisher, clock),
        _remote_writer(settings, ledger, registry=registry, health=health, publisher=publisher, clock=clock),
        _otlp_pusher(settings, ledger, registry, publisher, clock),
    )


def _pushers(
    settings: "Settings", registry: CollectorRegistry, health: Health, publisher: Publisher, clock: Clock
) -> "tuple[FocusPusher, ...]":
    """Return what pushes FOCUS files, one for each destination."""
    if not settings.focus_push_url and not settings.focus_upload:
        return ()
    from exporter.polling.deliveries.focus_push import FocusPusher  # noqa: PLC0415
    from exporter.queries.focus.push_process import STORE  # noqa: PLC0415

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


def _check_uploads(settings: "Settings") -> None:
    """Make sure that what FOCUS costs are uploaded with is there.

    Raises:
        ConfigurationError: a key is missing.
    """
    if settings.focus_upload:
        from exporter.queries.focus.cost_services import service_from_environment  # noqa: PLC0415  where it is wanted

        for name in settings.focus_upload:
            service_from_environment(name)


def _booked(
    settings: "Settings", registry: CollectorRegistry, health: Health, publisher: Publisher, clock: Clock
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
        [account.name for account in settings.accounts],
    )
    return BookedComparer(
        order=order.written,
        metrics=BookedMetrics(registry),
        health=health,
        changed=publisher.changed,
        clock=clock,
    )


def _remote_writer(
    settings: "Settings",
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
    from exporter.polling.deliveries.remote_write import RemoteWriter, Store  # noqa: PLC0415  where it is wanted

    # The types of settings are loaded where they are needed: a collector seldom does.
    from exporter.settings.parsing import parse_headers  # noqa: PLC0415

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
    settings: "Settings", ledger: AsyncLedger, registry: CollectorRegistry, publisher: Publisher, clock: Clock
) -> "OtlpPusher | None":
    """Return what sends metrics by OTLP; None where that is not wanted.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    if settings.otlp_url is None:
        return None
    from exporter.polling.deliveries.otlp import OtlpPusher  # noqa: PLC0415  where it is wanted

    return OtlpPusher(
        settings.otlp_url,
        settings.otlp_protocol,
        snapshot=lambda: publisher.snapshot,
        pushed=ledger.pushed,
        metrics=OtlpMetrics(registry),
        changed=publisher.changed,
        clock=clock,
    )
