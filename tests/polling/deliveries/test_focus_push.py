"""The collector pushes what is due, in a process of its own, and tells how it went."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest
from app.focus.test_upload import StandIn
from app.focus.test_upload import stand_in as stand_in  # noqa: PLC0414  a fixture
from prometheus_client import CollectorRegistry

from exporter.charges import NANO, Amounts, Charge, Dimensions, Window
from exporter.ledger import Ledger, Rules
from exporter.metrics.health import Health
from exporter.metrics.jobs import FocusPushMetrics
from exporter.polling.deliveries import focus_push
from exporter.polling.deliveries.focus_push import FocusPusher, PushError
from exporter.queries.focus import cost_services, push_process
from exporter.queries.focus.push_process import STORE

NOW = datetime(2026, 11, 3, 12, 30, tzinfo=UTC)
FLUX = Dimensions("main", product="model_apis", model="fal-ai/flux", unit="image")


class Bench:
    """A pusher with a ledger of November, whose destination may be spoiled."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.destination = folder / "focus"
        self.registry = CollectorRegistry()
        self.health = Health(self.registry)
        self.changes = 0
        address = f"sqlite:///{folder / 'ledger.sqlite'}"
        ledger = Ledger(address, rules=Rules(), clock=lambda: NOW)
        ledger.activate({"main": ("models",)})
        window = Window(NOW.replace(day=1, hour=0, minute=0), NOW.replace(minute=0))
        charges = [Charge(hour, FLUX, Amounts(NANO, 0, NANO, 0, NANO)) for hour in window.hours()]
        ledger.restate("main", "models", window, charges, at=NOW)
        ledger.close()
        self.metrics = FocusPushMetrics(self.registry)
        self.address = address
        self.pusher = self.to(STORE)

    def to(self, destination: str) -> FocusPusher:
        return FocusPusher(
            destination,
            address=self.address,
            url=self.destination.as_uri(),
            output_format="csv.gz",
            version="1.3",
            interval=timedelta(hours=6),
            metrics=self.metrics,
            health=self.health,
            changed=self._changed,
            clock=lambda: self.now,
        )

    def _changed(self) -> None:
        self.changes += 1

    def value(self, name: str, destination: str = STORE) -> float | None:
        return self.registry.get_sample_value(f"fal_focus_push_{name}", {"destination": destination})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work of the process in this one, which takes a tenth of the time."""

    class Done:
        def __init__(self, order: bytes) -> None:
            self._order = order

        async def head(self) -> bytes:
            output = BytesIO()
            push_process._work(self._order, output)
            return output.getvalue()

    @asynccontextmanager
    async def worker(module: str, order: bytes) -> AsyncIterator[Done]:
        assert module == push_process.__name__
        yield Done(order)

    monkeypatch.setattr(focus_push, "worker", worker)


async def test_a_push_in_a_process_writes_the_files_of_the_ledger(bench: Bench) -> None:
    await bench.pusher.push()
    assert (bench.destination / "BillingPeriod=2026-11" / "focus.csv.gz").exists()
    assert bench.value("rows") == 60


@pytest.mark.usefixtures("at_once")
async def test_a_push_writes_the_files_and_is_due_again_after_its_interval(bench: Bench) -> None:
    assert bench.value("up") is None
    assert bench.value("failures_total") == 0
    await bench.pusher.push_if_due()
    assert (bench.destination / "BillingPeriod=2026-11" / "focus.csv.gz").exists()
    told = [bench.value(name) for name in ("up", "rows", "written_months_total", "last_success_timestamp_seconds")]
    assert told == [1, 60, 1, NOW.timestamp()]
    bench.now += timedelta(hours=1)
    await bench.pusher.push_if_due()
    assert bench.value("last_success_timestamp_seconds") == NOW.timestamp(), "not due"
    bench.now = NOW + timedelta(hours=6)
    await bench.pusher.push_if_due()
    assert bench.value("last_success_timestamp_seconds") == bench.now.timestamp()
    assert bench.value("written_months_total") == 1, "nothing has changed"
    assert bench.changes == 2


@pytest.mark.usefixtures("at_once")
async def test_a_push_that_fails_is_told_and_tried_again_at_the_next_look(bench: Bench) -> None:
    bench.destination.write_bytes(b"")
    for failures in (1, 2):
        with pytest.raises(PushError, match=r"the destination of FOCUS files at .* cannot be read or written"):
            await bench.pusher.push_if_due()
        assert (bench.value("up"), bench.value("failures_total")) == (0, failures)
    assert "cannot be read or written" in bench.health.focus_push_problems[STORE]
    bench.destination.unlink()
    await bench.pusher.push_if_due()
    assert (bench.value("up"), bench.health.focus_push_problems) == (1, {})


@pytest.mark.usefixtures("at_once")
async def test_a_cost_service_is_a_destination_of_its_own(
    bench: Bench, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VANTAGE_INTEGRATION_TOKEN", "accss_1")
    monkeypatch.setattr(cost_services, "VANTAGE_URL", stand_in.url)
    pusher = bench.to("vantage")
    assert bench.value("failures_total", "vantage") == 0
    for _ in range(2):
        await pusher.push()
    assert [*stand_in.files.values()] == [60]
    assert (bench.value("rows", "vantage"), bench.value("written_months_total", "vantage")) == (3, 1)
    monkeypatch.delenv("VANTAGE_API_TOKEN")
    with pytest.raises(PushError, match="VANTAGE_API_TOKEN is not set"):
        await pusher.push()
    assert (bench.value("up", "vantage"), bench.value("up")) == (0, None)


async def test_a_process_that_ends_without_a_word_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(focus_push, "_MODULE", "exporter.no_such_module")
    with pytest.raises(PushError, match="the process that pushes FOCUS files has failed"):
        await bench.pusher.push()
    assert bench.value("up") == 0
