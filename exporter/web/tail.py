"""The end of every exposition: the web process's own families, kept apart so that the rest need not change."""

from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, PlatformCollector, ProcessCollector

from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.rendering import Rendered, rendered
from exporter.web.negotiation import Variant


class Tail:
    """Counts scrapes, reads the process tables and writes it all down when asked.

    Args:
        version: the exporter's.
        collector: tells the process id of the collector; None where it is this process.
    """

    def __init__(self, *, version: str, collector: Callable[[], int | None]) -> None:
        self._registry = CollectorRegistry()
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        ProcessCollector(registry=self._registry)
        # No process is called none, and families without samples are left out.
        ProcessCollector("fal_exporter_collector", pid=lambda: collector() or "none", registry=self._registry)
        _gauge("fal_exporter_build_info", self._registry).labels(version).set(1)
        self._ready = _gauge("fal_exporter_ready", self._registry)
        self._snapshot_at: Gauge | None = None
        family = CATALOGUE["fal_exporter_scrapes_total"]
        scrapes = Counter(family.name, family.help, family.labels, registry=self._registry)
        self._scrapes = {
            Variant(openmetrics, gzip): scrapes.labels(
                "openmetrics" if openmetrics else "text", "gzip" if gzip else "identity"
            )
            for openmetrics in (False, True)
            for gzip in (False, True)
        }

    def scraped(self, variant: Variant) -> None:
        """Count a scrape."""
        self._scrapes[variant].inc()

    def published(self, at: datetime, *, ready: bool) -> None:
        """Note the snapshot that is served from now on."""
        if self._snapshot_at is None:
            self._snapshot_at = _gauge("fal_exporter_snapshot_timestamp_seconds", self._registry)
        self._snapshot_at.set(at.timestamp())
        self._ready.set(ready)

    def rendered(self) -> Rendered:
        """Return the families as they stand; reads files, takes a millisecond or two, may be called in a thread."""
        return rendered(self._registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    family = CATALOGUE[name]
    return Gauge(name, family.help, family.labels, registry=registry)
