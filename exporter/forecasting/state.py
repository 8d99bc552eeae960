"""Published state of balances, budgets and forecasts; nano-USD, aware UTC."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from exporter.charges import Window


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of a period's cost: the median, and the edges of a band that holds it in 80% of cases."""

    expected: int
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Path:
    """Path on which spend is expected to go on.

    Attributes:
        weekdays: what each of the next seven whole UTC days is expected to cost, Sunday first, in nano-USD.
        spreads: by a number of days ahead, the factor between their expected cost and the edges of its 80% band.
    """

    weekdays: tuple[int, ...]
    spreads: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Lock:
    """A reason for which fal has locked an account.

    Attributes:
        reason: as in `fal_account_locked`.
        advice: what it means and what to do about it, in a sentence.
    """

    reason: str
    advice: str


@dataclass(frozen=True, slots=True)
class AccountOutlook:
    """One account; None where it is not known.

    Attributes:
        credit_floor: the balance at which fal locks the account, to which the runway counts down.
        runway: how long the balance lasts at the recent burn; None where nothing burns.
        locks: the reasons fal has locked the account for; none if it has not.
        month: the current month in the configured time zone.
        spend: what the month has cost so far.
        forecast: None until the hours of the month so far have been loaded.
        path: how spend is expected to go on from now; None as the forecast.
    """

    account: str
    month: Window
    balance: int | None = None
    balance_at: datetime | None = None
    runway: timedelta | None = None
    locks: tuple[Lock, ...] = ()
    spend: int | None = None
    forecast: Forecast | None = None
    credit_floor: int | None = None
    path: Path | None = None

    @property
    def locked(self) -> tuple[str, ...]:
        """The reasons of the locks."""
        return tuple(lock.reason for lock in self.locks)


@dataclass(frozen=True, slots=True)
class BudgetOutlook:
    """One budget in its current period.

    Attributes:
        period: day, week or month.
        window: the current period in the budget's time zone.
        match: label to globs, as configured.
        thresholds: shares of the limit that the user wants to hear of, ascending (4/5 is 80%).
        spend: what the period has cost so far; None until its hours have been loaded. Forecast likewise.
        burn: by window (1h, 6h, 1d, 3d) how many times faster than the budget allows money is spent.
    """

    budget: str
    period: str
    window: Window
    limit: int
    match: Mapping[str, tuple[str, ...]]
    thresholds: tuple[Fraction, ...] = ()
    spend: int | None = None
    forecast: Forecast | None = None
    burn: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class ExpectedSpend:
    """Usual cost of the last complete UTC hour and of the whole running one, and the cost above which they are unusual.

    Attributes:
        product: empty where the configured labels lack it.
    """

    account: str
    product: str
    last_hour: int
    last_hour_high: int
    current_hour: int
    current_hour_high: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """All of it at one instant."""

    accounts: tuple[AccountOutlook, ...] = ()
    budgets: tuple[BudgetOutlook, ...] = ()
    expected: tuple[ExpectedSpend, ...] = ()
