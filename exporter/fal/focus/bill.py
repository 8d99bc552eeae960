"""Monthly bills read from FOCUS reports: the invoice once issued, the estimate until then.

Both report the same usage, so that they are two bills, never one sum.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from typing import NamedTuple

from exporter.charges import FOCUS_ESTIMATE, FOCUS_INVOICE, Bill, Window, atto, nano_of_atto
from exporter.fal.client import Client
from exporter.fal.focus.report import FocusReports
from exporter.fal.focus.request import FocusRequest, Report
from exporter.fal.focus.usage import estimate
from exporter.fal.rows import Rejection, is_dollars

CORRECTION = "Correction"
"""Stands in for the charge category of a row that corrects what has been invoiced before."""

_SOURCE = "reconciliation"


class BillRow(NamedTuple):
    """The columns that a bill is made of."""

    charge_period_start: datetime
    charge_period_end: datetime
    charge_category: str
    billing_currency: str
    billed_cost: Decimal
    effective_cost: Decimal | None
    charge_class: str | None


@dataclass(slots=True)
class BillSums:
    """Sums of the rows of one bill in atto-USD."""

    usage: int = 0
    by_category: Counter[str] = field(default_factory=Counter)

    def in_nanos(self) -> tuple[int, Mapping[str, int]]:
        """Return the usage and the sums by category in nano-USD."""
        return nano_of_atto(self.usage), {name: nano_of_atto(amount) for name, amount in self.by_category.items()}

    def take(self, row: BillRow, *, of_month: bool) -> Rejection | None:
        """Add a row, or return why it cannot be added; an invoice may hold usage of another month."""
        if not is_dollars(row.billing_currency):
            return Rejection.CURRENCY
        try:
            billed = atto(row.billed_cost)
            effective = billed if row.effective_cost is None else atto(row.effective_cost)
        except ValueError:
            return Rejection.OUT_OF_RANGE
        if row.charge_class == CORRECTION:
            self.by_category[CORRECTION] += billed
            return None
        self.by_category[row.charge_category] += billed
        if row.charge_category == "Usage" and of_month:
            # Usage that prepaid credits cover may be billed at 0; what it costs is its effective cost.
            self.usage += effective
        return None


class FocusBills:
    """Reads the bills of one account.

    Args:
        client: the account's own.
        by_team: whether the account's charges are those of a whole organization.
    """

    def __init__(self, client: Client, *, by_team: bool) -> None:
        self._client = client
        self._reports = FocusReports(client, _SOURCE, by_team=by_team, track_lock=False)

    async def invoice(self, month: Window, rejected: Counter[str]) -> Bill | None:
        """Read what has been invoiced of the charges of a UTC month; None where there is nothing yet.

        Args:
            month: the whole of it.
            rejected: counts, by reason, the rows that are left out.

        Raises:
            ApiError: every kind of failure; see `exporter.fal.errors`.
        """
        request = FocusRequest(source=Report.INVOICE, charge_month=f"{month.start:%Y-%m}")
        sums = await self._sums([request], month, rejected)
        if not sums.by_category:
            return None
        return Bill(self._client.account, FOCUS_INVOICE, month, *sums.in_nanos())

    async def estimate(self, window: Window, rejected: Counter[str]) -> Bill:
        """Read what is estimated for a window of hours within a UTC month.

        Raises:
            ApiError: every kind of failure; see `exporter.fal.errors`.
        """
        sums = await self._sums(estimates(window), window, rejected)
        return Bill(self._client.account, FOCUS_ESTIMATE, window, *sums.in_nanos())

    async def _sums(self, requests: Iterable[FocusRequest], window: Window, rejected: Counter[str]) -> BillSums:
        sums = BillSums()
        deadline = self._client.deadline(self._client.limits.report_deadline)
        for request in requests:
            async for rows in self._reports.rows(BillRow, request, deadline, rejected):
                for row in rows:
                    reason: Rejection | None = Rejection.OUTSIDE_WINDOW
                    if _is_within(row, request):
                        reason = sums.take(row, of_month=row.charge_period_start in window)
                    if reason is not None:
                        self._client.rejections.reject(rejected, _SOURCE, reason, row)
        return sums


def estimates(window: Window) -> list[FocusRequest]:
    """Return what to ask for the estimate of a window: its whole days by the day, the hours around them by the hour.

    So the report is short, and no bucket reaches beyond the window.
    """
    first = _midnight(window.start + timedelta(days=1, microseconds=-1))
    last = _midnight(window.end)
    if first >= last:
        return [estimate(window)]
    parts = [(window.start, first, "hour"), (first, last, "day"), (last, window.end, "hour")]
    return [estimate(Window(start, end), timeframe) for start, end, timeframe in parts if start < end]


def _midnight(instant: datetime) -> datetime:
    return datetime.combine(instant.date(), time(), UTC)


def _is_within(row: BillRow, request: FocusRequest) -> bool:
    if request.start is None or request.end is None:
        return True
    return request.start <= row.charge_period_start and row.charge_period_end <= request.end
