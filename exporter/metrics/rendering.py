"""The exporter's own families, kept by prometheus_client and written by its encoder.

They are few and change all the time; the large tables have an encoder of their own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

END = b"# EOF\n"
"""The last line of an OpenMetrics exposition."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """The lines of some families in both formats, without the end of OpenMetrics."""

    text: bytes = b""
    openmetrics: bytes = b""


def rendered(registry: Collector | CollectorRegistry) -> Rendered:
    """Encode the families of a registry that have samples, without `_created`."""
    families = _Counted(registry)
    in_openmetrics: bytes = openmetrics.generate_latest(families)  # type: ignore[no-untyped-call]  # the library's
    return Rendered(generate_latest(families), in_openmetrics.removesuffix(END))


class _Counted(Collector):
    """Drops `_created`: these counters begin with the process, which process_start_time_seconds tells."""

    def __init__(self, registry: Collector | CollectorRegistry) -> None:
        self._families = tuple(registry.collect())

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            counted = Metric(family.name, family.documentation, family.type, family.unit)
            counted.samples = [sample for sample in family.samples if sample.name != family.name + "_created"]
            if counted.samples:
                yield counted
