"""Coverage: how far each source of an account is known, and which windows may be published of it.

The hours that are covered of a source are one span; polls extend it, and what lies in it settles after a delay.

A figure of a window is published for an account only while every hour of the window that is over is covered by every
active source of the account. An hour counts as covered

- once a successful poll that began after the hour's end has read it, and no hour between it and the others is missing;
- or, so that no figure is missing between the turn of an hour and the next poll, while the newest poll that read it as
  the current hour began no longer ago than a grace of some polls (`Rules.poll_grace`).

A window of which no hour is over yet, as today just after midnight, is covered while every source has been read up to
the current hour within that grace.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from exporter.calendar import Periods
from exporter.charges import HOUR, Window, hour_of
from exporter.ledger.accounting.restatement import Booking
from exporter.samples import Page, Pages


@dataclass(frozen=True, slots=True)
class ScopeState:
    """State of one source of one account: how far its hours are known.

    Attributes:
        born_at: when the ledger first took this source up.
        data_through: end of the last complete hour up to which every hour has been covered; None before the first poll.
        settled_through: end of the last hour that is older than the settle delay and has been polled since.
        history_from: start of the earliest hour from which on every hour has been covered.
        last_success_at: start of the last successful poll.
        restated_up, restated_down: nano-USD by which complete hours have been changed, each positive.
        restated_hours: how many times a complete hour has been changed.
        relabelled: nano-USD that moved to other label sets within their hours.
        detail: how much the source reports of a charge, one of `exporter.fal.Detail`; empty before that is known.
        detail_asked_at, detail_version: when, and by which version of the exporter, it was asked for more last.
        running_hour_read_at: start of the last successful poll that read the hour running then.
    """

    account: str
    source: str
    born_at: datetime
    data_through: datetime | None
    settled_through: datetime | None
    history_from: datetime | None
    last_success_at: datetime | None
    restated_up: int
    restated_down: int
    restated_hours: int
    relabelled: int = 0
    detail: str = ""
    detail_asked_at: datetime | None = None
    detail_version: str = ""
    running_hour_read_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope(ScopeState):
    """One source of one account as the database has it: its state, and what is not shown.

    Attributes:
        id: number of the scope in the database.
        active: whether its charges count.
        counts_from: what was spent before is history, which counters leave out.
    """

    id: int
    active: bool
    counts_from: datetime

    def reborn(self, counts_from: datetime) -> "Scope":
        """Return the scope as it starts over: all that it will read of hours before an instant is history."""
        return replace(
            self,
            active=True,
            counts_from=counts_from,
            data_through=None,
            settled_through=None,
            history_from=None,
            running_hour_read_at=None,
        )


def reached(scope: Scope, window: Window, at: datetime) -> Scope:
    """Return the scope after a successful poll of a window that began at an instant, whatever the poll found.

    The hours that are covered are always one span, from `history_from` to `data_through`; a window that does not touch
    it (there is a gap that some other poll has to fill) does not move its ends.
    """
    end = min(window.end, hour_of(at))
    if scope.history_from is None or scope.data_through is None:
        history_from, data_through = window.start, max(end, window.start)
    elif window.start <= scope.data_through and end >= scope.history_from:
        history_from, data_through = min(scope.history_from, window.start), max(scope.data_through, end)
    else:
        history_from, data_through = scope.history_from, scope.data_through
    running = scope.running_hour_read_at
    if window.start <= hour_of(at) < window.end:
        running = at if running is None else max(at, running)
    return replace(
        scope,
        data_through=data_through,
        history_from=history_from,
        running_hour_read_at=running,
        last_success_at=at if scope.last_success_at is None else max(at, scope.last_success_at),
    )


def clamped(scope: Scope, now: datetime, settle_delay: timedelta) -> Scope:
    """Return the scope without instants that are still to come, which a clock that was wrong has left in it."""
    newest = scope.counts_from if scope.last_success_at is None else max(scope.counts_from, scope.last_success_at)
    if newest <= now:
        return scope
    hour = hour_of(now)
    return replace(
        scope,
        counts_from=min(scope.counts_from, now),
        history_from=_by(hour, scope.history_from),
        data_through=_by(hour, scope.data_through),
        settled_through=_by(hour_of(now - settle_delay), scope.settled_through),
        last_success_at=_by(now, scope.last_success_at),
        running_hour_read_at=_by(now, scope.running_hour_read_at),
        detail_asked_at=_by(now, scope.detail_asked_at),
    )


def _by(latest: datetime, instant: datetime | None) -> datetime | None:
    return None if instant is None else min(instant, latest)


def settled(
    scope: Scope, window: Window, at: datetime, settle_delay: timedelta, *, unsettled_from: datetime | None = None
) -> Scope:
    """Return the scope after the same poll, with what has now settled; nothing does from an hour with rejected rows on.

    An hour is settled when a poll that began a settle delay after the hour's end has covered what followed it.
    """
    if scope.history_from is None or scope.data_through is None:
        return scope
    edge = min(hour_of(at - settle_delay), scope.data_through)
    if unsettled_from is not None:
        edge = min(edge, unsettled_from)
    if not window.start <= edge <= window.end or edge < scope.history_from:
        return scope
    return replace(scope, settled_through=edge if scope.settled_through is None else max(scope.settled_through, edge))


def booked(scope: Scope, booking: Booking) -> Scope:
    """Return the scope after a restatement has been booked: its sums of what was restated have grown."""
    return replace(
        scope,
        restated_up=scope.restated_up + booking.restated_up,
        restated_down=scope.restated_down + booking.restated_down,
        restated_hours=scope.restated_hours + len(booking.restated_hours),
        relabelled=scope.relabelled + booking.relabelled,
    )


def state_of(scope: Scope) -> ScopeState:
    """Return what a scope shows of itself."""
    return ScopeState(**{shown.name: getattr(scope, shown.name) for shown in fields(ScopeState)})


@dataclass(frozen=True, slots=True)
class WindowCoverage:
    """Coverage of one window of one account.

    Attributes:
        window: up to its calendar end; hours that are not over do not count.
        hours: hours of the window that are over.
        covered: those of them that every active source has covered.
        known_from: start of the first hour from which on every source is known; None while one is not known at all.
        known_until: end of the last hour that counts as covered by every source; None likewise.
        is_current: whether every source was read up to the current hour within the grace.
    """

    window: Window
    hours: int
    covered: int
    known_from: datetime | None
    known_until: datetime | None
    is_current: bool

    @property
    def ratio(self) -> float:
        """Covered hours over hours, 0 to 1; where no hour of the window is over, 1 while the sources are current."""
        return self.covered / self.hours if self.hours else float(self.is_current)

    @property
    def is_whole(self) -> bool:
        """True if the window's figures may be published."""
        return self.covered == self.hours if self.hours else self.is_current


AccountCoverage = Mapping[str, WindowCoverage]
"""The coverage of an account by the name of the period (see `exporter.calendar.PERIODS`)."""


@dataclass(frozen=True, slots=True)
class _Reach:
    """The hours that every active source of an account has covered."""

    start: datetime
    end: datetime
    is_current: bool


def coverage(
    accounts: Iterable[str], scopes: Collection[ScopeState], periods: Periods, *, now: datetime, grace: timedelta
) -> dict[str, AccountCoverage]:
    """Return the coverage of all windows by account; nothing is covered of an account without an active source.

    Args:
        accounts: those that are published.
        scopes: the active sources.
        periods: the windows at the instant.
        now: an aware instant.
        grace: how long a poll that read the current hour stands for that hour after its end.
    """
    by_account: dict[str, list[ScopeState]] = {account: [] for account in accounts}
    for scope in scopes:
        if scope.account in by_account:
            by_account[scope.account].append(scope)
    windows = periods.windows()
    return {
        account: MappingProxyType(
            {name: _coverage(window, _reach(of_account, now, grace), now) for name, window in windows.items()}
        )
        for account, of_account in sorted(by_account.items())
    }


def _reach(scopes: Collection[ScopeState], now: datetime, grace: timedelta) -> _Reach | None:
    starts, ends, current = [], [], []
    for scope in scopes:
        if scope.history_from is None or scope.data_through is None:
            return None
        read_at = scope.running_hour_read_at
        is_current = read_at is not None and now - read_at <= grace
        end = scope.data_through
        if is_current and read_at is not None and hour_of(read_at) == end:
            end += HOUR
        starts.append(scope.history_from)
        ends.append(end)
        current.append(is_current)
    return _Reach(max(starts), min(ends), all(current)) if starts else None


def _coverage(window: Window, reach: _Reach | None, now: datetime) -> WindowCoverage:
    over = min(window.end, hour_of(now))
    hours = max((over - window.start) // HOUR, 0)
    if reach is None:
        return WindowCoverage(window, hours, 0, None, None, is_current=False)
    covered = max((min(over, reach.end) - max(window.start, reach.start)) // HOUR, 0)
    return WindowCoverage(window, hours, covered, reach.start, reach.end, reach.is_current)


class PublishedPages:
    """Leaves the samples of accounts out of pages, and keeps the pages that come out while what they are made of stays.

    Args:
        account_at: the place of the account among the samples' label values.
    """

    def __init__(self, account_at: int) -> None:
        self._account_at = account_at
        self._without: frozenset[str] = frozenset()
        self._kept: dict[int, tuple[Page, Page]] = {}

    def pages(self, pages: Pages, without: frozenset[str]) -> Pages:
        """Return the pages without the samples of some accounts; the same pages where there are no such accounts."""
        if without != self._without:
            self._without, self._kept = without, {}
        if not without:
            return pages
        # The key is the identity of a page that is kept beside it, so that no other page can take it over.
        self._kept = {id(page): self._kept.get(id(page)) or (page, self._filtered(page)) for page in pages}
        return tuple(filtered for _, filtered in self._kept.values() if filtered.samples)

    def _filtered(self, page: Page) -> Page:
        return Page(tuple(sample for sample in page.samples if sample.labels[self._account_at] not in self._without))
