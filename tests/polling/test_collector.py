import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from polling.conftest import Bench, Clock, opened_bench, truth, until
from structlog.typing import EventDict

from exporter.charges import hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger, Rules
from exporter.polling.collector import Collector
from exporter.polling.forecasts import ForecastMaker
from exporter.polling.publisher import Publisher
from exporter.polling.scheduler import Intervals, Scheduler
from exporter.simulator import Fault, RunningSimulator

if TYPE_CHECKING:
    from exporter.publication import Publication

OFTEN = Intervals(timedelta(milliseconds=100), timedelta(milliseconds=100), timedelta(seconds=1), timedelta(seconds=1))


class Work:
    """A collector of one account, with all that it publishes."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self.published: list[Publication] = []
        publisher = Publisher(
            ledger=bench.ledger,
            accounts=[bench.account],
            health=bench.health,
            reach=bench.reach,
            emit=self.published.append,
            outlooks=ForecastMaker(budgets=(), reach=bench.reach, by_product=True),
        )
        bench.runner._changed = publisher.changed
        self.scheduler = Scheduler(intervals=OFTEN, health=bench.health)
        self.collector = Collector(
            ledger=bench.ledger,
            accounts=[bench.account],
            publisher=publisher,
            scheduler=self.scheduler,
            retention=timedelta(days=400),
            clock=clock,
        )

    @property
    def is_ready(self) -> bool:
        return bool(self.published) and self.published[-1].ready


@asynccontextmanager
async def at_work(bench: Bench, clock: Clock) -> AsyncIterator[Work]:
    work, stop = Work(bench, clock), asyncio.Event()
    running = asyncio.create_task(work.collector.run(stop))
    try:
        yield work
    finally:
        stop.set()
        await running


async def test_from_nothing_to_a_loaded_month_by_itself(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        async with at_work(bench, clock) as work:
            await until(lambda: work.is_ready)
            # The history is complete, so its job is gone; the others stay.
            await until(lambda: not work.scheduler.has("history", "main"))
            assert work.scheduler.has("current", "main")
        assert bench.account.sources == ("models", "serverless", "compute")
        start = hour_of(clock.now - timedelta(days=3))
        assert await bench.known_of_month() == truth(fal, start, clock.now)


@pytest.mark.long
async def test_after_a_loss_of_the_ledger_the_history_is_loaded_again_and_no_counter_falls(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path) as bench, at_work(bench, clock) as work:
        await until(lambda: work.is_ready)
        await until(lambda: not work.scheduler.has("history", "main"))
        before = await bench.view()
        counted = {sample.labels: sample.value for page in before.spend for sample in page.samples}
        known = await bench.known_of_month()
        (tmp_path / "ledger.sqlite").open("wb").close()
        await until(lambda: bool(work.published[-1].overview.ledger.events))
        assert known
        await until(lambda: [ranking.total for ranking in work.published[-1].overview.rankings[:1]] == [known])
        await until(lambda: not work.scheduler.has("history", "main"))
        after = await bench.view()
        now = {sample.labels: sample.value for page in after.spend for sample in page.samples}
        assert counted
        assert all(now[labels] >= value for labels, value in counted.items())


async def test_an_account_that_may_have_been_renamed_is_pointed_out(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", rules=Rules(), clock=clock)
    ledger.activate({"studio": ("models",)})
    ledger.close()
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench, at_work(bench, clock):
        await until(lambda: any("rename-account" in str(entry.get("advice")) for entry in logs))
    (notice,) = [entry for entry in logs if "rename-account" in str(entry.get("advice"))]
    assert (notice["gone"], notice["new"]) == ("studio", "main")
    assert "fal-exporter ledger rename-account studio main" in notice["advice"]


async def test_stopping_gives_up_a_poll_that_hangs(bench: Bench, fal: RunningSimulator, clock: Clock) -> None:
    fal.simulator.faults.add(Fault("hang"))
    async with asyncio.timeout(20), at_work(bench, clock):
        await until(lambda: fal.simulator.seen.total() > 0)


async def test_a_ledger_that_cannot_be_used_at_the_start_ends_it(
    bench: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(Ledger, "activate", broken)
    with pytest.raises(LedgerError, match="disk is full"):
        await Work(bench, clock).collector.run(asyncio.Event())


async def test_hours_older_than_the_retention_are_folded_and_the_figures_stay(bench: Bench, clock: Clock) -> None:
    await bench.account.load_history()
    work = Work(bench, clock)
    clock.forward(days=500)
    before = await bench.view()
    await work.collector._fold()
    after = await bench.view()
    assert after.charges < before.charges
    assert [page.samples for page in after.spend] == [page.samples for page in before.spend]
