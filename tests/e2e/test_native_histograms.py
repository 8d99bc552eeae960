"""A real Prometheus scrapes what requests cost as a native histogram over protobuf: quantiles, sums and exemplars."""

import math
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from e2e.processes import Exporter, Fal, exporter_of, fal_in_a_thread, free_port, wait_until
from e2e.test_prometheus import CONFIG, Prometheus
from local_http import HTTP
from programs import find

from exporter.charges import HOUR, NANO, hour_of
from exporter.events.progress import LAG
from exporter.simulator import ADMIN_KEY

pytestmark = pytest.mark.long

FLAGS = "--enable-feature=native-histograms,exemplar-storage"
PER_DOUBLING = 8

Costs = dict[str, list[int]]


@pytest.fixture(scope="module")
def fal() -> Iterator[Fal]:
    with fal_in_a_thread(busy=4) as running:
        yield running


@pytest.fixture(scope="module")
def exporter(fal: Fal, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    with exporter_of(fal, tmp_path_factory.mktemp("exporter"), EVENTS="true", HISTORY="6h") as made:
        made.start()
        wait_until(made.is_ready, "the exporter is ready")
        yield made


@pytest.fixture(params=["prometheus", *(["prometheus3"] if find("prometheus3") else [])], scope="module")
def prometheus(
    request: pytest.FixtureRequest,
    exporter: Exporter,
    program: Callable[[str, str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    (folder / "prometheus.yml").write_text(CONFIG.format(port=exporter.port))
    command = [
        program(request.param, "prometheus"),
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
    ]
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}", FLAGS, "--log.level=warn"], stdout=log, stderr=log
        )
    try:
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(20)


def costs_by_model(fal: Fal, start: datetime, end: datetime) -> Costs:
    """Return the costs of the simulator's requests in nano-USD, sorted, by model."""
    query = {"start": start.isoformat(), "end": end.isoformat(), "limit": "10000"}
    answer = HTTP.get(
        f"{fal.running.platform_url}/models/billing-events",
        params=query,
        headers={"Authorization": f"Key {ADMIN_KEY}"},
        timeout=30,
    )
    page = answer.raise_for_status().json()
    assert not page["has_more"]
    found: Costs = defaultdict(list)
    for event in page["billing_events"]:
        found[event["endpoint_id"]].append(event["cost_estimate_nano_usd"])
    return {model: sorted(costs) for model, costs in found.items()}


def counted(exporter: Exporter, fal: Fal) -> Costs:
    """Return the costs of what the histogram counts: from the hour that was read first to the last that is read."""
    samples = exporter.scrape()
    (through,) = samples.get("fal_events_through_timestamp_seconds", {None: 0.0}).values()
    start, end = hour_of(fal.now - LAG) - HOUR, datetime.fromtimestamp(through, UTC)
    return costs_by_model(fal, start, end) if start < end else {}


def bucket_of(cost: int) -> tuple[float, float]:
    """Return the bounds of the native bucket that holds a cost: eight buckets for each doubling."""
    index = math.ceil(math.log2(cost / NANO) * PER_DOUBLING)
    return float(2 ** ((index - 1) / PER_DOUBLING)), float(2 ** (index / PER_DOUBLING))


def test_a_native_histogram_has_the_true_counts_sums_and_quantiles(
    prometheus: Prometheus, exporter: Exporter, fal: Fal
) -> None:
    def counts() -> Costs | None:
        truth = counted(exporter, fal)
        found = prometheus.query("histogram_count(sum by (model) (fal_request_cost_usd))", "model")
        return truth if found and found == {(model,): len(costs) for model, costs in truth.items()} else None

    truth = wait_until(counts, "Prometheus has the count of every model")
    assert max(map(len, truth.values())) > 20
    sums = prometheus.query("histogram_sum(sum by (model) (fal_request_cost_usd))", "model")
    assert sums == pytest.approx({(model,): sum(costs) / NANO for model, costs in truth.items()}, rel=1e-9)
    for share in (0.5, 0.95, 0.99):
        quantiles = prometheus.query(f"histogram_quantile({share}, sum by (model) (fal_request_cost_usd))", "model")
        assert quantiles.keys() == sums.keys()
        for (model,), quantile in quantiles.items():
            low, high = bucket_of(truth[model][math.ceil(share * len(truth[model])) - 1])
            assert low * (1 - 1e-9) <= quantile <= high * (1 + 1e-9), (model, share)
    # As a native histogram alone: a scrape of text would have made series of buckets.
    assert prometheus.query("fal_request_cost_usd_bucket") == {}


def test_an_exemplar_names_a_request_that_can_be_looked_up(prometheus: Prometheus, exporter: Exporter) -> None:
    def exemplars() -> list[dict[str, object]]:
        now = datetime.now(UTC)
        span = {"start": (now - timedelta(hours=6)).isoformat(), "end": (now + HOUR).isoformat()}
        answer = HTTP.get(
            f"{prometheus.url}/api/v1/query_exemplars", params={"query": "fal_request_cost_usd", **span}, timeout=10
        )
        return answer.json().get("data") or [] if answer.is_success else []

    found = wait_until(exemplars, "Prometheus has exemplars")
    for series in found:
        labels, exemplar = series["seriesLabels"], series["exemplars"][0]
        answer = exporter.get(f"/v1/billing/requests/{exemplar['labels']['request_id']}")
        assert answer is not None
        request = answer.raise_for_status().json()
        assert request["model"] == labels["model"]
        assert float(request["cost"]) == pytest.approx(float(exemplar["value"]), rel=1e-12)
