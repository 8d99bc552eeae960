"""Scheduler: which hours each job polls, when it runs, and what becomes of runs that do not take place.

Late data are normal at fal (15 hours have been seen) and corrections come days later, so the same hours are read again
at growing distances: the last two every few minutes, two days every hour, eight days and two months every day.

Runs are planned on a clock that nobody can set. The system's clock tells what hour it is, and when the times of the day
are; where it is set, that is noticed within seconds, and those are worked out anew.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

import structlog

from exporter.calendar import periods_at
from exporter.charges import HOUR, Clock, Window, hour_of, utc_now
from exporter.errors import FalExporterError
from exporter.metrics.health import Health

PIECE_HOURS = 24
"""A longer window is read in pieces of so many hours, each a poll and a transaction of its own."""

_LONGEST_HISTORY = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Reach:
    """Reach of the jobs into the past.

    Attributes:
        history: what is loaded at the first start; None for since the start of the previous month.
        zone: whose months "this month" and "the previous month" are.
    """

    recent: timedelta
    deep: timedelta
    history: timedelta | None
    zone: ZoneInfo


def current_window(now: datetime, data_through: datetime | None) -> Window:
    """Return the current hour and the one before, and the whole gap since the last success if that is longer ago."""
    hour = hour_of(now)
    start = hour - HOUR if data_through is None else min(hour - HOUR, data_through)
    return Window(start, hour + HOUR)


def trailing_window(now: datetime, span: timedelta) -> Window:
    """Return the current hour and the whole hours before it that a span reaches back over."""
    hour = hour_of(now)
    return Window(hour_of(hour - span), hour + HOUR)


def months_window(now: datetime, zone: ZoneInfo) -> Window:
    """Return this month so far and the previous one; fal's billing months are of UTC, the gauges' of the zone."""
    return Window(
        min(periods_at(now, zone).last_month.start, periods_at(now, ZoneInfo("UTC")).last_month.start),
        hour_of(now) + HOUR,
    )


def history_start(now: datetime, reach: Reach) -> datetime:
    """Return the first hour of the history that is loaded at the first start."""
    if reach.history is None:
        return max(months_window(now, reach.zone).start, hour_of(now - _LONGEST_HISTORY))
    return hour_of(now - reach.history)


def history_pieces(start: datetime, loaded_from: datetime) -> Iterator[Window]:
    """Yield what is missing between the start of the history and what is loaded, newest first."""
    end = loaded_from
    while end > start:
        begin = max(start, end - PIECE_HOURS * HOUR)
        yield Window(begin, end)
        end = begin


def month_start(now: datetime, zone: ZoneInfo) -> datetime:
    """Return the first hour of this month in the zone."""
    return periods_at(now, zone).month.start


_log = structlog.get_logger(__name__)

_OVERDUE_INTERVALS = 2
"""A run that begins later than so many of its intervals is counted: something has kept the process from working."""

_LOOK_SECONDS = 5.0
"""Seconds between two looks at the clocks; timers stand still while a machine sleeps."""

_STEP_SECONDS = 5.0
"""Clocks that drift apart by less between two looks are being adjusted, not set."""

_AFTER_A_STEP = ("current", "recent", "balance")
"""Jobs that put right what the wrong clock has stamped."""

_AFTER_THE_START = {
    "recent": timedelta(minutes=2),
    "deep": timedelta(minutes=10),
    "months": timedelta(minutes=20),
    "retention": timedelta(minutes=30),
}

_PROBE_AFTER_THE_START = timedelta(seconds=2)

JOBS = (
    "current",
    "recent",
    "deep",
    "months",
    "history",
    "balance",
    "invoices",
    "prices",
    "names",
    "reconciliation",
    "probe",
    "retention",
)

Run = Callable[[], Awaitable[None]]

_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return the seconds on a clock that nobody sets; where the system has one, it goes on while the machine sleeps."""
    return time.clock_gettime(_CLOCK)


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the jobs that have no place in the calendar."""

    current: timedelta
    balance: timedelta
    invoices: timedelta
    names: timedelta


class _Timing(Protocol):
    """Times of a job."""

    @property
    def span(self) -> float:
        """Seconds between two runs."""

    def wait(self, now: datetime) -> float:
        """Return the seconds until the next run, a little random so that not everybody asks at once."""


@dataclass(frozen=True, slots=True)
class _Every:
    span: float

    def wait(self, now: datetime) -> float:
        del now
        return self.span * random.uniform(0.95, 1.05)  # noqa: S311  no secret


@dataclass(frozen=True, slots=True)
class _Calendar:
    """At a minute of every hour, or of one hour of the day (UTC), and up to so many seconds later."""

    minute: int
    hour: int | None = None
    jitter: float = 1200

    @property
    def span(self) -> float:
        return (HOUR if self.hour is None else 24 * HOUR).total_seconds()

    def wait(self, now: datetime) -> float:
        hour = now.hour if self.hour is None else self.hour
        base = now.replace(hour=hour, minute=self.minute, second=0, microsecond=0)
        ahead = (base - now).total_seconds() % self.span or self.span
        return ahead + random.uniform(0, self.jitter)  # noqa: S311  no secret


@dataclass(slots=True, eq=False)
class _Job:
    """A job of an account.

    Attributes:
        due: the next run, on the clock that nobody sets.
        planned: the same by the system's clock, as that went when the run was planned.
        under_way: the run that is.
        is_wanted: whether it is to run out of turn, or once more when the run under way has ended.
        is_late: whether it has been told that the run under way takes too long.
    """

    name: str
    account: str
    run: Run
    timing: _Timing
    due: float
    planned: datetime
    under_way: asyncio.Task[None] | None = None
    is_wanted: bool = False
    is_late: bool = False

    @property
    def identity(self) -> str:
        return _identity(self.name, self.account)


class Scheduler:
    """The jobs of all accounts.

    At most one run of a job is under way; a run that is due meanwhile is skipped, counted, and made up for by the next.
    A run that could not begin in time begins as soon as it can.

    Args:
        intervals: of the jobs that have some.
        health: counts.
        clock: the system's clock.
        monotonic: tells seconds on a clock that nobody sets.
    """

    def __init__(
        self,
        *,
        intervals: Intervals,
        health: Health,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = uptime,
    ) -> None:
        self._intervals = intervals
        self._health = health
        self._clock = clock
        self._monotonic = monotonic
        self._problems: dict[str, str] = {}
        self._jobs: dict[str, _Job] = {}
        self._runs: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._planning: asyncio.Task[None] | None = None
        self._between = self._between_clocks()

    def start(self) -> asyncio.Task[None]:
        """Let the jobs run, on the running event loop; return the task that plans, which ends only with an error."""
        self._planning = asyncio.create_task(self._plan())
        return self._planning

    async def stop(self) -> None:
        """Start no more runs, and give up those under way."""
        tasks = self._runs if self._planning is None else {self._planning, *self._runs}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def every_while(self, job: str, account: str, run: Run) -> None:
        """Run a job now and at its interval: current, history, balance, invoices, prices or names.

        Reconciliation waits for its first turn, or to be run when the history is there: it needs whole months. A probe
        lets the first polls go before it.
        """
        spans = {
            "current": self._intervals.current,
            "history": self._intervals.current,
            "balance": self._intervals.balance,
            "invoices": self._intervals.invoices,
            "prices": self._intervals.invoices,
            "names": self._intervals.names,
            "reconciliation": self._intervals.invoices,
            "probe": HOUR,
        }
        firsts = {"reconciliation": spans["reconciliation"], "probe": _PROBE_AFTER_THE_START}
        self._add(job, account, run, _Every(spans[job].total_seconds()), first=firsts.get(job, timedelta(0)))

    def by_calendar(self, job: str, account: str, run: Run) -> None:
        """Run a job at its times: recent every hour; deep, months and retention every day.

        None is on the hour itself, when everybody asks. Each also runs once a while after the start, for an exporter
        that is never up at those times.
        """
        times = {
            "recent": _Calendar(4, jitter=240),
            "deep": _Calendar(10, 2),
            "months": _Calendar(30, 3),
            "retention": _Calendar(40, 4),
        }
        self._add(job, account, run, times[job], first=_AFTER_THE_START[job])

    def run_now(self, job: str, account: str) -> None:
        """Run a job out of turn: at once, or once more when the run under way, which began before, has ended."""
        self._want(self._jobs[_identity(job, account)])

    def drop(self, job: str, account: str) -> None:
        """Run a job no more."""
        self._jobs.pop(_identity(job, account)).is_wanted = False

    def begin_due(self) -> float:
        """Begin the runs that are due; return the seconds after which there may be more."""
        self._notice_step()
        now = self._monotonic()
        for job in tuple(self._jobs.values()):
            if job.due <= now:
                late = now - job.due
                self._put_off(job, job.timing.wait(self._clock()))
                if job.under_way is not None:
                    self._skipped(job)
                    continue
                if late >= _OVERDUE_INTERVALS * job.timing.span:
                    self._overdue(job, late)
                self._begin(job)
        return min([_LOOK_SECONDS, *(job.due - now for job in self._jobs.values())])

    async def _plan(self) -> None:
        while True:
            self._changed.clear()
            wait = self.begin_due()
            # Not by wait_for: in Python 3.11 it goes on if it is cancelled just as what it waits for happens.
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._changed.wait()

    def _add(self, name: str, account: str, run: Run, timing: _Timing, *, first: timedelta) -> None:
        job = _Job(name, account, run, timing, 0.0, self._clock())
        self._put_off(job, first.total_seconds())
        self._jobs[job.identity] = job
        self._changed.set()

    def _put_off(self, job: _Job, seconds: float) -> None:
        job.due = self._monotonic() + seconds
        job.planned = self._clock() + timedelta(seconds=seconds)

    def _want(self, job: _Job) -> None:
        job.is_wanted = True
        if job.under_way is None:
            self._put_off(job, 0)
            self._changed.set()

    def _begin(self, job: _Job) -> None:
        job.under_way = asyncio.create_task(self._watched(job), name=job.identity)
        self._runs.add(job.under_way)
        job.under_way.add_done_callback(self._runs.discard)

    async def _watched(self, job: _Job) -> None:
        try:
            await self._run(job)
            while job.is_wanted:
                await self._run(job)
        finally:
            job.under_way = None
            job.is_late = False

    async def _run(self, job: _Job) -> None:
        job.is_wanted = False
        try:
            await job.run()
        except FalExporterError as error:
            self._failed(job.identity, str(error))
        except Exception as error:  # noqa: BLE001  one job must never end the others
            _log.debug("traceback of the unexpected error", exc_info=error)
            self._failed(job.identity, f"an unexpected {type(error).__name__}; please report it with the debug log")
        else:
            self._problems.pop(job.identity, None)

    def _failed(self, identity: str, problem: str) -> None:
        if self._problems.get(identity) != problem:
            _log.warning("a job failed; its next run retries", job=identity, problem=problem)
        self._problems[identity] = problem

    def _overdue(self, job: _Job, late: float) -> None:
        self._health.run_missed(job.name, runs=int(late // job.timing.span))
        _log.warning("a job could not start in time and starts now", job=job.identity, seconds=round(late))

    def _skipped(self, job: _Job) -> None:
        # Loading the history takes as long as it takes; its runs only see to it that it goes on after a failure.
        if job.name == "history":
            return
        self._health.run_missed(job.name)
        if not job.is_late:
            job.is_late = True
            _log.warning("a job takes longer than its interval; runs are skipped until it ends", job=job.identity)

    def _between_clocks(self) -> float:
        while True:
            before = self._monotonic()
            now = self._clock().timestamp()
            # The process may have been stopped between the two readings.
            if self._monotonic() - before < 1:
                return now - before

    def _notice_step(self) -> None:
        """Notice that the system's clock has been set; what was planned by it is planned anew."""
        between = self._between_clocks()
        step, self._between = between - self._between, between
        if abs(step) < _STEP_SECONDS:
            return
        self._health.clock_stepped()
        _log.warning(
            "the system clock has been set; polls continue, and the next ones correct the timestamps",
            seconds=round(step, 1),
            now=self._clock().isoformat(timespec="seconds"),
        )
        for job in self._jobs.values():
            if isinstance(job.timing, _Calendar):
                is_past = job.planned <= self._clock()
                self._put_off(job, 0 if is_past else job.timing.wait(self._clock()))
            if job.name in _AFTER_A_STEP:
                self._want(job)


def _identity(job: str, account: str) -> str:
    return f"{job}:{account}"
