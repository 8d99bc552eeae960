"""A ledger's history in a real Prometheus, with the live scrapes that follow it.

The ledger is born at 12:30 in the middle of six days of history; then it lives for ten hours, in which charges of
earlier hours come late. Every minute of that life is scraped.
"""

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from e2e.processes import free_port, running, wait_until
from local_http import HTTP
from programs import NEWER_RULERS
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.ledger import Ledger, Rules

BERLIN = ZoneInfo("Europe/Berlin")
BIRTH = datetime(2026, 11, 3, 12, 30, tzinfo=UTC)
START = datetime(2026, 10, 28, 22, tzinfo=UTC)
"""Before midnight in Berlin, so that a whole local day follows, and three days before a month's end."""

LIFE = timedelta(hours=10)
MODELS = {
    "flux": Dimensions("studio", product="model_apis", model="flux", unit="image"),
    "veo": Dimensions("studio", product="model_apis", model="veo", gpu_class="H100", unit="second"),
    "past": Dimensions("studio", product="model_apis", model="past", unit="image"),
    "new": Dimensions("studio", product="model_apis", model="new", unit="image"),
}
Truth = Counter[tuple[datetime, str]]


@dataclass(frozen=True)
class Prometheus:
    url: str

    def query(self, expression: str, at: datetime) -> dict[str, float]:
        """Return the values by model."""
        answer = HTTP.get(f"{self.url}/api/v1/query", params={"query": expression, "time": at.timestamp()}, timeout=20)
        rows = answer.raise_for_status().json()["data"]["result"]
        found = {row["metric"].get("model", ""): float(row["value"][1]) for row in rows}
        assert len(found) == len(rows), "the history and the live scrapes are the same series"
        return found


@dataclass(frozen=True)
class Life:
    history: Path
    live: Path
    truth: Truth
    known_at_birth: Truth
    end: datetime
    output: str


def charges(truth: Truth, window: Window) -> list[Charge]:
    return [
        Charge(
            hour,
            MODELS[model],
            Amounts(2 * cost, cost if MODELS[model].gpu_class else 0, cost + cost // 9, cost // 9, cost),
        )
        for (hour, model), cost in truth.items()
        if hour in window
    ]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    folder = tmp_path_factory.mktemp("backfill")
    choose = random.Random(3)  # noqa: S311  no secret
    truth: Truth = Counter()
    for hour in Window(START, hour_of(BIRTH)).hours():
        for model in ("flux", "veo", "past"):
            if choose.random() < 0.7 and not (model == "past" and hour > BIRTH - timedelta(days=2)):
                truth[hour, model] += choose.randrange(1, 5 * NANO)
    truth[hour_of(BIRTH), "veo"] += NANO
    known_at_birth = truth.copy()

    now = BIRTH
    address = f"sqlite:///{folder / 'ledger.sqlite'}"
    ledger = Ledger(address, rules=Rules(zone=BERLIN, birth_hold=timedelta(0)), clock=lambda: now)
    ledger.activate({"studio": ["models"]})
    whole = Window(START, hour_of(BIRTH) + HOUR)
    ledger.restate("studio", "models", whole, charges(truth, whole), at=now)
    lines: dict[str, list[str]] = {}
    for minute in range(1, LIFE // timedelta(minutes=1) + 1):
        now = BIRTH + timedelta(minutes=minute)
        if minute % 10 == 0:
            for model in ("flux", "veo", "new"):
                late = now - timedelta(hours=choose.choice([0, 0, 0, 1, 5, 15]))
                truth[hour_of(late), model] += choose.randrange(1, NANO)
            window = Window(hour_of(now) - 24 * HOUR, hour_of(now) + HOUR)
            ledger.restate("studio", "models", window, charges(truth, window), at=now)
        view = ledger.view()
        ledger.scraped(view.sequence)
        for page in view.spend:
            for sample in page.samples:
                named = zip((*view.labels, "job", "instance"), (*sample.labels, "fal", "fal:8080"), strict=True)
                series = ",".join(f'{name}="{value}"' for name, value in named if value)
                line = f"fal_spend_usd_total{{{series}}} {sample.value / NANO!r} {now.timestamp():.0f}"
                lines.setdefault(series, []).append(line)
    live = folder / "live.om"
    live.write_text(
        "\n".join(["# TYPE fal_spend_usd counter", *(item for them in lines.values() for item in them), "# EOF\n"])
    )

    history = folder / "history.om"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    command = [sys.executable, "-m", "exporter", "backfill", "--instance", "fal:8080", "--output", str(history)]
    settings = {"KEY": "id:secret", "EXPORTER_ACCOUNT": "studio", "EXPORTER_TIMEZONE": "Europe/Berlin"}
    settings["EXPORTER_LEDGER_URL"] = address
    done = subprocess.run(
        command,
        env=inherited | {f"FAL_{name}": value for name, value in settings.items()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    ledger.close()
    return Life(history, live, truth, known_at_birth, now, done.stderr)


@pytest.fixture(scope="module")
def prometheus(
    life: Life, program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    folder = tmp_path_factory.mktemp("prometheus")
    for file in (life.history, life.live):
        subprocess.run(
            [
                program("promtool", "prometheus"),
                *("tsdb", "create-blocks-from", "--max-block-duration=168h", "openmetrics", "--quiet"),
                *(str(file), str(folder / "data")),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus", "prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--storage.tsdb.retention.time=100y",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    found = Prometheus(f"http://127.0.0.1:{port}")

    def is_ready() -> bool:
        try:
            return HTTP.get(f"{found.url}/-/ready").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(is_ready, "Prometheus is ready")
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def total(truth: Truth, belongs: Callable[[datetime], bool]) -> dict[str, float]:
    sums: Counter[str] = Counter()
    for (hour, model), cost in truth.items():
        if belongs(hour):
            sums[model] += cost
    return {model: cost / NANO for model, cost in sums.items()}


def test_every_sample_is_before_the_birth_and_in_the_order_of_the_format(life: Life) -> None:
    samples: Counter[str] = Counter()
    with life.history.open() as file:
        for family in text_fd_to_metric_families(file):
            for sample in family.samples:
                samples[sample.name] += 1
                assert float(sample.timestamp) < BIRTH.timestamp()
                assert sample.labels.items() >= {"account": "studio", "job": "fal", "instance": "fal:8080"}.items()
                assert all(sample.labels.values())
    assert f"{sum(samples.values()):,} samples" in life.output
    assert set(samples) == {
        "fal_spend_usd_total",
        "fal_discount_usd_total",
        "fal_gpu_seconds_total",
        "fal_usage_quantity_total",
        "fal_spend_last_hour_usd",
        "fal_spend_today_usd",
        "fal_spend_last_day_usd",
        "fal_discount_last_day_usd",
        "fal_usage_quantity_last_day",
        "fal_spend_month_to_date_usd",
        "fal_gpu_time_last_hour_seconds",
        "fal_gpu_time_month_to_date_seconds",
    }


def test_increase_over_history_and_life_equals_the_truth(prometheus: Prometheus, life: Life) -> None:
    # The range begins before the first samples, which are 0, and ends with the last: nothing is extrapolated.
    found = prometheus.query("increase(fal_spend_usd_total[8d])", life.end)
    assert found == pytest.approx(total(life.truth, lambda _: True), rel=1e-12)


def test_the_seam_alone_is_a_reset(prometheus: Prometheus, life: Life) -> None:
    before = prometheus.query("resets(fal_spend_usd_total[8d])", BIRTH)
    assert before == {"flux": 0, "veo": 0, "past": 0}
    after = prometheus.query("resets(fal_spend_usd_total[8d])", life.end)
    assert after == {"flux": 1, "veo": 1, "past": 1, "new": 0}


def test_the_seam_adds_nothing(prometheus: Prometheus, life: Life) -> None:
    # From the last sample of the history to the first live ones: 12:25 to 12:31.
    seam = prometheus.query("increase(fal_spend_usd_total[6m])", BIRTH + timedelta(minutes=1))
    assert seam == {"flux": 0, "veo": 0, "past": 0}
    last = prometheus.query("fal_spend_usd_total", BIRTH - timedelta(minutes=5))
    assert last == pytest.approx(total(life.known_at_birth, lambda _: True), rel=1e-12)


@pytest.mark.parametrize("days", [1, 2, 3])
def test_increase_over_a_day_of_history_equals_the_day(prometheus: Prometheus, life: Life, days: int) -> None:
    end = START + timedelta(days=days, hours=4)
    found = prometheus.query("increase(fal_spend_usd_total[1d])", end)
    assert found == pytest.approx(total(life.truth, lambda hour: end - timedelta(days=1) <= hour < end), rel=1e-9)


def test_every_instant_of_the_history_has_its_gauges(prometheus: Prometheus, life: Life) -> None:
    for minutes in range(7 * 60, 6000, 437):
        at = START + timedelta(days=1, minutes=minutes)
        now, local = hour_of(at), hour_of(at).astimezone(BERLIN)
        for expression, belongs in {
            "fal_spend_last_hour_usd": lambda hour, now=now: hour == now - HOUR,
            "fal_spend_today_usd": lambda hour, now=now, local=local: (
                hour < now and hour.astimezone(BERLIN).date() == local.date()
            ),
            "fal_spend_last_day_usd": lambda hour, now=now: now - 24 * HOUR < hour < now,
        }.items():
            found = prometheus.query(expression, at)
            truth = total(life.truth, belongs)
            assert {item: value for item, value in found.items() if value} == pytest.approx(truth), (expression, at)


def test_the_month_to_date_begins_with_the_local_month_and_never_with_part_of_one(
    prometheus: Prometheus, life: Life
) -> None:
    assert prometheus.query("fal_spend_month_to_date_usd", datetime(2026, 10, 30, tzinfo=UTC)) == {}
    first = datetime(2026, 10, 31, 23, tzinfo=UTC)
    assert set(prometheus.query("fal_spend_month_to_date_usd", first).values()) == {0.0}
    at = datetime(2026, 11, 3, 9, 17, tzinfo=UTC)
    found = prometheus.query("fal_spend_month_to_date_usd", at)
    assert found == pytest.approx(total(life.truth, lambda hour: first <= hour < hour_of(at)))
    assert not any(map(math.isnan, found.values()))


@pytest.mark.long
def test_victoriametrics_takes_the_file_as_it_is(
    life: Life, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        program("victoria-metrics", NEWER_RULERS),
        f"-storageDataPath={tmp_path / 'data'}",
        f"-httpListenAddr={url.removeprefix('http://')}",
        "-retentionPeriod=100y",
    ]
    with running(command, url, "/health", tmp_path):
        for file in (life.history, life.live):
            HTTP.post(f"{url}/api/v1/import/prometheus", content=file.read_bytes(), timeout=60).raise_for_status()
        HTTP.get(f"{url}/internal/force_flush", timeout=20)
        store = Prometheus(url)
        assert store.query("increase(fal_spend_usd_total[8d])", life.end) == pytest.approx(
            total(life.truth, lambda _: True), rel=1e-9
        )
        for day in (1, 2, 3):
            end = START + timedelta(days=day, hours=4)
            found = store.query("increase(fal_spend_usd_total[1d])", end)
            known = total(life.truth, lambda hour, end=end: end - timedelta(days=1) <= hour < end)
            assert found == pytest.approx(known, rel=1e-9)
        at = datetime(2026, 11, 3, 9, 17, tzinfo=UTC)
        last_hour = total(life.truth, lambda hour: hour == hour_of(at) - HOUR)
        found = store.query("fal_spend_last_hour_usd", at)
        assert {model: value for model, value in found.items() if value} == pytest.approx(last_hour)


@pytest.mark.long
def test_blocks_of_six_hours_are_such_as_mimir_takes(
    life: Life, program: Callable[[str, str], str], tmp_path: Path
) -> None:
    """Mimir itself was not at hand: these are the checks of its block upload that can be made of a block alone.

    promtool makes blocks of 2, 6, 18 or 54 hours, whatever it is asked for: of 24 it makes 18, which cross midnight.
    """
    day = 86_400_000
    create = ("tsdb", "create-blocks-from", "--max-block-duration=6h", "openmetrics", "--quiet")
    subprocess.run(
        [program("promtool", "prometheus"), *create, str(life.history), str(tmp_path)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    blocks = [json.loads(file.read_text()) for file in tmp_path.glob("*/meta.json")]
    assert len(blocks) == 24, "of each UTC day up to four"
    for block in blocks:
        assert block["version"] == 1
        assert 0 <= block["minTime"] < block["maxTime"] <= BIRTH.timestamp() * 1000
        assert block["minTime"] // day == (block["maxTime"] - 1) // day, "it does not cross midnight"
        assert "thanos" not in block, "there are no external labels"
    assert f"{sum(block['stats']['numSamples'] for block in blocks):,} samples" in life.output
