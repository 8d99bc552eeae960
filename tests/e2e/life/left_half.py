"""An exporter whose clock and way to fal are the test's, and whose jobs run when the test says so.

All else is what `serve` runs: the client and its sources, the ledger on a SQLite file in its own thread, the polls, the
publisher, and the web application that answers a scrape. What is missing is APScheduler, whose clock cannot be moved,
the pipe between the two processes, and the outlook where it is not asked for.
"""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from e2e.life.witness import Committed, KilledError, WitnessedLedger
from prometheus_client import CollectorRegistry
from pydantic import SecretStr
from starlette.types import Message

from exporter.charges import Clock
from exporter.fal import Client
from exporter.fal.endpoints import Limits
from exporter.forecasting.budgets import Budget
from exporter.forecasting.state import Outlook
from exporter.ledger import Ledger, LedgerView, Rules
from exporter.metrics.encoding import Rendered
from exporter.metrics.health import Health
from exporter.metrics.snapshot import Table
from exporter.polling.account import AccountPoller
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.forecasts import ForecastMaker
from exporter.polling.machines import Mode
from exporter.polling.poll_runner import PollRunner
from exporter.polling.publisher import Publisher
from exporter.polling.scheduler import Reach
from exporter.publication import NO_OUTLOOK, Publication
from exporter.simulator import ADMIN_KEY
from exporter.web.application import Application

ACCOUNT = "life"
SOURCES = ("models", "serverless")

_SCRAPE = {
    "type": "http",
    "method": "GET",
    "path": "/metrics",
    "headers": [(b"accept", b"application/openmetrics-text")],
}


class _UnpublishedHealth(Health):
    """Counts as it should, and is left out of publications: writing its families would take most of their time."""

    def tables(self) -> tuple[Table, ...]:
        return ()

    def rendered(self) -> Rendered:
        return Rendered()


class _NoOutlook(ForecastMaker):
    """Foretells nothing: learning from the past again and again would take a third of the time of publications."""

    def make(self, ledger: Ledger, view: LedgerView, accounts: Sequence[AccountPoller]) -> Outlook:
        del ledger, view, accounts
        return NO_OUTLOOK


class LeftHalf:
    """One run of the exporter, from its start to its end; every run of a life has the same folder.

    Args:
        fal: the way to fal.
        ledger: the ledger's file.
        zone: of days and months.
        clock: tells the present.
        witness: is told what polls have committed.
        health: is published if it is given.
        budgets: of an outlook; None for no outlook at all.
        retention: how long the job "retention" keeps hours.
        recent: how far back the job "recent" reads.
        machines: whether runners of own apps are polled.
        limits: of the traffic with fal; None for those of every user.
    """

    def __init__(
        self,
        *,
        fal: httpx.AsyncBaseTransport,
        ledger: Path,
        zone: ZoneInfo,
        clock: Clock,
        witness: Callable[[Committed], None],
        health: Health | None = None,
        budgets: Sequence[Budget] | None = None,
        retention: timedelta = timedelta(days=400),
        recent: timedelta = timedelta(hours=48),
        machines: Mode = "false",
        limits: Limits | None = None,
    ) -> None:
        self._file = ledger
        self._clock = clock
        self._retention = retention
        self._rules = Rules(zone=zone)
        self._witness = witness
        self._ledger = AsyncLedger()
        self._witnessed: WitnessedLedger | None = None
        health = health or _UnpublishedHealth(CollectorRegistry())
        reach = Reach(recent, timedelta(days=8), None, zone)
        outlook_maker = _NoOutlook if budgets is None else ForecastMaker
        self._accounts: list[AccountPoller] = []
        self._publisher = Publisher(
            ledger=self._ledger,
            accounts=self._accounts,
            health=health,
            reach=reach,
            emit=self._emit,
            outlooks=outlook_maker(budgets=budgets or (), reach=reach, by_product=True),
        )
        self._client = Client(
            account=ACCOUNT,
            key=lambda: SecretStr(ADMIN_KEY),
            observer=health,
            platform_url="http://fal/v1",
            reporting_url="http://fal",
            transport=fal,
            limits=limits,
            now=clock,
            sleep=_do_not_wait,
        )
        self.account = AccountPoller(
            client=self._client,
            sources=SOURCES,
            ledger=self._ledger,
            runner=PollRunner(health=health, clock=clock, changed=self._publisher.changed),
            health=health,
            reach=reach,
            with_api_key=False,
            clock=clock,
            machines=machines,
        )
        self._accounts.append(self.account)
        self._published: list[Publication] = []
        self._scraped: list[int] = []
        self._application = Application(on_scrape=self._scraped.append, clock=clock)

    async def start(self) -> None:
        """Open the ledger, publish what it holds, and poll as at every start."""
        await self._ledger.open(self._open)
        await self._ledger.activate({ACCOUNT: SOURCES})
        await self.publish()
        for job in ("current", "history", "balance", "invoices"):
            await self.run(job)
        await self.publish()

    async def run(self, job: str) -> None:
        """Run one of the schedule's jobs."""
        jobs: dict[str, Callable[[], Awaitable[object]]] = {
            "current": self.account.poll_current,
            "recent": self.account.poll_recent,
            "deep": self.account.poll_deep,
            "months": self.account.poll_months,
            "history": self.account.load_history,
            "balance": self.account.poll_balance,
            "invoices": self.account.poll_invoices,
            "reconciliation": self.account.poll_reconciliation,
            "machines": self.account.poll_machines,
            "queues": self.account.poll_queues,
            "retention": self._fold,
        }
        await jobs[job]()

    @property
    def is_up_to_date(self) -> bool:
        """True if the last poll of every source has succeeded."""
        return all(polled.state == "up" for polled in self.account.polled if polled.name in SOURCES)

    async def publish(self) -> None:
        """Make a publication and serve it."""
        await self._publisher.publish()
        self._application.publish(self._published.pop())

    async def scrape(self) -> bytes:
        """Scrape as Prometheus does, and let the ledger know as the web process does."""
        body = bytearray()

        async def receive() -> Message:
            return await asyncio.Future()

        async def send(message: Message) -> None:
            body.extend(message.get("body", b""))

        await self._application(_SCRAPE, receive, send)
        while self._scraped:
            await self._ledger.scraped(self._scraped.pop())
        return bytes(body)

    async def stop(self) -> None:
        """End in good order."""
        await self._client.aclose()
        await self._ledger.close()

    async def die(self, remains: Path) -> None:
        """End as in a power failure: what is on the disk at this instant is all that remains, at another place."""
        _copy(self._file, remains)
        await self.stop()

    async def die_in_a_transaction(self, remains: Path, job: str) -> None:
        """Run a job that a power failure ends in the middle of its second restatement."""
        if self._witnessed is None:
            raise RuntimeError("the exporter has not been started")

        survived = 0

        def dying() -> None:
            nonlocal survived
            if survived:
                _copy(self._file, remains)
                raise KilledError
            survived += 1

        self._witnessed.dying = dying
        try:
            await self.run(job)
        except KilledError:
            await self.stop()
        else:
            raise RuntimeError(f"the job {job} has outlived its death")

    def _open(self) -> Ledger:
        self._witnessed = WitnessedLedger(
            f"sqlite:///{self._file}", rules=self._rules, clock=self._clock, witness=self._witness
        )
        return self._witnessed

    def _emit(self, publication: Publication) -> None:
        self._published.append(publication)

    async def _fold(self) -> None:
        await self._ledger.fold_before(self._clock() - self._retention)


def _copy(database: Path, to: Path) -> None:
    for end in ("", "-wal"):
        shutil.copyfile(f"{database}{end}", f"{to}{end}")


async def _do_not_wait(seconds: float) -> None:
    del seconds
