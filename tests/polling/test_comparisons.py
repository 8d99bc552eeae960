"""This month beside the same part of the last one is what fal states of both."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth

from exporter.charges import HOUR, NANO, SURGE, Amounts, Charge, Dimensions, Window, hour_of
from exporter.forecasting.changes import MonthComparison, TagComparison
from exporter.ledger.reader import LedgerReader
from exporter.overview import Overview
from exporter.polling.comparisons import ComparisonMaker, moved_by
from exporter.polling.publisher import overview_of
from exporter.queries.drivers import answer_drivers, parse_drivers_question
from exporter.samples import Pages, Sample, paged
from exporter.simulator import Fault, RunningSimulator
from exporter.tags import TaggedReading

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


async def test_an_account_that_has_spent_nothing_is_compared(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    """Otherwise the page would not compare the others either."""
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        fal.simulator.faults.add(Fault("empty_answer"))
        await bench.account.load_history()
        comparison = await compared(bench, ComparisonMaker(clock))
        view = await bench.view()
        (account,) = overview_of(view, [bench.account], bench.reach, notes=(), links=(), comparison=comparison).accounts
        assert (account.last_month_to_date, account.month_compared) == (0, 0)


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


async def test_the_causes_are_those_that_rest_tells_of_the_same_hours(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        await bench.account.load_history()
        hour = hour_of(clock.now) - HOUR
        listed, at_surge = (
            Dimensions("main", product="serverless", app="avatar", unit="second", gpu_class="H100", surge=surge)
            for surge in ("", SURGE)
        )
        charges = [
            Charge(
                at, of, Amounts(quantity * NANO, 0, list_cost * NANO, discount * NANO, (list_cost - discount) * NANO)
            )
            for at, of, quantity, list_cost, discount in (
                (OCTOBER, listed, 10, 20, 5),
                (hour, listed, 12, 24, 3),
                (hour, at_surge, 4, 16, 0),
            )
        ]
        for at in (OCTOBER, hour):
            of_hour = [charge for charge in charges if charge.hour == at]
            window = Window(at, at + HOUR)
            await bench.ledger.run(
                lambda ledger, window=window, of_hour=of_hour: ledger.restate(
                    "main", "serverless", window, of_hour, at=clock.now
                )
            )
        told = await compared(bench, maker)
        with closing(LedgerReader(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) as reader, reader.snapshot() as ledger:
            answer = answer_drivers(ledger, parse_drivers_question({}, now=clock.now, zone=ZoneInfo("UTC")))
        assert told.parts == answer.parts
        assert answer.parts.discount
        assert answer.parts.surge


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


async def test_hours_are_compared_that_every_source_of_the_account_has_read(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        await bench.account.load_history()
        until = hour_of(clock.now)
        accounts = {"main": ("models", "serverless"), "other": ("models",)}
        await bench.ledger.run(lambda ledger: ledger.activate(accounts))
        read = Window(NOVEMBER, NOVEMBER + 5 * HOUR)
        await bench.ledger.run(lambda ledger: ledger.restate("other", "models", read, (), at=clock.now))
        fal.simulator.faults.add(Fault("server_error", path="/v1/serverless/usage"))
        clock.forward(hours=3)
        await bench.account.poll_recent()
        told = await compared(bench, maker)
        assert total(told.last_month) == truth(fal, OCTOBER, OCTOBER + (until - NOVEMBER))
        fal.simulator.faults.clear()
        await bench.account.poll_recent()
        until = hour_of(clock.now)
        clock.forward(minutes=6)
        told = await compared(bench, maker)
        assert total(told.last_month) == truth(fal, OCTOBER, OCTOBER + (until - NOVEMBER))
        assert told.accounts == {"main"}


async def test_without_all_of_the_last_month_there_is_no_comparison(bench: Bench, clock: Clock) -> None:
    maker = ComparisonMaker(clock)
    await bench.account.load_history()
    assert await compared(bench, maker) == MonthComparison()


async def test_what_is_itself_called_other_is_one_with_those_that_have_no_series_of_their_own(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    """As where the limit of series has folded charges, and there are more products than are published besides."""
    fal.simulator.faults.add(Fault("empty_answer"))
    hour = hour_of(clock.now) - HOUR
    costs = {"__other__": 1000, **{f"product-{number:02}": 100 + number for number in range(60)}}
    charges = [
        Charge(hour, Dimensions("main", product=product, model="m", unit="image"), Amounts(1, 0, cost, 0, cost))
        for product, cost in costs.items()
    ]
    async with opened_bench(fal, clock, tmp_path, reach=replace(REACH, history=timedelta(days=34))) as bench:
        await bench.account.load_history()
        window = Window(hour, hour + HOUR)
        await bench.ledger.run(lambda ledger: ledger.restate("main", "models", window, charges, at=clock.now))
        comparison = await compared(bench, ComparisonMaker(clock))
    products = [sample for page in comparison.movers for sample in page.samples if sample.labels[1] == "product"]
    assert len({sample.labels for sample in products}) == len(products) == 50
    assert sum(sample.value for sample in products) == sum(costs.values())
    # Fifty are listed, one of which has the name of those that are not: the eleven smallest are with it.
    assert {sample.labels[2]: sample.value for sample in products}["__other__"] == 1000 + sum(range(100, 111))


def test_a_tag_is_compared_up_to_where_every_account_has_been_read_and_names_those_that_have_not() -> None:
    early, late = (datetime(2026, 11, 3, hour, tzinfo=UTC) for hour in (5, 8))
    values = ({"plan": {"free": 1, "paid": 2}}, {"plan": {"free": 3, "paid": 5}})
    comparison = MonthComparison(
        this_month=paged(Sample((account, "m"), 7) for account in ("one", "two", "three")),
        tags={
            "one": TagComparison(late, *values),
            "two": TagComparison(early, *values),
            "three": TagComparison(lacking="it is not known"),
        },
    )
    by_account, by_plan = moved_by(comparison, ("account", "model"))
    assert (by_account.label, by_account.through, by_account.lacking) == ("account", None, ())
    assert (by_plan.label, by_plan.through) == ("tag:plan", early)
    assert by_plan.lacking == ("three: it is not known.",)
    assert [(move.name, move.before, move.after) for move in by_plan.moves.top] == [("paid", 4, 10), ("free", 2, 6)]


TAGS = ("cost_center", "feature")


async def test_who_moved_by_a_tag_is_what_rest_answers_of_the_same_hours(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    reach = replace(REACH, history=timedelta(days=34))
    async with opened_bench(fal, clock, tmp_path, reach=reach, tags=TAGS) as bench:
        await bench.account.load_history()
        view = await bench.view()
        assert not moved_by(await compared(bench, maker), view.labels)[1:], "no hour has been read by tags"
        assert bench.account.tags is not None
        await bench.account.tags.poll()
        clock.forward(seconds=30)
        comparison = await compared(bench, maker)
        (of_account,) = comparison.tags.values()
        through = hour_of(clock.now) - 2 * HOUR
        assert (of_account.through, of_account.lacking) == (through, "")
        told = {by.label: by for by in moved_by(comparison, view.labels)}
        reader = LedgerReader(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
        for key in TAGS:
            with reader.snapshot() as snapshot:
                given = {"group_by": f"tag:{key}", "limit": "5"}
                answer = answer_drivers(snapshot, parse_drivers_question(given, now=clock.now, zone=bench.reach.zone))
            assert answer.groups is not None
            assert told[f"tag:{key}"].moves == answer.groups.moves
            assert told[f"tag:{key}"].through == answer.window.end == through
            of_key = {
                side: sum(sample.value for page in pages for sample in page.samples if sample.labels[1] == f"tag:{key}")
                for side, pages in (("after", comparison.movers), ("before", comparison.movers_before))
            }
            assert of_key == {"after": answer.window.spend, "before": answer.compare.spend}
            assert answer.difference != 0
        reader.close()


async def test_hours_of_last_month_that_have_not_been_read_by_tags_are_said(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    maker = ComparisonMaker(clock)
    reach = replace(REACH, history=timedelta(days=34))
    async with opened_bench(fal, clock, tmp_path, reach=reach, tags=TAGS) as bench:
        await bench.account.load_history()
        view = await bench.view()
        this_month = Window(NOVEMBER, hour_of(clock.now))
        reading = TaggedReading("main", this_month, TAGS, (), {}, {})
        await bench.ledger.run(lambda ledger: ledger.tags.record(reading, at=clock.now))
        comparison = await compared(bench, maker)
        by = moved_by(comparison, view.labels)[-1]
        assert by.lacking == ("main: 55 of 55 hours of last month have not been read by tags.",)
        assert not by.moves.top
        assert {sample.labels[1] for page in comparison.movers for sample in page.samples} == {"product"}
