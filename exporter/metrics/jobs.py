"""Metrics of the jobs that an installation may have beside its polls: pushes, remote write, OTLP, and bookings.

What is not known yet is absent.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.charges import NANO
from exporter.ledger.remote_ledger import Standing
from exporter.metrics.catalogue import CATALOGUE

if TYPE_CHECKING:
    from exporter.booked.process import Outcome

MOST_MODELS = 200
"""Models of bookings that have differences of their own; of more, the smallest differences are folded."""

OTHER = "__other__"

Samples = Iterable[tuple[tuple[str, ...], float]]


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


class RemoteWriteMetrics(Collector):
    """Shows how remote write goes; what is not known yet is absent.

    Args:
        registry: shows them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges: dict[str, float] = {}
        self._counters: dict[tuple[str, ...], int] = dict.fromkeys(
            (("samples",), ("failures",), ("refused", "next_hour"), ("refused", "history")), 0
        )
        registry.register(self)

    def sent(self, samples: int) -> None:
        """Count samples that the store has acknowledged."""
        self._counters["samples",] += samples

    def refused(self, *, carried: int, dropped: int) -> None:
        """Count series and hours that the store does not take."""
        self._counters["refused", "next_hour"] += carried
        self._counters["refused", "history"] += dropped

    def ended(self, at: datetime, *, is_success: bool, standing: Standing) -> None:
        """Show where a run has ended."""
        self._gauges["up"] = is_success
        if is_success:
            self._gauges["last_success_timestamp_seconds"] = at.timestamp()
        else:
            self._counters["failures",] += 1
        self._gauges["pending_requests"] = standing.parcels
        self._gauges["counters_waiting_usd"] = standing.waiting / NANO
        if standing.through is not None and not standing.parcels:
            self._gauges["told_through_timestamp_seconds"] = standing.through.timestamp()

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are checked against the catalogue by tests."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the families as they stand."""
        for name, value in self._gauges.items():
            family = CATALOGUE[f"fal_remote_write_{name}"]
            yield GaugeMetricFamily(family.name, family.help, value=value)
        for name in ("samples", "failures", "refused"):
            family = CATALOGUE[f"fal_remote_write_{name}_total"]
            found = CounterMetricFamily(family.name, family.help, labels=family.labels)
            for key, count in self._counters.items():
                if key[0] == name:
                    found.add_metric(key[1:], count)
            yield found


class OtlpMetrics(Collector):
    """Shows how sending by OTLP goes; what is not known yet is absent.

    Args:
        registry: shows them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauges: dict[str, float] = {}
        self._counters = {"points": 0, "failures": 0}
        registry.register(self)

    def succeeded(self, at: datetime, points: int) -> None:
        """Count a request that has been taken."""
        self._gauges |= {"up": 1, "last_success_timestamp_seconds": at.timestamp()}
        self._counters["points"] += points

    def failed(self) -> None:
        """Count one that has not."""
        self._gauges["up"] = 0
        self._counters["failures"] += 1

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are checked against the catalogue by tests."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the families as they stand."""
        for name, value in self._gauges.items():
            family = CATALOGUE[f"fal_otlp_{name}"]
            yield GaugeMetricFamily(family.name, family.help, value=value)
        for name, count in self._counters.items():
            family = CATALOGUE[f"fal_otlp_{name}_total"]
            yield CounterMetricFamily(family.name, family.help, value=count)


class BookedMetrics(Collector):
    """Shows the newest comparison; may be called from any thread.

    Args:
        registry: shows it.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._outcome: Outcome | None = None
        self._is_up: bool | None = None
        self._lock = Lock()
        registry.register(self)

    def succeeded(self, outcome: "Outcome") -> None:
        """Show a comparison in place of the one before."""
        with self._lock:
            self._outcome, self._is_up = outcome, True

    def failed(self) -> None:
        """Show that there is no newer comparison."""
        with self._lock:
            self._is_up = False

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are checked against the catalogue by tests."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the families as they stand."""
        with self._lock:
            outcome, is_up = self._outcome, self._is_up
        if outcome is not None:
            yield _family("fal_booked_usd", [((), outcome.booked / NANO)])
            yield _family("fal_booked_charged_usd", [((), outcome.charged / NANO)])
            yield _family("fal_booked_difference_usd", _by_model(outcome))
            findings = sorted(outcome.findings.items())
            yield _family("fal_booked_finding_usd", [((name,), amount / NANO) for name, (_, amount) in findings])
            yield _family("fal_booked_finding_requests", [((name,), number) for name, (number, _) in findings])
            yield _family("fal_booked_unread", [((), outcome.unread_hours)])
            yield _family("fal_booked_window_end_timestamp_seconds", [((), outcome.end.timestamp())])
        if is_up is not None:
            yield _family("fal_booked_up", [((), is_up)])


def _by_model(outcome: "Outcome") -> Samples:
    ordered = sorted(outcome.differences.items(), key=lambda item: (-abs(item[1]), item[0]))
    yield from (((model,), amount / NANO) for model, amount in sorted(ordered[:MOST_MODELS]))
    if len(ordered) > MOST_MODELS:
        yield (OTHER,), sum(amount for _, amount in ordered[MOST_MODELS:]) / NANO


def _family(name: str, samples: Samples) -> Metric:
    family = CATALOGUE[name]
    metric = GaugeMetricFamily(name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric


def _counter(name: str, registry: CollectorRegistry) -> Counter:
    family = CATALOGUE[name]
    return Counter(name, family.help, family.labels, registry=registry)


def _gauge(name: str, registry: CollectorRegistry) -> Gauge:
    family = CATALOGUE[name]
    return Gauge(name, family.help, family.labels, registry=registry)
