"""Comparison maker: this month so far against the same part of the last one, by account."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from exporter.charges import SURGE, Clock, Window, utc_now
from exporter.forecasting.changes import Bought, Changes, Item, MonthComparison, changes, largest, same_part
from exporter.forecasting.drivers import NO_PARTS, Parts, Purchase, drivers, total
from exporter.forecasting.drivers import Item as Sold
from exporter.ledger import AccountCoverage, Ledger, LedgerView, ScopeState, SeriesSpend
from exporter.samples import Sample, paged

_MOST_ITEMS = 50
"""Items of an account that are published by themselves."""

_REST = timedelta(minutes=5)
"""Time between two comparisons of an account within an hour: a comparison reads two months."""


class _Compared(NamedTuple):
    """Comparison of one account, and the state of the ledger that it was made of."""

    windows: tuple[Window, Window]
    revision: int
    made_at: datetime
    last_month: dict[tuple[str, ...], int]
    changes: Changes
    parts: Parts


class ComparisonMaker:
    """Makes one comparison after another, in the ledger's thread.

    An account is compared while all of its last month is in the ledger. A comparison is made anew when another hour is
    known, and after five minutes when anything has changed.

    Args:
        clock: the time.
    """

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._accounts: dict[str, _Compared] = {}
        self._latest = MonthComparison()

    def make(self, ledger: Ledger, view: LedgerView) -> MonthComparison:
        """Return the comparison at the view's instant; the same object while nothing has changed.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        compared = {
            account: self._account(ledger, account, windows)
            for account, known in view.coverage.items()
            if (windows := _windows(known, [item for item in view.scopes if item.account == account])) is not None
        }
        if _figures(compared) != _figures(self._accounts):
            self._latest = _published(compared.values())
        self._accounts = compared
        return self._latest

    def _account(self, ledger: Ledger, account: str, windows: tuple[Window, Window]) -> _Compared:
        kept, now = self._accounts.get(account), self._clock()
        if (
            kept is not None
            and kept.windows == windows
            and (kept.revision == ledger.revision or now - kept.made_at < _REST)
        ):
            return kept
        before, after = (ledger.spend_by_series(account, window) for window in windows)
        last_month: dict[tuple[str, ...], int] = {}
        for series in before:
            last_month[series.labels] = last_month.get(series.labels, 0) + series.cost
        found = largest(changes(_purchases(before), _purchases(after)), _MOST_ITEMS)
        parts = total(drivers(_sales(before), _sales(after)))
        return _Compared(windows, ledger.revision, now, last_month, found, parts)


def _windows(known: AccountCoverage, scopes: Iterable[ScopeState]) -> tuple[Window, Window] | None:
    through = [scope.data_through for scope in scopes if scope.data_through is not None]
    if not known["last_month"].is_whole or not through:
        return None
    return same_part(known["month"].window, known["last_month"].window, min(through))


def _figures(compared: Mapping[str, _Compared]) -> list[tuple[str, dict[tuple[str, ...], int], Changes, Parts]]:
    return [(account, of.last_month, of.changes, of.parts) for account, of in compared.items()]


def _purchases(spent: Iterable[SeriesSpend]) -> dict[tuple[Item, str], Bought]:
    sums: dict[tuple[Item, str], Bought] = {}
    for series in spent:
        of = series.dimensions
        key = Item(of.account, of.product, of.model, of.app, of.gpu_class), of.unit
        earlier = sums.get(key, Bought())
        sums[key] = Bought(earlier.cost + series.cost, earlier.quantity + series.quantity)
    return sums


def _sales(spent: Iterable[SeriesSpend]) -> dict[Sold, Purchase]:
    sums: dict[Sold, Purchase] = {}
    for series in spent:
        of, listed = series.dimensions, series.cost + series.discount
        sold = Sold(of.account, of.product, of.model, of.app, of.gpu_class, of.unit)
        at_surge = (series.quantity, listed) if of.surge == SURGE else (0, 0)
        sums[sold] = sums.get(sold, Purchase()).plus(Purchase(series.quantity, listed, series.cost, *at_surge))
    return sums


def _published(compared: Iterable[_Compared]) -> MonthComparison:
    accounts = tuple(compared)
    parts = NO_PARTS
    for of in accounts:
        parts = parts.plus(of.parts)
    return MonthComparison(
        paged(Sample(labels, cost) for of in accounts for labels, cost in sorted(of.last_month.items())),
        paged(
            Sample((*item, cause), amount)
            for of in accounts
            for item, causes in sorted(of.changes.items())
            for cause, amount in sorted(causes.items())
        ),
        parts,
    )
