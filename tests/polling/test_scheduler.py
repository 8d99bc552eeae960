import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from polling.conftest import until
from prometheus_client import CollectorRegistry
from structlog.typing import EventDict

from exporter.errors import LedgerError
from exporter.metrics.health import Health
from exporter.polling.scheduler import JOBS, Intervals, Scheduler

SHORT = timedelta(milliseconds=20)


class Times:
    """A scheduler with the count of missed runs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.scheduler = Scheduler(
            intervals=Intervals(SHORT, SHORT, timedelta(hours=1)), health=Health(self.registry, jobs=JOBS)
        )

    def missed(self, job: str) -> float | None:
        return self.registry.get_sample_value("fal_exporter_missed_runs_total", {"job": job})

    @property
    def apscheduler(self) -> AsyncIOScheduler:
        return self.scheduler._scheduler


@pytest.fixture
async def times() -> AsyncIterator[Times]:
    made = Times()
    yield made
    made.scheduler.stop()


async def test_an_interval_job_runs_at_once_and_again(times: Times) -> None:
    runs: list[None] = []

    async def run() -> None:
        runs.append(None)

    times.scheduler.every_while("current", "main", run)
    times.scheduler.every_while("invoices", "main", run)
    times.scheduler.start()
    await until(lambda: len(runs) >= 4)
    assert times.missed("current") == 0


async def test_a_run_that_is_wanted_while_one_is_under_way_takes_place_when_that_has_ended(times: Times) -> None:
    may_end = asyncio.Event()
    began, ended = 0, 0

    async def run() -> None:
        nonlocal began, ended
        began += 1
        await may_end.wait()
        ended += 1

    times.scheduler.every_while("invoices", "main", run)
    times.scheduler.start()
    await until(lambda: began == 1)
    times.scheduler.run_now("invoices", "main")
    times.scheduler.run_now("invoices", "main")
    may_end.set()
    await until(lambda: ended == 2)
    assert (began, times.missed("invoices")) == (2, 0)
    times.scheduler.run_now("invoices", "main")
    await until(lambda: ended == 3)


async def test_a_job_that_is_dropped_runs_no_more_though_it_was_wanted(times: Times) -> None:
    may_end, ended = asyncio.Event(), asyncio.Event()
    runs: list[None] = []

    async def run() -> None:
        runs.append(None)
        await may_end.wait()
        times.scheduler.drop("history", "main")
        ended.set()

    times.scheduler.every_while("history", "main", run)
    times.scheduler.start()
    await until(lambda: bool(runs))
    times.scheduler.run_now("history", "main")
    may_end.set()
    await ended.wait()
    assert len(runs) == 1


async def test_runs_that_are_due_while_one_is_under_way_are_skipped_counted_and_warned_of_once(
    times: Times, logs: list[EventDict]
) -> None:
    may_end = asyncio.Event()
    under_way = 0

    async def run() -> None:
        nonlocal under_way
        under_way += 1
        await may_end.wait()

    times.scheduler.every_while("balance", "main", run)
    times.scheduler.start()
    await until(lambda: (times.missed("balance") or 0) >= 2)
    assert under_way == 1
    assert [entry["job"] for entry in logs if "longer than its interval" in str(entry["event"])] == ["balance:main"]
    may_end.set()
    await until(lambda: under_way >= 2)


async def test_a_history_that_takes_long_misses_nothing_and_warns_of_nothing(
    times: Times, logs: list[EventDict]
) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    async def other() -> None:
        await asyncio.Event().wait()

    times.scheduler.every_while("history", "main", run)
    times.scheduler.every_while("current", "main", other)
    times.scheduler.start()
    await until(lambda: (times.missed("current") or 0) >= 2)
    assert runs == 1
    assert times.missed("history") == 0
    assert {entry.get("job") for entry in logs} == {"current:main"}


async def test_a_run_that_could_not_start_in_time_is_missed_counted_and_warned_of(
    times: Times, logs: list[EventDict]
) -> None:
    async def run() -> None:
        raise AssertionError("it is too late for this run")

    times.scheduler.every_while("invoices", "main", run)
    (job,) = times.apscheduler.get_jobs()
    # As if the machine had slept for two minutes.
    job.modify(next_run_time=job.next_run_time - timedelta(minutes=2))
    times.scheduler.start()
    await until(lambda: times.missed("invoices") == 1)
    assert [entry["job"] for entry in logs if "begin in time" in str(entry["event"])] == ["invoices:main"]


async def test_a_job_that_fails_runs_again_and_is_logged_once_a_cause_without_a_traceback(
    times: Times, logs: list[EventDict], caplog: pytest.LogCaptureFixture
) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs <= 3:
            raise LedgerError("the disk is full")
        if runs <= 6:
            raise ZeroDivisionError("secret")

    times.scheduler.every_while("current", "main", run)
    times.scheduler.start()
    await until(lambda: runs >= 8)
    problems = [str(entry["problem"]) for entry in logs if entry["log_level"] == "warning"]
    assert problems[0] == "the disk is full"
    assert "ZeroDivisionError" in problems[1]
    assert "secret" not in problems[1]
    assert len(problems) == 2
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_dropped_job_runs_no_more_and_one_out_of_turn_runs_at_once(times: Times) -> None:
    ran: list[str] = []

    async def history() -> None:
        ran.append("history")
        times.scheduler.drop("history", "main")

    async def invoices() -> None:
        ran.append("invoices")

    times.scheduler.every_while("history", "main", history)
    times.scheduler.every_while("invoices", "main", invoices)
    times.scheduler.start()
    await until(lambda: sorted(ran) == ["history", "invoices"])
    times.scheduler.run_now("invoices", "main")
    await until(lambda: ran.count("invoices") == 2)
    assert ran.count("history") == 1


async def test_jobs_of_the_calendar_also_run_a_while_after_the_start(times: Times) -> None:
    async def run() -> None:
        pass

    for job in ("recent", "deep", "months", "retention"):
        times.scheduler.by_calendar(job, "main", run)
    times.scheduler.start()
    waits = {job.name: job.next_run_time for job in times.apscheduler.get_jobs()}
    assert sorted(waits, key=waits.__getitem__) == ["recent", "deep", "months", "retention"]
    assert waits["retention"] - waits["recent"] < timedelta(hours=1)


async def test_stopping_ends_the_run_under_way_quietly(
    times: Times, caplog: pytest.LogCaptureFixture, logs: list[EventDict]
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    times.scheduler.every_while("current", "main", run)
    times.scheduler.start()
    await begun.wait()
    times.scheduler.stop()
    async with asyncio.timeout(30):
        await ended.wait()
    assert not [record for record in caplog.records if record.exc_info]
    assert not logs
