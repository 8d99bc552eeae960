"""Publisher: publications after every change, and when the clock alone changes what is true.

A publication has parts: the ledger's figures, the forecasts, the days and rankings of the landing page, the exposition.
Each part is made by itself. One that fails keeps its last value, whose age is published, and stops no other part.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Generic, TypeVar
from zoneinfo import ZoneInfo

import structlog

from exporter import __version__
from exporter.calendar import first_hour_of, periods_at
from exporter.charges import INVOICE, Clock, Window, hour_of, utc_now
from exporter.errors import LedgerError
from exporter.forecasting.changes import NO_COMPARISON, MonthComparison
from exporter.forecasting.changes import OTHER as CHANGES_OTHER
from exporter.forecasting.forecast import HourlySpend
from exporter.forecasting.state import Outlook
from exporter.ledger import DISK_FULL, Ledger, LedgerInUseError, LedgerView, ScopeState, WindowCoverage
from exporter.ledger.accounting.invoices import billed_part, invoice_names
from exporter.metrics.encoding import Encoder
from exporter.metrics.health import Health
from exporter.metrics.snapshot import WINDOWS, NameSamples, Snapshot, snapshot_of
from exporter.overview import (
    OTHER,
    AccountOverview,
    Billed,
    DailySpend,
    Gap,
    LedgerOverview,
    Mover,
    Observations,
    Overview,
    Ranking,
    RecentRequests,
    SourceOverview,
)
from exporter.polling.account import AccountPoller, history_progress
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.comparisons import ComparisonMaker, moved_by
from exporter.polling.forecasts import ForecastMaker, Topic
from exporter.polling.observations import Observer
from exporter.polling.poll_runner import Polled
from exporter.polling.scheduler import Reach, history_start, month_start
from exporter.publication import NO_OUTLOOK, Exposition, Publication
from exporter.samples import Pages
from exporter.tags import TAG

_DAYS = 14
_PRODUCTS = 6
_RANKED = 8
_MOVERS = 6
_LABELS = ("model", "app", "gpu_class", "api_key", "member")
_TAG_LABELS = 2
"""Labels before those of tags: account and model."""


class Breakdown:
    """Keeps the rankings until the month's figures change, as snapshots are made several times a second.

    Args:
        zone: whose days are told.
    """

    def __init__(self, zone: ZoneInfo) -> None:
        self._zone = zone
        self._month: Pages | None = None
        self._tagged: Pages = ()
        self._through: Mapping[str, datetime] = {}
        self._rankings: tuple[Ranking, ...] = ()

    def rankings(self, view: LedgerView) -> tuple[Ranking, ...]:
        """Return what has cost most in what is known of this month, by those labels that are published."""
        # Pages are immutable: the same ones hold the same figures.
        if (
            self._month is None
            or [*map(id, self._month)] != [*map(id, view.known_of_month)]
            or [*map(id, self._tagged)] != [*map(id, view.tags.month)]
            or self._through != view.tags.through
        ):
            self._month, self._tagged, self._through = view.known_of_month, view.tags.month, view.tags.through
            self._rankings = tuple(
                _ranking(label, view.labels.index(label), view.known_of_month)
                for label in _LABELS
                if label in view.labels
            ) + tuple(
                _ranking_by_tag(f"{TAG}{key}", _TAG_LABELS + place, view) for place, key in enumerate(view.tags.keys)
            )
        return self._rankings

    def daily(self, view: LedgerView, hours: HourlySpend[Topic] | None) -> DailySpend:
        """Return what the last days have cost by product.

        Args:
            view: the ledger's figures.
            hours: what the hours have cost; None before they have been read.
        """
        # The running hour's own start decides its day, as in every other figure of today.
        today = hour_of(view.at).astimezone(self._zone).date()
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
            told.append((OTHER, tuple(map(sum, zip(*(item for _, item in ranked[_PRODUCTS:]), strict=True)))))
        whole = [day for day, window in zip(days, windows, strict=True) if _is_read(view, window)]
        return DailySpend(tuple(days), tuple(told), *((whole[0], whole[-1]) if whole else (None, None)))


def _is_read(view: LedgerView, window: Window) -> bool:
    """Return whether every source of every account that has some has read all hours of a window that are over."""
    with_sources = {scope.account for scope in view.scopes}
    known = [windows["today"] for account, windows in view.coverage.items() if account in with_sources]
    over = min(window.end, hour_of(view.at))
    return bool(known) and all(
        of_account.known_from is not None
        and of_account.known_until is not None
        and of_account.known_from <= window.start
        and (of_account.known_until >= over if over > window.start else of_account.is_current)
        for of_account in known
    )


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


def _ranking_by_tag(label: str, place: int, view: LedgerView) -> Ranking:
    """Return the ranking of a tag beside what the whole month has cost, whichever accounts are read by tags."""
    ranking, tagged = _ranking(label, place, view.tags.month), view.tags
    total = sum(int(value) for page in view.known_of_month for _, value, _ in page.samples)
    through = min(tagged.through.values(), default=None)
    return replace(ranking, total=total, unread=total - ranking.total, through=through)


def _by_amount(named: tuple[str, Iterable[int]]) -> tuple[int, str]:
    return -sum(named[1]), named[0]


NO_TROUBLE = LedgerOverview()


def overview_of(
    view: LedgerView,
    accounts: Iterable[AccountPoller],
    reach: Reach,
    *,
    notes: tuple[str, ...],
    links: tuple[tuple[str, str], ...],
    daily: DailySpend | None = None,
    rankings: tuple[Ranking, ...] = (),
    comparison: MonthComparison = NO_COMPARISON,
    ledger: LedgerOverview = NO_TROUBLE,
    observations: Observations | None = None,
    requests: RecentRequests | None = None,
) -> Overview:
    """Gather what the landing page shows."""
    before = dict.fromkeys(comparison.accounts, 0)
    before |= _by_account(comparison.last_month, view.labels.index("account"))
    change = _by_account(comparison.changes, 0)
    return Overview(
        version=__version__,
        accounts=tuple(
            _account(account, view, reach, before.get(account.name), change.get(account.name, 0))
            for account in accounts
        ),
        time_zone=reach.zone.key,
        series=view.label_sets,
        charges=view.charges,
        notes=notes,
        links=links,
        daily=daily or DailySpend(),
        rankings=rankings,
        movers=_movers(comparison),
        causes=comparison.parts,
        moved=moved_by(comparison, view.labels),
        ledger=ledger,
        observations=observations or Observations(),
        requests=requests,
    )


def _by_account(pages: Pages, place: int) -> dict[str, int]:
    """Return the sums of accounts, whose name is the label at a place."""
    sums: dict[str, int] = {}
    for page in pages:
        for labels, amount, _ in page.samples:
            sums[labels[place]] = sums.get(labels[place], 0) + int(amount)
    return sums


def _movers(comparison: MonthComparison) -> tuple[Mover, ...]:
    """Return what has changed most, by the names of `exporter.forecasting.changes.Item`, and the largest cause."""
    causes: dict[tuple[str, ...], dict[str, int]] = {}
    for page in comparison.changes:
        for labels, amount, _ in page.samples:
            causes.setdefault(labels[:-1], {})[labels[-1]] = int(amount)
    movers = [
        Mover(
            account,
            product,
            next(filter(None, (model, app, gpu_class)), ""),
            sum(of.values()),
            max(of, key=lambda cause: abs(of[cause])),
        )
        for (account, product, model, app, gpu_class), of in causes.items()
        if CHANGES_OTHER not in {model, app, gpu_class}
    ]
    return tuple(sorted((mover for mover in movers if mover.change), key=lambda mover: -abs(mover.change))[:_MOVERS])


def billed_last_month(account: str, view: LedgerView) -> Billed | None:
    """Return the last month's invoices with their comparison; None where they do not bill all of it."""
    month = periods_at(view.at, ZoneInfo("UTC")).last_month
    part = billed_part((item for item in view.invoices if item.account == account and item.is_issued), month)
    if part is None or part.window != month:
        return None
    compared = next(
        (
            item
            for item in view.reconciliations
            if (item.account, item.against, item.month, item.through) == (account, INVOICE, month.start, month.end)
        ),
        None,
    )
    names = invoice_names(view.invoices)
    due = [item.due_at for item in part.invoices if item.due_at is not None]
    return Billed(
        ", ".join(names[account, item.id] for item in part.invoices),
        ", ".join(dict.fromkeys(item.status for item in part.invoices)),
        sum(item.total for item in part.invoices),
        min(due, default=None),
        None if compared is None else compared.difference,
    )


def _account(
    account: AccountPoller, view: LedgerView, reach: Reach, last_month_to_date: int | None, change: int
) -> AccountOverview:
    scopes = {scope.source: scope for scope in view.scopes if scope.account == account.name}
    balance = next((item for item in view.balances if item.account == account.name), None)
    totals = view.totals.get(account.name) if account.sources else None
    sources = [item for item in account.polled if item.name in account.sources]
    others = [item for item in account.polled if item.name not in account.sources and item.problem]
    reconciled = [reconciliation for reconciliation in view.reconciliations if reconciliation.account == account.name]
    # Where a user has named the sources, what they leave out is meant to be left out.
    urgent = account.offer() if account.is_automatic else ""
    return AccountOverview(
        name=account.name,
        sources=tuple(
            _source(polled, scopes.get(polled.name), reach, automatic=account.is_automatic) for polled in sources
        ),
        balance=balance.amount if balance else None,
        balance_at=balance.at if balance else None,
        pays_by_invoice=balance is not None and account.pays_by_invoice(balance.amount),
        locked=" ".join(lock.advice for lock in account.locks),
        credit_floor=account.credit_floor,
        current_hour=totals.current_hour if totals else None,
        last_hour=totals.last_hour if totals else None,
        today=totals.today if totals else None,
        month_to_date=totals.month_to_date if totals else None,
        last_month=totals.last_month if totals else None,
        last_month_to_date=last_month_to_date,
        month_compared=None if last_month_to_date is None else last_month_to_date + change,
        bill=billed_last_month(account.name, view),
        gaps=_gaps(account, view, list(scopes.values()), reach),
        problems=tuple(
            filter(
                None,
                (
                    account.problem,
                    *(f"{other.name}: {other.problem}" for other in others),
                    urgent,
                    *account.differences(),
                ),
            )
        ),
        remarks=tuple(remark for remark in account.remarks(reconciled) if remark != urgent),
        lacks=tuple(filter(None, (urgent, *account.gaps()))) if account.is_automatic else (),
    )


def _gaps(account: AccountPoller, view: LedgerView, scopes: Sequence[ScopeState], reach: Reach) -> dict[str, Gap]:
    if not account.sources:
        # An account whose usage cannot be read says so itself, and keeps no figure waiting.
        return {} if account.problem else dict.fromkeys(WINDOWS.values(), Gap("unread"))
    loaded = bool(scopes) and all(history_progress(scope, reach) >= 1 for scope in scopes)
    return {
        WINDOWS[period]: _gap(of_window, reach, loaded=loaded)
        for period, of_window in view.coverage.get(account.name, {}).items()
        if not of_window.is_whole
    }


def _gap(known: WindowCoverage, reach: Reach, *, loaded: bool) -> Gap:
    if known.known_from is None or known.known_until is None:
        return Gap("unread")
    start, end = known.known_from.astimezone(reach.zone), known.known_until.astimezone(reach.zone)
    if known.window.start >= known.known_from:
        return Gap("behind", known.ratio, start, end)
    return Gap("short" if loaded else "loading", known.ratio, start, end)


def _source(polled: Polled, scope: ScopeState | None, reach: Reach, *, automatic: bool) -> SourceOverview:
    return SourceOverview(
        name=polled.name,
        chosen="chosen by what the key can read" if automatic else "set by SOURCES",
        state=polled.state,
        last_success_at=scope.last_success_at if scope else None,
        data_through=scope.data_through if scope else None,
        settled_through=scope.settled_through if scope else None,
        history_progress=history_progress(scope, reach) if scope else None,
        problem=polled.problem,
    )


_log = structlog.get_logger(__name__)

_AT_LEAST_EVERY = timedelta(seconds=5)
"""Longest delay with which the turn of an hour, or the end of a hold, shows."""

_AT_MOST_EVERY = timedelta(milliseconds=250)
"""Time for which changes are gathered, so that a load of many pieces is not encoded piece by piece."""

_SHARE = 40
"""A publication is made at most one part in so many of the time: of many accounts, more changes are gathered."""


Made = TypeVar("Made")


class Part(Generic[Made]):
    """One part of a publication: its last value, and why there is no newer one.

    Args:
        name: a plural noun, label value of the metrics about it.
        health: counts failures and knows how old the value is.
        clock: the time.

    Attributes:
        value: the last; None if there never was one.
        note: a sentence for the landing page while the part fails; empty otherwise.
    """

    def __init__(self, name: str, health: Health, clock: Clock) -> None:
        self.note = ""
        self._name = name
        self._health = health
        self._clock = clock
        self.value: Made | None = None
        self._at: datetime | None = None
        self._problem = ""
        health.expect_part(name)

    def made(self, make: Callable[[], Made]) -> Made | None:
        """Make the part anew and return it; where that fails, its last value, or None if there never was one.

        Raises:
            LedgerInUseError: another process has become the ledger's collector.
        """
        try:
            self.value = make()
        except LedgerInUseError:
            # Another exporter has taken over: this one has nothing more to publish.
            raise
        except LedgerError as error:
            self._failed("the ledger's figures were not updated", str(error))
        except Exception as error:  # noqa: BLE001  whatever is wrong with one part, the others go on
            _log.debug("traceback of the failure", exc_info=error)
            self._failed("a part of the publication was not updated", f"{type(error).__name__}: {error}")
            since = "are missing" if self._at is None else f"are as of {self._at:%Y-%m-%d %H:%M} UTC"
            self.note = (
                f"The {self._name} {since}: updating them failed ({type(error).__name__}). Everything else on this "
                "page is current; report this with the exporter's log."
            )
        else:
            self._problem = self.note = ""
            self._at = self._clock()
            self._health.part_made(self._name, self._at)
        return self.value

    @property
    def is_current(self) -> bool:
        """True if the last attempt has succeeded."""
        return not self._problem

    def _failed(self, event: str, problem: str) -> None:
        self._health.part_failed(self._name)
        if problem != self._problem:
            _log.error(event, part=self._name, problem=problem)
        self._problem = problem


class Publisher:
    """Publishes the state of the collector, encoded in the ledger's thread.

    Args:
        emit: takes each publication; may wait, and is then the measure of how often there is one.
        outlooks: makes what is told of budgets, forecasts and runways.
        notes: sentences for the top of the landing page.
        links: further titles and addresses for its foot.
        requests: returns the single requests of the last day; None where none are read.
        openmetrics_created: whether OpenMetrics has `_created` lines.
        clock: the time.
    """

    def __init__(
        self,
        *,
        ledger: AsyncLedger,
        accounts: Sequence[AccountPoller],
        health: Health,
        reach: Reach,
        emit: Callable[[Publication], None],
        outlooks: ForecastMaker,
        notes: tuple[str, ...] = (),
        links: tuple[tuple[str, str], ...] = (),
        requests: Callable[[], RecentRequests | None] = lambda: None,
        openmetrics_created: bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self._ledger = ledger
        self._requests = requests
        self._accounts = accounts
        self._health = health
        self._reach = reach
        self._emit = emit
        self._outlooks = outlooks
        self._breakdown = Breakdown(reach.zone)
        self._comparisons = ComparisonMaker(clock)
        self._observer = Observer(health)
        self._notes = notes
        self._links = links
        self._named = NameSamples()
        self._encoder = Encoder(created=openmetrics_created)
        self.snapshot: Snapshot | None = None
        """The newest; None before the first."""
        self._figures = Part[LedgerView]("figures", health, clock)
        self._forecasts = Part[Outlook]("forecasts", health, clock)
        self._comparison = Part[MonthComparison]("comparisons", health, clock)
        self._daily = Part[DailySpend]("days", health, clock)
        self._rankings = Part[tuple[Ranking, ...]]("rankings", health, clock)
        self._landing = Part[Overview]("page", health, clock)
        self._exposition = Part[Exposition]("metrics", health, clock)
        self._parts = (
            self._figures,
            self._forecasts,
            self._comparison,
            self._daily,
            self._rankings,
            self._exposition,
        )
        self._changed = asyncio.Event()
        self._took = timedelta(0)

    def changed(self) -> None:
        """Have the next publication made soon."""
        self._changed.set()

    def write_protobuf(self) -> None:
        """Have the exposition encoded as protobuf, too, from the next publication on."""
        self._encoder.writes_protobuf = True
        self.changed()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self.publish()
            await asyncio.sleep(min(max(_AT_MOST_EVERY, _SHARE * self._took), _AT_LEAST_EVERY).total_seconds())
            # Not by wait_for: in Python 3.11 it goes on if it is cancelled just as what it waits for happens.
            with suppress(TimeoutError):
                async with asyncio.timeout(_AT_LEAST_EVERY.total_seconds()):
                    await self._changed.wait()

    async def publish(self) -> None:
        """Publish once.

        While the ledger is in trouble its last figures stay, with the instant they are of; the exporter's own health
        goes on, so that the trouble can be seen from outside.
        """
        self._changed.clear()
        publication = await self._ledger.run(self._publication)
        if self._outlooks.is_behind:
            self._changed.set()
        if publication is not None:
            await asyncio.to_thread(self._emit, publication)

    def _publication(self, ledger: Ledger) -> Publication | None:
        began = time.thread_time()
        try:
            return self._made(ledger)
        finally:
            self._took = timedelta(seconds=time.thread_time() - began)

    def _made(self, ledger: Ledger) -> Publication | None:
        view = self._figures.made(ledger.view)
        condition = self._condition(ledger)
        self._health.ledger_seen(up=self._figures.is_current and not condition.problem)
        if view is None:
            return None
        condition = replace(condition, born_at=view.born_at, revision=view.revision)
        if self._figures.is_current:
            self._forecasts.made(lambda: self._outlooks.make(ledger, view, self._accounts))
            self._comparison.made(lambda: self._comparisons.make(ledger, view))
        outlook, comparison = self._forecasts.value or NO_OUTLOOK, self._comparison.value or NO_COMPARISON
        progress = {(scope.account, scope.source): history_progress(scope, self._reach) for scope in view.scopes}
        exposition = self._exposition.made(
            lambda: self._encoded(snapshot_of(view, progress, outlook, comparison, make_names=self._named))
        )
        daily = self._daily.made(lambda: self._breakdown.daily(view, self._outlooks.hours))
        rankings = self._rankings.made(lambda: self._breakdown.rankings(view)) or ()
        notes = (*self._notes, *(part.note for part in self._parts if part.note))
        overview = self._landing.made(
            lambda: overview_of(
                view,
                self._accounts,
                self._reach,
                notes=notes,
                links=self._links,
                daily=daily,
                rankings=rankings,
                comparison=comparison,
                ledger=condition,
                observations=self._observer.observe(view, outlook),
                requests=self._requests(),
            )
        ) or Overview(__version__, notes=notes, ledger=condition)
        if exposition is None:
            return None
        return Publication(view.sequence, view.at, exposition, overview, self._is_ready(view), outlook)

    def _condition(self, ledger: Ledger) -> LedgerOverview:
        """Return the state of the ledger's database; a small write ends no full disk that a source's poll has met.

        On a disk that is all but full a balance still fits where the charges of a poll do not.
        """
        condition = LedgerOverview(*ledger.condition)
        if condition.problem:
            return condition
        polls = (polled for account in self._accounts for polled in account.polled if polled.name in account.sources)
        full = (polled.problem for polled in polls if polled.cause == "ledger" and DISK_FULL in polled.problem)
        return replace(condition, problem=next(full, ""))

    def _encoded(self, snapshot: Snapshot) -> Exposition:
        self.snapshot = replace(snapshot, tables=(*snapshot.tables, *self._health.tables()))
        return self._encoder.encode(self.snapshot, self._health.rendered())

    def _is_ready(self, view: LedgerView) -> bool:
        """Return whether the current month is loaded: of every source, or of some while the others cannot be read.

        Of an account whose key may not read usage the balance is all there is to load; of a month that began before
        the configured history, what the history holds.
        """
        month = month_start(view.at, self._reach.zone)
        loaded = {
            (scope.account, scope.source)
            for scope in view.scopes
            if scope.data_through is not None
            and scope.data_through >= month
            and scope.history_from is not None
            and scope.history_from <= max(month, history_start(scope.born_at, self._reach))
        }
        waiting = []
        for account in self._accounts:
            sources = [polled for polled in account.polled if polled.name in account.sources]
            waiting += [
                source
                for source in sources
                if (source.account, source.name) not in loaded and source.state != "failing"
            ]
            if not sources and account.problem and account.balance.state == "up":
                loaded.add((account.name, account.balance.name))
        return bool(loaded) and not waiting
