"""An answer that is not whole: what is counted of it, and how much a source is known to tell."""

from collections.abc import Collection
from datetime import timedelta
from pathlib import Path

import pytest
from polling.conftest import Bench, Clock, opened_bench
from structlog.typing import EventDict

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, RejectedRow, Window, hour_of
from exporter.fal import Allowance, ApiError, Buckets, Deadline, Detail, Reading
from exporter.polling import usage_reader
from exporter.polling.poll_runner import Polled
from exporter.polling.usage_reader import UnreadableAnswerError, UsageReader
from exporter.simulator import Fault, RunningSimulator

FLUX = Dimensions("main", product="model_apis", model="flux", unit="image")


class Source:
    """A source that reports what it is told to, and tells what it was asked."""

    name = "models"

    def __init__(self, detail: Detail | None = None, *, gives: Detail = Detail.FULL) -> None:
        self.detail = detail
        self.gives = gives
        self.rows = 1
        self.rejected: list[RejectedRow] = []
        self.failure: Exception | None = None
        self.asked: list[Window] = []
        self.read_with: list[Detail | None] = []

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:
        assert not with_api_key
        if self.detail is Detail.UNKNOWN:
            self.detail = self.gives
        self.read_with.append(self.detail)
        charges = (Charge(window.start, FLUX, Amounts(list_cost=NANO, cost=NANO)),)
        reasons = {reason: [row.reason for row in self.rejected].count(reason) for reason in ("wrong_type", "unit")}
        counts = {reason: rows for reason, rows in reasons.items() if rows}
        return Reading("main", self.name, window, charges, (), counts, tuple(self.rejected), self.rows)

    async def read_buckets(self, buckets: Buckets, deadline: Deadline, allowance: Allowance) -> Reading:
        raise NotImplementedError(f"polls ask for hours, not for {buckets} within {deadline.span} and {allowance}")

    async def ask_for_detail(self, window: Window) -> None:
        self.asked.append(window)
        if self.failure is not None:
            raise self.failure
        self.detail = self.gives


async def meet_nobody(ids: Collection[str]) -> None:
    assert not ids


def reader_of(bench: Bench, source: Source, clock: Clock) -> UsageReader:
    return UsageReader(
        source, account="main", ledger=bench.ledger, with_api_key=False, clock=clock, meet_keys=meet_nobody
    )


def last_hour(clock: Clock) -> Window:
    return Window(hour_of(clock.now) - HOUR, hour_of(clock.now))


async def read(bench: Bench, source: Source, clock: Clock) -> Polled:
    polled = Polled("main", "models", is_usage=True)
    await reader_of(bench, source, clock).read(last_hour(clock), polled, clock.now)
    return polled


async def detail(bench: Bench) -> tuple[str, str]:
    (scope,) = [scope for scope in await bench.ledger.scopes() if scope.source == "models"]
    return scope.detail, scope.detail_version


async def test_half_of_an_answer_is_enough_and_less_is_none(bench: Bench, clock: Clock) -> None:
    source = Source()
    source.rejected = [RejectedRow("wrong_type", cost=5)]
    assert (await read(bench, source, clock)).rejected.by_reason == {"wrong_type": 1}
    source.rejected = [RejectedRow("wrong_type")] * 2
    with pytest.raises(UnreadableAnswerError) as failure:
        await read(bench, source, clock)
    window = last_hour(clock)
    assert str(failure.value).startswith(
        f"only 1 of 3 rows that the source models gives for {window} can be read (2 wrong_type); the ledger keeps"
    )
    kept = (await bench.ledger.run(lambda ledger: ledger.rejected_rows("main")))["models"]
    assert (kept.by_reason, kept.cost) == ({"wrong_type": 1}, 5), "nothing of the second answer was kept"
    source.rows = 0
    with pytest.raises(UnreadableAnswerError, match="no row that the source models"):
        await read(bench, source, clock)


async def test_rows_that_are_counted_in_part_do_not_make_an_answer_unreadable(bench: Bench, clock: Clock) -> None:
    source = Source()
    source.rejected = [RejectedRow("unit", is_counted=True)] * 9
    assert (await read(bench, source, clock)).rejected.by_reason == {"unit": 9}


async def test_what_a_source_tells_is_found_out_once_and_kept(bench: Bench, clock: Clock) -> None:
    await read(bench, Source(), clock)
    assert await detail(bench) == ("", ""), "the interface tells everybody the same"
    await read(bench, Source(Detail.UNKNOWN), clock)
    assert (await detail(bench))[0] == "full"
    restarted = Source(Detail.UNKNOWN, gives=Detail.REDUCED)
    await read(bench, restarted, clock)
    assert restarted.read_with == [Detail.FULL]
    assert (await detail(bench))[0] == "full"


async def test_what_was_refused_is_asked_for_daily_and_by_another_version(
    bench: Bench, clock: Clock, monkeypatch: pytest.MonkeyPatch, logs: list[EventDict]
) -> None:
    source = Source(Detail.UNKNOWN, gives=Detail.REDUCED)
    reader = reader_of(bench, source, clock)
    await reader.read(last_hour(clock), Polled("main", "models", is_usage=True), clock.now)
    for hours, asked in ((0, 0), (23, 0), (1, 1), (1, 1), (23, 2)):
        clock.forward(hours=hours)
        await reader.ask_for_detail_if_due()
        assert len(source.asked) == asked
    assert source.asked[-1] == last_hour(clock)
    monkeypatch.setattr(usage_reader, "__version__", "9.9")
    restarted = Source(Detail.UNKNOWN, gives=Detail.FULL)
    restarted.failure = ApiError("fal is away", account="main", call="/billing/usage")
    reader = reader_of(bench, restarted, clock)
    await reader.ask_for_detail_if_due()
    assert (restarted.detail, (await detail(bench))[0]) == (Detail.REDUCED, "reduced"), "no answer decides nothing"
    restarted.failure = None
    await reader.ask_for_detail_if_due()
    assert (restarted.detail, await detail(bench)) == (Detail.FULL, ("full", "9.9"))
    clock.forward(days=3)
    await reader.ask_for_detail_if_due()
    assert len(restarted.asked) == 2, "it tells all that there is"
    assert [entry["event"][:45] for entry in logs if entry["log_level"] == "info"] == [
        "more detail could not be requested",
        "fal reports more detail for each charge from ",
    ]


async def test_hours_whose_rows_can_be_read_again_are_read_though_they_are_old(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models",)) as bench:
        await bench.account.load_history()
        rows = Fault("missing_fields", path="/v1/models/usage", fields=("cost_total", "cost"), every_row=3)
        fal.simulator.faults.add(rows)
        await bench.account.poll_recent()
        (polled, *_) = bench.account.polled
        assert (polled.state, polled.rejected.first) == ("partial", hour_of(clock.now) - timedelta(hours=48))
        clock.forward(hours=30)
        await bench.account.poll_current()
        await bench.account.poll_recent()
        assert polled.state == "partial"
        fal.simulator.faults.clear()
        clock.forward(hours=1)
        await bench.account.poll_recent()
        assert polled.state == "up"
        assert bench.number("fal_source_partial", account="main", source="models") == 0
