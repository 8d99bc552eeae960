"""Async ledger: the ledger on a thread of its own, with typed methods for the event loop.

A database connection belongs to the thread that opened it, and the event loop must never wait for the disk. So one
thread opens the ledger and does all work on it, one call after the other, in the order in which they were made.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TypeVar

from exporter.charges import ApiKey, Balance, Bill, Invoice, Team, UnitPrice, Window
from exporter.fal import Reading
from exporter.ledger import KeyOwner, Ledger, Reconciliation, Restatement, ScopeState, SourceProbe

Result = TypeVar("Result")


class AsyncLedger:
    """The ledger of a collector. Methods are those of `Ledger`, awaited.

    Raises:
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger")
        self._ledger: Ledger | None = None

    async def open(self, opener: Callable[[], Ledger]) -> None:
        """Open the ledger.

        Raises:
            ConfigurationError, LedgerError: what the opener raises.
        """
        try:
            self._ledger = await asyncio.get_running_loop().run_in_executor(self._thread, opener)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    async def close(self) -> None:
        """Finish the calls already made, and close the ledger."""
        if self._ledger is not None:
            await self.run(Ledger.close)
        self._thread.shutdown(wait=True)

    async def run(self, work: Callable[[Ledger], Result]) -> Result:
        """Do several steps on the open ledger as one piece of work and return the result.

        Raises:
            RuntimeError: the ledger is not open.
        """
        if self._ledger is None:
            raise RuntimeError("the ledger is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._ledger)

    async def relabelled(self) -> bool:
        """Return whether other labels were found at opening, so that all counters have started at 0 again."""
        return await self.run(lambda ledger: ledger.relabelled)

    async def fail_overs(self) -> int:
        """Return how often the ledger's server has lost its newest writes."""
        return await self.run(lambda ledger: ledger.fail_overs)

    async def accounts(self) -> frozenset[str]:
        """Return the accounts that the ledger counts for, configured or not."""
        return await self.run(Ledger.accounts)

    async def counted_sources(self, account: str) -> tuple[str, ...]:
        """Return the sources that the ledger counts for an account, whether it is configured or not."""
        return await self.run(lambda ledger: ledger.counted_sources(account))

    async def probes(self, account: str) -> tuple[SourceProbe, ...]:
        """Return how the sources answered an account's key when they were asked last."""
        return await self.run(lambda ledger: ledger.names.probes(account))

    async def record_probes(self, probes: Collection[SourceProbe]) -> None:
        """Keep how sources answered."""
        await self.run(lambda ledger: ledger.names.record_probes(probes))

    async def key_owners(self) -> tuple[KeyOwner, ...]:
        """Return who the keys of all accounts belong to, as far as that is known."""
        return await self.run(lambda ledger: ledger.names.key_owners())

    async def record_key_owner(self, owner: KeyOwner) -> None:
        """Keep who an account's key belongs to."""
        await self.run(lambda ledger: ledger.names.record_key_owner(owner))

    async def record_api_keys(self, account: str, keys: Collection[ApiKey], *, is_whole: bool = True) -> None:
        """Keep an account's API keys as fal lists them now."""
        await self.run(lambda ledger: ledger.names.record_api_keys(account, keys, is_whole=is_whole))

    async def record_teams(
        self, account: str, teams: Collection[Team], *, show_idle: bool, is_whole: bool = True
    ) -> None:
        """Keep the teams of an account's organization as fal lists them now."""
        await self.run(lambda ledger: ledger.names.record_teams(account, teams, show_idle=show_idle, is_whole=is_whole))

    async def cost_by_product(self, account: str, window: Window) -> Mapping[str, int]:
        """Return what a window cost an account by product, in nano-USD."""
        return await self.run(lambda ledger: ledger.cost_by_product(account, window))

    async def activate(self, accounts: Mapping[str, Collection[str]]) -> None:
        """Publish these accounts with these sources and no others."""
        await self.run(lambda ledger: ledger.activate(accounts))

    async def scopes(self) -> tuple[ScopeState, ...]:
        """Return how far every active source is known."""
        return await self.run(Ledger.scopes)

    async def restate(self, account: str, source: str, reading: Reading, *, at: datetime) -> Restatement:
        """Replace all charges of a source in the window of a reading, keep the prices it states; one piece of work.

        Args:
            account: a configured account.
            source: one of its activated sources.
            reading: what fal reported.
            at: when the poll began, an aware instant.
        """

        def work(ledger: Ledger) -> Restatement:
            restatement = ledger.restate(
                account, source, reading.window, reading.charges, at=at, rejected=reading.rejected_rows
            )
            ledger.record_prices(reading.prices)
            return restatement

        return await self.run(work)

    async def record_detail(self, account: str, source: str, detail: str, *, at: datetime, version: str) -> None:
        """Keep how much a source reports of a charge, and when and by which version of the exporter it was asked."""
        await self.run(lambda ledger: ledger.record_detail(account, source, detail, at=at, version=version))

    async def record_prices(self, prices: Iterable[UnitPrice]) -> None:
        """Keep the newest price of everything that is charged."""
        await self.run(lambda ledger: ledger.record_prices(prices))

    async def record_balance(self, balance: Balance) -> None:
        """Keep an account's balance."""
        await self.run(lambda ledger: ledger.record_balance(balance))

    async def record_invoices(
        self,
        account: str,
        invoices: Collection[Invoice],
        *,
        is_whole: bool = False,
        foreign: Collection[str] = (),
    ) -> None:
        """Keep an account's invoices as fal states them now; see `Ledger.record_invoices`."""
        await self.run(lambda ledger: ledger.record_invoices(account, invoices, is_whole=is_whole, foreign=foreign))

    async def invoices(self, account: str) -> tuple[Invoice, ...]:
        """Return an account's invoices, newest first."""
        return await self.run(lambda ledger: ledger.invoices(account))

    async def reconcile(self, bill: Bill, *, at: datetime) -> Reconciliation:
        """Compare a bill with the charges of the same hours, and keep the outcome."""
        return await self.run(lambda ledger: ledger.reconcile(bill, at=at))

    async def withdraw(self, account: str, against: str, month: datetime) -> None:
        """Keep the comparison of a month no longer, as fal bills nothing of it any more."""
        await self.run(lambda ledger: ledger.withdraw(account, against, month))

    async def fold_before(self, horizon: datetime) -> int:
        """Fold the hours before the horizon into per-series totals; return how many charges there were."""
        return await self.run(lambda ledger: ledger.fold_before(horizon))

    async def scraped(self, sequence: int) -> None:
        """Note that a scrape has seen the view with this number."""
        await self.run(lambda ledger: ledger.scraped(sequence))

    async def pushed(self, sequence: int) -> None:
        """Note that a store has been sent the view with this number, which counts where nobody scrapes."""
        await self.run(lambda ledger: ledger.scraped(sequence, is_push=True))
