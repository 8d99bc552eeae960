import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, opened_bench, until
from polling.conftest import Clock as BenchClock
from prometheus_client.parser import text_string_to_metric_families
from structlog.typing import EventDict

from exporter.charges import Clock, utc_now
from exporter.errors import LedgerError
from exporter.ledger import Ledger, LedgerInUseError
from exporter.metrics.encoding import Encoder
from exporter.polling.forecasts import ForecastMaker
from exporter.polling.publisher import Breakdown, Publisher
from exporter.publication import LedgerOverview, Publication
from exporter.simulator import API_KEY, Fault, RunningSimulator


class Published:
    """A publisher of a bench, and what it has emitted."""

    def __init__(self, bench: Bench, clock: Clock = utc_now) -> None:
        self.all: list[Publication] = []
        self.publisher = Publisher(
            ledger=bench.ledger,
            accounts=[bench.account],
            health=bench.health,
            reach=bench.reach,
            emit=self.all.append,
            outlooks=ForecastMaker(budgets=(), reach=bench.reach, by_product=True),
            clock=clock,
        )

    async def __call__(self) -> Publication:
        await self.publisher.publish()
        return self.all[-1]


def sample(publication: Publication, name: str, **labels: str) -> float | None:
    text = b"".join(piece.plain for piece in publication.exposition.text.pieces).decode()
    for family in text_string_to_metric_families(text):
        for found in family.samples:
            if found.name == name and labels.items() <= found.labels.items():
                return found.value
    return None


async def test_ready_once_the_month_is_loaded_of_every_source(bench: Bench, fal: RunningSimulator) -> None:
    bench.reach = replace(REACH, history=timedelta(days=3))
    publish = Published(bench)
    assert not (await publish()).ready
    await bench.account.poll_current()
    assert not (await publish()).ready
    fal.simulator.faults.add(Fault("hang", path="/v1/serverless/usage"))
    loading = asyncio.create_task(bench.account.load_history())
    models = bench.account.polled[0]
    polls = "fal_exporter_polls_total"
    await until(lambda: bench.number(polls, account=models.account, source=models.name) == 4)
    assert not (await publish()).ready
    loading.cancel()
    fal.simulator.faults.clear()
    assert await bench.account.load_history()
    assert (await publish()).ready


async def test_a_history_shorter_than_the_month_does_not_keep_it_from_being_ready(
    bench: Bench, clock: BenchClock
) -> None:
    assert clock.now.day > 3
    await bench.account.load_history()
    assert (await Published(bench)()).ready


async def test_a_month_that_nothing_is_known_of_is_not_loaded(bench: Bench, clock: BenchClock) -> None:
    await bench.account.load_history()
    clock.forward(days=12)
    publish = Published(bench)
    assert not (await publish()).ready
    await bench.account.poll_current()
    assert (await publish()).ready


async def test_a_source_that_fails_does_not_keep_the_rest_from_being_ready(bench: Bench, fal: RunningSimulator) -> None:
    fal.simulator.faults.add(Fault("server_error", path="/v1/serverless/usage"))
    await bench.account.load_history()
    assert (await Published(bench)()).ready


async def test_not_ready_while_nothing_can_be_read(bench: Bench, fal: RunningSimulator) -> None:
    fal.simulator.faults.add(Fault("server_error"))
    await bench.account.load_history()
    assert not (await Published(bench)()).ready


async def test_of_a_key_that_may_not_read_usage_the_balance_is_enough(
    fal: RunningSimulator, clock: BenchClock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        publish = Published(bench)
        await bench.account.choose_sources()
        assert not (await publish()).ready
        await bench.account.poll_balance()
        publication = await publish()
        assert publication.ready
        assert sample(publication, "fal_credit_balance_usd", account="main") is not None


async def test_while_the_ledger_is_in_trouble_its_figures_stay_and_the_health_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: BenchClock, logs: list[EventDict]
) -> None:
    def broken(_: Ledger) -> None:
        raise LedgerError("the disk is full")

    await bench.account.poll_current()
    publish = Published(bench)
    before = await publish()
    clock.forward(minutes=5)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "view", broken)
        patched.setattr(Ledger, "scopes", broken)
        await bench.account.poll_current()
        during = [await publish() for _ in range(2)][-1]
    spend = "fal_spend_last_hour_usd"
    assert sample(during, spend) == sample(before, spend) is not None
    assert during.at == before.at
    assert sample(during, "fal_source_up", source="models") == 0
    assert sample(during, "fal_exporter_poll_failures_total", source="models", reason="ledger") == 1
    assert sample(during, "fal_exporter_ledger_up") == 0
    assert [entry["problem"] for entry in logs if entry["log_level"] == "error"] == ["the disk is full"]
    assert (await publish()).at == clock.now


async def test_a_ledger_that_is_lost_is_told_in_metrics_and_page_until_it_is_back(
    bench: Bench, clock: BenchClock, tmp_path: Path
) -> None:
    await bench.account.poll_current()
    publish = Published(bench, clock)
    before = await publish()
    assert sample(before, "fal_exporter_ledger_up") == 1
    assert before.overview.ledger == LedgerOverview()
    file = tmp_path / "ledger.sqlite"
    (tmp_path / "notes").write_bytes(b"these are my holiday notes\n" * 100)
    (tmp_path / "notes").replace(file)
    clock.forward(minutes=5)
    await bench.account.poll_current()
    lost = await publish()
    assert sample(lost, "fal_exporter_ledger_up") == 0
    assert "has been replaced by another file" in lost.overview.ledger.problem
    assert lost.at == before.at
    assert sample(lost, "fal_exporter_poll_failures_total", source="models", reason="ledger") == 1
    file.unlink()
    await bench.account.poll_current()
    after = await publish()
    assert sample(after, "fal_exporter_ledger_up") == 1
    assert not after.overview.ledger.problem
    assert [
        words for words in ("was replaced", "had been deleted") for it in after.overview.ledger.events if words in it
    ] == ["was replaced", "had been deleted"]
    assert after.at == clock.now


async def test_an_exporter_whose_ledger_was_taken_over_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(_: Ledger) -> None:
        raise LedgerInUseError("another exporter has taken over")

    await bench.account.poll_current()
    publish = Published(bench)
    await publish()
    monkeypatch.setattr(Ledger, "view", taken)
    with pytest.raises(LedgerInUseError):
        await publish.publisher.run()


@pytest.mark.parametrize(
    ("part", "owner", "method"),
    [
        ("forecasts", ForecastMaker, "make"),
        ("days", Breakdown, "daily"),
        ("rankings", Breakdown, "rankings"),
        ("metrics", Encoder, "encode"),
    ],
)
async def test_a_part_that_fails_keeps_its_last_value_and_stops_nothing_else(
    *,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
    clock: BenchClock,
    logs: list[EventDict],
    part: str,
    owner: type,
    method: str,
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a fault of ours")

    await bench.account.load_history()
    publish = Published(bench, clock)
    before = await publish()
    made = bench.number("fal_exporter_publication_part_timestamp_seconds", part=part)
    assert made == clock.now.timestamp()
    clock.forward(minutes=5)
    with monkeypatch.context() as patched:
        patched.setattr(owner, method, broken)
        await bench.account.poll_current()
        during = [await publish() for _ in range(2)][-1]
    assert bench.number("fal_exporter_publication_failures_total", part=part) == 2
    assert bench.number("fal_exporter_publication_part_timestamp_seconds", part=part) == made
    assert [entry["part"] for entry in logs if entry["log_level"] == "error"] == [part], "once, however often it fails"
    assert during.at == clock.now, "the ledger's figures go on"
    assert (during.exposition is before.exposition) == (part == "metrics")
    assert (during.overview.rankings, during.overview.accounts) != ((), ())
    if part == "forecasts":
        assert during.outlook == before.outlook
    if part != "metrics":
        (note,) = during.overview.notes
        assert note.startswith(f"The {part} are as of 2026-11-21 14:37 UTC")
    if part == "forecasts":
        assert sample(during, "fal_exporter_publication_failures_total", part=part) == 2, "made before the metrics"
    after = await publish()
    assert after.overview.notes == ()
    assert bench.number("fal_exporter_publication_part_timestamp_seconds", part=part) == clock.now.timestamp()


async def test_nothing_is_published_before_the_ledger_has_shown_anything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Ledger) -> None:
        raise LedgerError("the disk is full")

    published = Published(bench)
    monkeypatch.setattr(Ledger, "view", broken)
    await published.publisher.publish()
    assert published.all == []


async def test_it_publishes_soon_after_a_change_and_until_cancelled(bench: Bench) -> None:
    published = Published(bench)
    running = asyncio.create_task(published.publisher.run())

    await until(lambda: len(published.all) == 1)
    published.publisher.changed()
    began = asyncio.get_running_loop().time()
    await until(lambda: len(published.all) == 2)
    assert asyncio.get_running_loop().time() - began < 4  # without a change it is every five seconds
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_being_cancelled_at_the_moment_of_a_change_ends_it_all_the_same(bench: Bench) -> None:
    published = Published(bench)
    running = asyncio.create_task(published.publisher.run())
    await until(lambda: bool(published.publisher._changed._waiters))
    published.publisher.changed()
    running.cancel()
    await asyncio.wait((running,), timeout=10)
    assert running.cancelled()
