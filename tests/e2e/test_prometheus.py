"""A real Prometheus scrapes `fal-exporter serve`: its PromQL equals the simulator's statement."""

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from e2e.processes import Exporter, Fal, Labels, exporter_of, fal_in_a_thread, free_port, wait_until
from local_http import HTTP

from exporter.charges import HOUR, NANO, hour_of
from exporter.metrics.catalogue import RENAMED
from exporter.simulator import GlitchedJob, PlantedSpend

CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: fal
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""

Values = dict[tuple[str, ...], float]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str, *by: str) -> Values:
        """Return the values of an instant query by some of their labels; none while it cannot be asked."""
        try:
            answer = HTTP.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=10).raise_for_status()
        except httpx.HTTPError:
            return {}
        found = answer.json()["data"]["result"]
        return {tuple(item["metric"].get(label, "") for label in by): float(item["value"][1]) for item in found}


@pytest.fixture(scope="module")
def fal() -> Iterator[Fal]:
    with fal_in_a_thread() as running:
        yield running


@pytest.fixture(scope="module")
def exporter(fal: Fal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with exporter_of(fal, tmp_path_factory.mktemp("exporter"), HISTORY="auto") as made:
        made.start()
        yield made


@pytest.fixture(scope="module")
def prometheus(
    exporter: Exporter, program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """A Prometheus that scrapes the exporter every second, from the exporter's start on."""
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "prometheus.yml").write_text(CONFIG.format(port=exporter.port))
    port = free_port()
    arguments = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", "--log.level=warn"]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [program("prometheus", "prometheus"), *arguments, f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log,
            stderr=log,
        )
    try:
        made = Prometheus(f"http://127.0.0.1:{port}")
        wait_until(exporter.is_ready, "the exporter is ready")
        wait_until(lambda: made.query("up") == {(): 1.0}, "Prometheus scrapes it")
        yield made
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder / "data", ignore_errors=True)


def month_of(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def stated(fal: Fal, start: datetime, end: datetime, label: str, amount: str = "cost") -> Values:
    """Return what the simulator states by a label, as Prometheus should have it; nothing where there is nothing."""
    sums: dict[tuple[str, ...], Decimal] = {}
    for row in fal.truth(start, end, label):
        sums[row[label],] = sums.get((row[label],), Decimal(0)) + Decimal(row[amount])
    return {labels: float(total) for labels, total in sums.items() if total}


def sums_to(prometheus: Prometheus, expression: str, label: str, truth: Values) -> bool:
    # What was added up in floats differs from the exact sum in its last digits.
    found = {labels: value for labels, value in prometheus.query(expression, label).items() if value}
    return found == pytest.approx(truth, rel=1e-12, abs=0) and bool(found)


def test_sums_by_promql_equal_the_statement(prometheus: Prometheus, fal: Fal) -> None:
    def true_now() -> bool:
        # By the clock of this moment, since the hour may turn while the test runs.
        hour, month = hour_of(datetime.now(UTC)), month_of(datetime.now(UTC))
        now, last_month = hour + HOUR, month_of(month - timedelta(days=1))
        return (
            sums_to(
                prometheus,
                "sum by (model) (fal_spend_month_to_date_usd)",
                "model",
                stated(fal, month, now, "model"),
            )
            and sums_to(
                prometheus, "sum by (app) (fal_spend_last_hour_usd)", "app", stated(fal, hour - HOUR, hour, "app")
            )
            and sums_to(
                prometheus,
                "sum by (gpu_class) (fal_gpu_time_month_to_date_seconds)",
                "gpu_class",
                stated(fal, month, now, "gpu_class", "gpu_seconds"),
            )
            and sums_to(
                prometheus,
                "sum by (product) (fal_spend_last_month_usd)",
                "product",
                stated(fal, last_month, month, "product"),
            )
        )

    wait_until(true_now, "PromQL equals the statement")


def test_every_query_of_the_documentation_answers_and_its_sums_are_the_statements(
    prometheus: Prometheus, exporter: Exporter, fal: Fal, repository: Path
) -> None:
    table = (repository / "docs/numbers.md").read_text(encoding="utf-8").partition("| question | ask | why |\n")[2]
    queries = re.findall(r"^\| [^|]+ \| `([^`]+)` \|", table.partition("\n\n")[0], flags=re.MULTILINE)
    assert len(queries) >= 7
    some_class = dict(next(iter(exporter.scrape()["fal_gpu_seconds_total"])))["gpu_class"]
    for query in queries:
        asked = query.replace("H100", some_class)
        wait_until(lambda asked=asked: prometheus.query(asked), f"{asked} has an answer")

    def total(start: datetime, end: datetime) -> float:
        return float(sum((Decimal(row["cost"]) for row in fal.truth(start, end, "product")), Decimal(0)))

    def true_now() -> bool:
        hour, month = hour_of(datetime.now(UTC)), month_of(datetime.now(UTC))
        expected = {
            "sum(fal_spend_last_hour_usd)": total(hour - HOUR, hour),
            "sum(fal_spend_today_usd)": total(hour.replace(hour=0), hour + HOUR),
            "sum(fal_spend_month_to_date_usd)": total(month, hour + HOUR),
        }
        assert expected.keys() <= set(queries)
        return all(prometheus.query(query) == {(): pytest.approx(item, rel=1e-12)} for query, item in expected.items())

    wait_until(true_now, "the sums equal the statement")


def test_gauges_equal_the_statement_series_by_series_to_the_last_digit(
    prometheus: Prometheus, exporter: Exporter, fal: Fal
) -> None:
    del prometheus
    truth: dict[Labels, Decimal] = {}
    names = ("product", "model", "app", "gpu_class")
    for row in fal.truth(month_of(fal.now), fal.now, *names):
        labels = frozenset({("account", "default"), *((name, row[name]) for name in names if row[name])})
        truth[labels] = truth.get(labels, Decimal(0)) + Decimal(row["cost"])
    published = exporter.scrape()["fal_spend_month_to_date_usd"]
    assert {labels: value for labels, value in published.items() if value} == {
        labels: float(cost) for labels, cost in truth.items() if cost
    }


def test_increase_sees_all_of_a_brand_new_models_first_charge_and_no_history(prometheus: Prometheus, fal: Fal) -> None:
    assert set(prometheus.query("fal_spend_usd_total", "model").values()) == {0.0}
    fal.simulator.faults.add(PlantedSpend(int(fal.now.timestamp()) // 3600, GlitchedJob().line(40_500 * NANO)))
    glitched = 'fal_spend_usd_total{model="fal-ai/glitched-job"}'
    wait_until(lambda: prometheus.query(glitched) == {(): 40_500.0}, "the charge is scraped")
    # The birth rule: Prometheus has seen the series at 0 before.
    assert prometheus.query(f"max_over_time({glitched}[5m]) - min_over_time({glitched}[5m])") == {(): 40_500.0}
    count = f"count_over_time({glitched}[5m])"
    wait_until(lambda: prometheus.query(f"{count} >= 5"), "there are some samples")
    (scrapes,) = prometheus.query(count).values()
    (increase,) = prometheus.query(f"increase({glitched}[5m])").values()
    # increase() goes on beyond the last sample, by at most 1.1 of the usual distance between two.
    assert 40_500 <= increase <= 40_500 * (1 + 1.1 / (scrapes - 1))
    (others,) = prometheus.query('sum(increase(fal_spend_usd_total{model!="fal-ai/glitched-job"}[5m]))').values()
    assert others == 0


def test_prometheus_is_served_openmetrics_and_gzip(prometheus: Prometheus, exporter: Exporter) -> None:
    scrapes = 'fal_exporter_scrapes_total{format="openmetrics",encoding="gzip"}'
    wait_until(lambda: sum(prometheus.query(scrapes).values()) > 0, "a scrape is counted")
    assert prometheus.query("count(up) == 1") == {(): 1.0}
    accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75"
    answer = HTTP.get(f"{exporter.url}/metrics", headers={"accept": accept, "accept-encoding": "gzip"})
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.text.endswith("# EOF\n")


def test_promtool_finds_nothing_but_the_names_that_end_with_the_next_version(
    prometheus: Prometheus, exporter: Exporter, program: Callable[[str, str], str]
) -> None:
    del prometheus
    answer = exporter.get("/metrics")
    assert answer is not None
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "metrics"],
        input=answer.content,
        capture_output=True,
        check=False,
        timeout=30,
    )
    findings = (checked.stdout + checked.stderr).decode().splitlines()
    assert sorted(finding.split()[0] for finding in findings) == sorted(RENAMED)
