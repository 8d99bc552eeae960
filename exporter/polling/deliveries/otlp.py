"""OTLP: the newest snapshot, with the start times of the ledger's counters, sent to a collector or a store.

Metrics keep the names that are scraped, without `_total`: Prometheus, and the collector's exporters for it, add that
again. Attributes are named by OpenTelemetry's conventions for generative AI where these have a name, and `fal.NAME`
otherwise. The conventions have no metric of cost.

Points are made of the snapshot and handed to OpenTelemetry's own exporter, not recorded by instruments: those would
start anew with each process, and keep no more than some thousand series. That exporter tries again for some seconds
what the receiver may take later; the next interval sends newer figures. It works in a thread, and says in its log alone
why it has failed: what it logs last is kept as the reason. Its libraries are those of the extra `otlp`, which are
imported when the pusher is made.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from exporter import __version__
from exporter.charges import Clock
from exporter.errors import ConfigurationError, FalExporterError
from exporter.metrics.catalogue import RENAMED
from exporter.metrics.jobs import OtlpMetrics
from exporter.metrics.snapshot import Snapshot, Table
from exporter.samples import Sample
from exporter.tags import tag_label

_log = structlog.get_logger(__name__)

_SHOWN = 300
_LOGGER = "opentelemetry.exporter"


class OtlpError(FalExporterError):
    """Metrics could not be sent; the message says why."""


class _LastWords(logging.Handler):
    """Keeps what was logged last."""

    text = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record."""
        self.text = record.getMessage()


class OtlpPusher:
    """Sends the newest snapshot.

    Args:
        url: of the receiver.
        protocol: `http` or `grpc`.
        snapshot: returns the newest; None before the first.
        pushed: is told which snapshot a receiver has taken: a new counter shows its value once its 0 has been seen.
        metrics: shows how it goes.
        changed: is told when there is something new to show.
        clock: the time.

    Raises:
        ConfigurationError: from the initialiser: the extra is not installed.
    """

    def __init__(
        self,
        url: str,
        protocol: str,
        *,
        snapshot: Callable[[], Snapshot | None],
        pushed: Callable[[int], Awaitable[None]],
        metrics: OtlpMetrics,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._url = url
        self._exporter = exporter_for(url, protocol)
        self._snapshot = snapshot
        self._pushed = pushed
        self._metrics = metrics
        self._changed = changed
        self._clock = clock
        self._words = _LastWords(logging.WARNING)
        logger = logging.getLogger(_LOGGER)
        logger.addHandler(self._words)
        # It is told in this exporter's log, once and with what to do.
        logger.propagate = False

    async def close(self) -> None:
        """Give up what is being sent, and close the connections."""
        await asyncio.to_thread(self._exporter.shutdown)
        logging.getLogger(_LOGGER).removeHandler(self._words)

    async def push(self) -> None:
        """Send the newest snapshot; nothing before there is one.

        Raises:
            OtlpError: the receiver cannot be reached or refuses.
        """
        snapshot = self._snapshot()
        if snapshot is None:
            return
        taken, points = await asyncio.to_thread(self._send, snapshot)
        if not taken:
            self._metrics.failed()
            self._changed()
            # What could not be encoded is told whole by the exporter, the reason last.
            reason = self._words.text[-_SHOWN:].rpartition("\n")[2] or "no reason given"
            raise OtlpError(
                f"OTLP_URL: metrics cannot be sent to {self._url}: {reason}; check the address, OTLP_PROTOCOL, and the "
                "variables OTEL_EXPORTER_OTLP_*"
            )
        await self._pushed(snapshot.sequence)
        self._metrics.succeeded(self._clock(), points)
        self._changed()
        _log.debug("metrics have been sent by OTLP", points=points)

    def _send(self, snapshot: Snapshot) -> tuple[bool, int]:
        data, points = metrics_data(snapshot)
        return self._exporter.export(data).name == "SUCCESS", points


if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import Metric as OtlpMetric
    from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData, NumberDataPoint

PROVIDER = "fal"

_TAG = tag_label("")

_ATTRIBUTES: Mapping[str, str] = {
    "model": "gen_ai.request.model",
    "environment": "deployment.environment.name",
}
"""Attributes that the conventions have, by label."""

_UNITS: Mapping[str, str] = {"usd": "{USD}", "seconds": "s", "bytes": "By", "ratio": "1"}
"""Units by UCUM; a currency is an annotation, which no unit is converted from."""

_POINTS = 4000
"""Points of one request: gRPC takes messages of 4 MB."""


def attribute_name(label: str) -> str:
    """Return the name of the attribute that stands for a label."""
    if label.startswith(_TAG):
        return f"fal.tag.{label.removeprefix(_TAG)}"
    return _ATTRIBUTES.get(label, f"fal.{label}")


def exporter_for(url: str, protocol: str) -> "MetricExporter":
    """Return the official exporter, which reads all else that can be set from the environment.

    Args:
        url: of the receiver; of HTTP with its path.
        protocol: `http` or `grpc`.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    try:
        if protocol == "grpc":
            from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import (  # noqa: PLC0415  an extra
                OTLPMetricExporter as GrpcExporter,
            )

            return GrpcExporter(endpoint=url, insecure=url.startswith("http:"), max_export_batch_size=_POINTS)
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415  an extra
            OTLPMetricExporter as HttpExporter,
        )
    except ImportError:
        raise ConfigurationError(
            "FAL_EXPORTER_OTLP_URL is set, and OpenTelemetry's exporters are not installed; install fal-exporter[otlp]"
        ) from None
    return HttpExporter(endpoint=url, max_export_batch_size=_POINTS)


def metrics_data(snapshot: Snapshot) -> tuple["MetricsData", int]:
    """Return a snapshot as OpenTelemetry has it, and how many points it has; families of former names are left out."""
    from opentelemetry.sdk.metrics.export import MetricsData, ResourceMetrics, ScopeMetrics  # noqa: PLC0415  an extra
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource  # noqa: PLC0415
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415

    at = _nanoseconds(snapshot.at)
    metrics = [
        _metric(table, at)
        for table in snapshot.tables
        if table.family.name not in RENAMED and any(page.samples for page in table.pages)
    ]
    # The SDK's default has an identity of each process, which would make new series of all at every restart. What the
    # environment says (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) goes first.
    own = Resource({"service.name": "fal-exporter", "service.version": __version__})
    resource = own.merge(OTELResourceDetector().detect())
    scope = ScopeMetrics(InstrumentationScope("fal-exporter", __version__), metrics, "")
    points = sum(len(metric.data.data_points) for metric in metrics)
    return MetricsData([ResourceMetrics(resource, [scope], "")]), points


def _metric(table: Table, at: int) -> "OtlpMetric":
    from opentelemetry.sdk.metrics.export import AggregationTemporality, Gauge, Metric, Sum  # noqa: PLC0415  an extra

    family = table.family
    names = [attribute_name(label) for label in table.labels]
    points = [_point(names, sample, family.scale, at) for page in table.pages for sample in page.samples]
    data = (
        Sum(points, AggregationTemporality.CUMULATIVE, is_monotonic=True) if family.kind == "counter" else Gauge(points)
    )
    return Metric(family.base_name, family.help, _UNITS.get(family.unit, ""), data)


def _point(names: list[str], sample: Sample, scale: int, at: int) -> "NumberDataPoint":
    from opentelemetry.sdk.metrics.export import NumberDataPoint  # noqa: PLC0415  an extra

    attributes = {name: value for name, value in zip(names, sample.labels, strict=True) if value}
    if "gen_ai.request.model" in attributes:
        attributes["gen_ai.provider.name"] = PROVIDER
    start = _nanoseconds(sample.created) if sample.created is not None else 0
    # A truth value is no integer to OTLP, and a sum may be larger than one can be.
    return NumberDataPoint(attributes, start, at, sample.value / scale)


def _nanoseconds(instant: datetime) -> int:
    seconds = int(instant.timestamp())
    return seconds * 10**9 + instant.microsecond * 1000
