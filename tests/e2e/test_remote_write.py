"""Sixty days with late data, sent by remote write into real stores: every day is what the statement says.

The last two days are read every day; charges come up to two days late, and what has been sent is corrected inside the
hour that it is of. Corrections go to the same instants in every store.
"""

import asyncio
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from e2e.processes import Fal, exporter_of, free_port, running, wait_until
from local_http import HTTP
from polling.deliveries.test_otlp import Receiver as OtlpReceiver
from polling.deliveries.test_otlp import otlp_receiver as otlp_receiver  # noqa: PLC0414  a fixture
from polling.remote_store import remote_store
from programs import NEWER_RULERS
from prometheus_client import CollectorRegistry

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.ledger import Ledger, Rules
from exporter.metrics.health import Health
from exporter.metrics.jobs import RemoteWriteMetrics
from exporter.metrics.remote_write import V1, V2, Protocol
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.deliveries.remote_write import RemoteWriter, Store
from exporter.simulator import GlitchedJob, PlantedSpend

START = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = 60
MODELS = {name: Dimensions("studio", product="model_apis", model=name, unit="image") for name in ("flux", "veo", "new")}
REFUNDED = MODELS["flux"]._replace(account="refunds", model="refunded")
ACCOUNTS = ("studio", "refunds")
Truth = Counter[tuple[datetime, Dimensions]]


@dataclass(frozen=True)
class Receiver:
    """A store, and the version of the protocol that it is found to take."""

    url: str
    path: str
    protocol: Protocol = V2

    def daily(self, expression: str) -> dict[str, list[float]]:
        """Return the values at the end of each day, by model."""
        first, last = (START + timedelta(days=day) for day in (1, DAYS))
        window = {"start": str(first.timestamp()), "end": str(last.timestamp()), "step": "86400", "nocache": "1"}
        answer = HTTP.get(f"{self.url}/api/v1/query_range", params={"query": expression, **window}, timeout=20)
        rows = answer.raise_for_status().json()["data"]["result"]
        days = [int(first.timestamp()) + 86_400 * day for day in range(DAYS)]
        found = {row["metric"]["model"]: {int(at): float(value) for at, value in row["values"]} for row in rows}
        return {model: [values.get(day, 0.0) for day in days] for model, values in found.items()}

    def at(self, instant: datetime, expression: str) -> dict[str, float]:
        """Return the values at an instant, by model."""
        asked = {"query": expression, "time": str(instant.timestamp())}
        answer = HTTP.get(f"{self.url}/api/v1/query", params=asked, timeout=20)
        return {
            row["metric"]["model"]: float(row["value"][1]) for row in answer.raise_for_status().json()["data"]["result"]
        }


def prometheus(name: str, folder: Path, port: int) -> list[str]:
    return [
        name,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
    ]


@pytest.fixture(params=["prometheus", "prometheus3", "victoria-metrics"])
def receiver(request: pytest.FixtureRequest, program: Callable[[str, str], str], tmp_path: Path) -> Iterator[Receiver]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    if request.param == "victoria-metrics":
        command = [
            program("victoria-metrics", NEWER_RULERS),
            f"-storageDataPath={tmp_path / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=100y",
            "-dedup.minScrapeInterval=1ms",
            "-search.latencyOffset=0s",
        ]
        with running(command, url, "/health", tmp_path):
            yield Receiver(url, "/api/v1/write", V1)
        return
    name = request.param
    (tmp_path / "prometheus.yml").write_text("storage:\n  tsdb:\n    out_of_order_time_window: 62d\n")
    command = prometheus(program(name, "prometheus" if name == "prometheus" else NEWER_RULERS), tmp_path, port)
    with running(command, url, "/-/ready", tmp_path):
        yield Receiver(url, "/api/v1/write", V1 if name == "prometheus" else V2)


def charges(truth: Truth, account: str, window: Window) -> list[Charge]:
    return [
        Charge(hour, of, Amounts(cost, 0, cost + cost // 9, cost // 9, cost))
        for (hour, of), cost in truth.items()
        if of.account == account and hour in window and cost
    ]


async def live(receiver: Receiver, address: str, days: int = DAYS) -> tuple[Truth, float]:
    """Live through the days, and send what there is every day; the exporter is started anew every ten days."""
    choose = random.Random(7)  # noqa: S311  no secret
    truth: Truth = Counter()
    now = START
    ledger = AsyncLedger()
    registry = CollectorRegistry()
    metrics, health = RemoteWriteMetrics(registry), Health(registry)

    async def begun() -> RemoteWriter:
        await ledger.open(lambda: Ledger(address, rules=Rules(), clock=lambda: now))
        await ledger.activate({account: ["models"] for account in ACCOUNTS})
        store = Store(receiver.url + receiver.path, timedelta(days=31))
        return RemoteWriter(
            store, ledger=ledger, metrics=metrics, health=health, changed=lambda: None, clock=lambda: now
        )

    writer = await begun()
    for turn in range(1, days + 3):
        now = START + turn * 24 * HOUR + timedelta(minutes=5)
        for model, of in MODELS.items():
            for hour in Window(now - timedelta(minutes=5) - 24 * HOUR, hour_of(now)).hours():
                if (model != "new" or hour >= START + timedelta(days=10)) and choose.random() < 0.6:
                    truth[hour, of] += choose.randrange(1, 5 * NANO)
            late = hour_of(now) - choose.randrange(1, 40) * HOUR
            if START <= late < START + timedelta(days=days) and (model != "new" or turn > 20):
                truth[late, of] += choose.randrange(1, NANO)
        truth[hour_of(now) - 6 * HOUR, REFUNDED] += 3 * NANO
        truth[hour_of(now) - 30 * HOUR, REFUNDED] -= NANO if turn > 2 else 0
        window = Window(max(START, hour_of(now) - 48 * HOUR), hour_of(now) + HOUR)
        at = now

        def restate(ledger: Ledger, window: Window = window, at: datetime = at) -> None:
            for account in ACCOUNTS:
                ledger.restate(account, "models", window, charges(truth, account, window), at=at)

        await ledger.run(restate)
        await writer.write()
        if turn % 10 == 0:
            await writer.close()
            await ledger.close()
            ledger = AsyncLedger()
            writer = await begun()
    assert writer._protocol is receiver.protocol
    await writer.close()
    standing = await ledger.run(lambda ledger: ledger.remote.standing())
    await ledger.close()
    return truth, standing.waiting / NANO


@pytest.mark.long
def test_every_day_of_a_real_store_is_what_the_statement_says(receiver: Receiver, tmp_path: Path) -> None:
    truth, waiting = asyncio.run(live(receiver, f"sqlite:///{tmp_path / 'ledger.sqlite'}"))
    statement: dict[str, list[float]] = {}
    for of in (*MODELS.values(), REFUNDED):
        days = [Window(START + timedelta(days=day), START + timedelta(days=day + 1)) for day in range(DAYS)]
        statement[of.model] = [sum(truth[hour, of] for hour in day.hours()) / NANO for day in days]
    # VictoriaMetrics lets samples be searched when it has flushed them; Prometheus does not know the path.
    HTTP.get(f"{receiver.url}/internal/force_flush", timeout=20)
    gauges = receiver.daily("sum_over_time(fal_hourly_spend_usd[1d])")
    assert gauges == {model: pytest.approx(days, abs=1e-9) for model, days in statement.items()}
    counters = receiver.daily("increase(fal_spend_by_hour_usd_total[1d])")
    # A counter cannot give back what fal takes back of an hour that was sent: it waits for later days.
    refunded = counters.pop("refunded")
    assert statement.pop("refunded") == [3.0, *[2.0] * (DAYS - 1)]
    assert counters == {model: pytest.approx(days, abs=1e-9) for model, days in statement.items()}
    assert refunded == pytest.approx([*[3.0] * 3, *[2.0] * (DAYS - 3)], abs=1e-9)
    assert waiting == 1


@pytest.mark.long
def test_a_real_store_without_late_samples_has_every_total(program: Callable[[str, str], str], tmp_path: Path) -> None:
    """Prometheus takes nothing late unless it is told to: what it refuses is in later hours, and all of it is there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (tmp_path / "prometheus.yml").write_text("scrape_configs: []\n")
    with running(prometheus(program("prometheus3", NEWER_RULERS), tmp_path, port), url, "/-/ready", tmp_path):
        store = Receiver(url, "/api/v1/write")
        truth, _ = asyncio.run(live(store, f"sqlite:///{tmp_path / 'ledger.sqlite'}", days=25))
        for expression in ("sum_over_time(fal_hourly_spend_usd[70d])", "increase(fal_spend_by_hour_usd_total[70d])"):
            found = store.at(START + timedelta(days=27), expression)
            for model, of in MODELS.items():
                whole = sum(cost for (_, charged), cost in truth.items() if charged == of) / NANO
                assert found[model] == pytest.approx(whole, abs=1e-9)


@pytest.mark.long
def test_serve_sends_what_it_publishes_by_remote_write_and_otlp(
    fal: Fal, otlp_receiver: OtlpReceiver, tmp_path: Path
) -> None:
    with (
        remote_store() as store,
        exporter_of(fal, tmp_path, REMOTE_WRITE_URL=store.url, OTLP_URL=otlp_receiver.http) as exporter,
    ):
        exporter.start()
        wait_until(lambda: exporter.get("/-/ready"), "history is loaded")
        wait_until(lambda: otlp_receiver.requests, "metrics are sent by OTLP")
        wait_until(lambda: store.series, "samples are sent by remote write")
        expected = {"fal_remote_write_up": 1, "fal_remote_write_pending_requests": 0, "fal_otlp_up": 1}

        def is_shown() -> bool:
            seen = exporter.scrape()
            return {name: seen.get(name, {}).get(frozenset()) for name in expected} == expected

        wait_until(is_shown, "it is shown that all has arrived")
        assert exporter.stop() == 0
    assert sum(store.sums("fal_hourly_spend_usd").values()) > 0
    names = {
        metric.name
        for request in otlp_receiver.requests
        for metric in request.resource_metrics[0].scope_metrics[0].metrics
    }
    assert {"fal_spend_usd", "fal_data_through_timestamp_seconds", "fal_source_up"} <= names


@pytest.fixture(params=["prometheus3", "victoria-metrics"])
def otlp_store(
    request: pytest.FixtureRequest, program: Callable[[str, str], str], tmp_path: Path
) -> Iterator[Receiver]:
    """A store that takes OTLP; `path` is where."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    name = program(request.param, NEWER_RULERS)
    folder = tmp_path / "store"
    folder.mkdir()
    if request.param == "victoria-metrics":
        command = [
            name,
            f"-storageDataPath={folder / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-opentelemetry.usePrometheusNaming",
            "-search.latencyOffset=0s",
        ]
        with running(command, url, "/health", folder):
            yield Receiver(url, "/opentelemetry/v1/metrics")
        return
    if (
        "web.enable-otlp-receiver"
        not in subprocess.run([name, "--help"], check=True, capture_output=True, text=True).stdout
    ):
        pytest.skip("this Prometheus is built without its receiver of OTLP, as Debian's is")
    (folder / "prometheus.yml").write_text("scrape_configs: []\n")
    command = [*prometheus(name, folder, port), "--web.enable-otlp-receiver"]
    with running(command, url, "/-/ready", folder):
        yield Receiver(url, "/api/v1/otlp/v1/metrics")


def values(rows: list[dict[str, Any]], labels: tuple[str, str]) -> Counter[tuple[str, str]]:
    """Return nano-dollars by two labels."""
    found: Counter[tuple[str, str]] = Counter()
    for row in rows:
        one, other = (row["metric"].get(label, "") for label in labels)
        found[one, other] += round(float(row["value"][1]) * NANO)
    return found


@pytest.mark.long
def test_a_real_store_has_by_otlp_what_the_statement_says(fal: Fal, otlp_store: Receiver, tmp_path: Path) -> None:
    """Charges that fal states late are in the counters that a store has, and in its gauges, to the nano-dollar."""

    def asked(query: str) -> list[dict[str, Any]]:
        HTTP.get(f"{otlp_store.url}/internal/force_flush", timeout=20)
        answer = HTTP.get(f"{otlp_store.url}/api/v1/query", params={"query": query, "nocache": "1"}, timeout=20)
        rows: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["result"]
        return rows

    def in_store(name: str) -> Counter[tuple[str, str]]:
        return values(asked(name), ("gen_ai_request_model", "fal_app"))

    hour = hour_of(fal.now)
    with exporter_of(
        fal, tmp_path, OTLP_URL=otlp_store.url + otlp_store.path, OTLP_INTERVAL="10s", SOURCES="models,serverless"
    ) as exporter:
        exporter.start()
        wait_until(exporter.is_ready, "history is loaded")
        wait_until(lambda: in_store("fal_spend_usd_total"), "the store has counters")
        now = int(hour.timestamp()) // 3600
        line = GlitchedJob(model="fal-ai/planted").line
        fal.simulator.account.plant([PlantedSpend(now, line(7 * NANO)), PlantedSpend(now - 1, line(12 * NANO))])
        wait_until(
            lambda: in_store("fal_spend_usd_total")["fal-ai/planted", ""] == 19 * NANO, "both charges are in the store"
        )

        def is_as_stated() -> bool:
            now = hour_of(datetime.now(UTC))
            stated: Counter[tuple[str, str]] = Counter()
            for row in fal.truth(now - HOUR, now, "model", "app"):
                stated[row["model"], row["app"]] += round(Decimal(row["cost"]) * NANO)
            return bool(stated) and +in_store("fal_spend_last_hour_usd") == +stated

        wait_until(is_as_stated, "the last hour is that of the statement")
        assert exporter.stop() == 0
