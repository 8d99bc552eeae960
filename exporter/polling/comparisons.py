"""Comparison maker: this month so far against the same part of the last one, by account; and who moved, of all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from exporter.charges import SURGE, Clock, Window, utc_now
from exporter.forecasting.changes import (
    Bought,
    Changes,
    Item,
    MonthComparison,
    Move,
    Moves,
    TagComparison,
    changes,
    largest,
    moves,
    same_part,
)
from exporter.forecasting.drivers import NO_PARTS, Parts, Purchase, drivers, total
from exporter.forecasting.drivers import Item as Sold
from exporter.ledger import AccountCoverage, Ledger, LedgerView, ScopeState, SeriesSpend
from exporter.overview import MovedBy
from exporter.samples import Pages, Sample, paged
from exporter.tags import TAG

_MOST_ITEMS = 50
"""Items of an account that are published by themselves, and values of each of its tags."""

_MOVED = 5
"""Values of a label or a tag that the page names."""

_LABELS = ("account", "team", "api_key", "member")
"""Labels of who spends, by which the page says who moved; what they bought is its list of models and apps."""

_REST = timedelta(minutes=5)
"""Time between two comparisons of an account within an hour: a comparison reads two months."""


_SOON = timedelta(seconds=30)
"""The same while hours have not been read by tags: the first readings come after the charges."""


class _Compared(NamedTuple):
    """Comparison of one account, and the state of the ledger that it was made of."""

    windows: tuple[Window, Window]
    revision: int
    made_at: datetime
    last_month: dict[tuple[str, ...], int]
    this_month: dict[tuple[str, ...], int]
    changes: Changes
    parts: Parts
    tags: TagComparison | None


class ComparisonMaker:
    """Makes one comparison after another, in the ledger's thread.

    An account is compared while all of its last month is in the ledger. A comparison is made anew when another hour is
    known, and after five minutes when anything has changed; sooner while it lacks tags.

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
            account: self._account(ledger, account, known, windows)
            for account, known in view.coverage.items()
            if (windows := _windows(known, [item for item in view.scopes if item.account == account])) is not None
        }
        if _figures(compared) != _figures(self._accounts):
            self._latest = _published(compared, view.labels)
        self._accounts = compared
        return self._latest

    def _account(
        self, ledger: Ledger, account: str, known: AccountCoverage, windows: tuple[Window, Window]
    ) -> _Compared:
        kept, now = self._accounts.get(account), self._clock()
        if (
            kept is not None
            and kept.windows == windows
            and (kept.revision == ledger.revision or now - kept.made_at < _rest(ledger, kept))
        ):
            return kept
        before, after = (ledger.spend_by_series(account, window) for window in windows)
        found = largest(changes(_purchases(before), _purchases(after)), _MOST_ITEMS)
        parts = total(drivers(_sales(before), _sales(after)))
        months = known["month"].window, known["last_month"].window
        tags = ledger.tags.compared(account, *months, until=windows[1].end)
        return _Compared(windows, ledger.revision, now, _by_labels(before), _by_labels(after), found, parts, tags)


def _rest(ledger: Ledger, kept: _Compared) -> timedelta:
    lacks_tags = bool(ledger.tags.keys) and (kept.tags is None or bool(kept.tags.lacking))
    return _SOON if lacks_tags else _REST


def _windows(known: AccountCoverage, scopes: Iterable[ScopeState]) -> tuple[Window, Window] | None:
    through = [scope.data_through for scope in scopes if scope.data_through is not None]
    if not known["last_month"].is_whole or not through:
        return None
    return same_part(known["month"].window, known["last_month"].window, min(through))


def _figures(compared: Mapping[str, _Compared]) -> list[tuple[object, ...]]:
    return [(account, of.last_month, of.this_month, of.changes, of.parts, of.tags) for account, of in compared.items()]


def _by_labels(spent: Iterable[SeriesSpend]) -> dict[tuple[str, ...], int]:
    sums: dict[tuple[str, ...], int] = {}
    for series in spent:
        sums[series.labels] = sums.get(series.labels, 0) + series.cost
    return sums


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


def _published(compared: Mapping[str, _Compared], labels: Sequence[str]) -> MonthComparison:
    movers = tuple(_movers(compared, labels))
    parts = NO_PARTS
    for of in compared.values():
        parts = parts.plus(of.parts)
    tags = {account: of.tags for account, of in compared.items() if of.tags is not None}
    return MonthComparison(
        last_month=paged(
            Sample(labels, cost) for of in compared.values() for labels, cost in sorted(of.last_month.items())
        ),
        this_month=paged(
            Sample(labels, cost) for of in compared.values() for labels, cost in sorted(of.this_month.items())
        ),
        changes=paged(
            Sample((*item, cause), amount)
            for of in compared.values()
            for item, causes in sorted(of.changes.items())
            for cause, amount in sorted(causes.items())
        ),
        parts=parts,
        tags=tags,
        accounts=frozenset(compared),
        movers=paged(Sample(labels, move.after) for labels, move in movers),
        movers_before=paged(Sample(labels, move.before) for labels, move in movers),
    )


_BY = ("account", "product", "team", "api_key", "member")


def _movers(compared: Mapping[str, _Compared], labels: Sequence[str]) -> Iterator[tuple[tuple[str, str, str], Move]]:
    """Yield who moved by each label and tag in each account, and all others of it; the product always is one of them.

    Whatever an account lacks, what it has by one label adds up to what it has by another: to all its spend.
    """
    places = {label: labels.index(label) for label in _BY if label in labels}
    sides = [(of.last_month, of.this_month) for of in compared.values()]
    told = {
        label
        for label, place in places.items()
        if label == "product"
        or (label == "account" and len(compared) > 1)
        or (label != "account" and any(key[place] for pair in sides for side in pair for key in side))
    }
    for account, of in compared.items():
        groups: dict[str, tuple[Mapping[str, int], Mapping[str, int]]] = {
            label: (_by_label(of.last_month, places[label]), _by_label(of.this_month, places[label]))
            for label in places
            if label in told
        }
        if of.tags is not None:
            groups |= {f"{TAG}{key}": (of.tags.before[key], of.tags.after[key]) for key in of.tags.after}
        for by, (before, after) in groups.items():
            found = moves(before, after, _MOST_ITEMS)
            rows = {move.name: move for move in found.top}
            if found.count:
                rest, other = found.rest, rows.get(found.rest.name, Move("", 0, 0))
                rows[rest.name] = Move(rest.name, rest.before + other.before, rest.after + other.after)
            yield from (((account, by, name), rows[name]) for name in sorted(rows))


def _by_label(costs: Mapping[tuple[str, ...], int], place: int) -> dict[str, int]:
    return _added({labels[place]: cost} for labels, cost in costs.items())


def moved_by(comparison: MonthComparison, labels: Sequence[str]) -> tuple[MovedBy, ...]:
    """Return who moved by each label and tag that has several values; or why that is not known of a tag.

    Args:
        comparison: of all accounts.
        labels: the configured charge labels.
    """
    found = [
        MovedBy(
            label,
            moves(
                _by_value(comparison.last_month, labels.index(label)),
                _by_value(comparison.this_month, labels.index(label)),
                _MOVED,
            ),
        )
        for label in _LABELS
        if label in labels
    ]
    keys = dict.fromkeys(key for of in comparison.tags.values() for key in of.after)
    if comparison.tags:
        place = labels.index("account")
        accounts = sorted({*_by_value(comparison.last_month, place), *_by_value(comparison.this_month, place)})
        lacking = {
            account: of.lacking if (of := comparison.tags.get(account)) else "its spend is not read by tags"
            for account in accounts
        }
        sentences = tuple(f"{account}: {text}." for account, text in lacking.items() if text)
        through = [of.through for of in comparison.tags.values() if of.through is not None]
        for key in keys:
            before, after = (
                _added(of.before.get(key, {}) for of in comparison.tags.values()),
                _added(of.after.get(key, {}) for of in comparison.tags.values()),
            )
            found.append(MovedBy(f"{TAG}{key}", moves(before, after, _MOVED), min(through), sentences))
        if not keys:
            found.append(MovedBy(TAG, Moves(), None, sentences))
    return tuple(item for item in found if len(item.moves.top) > 1 or (item.lacking and not item.moves.top))


def _by_value(pages: Pages, place: int) -> dict[str, int]:
    sums: dict[str, int] = {}
    for page in pages:
        for labels, amount, _ in page.samples:
            sums[labels[place]] = sums.get(labels[place], 0) + int(amount)
    return sums


def _added(of_accounts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for costs in of_accounts:
        for value, cost in costs.items():
            sums[value] = sums.get(value, 0) + cost
    return sums
