"""What the collector hands to the web: an exposition to serve and an overview to show."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from exporter.metrics.exposition import Exposition, ExpositionDelta
from exporter.outlook.state import Outlook

NO_OUTLOOK = Outlook()

State = Literal["waiting", "up", "failing"]

OTHER = "other"
"""What is too small to be told apart."""


@dataclass(frozen=True, slots=True)
class SourceOverview:
    """The state of one source of one account; instants are aware and in UTC.

    Attributes:
        chosen: how it came to be polled, in words: "set by SOURCES", "chosen automatically: ...".
        state: waiting until the first poll has ended, then by the last poll.
        history_progress: share of the configured history that has been loaded, 0 to 1; None where not known.
        problem: the last error's sentence; empty while the source is up.
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
class AccountOverview:
    """One account's sources and money, in nano-USD; None where it is not known.

    Attributes:
        locked: why fal has locked the account, in words; empty if it has not.
        problems: sentences that concern the account as a whole, for example a balance that cannot be read.
    """

    name: str
    sources: tuple[SourceOverview, ...]
    balance: int | None = None
    balance_at: datetime | None = None
    locked: str = ""
    current_hour: int | None = None
    last_hour: int | None = None
    today: int | None = None
    month_to_date: int | None = None
    last_month: int | None = None
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DailySpend:
    """What the last days of the configured time zone cost by product, in nano-USD, all accounts together.

    Attributes:
        days: consecutive, the running one last.
        products: the name and what each day cost, the most expensive first; what is left over is named OTHER.
        known_from: the first day that has been loaded of every source; None where there is none yet.
    """

    days: tuple[date, ...] = ()
    products: tuple[tuple[str, tuple[int, ...]], ...] = ()
    known_from: date | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """What cost most this month, in nano-USD, all accounts together.

    Attributes:
        label: what is ranked: model, app or gpu_class.
        top: the names and their amounts, the most expensive first.
        others: how many more there are.
        other: what those cost.
        total: what the month has cost, also of what has no such label.
    """

    label: str
    top: tuple[tuple[str, int], ...]
    others: int
    other: int
    total: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What the landing page shows.

    Attributes:
        time_zone: IANA name of the zone that "today" and "month" follow.
        series: how many combinations of charge labels are published.
        charges: how many hourly charges the ledger keeps.
        notes: sentences for the top of the page, for example that this is a demo.
        links: further titles and addresses for the foot of the page, for example the documentation.
        daily: what the last days have cost.
        rankings: what has cost most this month, by each label that is published.
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


@dataclass(frozen=True, slots=True)
class Parcel:
    """A publication on its way to a process that holds the one before."""

    sequence: int
    at: datetime
    delta: ExpositionDelta
    overview: Overview
    ready: bool
    outlook: Outlook = NO_OUTLOOK

    def unpack(self, previous: Exposition | None) -> "Publication":
        """Return the publication.

        Raises:
            ValueError: the previous exposition is not the one the parcel was packed for.
        """
        return Publication(self.sequence, self.at, self.delta.apply(previous), self.overview, self.ready, self.outlook)


@dataclass(frozen=True, slots=True)
class Publication:
    """An immutable state of everything that is served.

    Attributes:
        sequence: the snapshot's number.
        at: the snapshot's instant, aware and in UTC.
        ready: whether the current month has been loaded once.
    """

    sequence: int
    at: datetime
    exposition: Exposition
    overview: Overview
    ready: bool
    outlook: Outlook = NO_OUTLOOK

    def pack(self, previous: Exposition | None) -> Parcel:
        """Return it without the pieces that a holder of the previous exposition (None: of nothing) has."""
        return Parcel(
            self.sequence, self.at, self.exposition.delta_from(previous), self.overview, self.ready, self.outlook
        )
