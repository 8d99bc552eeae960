"""The collector compares bookings with charged requests in a process of its own, and shows the outcome."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
from booked.conftest import READ_AT
from booked.conftest import events_url as events_url  # noqa: PLC0414  a fixture
from prometheus_client import CollectorRegistry

from exporter.booked import process as booked_process
from exporter.booked.comparison import default_window
from exporter.booked.process import BookedOrder, Outcome
from exporter.booked.sources import BookingsError
from exporter.charges import NANO
from exporter.metrics import jobs as shown
from exporter.metrics.health import Health
from exporter.metrics.jobs import BookedMetrics
from exporter.overview import Bookings
from exporter.polling import booked
from exporter.polling.booked import BookedComparer, BookedError

BOOKINGS = """\
id,usd,time
r-1,0.000001
r-2,0.000003
r-3,0.000003
r-3,0.000003
r-5,0.000005
r-6,0.000006
none,0.000007,2026-11-27T13:30:00Z
"""
"""r-2 at a micro-dollar more than charged, r-3 twice, r-4 not, and one that was never charged."""


class Bench:
    """A comparer of a file with the store of a few requests."""

    def __init__(self, folder: Path, events_url: str) -> None:
        self.file = folder / "bookings.csv"
        self.file.write_text(BOOKINGS)
        self.registry = CollectorRegistry()
        self.metrics = BookedMetrics(self.registry)
        self.health = Health(CollectorRegistry())
        self.changes = 0
        order = BookedOrder(str(self.file), events_url, "id", "usd")
        self.comparer = BookedComparer(
            order=order.written,
            metrics=self.metrics,
            health=self.health,
            changed=self._changed,
            clock=lambda: READ_AT,
        )

    def _changed(self) -> None:
        self.changes += 1

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"fal_booked_{name}", labels)


@pytest.fixture
def bench(tmp_path: Path, events_url: str) -> Bench:
    return Bench(tmp_path, events_url)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do the work of the process in this one."""

    class Done:
        def __init__(self, order: bytes) -> None:
            self._output = BytesIO()
            booked_process.work(order, self._output)
            self._output.seek(0)

        async def head(self) -> bytes:
            return self._output.readline()

        async def body(self, most: int) -> bytes:
            return self._output.read(most)

    @asynccontextmanager
    async def worker(module: str, order: bytes) -> AsyncIterator[Done]:
        assert module == booked_process.__name__
        yield Done(order)

    monkeypatch.setattr(booked, "worker", worker)


async def test_a_process_compares_and_the_outcome_is_shown(bench: Bench) -> None:
    assert bench.value("up") is None
    await bench.comparer.compare()
    assert bench.value("up") == 1
    assert bench.value("usd") == pytest.approx(28e-6)
    assert bench.value("charged_usd") == pytest.approx(21e-6)
    found = {
        name: bench.value("finding_usd", finding=name)
        for name in ("never_booked", "booked_twice", "never_charged", "differing")
    }
    assert found == {"never_booked": -4e-6, "booked_twice": 3e-6, "never_charged": 7e-6, "differing": 1e-6}
    assert bench.value("finding_requests", finding="booked_twice") == 1
    assert bench.value("difference_usd", model="not charged") == 7e-6
    assert bench.value("unread") == len(default_window(READ_AT)) - 1
    assert bench.value("window_end_timestamp_seconds") == READ_AT.timestamp()
    # Too little and too much are added up: 4 + 3 + 7 + 1.
    assert bench.health.bookings == Bookings(15_000, 21_000, READ_AT, too_high=11_000)


@pytest.mark.usefixtures("at_once")
async def test_a_comparison_that_fails_leaves_the_figures_and_says_why(bench: Bench) -> None:
    await bench.comparer.compare()
    bench.file.unlink()
    with pytest.raises(BookedError, match=r"BOOKED_SOURCE: there is no file .*bookings\.csv"):
        await bench.comparer.compare()
    assert (bench.value("up"), bench.changes) == (0, 2)
    assert bench.health.bookings is not None
    assert (bench.health.bookings.off, "there is no file" in bench.health.bookings.problem) == (15_000, True)
    assert bench.value("usd") == pytest.approx(28e-6)


async def test_a_process_that_ends_without_a_word_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(booked, "_MODULE", "exporter.no_such_module")
    with pytest.raises(BookedError, match="the process that compares bookings has failed"):
        await bench.comparer.compare()
    assert bench.value("up") == 0


def test_without_any_request_read_nothing_is_called_never_charged(bench: Bench, tmp_path: Path) -> None:
    output = BytesIO()
    booked_process.work(
        BookedOrder(str(bench.file), f"file://{tmp_path / 'empty'}", "id", "usd").written(READ_AT), output
    )
    assert b"has none yet" in output.getvalue()
    assert output.getvalue().count(b"\n") == 1, "there is no outcome"


@pytest.mark.parametrize("password", ["s3cret", "e", "p%40ss%2Fword"])
def test_a_password_is_not_told(events_url: str, password: str) -> None:
    output = BytesIO()
    order = BookedOrder(f"ftp://reader:{password}@db/bookings", events_url)
    booked_process.work(order.written(READ_AT), output)
    assert b"there is no file ftp://reader:[redacted]@db/bookings" in output.getvalue()


def test_a_password_that_a_library_shows_as_it_is_is_not_told(events_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BookingsError("reader cannot log in with p@ss/word")

    monkeypatch.setattr(booked_process, "compare", refuse)
    output = BytesIO()
    booked_process.work(BookedOrder("postgresql://reader:p%40ss%2Fword@db/spend", events_url).written(READ_AT), output)
    assert b"reader cannot log in with [redacted]" in output.getvalue()


def test_of_too_many_models_the_smallest_differences_are_folded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "MOST_MODELS", 2)
    differences = {"a": NANO, "b": -5 * NANO, "c": 2 * NANO, "d": -NANO // 2}
    bench.metrics.succeeded(Outcome(READ_AT, 0, 0, differences))
    values = {name: bench.value("difference_usd", model=name) for name in ("a", "b", "c", "__other__")}
    assert values == {"a": None, "b": -5, "c": 2, "__other__": 0.5}
