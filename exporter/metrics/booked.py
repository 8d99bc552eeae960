"""Metrics of bookings compared with charged requests."""

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporter.charges import NANO
from exporter.metrics.catalogue import CATALOGUE

if TYPE_CHECKING:
    from exporter.booked.process import Outcome

MOST_MODELS = 200
"""Models of their own; of more, those with the smallest differences are folded."""

OTHER = "__other__"

Samples = Iterable[tuple[tuple[str, ...], float]]


class BookedMetrics(Collector):
    """Shows the newest comparison; may be told from any thread.

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
            yield _gauge("fal_booked_usd", [((), outcome.booked / NANO)])
            yield _gauge("fal_booked_charged_usd", [((), outcome.charged / NANO)])
            yield _gauge("fal_booked_difference_usd", _by_model(outcome))
            findings = sorted(outcome.findings.items())
            yield _gauge("fal_booked_finding_usd", [((name,), amount / NANO) for name, (_, amount) in findings])
            yield _gauge("fal_booked_finding_requests", [((name,), number) for name, (number, _) in findings])
            yield _gauge("fal_booked_unread", [((), outcome.unread_hours)])
            yield _gauge("fal_booked_window_end_timestamp_seconds", [((), outcome.end.timestamp())])
        if is_up is not None:
            yield _gauge("fal_booked_up", [((), is_up)])


def _by_model(outcome: "Outcome") -> Samples:
    ordered = sorted(outcome.differences.items(), key=lambda item: (-abs(item[1]), item[0]))
    yield from (((model,), amount / NANO) for model, amount in sorted(ordered[:MOST_MODELS]))
    if len(ordered) > MOST_MODELS:
        yield (OTHER,), sum(amount for _, amount in ordered[MOST_MODELS:]) / NANO


def _gauge(name: str, samples: Samples) -> Metric:
    family = CATALOGUE[name]
    metric = GaugeMetricFamily(name, family.help, labels=family.labels)
    for labels, value in samples:
        metric.add_metric(labels, value)
    return metric
