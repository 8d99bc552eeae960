"""The numbers of one instant, ready to be encoded."""

from dataclasses import dataclass
from datetime import datetime

from exporter.metrics.catalogue import Family
from exporter.samples import Pages


@dataclass(frozen=True, slots=True)
class Table:
    """The samples of one family.

    Attributes:
        labels: the names that belong to the samples' label values, in their order.

    Raises:
        ValueError: the family is a histogram; only prometheus_client's own metrics are.
    """

    family: Family
    labels: tuple[str, ...]
    pages: Pages

    def __post_init__(self) -> None:
        if self.family.kind == "histogram":
            raise ValueError(f"{self.family.name} is a histogram: a table holds counters or gauges")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable set of numbers, replaced whole.

    Attributes:
        sequence: grows by one with every snapshot.
        at: the instant it tells about, aware and in UTC.

    Raises:
        ValueError: two tables are of the same family, which no exposition may hold twice.
    """

    sequence: int
    at: datetime
    tables: tuple[Table, ...]

    def __post_init__(self) -> None:
        names = [table.family.name for table in self.tables]
        if len(set(names)) != len(names):
            raise ValueError("a snapshot holds one table of each family")
