"""Runners, settings, requests and queues of a simulated fal, polled into a ledger beside what they are charged."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench
from structlog.typing import EventDict

from exporter.charges import HOUR, Window, hour_number, hour_of, nano
from exporter.forecasting.state import Outlook
from exporter.ledger.reader import LedgerReader
from exporter.ledger.tables.machines import MachineAccount
from exporter.machines import AppSettings, StateSum
from exporter.polling.machines import Mode
from exporter.polling.observations import Observer
from exporter.samples import Pages
from exporter.simulator import (
    ADMIN_KEY,
    Fault,
    RunningSimulator,
    World,
    WorldSize,
    running_simulator,
)

SHORT = replace(REACH, history=timedelta(hours=30))
APPS, HISTORY = "/v1/serverless/apps", "/v1/serverless/apps/*/runners/history"
REQUESTS = "/v1/serverless/analytics"


@pytest.fixture
async def fal(clock: Clock) -> AsyncIterator[RunningSimulator]:
    """A fal of two models and four apps."""
    world = World(7, size=WorldSize(models=2, callers=1, apps=4, compute=0, teams=1), invoiced_months=1)
    async with running_simulator(world, clock) as running:
        yield running


def calls(fal: RunningSimulator, pattern: str) -> int:
    return sum(count for path, count in fal.simulator.seen.items() if fnmatchcase(path, pattern))


class Opener:
    """Opens benches that are closed with the test."""

    def __init__(self, fal: RunningSimulator, clock: Clock, folder: Path, stack: AsyncExitStack) -> None:
        self._parts = (fal, clock, folder)
        self._stack = stack

    async def __call__(self, mode: Mode = "auto", key: str = ADMIN_KEY) -> Bench:
        made = opened_bench(*self._parts, reach=SHORT, machines=mode, key=key)
        bench = await self._stack.enter_async_context(made)
        await bench.account.load_history()
        return bench


@pytest.fixture
def opened(fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack) -> Opener:
    return Opener(fal, clock, tmp_path, stack)


def by_state(pages: Pages, *, named: bool = False) -> dict[str, int]:
    """Return sums over all apps, or over those that have a name."""
    sums: dict[str, int] = {}
    for page in pages:
        for sample in page.samples:
            if named and not sample.labels[1]:
                continue
            sums[sample.labels[-1]] = sums.get(sample.labels[-1], 0) + int(sample.value)
    return {state: amount for state, amount in sums.items() if amount}


def truth(fal: RunningSimulator, window: Window, name: str) -> int:
    """Return `cost` or `idle_cost` of all apps in a window by the simulator's own account, in nano-USD."""
    stated = fal.simulator.statement(
        start=window.start.isoformat(), end=window.end.isoformat(), source="serverless", idle="true"
    )
    return nano(Decimal(str(stated[name])))


def nameless(fal: RunningSimulator, window: Window) -> int:
    """Return what is charged for no app in a window, in nano-USD."""
    stated = fal.simulator.statement(
        start=window.start.isoformat(), end=window.end.isoformat(), source="serverless", group_by="app"
    )
    rows = stated["charges"]
    assert isinstance(rows, list)
    return sum(nano(Decimal(str(row["cost"]))) for row in rows if not row["app"])


def states_of(folder: Path, window: Window) -> tuple[StateSum, ...]:
    reader = LedgerReader(f"sqlite:///{folder / 'ledger.sqlite'}")
    with reader.snapshot() as snapshot:
        found = snapshot.state_sums(window)
    reader.close()
    return found


async def known(bench: Bench) -> MachineAccount:
    found = await bench.ledger.run(lambda ledger: ledger.machines.account("main"))
    assert found is not None
    return found


CENT = 10**7


async def test_idle_money_is_the_simulators_own_to_the_cent(
    fal: RunningSimulator, opened: Opener, clock: Clock, tmp_path: Path
) -> None:
    bench = await opened()
    await bench.account.poll_machines()
    last = Window(hour_of(clock.now) - 14 * HOUR, hour_of(clock.now))
    states = states_of(tmp_path, last)
    assert len({item.app for item in states if item.app}) == 4
    assert sum(item.cost.total for item in states) == truth(fal, last, "cost")
    assert abs(sum(item.cost.idle for item in states) - truth(fal, last, "idle_cost")) < CENT
    # What is charged for no app has no runners that could be asked for.
    assert {item.app for item in states if item.cost.unknown} == {""}


async def test_the_states_of_every_window_add_up_to_its_spend(opened: Opener) -> None:
    bench = await opened()
    await bench.account.poll_machines()
    view = await bench.view()
    for period, pages in (("today", view.today), ("last_day", view.last_day)):
        serverless = sum(
            int(sample.value) for page in pages for sample in page.samples if sample.labels[2] == "serverless"
        )
        assert sum(by_state(view.machines.spend_of[period]).values()) == serverless > 0


async def test_counters_grow_by_the_hours_that_are_over(fal: RunningSimulator, opened: Opener, clock: Clock) -> None:
    bench = await opened()
    await bench.account.poll_machines()
    first = hour_of(clock.now) + HOUR
    clock.forward(hours=3)
    await bench.account.poll_current()
    await bench.account.poll_machines()
    await bench.ledger.scraped((await bench.view()).sequence)
    counted = by_state((await bench.view()).machines.spend, named=True)
    window = Window(first, hour_of(clock.now))
    assert sum(counted.values()) == truth(fal, window, "cost") - nameless(fal, window) > 0
    assert abs(counted["idle"] - truth(fal, window, "idle_cost")) < CENT


async def test_settings_and_requests_are_read(opened: Opener) -> None:
    bench = await opened()
    await bench.account.poll_machines()
    figures = (await bench.view()).machines
    assert {item.app for item in figures.settings} == {item.app for item in figures.ceilings}
    assert all(item.keep_alive in {10, 60, 300, 600} for item in figures.settings)
    kinds = {item.product: item for item in figures.efficiency}
    assert set(kinds) == {"serverless", "model_apis"}
    assert all(item.succeeded and item.cost_per_success for item in figures.efficiency)


async def test_queues_are_shown_with_idle_runners_beside_them(
    fal: RunningSimulator, opened: Opener, clock: Clock
) -> None:
    bench = await opened()
    await bench.account.poll_queues()
    assert calls(fal, "*/queue") == 0
    await bench.account.poll_machines()
    sizes: dict[str, float] = {}
    settings = (await bench.view()).machines.settings
    for _ in range(12):
        await bench.account.poll_queues()
        for app in {item.app for item in settings}:
            size = bench.number("fal_serverless_queue_size", account="main", app=app)
            idle = bench.number("fal_serverless_queue_idle_runners", account="main", app=app)
            assert size is not None
            assert (idle is not None) == (size > 0)
            sizes[app] = max(sizes.get(app, 0), size)
        clock.forward(minutes=10)
    assert any(sizes.values())


async def test_a_key_that_may_not_read_apps_fails_nothing_and_is_asked_again_the_next_day(
    fal: RunningSimulator, opened: Opener, clock: Clock, logs: list[EventDict]
) -> None:
    fal.simulator.faults.add(Fault("refused", path=APPS))
    bench = await opened()
    for _ in range(3):
        await bench.account.poll_machines()
    assert fal.simulator.seen[APPS] == 1
    assert bench.number("fal_source_up", account="main", source="apps") == 1
    assert "idle runners cost is not known" in " ".join(bench.account.remarks([]))
    assert len([entry for entry in logs if entry["event"] == "apps of the account cannot be read"]) == 1
    assert (await bench.view()).machines.settings == ()
    fal.simulator.faults.clear()
    clock.forward(days=1)
    await bench.account.poll_machines()
    assert len((await bench.view()).machines.settings) == 4
    assert not any("idle" in remark for remark in bench.account.remarks([]))


async def test_a_refusal_is_a_failure_where_machines_are_asked_for(fal: RunningSimulator, opened: Opener) -> None:
    fal.simulator.faults.add(Fault("refused", path=APPS))
    bench = await opened("true")
    await bench.account.poll_machines()
    assert bench.number("fal_source_up", account="main", source="apps") == 0


async def test_nothing_is_asked_where_machines_are_not_wanted(fal: RunningSimulator, opened: Opener) -> None:
    bench = await opened("false")
    await bench.account.poll_machines()
    await bench.account.poll_queues()
    assert fal.simulator.seen[APPS] == 0
    assert bench.number("fal_exporter_polls_total", account="main", source="apps") is None


async def test_a_list_of_which_apps_cannot_be_read_forgets_no_other(fal: RunningSimulator, opened: Opener) -> None:
    """The burn of which apps are capable would be too little, and their runners would not be asked for."""
    bench = await opened()
    await bench.account.poll_machines()
    before = {(item.app, item.environment) for item in await settings_of(bench)}
    fal.simulator.faults.add(Fault("missing_fields", path=APPS, fields=("endpoint_id",), every_row=2))
    asked = calls(fal, HISTORY)
    await bench.account.poll_machines()
    assert {(item.app, item.environment) for item in await settings_of(bench)} == before
    assert calls(fal, HISTORY) - asked >= len({app for app, _ in before})
    fal.simulator.faults.clear()
    fal.simulator.faults.add(Fault("empty_answer", path=APPS))
    await bench.account.poll_machines()
    assert await settings_of(bench) == (), "a list that is read whole does"


async def settings_of(bench: Bench) -> tuple[AppSettings, ...]:
    return await bench.ledger.run(lambda ledger: ledger.machines.settings("main"))


async def test_runners_of_one_app_that_fail_hold_back_no_others(
    fal: RunningSimulator, opened: Opener, clock: Clock, tmp_path: Path
) -> None:
    bench = await opened()
    fal.simulator.faults.add(Fault("server_error", path=HISTORY, times=1))
    await bench.account.poll_machines()
    assert bench.number("fal_source_up", account="main", source="runners") == 0
    window = Window(hour_of(clock.now) - 5 * HOUR, hour_of(clock.now))
    assert len({item.app for item in states_of(tmp_path, window) if item.app and not item.cost.unknown}) == 3
    # The hours have not all been asked for, so that none may count as unknown for its age.
    assert (await known(bench)).runners_through is None
    await bench.account.poll_machines()
    assert bench.number("fal_source_up", account="main", source="runners") == 1
    assert (await known(bench)).runners_through == hour_number(hour_of(clock.now))
    assert not any(item.cost.unknown for item in states_of(tmp_path, window) if item.app)


async def test_runners_that_are_not_shown_make_their_hours_unknown_in_the_end(
    fal: RunningSimulator, opened: Opener, clock: Clock
) -> None:
    bench = await opened()
    fal.simulator.faults.add(Fault("refused", path=HISTORY))
    await bench.account.poll_machines()
    clock.forward(hours=30)
    await bench.account.poll_current()
    await bench.account.poll_machines()
    await bench.ledger.scraped((await bench.view()).sequence)
    counted = by_state((await bench.view()).machines.spend)
    assert set(counted) == {"unknown"}


async def test_hours_are_read_again_as_usage_is(fal: RunningSimulator, opened: Opener, clock: Clock) -> None:
    bench = await opened()
    await bench.account.poll_machines()
    before = calls(fal, HISTORY)
    clock.forward(hours=1)
    await bench.account.poll_machines()
    assert calls(fal, HISTORY) == before + 4
    assert fal.simulator.seen[REQUESTS] == 2


async def test_the_page_is_told_of_idle_apps_and_of_the_month(opened: Opener) -> None:
    bench = await opened()
    await bench.account.poll_machines()
    view = await bench.view()
    seen = Observer(bench.health).observe(view, Outlook())
    idle = by_state(view.machines.spend_of["last_day"])["idle"]
    assert sum(app.idle for app in seen.idle_apps) == idle
    assert all(app.keep_alive for app in seen.idle_apps)
    assert seen.idle_month is None, "the month is not covered"
    # As if it were: the last day's figures in the month's place.
    machines = replace(view.machines, spend_of={"month": view.machines.spend_of["last_day"]})
    month = Observer(bench.health).observe(replace(view, machines=machines), Outlook()).idle_month
    assert month is not None
    assert month.idle == idle == sum(app.idle for app in month.apps)
    assert [app.idle for app in month.apps] == sorted((app.idle for app in month.apps), reverse=True)
    lower = {(told.account, told.app): told for told in machines.what_ifs}
    assert {(app.account, app.app): app.what_if for app in month.apps if app.what_if} == lower
    assert {(app.account, app.app, app.environment) for app in month.apps if app.is_tried} == machines.tried
    assert machines.tried
    untried = replace(view, machines=replace(machines, tried=frozenset()))
    month = Observer(bench.health).observe(untried, Outlook()).idle_month
    assert month is not None
    assert not any(app.is_tried for app in month.apps)
