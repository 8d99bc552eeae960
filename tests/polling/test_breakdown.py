"""What the landing page breaks down is what fal states of the same days and months."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth

from exporter.calendar import first_hour_of
from exporter.charges import HOUR, Window
from exporter.forecasting.forecast import HourlySpend
from exporter.ledger import LedgerView
from exporter.polling.forecasts import ForecastMaker, Topic
from exporter.polling.publisher import Breakdown
from exporter.publication import DailySpend
from exporter.samples import Sample, paged
from exporter.simulator import RunningSimulator

DAYS = 8


async def daily(bench: Bench, zone: ZoneInfo) -> DailySpend:
    maker = ForecastMaker(budgets=(), reach=bench.reach, by_product=True)
    view = await bench.view()
    await bench.ledger.run(lambda ledger: maker.make(ledger, view, [bench.account]))
    while maker.is_behind:
        await bench.ledger.run(lambda ledger: maker.make(ledger, view, [bench.account]))
    return Breakdown(zone).daily(view, maker.hours)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata"])
async def test_each_day_is_what_fal_states_of_its_hours(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, zone: str
) -> None:
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=DAYS))) as bench:
        await bench.account.load_history()
        told = await daily(bench, ZoneInfo(zone))
    assert len(told.days) == 14
    assert told.days[-1] == clock.now.astimezone(ZoneInfo(zone)).date()
    assert {name for name, _ in told.products} == {"model_apis", "serverless"}
    assert told.known_from is not None
    for place, day in enumerate(told.days):
        if day >= told.known_from:
            start = first_hour_of(day, ZoneInfo(zone))
            end = first_hour_of(day + timedelta(days=1), ZoneInfo(zone))
            assert sum(amounts[place] for _, amounts in told.products) == truth(fal, start, end)
    assert (told.days[-1] - told.known_from).days in {DAYS - 1, DAYS}


async def test_before_anything_is_loaded_no_day_is_known(bench: Bench) -> None:
    assert (await daily(bench, ZoneInfo("UTC"))).known_from is None


async def test_a_seventh_product_is_among_the_others(bench: Bench) -> None:
    view = await bench.view()
    day = Window(*(first_hour_of(view.at.date() + timedelta(days=more), ZoneInfo("UTC")) for more in (0, 1)))
    hours: HourlySpend[Topic] = HourlySpend(day)
    hours.set_hour(day.start, {Topic("product", "main", f"line {number}"): number for number in range(1, 9)})
    told = Breakdown(ZoneInfo("UTC")).daily(view, hours)
    assert [(name, amounts[-1]) for name, amounts in told.products[-2:]] == [("line 3", 3), ("other", 1 + 2)]


async def test_rankings_are_the_month_and_nothing_is_lost(fal: RunningSimulator, bench: Bench, clock: Clock) -> None:
    await bench.account.load_history()
    view = await bench.view()
    loaded = max(it.history_from for it in view.scopes if it.history_from is not None)
    assert loaded.month == clock.now.month
    for ranking in Breakdown(ZoneInfo("UTC")).rankings(view):
        amounts = [amount for _, amount in ranking.top]
        assert amounts == sorted(amounts, reverse=True)
        assert ranking.total == truth(fal, loaded, clock.now + HOUR)
    by_model = Breakdown(ZoneInfo("UTC")).rankings(view)[0]
    stated = truth(fal, loaded, clock.now + HOUR, "models")
    assert sum(dict(by_model.top).values()) + by_model.other == stated


async def test_a_ninth_model_is_counted_among_the_rest_and_a_new_month_is_seen(bench: Bench) -> None:
    breakdown, view = Breakdown(ZoneInfo("UTC")), await bench.view()

    def of(amounts: range) -> LedgerView:
        pages = paged(Sample(("main", f"model {amount}"), amount) for amount in amounts)
        return replace(view, labels=("account", "model"), known_of_month=pages)

    (ranking,) = breakdown.rankings(of(range(1, 11)))
    assert [amount for _, amount in ranking.top] == [10, 9, 8, 7, 6, 5, 4, 3]
    assert (ranking.others, ranking.other, ranking.total) == (2, 3, 55)
    (ranking,) = breakdown.rankings(of(range(1, 3)))
    assert (ranking.others, ranking.other, ranking.total) == (0, 0, 3)
