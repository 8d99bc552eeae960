"""Spend by tags is what fal allocates, adds up to the ledger, and is off politely where fal does not report it."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench
from structlog.typing import EventDict

from exporter.charges import HOUR, Window, hour_of
from exporter.forecasting.budgets import Budget
from exporter.forecasting.state import BudgetOutlook
from exporter.ledger import Ledger
from exporter.ledger.accounting.tags import READ_AFTER, TagFigures
from exporter.polling.forecasts import ForecastMaker, Topic
from exporter.polling.publisher import Breakdown
from exporter.samples import Pages, Sample, paged
from exporter.simulator import Fault, RunningSimulator, World, WorldSize, running_simulator
from exporter.tags import UNTAGGED

USAGE = "/v1/models/usage"
TAGGED = "source=tagged-estimate"
KEYS = ("cost_center", "feature")
SHORT = replace(REACH, history=timedelta(hours=6), recent=timedelta(hours=6))


@pytest.fixture
async def fal(clock: Clock) -> AsyncIterator[RunningSimulator]:
    """A fal whose models are called with three keys, one of which is not activated for tags."""
    size = WorldSize(models=4, callers=1, apps=1, compute=0, teams=1, api_keys=3)
    async with running_simulator(World(7, size=size, invoiced_months=1), clock) as running:
        yield running


@pytest.fixture
async def tagged(fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack) -> Bench:
    return await stack.enter_async_context(opened_bench(fal, clock, tmp_path, reach=SHORT, tags=KEYS))


@pytest.fixture
async def tagged_for_days(fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack) -> Bench:
    """An exporter whose history is three days, of which the last six hours are read at every poll."""
    clock.now = clock.now.replace(hour=20)
    reach = replace(SHORT, history=timedelta(days=3))
    return await stack.enter_async_context(opened_bench(fal, clock, tmp_path, reach=reach, tags=KEYS))


async def poll(bench: Bench) -> None:
    assert bench.account.tags is not None
    await bench.account.tags.poll()


def total(pages: Pages) -> int:
    return int(sum(sample.value for page in pages for sample in page.samples))


async def test_tags_and_what_none_explains_add_up_to_the_ledger_hour_by_hour(tagged: Bench, clock: Clock) -> None:
    await tagged.account.load_history()
    await poll(tagged)
    now = hour_of(clock.now)
    window = Window(now - 6 * HOUR, now + HOUR)
    by_tags, by_series = await tagged.ledger.run(lambda ledger: (ledger.tags.hourly(window), ledger.hourly(window)))
    seen: set[tuple[str, ...]] = set()
    for hour in window.hours():
        assert sum(by_tags[hour].values()) == sum(by_series[hour].values()) > 0
        seen.update(tags for _, _, tags in by_tags[hour])
    assert (UNTAGGED, UNTAGGED) in seen
    assert any(cost_center != UNTAGGED and feature == "search" for cost_center, feature in seen)
    # Of the running hour fal has not tagged anything yet.
    assert {tags for _, _, tags in by_tags[now]} == {(UNTAGGED, UNTAGGED)}


async def test_counters_grow_by_what_the_ledger_counts_of_hours_that_are_read_for_good(
    tagged: Bench, clock: Clock
) -> None:
    await tagged.account.load_history()
    await poll(tagged)
    assert total((await tagged.view()).tags.spend) == 0
    began = hour_of(clock.now) + HOUR
    for _ in range(4):
        clock.forward(hours=1)
        await tagged.account.poll_recent()
        await poll(tagged)
        await tagged.ledger.scraped((await tagged.view()).sequence)
    through = hour_of(clock.now) - READ_AFTER * HOUR
    hours = await tagged.ledger.run(lambda ledger: ledger.hourly(Window(began, through)))
    view = await tagged.view()
    assert view.tags.through == {"main": through}
    assert total(view.tags.spend) - total(view.tags.pending) == sum(sum(its.values()) for its in hours.values()) > 0


async def test_where_fal_refuses_it_nothing_fails_and_it_is_asked_again_after_a_day(
    fal: RunningSimulator, tagged: Bench, clock: Clock, logs: list[EventDict]
) -> None:
    fal.simulator.faults.add(Fault("refused", path=USAGE, query=TAGGED, status=403))
    await tagged.account.load_history()
    await poll(tagged)
    assert tagged.account.tags is not None
    assert tagged.account.tags.polled.state == "up"
    assert any("Spend is not known by tags" in remark for remark in tagged.account.remarks(()))
    asked = fal.simulator.seen[USAGE]
    clock.forward(hours=23)
    await poll(tagged)
    assert fal.simulator.seen[USAGE] == asked
    assert [entry["event"] for entry in logs if "tags" in entry["event"]] == ["fal does not report by tags"]
    fal.simulator.faults.clear()
    clock.forward(hours=2)
    await poll(tagged)
    assert fal.simulator.seen[USAGE] > asked
    assert not any("tags" in remark for remark in tagged.account.remarks(()))
    assert logs[-1]["event"] == "fal reports by tags"


async def test_a_failure_is_one_of_its_own_poll_and_of_nothing_else(fal: RunningSimulator, tagged: Bench) -> None:
    fal.simulator.faults.add(Fault("server_error", path=USAGE, query=TAGGED))
    await tagged.account.load_history()
    await poll(tagged)
    states = {polled.name: polled.state for polled in tagged.account.polled}
    assert (states["tags"], states["models"], states["serverless"]) == ("failing", "up", "up")


async def test_without_tags_fal_is_not_asked_for_them(bench: Bench) -> None:
    assert bench.account.tags is None
    assert "tags" not in {polled.name for polled in bench.account.polled}


async def test_a_budget_that_matches_a_tag_has_what_is_tagged_so_and_one_of_untagged_the_rest(
    tagged: Bench, clock: Clock
) -> None:
    await tagged.account.load_history()
    await poll(tagged)
    zone = ZoneInfo("UTC")

    def budget(name: str, **match: tuple[str, ...]) -> Budget:
        return Budget(name, 10**12, "day", zone, {key.replace("__", ":"): globs for key, globs in match.items()})

    budgets = (budget("search", tag__feature=("sear*",)), budget("rest", tag__feature=(UNTAGGED,)), budget("all"))
    maker = ForecastMaker(budgets=budgets, reach=SHORT, by_product=True)

    def burnt(ledger: Ledger) -> dict[str, int]:
        view = ledger.view()
        maker.make(ledger, view, [tagged.account])
        hours = maker.hours
        assert hours is not None
        window = Window(hour_of(clock.now) - 5 * HOUR, hour_of(clock.now))
        return {budget.name: hours.total(Topic("budget", budget.name), window) for budget in budgets}

    spent = await tagged.ledger.run(burnt)
    assert spent["search"] > 0
    assert spent["rest"] > 0
    assert spent["search"] + spent["rest"] == spent["all"]
    # Tags that come late move spend from one to the other.
    clock.forward(hours=1)
    await poll(tagged)
    later = await tagged.ledger.run(burnt)
    assert later["search"] + later["rest"] == later["all"]


async def test_a_budget_by_tags_is_absent_until_its_period_has_been_read_by_tags(
    fal: RunningSimulator, tagged_for_days: Bench, clock: Clock
) -> None:
    """As the month's gauge is: what is not read by tags is no part of any tag yet, and the sum too small."""
    bench = tagged_for_days
    by_tag = Budget("search", 10**12, "day", ZoneInfo("UTC"), {"tag:feature": ("search",)})
    maker = ForecastMaker(budgets=(by_tag, replace(by_tag, name="all", match={})), reach=bench.reach, by_product=True)

    async def outlooks() -> dict[str, BudgetOutlook]:
        made = await bench.ledger.run(lambda ledger: maker.make(ledger, ledger.view(), [bench.account]))
        while maker.is_behind:
            made = await bench.ledger.run(lambda ledger: maker.make(ledger, ledger.view(), [bench.account]))
        return {item.budget: item for item in made.budgets}

    await bench.account.load_history()
    await bench.account.poll_current()
    assert {name: item.spend is not None for name, item in (await outlooks()).items()} == {"search": False, "all": True}
    fal.simulator.faults.add(Fault("server_error", path=USAGE, query=TAGGED, after=1))
    await poll(bench)
    behind = (await outlooks())["search"]
    assert behind.spend is not None
    assert set(behind.burn or {}) == set(), "of the hours before today's none has been read by tags"
    fal.simulator.faults.clear()
    await poll(bench)
    found = await outlooks()
    assert 0 < (found["search"].spend or 0) < (found["all"].spend or 0)
    assert found["search"].burn is not None
    assert set(found["search"].burn) == {"1d", "3d"}, "what a few hours cost is mostly not tagged yet"
    clock.forward(hours=9)
    await bench.account.poll_recent()
    await bench.account.poll_current()
    assert (await outlooks())["search"].burn == {}, "tags are not read any more"
    assert {"1h", "6h", "1d"} <= (found["all"].burn or {}).keys()


async def test_one_window_that_fal_refuses_by_tags_keeps_no_other_from_being_read(
    fal: RunningSimulator, tagged_for_days: Bench, clock: Clock
) -> None:
    """It was taken for reporting that is off, so that nothing was read by tags for a day."""
    bench = tagged_for_days
    await bench.account.load_history()
    fal.simulator.faults.add(Fault("refused", path=USAGE, query=TAGGED, status=403, after=1, times=1))
    await poll(bench)
    assert bench.account.tags is not None
    assert not bench.account.tags.remark()
    assert bench.account.tags.polled.state == "failing"
    clock.forward(hours=1)
    await poll(bench)
    assert bench.account.tags.polled.state == "up"
    view = await bench.view()
    assert view.tags.through == {"main": hour_of(clock.now) - READ_AFTER * HOUR}


async def test_the_page_ranks_the_month_by_each_tag_and_untagged_is_one_of_them(tagged: Bench) -> None:
    view = await tagged.view()
    month = paged(
        [
            Sample(("main", "flux", "acme", "search"), 60),
            Sample(("main", "flux", "acme", UNTAGGED), 15),
            Sample(("main", "", UNTAGGED, UNTAGGED), 30),
        ]
    )
    rankings = Breakdown(ZoneInfo("UTC")).rankings(replace(view, tags=TagFigures(KEYS, month=month)))
    by_tag = {ranking.label: ranking.top for ranking in rankings if ranking.label.startswith("tag:")}
    whole = sum(int(value) for page in view.known_of_month for _, value, _ in page.samples)
    # What accounts have cost that fal does not report by tags, so that no share is one of less than the month.
    assert {ranking.total for ranking in rankings} == {whole}
    assert {ranking.unread for ranking in rankings if ranking.label in by_tag} == {whole - 105}
    assert by_tag == {
        "tag:cost_center": (("acme", 75), (UNTAGGED, 30)),
        "tag:feature": (("search", 60), (UNTAGGED, 45)),
    }
