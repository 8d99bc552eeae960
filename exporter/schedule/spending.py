"""What every hour has cost, by what outlooks are about: kept as the ledger has it, reading only what has changed."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from exporter.charges import HOUR, Window, hour_of
from exporter.ledger import Ledger
from exporter.outlook.budgets import Budget
from exporter.outlook.hours import HourlySpend
from exporter.outlook.rhythm import DAY, LONGEST

_HOURS_AT_ONCE = 168
"""Hours read for one publication: catching up with a large ledger never holds the others up for long."""


class Topic(NamedTuple):
    """What sums are kept of: an account, one of its products, or a budget."""

    kind: str
    name: str
    product: str = ""


class Spending:
    """The hours that are learnt from, the last one and the running one.

    Args:
        budgets: as configured.
        by_product: whether products are told apart.
    """

    def __init__(self, budgets: Sequence[Budget], *, by_product: bool) -> None:
        self._budgets = budgets
        self._by_product = by_product
        self._revision: int | None = None
        self._hours: HourlySpend[Topic] | None = None
        self._unread: set[datetime] = set()
        self._topics: dict[int, tuple[Topic, ...]] = {}

    @property
    def is_behind(self) -> bool:
        """Whether there are hours still to be read that may have changed."""
        return bool(self._unread)

    @property
    def hours(self) -> HourlySpend[Topic] | None:
        """What has been taken up; None before the first time."""
        return self._hours

    def catch_up(self, ledger: Ledger, now: datetime) -> HourlySpend[Topic]:
        """Take up what has changed in the ledger, and the hours that have begun."""
        hour = hour_of(now)
        window = Window(hour - (LONGEST + 1) * HOUR, hour + HOUR)
        hours = self._hours
        if hours is None or window.start < hours.window.start:
            hours = self._hours = HourlySpend(window)
            self._revision = None
        elif window != hours.window:
            self._unread.update(Window(hours.window.end, window.end).hours())
            hours.move_to(window)
        touched = None if self._revision is None else ledger.touched_since(self._revision)
        for span in (window,) if touched is None else touched:
            self._unread.update(span.hours())
        self._revision = ledger.revision
        self._unread = {it for it in self._unread if it in window}
        for span in _runs(sorted(self._unread)[-_HOURS_AT_ONCE:]):
            self._read(ledger, span, hours)
            self._unread.difference_update(span.hours())
        return hours

    def _read(self, ledger: Ledger, window: Window, hours: HourlySpend[Topic]) -> None:
        dimensions = ledger.dimensions()
        for hour, costs in ledger.hourly(window).items():
            spend: dict[Topic, int] = {}
            for series, cost in costs.items():
                topics = self._topics.get(series)
                if topics is None:
                    of = dimensions[series]
                    topics = self._topics[series] = (
                        Topic("account", of.account),
                        Topic("product", of.account, of.product if self._by_product else ""),
                        *(Topic("budget", it.name) for it in self._budgets if it.is_about(of)),
                    )
                for topic in topics:
                    spend[topic] = spend.get(topic, 0) + cost
            hours.set_hour(hour, spend)


def _runs(hours: Sequence[datetime]) -> Iterator[Window]:
    """Yield runs of consecutive hours, a day at most."""
    start = 0
    for place in range(1, len(hours) + 1):
        if place == len(hours) or hours[place] - hours[place - 1] != HOUR or place - start == DAY:
            yield Window(hours[start], hours[place - 1] + HOUR)
            start = place
