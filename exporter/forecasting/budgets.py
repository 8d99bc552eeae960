"""Budgets: their periods, and which charges they are about."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, get_args
from zoneinfo import ZoneInfo

from exporter.calendar import first_hour_of, month_after
from exporter.charges import HOUR, Dimensions, Window, hour_of, nano
from exporter.tags import TAG, UNTAGGED

if TYPE_CHECKING:
    from exporter.settings.entries import BudgetEntry

Period = Literal["day", "week", "month"]
PERIODS: tuple[Period, ...] = get_args(Period)


def running_period(period: Period, now: datetime, zone: ZoneInfo) -> Window:
    """Return the period that holds an aware instant; weeks begin on Monday.

    It is made of the UTC hours that begin in it, and the current hour's own start decides to which it belongs, as with
    the gauges of today and of the month.
    """
    today = hour_of(now).astimezone(zone).date()
    match period:
        case "day":
            first, after = today, today + timedelta(days=1)
        case "week":
            first = today - timedelta(days=today.weekday())
            after = first + timedelta(days=7)
        case "month":
            first = today.replace(day=1)
            after = month_after(first)
    return Window(first_hour_of(first, zone), first_hour_of(after, zone))


BURN_WINDOWS: Mapping[str, int] = {"1h": 1, "6h": 6, "1d": 24, "3d": 72}
"""The complete hours of each window over which burn is told; the current hour comes on top."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit on the spend of some charges in every period.

    Attributes:
        limit: nano-USD, above 0.
        zone: whose days, weeks and months.
        match: globs by dimension, as of `Dimensions`; a charge is meant when each dimension matches one of its globs.
            A dimension that is not named matches anything.
        thresholds: shares of the limit, ascending.
    """

    name: str
    limit: int
    period: Period
    zone: ZoneInfo
    match: Mapping[str, tuple[str, ...]]
    thresholds: tuple[Fraction, ...] = ()

    @property
    def has_tags(self) -> bool:
        """True if the budget is about spend by tags."""
        return any(name.startswith(TAG) for name in self.match)

    def is_about_tagged(self, account: str, model: str, tags: Mapping[str, str]) -> bool:
        """Return whether spend by tags counts; `tags` are the values by key."""
        of = {"account": account, "model": model, **{f"{TAG}{key}": value for key, value in tags.items()}}
        return all(_matches(of.get(name, UNTAGGED), globs) for name, globs in self.match.items())

    def is_about(self, dimensions: Dimensions) -> bool:
        """Return whether charges of these dimensions count; of a budget with tags none does by itself."""
        return is_about(self.match, dimensions)

    def accounts_of(self, accounts: Collection[str]) -> tuple[str, ...]:
        """Return those of some accounts whose charges may count."""
        return tuple(account for account in accounts if _matches(account, self.match.get("account", ("*",))))

    def window(self, now: datetime) -> Window:
        """Return the current period."""
        return running_period(self.period, now, self.zone)

    def burn(self, spend: int, hours: int, now: datetime) -> float:
        """Return how many times faster than the budget allows evenly money is spent.

        Args:
            spend: of so many complete hours and of the running one, in nano-USD.
            hours: the complete hours.
            now: an aware instant, which says how much of the current hour has passed.
        """
        period = self.window(now)
        elapsed = hours * HOUR + timedelta(minutes=now.minute)
        return spend / (self.limit * (elapsed / (period.end - period.start)))


def budget_of(entry: "BudgetEntry", zone: ZoneInfo) -> Budget:
    """Return a configured budget; `zone` is that of the exporter, for budgets without their own."""
    return Budget(entry.name, nano(entry.amount), entry.period, entry.zone(zone), entry.match, entry.thresholds)


def is_about(match: Mapping[str, tuple[str, ...]], dimensions: Dimensions) -> bool:
    """Return whether charges of these dimensions match; see `Budget.match`. A charge by itself has no tags."""
    return not any(name.startswith(TAG) for name in match) and all(
        _matches(getattr(dimensions, name), globs) for name, globs in match.items()
    )


def _matches(value: str, globs: Collection[str]) -> bool:
    return any(fnmatchcase(value, glob) for glob in globs)


def percent(share: Fraction) -> str:
    """Return a share in percent, such as `80%`, `33.5%` or `66.666667%`."""
    return f"{float(share * 100):.8g}%"


def threshold_amount(limit: int, share: Fraction) -> int:
    """Return the spend, in nano-USD, that reaches a share of a limit: rounded up to a whole nano-dollar."""
    return -(-limit * share.numerator // share.denominator)
