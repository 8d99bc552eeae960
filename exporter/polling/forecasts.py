"""Forecast maker: hourly spend kept as the ledger has it, and the forecasts made from it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from exporter.calendar import periods_at
from exporter.charges import HOUR, Balance, Dimensions, Window, hour_of
from exporter.forecasting.budgets import BURN_WINDOWS, Budget
from exporter.forecasting.forecast import BalanceFall, HourlySpend, burn_of_usage, forecast, path_of, runway
from exporter.forecasting.rhythm import DAY, LONGEST, Rhythm, calibrated, learn
from exporter.forecasting.state import AccountOutlook, BudgetOutlook, ExpectedSpend, Forecast, Outlook, Path
from exporter.ledger import KeyLabels, Ledger, LedgerView, Rules, ScopeState, labelled
from exporter.ledger.accounting.tags import READ_AFTER
from exporter.polling.account import AccountPoller, history_progress
from exporter.polling.scheduler import Reach

_GRACE = Rules().poll_grace
_HOURS_AT_ONCE = 168
"""Hours read for one publication: catching up with a large ledger never holds the others up for long."""


class Topic(NamedTuple):
    """Subject of a sum: an account, one of its products, or a budget."""

    kind: str
    name: str
    product: str = ""


class Spending:
    """The hours that are learnt from, the last one and the running one.

    Args:
        budgets: as configured.
        by_product: whether forecasts are made by product.
    """

    def __init__(self, budgets: Sequence[Budget], *, by_product: bool) -> None:
        self._budgets = budgets
        self._by_product = by_product
        self._revision: int | None = None
        self._hours: HourlySpend[Topic] | None = None
        self._unread: set[datetime] = set()
        self._topics: dict[int, tuple[Topic, ...]] = {}
        self._key_labels: KeyLabels = {}

    @property
    def is_behind(self) -> bool:
        """True while there are hours still to be read that may have changed."""
        return bool(self._unread)

    @property
    def hours(self) -> HourlySpend[Topic] | None:
        """Hourly spend read so far; None before the first time."""
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
        labels = ledger.names.key_labels()
        if labels is not self._key_labels:
            # What a budget is about may be told by the labels of keys.
            self._key_labels = labels
            self._topics.clear()
            self._revision = None
        touched = None if self._revision is None else ledger.touched_since(self._revision)
        if touched is None:
            # A ledger that has lost its newest writes gives the numbers of its newest series anew.
            self._topics.clear()
        for span in (window,) if touched is None else touched:
            self._unread.update(span.hours())
        self._revision = ledger.revision
        self._unread = {item for item in self._unread if item in window}
        for span in _runs(sorted(self._unread)[-_HOURS_AT_ONCE:]):
            self._read(ledger, span, hours)
            self._unread.difference_update(span.hours())
        return hours

    def _read(self, ledger: Ledger, window: Window, hours: HourlySpend[Topic]) -> None:
        dimensions = ledger.dimensions()
        tagged = self._tagged(ledger, window)
        for hour, costs in ledger.hourly(window).items():
            spend: dict[Topic, int] = dict(tagged.get(hour, {}))
            for series, cost in costs.items():
                topics = self._topics.get(series)
                if topics is None:
                    of = dimensions[series]
                    topics = self._topics[series] = (
                        Topic("account", of.account),
                        Topic("product", of.account, of.product if self._by_product else ""),
                        *(Topic("budget", budget.name) for budget in self._budgets if self._is_about(budget, of)),
                    )
                for topic in topics:
                    spend[topic] = spend.get(topic, 0) + cost
            hours.set_hour(hour, spend)

    def _tagged(self, ledger: Ledger, window: Window) -> dict[datetime, dict[Topic, int]]:
        """Return what every hour cost of the budgets that are about tags."""
        budgets = [budget for budget in self._budgets if budget.has_tags]
        if not budgets:
            return {}
        found: dict[datetime, dict[Topic, int]] = {}
        keys = ledger.tags.keys
        for hour, costs in ledger.tags.hourly(window).items():
            spend = found.setdefault(hour, {})
            for (account, model, values), cost in costs.items():
                tags = dict(zip(keys, values, strict=True))
                for budget in budgets:
                    if budget.is_about_tagged(account, model, tags):
                        topic = Topic("budget", budget.name)
                        spend[topic] = spend.get(topic, 0) + cost
        return found

    def _is_about(self, budget: Budget, dimensions: Dimensions) -> bool:
        """Tell whether a budget means a charge: a key may be named by its label or by its id."""
        return budget.is_about(dimensions) or budget.is_about(labelled(dimensions, self._key_labels))


def _runs(hours: Sequence[datetime]) -> Iterator[Window]:
    """Yield runs of consecutive hours, a day at most."""
    start = 0
    for place in range(1, len(hours) + 1):
        if place == len(hours) or hours[place] - hours[place - 1] != HOUR or place - start == DAY:
            yield Window(hours[start], hours[place - 1] + HOUR)
            start = place


def _with_balances(outlook: Outlook, view: LedgerView, accounts: Iterable[AccountPoller]) -> Outlook:
    """Return an outlook with the balances and locks of now: they are not learnt from hours, and wait for none."""
    balances = {balance.account: balance for balance in view.balances}
    locks = {account.name: account.locks for account in accounts}
    return replace(
        outlook,
        accounts=tuple(
            replace(
                account,
                balance=balances[account.account].amount if account.account in balances else account.balance,
                balance_at=balances[account.account].at if account.account in balances else account.balance_at,
                locks=locks.get(account.account, account.locks),
            )
            for account in outlook.accounts
        ),
    )


_LEAST_DAYS = 7
"""Of history, before an hour can be called unusual: a Monday is not, after a weekend."""

_TAGS_LATE = (READ_AFTER + 4) * HOUR
"""Age from which on hours count as not read by tags: fal tells them late, and a poll or two may fail."""

_USAGE_IS_OLD = 6 * HOUR
"""Usage that ends so long ago says less of the burn than the balance."""


class Known(NamedTuple):
    """The hours that are known as a whole.

    Attributes:
        whole: whether all of the history that is to be loaded is among them.
        is_current: whether every source was read a short while ago, with all that there is to read of the hours before.
    """

    start: datetime
    end: datetime
    whole: bool
    is_current: bool


class FittedRhythm(NamedTuple):
    """A rhythm, and what it was learnt from."""

    edge: datetime
    start: datetime
    version: int
    rhythm: Rhythm | None


class ForecastMaker:
    """Makes one outlook after another, in the ledger's thread.

    What is learnt from the past is kept until the hour turns or fal changes the past.

    Args:
        budgets: as configured.
        reach: how much history is loaded, and whose months the accounts' forecasts are for.
        by_product: whether what is published tells products apart.
        grace: how long a poll that read the current hour stands for that hour, as of `Rules.poll_grace`.
    """

    def __init__(
        self,
        *,
        budgets: Sequence[Budget],
        reach: Reach,
        by_product: bool,
        grace: timedelta = _GRACE,
    ) -> None:
        self._budgets = budgets
        self._reach = reach
        self._grace = grace
        self._tags_read: dict[str, tuple[object, datetime | None]] = {}
        self._hourly_spend = Spending(budgets, by_product=by_product)
        self._latest: Outlook | None = None
        self._lessons: dict[Topic, FittedRhythm] = {}
        self._falls: dict[str, BalanceFall] = {}

    @property
    def is_behind(self) -> bool:
        """True while hours of the ledger are still to be read: another outlook should be made soon."""
        return self._hourly_spend.is_behind

    @property
    def hours(self) -> HourlySpend[Topic] | None:
        """Hourly spend as far as read; None before the first outlook."""
        return self._hourly_spend.hours

    def make(self, ledger: Ledger, view: LedgerView, accounts: Sequence[AccountPoller]) -> Outlook:
        """Return the outlook at the view's instant.

        Raises:
            LedgerError: the ledger cannot be read.
        """
        now = view.at
        hours = self._hourly_spend.catch_up(ledger, now)
        if self.is_behind and self._latest is not None:
            self._latest = _with_balances(self._latest, view, accounts)
            return self._latest
        known = (
            {}
            if self.is_behind
            else {account.name: self._known(account, view.scopes, hours.window, now) for account in accounts}
        )
        self._latest = Outlook(
            accounts=tuple(
                self._account(ledger, view, account, hours, known.get(account.name)) for account in accounts
            ),
            budgets=tuple(
                self._budget(
                    budget,
                    now,
                    hours,
                    self._by_tags(ledger, budget, now, accounts, self._known_of(budget, accounts, known)),
                )
                for budget in self._budgets
            ),
            expected=tuple(self._expected(now, hours, known)),
        )
        return self._latest

    def _account(
        self,
        ledger: Ledger,
        view: LedgerView,
        account: AccountPoller,
        hours: HourlySpend[Topic],
        known: Known | None,
    ) -> AccountOutlook:
        topic = Topic("account", account.name)
        month = periods_at(view.at, self._reach.zone).month
        balance = next((item for item in view.balances if item.account == account.name), None)
        left = None
        if balance is not None and not account.pays_by_invoice(balance.amount):
            fall = self._fall(ledger, balance)
            burn = None
            if known is not None and known.whole and known.end >= view.at - _USAGE_IS_OLD:
                burn = self._burn(topic, view.at, hours, known)
            if burn is None and not self.is_behind:
                burn = fall.burn
            left = runway(balance.amount - account.credit_floor, burn)
        is_loaded = known is not None and known.start <= month.start
        return AccountOutlook(
            account=account.name,
            month=month,
            balance=balance.amount if balance else None,
            balance_at=balance.at if balance else None,
            runway=left,
            locks=account.locks,
            spend=hours.total(topic, month) if is_loaded else None,
            forecast=self._forecast(topic, month, view.at, hours, known) if is_loaded else None,
            credit_floor=account.credit_floor,
            path=self._path(topic, view.at, hours, known) if is_loaded else None,
        )

    def _fall(self, ledger: Ledger, balance: Balance) -> BalanceFall:
        fall = self._falls.get(balance.account)
        if fall is None:
            fall = self._falls[balance.account] = BalanceFall()
            for item in ledger.balance_history(balance.account, balance.at - DAY * HOUR):
                fall.note(item)
        fall.note(balance)
        return fall

    def _budget(self, budget: Budget, now: datetime, hours: HourlySpend[Topic], known: Known | None) -> BudgetOutlook:
        topic = Topic("budget", budget.name)
        window = budget.window(now)
        is_loaded = known is not None and known.start <= window.start
        hour = hour_of(now)
        spans = {name: Window(hour - count * HOUR, hour + HOUR) for name, count in BURN_WINDOWS.items()}
        return BudgetOutlook(
            budget=budget.name,
            period=budget.period,
            window=window,
            limit=budget.limit,
            match=budget.match,
            thresholds=budget.thresholds,
            spend=hours.total(topic, window) if is_loaded else None,
            forecast=self._forecast(topic, window, now, hours, known) if is_loaded else None,
            burn={
                name: budget.burn(hours.total(topic, span), BURN_WINDOWS[name], now)
                for name, span in spans.items()
                if known is not None
                and known.start <= span.start
                and known.is_current
                # fal tells tags some hours late: what is spent in a few hours is mostly not tagged yet.
                and (not budget.has_tags or BURN_WINDOWS[name] >= DAY)
            },
        )

    def _by_tags(
        self, ledger: Ledger, budget: Budget, now: datetime, accounts: Sequence[AccountPoller], known: Known | None
    ) -> Known | None:
        """Return what is known of a budget by tags, too: hours that have been read by them, up to the newest.

        Accounts whose spend fal does not report by tags have none, and are not waited for.
        """
        if known is None or not budget.has_tags:
            return known
        names = budget.accounts_of([item.name for item in accounts if item.tags is not None and not item.tags.remark()])
        starts = [self._tagged_from(ledger, name, now) for name in names]
        told = [start for start in starts if start is not None]
        if not told or len(told) < len(starts):
            return None
        return known._replace(start=max(known.start, *told))

    def _tagged_from(self, ledger: Ledger, account: str, now: datetime) -> datetime | None:
        """Return the first hour from which on an account has been read by tags; None where it is not of late."""
        start, hour = hour_of(now) - LONGEST * HOUR, hour_of(now)
        state = (ledger.revision, hour)
        kept = self._tags_read.get(account)
        if kept is None or kept[0] != state:
            read = ledger.tags.read_through(account, Window(start, hour))
            first = hour - _TAGS_LATE
            while first > start and first - HOUR in read:
                first -= HOUR
            kept = self._tags_read[account] = (state, first if first < hour - _TAGS_LATE else None)
        return kept[1]

    def _expected(
        self, now: datetime, hours: HourlySpend[Topic], known: dict[str, Known | None]
    ) -> Iterator[ExpectedSpend]:
        last_hour = hour_of(now) - HOUR
        for topic in sorted(hour for hour in hours if hour.kind == "product"):
            of_account = known.get(topic.name)
            if of_account is None or not of_account.whole:
                continue
            edge, rhythm = self._learnt(topic, now, hours, of_account)
            if rhythm is None or rhythm.days < _LEAST_DAYS:
                continue
            place = (last_hour - edge) // HOUR
            yield ExpectedSpend(
                topic.name,
                topic.product,
                round(rhythm.expected(place, place + 1)),
                round(rhythm.high(place)),
                round(rhythm.expected(place + 1, place + 2)),
                round(rhythm.high(place + 1)),
            )

    def _forecast(
        self, topic: Topic, period: Window, now: datetime, hours: HourlySpend[Topic], known: Known | None
    ) -> Forecast | None:
        if known is None or not known.whole:
            return None
        edge, rhythm = self._learnt(topic, now, hours, known)
        if rhythm is None:
            return None
        return forecast(
            rhythm,
            edge=edge,
            known_until=known.end,
            now=now,
            period=period,
            spent=lambda window: hours.total(topic, window),
        )

    def _path(self, topic: Topic, now: datetime, hours: HourlySpend[Topic], known: Known | None) -> Path | None:
        if known is None or not known.whole:
            return None
        edge, rhythm = self._learnt(topic, now, hours, known)
        return None if rhythm is None else path_of(rhythm, edge, now)

    def _burn(self, topic: Topic, now: datetime, hours: HourlySpend[Topic], known: Known) -> float | None:
        edge, rhythm = self._learnt(topic, now, hours, known)
        if rhythm is None:
            return None
        hour = hour_of(now)
        unusual = 0
        if rhythm.days >= _LEAST_DAYS:
            for start in (hour - HOUR, hour):
                spend = hours.total(topic, Window(start, start + HOUR))
                unusual = max(unusual, spend if spend > rhythm.high((start - edge) // HOUR) else 0)
        span = slice(
            (max(known.start, hours.window.start) - hours.window.start) // HOUR,
            (min(known.end, hour) - hours.window.start) // HOUR,
        )
        return burn_of_usage(hours.of(topic)[span], rhythm.cap, unusual)

    def _learnt(
        self, topic: Topic, now: datetime, hours: HourlySpend[Topic], known: Known
    ) -> tuple[datetime, Rhythm | None]:
        """Return what the hours before the last one teach, so that the last and the running one can be judged by it."""
        edge = min(hour_of(now) - HOUR, known.end)
        start = max(hours.window.start, known.start)
        version = hours.versions.get(topic, 0)
        lesson = self._lessons.get(topic)
        if lesson is None or lesson[:3] != (edge, start, version):
            first, end = (start - hours.window.start) // HOUR, (edge - hours.window.start) // HOUR
            origin = topic if topic.kind == "budget" else Topic("account", topic.name)
            # An account's life begins with its first charge: the empty hours before teach nothing.
            spent = (place for place, item in enumerate(hours.of(origin)[:end]) if item and place >= first)
            past = hours.of(topic)[next(spent, end) : end]
            rhythm = learn(past, edge)
            if rhythm is not None and topic.kind != "product":
                # Of products only the usual hours are published, which have no band.
                rhythm = calibrated(rhythm, past, edge)
            lesson = self._lessons[topic] = FittedRhythm(edge, start, version, rhythm)
        return edge, lesson.rhythm

    def _known(
        self, account: AccountPoller, scopes: Iterable[ScopeState], window: Window, now: datetime
    ) -> Known | None:
        """Return the hours that every source of an account has covered.

        A source that fails and has never been read does not keep the others from being told of.
        """
        states = {polled.name: polled.state for polled in account.polled}
        needed = [
            scope
            for scope in scopes
            if scope.account == account.name
            and (scope.history_from is not None or states.get(scope.source) != "failing")
        ]
        starts = [item.history_from for item in needed if item.history_from is not None]
        ends = [item.data_through for item in needed if item.data_through is not None]
        if not needed or len(starts) < len(needed) or len(ends) < len(needed):
            return None
        start = max(starts)
        loaded = all(history_progress(item, self._reach) >= 1 for item in needed)
        is_current = all(
            item.running_hour_read_at is not None
            and now - item.running_hour_read_at <= self._grace
            and item.data_through is not None
            and hour_of(item.running_hour_read_at) <= item.data_through
            for item in needed
        )
        return Known(start, min(ends), loaded or start <= window.start, is_current)

    def _known_of(
        self, budget: Budget, accounts: Sequence[AccountPoller], known: dict[str, Known | None]
    ) -> Known | None:
        """Return the hours that are known of all accounts a budget is about, but for those whose usage is not had."""
        names = budget.accounts_of([account.name for account in accounts if account.sources or not account.problem])
        spans = [known.get(name) for name in names]
        told = [span for span in spans if span is not None]
        if not told or len(told) < len(spans):
            return None
        return Known(
            max(item.start for item in told),
            min(item.end for item in told),
            all(item.whole for item in told),
            all(item.is_current for item in told),
        )
