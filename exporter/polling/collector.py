"""Collector: the accounts' jobs and the publisher, until told to stop."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from exporter.charges import Clock
from exporter.polling.account import AccountPoller
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.publisher import Publisher
from exporter.polling.requests import RequestsPoller
from exporter.polling.scheduler import BOOKED_JOB, FOCUS_PUSH_JOB, OTLP_JOB, REMOTE_WRITE_JOB, Run, Scheduler

if TYPE_CHECKING:
    from exporter.polling.booked import BookedComparer
    from exporter.polling.deliveries.focus_push import FocusPusher
    from exporter.polling.deliveries.otlp import OtlpPusher
    from exporter.polling.deliveries.remote_write import RemoteWriter

_log = structlog.get_logger(__name__)

_EVERY_ACCOUNT = ""

_HISTORY_PATIENCE = timedelta(hours=1)
"""Longest time for which the first remote write waits for the history of all accounts."""


class Collector:
    """Runs the jobs of all accounts.

    Args:
        retention: the age at which hours are folded into totals.
        requests: reads single requests, where that is wanted.
        pushers: push FOCUS files, where that is wanted.
        booked: compares bookings with requests, where that is wanted.
        remote: sends hourly samples, where that is wanted.
        otlp: sends metrics by OTLP, where that is wanted.
    """

    def __init__(
        self,
        *,
        ledger: AsyncLedger,
        accounts: Sequence[AccountPoller],
        publisher: Publisher,
        scheduler: Scheduler,
        retention: timedelta,
        clock: Clock,
        requests: Sequence[RequestsPoller] = (),
        pushers: "Sequence[FocusPusher]" = (),
        booked: "BookedComparer | None" = None,
        remote: "RemoteWriter | None" = None,
        otlp: "OtlpPusher | None" = None,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._publisher = publisher
        self._scheduler = scheduler
        self._retention = retention
        self._clock = clock
        self._requests = requests
        self._pushers = pushers
        self._booked = booked
        self._remote = remote
        self._otlp = otlp
        self._began_at = clock()
        self._loaded: set[str] = set()
        self._fail_overs = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Poll and publish until `stop` is set; polls under way are then given up, their transactions finished.

        Raises:
            LedgerError: the ledger cannot be used at the start.
        """
        await self._notice_renamed_accounts()
        for account in self._accounts:
            # What an earlier run has chosen is polled at once; a new choice is made by the account's first job.
            await account.recall_sources()
        await self._activate()
        publishing = asyncio.create_task(self._publisher.run())
        self._scheduler.spread([account.name for account in self._accounts])
        for account in self._accounts:
            self._enter_jobs(account)
        for requests in self._requests:
            self._scheduler.every_while("requests", requests.name, requests.poll)
        for pusher in self._pushers:
            self._scheduler.every_while(FOCUS_PUSH_JOB, pusher.destination, pusher.push_if_due)
        if self._booked is not None:
            self._scheduler.every_while(BOOKED_JOB, _EVERY_ACCOUNT, self._booked.compare)
        if self._remote is not None:
            self._scheduler.every_while(REMOTE_WRITE_JOB, _EVERY_ACCOUNT, partial(self._write_remotely, self._remote))
        if self._otlp is not None:
            self._scheduler.every_while(OTLP_JOB, _EVERY_ACCOUNT, self._otlp.push)
        self._scheduler.by_calendar("retention", _EVERY_ACCOUNT, self._fold)
        planning = self._scheduler.start()
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((publishing, planning, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._scheduler.stop()
            stopping.cancel()
            publishing.cancel()
            with suppress(asyncio.CancelledError):
                await publishing
        if not planning.cancelled():
            planning.result()

    async def _notice_renamed_accounts(self) -> None:
        known = await self._ledger.accounts()
        configured = {account.name for account in self._accounts}
        gone, new = sorted(known - configured), sorted(configured - known)
        if gone and new:
            names = f"{gone[0]} {new[0]}" if len(gone) == len(new) == 1 else "OLD NEW"
            _log.warning(
                "an account is new to the ledger, and another one in the ledger is no longer configured",
                new=", ".join(new),
                gone=", ".join(gone),
                advice="if the account was renamed, stop the exporter, run `fal-exporter ledger rename-account "
                f"{names}` with the same settings, and start it again: its counters then continue, including "
                "everything polled until then. Otherwise the counters of the new account start at 0, with its "
                "history as their starting value",
            )

    def _enter_jobs(self, account: AccountPoller) -> None:
        every_while: dict[str, Run] = {
            "current": partial(self._poll_current, account),
            "history": partial(self._load_history, account),
            "balance": account.poll_balance,
            "invoices": account.poll_invoices,
            "prices": account.poll_prices,
            "names": account.poll_names,
            "reconciliation": account.poll_reconciliation,
            "probe": account.probe_sources,
            "queues": account.poll_queues,
        }
        by_calendar: dict[str, Run] = {
            "recent": account.poll_recent,
            "deep": account.poll_deep,
            "months": account.poll_months,
            "machines": account.poll_machines,
        }
        if account.tags is not None:
            every_while["tags"] = account.tags.poll
        for job, run in every_while.items():
            self._scheduler.every_while(job, account.name, run)
        for job, run in by_calendar.items():
            self._scheduler.by_calendar(job, account.name, run)

    async def _poll_current(self, account: AccountPoller) -> None:
        if await account.choose_sources():
            await self._activate()
            self._load_history_again(account)
        await account.poll_current()
        if account.name in self._loaded and not await account.has_history():
            # A ledger that was lost and written anew has its charges to read again.
            self._load_history_again(account)
        fail_overs = await self._ledger.fail_overs()
        if fail_overs != self._fail_overs:
            self._fail_overs = fail_overs
            self._read_again()

    def _read_again(self) -> None:
        """Read again from fal whatever polls may have found that the ledger's server has lost."""
        for account in self._accounts:
            for job in ("recent", "deep", "months", "machines", *(("tags",) if account.tags is not None else ())):
                self._scheduler.run_now(job, account.name)

    def _load_history_again(self, account: AccountPoller) -> None:
        if account.name in self._loaded:
            self._loaded.discard(account.name)
            self._scheduler.every_while("history", account.name, partial(self._load_history, account))
        else:
            self._scheduler.run_now("history", account.name)

    async def _load_history(self, account: AccountPoller) -> None:
        if await account.load_history():
            self._scheduler.drop("history", account.name)
            self._loaded.add(account.name)
            self._scheduler.run_now("reconciliation", account.name)
            self._scheduler.run_now("names", account.name)
            if self._remote is not None and self._is_loaded:
                self._scheduler.run_now(REMOTE_WRITE_JOB, _EVERY_ACCOUNT)

    @property
    def _is_loaded(self) -> bool:
        """The history of all accounts is there."""
        return self._loaded >= {account.name for account in self._accounts}

    async def _write_remotely(self, remote: "RemoteWriter") -> None:
        """Send hourly samples; the first ones when the history is there, so that it is sent in its order."""
        if self._is_loaded or self._clock() >= self._began_at + _HISTORY_PATIENCE or await remote.has_begun():
            await remote.write()

    async def _activate(self) -> None:
        accounts = {account.name: account.sources for account in self._accounts}
        await self._ledger.activate(accounts)
        self._publisher.changed()

    async def _fold(self) -> None:
        horizon = self._clock() - self._retention
        if folded := await self._ledger.fold_before(horizon):
            _log.info("folded hours older than the retention", before=horizon.isoformat(), charges=folded)
