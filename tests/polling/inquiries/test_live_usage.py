"""The collector's answers about windows that the ledger does not reach: how often fal is asked, and what is kept."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from polling.conftest import UTC_ZONE, Bench, Clock, opened_bench, truth

from exporter.charges import HOUR, Window, hour_of
from exporter.inquiry import Inquirer, Responder
from exporter.polling.inquiries.live_usage import (
    KEPT,
    KEPT_WHILE_PROVISIONAL,
    MOST_A_MINUTE,
    REST_OF_SLOW,
    SLOW,
    LiveUsage,
)
from exporter.queries.live import NAME, LivePart, LiveQuestion, ask_live
from exporter.simulator import API_KEY, Fault, RunningSimulator

CALLS = {"account": "main", "call": "/models/usage"}


class Seconds:
    """A monotonic clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Asking:
    """The web process's way to the account."""

    def __init__(self, bench: Bench, clock: Clock) -> None:
        self._bench = bench
        self.seconds = Seconds()
        self.responder = Responder({NAME: LiveUsage([bench.account], clock=clock, monotonic=self.seconds)})
        self._inquirer = Inquirer(self.responder.connect)

    async def ask(self, window: Window, account: str = "main") -> LivePart:
        (part,) = await ask_live(self._inquirer, [LiveQuestion(account, window, None, UTC_ZONE)], must=False)
        return part

    def calls(self) -> float:
        """Return how many usage calls of models fal has answered."""
        return self._bench.number("fal_exporter_api_requests_total", **CALLS, code="200") or 0


@pytest.fixture
async def asking(bench: Bench, clock: Clock) -> AsyncIterator[Asking]:
    made = Asking(bench, clock)
    yield made
    await made.responder.close()


def week_before(clock: Clock, weeks: int = 1) -> Window:
    end = hour_of(clock.now) - weeks * timedelta(days=7)
    return Window(end - 24 * HOUR, end)


async def test_it_tells_what_fal_charges(asking: Asking, fal: RunningSimulator, clock: Clock) -> None:
    window = week_before(clock)
    part = await asking.ask(window)
    assert (part.problem, part.unreadable, part.as_of) == ("", 0, clock.now)
    assert sum(row.amounts.cost for row in part.rows) == truth(fal, window.start, window.end) > 0
    assert {row.dimensions.account for row in part.rows} == {"main"}


async def test_an_answer_is_given_again_for_a_while_that_is_shorter_while_it_may_change(
    asking: Asking, clock: Clock
) -> None:
    over, recent = week_before(clock), Window(hour_of(clock.now) - 2 * HOUR, hour_of(clock.now))
    for window, kept in ((over, KEPT), (recent, KEPT_WHILE_PROVISIONAL)):
        first = await asking.ask(window)
        calls = asking.calls()
        clock.now += kept - timedelta(seconds=1)
        assert (await asking.ask(window)) == first
        assert asking.calls() == calls
        clock.forward(seconds=1)
        again = await asking.ask(window)
        assert again.as_of is not None
        assert first.as_of is not None
        assert again.as_of - first.as_of == kept
        assert asking.calls() > calls


async def test_many_who_ask_the_same_at_once_are_answered_by_one_question(asking: Asking, clock: Clock) -> None:
    parts = await asyncio.gather(*(asking.ask(week_before(clock)) for _ in range(4)))
    assert {part.problem for part in parts} == {""}
    assert len({part.rows for part in parts}) == 1
    calls = asking.calls()
    await asking.ask(week_before(clock, 2))
    assert asking.calls() == 2 * calls


async def test_an_account_is_asked_so_often_a_minute_and_no_more(asking: Asking, clock: Clock) -> None:
    windows = [week_before(clock, weeks) for weeks in range(1, MOST_A_MINUTE + 2)]
    reasons = [(await asking.ask(window)).reason for window in windows]
    assert reasons == [*[""] * MOST_A_MINUTE, "busy"]
    assert (await asking.ask(windows[0])).reason == "", "what is kept does not count"
    asking.seconds.now = 60
    assert (await asking.ask(windows[-1])).reason == ""


async def test_fal_that_keeps_a_question_waiting_in_vain_is_left_alone_for_a_while(
    asking: Asking, bench: Bench, fal: RunningSimulator, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    unwatched = bench.account.ask_usage

    async def slow(*question: object) -> object:
        asking.seconds.now += SLOW + 1
        return await unwatched(*question)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.account, "ask_usage", slow)
    fal.simulator.faults.add(Fault("server_error", path="/v1/models/usage"))
    assert (await asking.ask(week_before(clock))).reason == "server_error"
    fal.simulator.faults.clear()
    assert (await asking.ask(week_before(clock))).reason == "late", "not even asked"
    asking.seconds.now += REST_OF_SLOW
    assert (await asking.ask(week_before(clock))).problem == "", "slow, but answered"
    assert (await asking.ask(week_before(clock, 2))).problem == ""


async def test_what_keeps_it_from_asking_is_told_and_nothing_is_kept(
    asking: Asking, fal: RunningSimulator, clock: Clock
) -> None:
    fal.simulator.faults.add(Fault("server_error", path="/v1/models/usage", times=1))
    part = await asking.ask(week_before(clock))
    assert (part.reason, part.rows, part.as_of) == ("server_error", (), None)
    assert "GET /models/usage of account 'main' failed" in part.problem
    assert (await asking.ask(week_before(clock))).problem == ""
    assert (await asking.ask(week_before(clock), "other")).problem == "the account is not polled"


async def test_rows_that_cannot_be_read_are_counted_and_an_answer_of_them_is_none(
    asking: Asking, fal: RunningSimulator, clock: Clock
) -> None:
    odd = Fault("wrong_types", path="/v1/models/usage", fields=("cost_total", "cost"), every_row=3)
    fal.simulator.faults.add(odd)
    part = await asking.ask(week_before(clock))
    assert part.problem == ""
    assert part.unreadable > 0
    fal.simulator.faults.clear()
    fal.simulator.faults.add(Fault("wrong_types", path="/v1/models/usage", fields=("cost_total", "cost")))
    part = await asking.ask(week_before(clock, 2))
    assert (part.reason, part.rows) == ("unreadable", ())


async def test_an_account_without_sources_says_why(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, key=API_KEY, sources=None) as bench:
        asking = Asking(bench, clock)
        assert (await asking.ask(week_before(clock))).reason == "no_sources"
        await asking.responder.close()


async def test_polls_go_on_while_fal_hangs_over_a_question(
    asking: Asking, bench: Bench, fal: RunningSimulator, clock: Clock
) -> None:
    fal.simulator.faults.add(Fault("hang", path="/v1/models/usage", query="timeframe=day"))
    hanging = asyncio.create_task(asking.ask(Window(week_before(clock).start.replace(hour=0), week_before(clock).end)))
    await asyncio.sleep(0)
    await bench.account.poll_current()
    assert {polled.state for polled in bench.account.polled if polled.is_usage} == {"up"}
    hanging.cancel()
