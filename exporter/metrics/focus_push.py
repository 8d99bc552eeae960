"""Metrics of pushed FOCUS files."""

from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from exporter.metrics.catalogue import CATALOGUE


class FocusPushMetrics:
    """Shows how pushes went; what is not known yet is absent.

    Args:
        registry: shows them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._known: dict[str, Gauge] = {}
        self._written = self._counter("fal_focus_push_written_files_total")
        self._failures = self._counter("fal_focus_push_failures_total")

    def succeeded(self, at: datetime, *, rows: int, written: int) -> None:
        """Count a push that succeeded."""
        self._set("fal_focus_push_last_success_timestamp_seconds", at.timestamp())
        self._set("fal_focus_push_up", 1)
        self._set("fal_focus_push_rows", rows)
        self._written.inc(written)

    def failed(self) -> None:
        """Count a push that failed."""
        self._set("fal_focus_push_up", 0)
        self._failures.inc()

    def _counter(self, name: str) -> Counter:
        return Counter(name, CATALOGUE[name].help, registry=self._registry)

    def _set(self, name: str, value: float) -> None:
        if name not in self._known:
            self._known[name] = Gauge(name, CATALOGUE[name].help, registry=self._registry)
        self._known[name].set(value)
