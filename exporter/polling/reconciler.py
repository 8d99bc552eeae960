"""Reconciler: what fal bills, month by month, compared with the ledger.

Only months that the ledger has covered from their start are compared: what it has never read is no difference.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

import structlog

from exporter.calendar import periods_at
from exporter.charges import HOUR, INVOICE, NANO, Bill, Invoice, Window, dollar_text, hour_of
from exporter.fal import (
    ApiError,
    BadRequestError,
    Client,
    Detail,
    FeatureError,
    FocusBills,
    NotFoundError,
    ScopeError,
    organization_totals,
)
from exporter.fal.account import Period
from exporter.fal.rows import OUTSIDE_WINDOW
from exporter.ledger import ScopeState
from exporter.ledger.accounting.invoices import billed_part, invoice_names, reaching_out
from exporter.polling.async_ledger import AsyncLedger

_log = structlog.get_logger(__name__)

_OF_ALL_TEAMS = frozenset({"organization", "focus"})
_BEHIND = HOUR
"""Longest delay of the ledger behind a bill of the running month: the hour that is just over may not have been read."""


class Reconciler:
    """Compares one account's bills.

    Args:
        client: the account's own.
        ledger: where bills are compared.

    Attributes:
        unread: the periods of the invoices that could not be read, None where that is not known either.
        remarks: a sentence for every month that is not compared with its invoices, though there are some.
    """

    def __init__(self, client: Client, ledger: AsyncLedger) -> None:
        self.unread: Collection[Period | None] = ()
        self.remarks: tuple[str, ...] = ()
        self._client = client
        self._ledger = ledger
        self._bills: dict[bool, FocusBills] = {}
        self._told: set[str] = set()

    async def poll(self, at: datetime) -> Mapping[str, int]:
        """Compare the current month and the last with everything that fal bills of them; return the rejected rows.

        An account without FOCUS reports is compared with its invoices alone.

        Raises:
            ApiError: a report could not be had.
            LedgerError: the ledger could not be read or written.
        """
        await self.compare_invoices(at)
        scopes = await self._scopes()
        rejected: Counter[str] = Counter()
        by_team = any(scope.source in _OF_ALL_TEAMS and scope.detail != Detail.REDUCED for scope in scopes)
        bills = self._bills.setdefault(by_team, FocusBills(self._client, by_team=by_team))
        try:
            for month in months(at):
                covered = covered_part(month, scopes)
                if covered is not None:
                    await self._keep_whole(partial(bills.estimate, covered), rejected, at)
                if covered == month:
                    await self._keep_whole(partial(self._invoice, bills, month), rejected, at)
        except (FeatureError, ScopeError, NotFoundError) as error:
            self._tell_once("FOCUS reports are not available; the ledger is reconciled with the invoices only", error)
        return rejected

    async def compare_invoices(self, at: datetime) -> None:
        """Compare the current month and the last with the invoices that the ledger keeps.

        The ledger has to know every hour that they bill and that is over. Where they bill nothing any more, or one that
        may be of the month cannot be read, an earlier comparison is no longer kept.

        Raises:
            LedgerError: the ledger could not be read or written.
        """
        scopes = await self._scopes()
        invoices = await self._ledger.invoices(self._client.account)
        compared = months(at)
        unread = [month for month in compared if any(_may_be_of(period, month) for period in self.unread)]
        self.remarks = (
            *(
                f"{month.start:%Y-%m} is not compared with its invoices: one that may be of it cannot be read."
                for month in unread
            ),
            *(
                f"{month.start:%Y-%m} is not compared with its invoices: {' and '.join(reaching)} "
                f"{'bills' if len(reaching) == 1 else 'bill'} usage of another month, too."
                for month in compared
                if month not in unread and (reaching := _names_reaching_out(invoices, month))
            ),
        )
        for month in compared:
            bill = None if month in unread else invoiced(self._client.account, invoices, month)
            covered = covered_part(month, scopes)
            if bill is None:
                await self._ledger.withdraw(self._client.account, INVOICE, month.start)
            elif covered is not None and covered.end >= min(bill.window.end, hour_of(at) - _BEHIND):
                await self._keep(bill, at)

    async def _invoice(self, bills: FocusBills, month: Window, rejected: Counter[str]) -> Bill | None:
        try:
            return await bills.invoice(month, rejected)
        except (BadRequestError, NotFoundError) as error:
            # The estimate has been had, so that it is the month that fal does not accept: it has no invoice yet.
            self._tell_once(f"there is no FOCUS invoice for {month.start:%Y-%m} yet", error)
            return None

    async def _keep_whole(
        self, read: Callable[[Counter[str]], Awaitable[Bill | None]], rejected: Counter[str], at: datetime
    ) -> None:
        """Compare a bill, unless rows of it cannot be read: what these bill is no difference."""
        odd: Counter[str] = Counter()
        bill = await read(odd)
        rejected.update(odd)
        if not odd.keys() - {OUTSIDE_WINDOW}:
            await self._keep(bill, at)

    async def _keep(self, bill: Bill | None, at: datetime) -> None:
        if bill is not None:
            await self._ledger.reconcile(bill, at=at)

    async def _scopes(self) -> list[ScopeState]:
        return [scope for scope in await self._ledger.scopes() if scope.account == self._client.account]

    def _tell_once(self, what: str, error: Exception) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.info(what, account=self._client.account, problem=str(error))


_CENT = NANO // 100


@dataclass(frozen=True, slots=True)
class ComparedProducts:
    """One comparison of sums by product.

    Attributes:
        window: the hours that were compared.
        differences: nano-USD by product that the ledger has more than fal reports.
        repeated: the products that had differed in the comparison before, too.
    """

    window: Window
    differences: Mapping[str, int]
    repeated: frozenset[str] = frozenset()

    @property
    def differing(self) -> frozenset[str]:
        """The products that differ by a cent or more."""
        return frozenset(product for product, amount in self.differences.items() if abs(amount) >= _CENT)

    def missing(self, products: Collection[str]) -> int:
        """Return the nano-USD of some products that fal reports and the ledger does not have; at least 0."""
        return max(0, -sum(amount for product, amount in self.differences.items() if product in products))

    def sentences(self, products: Collection[str]) -> tuple[str, ...]:
        """Return a sentence for each of some products that has differed twice in a row.

        What differs once may be a charge that came between the poll of the source and the comparison.
        """
        return tuple(
            f"The ledger has {dollar_text(abs(amount))} {'more' if amount > 0 else 'less'} of {product} than "
            f"/organization/usage reports for {self.window}."
            for product, amount in self.differences.items()
            if product in self.differing & self.repeated and product in products
        )


class ProductComparison:
    """Compares the sums of the last days by product with `/organization/usage`, which reports every product.

    Args:
        client: the account's own.
        ledger: what is compared.

    Attributes:
        last: the last comparison; None where it was not possible.
    """

    def __init__(self, client: Client, ledger: AsyncLedger) -> None:
        self.last: ComparedProducts | None = None
        self._client = client
        self._ledger = ledger

    async def compare(self, window: Window, scopes: Collection[ScopeState]) -> None:
        """Compare the complete hours of a window, where every source has covered them.

        Args:
            window: what has just been polled; its last hour is the running one.
            scopes: how far the polled sources are known.

        Raises:
            LedgerError: the ledger could not be read.
        """
        before, self.last = self.last, None
        running = window.end - HOUR
        covered = covered_part(Window(window.start, running), scopes) if running > window.start else None
        if covered is None:
            return
        try:
            totals = await organization_totals(self._client, covered, self._client.deadline())
        except ApiError as error:
            _log.info("spend by product could not be compared", account=self._client.account, problem=str(error))
            return
        if totals.rejected:
            return
        costs = await self._ledger.cost_by_product(self._client.account, covered)
        self.last = ComparedProducts(
            covered,
            {
                product: costs.get(product, 0) - totals.by_product.get(product, 0)
                for product in sorted({*costs, *totals.by_product})
            },
            before.differing if before is not None else frozenset(),
        )

    def forget(self) -> None:
        """Know of no comparison any more."""
        self.last = None


def months(at: datetime) -> tuple[Window, Window]:
    """Return the running UTC month and the one before, whole: fal bills by months of UTC."""
    periods = periods_at(at, ZoneInfo("UTC"))
    return periods.month, periods.last_month


def covered_part(month: Window, scopes: Collection[ScopeState]) -> Window | None:
    """Return what every source has covered of a month from its start on, in complete hours; None for nothing."""
    if not scopes:
        return None
    end = month.end
    for scope in scopes:
        if scope.history_from is None or scope.history_from > month.start or scope.data_through is None:
            return None
        end = min(end, scope.data_through)
    return Window(month.start, end) if end > month.start else None


def _names_reaching_out(invoices: Collection[Invoice], month: Window) -> list[str]:
    names = invoice_names(invoices)
    return sorted(names[invoice.account, invoice.id] for invoice in reaching_out(invoices, month))


def _may_be_of(period: Period | None, month: Window) -> bool:
    return period is None or (period[0] < month.end and period[1] > month.start)


def invoiced(account: str, invoices: Iterable[Invoice], month: Window) -> Bill | None:
    """Return what the invoices of an account bill of a month, from its start as far as they go; None for nothing."""
    part = billed_part(invoices, month)
    if part is None:
        return None
    usage = sum(item.subtotal for item in part.invoices)
    others = {"Credit": -sum(item.credits for item in part.invoices), "Tax": sum(item.tax for item in part.invoices)}
    return Bill(account, INVOICE, part.window, usage, {"Usage": usage, **others})
