"""Pusher of FOCUS files: the last two months to a store or a cost service, in a process of its own."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from exporter.charges import Clock
from exporter.errors import FalExporterError
from exporter.metrics.health import Health
from exporter.metrics.jobs import FocusPushMetrics
from exporter.queries.focus.push_process import Outcome, order_text
from exporter.worker import WorkerError, worker

_log = structlog.get_logger(__name__)

_MODULE = "exporter.queries.focus.push_process"
_LONGEST = timedelta(minutes=30)

_EARLY = 0.9
"""Share of the interval after which a push is due: looks come a little early or late."""


class PushError(FalExporterError):
    """FOCUS files could not be pushed; the message says why."""


class FocusPusher:
    """Pushes to one destination what is due.

    Args:
        destination: `STORE`, or the name of a cost service.
        address: of the ledger.
        url: of the store.
        output_format: of the store's files.
        version: of FOCUS, of the store's files.
        interval: between pushes that succeed.
        metrics: shows how they went.
        health: keeps what is wrong for the landing page.
        changed: is told when there is something new to show.
        clock: the time.
    """

    def __init__(
        self,
        destination: str,
        *,
        address: str,
        url: str,
        output_format: str,
        version: str,
        interval: timedelta,
        metrics: FocusPushMetrics,
        health: Health,
        changed: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.destination = destination
        self._address = address
        self._url = url
        self._format = output_format
        self._version = version
        self._interval = interval
        self._metrics = metrics
        self._health = health
        self._changed = changed
        self._clock = clock
        self._succeeded: datetime | None = None
        self._notes: tuple[str, ...] = ()
        metrics.expect(destination)

    async def push_if_due(self) -> None:
        """Push where the interval has passed since the last success.

        Raises:
            PushError: the push has failed.
        """
        now = self._clock()
        if self._succeeded is not None and self._succeeded <= now < self._succeeded + _EARLY * self._interval:
            return
        await self.push()

    async def push(self) -> None:
        """Push now.

        Raises:
            PushError: the push has failed.
        """
        at = self._clock()
        outcome = await self._outcome(at)
        if outcome.problem:
            self._metrics.failed(self.destination)
            self._health.focus_push_problems[self.destination] = outcome.problem
            self._changed()
            raise PushError(outcome.problem)
        self._succeeded = at
        self._metrics.succeeded(self.destination, at, rows=outcome.rows, written=outcome.written)
        self._health.focus_push_problems.pop(self.destination, None)
        self._changed()
        if outcome.notes != self._notes:
            for note in outcome.notes:
                _log.info("a month of FOCUS files is not pushed, or not whole", note=note)
        self._notes = outcome.notes
        _log.debug(
            "FOCUS files are up to date", destination=self.destination, rows=outcome.rows, written=outcome.written
        )

    async def _outcome(self, at: datetime) -> Outcome:
        order = order_text(
            self.destination,
            address=self._address,
            url=self._url,
            output_format=self._format,
            version=self._version,
            now=at,
        )
        try:
            async with asyncio.timeout(_LONGEST.total_seconds()), worker(_MODULE, order) as running:
                return Outcome.read(await running.head())
        except TimeoutError:
            return Outcome(problem=f"the push took longer than {_LONGEST.total_seconds() / 60:.0f} minutes")
        except WorkerError as error:
            return Outcome(problem=f"the process that pushes FOCUS files has failed: {error}; try `focus push` by hand")
