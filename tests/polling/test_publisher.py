"""The landing page breaks down what fal states of the same days and months."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth, until
from polling.conftest import Clock as BenchClock
from prometheus_client.parser import text_string_to_metric_families
from structlog.typing import EventDict

from exporter.calendar import first_hour_of
from exporter.charges import HOUR, Window, hour_of, utc_now
from exporter.charges import Clock as ClockOfPublisher
from exporter.errors import LedgerError
from exporter.forecasting.forecast import HourlySpend
from exporter.ledger import DISK_FULL, Ledger, LedgerInUseError, LedgerView
from exporter.metrics.encoding import Encoder
from exporter.overview import AccountOverview, DailySpend, LedgerOverview, Overview
from exporter.polling.forecasts import ForecastMaker, Topic
from exporter.polling.publisher import Breakdown, Publisher, overview_of
from exporter.polling.source_choice import NO_USAGE
from exporter.publication import Publication
from exporter.samples import Sample, paged
from exporter.simulator import API_KEY, Fault, RunningSimulator

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


async def test_days_that_were_not_read_to_their_end_are_not_known(bench: Bench, clock: Clock) -> None:
    await bench.account.load_history()
    today = clock.now.date()
    assert (await daily(bench, ZoneInfo("UTC"))).known_until == today
    clock.forward(days=2)
    told = await daily(bench, ZoneInfo("UTC"))
    assert told.known_until == today - timedelta(days=1)
    assert [told.is_known(day) for day in told.days[-5:]] == [True, True, False, False, False]


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
    loaded = max(scope.history_from for scope in view.scopes if scope.history_from is not None)
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
        assert {source.chosen for source in account.sources} == {"chosen by what the key can read"}


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


class Published:
    """A publisher of a bench, and what it has emitted."""

    def __init__(self, bench: Bench, clock: ClockOfPublisher = utc_now) -> None:
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
    lines = (line for line in text.splitlines() if line.startswith(name))
    for family in text_string_to_metric_families("\n".join([*lines, ""])):
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


async def test_a_small_write_that_still_fits_on_a_full_disk_does_not_end_the_problem(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: BenchClock
) -> None:
    """A balance fits where the charges of a poll do not: the problem would come and go with every poll."""

    def full(*_: object, **__: object) -> None:
        raise LedgerError(f"the ledger cannot grow, the {DISK_FULL}; free some space (nothing was written partly)")

    await bench.account.poll_current()
    publish = Published(bench)
    assert sample(await publish(), "fal_exporter_ledger_up") == 1
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "restate", full)
        clock.forward(minutes=5)
        await bench.account.poll_current()
        for _ in range(3):
            await bench.account.poll_balance()
            during = await publish()
            assert sample(during, "fal_exporter_ledger_up") == 0
            assert DISK_FULL in during.overview.ledger.problem
    await bench.account.poll_current()
    after = await publish()
    assert sample(after, "fal_exporter_ledger_up") == 1
    assert not after.overview.ledger.problem


async def test_any_write_ends_a_problem_that_is_no_full_disk(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, clock: BenchClock
) -> None:
    """A lock of a moment would else be told until the next poll, which may be an hour away."""

    def locked(*_: object, **__: object) -> None:
        raise LedgerError("the ledger is locked by another process")

    await bench.account.poll_current()
    publish = Published(bench)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "restate", locked)
        clock.forward(minutes=5)
        await bench.account.poll_current()
    assert [polled.cause for polled in bench.account.polled if polled.name == "models"] == ["ledger"]
    await bench.account.poll_balance()
    after = await publish()
    assert sample(after, "fal_exporter_ledger_up") == 1
    assert not after.overview.ledger.problem


async def test_a_ledger_that_is_lost_is_told_in_metrics_and_page_until_it_is_back(
    bench: Bench, clock: BenchClock, tmp_path: Path
) -> None:
    await bench.account.poll_current()
    publish = Published(bench, clock)
    before = await publish()
    assert sample(before, "fal_exporter_ledger_up") == 1
    assert before.overview.ledger == LedgerOverview(
        born_at=before.overview.ledger.born_at, revision=before.overview.ledger.revision
    )
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
        words for words in ("was replaced", "was deleted") for event in after.overview.ledger.events if words in event
    ] == ["was replaced", "was deleted"]
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
