"""The source `focus`: the hourly usage of an account with FOCUS reports, from the running estimate.

An estimate is rewritten by fal until it is invoiced; like every source it is read again, and a reading replaces what
was read before. It contains all that `models` and `serverless` report.
"""

from collections import Counter
from datetime import datetime
from decimal import Decimal

from exporter.charges import HOUR, Amounts, Charge, Dimensions, Window, hour_of, nano
from exporter.fal.client import Client
from exporter.fal.focus_lines import FIRST_NAME, UsageRow, described
from exporter.fal.focus_report import FocusReports
from exporter.fal.focus_request import FocusRequest, Report
from exporter.fal.platform_usage import Item
from exporter.fal.prices import Offer, unit_prices
from exporter.fal.reading import Reading
from exporter.fal.rejections import RejectedError, Rejection, Rejections

_LARGEST = 2**63 - 1


class FocusUsage:
    """Reads the estimate of one account."""

    name = "focus"

    def __init__(self, client: Client) -> None:
        self._client = client
        self._reports = FocusReports(client, self.name, by_team=True)

    async def read(self, window: Window, *, with_api_key: bool) -> Reading:  # noqa: ARG002  it tells no key
        """Read the rows of a window's hours; see `UsageSource`."""
        client = self._client
        rejected: Counter[str] = Counter()
        usage = _Usage(client.account, window, client.rejections, rejected)
        request = estimate(window)
        async for rows in self._reports.rows(UsageRow, request, client.deadline(), rejected):
            for row in rows:
                usage.take(row)
        return usage.reading(self.name)


def estimate(window: Window, timeframe: str = "hour") -> FocusRequest:
    """Return the request for the estimate of a window's hours, or of its days."""
    return FocusRequest(source=Report.ESTIMATE, start=window.start, end=window.end, timeframe=timeframe)


class _Usage:
    """The charges of one reading while its rows come in.

    fal may take back a part of an hour by a row below zero: only the sums must not be negative.
    """

    def __init__(self, account: str, window: Window, rejections: Rejections, rejected: Counter[str]) -> None:
        self._account = account
        self._window = window
        self._rejections = rejections
        self._rejected = rejected
        self._items: dict[tuple[object, ...], Item] = {}
        self._sums: dict[tuple[datetime, Dimensions], Amounts] = {}

    def take(self, row: UsageRow) -> None:
        """Add a row to its charge; what is no usage is none, and a row that cannot be one is rejected."""
        if row.charge_category != "Usage":
            return
        try:
            self._take(row)
        except RejectedError as rejected:
            self._reject(rejected.reason, row)

    def _take(self, row: UsageRow) -> None:
        hour = self._hour(row)
        item = self._item(row)
        if row.billing_currency != "USD":
            raise RejectedError(Rejection.CURRENCY)
        amounts = amounts_of(row, item.gpu.seconds)
        key = (hour, item.dimensions)
        known = self._sums.get(key)
        self._sums[key] = amounts if known is None else known.plus(amounts)
        price = row.list_unit_price
        if price is not None and price >= 0:
            asked = Offer(hour, row.pricing_category != "Dynamic", price, discount_percent(row))
            if asked.beats(item.offer):
                item.offer = asked

    def _hour(self, row: UsageRow) -> datetime:
        hour = row.charge_period_start
        if hour not in self._window:
            raise RejectedError(Rejection.OUTSIDE_WINDOW)
        if hour != hour_of(hour) or row.charge_period_end - hour != HOUR:
            raise RejectedError(Rejection.BUCKET)
        return hour

    def _item(self, row: UsageRow) -> Item:
        """Return what a row is for; worked out once for the same names, which occur in every hour."""
        names = row[FIRST_NAME:]
        item = self._items.get(names)
        if item is None:
            item = self._items[names] = described(self._account, row)
        return item

    def reading(self, source: str) -> Reading:
        """Return the sums, with the prices that were seen."""
        charges = []
        for (hour, dimensions), amounts in self._sums.items():
            charge = Charge(hour, dimensions, amounts)
            if min(amounts) < 0:
                self._reject(Rejection.NEGATIVE, charge)
            elif max(amounts) > _LARGEST:
                self._reject(Rejection.OUT_OF_RANGE, charge)
            else:
                charges.append(charge)
        return Reading(
            account=self._account,
            source=source,
            window=self._window,
            charges=tuple(charges),
            prices=unit_prices((it.dimensions, it.offer) for it in self._items.values() if it.offer),
            rejected=dict(self._rejected),
        )

    def _reject(self, reason: Rejection, row: object) -> None:
        self._rejections.reject(self._rejected, FocusUsage.name, reason, row)


def amounts_of(row: UsageRow, gpu_seconds: int) -> Amounts:
    """Return how much a row is.

    What it costs is EffectiveCost, which holds for prepaid usage too; BilledCost where there is no such column. The
    discount is what is missing between that and ListCost; a list cost below the cost is raised to it.

    Raises:
        RejectedError: an amount is too large.
    """
    quantity = row.consumed_quantity if row.consumed_quantity is not None else row.pricing_quantity
    try:
        cost = nano(row.billed_cost if row.effective_cost is None else row.effective_cost)
        list_cost = cost if row.list_cost is None else max(cost, nano(row.list_cost))
        count = 0 if quantity is None else nano(quantity)
    except ValueError:
        raise RejectedError(Rejection.OUT_OF_RANGE) from None
    return Amounts(count, count * gpu_seconds, list_cost, list_cost - cost, cost)


def discount_percent(row: UsageRow) -> Decimal | None:
    """Return by how many percent the contracted price is below the list price, None where a row does not say."""
    listed, contracted = row.list_unit_price, row.contracted_unit_price
    if not listed or contracted is None:
        return None
    return (1 - contracted / listed) * 100
