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
from exporter.metrics.publication import Publication
from exporter.schedule.account import PolledAccount, history_progress
from exporter.schedule.desk import LedgerDesk
from exporter.schedule.overview import overview_of
from exporter.schedule.windows import Reach, month_start

_log = structlog.get_logger(__name__)

_AT_LEAST_EVERY = timedelta(seconds=5)
"""How late the turn of an hour, or the end of a hold, may show."""

_AT_MOST_EVERY = timedelta(milliseconds=250)
"""How long changes are gathered, so that a load of many pieces is not encoded piece by piece."""


class Publisher:
    """Publishes the state of the collector, encoded in the ledger's thread.

    Args:
        emit: takes each publication; may wait, and is then the measure of how often there is one.
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
        notes: tuple[str, ...] = (),
        links: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._desk = desk
        self._accounts = accounts
        self._health = health
        self._reach = reach
        self._emit = emit
        self._notes = notes
        self._links = links
        self._encoder = Encoder()
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Have the next publication made soon."""
        self._changed.set()

    async def run(self) -> None:
        """Publish until cancelled; while the ledger is in trouble what was published last stays."""
        trouble = ""
        while True:
            try:
                await self.publish()
            except LedgerError as error:
                if str(error) != trouble:
                    _log.error("nothing new can be published", problem=str(error))
                trouble = str(error)
            else:
                trouble = ""
            await asyncio.sleep(_AT_MOST_EVERY.total_seconds())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _AT_LEAST_EVERY.total_seconds())

    async def publish(self) -> None:
        """Publish once."""
        self._changed.clear()
        publication = await self._desk.run(self._publication)
        await asyncio.to_thread(self._emit, publication)

    def _publication(self, ledger: Ledger) -> Publication:
        view = ledger.view()
        progress = {(scope.account, scope.source): history_progress(scope, self._reach) for scope in view.scopes}
        exposition = self._encoder.encode(snapshot_of(view, progress), self._health.rendered())
        overview = overview_of(view, self._accounts, self._reach, notes=self._notes, links=self._links)
        return Publication(view.sequence, view.at, exposition, overview, self._is_ready(view))

    def _is_ready(self, view: LedgerView) -> bool:
        """Tell whether the current month is loaded: of every source, or of some while the others cannot be read.

        Of an account whose key may not read usage the balance is all there is to load.
        """
        month = month_start(view.at, self._reach.zone)
        loaded = {
            (scope.account, scope.source)
            for scope in view.scopes
            if scope.data_through is not None and scope.history_from is not None and scope.history_from <= month
        }
        waiting = []
        for account in self._accounts:
            sources = [polled for polled in account.polled if polled.name in account.sources]
            waiting += [it for it in sources if (it.account, it.name) not in loaded and it.state != "failing"]
            if not sources and account.problem and account.balance.state == "up":
                loaded.add((account.name, account.balance.name))
        return bool(loaded) and not waiting
