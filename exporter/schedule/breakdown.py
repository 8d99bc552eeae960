"""What the landing page breaks down: the last days by product, and what has cost most this month."""

from collections.abc import Iterable
from datetime import timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from exporter.calendar import first_hour_of
from exporter.charges import Window
from exporter.ledger import LedgerView
from exporter.metrics.publication import OTHER, DailySpend, Ranking
from exporter.outlook.hours import HourlySpend
from exporter.samples import Pages
from exporter.schedule.spending import Topic

_DAYS = 14
_PRODUCTS = 6
_RANKED = 8
_LABELS = ("model", "app", "gpu_class")


class Breakdown:
    """Keeps the rankings until the month's figures change, as snapshots are made several times a second.

    Args:
        zone: whose days are told.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._month: Pages | None = None
        self._rankings: tuple[Ranking, ...] = ()

    def rankings(self, view: LedgerView) -> tuple[Ranking, ...]:
        """Return what has cost most this month, by those labels that are published."""
        # Pages are immutable: the same ones hold the same figures.
        if self._month is None or [*map(id, self._month)] != [*map(id, view.month_to_date)]:
            self._month = view.month_to_date
            self._rankings = tuple(
                _ranking(label, view.labels.index(label), view.month_to_date)
                for label in _LABELS
                if label in view.labels
            )
        return self._rankings

    def daily(self, view: LedgerView, hours: HourlySpend[Topic] | None) -> DailySpend:
        """Return what the last days have cost by product.

        Args:
            view: the ledger's figures.
            hours: what the hours have cost; None before they have been read.
        """
        today = view.at.astimezone(self._zone).date()
        days = [today - timedelta(days=back) for back in range(_DAYS - 1, -1, -1)]
        starts = [first_hour_of(day, self._zone) for day in (*days, today + timedelta(days=1))]
        windows = [Window(start, end) for start, end in pairwise(starts)]
        products: dict[str, list[int]] = {}
        for topic in hours or ():
            if hours is not None and topic.kind == "product":
                amounts = products.setdefault(topic.product, [0] * len(windows))
                for place, window in enumerate(windows):
                    amounts[place] += hours.total(topic, window)
        ranked = sorted(((name, amounts) for name, amounts in products.items() if any(amounts)), key=_by_amount)
        told = [(name, tuple(amounts)) for name, amounts in ranked[:_PRODUCTS]]
        if ranked[_PRODUCTS:]:
            told.append((OTHER, tuple(map(sum, zip(*(it for _, it in ranked[_PRODUCTS:]), strict=True)))))
        known = [it.history_from for it in view.scopes if it.history_from is not None]
        first = next((it for it, start in zip(days, starts, strict=False) if known and start >= max(known)), None)
        return DailySpend(tuple(days), tuple(told), first)


def _ranking(label: str, place: int, pages: Pages) -> Ranking:
    sums: dict[str, int] = {}
    for page in pages:
        for labels, value, _ in page.samples:
            sums[labels[place]] = sums.get(labels[place], 0) + int(value)
    ranked = sorted(((name, (amount,)) for name, amount in sums.items() if name and amount), key=_by_amount)
    rest = ranked[_RANKED:]
    return Ranking(
        label,
        tuple((name, amount) for name, (amount,) in ranked[:_RANKED]),
        len(rest),
        sum(amount for _, (amount,) in rest),
        sum(sums.values()),
    )


def _by_amount(named: tuple[str, Iterable[int]]) -> tuple[int, str]:
    return -sum(named[1]), named[0]
