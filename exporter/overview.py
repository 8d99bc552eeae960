"""Overview: what the landing page shows, as the collector hands it to the web process with each publication.

Plain values, so that a page is written without asking anybody: figures of accounts, the ledger, and what needs
attention. Amounts are in nano-USD.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Literal

from exporter.forecasting.changes import Moves
from exporter.forecasting.drivers import NO_PARTS, Parts
from exporter.forecasting.what_if import WhatIf

State = Literal["waiting", "up", "partial", "failing"]

OTHER = "other"
"""Name of the rest that is too small to be listed."""


@dataclass(frozen=True, slots=True)
class SourceOverview:
    """The state of one source of one account; instants are aware and in UTC.

    Attributes:
        chosen: how it came to be polled, in words: "set by SOURCES", "chosen automatically: ...".
        state: waiting until the first poll has ended, then by the last poll.
        history_progress: share of the configured history that has been loaded, 0 to 1; None where not known.
        problem: the last error's sentence, or one on the rows that cannot be read; empty while the source is up.
    """

    name: str
    chosen: str
    state: State
    last_success_at: datetime | None = None
    data_through: datetime | None = None
    settled_through: datetime | None = None
    history_progress: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Gap of a window, for which its figure is not shown.

    Attributes:
        reason: unread while a source has not been read at all; loading while the history is; short where the window
            begins before the history that is loaded; behind where hours that are over have not been read.
        ratio: share of the hours that are over and covered, 0 to 1.
        known_from, known_until: ends of what is covered, in the configured time zone; None if unread.
    """

    reason: Literal["unread", "loading", "short", "behind"]
    ratio: float = 0.0
    known_from: datetime | None = None
    known_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Billed:
    """Invoice of the last month, or all where there are several, in nano-USD.

    Attributes:
        number, status: of each, separated by commas.
        difference: what the ledger has beyond what fal bills as usage; None before they have been compared.
    """

    number: str
    status: str
    total: int
    due_at: datetime | None = None
    difference: int | None = None


@dataclass(frozen=True, slots=True)
class Mover:
    """Something that costs more or less than in the same part of the last month, and by how much, in nano-USD."""

    account: str
    product: str
    name: str
    change: int
    cause: str


@dataclass(frozen=True, slots=True)
class AccountOverview:
    """One account's sources and money, in nano-USD; None where it is not known.

    Attributes:
        credit_floor: the balance at which fal locks the account.
        pays_by_invoice: whether it needs no credit.
        gaps: by the name of the figure, `current_hour` to `last_month`, what a figure waits for that is None.
        locked: why fal has locked the account, in words; empty if it has not.
        last_month_to_date: the same part of the last month as is known of this one; None where it is not whole.
        month_compared: cost of this month in the hours that are compared with it: without those after the last that all
            sources have been read to the end of, which `month_to_date` contains.
        bill: what fal bills for the last month; None before it has been compared.
        problems: sentences that concern the account as a whole, for example a balance that cannot be read.
        remarks: sentences on what the figures lack, for example charges that the key cannot read.
        lacks: sentences on charges that are in no figure, whatever hours have been read: those that the key cannot
            read, or could and that are not polled.
    """

    name: str
    sources: tuple[SourceOverview, ...]
    balance: int | None = None
    balance_at: datetime | None = None
    pays_by_invoice: bool = False
    credit_floor: int = 0
    locked: str = ""
    current_hour: int | None = None
    last_hour: int | None = None
    today: int | None = None
    month_to_date: int | None = None
    last_month: int | None = None
    last_month_to_date: int | None = None
    month_compared: int | None = None
    bill: "Billed | None" = None
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DailySpend:
    """Cost of the last days of the configured time zone by product, in nano-USD, all accounts together.

    Attributes:
        days: consecutive, the running one last.
        products: the name and what each day cost, the most expensive first; what is left over is named OTHER.
        known_from: the first day that has been loaded of every source; None where there is none yet.
        known_until: the last day that has been read of every source, to its end or, if it is the running one, to now.
    """

    days: tuple[date, ...] = ()
    products: tuple[tuple[str, tuple[int, ...]], ...] = ()
    known_from: date | None = None
    known_until: date | None = None

    def is_known(self, day: date) -> bool:
        """Return whether all hours of a day that are over have been read of every source."""
        return (
            self.known_from is not None and self.known_until is not None and self.known_from <= day <= self.known_until
        )


@dataclass(frozen=True, slots=True)
class Ranking:
    """Ranking of the month's cost by one label, in nano-USD, all accounts together.

    Attributes:
        label: what is ranked: model, app or gpu_class, or a tag by its key behind `tag:`.
        top: the names and their amounts, the most expensive first.
        others: how many more there are.
        other: what those cost.
        total: what the month has cost, also of what has no such label.
        unread: of a tag, what accounts have cost that are not read by tags.
        through: of a tag, end of the hours that have been read by tags for good: later ones are untagged so far.
    """

    label: str
    top: tuple[tuple[str, int], ...]
    others: int
    other: int
    total: int
    unread: int = 0
    through: datetime | None = None


@dataclass(frozen=True, slots=True)
class MovedBy:
    """Comparison of this month with the same part of the last one by one label, all accounts together.

    Attributes:
        label: account, team, api_key or member, or a tag by its key behind `tag:`; `tag:` alone where no tag can be
            compared.
        moves: the values that moved most, and all others; in nano-USD.
        through: end of the hours that are compared where it is another than that of other comparisons: of tags.
        lacking: sentences on accounts that are not among them.
    """

    label: str
    moves: Moves
    through: datetime | None = None
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LedgerOverview:
    """The state of the ledger's database.

    Attributes:
        problem: what keeps the ledger from being read or written, as a sentence; empty while it works.
        restart_helps: whether the problem ends when the exporter is started again.
        events: what has happened to the database since it was opened, and what was odd then; sentences.
        born_at: when the ledger began to count.
        revision: number of the state that the figures are of.
    """

    problem: str = ""
    restart_helps: bool = False
    events: tuple[str, ...] = ()
    born_at: datetime | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class UnusualHour:
    """Cost of an hour beside the most that is usual for it, in nano-USD; the product is empty if not published."""

    account: str
    product: str
    cost: int
    usual: int


@dataclass(frozen=True, slots=True)
class NewName:
    """Model or app that was first charged within the last day, and its cost in the last 24 hours, in nano-USD."""

    account: str
    name: str
    cost: int
    first_seen: datetime


@dataclass(frozen=True, slots=True)
class PriceChange:
    """List price of a unit that changed within the last day, in nano-USD."""

    account: str
    name: str
    unit: str
    price: int
    previous: int


@dataclass(frozen=True, slots=True)
class DiscountChange:
    """Discount that changed within the last day, as shares from 0 to 1."""

    account: str
    name: str
    unit: str
    discount: float
    previous: float


@dataclass(frozen=True, slots=True)
class Restated:
    """Change of complete hours by fal within the last hour, in nano-USD; the direction is up or down."""

    account: str
    direction: Literal["up", "down"]
    amount: int


@dataclass(frozen=True, slots=True)
class KeyOverview:
    """API key that fal lists; None where it is not known."""

    account: str
    label: str
    created_at: datetime | None = None
    unused_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """Invoice that has not been paid, in nano-USD."""

    account: str
    number: str
    total: int
    due_at: datetime


@dataclass(frozen=True, slots=True)
class BillDifference:
    """Difference of the ledger from fal's bill of the last UTC month, in nano-USD.

    Attributes:
        against: as the label of `fal_reconciliation_difference_usd`.
        amount: above 0 where the ledger has more.
    """

    account: str
    against: str
    amount: int


@dataclass(frozen=True, slots=True)
class IdleApp:
    """Cost of an app in a period and the idle part of it, in nano-USD; settings None where not known.

    Attributes:
        what_if: the lower setting that would likely have saved most in the last week; None where none is known.
        is_tried: whether lower settings could be tried on its last week; without that nothing is said of them.
    """

    account: str
    app: str
    environment: str
    idle: int
    cost: int
    min_concurrency: int | None = None
    keep_alive: int | None = None
    what_if: WhatIf | None = None
    is_tried: bool = False


@dataclass(frozen=True, slots=True)
class IdleMonth:
    """Cost of runners this month so far and the idle part of it, in nano-USD, of the accounts that are known.

    Attributes:
        apps: those with the most idle money, that first.
        unknown: of hours for which fal has stated no runners, so that it is not known what of it was idle.
    """

    idle: int
    cost: int
    apps: tuple[IdleApp, ...] = ()
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class RequestsOfModel:
    """Requests of a model: how many, their cost together in nano-USD, and quantiles of their costs in US dollars."""

    model: str
    requests: int
    cost: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class DearestRequest:
    """One of the dearest requests; cost in nano-USD."""

    account: str
    request_id: str
    model: str
    at: datetime
    cost: int


@dataclass(frozen=True, slots=True)
class RecentRequests:
    """Single requests of the last day of which hours have been read to their end.

    Attributes:
        since, through: the hours that are covered lie in [since, through).
        models: those whose requests cost most, that first.
        others: how many further models there are; `rest` is all of them together.
        dearest: the dearest first.
        notes: what is missing of these hours, in sentences.
    """

    since: datetime
    through: datetime
    models: tuple[RequestsOfModel, ...]
    others: int = 0
    rest: RequestsOfModel | None = None
    dearest: tuple[DearestRequest, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BurnCeiling:
    """Amount that the apps of a budget can burn in an hour, and what is left of the budget, in nano-USD."""

    budget: str
    amount: int
    left: int


@dataclass(frozen=True, slots=True)
class Bookings:
    """Newest comparison of bookings with what fal charged for requests, in nano-USD.

    Attributes:
        off: what is booked too high and what is booked too low, added up.
        through: the end of the hours that were compared; None before the first comparison.
        problem: why there is no newer comparison; empty while the newest has succeeded.
        too_high: what of `off` is booked too high.
    """

    off: int = 0
    charged: int = 0
    through: datetime | None = None
    problem: str = ""
    too_high: int = 0


@dataclass(frozen=True, slots=True)
class Observations:
    """Recent events that the shipped alerts are about, besides what the other figures tell.

    Attributes:
        restated: since an hour ago, or since the collector started if that is later.
        provider_budgets: hard monthly budget set at fal, in nano-USD by account.
        clock_ahead: seconds by which the system clock is ahead of fal's; None before fal has answered.
        clock_steps: times that the system clock was set in the last half hour.
        folded_series: combinations of labels folded into `__other__` in the last day.
        idle_apps: those with idle runners in the last 24 hours.
        burn_ceilings: of the budgets that cover apps and whose spend is known.
        idle_month: None where no runners have cost anything, or none are known.
        focus_push_problems: why FOCUS files cannot be pushed, by destination; empty while they can, or are not.
        bookings: None where none are compared.
        remote_write_problem: why hourly samples cannot be sent; empty while they can, or are not.
    """

    unusual_hours: tuple[UnusualHour, ...] = ()
    new_names: tuple[NewName, ...] = ()
    prices: tuple[PriceChange, ...] = ()
    discounts: tuple[DiscountChange, ...] = ()
    restated: tuple[Restated, ...] = ()
    keys: tuple[KeyOverview, ...] = ()
    open_invoices: tuple[OpenInvoice, ...] = ()
    bills: tuple[BillDifference, ...] = ()
    provider_budgets: Mapping[str, int] = field(default_factory=dict)
    clock_ahead: float | None = None
    clock_steps: int = 0
    folded_series: int = 0
    idle_apps: tuple[IdleApp, ...] = ()
    burn_ceilings: tuple[BurnCeiling, ...] = ()
    idle_month: IdleMonth | None = None
    focus_push_problems: Mapping[str, str] = field(default_factory=dict)
    bookings: Bookings | None = None
    remote_write_problem: str = ""


@dataclass(frozen=True, slots=True)
class ReplicasOverview:
    """Replicas of a ledger that are alive, by name, as one of them sees them.

    Attributes:
        name: of the one that sees them.
        leader: the one that collects; empty while none does.
        count: how many there are, with this one.
        problems: why this one would not do as the one that collects, by the reasons of `REPLICA_PROBLEMS`.
        owned: how many accounts this one asks fal for; None where that is not divided.
        shares: how many each of them asks fal for, by name; nothing where that is not divided.
    """

    name: str
    leader: str = ""
    count: int = 1
    problems: tuple[str, ...] = ()
    owned: int | None = None
    shares: tuple[tuple[str, int], ...] = ()


REPLICA_PROBLEMS = ("configuration", "fal")
"""A replica's configuration differs from that of the one that collects; it does not reach fal."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Data of the landing page.

    Attributes:
        time_zone: IANA name of the zone that "today" and "month" follow.
        series: how many combinations of charge labels are published.
        charges: how many hourly charges the ledger keeps.
        notes: sentences for the top of the page, for example that this is a demo.
        links: further titles and addresses for the foot of the page, for example the documentation.
        daily: what the last days have cost.
        rankings: what has cost most this month, by each label that is published.
        movers: what has changed most against the same part of the last month, the largest change first.
        causes: of all that has changed since, together.
        moved: the same change by team, key, member and each tag, of those that have several values.
        ledger: the state of the database that all figures are from.
        observations: recent events that alerts are about.
        requests: single requests of the last day; None where none are read.
        replicas: None where the exporter is none of several.
    """

    version: str
    accounts: tuple[AccountOverview, ...] = ()
    time_zone: str = "UTC"
    series: int = 0
    charges: int = 0
    notes: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    daily: DailySpend = DailySpend()
    rankings: tuple[Ranking, ...] = ()
    movers: tuple[Mover, ...] = ()
    causes: Parts = NO_PARTS
    moved: tuple[MovedBy, ...] = ()
    ledger: LedgerOverview = LedgerOverview()
    observations: Observations = field(default_factory=Observations)
    requests: RecentRequests | None = None
    replicas: ReplicasOverview | None = None
