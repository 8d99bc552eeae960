"""Makes publications: after everything that changed, and when the clock alone changes what is true."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from exporter.errors import LedgerError
from exporter.ledger import Ledger, LedgerView
from exporter.metrics.encoding import Encoder
from exporter.metrics.figures import snapshot_of
from exporter.metrics.health import Health
from exporter.metrics.publication import NO_OUTLOOK, Publication
from exporter.schedule.account import PolledAccount, history_progress
from exporter.schedule.breakdown import Breakdown
from exporter.schedule.desk import LedgerDesk
from exporter.schedule.outlook import OutlookMaker
from exporter.schedule.overview import overview_of
from exporter.schedule.windows import Reach, history_start, month_start

_log = structlog.get_logger(__name__)

_AT_LEAST_EVERY = timedelta(seconds=5)
"""How late the turn of an hour, or the end of a hold, may show."""

_AT_MOST_EVERY = timedelta(milliseconds=250)
"""How long changes are gathered, so that a load of many pieces is not encoded piece by piece."""


class Publisher:
    """Publishes the state of the collector, encoded in the ledger's thread.

    Args:
        emit: takes each publication; may wait, and is then the measure of how often there is one.
        outlooks: makes what is told of budgets, forecasts and runways.
        notes: sentences for the top of the landing page.
        links: further titles and addresses for its foot.
    """

    def __init__(
        self,
        *,
        desk: LedgerDesk,
        accounts: Sequence[PolledAccount],
        health: Health,
        reach: Reach,
        emit: Callable[[Publication], None],
        outlooks: OutlookMaker,
        notes: tuple[str, ...] = (),
        links: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._desk = desk
        self._accounts = accounts
        self._health = health
        self._reach = reach
        self._emit = emit
        self._outlooks = outlooks
        self._breakdown = Breakdown(reach.zone)
        self._notes = notes
        self._links = links
        self._encoder = Encoder()
        self._view: LedgerView | None = None
        self._outlook = NO_OUTLOOK
        self._trouble = ""
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Have the next publication made soon."""
        self._changed.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self.publish()
            await asyncio.sleep(_AT_MOST_EVERY.total_seconds())
            # Not by wait_for: in Python 3.11 it goes on if it is cancelled just as what it waits for happens.
            with suppress(TimeoutError):
                async with asyncio.timeout(_AT_LEAST_EVERY.total_seconds()):
                    await self._changed.wait()

    async def publish(self) -> None:
        """Publish once.

        While the ledger is in trouble its last figures stay, with the instant they are of; the exporter's own health
        goes on, so that the trouble can be seen from outside.
        """
        self._changed.clear()
        publication = await self._desk.run(self._publication)
        if self._outlooks.is_behind:
            self._changed.set()
        if publication is not None:
            await asyncio.to_thread(self._emit, publication)

    def _publication(self, ledger: Ledger) -> Publication | None:
        try:
            view = ledger.view()
            self._outlook = self._outlooks.make(ledger, view, self._accounts)
            self._view = view
        except LedgerError as error:
            if str(error) != self._trouble:
                _log.error("the ledger's figures stay as they were", problem=str(error))
            self._trouble = str(error)
        else:
            self._trouble = ""
        if self._view is None:
            return None
        view, outlook = self._view, self._outlook
        progress = {(scope.account, scope.source): history_progress(scope, self._reach) for scope in view.scopes}
        exposition = self._encoder.encode(snapshot_of(view, progress, outlook), self._health.rendered())
        overview = overview_of(
            view,
            self._accounts,
            self._reach,
            notes=self._notes,
            links=self._links,
            daily=self._breakdown.daily(view, self._outlooks.hours),
            rankings=self._breakdown.rankings(view),
        )
        return Publication(view.sequence, view.at, exposition, overview, self._is_ready(view), outlook)

    def _is_ready(self, view: LedgerView) -> bool:
        """Tell whether the current month is loaded: of every source, or of some while the others cannot be read.

        Of an account whose key may not read usage the balance is all there is to load; of a month that began before
        the configured history, what the history holds.
        """
        month = month_start(view.at, self._reach.zone)
        loaded = {
            (scope.account, scope.source)
            for scope in view.scopes
            if scope.data_through is not None
            and scope.data_through >= month
            and scope.history_from is not None
            and scope.history_from <= max(month, history_start(scope.born_at, self._reach))
        }
        waiting = []
        for account in self._accounts:
            sources = [polled for polled in account.polled if polled.name in account.sources]
            waiting += [it for it in sources if (it.account, it.name) not in loaded and it.state != "failing"]
            if not sources and account.problem and account.balance.state == "up":
                loaded.add((account.name, account.balance.name))
        return bool(loaded) and not waiting
