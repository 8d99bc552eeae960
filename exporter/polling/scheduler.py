"""Scheduler: which hours each job polls, when it runs, and what becomes of runs that do not take place.

Late data are normal at fal (15 hours have been seen) and corrections come days later, so the same hours are read again
at growing distances: the last two every few minutes, two days every hour, eight days and two months every day.

Runs are planned by the system's clock, which tells what hour it is. Where it is set, that is noticed within seconds by
a clock that nobody can set, and everything planned moves along.

Each account has its own place within every interval, so that many accounts do not ask fal all at once, neither at the
start nor on the hour, and each is read as often as any other.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, JobEvent
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from exporter.calendar import periods_at
from exporter.charges import HOUR, Window, hour_of, uptime
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

_AFTER_A_STEP = (
    "current",
    "recent",
    "balance",
    "invoices",
    "prices",
    "names",
    "reconciliation",
    "machines",
    "tags",
    "queues",
    "requests",
)
"""Jobs that put right what the wrong clock has stamped."""

_AFTER_THE_START = {
    "recent": timedelta(minutes=2),
    "deep": timedelta(minutes=10),
    "months": timedelta(minutes=20),
    "retention": timedelta(minutes=30),
    "machines": timedelta(seconds=20),
}

_CALENDAR_SPREAD = {
    "recent": timedelta(minutes=44),
    "deep": timedelta(minutes=75),
    "months": timedelta(minutes=65),
    "machines": timedelta(minutes=44),
    "retention": timedelta(0),
}
"""Time over which the runs of all accounts are spread at most."""

_BETWEEN_ACCOUNTS = timedelta(seconds=20)
"""Time between the runs of two accounts, where the spread has room for it."""

_BETWEEN_STARTS = timedelta(milliseconds=50)
"""Time between the first runs of two accounts."""

_PROBE_AFTER_THE_START = timedelta(seconds=2)
_TAGS_AFTER_THE_START = timedelta(seconds=5)
_REQUESTS_AFTER_THE_START = timedelta(seconds=5)
_FOCUS_PUSH_AFTER_THE_START = timedelta(minutes=3)
_BOOKED_AFTER_THE_START = timedelta(minutes=5)
_SENT_AFTER_THE_START = timedelta(seconds=10)

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
    "tags",
    "queues",
    "machines",
    "retention",
)

REQUESTS_JOB = "requests"
"""The job that reads single requests, where that is wanted."""

FOCUS_PUSH_JOB = "focus_push"
FOCUS_PUSH_LOOK = timedelta(minutes=15)
"""Interval at which it is looked whether a push of FOCUS files is due; a failed one is tried again after it."""

"""The job that pushes FOCUS files, where that is wanted."""

REMOTE_WRITE_JOB = "remote_write"
"""The job that sends hourly samples, where that is wanted."""

OTLP_JOB = "otlp"
"""The job that sends metrics by OTLP, where that is wanted."""

BOOKED_JOB = "booked"
"""The job that compares bookings with requests, where that is wanted."""

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the jobs that have no place in the calendar."""

    current: timedelta
    balance: timedelta
    invoices: timedelta
    names: timedelta
    focus_push: timedelta = timedelta(minutes=15)
    booked: timedelta = timedelta(hours=6)
    remote_write: timedelta = timedelta(minutes=1)
    otlp: timedelta = timedelta(minutes=1)


class _Planner(AsyncIOScheduler):  # type: ignore[misc]  # it has no types
    """APScheduler, which says before it begins what is due, as it does not tell how long that has been due."""

    before: Callable[[], None]

    def wakeup(self) -> None:
        """Begin what is due."""
        self.before()
        super().wakeup()


class _Evenly(IntervalTrigger):  # type: ignore[misc]  # it has no types
    """Instants at an interval after an origin, each up to a twentieth of it late; they neither drift nor gather.

    Args:
        span: the interval.
        origin: one of the instants.
    """

    def __init__(self, span: timedelta, origin: datetime) -> None:
        super().__init__(seconds=span.total_seconds(), timezone=UTC)
        self._span = span
        self._origin = origin

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        """Return the next instant that is at least half an interval after the previous run."""
        after = (previous_fire_time or now) + self._span / 2
        due = self._origin + -((self._origin - after) // self._span) * self._span
        return due + self._span * random.uniform(0, 1) / 20  # noqa: S311  spreads load


class Scheduler:
    """The jobs of all accounts, planned by APScheduler.

    At most one run of a job is under way; a run that is due meanwhile is skipped, counted, and made up for by the next.
    A run that could not begin in time begins as soon as it can. APScheduler plans by the system's clock, which can be
    set: a watchdog compares that with a clock that cannot, and moves what is planned along with it.

    Args:
        intervals: of the jobs that have some.
        health: counts.
        monotonic: tells seconds on a clock that nobody sets.
    """

    def __init__(self, *, intervals: Intervals, health: Health, monotonic: Callable[[], float] = uptime) -> None:
        self._intervals = intervals
        self._health = health
        self._monotonic = monotonic
        self._problems: dict[str, str] = {}
        self._spans: dict[str, float] = {}
        self._running: set[str] = set()
        self._runs: set[asyncio.Task[None]] = set()
        self._wanted: set[str] = set()
        self._late: set[str] = set()
        self._watching: asyncio.Task[None] | None = None
        self._stopping = False
        self._between = self._between_clocks()
        self._places: dict[str, int] = {}
        self._planned = MemoryJobStore()
        self._scheduler = _Planner(
            timezone=UTC,
            jobstores={"default": self._planned},
            job_defaults={"max_instances": 1, "coalesce": True, "misfire_grace_time": None},
        )
        self._scheduler.before = self._count_overdue
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)

    def start(self) -> asyncio.Task[None]:
        """Let the jobs run, on the running event loop; return the watchdog's task, which ends only with an error."""
        self._scheduler.start()
        self._watching = asyncio.create_task(self._watch())
        return self._watching

    async def stop(self) -> None:
        """Start no more runs, and give up those under way."""
        self._stopping = True
        if self._scheduler.running:
            self._scheduler.pause()
            # What has been submitted in this turn begins in the next, and ends at once. Shutting down first would
            # cancel it before it has begun, which APScheduler logs as an error.
            await _turn()
        tasks = self._runs if self._watching is None else {self._watching, *self._runs}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
            await _turn()

    def spread(self, accounts: Sequence[str]) -> None:
        """Give each of the accounts its place within every interval; for jobs that are planned from now on."""
        self._places = {account: place for place, account in enumerate(accounts)}

    def every_while(self, job: str, account: str, run: Run) -> None:
        """Run a job now and at its interval: current, history, balance, invoices, prices, names, tags and so on.

        Queues wait for their first turn, when apps have been listed. Reconciliation waits for its first turn, or to be
        run when the history is there: it needs whole months. A probe and tags let the first polls go before them.
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
            "tags": HOUR,
            "queues": self._intervals.current,
            "requests": self._intervals.current,
            FOCUS_PUSH_JOB: self._intervals.focus_push,
            BOOKED_JOB: self._intervals.booked,
            REMOTE_WRITE_JOB: self._intervals.remote_write,
            OTLP_JOB: self._intervals.otlp,
        }
        firsts = {
            "reconciliation": spans["reconciliation"],
            "probe": _PROBE_AFTER_THE_START,
            "tags": _TAGS_AFTER_THE_START,
            "queues": spans["queues"],
            "requests": _REQUESTS_AFTER_THE_START,
            FOCUS_PUSH_JOB: _FOCUS_PUSH_AFTER_THE_START,
            BOOKED_JOB: _BOOKED_AFTER_THE_START,
            REMOTE_WRITE_JOB: _SENT_AFTER_THE_START,
            OTLP_JOB: _SENT_AFTER_THE_START,
        }
        span, place = spans[job], self._places.get(account, 0)
        first = datetime.now(UTC) + firsts.get(job, timedelta(0)) + place * _BETWEEN_STARTS
        trigger = _Evenly(span, first + span * place / max(len(self._places), 1))
        self._add(job, account, run, trigger, span=span.total_seconds(), first=first)

    def by_calendar(self, job: str, account: str, run: Run) -> None:
        """Run a job at its times: recent and machines every hour; deep, months and retention every day.

        None is on the hour itself, when everybody asks. Each also runs once a while after the start, for an exporter
        that is never up at those times.
        """
        times = {
            "recent": timedelta(minutes=6),
            "deep": timedelta(hours=2, minutes=20),
            "months": timedelta(hours=3, minutes=40),
            "machines": timedelta(minutes=10),
            "retention": timedelta(hours=4, minutes=50),
        }
        is_hourly = job in {"recent", "machines"}
        later = self._places.get(account, 0) * min(_BETWEEN_ACCOUNTS, _CALENDAR_SPREAD[job] / max(len(self._places), 1))
        minutes, second = divmod(int((times[job] + later).total_seconds()), 60)
        hour, minute = divmod(minutes, 60)
        trigger = CronTrigger(
            hour=None if is_hourly else hour,
            minute=minute,
            second=second,
            jitter=120 if is_hourly else 600,
            timezone=UTC,
        )
        span = (HOUR if is_hourly else 24 * HOUR).total_seconds()
        self._add(job, account, run, trigger, span=span, first=datetime.now(UTC) + _AFTER_THE_START[job] + later)

    def run_now(self, job: str, account: str) -> None:
        """Run a job out of turn: at once, or once more when the run under way, which began before, has ended."""
        identity = _identity(job, account)
        self._wanted.add(identity)
        if identity not in self._running:
            self._scheduler.modify_job(identity, next_run_time=datetime.now(UTC))

    def drop(self, job: str, account: str) -> None:
        """Run a job no more."""
        self._wanted.discard(_identity(job, account))
        self._scheduler.remove_job(_identity(job, account))

    def has(self, job: str, account: str) -> bool:
        """Return whether a job is planned."""
        return self._scheduler.get_job(_identity(job, account)) is not None

    def look(self) -> None:
        """Compare the clocks, and begin what is due; timers alone would sleep on where a machine has slept."""
        self._notice_step()
        self._scheduler.wakeup()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.look()

    def _add(
        self, job: str, account: str, run: Run, trigger: IntervalTrigger | CronTrigger, *, span: float, first: datetime
    ) -> None:
        identity = _identity(job, account)
        self._spans[identity] = span

        async def watched() -> None:
            if self._stopping:
                return
            task = asyncio.current_task()
            if task is not None:
                self._runs.add(task)
                task.add_done_callback(self._runs.discard)
            self._running.add(identity)
            try:
                await self._run(identity, run)
                while identity in self._wanted:
                    await self._run(identity, run)
            except asyncio.CancelledError:
                # APScheduler would log being stopped as an error of the job. It is itself stopped only a turn of the
                # loop after it is told to, so it is not asked.
                if not self._stopping:
                    raise
            finally:
                self._running.discard(identity)
                self._late.discard(identity)

        self._scheduler.add_job(watched, trigger, id=identity, name=job, next_run_time=first)

    async def _run(self, identity: str, run: Run) -> None:
        self._wanted.discard(identity)
        try:
            await run()
        except FalExporterError as error:
            self._failed(identity, str(error))
        except Exception as error:  # noqa: BLE001  the scheduler would print a traceback at every run
            _log.debug("traceback of the unexpected error", exc_info=error)
            self._failed(identity, f"an unexpected {type(error).__name__}; please report it with the debug log")
        else:
            self._problems.pop(identity, None)

    def _failed(self, identity: str, problem: str) -> None:
        if self._problems.get(identity) != problem:
            _log.warning("a job failed; its next run retries", job=identity, problem=problem)
        self._problems[identity] = problem

    def _count_overdue(self) -> None:
        now = datetime.now(UTC)
        for job in self._planned.get_due_jobs(now):
            late, span = (now - job.next_run_time).total_seconds(), self._spans[job.id]
            if late >= _OVERDUE_INTERVALS * span and job.id not in self._running:
                self._health.run_missed(job.name, runs=int(late // span))
                _log.warning("a job could not start in time and starts now", job=job.id, seconds=round(late))

    def _skipped(self, event: JobEvent) -> None:
        # Loading or sending the history takes as long as it takes; runs only see to it that it goes on after a failure.
        if _job(event) in {"history", "requests", REMOTE_WRITE_JOB}:
            return
        self._health.run_missed(_job(event))
        if event.job_id not in self._late:
            self._late.add(event.job_id)
            _log.warning("a job takes longer than its interval; runs are skipped until it ends", job=event.job_id)

    def _between_clocks(self) -> float:
        while True:
            before = self._monotonic()
            now = datetime.now(UTC).timestamp()
            # The process may have been stopped between the two readings.
            if self._monotonic() - before < 1:
                return now - before

    def _notice_step(self) -> None:
        """Notice that the system's clock has been set; what was planned by it is planned anew.

        A job with an interval keeps its distance to now. One of the calendar follows the new time of day, and runs at
        once where its time was passed over.
        """
        between = self._between_clocks()
        step, self._between = between - self._between, between
        if abs(step) < _STEP_SECONDS:
            return
        now = datetime.now(UTC)
        self._health.clock_stepped()
        _log.warning(
            "the system clock has been set; polls continue, and the next ones correct the timestamps",
            seconds=round(step, 1),
            now=now.isoformat(timespec="seconds"),
        )
        for job in self._scheduler.get_jobs():
            if isinstance(job.trigger, IntervalTrigger):
                job.modify(next_run_time=job.next_run_time + timedelta(seconds=step))
            elif job.next_run_time > now:
                job.modify(next_run_time=job.trigger.get_next_fire_time(None, now))
            if job.name in _AFTER_A_STEP:
                self.run_now(job.name, job.id.partition(":")[2])


async def _turn() -> None:
    """Let the loop do what it has to do now, and what comes of that: APScheduler acts in turns of its own."""
    for _ in range(3):
        await asyncio.sleep(0)


def _identity(job: str, account: str) -> str:
    return f"{job}:{account}"


def _job(event: JobEvent) -> str:
    identity: str = event.job_id
    return identity.partition(":")[0]
