"""Scrapes as a Prometheus would have made them, as a file for `promtool tsdb create-blocks-from openmetrics`."""

import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

COUNTERS = (
    "fal_spend_usd_total",
    "fal_discount_usd_total",
    "fal_gpu_seconds_total",
    "fal_usage_quantity_total",
    "fal_restated_usd_total",
    "fal_restatements_total",
)
GAUGES = (
    "fal_spend_pending_usd",
    "fal_spend_last_hour_usd",
    "fal_spend_today_usd",
    "fal_spend_month_to_date_usd",
    "fal_spend_last_month_usd",
    "fal_gpu_time_last_hour_seconds",
    "fal_gpu_time_month_to_date_seconds",
    "fal_invoice_total_usd",
)
FAMILIES = (*COUNTERS, *GAUGES)
_CREATED = frozenset(f"{name.removesuffix('_total')}_created" for name in COUNTERS)


class Recording:
    """The samples of one target, family by family.

    Between two expositions a scrape copies the same bytes, so that their lines are kept, and get a time each.

    Attributes:
        series: how many series of counters the last exposition had.
        created: what every counter ever said of its beginning.
    """

    def __init__(self, folder: Path, instance: str) -> None:
        self.series = 0
        self.created: dict[str, set[str]] = {}
        self._instance = instance
        self._lines: dict[str, list[str]] = {}
        self._paths = {name: folder / f"{instance}-{name}" for name in FAMILIES}
        self._open = ExitStack()
        self._files = {name: self._open.enter_context(path.open("w")) for name, path in self._paths.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def take(self, exposition: bytes) -> None:
        """Take up what is served from now on."""
        self._lines = {name: [] for name in FAMILIES}
        for line in exposition.decode().splitlines():
            name, _, rest = line.partition("{")
            if name in self._lines:
                self._lines[name].append(f'{name}{{instance="{self._instance}",{rest}')
            elif name in _CREATED:
                series, _, value = line.rpartition(" ")
                self.created.setdefault(series, set()).add(value)
        self.series = sum(len(self._lines[name]) for name in COUNTERS)

    def scrape(self, at: datetime, families: Iterable[str] = FAMILIES) -> None:
        """Scrape what is served, and keep these families of it."""
        stamp = f" {at.timestamp():.0f}\n"
        for name in families:
            self._files[name].write(stamp.join([*self._lines.get(name, ()), ""]))

    def path(self, name: str) -> Path:
        """Return the file with the samples of a family."""
        return self._paths[name]


def join(recordings: Iterable[Recording], to: Path) -> None:
    """Make one file of closed recordings: all samples of a family together, as the format wants it."""
    told = tuple(recordings)
    with to.open("wb") as whole:
        for name in FAMILIES:
            kind = "counter" if name in COUNTERS else "gauge"
            whole.write(f"# TYPE {name.removesuffix('_total')} {kind}\n".encode())
            for recording in told:
                path = recording.path(name)
                with path.open("rb") as samples:
                    shutil.copyfileobj(samples, whole, 2**20)
                path.unlink()
        whole.write(b"# EOF\n")
