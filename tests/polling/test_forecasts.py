"""Forecasts, from a simulated fal through a real ledger, by a clock that is moved by hand."""

import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth

from exporter.charges import HOUR, NANO, Balance, hour_of
from exporter.forecasting.budgets import BURN_WINDOWS, Budget, Period
from exporter.forecasting.state import BudgetOutlook, Outlook
from exporter.ledger import Ledger
from exporter.polling.forecasts import ForecastMaker
from exporter.simulator import API_KEY, Fault, RunningSimulator
from exporter.simulator.world.injected_charges import GlitchedJob, PlantedLateness, PlantedSpend

DAYS = 8
LONG = replace(REACH, history=timedelta(days=DAYS))
UTC_ZONE = ZoneInfo("UTC")


def budget(period: Period, name: str = "", limit: int = 100 * NANO, **match: tuple[str, ...]) -> Budget:
    return Budget(name or period, limit, period, UTC_ZONE, match)


BUDGETS = (budget("day"), budget("week"), budget("month"))


class Ahead:
    """A bench, and the outlooks that are made of it."""

    def __init__(self, bench: Bench, budgets: tuple[Budget, ...] = BUDGETS) -> None:
        self.bench = bench
        self.maker = ForecastMaker(budgets=budgets, reach=LONG, by_product=True)

    async def once(self) -> Outlook:
        return await self.bench.ledger.run(lambda ledger: self.maker.make(ledger, ledger.view(), [self.bench.account]))

    async def __call__(self) -> Outlook:
        outlook = await self.once()
        while self.maker.is_behind:
            outlook = await self.once()
        return outlook

    async def budgets(self) -> Mapping[str, BudgetOutlook]:
        return {item.budget: item for item in (await self()).budgets}


@asynccontextmanager
async def opened(fal: RunningSimulator, clock: Clock, folder: Path) -> AsyncIterator[Bench]:
    async with opened_bench(fal, clock, folder, reach=LONG) as bench:
        yield bench


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the loaded ledger: equal worlds tell equal stories, so that loading it once is enough."""
    return tmp_path_factory.mktemp("loaded")


@pytest.fixture
async def loaded(fal: RunningSimulator, clock: Clock, tmp_path: Path, shelf: Path) -> AsyncIterator[Bench]:
    kept = shelf / "ledger.sqlite"
    if not kept.exists():
        async with opened(fal, clock, tmp_path) as bench:
            await bench.account.load_history()
        shutil.copy(tmp_path / "ledger.sqlite", kept)
    shutil.copy(kept, tmp_path / "ledger.sqlite")
    async with opened(fal, clock, tmp_path) as bench:
        yield bench


def hours_of(clock: Clock, **ago: float) -> datetime:
    return hour_of(clock.now - timedelta(**ago))


async def test_a_budget_has_spent_to_the_nano_dollar_what_fal_says(loaded: Bench, fal: RunningSimulator) -> None:
    serverless = budget("week", "serverless", product=("serverless",))
    spent = await Ahead(loaded, (*BUDGETS, serverless)).budgets()
    for name in ("day", "week"):
        window = spent[name].window
        assert spent[name].spend == truth(fal, window.start, window.end)
    window = spent["week"].window
    assert spent["serverless"].spend == truth(fal, window.start, window.end, "serverless")


async def test_balance_and_lock_do_not_wait_for_hours_that_are_still_to_be_read(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    ahead = Ahead(loaded)
    (before,) = (await ahead.once()).accounts
    assert ahead.maker.is_behind
    assert (before.balance, before.locks) == (None, ())
    fal.simulator.faults.add(Fault("balance", amount=5 * NANO), Fault("locked", readable=True))
    await loaded.account.poll_balance()
    (after,) = (await ahead.once()).accounts
    assert ahead.maker.is_behind
    assert (after.balance, after.balance_at) == (5 * NANO, clock.now)
    assert after.locks == loaded.account.locks
    assert after.locks


async def test_what_is_not_loaded_is_not_told_and_nothing_ramps_up(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened(fal, clock, tmp_path) as bench:
        ahead, told = Ahead(bench), []
        restate = Ledger.restate

        def watched(ledger: Ledger, *parts: object, **more: object) -> object:
            told.append(ahead.maker.make(ledger, ledger.view(), [bench.account]))
            return restate(ledger, *parts, **more)  # type: ignore[arg-type]  # passed on as they came

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Ledger, "restate", watched)
            await bench.account.load_history()
        last = await ahead()
    assert len(told) > DAYS
    for name in ("day", "week"):
        final = next(item for item in last.budgets if item.budget == name)
        spends = {item.spend for outlook in told for item in outlook.budgets if item.budget == name}
        assert spends == {None, final.spend}
        assert {item.limit for outlook in told for item in outlook.budgets} == {100 * NANO}
    assert {item.forecast for outlook in told for item in outlook.budgets} == {None}
    assert {account.runway for outlook in told for account in outlook.accounts} == {None}
    assert not any(outlook.expected for outlook in told)
    assert last.budgets[0].forecast is not None
    assert last.expected


async def test_a_burn_is_absent_while_hours_of_it_have_not_been_read(loaded: Bench, clock: Clock) -> None:
    """It would be that of a quiet hour, and the alert on it would end, while fal cannot be reached."""
    ahead = Ahead(loaded)
    await loaded.account.poll_current()
    before = (await ahead.budgets())["day"]
    assert set(before.burn or {}) == {*BURN_WINDOWS}
    clock.forward(minutes=19)
    assert set((await ahead.budgets())["day"].burn or {}) == {*BURN_WINDOWS}, "a poll or two may fail"
    clock.forward(hours=5)
    behind = (await ahead.budgets())["day"]
    assert (behind.burn, behind.spend) == ({}, before.spend)
    await loaded.account.poll_recent()
    assert set((await ahead.budgets())["day"].burn or {}) == {*BURN_WINDOWS}


async def test_at_midnight_a_day_begins_anew_and_the_burn_goes_on(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    clock.now = datetime(2026, 11, 23, 23, 58, tzinfo=UTC)  # a Monday, so that the days are alike
    await loaded.account.poll_deep()
    ahead = Ahead(loaded)
    before = (await ahead.budgets())["day"]
    clock.now = datetime(2026, 11, 24, 0, 10, tzinfo=UTC)
    await loaded.account.poll_current()
    after = (await ahead.budgets())["day"]
    assert (before.window.end, after.window.start) == (clock.now.replace(minute=0),) * 2
    assert after.spend == truth(fal, after.window.start, after.window.end)
    assert before.spend is not None
    assert after.spend < before.spend / 10
    assert before.burn is not None
    assert after.burn is not None
    assert after.burn["6h"] == pytest.approx(before.burn["6h"], rel=0.2)
    assert before.forecast is not None
    assert after.forecast is not None
    assert after.forecast.expected == pytest.approx(before.forecast.expected, rel=0.2)


async def test_a_month_is_forecast_from_its_first_minute_by_the_one_before(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    clock.now = datetime(2026, 12, 1, 0, 0, 30, tzinfo=UTC)
    await loaded.account.poll_current()
    outlook = await Ahead(loaded)()
    (account,) = outlook.accounts
    assert account.month.start == clock.now.replace(second=0)
    assert account.forecast is not None
    assert account.spend is not None
    assert account.spend < account.forecast.low < account.forecast.expected
    clock.now = datetime(2027, 1, 3, 12, tzinfo=UTC)
    whole = truth(fal, datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert account.forecast.low < whole < account.forecast.high


async def test_late_charges_are_spent_in_the_hours_in_which_they_were_made(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    day_before = datetime(2026, 11, 20, 20, tzinfo=UTC)
    clock.now = datetime(2026, 11, 21, 14, 37, tzinfo=UTC)
    ahead = Ahead(loaded)
    before = await ahead.budgets()
    job = GlitchedJob().line(50 * NANO)
    number = int(day_before.timestamp()) // 3600
    fal.simulator.account.plant([PlantedSpend(number, job, visible_from=int(clock.now.timestamp() * 10**6))])
    clock.forward(minutes=1)
    await loaded.account.poll_recent()
    after = await ahead.budgets()

    def more(name: str) -> int:
        old, new = before[name].spend, after[name].spend
        assert old is not None
        assert new is not None
        return new - old

    assert more("day") < NANO
    assert 50 * NANO <= more("week") < 51 * NANO
    for window, is_in in (("1h", False), ("6h", False), ("1d", True)):
        old, new = (item["week"].burn for item in (before, after))
        assert old is not None
        assert new is not None
        assert (new[window] > old[window] + 1) is is_in


async def test_a_surge_is_unusual_and_quiet_days_are_not(loaded: Bench, fal: RunningSimulator, clock: Clock) -> None:
    ahead = Ahead(loaded)
    for _ in range(12):
        clock.forward(hours=1)
        await loaded.account.poll_current()
        for item in (await ahead()).expected:
            source = {"model_apis": "models"}.get(item.product, item.product)
            last = truth(fal, hours_of(clock, hours=1), hours_of(clock, hours=0), source)
            running = truth(fal, hours_of(clock, hours=0), hours_of(clock, hours=-1), source)
            assert last <= item.last_hour_high + NANO
            assert running <= item.current_hour_high + NANO
            assert 0 < item.last_hour < item.last_hour_high
    number = int(hour_of(clock.now).timestamp()) // 3600
    fal.simulator.account.plant([PlantedSpend(number, GlitchedJob().line(500 * NANO))])
    await loaded.account.poll_current()
    of_models = next(item for item in (await ahead()).expected if item.product == "model_apis")
    assert of_models.current_hour_high < 400 * NANO


async def test_the_runway_follows_what_usage_burns_and_shortens_at_once_in_a_surge(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    ahead = Ahead(loaded)
    spent = truth(fal, hours_of(clock, days=7), hours_of(clock, days=0))
    await balance(loaded, clock, 2 * spent)
    (calm,) = (await ahead()).accounts
    assert calm.runway is not None
    assert timedelta(days=11) < calm.runway <= timedelta(days=14.1)
    number = int(hour_of(clock.now).timestamp()) // 3600
    fal.simulator.account.plant([PlantedSpend(number, GlitchedJob().line(2000 * NANO))])
    await loaded.account.poll_current()
    (surge,) = (await ahead()).accounts
    assert surge.runway is not None
    assert surge.runway < timedelta(hours=2 * spent / (2000 * NANO))
    for amount in (0, -5 * NANO):
        clock.forward(seconds=1)
        await balance(loaded, clock, amount)
        assert (await ahead()).accounts[0].runway == timedelta(0)


async def test_the_runway_ends_at_the_credit_floor(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None, credit_floor=400 * NANO) as bench:
        ahead = Ahead(bench)
        for amount in (600, 580, 560):
            await balance(bench, clock, amount * NANO)
            clock.forward(hours=1)
        left = (await ahead()).accounts[0].runway
        assert left == pytest.approx(timedelta(hours=160 / 20), abs=timedelta(seconds=1))
        for amount in (400, 300):
            await balance(bench, clock, amount * NANO)
            clock.forward(minutes=1)
            assert (await ahead()).accounts[0].runway == timedelta(0)


async def balance(bench: Bench, clock: Clock, amount: int) -> None:
    stated = Balance("main", amount, clock.now)
    await bench.ledger.run(lambda ledger: ledger.record_balance(stated))


async def test_an_ordinary_key_has_balance_runway_and_lock(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        ahead = Ahead(bench)
        await bench.account.choose_sources()
        for _ in range(4):
            await bench.account.poll_balance()
            outlook = await ahead()
            clock.forward(minutes=25)
        (account,) = outlook.accounts
        assert account.balance is not None
        burnt = truth(fal, clock.now - timedelta(minutes=100), clock.now)
        assert account.runway is not None
        assert account.balance / (account.runway / HOUR) == pytest.approx(burnt / (100 / 60), rel=1)
        assert (account.spend, account.forecast) == (None, None)
        assert all(item.spend is None and item.burn == {} for item in outlook.budgets)
        fal.simulator.faults.add(Fault("locked"))
        await bench.account.poll_balance()
        locked = (await ahead()).accounts[0]
        assert (locked.locked, locked.credit_floor) == (("exhausted_balance",), 0)
        assert locked.locks[0].advice.startswith("the balance is exhausted; top up the balance at fal.ai")
        assert "The last balance before the lock was" in locked.locks[0].advice
        fal.simulator.faults.clear()
        await bench.account.poll_balance()
        assert (await ahead()).accounts[0].locked == ()


async def test_a_top_up_does_not_shorten_the_runway_of_an_ordinary_key(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        ahead = Ahead(bench)
        for amount in (100, 90, 590, 580):
            await balance(bench, clock, amount * NANO)
            outlook = await ahead()
            clock.forward(hours=1)
        assert outlook.accounts[0].runway == pytest.approx(timedelta(hours=580 / (20 / 3)), abs=timedelta(seconds=1))
        assert await Ahead(bench)() == replace(outlook, budgets=(await Ahead(bench)()).budgets)  # after a restart


async def test_a_restart_and_another_budget_change_nothing_about_what_was_spent(
    loaded: Bench, fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    before = await Ahead(loaded)()
    other = await Ahead(loaded, (budget("week", "other", limit=7 * NANO),)).budgets()
    assert other["other"].spend == next(item.spend for item in before.budgets if item.budget == "week")
    assert other["other"].limit == 7 * NANO
    async with opened(fal, clock, tmp_path) as again:
        assert await Ahead(again)() == before


async def test_a_lost_ledger_tells_the_same_once_it_has_been_loaded_again(
    loaded: Bench, fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    before = await Ahead(loaded)()
    new = tmp_path / "new"
    new.mkdir()
    async with opened(fal, clock, new) as bench:
        await bench.account.load_history()
        assert await Ahead(bench)() == before


async def test_a_source_that_has_never_been_read_does_not_silence_the_budgets(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    fal.simulator.faults.add(Fault("server_error", path="/v1/serverless/usage"))
    async with opened(fal, clock, tmp_path) as bench:
        await bench.account.load_history()
        window = (found := (await Ahead(bench).budgets())["week"]).window
        assert found.spend == truth(fal, window.start, window.end, "models")


async def test_hours_that_come_late_are_forecast_as_if_they_had_cost_what_is_usual(
    loaded: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    ahead = Ahead(loaded)
    clock.forward(hours=3)
    number = int(hour_of(clock.now).timestamp()) // 3600
    until = int((clock.now + timedelta(hours=15)).timestamp() * 10**6)
    fal.simulator.account.plant([PlantedLateness(number - back, until) for back in range(3)])
    for source in loaded.account.sources:
        fal.simulator.faults.add(Fault("server_error", path=f"/v1/{source}/usage"))
    await loaded.account.poll_current()
    late = (await ahead.budgets())["week"]
    fal.simulator.account.plant([])
    fal.simulator.faults.clear()
    await loaded.account.poll_current()
    whole = (await ahead.budgets())["week"]
    assert late.spend is not None
    assert whole.spend is not None
    assert late.spend < whole.spend
    assert late.forecast is not None
    assert whole.forecast is not None
    assert late.forecast.expected == pytest.approx(whole.forecast.expected, rel=0.1)
