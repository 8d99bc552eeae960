"""Comparer of bookings with charged requests, at an interval, in a process of its own."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from exporter.booked.process import Outcome
from exporter.charges import Clock
from exporter.errors import FalExporterError
from exporter.metrics.health import Health
from exporter.metrics.jobs import BookedMetrics
from exporter.overview import Bookings
from exporter.worker import WorkerError, worker

_log = structlog.get_logger(__name__)

_MODULE = "exporter.booked.process"
_LONGEST = timedelta(minutes=30)
_LARGEST = 2**24


class BookedError(FalExporterError):
    """Bookings could not be compared; the message says why."""


class BookedComparer:
    """Compares this month and the last.

    Args:
        order: makes the order of a comparison at an instant.
        metrics: shows the outcome.
        health: keeps it for the landing page.
        changed: is told when there is something new to show.
        clock: the time.
    """

    def __init__(
        self,
        *,
        order: Callable[[datetime], bytes],
        metrics: BookedMetrics,
        health: Health,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._order = order
        self._metrics = metrics
        self._health = health
        self._changed = changed
        self._clock = clock

    async def compare(self) -> None:
        """Compare now.

        Raises:
            BookedError: it has failed.
        """
        try:
            outcome = await self._outcome()
        except BookedError as error:
            self._metrics.failed()
            self._health.bookings = replace(self._health.bookings or Bookings(), problem=str(error))
            self._changed()
            raise
        self._metrics.succeeded(outcome)
        self._health.bookings = Bookings(outcome.off, outcome.charged, outcome.end, too_high=outcome.too_high)
        self._changed()
        _log.debug("bookings have been compared", booked=outcome.booked, charged=outcome.charged)

    async def _outcome(self) -> Outcome:
        order = self._order(self._clock())
        try:
            async with asyncio.timeout(_LONGEST.total_seconds()), worker(_MODULE, order) as running:
                problem = json.loads(await running.head())["problem"]
                if not problem:
                    return Outcome.read(await running.body(_LARGEST))
        except TimeoutError:
            minutes = _LONGEST.total_seconds() / 60
            problem = f"the comparison took longer than {minutes:.0f} minutes; compare less with `reconcile` by hand"
        except WorkerError as error:
            problem = f"the process that compares bookings has failed: {error}; try `fal-exporter reconcile` by hand"
        raise BookedError(f"BOOKED_SOURCE: {problem}")
