"""Metrics of pushed FOCUS files."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from exporter.metrics.catalogue import CATALOGUE


class FocusPushMetrics:
    """Shows how pushes to each destination went; what is not known yet is absent.

    Args:
        registry: shows them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._last_success = _gauge("fal_focus_push_last_success_timestamp_seconds", registry)
        self._up = _gauge("fal_focus_push_up", registry)
        self._rows = _gauge("fal_focus_push_rows", registry)
        self._written = _counter("fal_focus_push_written_months_total", registry)
        self._failures = _counter("fal_focus_push_failures_total", registry)

    def expect(self, destination: str) -> None:
        """Show the counters of a destination at zero from the start."""
        self._written.labels(destination)
        self._failures.labels(destination)

    def succeeded(self, destination: str, at: datetime, *, rows: int, written: int) -> None:
        """Count a push that succeeded."""
        self._last_success.labels(destination).set(at.timestamp())
        self._up.labels(destination).set(1)
        self._rows.labels(destination).set(rows)
        self._written.labels(destination).inc(written)

    def failed(self, destination: str) -> None:
        """Count a push that failed."""
        self._up.labels(destination).set(0)
        self._failures.labels(destination).inc()


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    family = CATALOGUE[name]
    return Counter(name, family.help, family.labels, registry=registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    family = CATALOGUE[name]
    return Gauge(name, family.help, family.labels, registry=registry)
