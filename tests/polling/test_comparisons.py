"""This month beside the same part of the last one is what fal states of both."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth

from exporter.charges import HOUR, Window, hour_of
from exporter.forecasting.changes import MonthComparison
from exporter.overview import Overview
from exporter.polling.comparisons import ComparisonMaker
from exporter.polling.publisher import overview_of
from exporter.samples import Pages
from exporter.simulator import RunningSimulator

OCTOBER, NOVEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11))


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.now = datetime(2026, 11, 3, 9, 20, tzinfo=UTC)
    return clock


async def compared(bench: Bench, maker: ComparisonMaker) -> MonthComparison:
    view = await bench.view()
    return await bench.ledger.run(lambda ledger: maker.make(ledger, view))


def total(pages: Pages) -> int:
    return int(sum(sample.value for page in pages for sample in page.samples))


async def test_the_comparison_is_what_fal_states_of_as_many_hours(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        assert await compared(bench, maker) == MonthComparison()
        await bench.account.load_history()
        told = await compared(bench, maker)
        until = hour_of(clock.now)
        before, after = (truth(fal, start, start + (until - NOVEMBER) // HOUR * HOUR) for start in (OCTOBER, NOVEMBER))
        assert total(told.last_month) == before > 0
        assert total(told.changes) == sum(told.parts) == after - before != 0
        assert {sample.labels[0] for page in told.changes for sample in page.samples} == {"main"}

        assert await compared(bench, maker) is told
        clock.forward(hours=1)
        assert await compared(bench, maker) is told, "the next hour is not known before it is polled"
        await bench.account.poll_recent()
        later = await compared(bench, maker)
        assert total(later.last_month) == truth(fal, OCTOBER, OCTOBER + (until + HOUR - NOVEMBER) // HOUR * HOUR)


async def test_the_page_shows_the_same_part_of_the_last_month_what_changed_and_the_invoice(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        await bench.account.load_history()
        await bench.account.poll_invoices()
        told, comparison = await shown(bench, maker), await compared(bench, maker)
    (account,) = told.accounts
    assert account.last_month_to_date == total(comparison.last_month) > 0
    assert account.month_compared == account.last_month_to_date + sum(told.causes)
    # The hour that runs is in the month to date, and in nothing that is compared.
    assert account.month_to_date is not None
    assert account.month_compared == account.month_to_date - (account.current_hour or 0)
    assert account.bill is not None
    assert (account.bill.status, account.bill.difference) == ("open", 0)
    assert account.bill.total == truth(fal, OCTOBER, NOVEMBER)
    sizes = [abs(mover.change) for mover in told.movers]
    assert sizes == sorted(sizes, reverse=True)
    assert 0 < len(sizes) <= 6
    by_item: dict[tuple[str, ...], int] = {}
    for page in comparison.changes:
        for labels, amount, _ in page.samples:
            by_item[labels[:-1]] = by_item.get(labels[:-1], 0) + int(amount)
    assert sizes[0] == max(map(abs, by_item.values()))


async def shown(bench: Bench, maker: ComparisonMaker) -> Overview:
    view, comparison = await bench.view(), await compared(bench, maker)
    return overview_of(view, [bench.account], bench.reach, notes=(), links=(), comparison=comparison)


async def test_a_change_within_the_hour_shows_five_minutes_later(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        await bench.account.load_history()
        told = await compared(bench, maker)
        hour = hour_of(clock.now) - HOUR
        lost = truth(fal, hour, hour + HOUR, "models")
        taken_back = Window(hour, hour + HOUR)
        clock.forward(minutes=4)
        await bench.ledger.run(lambda ledger: ledger.restate("main", "models", taken_back, (), at=clock.now))
        assert await compared(bench, maker) is told
        clock.forward(minutes=1)
        again = await compared(bench, maker)
        assert total(again.changes) == total(told.changes) - lost
        assert lost > 0


async def test_without_all_of_the_last_month_there_is_no_comparison(bench: Bench, clock: Clock) -> None:
    maker = ComparisonMaker(clock)
    await bench.account.load_history()
    assert await compared(bench, maker) == MonthComparison()
