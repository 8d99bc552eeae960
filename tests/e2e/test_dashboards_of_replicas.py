"""Every query of the shipped dashboards, asked of one exporter's samples and of the same samples from its replicas.

Both Prometheus have 40 days of every family of the catalogue, made up. Replicas serve the same figures, so the answers
must be the same: nothing is counted twice, and nothing is refused because there are two of it.
"""

import subprocess
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import httpx
import pytest
from e2e.processes import free_port, wait_until
from e2e.test_dashboards import ALL, soon
from grafana.shipped import asked_by, dashboards, resolved
from local_http import NO_TLS

from exporter.metrics.catalogue import CATALOGUE, DEFAULT_CHARGE_LABELS, RENAMED, Family

pytestmark = pytest.mark.long

END = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()
DAY = 86_400
INSTANTS = sorted(
    {
        *range(int(END) - 45 * DAY, int(END), DAY),
        *range(int(END) - 7200, int(END), 300),
        *range(int(END) - 120, int(END) + 1, 30),
    }
)
"""Sparse, for what is asked as of an instant long ago; dense at the end, for what is asked of the last hour."""

LOOKBACK = "25h"

OUTDATED = "c:8080"
ONE = ({"instance": "a:8080", "pod": "a-x1", "replica": "1"},)
SEVERAL = (
    *ONE,
    {"instance": "b:8080", "pod": "b-x2", "replica": "1"},
    # A second Prometheus, whose samples are not told apart by what is a target's own.
    {"instance": "a:8080", "pod": "a-x1", "replica": "2"},
    # Two pods that are given one name.
    {"instance": "a:8080", "pod": "b-x2", "replica": "1"},
    # One that was cut off, and whose figures are of an hour and a day that were dearer.
    {"instance": OUTDATED, "pod": "c-x3", "replica": "1"},
)
OF_TARGETS = {"instance", "pod", "replica", "job"}

SEEN_BY_EACH = {"fal-exporter-health: Scrapes: A": "every replica answers scrapes of its own"}
"""The queries whose answers rightly differ, and why."""

Rows = list[tuple[dict[str, str], float]] | str
"""Labels and values of an answer, or why there is none."""

VALUES = {
    "account": ("studio", "research"),
    "product": ("model_apis", "serverless"),
    "gpu_class": ("", "H100"),
    "model": ("veo", ""),
    "app": ("", "upscaler"),
    "source": ("models", "serverless"),
    "direction": ("up", "down"),
    "window": ("1h", "6h", "1d", "3d", "today", "month_to_date", "last_day", "last_month", "current_hour", "last_hour"),
    "cause": ("volume", "price", "new", "vanished"),
    "period": ("current_month", "last_month"),
    "bound": ("least", "likely", "most"),
    "state": ("running", "idle"),
    "weekday": tuple("0123456"),
    "ahead": ("1", "7", "31"),
    "threshold": ("80%", "100%"),
    "status": ("open", "paid"),
    "le": ("0.1", "1", "+Inf"),
}
"""Of labels whose values matter; any other has one. Those of charges go together: a model's charge has no machine."""

STEADY = {
    "fal_window_coverage_ratio": 1,
    "fal_source_up": 1,
    "fal_exporter_ledger_up": 1,
    "fal_exporter_ready": 1,
    "fal_exporter_build_info": 1,
    "fal_account_locked": 0,
}
ONCE = {
    "fal_exporter_ledger_birth_timestamp_seconds": END - 40 * DAY,
    "fal_month_end_timestamp_seconds": datetime(2026, 12, 1, tzinfo=UTC).timestamp(),
}


def label_sets(family: Family) -> Iterator[dict[str, str]]:
    """Yield the labels of a family's series."""
    names = [*family.labels_with(DEFAULT_CHARGE_LABELS), *(("le",) if family.kind == "histogram" else ())]
    charged = [name for name in names if name in DEFAULT_CHARGE_LABELS and name != "account"]
    found: list[dict[str, str]] = [{}]
    for name in names:
        if name not in charged:
            found = [labels | {name: value} for labels in found for value in VALUES.get(name, ("x",))]
    kinds = [{name: VALUES.get(name, ("x", "x"))[kind] for name in charged} for kind in (0, 1)]
    for labels in found:
        yield from (labels | kind for kind in (kinds if kinds[0] != kinds[1] else kinds[:1]))


def value(name: str, labels: Mapping[str, str], at: float) -> float:
    """Return a number that differs from series to series and grows; an instant where the name says so."""
    seed = zlib.crc32(f"{name}{sorted(labels.items())}".encode())
    if name == "fal_source_up":
        return float(labels["source"] != "serverless")
    if name in STEADY:
        return STEADY[name]
    if name.endswith("timestamp_seconds"):
        return at if name == "fal_exporter_snapshot_timestamp_seconds" else ONCE.get(name, END - seed % (3 * DAY))
    if name.endswith("_ratio"):
        return (1 + seed % 97) / 100
    days = (at - INSTANTS[0]) / DAY
    if "le" in labels:
        return round(7 * (1 + VALUES["le"].index(labels["le"])) * (1 + days), 6)
    return round((10_000 if name == "fal_restated_usd_total" else 1 + seed % 97) * (1 + days), 6)


def series() -> Iterator[tuple[str, dict[str, str]]]:
    for family in CATALOGUE.values():
        if family.name in RENAMED:
            continue
        if family.kind == "histogram":
            for labels in label_sets(family):
                yield f"{family.name}_bucket", labels
                if labels["le"] == "+Inf":
                    plain = {name: text for name, text in labels.items() if name != "le"}
                    yield from ((f"{family.name}_{part}", plain) for part in ("sum", "count"))
        else:
            yield from ((family.name, labels) for labels in label_sets(family))
    for process in ("process", "fal_exporter_collector_process"):
        yield f"{process}_cpu_seconds_total", {}
        yield f"{process}_resident_memory_bytes", {}
    yield "scrape_duration_seconds", {}
    yield "scrape_samples_scraped", {}
    for alert, account in (("FalSpendUnusual", "studio"), ("FalUnitPriceChanged", "research")):
        yield "ALERTS", {"alertname": alert, "alertstate": "firing", "severity": "warning", "account": account}


def shown_labels(name: str, labels: Mapping[str, str], target: Mapping[str, str]) -> str:
    """Return the labels of a series; what a ruler has recorded has none of a target but that of its Prometheus."""
    own = {"replica": target["replica"]} if name == "ALERTS" else {"job": "fal", **target}
    return ",".join(f'{label}="{text}"' for label, text in (labels | own).items() if text)


def written(targets: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Yield the lines of what has been scraped from some targets, as OpenMetrics."""
    for name, found in groupby(series(), key=itemgetter(0)):
        yield f"# TYPE {name} unknown\n"
        for _, labels in found:
            is_charged = name in CATALOGUE and CATALOGUE[name].charge_labels
            for shown, instance in {shown_labels(name, labels, of): of["instance"] for of in reversed(targets)}.items():
                times = 3 if is_charged and instance == OUTDATED else 1
                for at in INSTANTS:
                    yield f"{name}{{{shown}}} {times * value(name, labels, at)} {at}\n"
    if any(target["instance"] == OUTDATED for target in targets):
        yield "# TYPE fal:exporter_outdated unknown\n"
        yield from (f'fal:exporter_outdated{{job="fal",instance="{OUTDATED}"}} 1 {at}\n' for at in INSTANTS)
    yield "# EOF\n"


@contextmanager
def prometheus_of(
    targets: Sequence[Mapping[str, str]], program: Callable[[str, str], str], folder: Path
) -> Iterator[Callable[[str], Rows]]:
    """Run a Prometheus that has scraped some targets; yields what answers a query as of the end."""
    folder.mkdir()
    with (folder / "samples.om").open("w") as file:
        file.writelines(written(targets))
    subprocess.run(
        [
            *(program("promtool", "prometheus"), "tsdb", "create-blocks-from", "--max-block-duration=1488h"),
            *("openmetrics", "--quiet", str(folder / "samples.om"), str(folder / "data")),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    (folder / "prometheus.yml").touch()
    port = free_port()
    with (folder / "log").open("wb") as log, httpx.Client(verify=NO_TLS, timeout=30) as client:
        process = subprocess.Popen(
            [
                *(program("prometheus", "prometheus"), f"--config.file={folder / 'prometheus.yml'}"),
                *(f"--storage.tsdb.path={folder / 'data'}", "--storage.tsdb.retention.time=10y"),
                *(f"--query.lookback-delta={LOOKBACK}", f"--web.listen-address=127.0.0.1:{port}"),
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )

        def is_ready() -> bool:
            assert process.poll() is None, (folder / "log").read_text()
            try:
                return client.get(f"http://127.0.0.1:{port}/-/ready").is_success
            except httpx.TransportError:
                return False

        def ask(query: str) -> Rows:
            answer = client.get(
                f"http://127.0.0.1:{port}/api/v1/query", params={"query": query, "time": str(END)}
            ).json()
            if answer["status"] != "success":
                return answer["error"]
            found = answer["data"]["result"]
            if answer["data"]["resultType"] == "scalar":
                return [({}, float(found[1]))]
            return [(row["metric"], float(row["value"][1])) for row in found]

        try:
            wait_until(is_ready, "Prometheus has read its blocks")
            yield ask
        finally:
            process.terminate()
            process.wait(20)


def figures(rows: Rows) -> object:
    """Return an answer without what names a target: each row, or rows that name one once for all targets.

    In as many digits as no order of summing changes.
    """
    if isinstance(rows, str):
        return rows
    found = [
        (tuple(sorted((name, text) for name, text in labels.items() if name not in OF_TARGETS)), f"{number:.9g}")
        for labels, number in rows
    ]
    return sorted(set(found) if any(labels.keys() & OF_TARGETS for labels, _ in rows) else found)


def test_replicas_are_counted_once_whatever_labels_they_add(program: Callable[[str, str], str], tmp_path: Path) -> None:
    queries = [asked for dashboard in dashboards() for asked in asked_by(dashboard) if asked.kind != "variable"]
    one, several = {}, {}
    with (
        prometheus_of(ONE, program, tmp_path / "one") as ask_one,
        prometheus_of(SEVERAL, program, tmp_path / "several") as ask_several,
    ):
        for asked in queries:
            query = soon(resolved(asked.expression, ALL, start=END - 30 * DAY, end=END, step=asked.step), "32d:6h")
            one[str(asked)], several[str(asked)] = ask_one(query), ask_several(query)
    refused = {name for name, rows in (*one.items(), *several.items()) if isinstance(rows, str)}
    assert refused == set()
    told = {name for name, rows in one.items() if rows}
    assert len(told) > len(queries) * 0.9
    assert {name for name in one if figures(one[name]) != figures(several[name])} == set(SEEN_BY_EACH)
