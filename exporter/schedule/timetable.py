"""When each job runs: APScheduler's triggers, and what becomes of runs that do not take place."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, timedelta

from apscheduler.events import EVENT_JOB_MAX_INSTANCES, EVENT_JOB_MISSED, JobEvent
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from exporter.charges import Clock
from exporter.metrics.health import Health

_LATE_BY_AT_MOST = timedelta(minutes=1)
"""A run that could not start for so long is missed; the next one reads the same hours and more."""

JOBS = ("current", "recent", "deep", "months", "history", "balance", "invoices", "retention")

Run = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Intervals:
    """How often the jobs run that have no place in the calendar."""

    current: timedelta
    balance: timedelta
    invoices: timedelta


class Timetable:
    """The jobs of all accounts.

    At most one run of a job is under way; a run that is due meanwhile is skipped, counted, and made up for by the next.
    """

    def __init__(self, *, intervals: Intervals, health: Health, clock: Clock) -> None:
        self._intervals = intervals
        self._health = health
        self._clock = clock
        self._scheduler = AsyncIOScheduler(
            timezone=UTC,
            job_defaults={
                "max_instances": 1,
                "coalesce": True,
                "misfire_grace_time": int(_LATE_BY_AT_MOST.total_seconds()),
            },
        )
        self._scheduler.add_listener(self._missed, EVENT_JOB_MISSED | EVENT_JOB_MAX_INSTANCES)

    def start(self) -> None:
        """Let the jobs run, on the running event loop."""
        self._scheduler.start()

    def stop(self) -> None:
        """Start no more runs; those under way are the caller's to await or cancel."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def every_while(self, job: str, account: str, run: Run) -> None:
        """Run a job now and at its interval: current, history, balance or invoices."""
        spans = {
            "current": self._intervals.current,
            "history": self._intervals.current,
            "balance": self._intervals.balance,
            "invoices": self._intervals.invoices,
        }
        span = spans[job].total_seconds()
        self._add(job, account, run, IntervalTrigger(seconds=span, jitter=span / 20, timezone=UTC), at_once=True)

    def by_calendar(self, job: str, account: str, run: Run) -> None:
        """Run a job at its times: recent every hour; deep, months and retention every day.

        None is on the hour itself, when everybody asks.
        """
        triggers = {
            "recent": CronTrigger(minute=6, jitter=120, timezone=UTC),
            "deep": CronTrigger(hour=2, minute=20, jitter=600, timezone=UTC),
            "months": CronTrigger(hour=3, minute=40, jitter=600, timezone=UTC),
            "retention": CronTrigger(hour=4, minute=50, jitter=600, timezone=UTC),
        }
        self._add(job, account, run, triggers[job], at_once=False)

    def run_now(self, job: str, account: str) -> None:
        """Run a job out of turn."""
        self._scheduler.modify_job(_identity(job, account), next_run_time=self._clock())

    def drop(self, job: str, account: str) -> None:
        """Run a job no more."""
        self._scheduler.remove_job(_identity(job, account))

    def _add(self, job: str, account: str, run: Run, trigger: IntervalTrigger | CronTrigger, *, at_once: bool) -> None:
        async def until_stopped() -> None:
            try:
                await run()
            except asyncio.CancelledError:
                # The scheduler would log being stopped as an error of the job.
                if self._scheduler.running:
                    raise

        first = {"next_run_time": self._clock()} if at_once else {}
        self._scheduler.add_job(until_stopped, trigger, id=_identity(job, account), name=job, **first)

    def _missed(self, event: JobEvent) -> None:
        self._health.run_missed(event.job_id.partition(":")[0])


def _identity(job: str, account: str) -> str:
    return f"{job}:{account}"
