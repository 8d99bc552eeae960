"""Pusher of metrics by OTLP: the newest snapshot to a collector or a store, by OpenTelemetry's own exporter.

The exporter tries again for some seconds what the receiver may take later; the next interval sends newer figures. It
works in a thread, and says in its log alone why it has failed: what it logs last is kept as the reason.
"""

import asyncio
import logging
from collections.abc import Callable

import structlog

from exporter.charges import Clock
from exporter.errors import FalExporterError
from exporter.metrics.jobs import OtlpMetrics
from exporter.metrics.otlp import exporter_for, metrics_data
from exporter.metrics.snapshot import Snapshot

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
        metrics: OtlpMetrics,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._url = url
        self._exporter = exporter_for(url, protocol)
        self._snapshot = snapshot
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
        self._metrics.succeeded(self._clock(), points)
        self._changed()
        _log.debug("metrics have been sent by OTLP", points=points)

    def _send(self, snapshot: Snapshot) -> tuple[bool, int]:
        data, points = metrics_data(snapshot)
        return self._exporter.export(data).name == "SUCCESS", points
