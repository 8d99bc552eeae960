"""Scheduler: which hours each job polls, when it runs, and what becomes of runs that do not take place.

Late data are normal at fal (15 hours have been seen) and corrections come days later, so the same hours are read again
at growing distances: the last two every few minutes, two days every hour, eight days and two months every day.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import structlog
from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from exporter.calendar import periods_at
from exporter.charges import HOUR, Window, hour_of
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

_LATE_BY_AT_MOST = timedelta(minutes=1)
"""A run that could not start for so long is missed; the next one reads the same hours and more."""

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
    "reconciliation",
    "probe",
    "retention",
)

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Intervals of the jobs that have no place in the calendar."""

    current: timedelta
    balance: timedelta
    invoices: timedelta


class Scheduler:
    """The jobs of all accounts, by the system's clock.

    At most one run of a job is under way; a run that is due meanwhile is skipped, counted, and made up for by the next.
    """

    def __init__(self, *, intervals: Intervals, health: Health) -> None:
        self._intervals = intervals
        self._health = health
        self._problems: dict[str, str] = {}
        self._running: set[str] = set()
        self._wanted: set[str] = set()
        self._late: set[str] = set()
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={
                "max_instances": 1,
                "coalesce": True,
                "misfire_grace_time": int(_LATE_BY_AT_MOST.total_seconds()),
            },
        )
        self._scheduler.add_listener(self._missed, EVENT_JOB_MISSED)
        self._scheduler.add_listener(self._skipped, EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Let the jobs run, on the running event loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Start no more runs; those under way are the caller's to await or cancel."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def every_while(self, job: str, account: str, run: Run) -> None:
        """Run a job now and at its interval: current, history, balance, invoices or prices.

        Reconciliation waits for its first turn, or to be run when the history is there: it needs whole months. A probe
        lets the first polls go before it.
        """
        spans = {
            "current": self._intervals.current,
            "history": self._intervals.current,
            "balance": self._intervals.balance,
            "invoices": self._intervals.invoices,
            "prices": self._intervals.invoices,
            "reconciliation": self._intervals.invoices,
            "probe": HOUR,
        }
        firsts = {"reconciliation": spans["reconciliation"], "probe": _PROBE_AFTER_THE_START}
        span = spans[job].total_seconds()
        trigger = IntervalTrigger(seconds=span, jitter=span / 20, timezone=UTC)
        self._add(job, account, run, trigger, first=firsts.get(job, timedelta(0)))

    def by_calendar(self, job: str, account: str, run: Run) -> None:
        """Run a job at its times: recent every hour; deep, months and retention every day.

        None is on the hour itself, when everybody asks. Each also runs once a while after the start, for an exporter
        that is never up at those times.
        """
        triggers = {
            "recent": CronTrigger(minute=6, jitter=120, timezone=UTC),
            "deep": CronTrigger(hour=2, minute=20, jitter=600, timezone=UTC),
            "months": CronTrigger(hour=3, minute=40, jitter=600, timezone=UTC),
            "retention": CronTrigger(hour=4, minute=50, jitter=600, timezone=UTC),
        }
        self._add(job, account, run, triggers[job], first=_AFTER_THE_START[job])

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

    def _add(
        self, job: str, account: str, run: Run, trigger: IntervalTrigger | CronTrigger, *, first: timedelta
    ) -> None:
        identity = _identity(job, account)

        async def watched() -> None:
            self._running.add(identity)
            try:
                await self._run(identity, run)
                while identity in self._wanted:
                    await self._run(identity, run)
            except asyncio.CancelledError:
                # The scheduler would log being stopped as an error of the job.
                if self._scheduler.running:
                    raise
            finally:
                self._running.discard(identity)
                self._late.discard(identity)

        self._scheduler.add_job(watched, trigger, id=identity, name=job, next_run_time=datetime.now(UTC) + first)

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

    def _missed(self, event: JobEvent) -> None:
        self._health.run_missed(_job(event))
        _log.warning("a job could not start in time; its next run makes up for it", job=event.job_id)

    def _skipped(self, event: JobEvent) -> None:
        # Loading the history takes as long as it takes; its runs only see to it that it goes on after a failure.
        if _job(event) == "history":
            return
        self._health.run_missed(_job(event))
        if event.job_id not in self._late:
            self._late.add(event.job_id)
            _log.warning("a job takes longer than its interval; runs are skipped until it ends", job=event.job_id)


def _identity(job: str, account: str) -> str:
    return f"{job}:{account}"


def _job(event: JobEvent) -> str:
    identity: str = event.job_id
    return identity.partition(":")[0]
