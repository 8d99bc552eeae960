from pathlib import Path

from polling.conftest import REACH, Bench, Clock, opened_bench, truth

from exporter.charges import HOUR, hour_of
from exporter.polling.publisher import overview_of
from exporter.polling.source_choice import NO_USAGE
from exporter.publication import AccountOverview, Overview
from exporter.simulator import API_KEY, Fault, RunningSimulator


async def overview(bench: Bench) -> Overview:
    return overview_of(await bench.view(), [bench.account], REACH, notes=("A note.",), links=(("Docs", "/docs"),))


async def account_of(bench: Bench) -> AccountOverview:
    (account,) = (await overview(bench)).accounts
    return account


async def test_what_is_known_is_shown(bench: Bench, fal: RunningSimulator, clock: Clock) -> None:
    await bench.account.load_history()
    await bench.account.poll_balance()
    shown = await overview(bench)
    assert (shown.time_zone, shown.notes, shown.links) == ("UTC", ("A note.",), (("Docs", "/docs"),))
    (account,) = shown.accounts
    assert account.name == "main"
    assert account.balance is not None
    assert account.balance_at == clock.now
    assert account.last_hour == truth(fal, hour_of(clock.now) - HOUR, hour_of(clock.now))
    assert (account.locked, account.problems) == ("", ())
    for source in account.sources:
        assert (source.state, source.problem, source.history_progress) == ("up", "", 1)
        assert source.chosen == "set by SOURCES"
        assert source.data_through == hour_of(clock.now)
        assert source.last_success_at == clock.now


async def test_before_the_first_poll_all_is_waiting(bench: Bench) -> None:
    account = await account_of(bench)
    assert {source.state for source in account.sources} == {"waiting"}
    assert {source.history_progress for source in account.sources} == {0}
    assert account.balance is None


async def test_failures_and_locks_are_told_in_words(bench: Bench, fal: RunningSimulator) -> None:
    fal.simulator.faults.add(Fault("locked"))
    await bench.account.poll_current()
    await bench.account.poll_balance()
    account = await account_of(bench)
    assert account.locked.startswith("the balance is exhausted; top up the balance at ")
    assert {source.state for source in account.sources} == {"failing"}
    assert all("is locked" in source.problem for source in account.sources)
    assert [problem for problem in account.problems if problem.startswith("balance: ")]


async def test_a_key_without_usage_is_said_to_be_one(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        await bench.account.choose_sources()
        account = await account_of(bench)
        assert (account.sources, account.problems) == ((), (NO_USAGE,))


async def test_an_automatic_choice_is_shown_as_one(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        await bench.account.choose_sources()
        account = await account_of(bench)
        assert [source.name for source in account.sources] == ["models", "serverless", "compute"]
        assert {source.chosen for source in account.sources} == {"chosen by what the key may read"}


SHOWN = ("current_hour", "last_hour", "today", "last_day", "month_to_date", "last_month")


async def test_a_figure_says_why_it_is_not_there(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path) as bench:
        gaps = (await account_of(bench)).gaps
        assert {name: gap.reason for name, gap in gaps.items()} == dict.fromkeys(SHOWN, "unread")

        fal.simulator.faults.add(Fault("server_error", path="/v1/serverless/usage", query="start=2026-11-19*"))
        await bench.account.load_history()
        account = await account_of(bench)
        assert {name: gap.reason for name, gap in account.gaps.items()} == {
            "month_to_date": "loading",
            "last_month": "loading",
        }
        assert (account.month_to_date, account.last_month) == (None, None)
        assert account.today == truth(fal, hour_of(clock.now).replace(hour=0), clock.now)
        month = account.gaps["month_to_date"]
        assert month.known_from == (await bench.since("serverless"))[0]

        fal.simulator.faults.clear()
        assert await bench.account.load_history()
        gaps = (await account_of(bench)).gaps
        assert {name: gap.reason for name, gap in gaps.items()} == {"month_to_date": "short", "last_month": "short"}
        assert gaps["last_month"].ratio == 0

        clock.forward(hours=3)
        gaps = (await account_of(bench)).gaps
        assert {name: gap.reason for name, gap in gaps.items()} == dict.fromkeys(
            ("current_hour", "last_hour", "today", "last_day"), "behind"
        ) | {"month_to_date": "short", "last_month": "short"}


async def test_an_account_whose_usage_cannot_be_read_keeps_no_sum_waiting(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        assert (await account_of(bench)).gaps["today"].reason == "unread", "nobody knows yet"
        await bench.account.choose_sources()
        account = await account_of(bench)
        assert (account.gaps, account.today, account.month_to_date) == ({}, None, None)
