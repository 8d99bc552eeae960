"""Metrics of single requests: the histogram of their costs with exemplars, and the comparison with the ledger."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from exporter.charges import NANO
from exporter.events.summaries import BUCKETS, OTHER, SCHEMA, Compared, DearRequest, ModelCosts, bucket_of
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.protobuf import NativeHistogram, NativeHistogramFamily

MOST_MODELS = 200
"""Models of an account with a histogram of their own; what is used beyond them is counted as OTHER."""

_LONGEST_EXEMPLAR = 128 - len("request_id")
"""Characters: OpenMetrics allows no more in names and values together."""


@dataclass(slots=True)
class _Account:
    costs: Mapping[str, ModelCosts] = field(default_factory=dict)
    exemplars: dict[tuple[str, int], DearRequest] = field(default_factory=dict)
    models: dict[str, None] = field(default_factory=dict)
    compared: Compared | None = None
    through: datetime | None = None
    is_up: bool | None = None


class RequestMetrics(Collector):
    """Shows what is known of the requests of all accounts; may be called from any thread.

    Args:
        registry: shows them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._accounts: dict[str, _Account] = {}
        self._lock = threading.Lock()
        registry.register(self)

    def expect(self, account: str) -> None:
        """Make an account known."""
        with self._lock:
            self._accounts.setdefault(account, _Account())

    def counted(self, account: str, costs: Mapping[str, ModelCosts], samples: Iterable[DearRequest] = ()) -> None:
        """Show the costs by model, which only grow, and requests that stand for their buckets."""
        with self._lock:
            known = self._accounts[account]
            known.costs = costs
            for model in costs:
                if len(known.models) < MOST_MODELS:
                    known.models.setdefault(model)
            for sample in samples:
                known.exemplars[_shown(known, sample.model), bucket_of(sample.cost)] = sample

    def compared(self, account: str, compared: Compared) -> None:
        """Show how requests compare with the ledger."""
        with self._lock:
            self._accounts[account].compared = compared

    def read(self, account: str, *, through: datetime | None, is_up: bool) -> None:
        """Show how far requests have been read, and whether fal answers."""
        with self._lock:
            self._accounts[account].through = through
            self._accounts[account].is_up = is_up

    def describe(self) -> Iterator[Metric]:
        """Return nothing: names are checked against the catalogue by tests."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Return the families as they stand."""
        with self._lock:
            accounts = sorted(self._accounts.items())
            yield self._histogram(accounts)
            yield from self._gauges(accounts)

    @staticmethod
    def _histogram(accounts: Iterable[tuple[str, _Account]]) -> Metric:
        family = CATALOGUE["fal_request_cost_usd"]
        metric = NativeHistogramFamily(family)
        for account, known in accounts:
            shown: dict[str, ModelCosts] = {}
            for model, costs in known.costs.items():
                shown.setdefault(_shown(known, model), ModelCosts()).add(costs)
            for model, costs in sorted(shown.items()):
                metric.add_metric((account, model), _buckets(known, model, costs), costs.cost / NANO)
                metric.native[account, model] = NativeHistogram(SCHEMA, costs.free, costs.native)
        return metric

    @staticmethod
    def _gauges(accounts: Iterable[tuple[str, _Account]]) -> Iterator[Metric]:
        found: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for account, known in accounts:
            if known.compared is not None:
                differing = {difference.hour for difference in known.compared.differences}
                found.setdefault("fal_events_difference_usd", []).extend(
                    ((account, model), amount / NANO) for model, amount in sorted(known.compared.by_model.items())
                )
                found.setdefault("fal_events_compared", []).append(((account,), known.compared.hours))
                found.setdefault("fal_events_differing", []).append(((account,), len(differing)))
            if known.through is not None:
                found.setdefault("fal_events_through_timestamp_seconds", []).append(
                    ((account,), known.through.timestamp())
                )
            if known.is_up is not None:
                found.setdefault("fal_events_up", []).append(((account,), known.is_up))
        for name, samples in found.items():
            family = CATALOGUE[name]
            metric = GaugeMetricFamily(name, family.help, labels=family.labels)
            for labels, value in samples:
                metric.add_metric(labels, value)
            yield metric


def _shown(known: _Account, model: str) -> str:
    return model if model in known.models else OTHER


def _buckets(known: _Account, model: str, costs: ModelCosts) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """Return cumulative counts by upper bound, with an exemplar where there is one."""
    found: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    count, counts = 0, costs.buckets
    for number, bound in enumerate((*BUCKETS, float("inf"))):
        count += counts[number]
        sample = known.exemplars.get((model, number))
        upper = "+Inf" if number == len(BUCKETS) else repr(bound)
        if sample is not None and len(sample.request_id) <= _LONGEST_EXEMPLAR:
            exemplar = Exemplar({"request_id": sample.request_id}, sample.cost / NANO, sample.at.timestamp())
            found.append((upper, count, exemplar))
        else:
            found.append((upper, count))
    return found
