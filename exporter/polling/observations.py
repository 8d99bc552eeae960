"""Observations: the recent events that the shipped alerts are about, for whoever shows alerts without Prometheus.

Thresholds are not applied here, only the spans of time that belong to an event. Most of it is in the ledger; what
Prometheus works out from growth of a counter is remembered here for as long as the alert looks back.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Literal
from zoneinfo import ZoneInfo

from exporter.calendar import periods_at
from exporter.charges import HOUR, INVOICE
from exporter.forecasting.state import Outlook
from exporter.ledger import LedgerView
from exporter.ledger.accounting.invoices import invoice_names
from exporter.metrics.health import Health
from exporter.metrics.machines import budget_ceilings
from exporter.overview import (
    BillDifference,
    BurnCeiling,
    DiscountChange,
    IdleApp,
    IdleMonth,
    KeyOverview,
    NewName,
    Observations,
    OpenInvoice,
    PriceChange,
    Restated,
    UnusualHour,
)
from exporter.samples import Page, Pages

_DAY = timedelta(days=1)
_RESTATED_SPAN, _STEPS_SPAN = HOUR, timedelta(minutes=30)
_WHOLE_DISCOUNT = 100 * 10**9
"""Of the ledger's tables of discounts: nano-percent."""

_DIRECTIONS: tuple[Literal["up", "down"], ...] = ("up", "down")

_Labels = tuple[str, ...]


class Growth:
    """Growth of a number over the last span of time, as far as it has been watched.

    Args:
        span: how far to look back.
    """

    def __init__(self, span: timedelta) -> None:
        self._span = span
        self._seen: deque[tuple[datetime, int]] = deque()

    def noted(self, at: datetime, value: int) -> int:
        """Note the number at an instant, and return by how much it has grown."""
        seen = self._seen
        if not seen or seen[-1][1] != value:
            seen.append((at, value))
        # The newest number that is older than the span is what the span began with.
        while len(seen) > 1 and seen[1][0] <= at - self._span:
            seen.popleft()
        return max(0, value - seen[0][1])


class Observer:
    """Makes the observations of one publication after another, in the ledger's thread.

    Args:
        health: knows the clock, and the budgets that accounts have set at fal.
    """

    def __init__(self, health: Health) -> None:
        self._health = health
        self._restated: dict[tuple[str, str, str], Growth] = {}
        self._steps = Growth(_STEPS_SPAN)
        self._folded = Growth(_DAY)
        self._hours = {hour: _OncePerPages() for hour in ("last_hour", "current_hour")}
        self._costs = _OncePerPages()

    def observe(self, view: LedgerView, outlook: Outlook) -> Observations:
        """Return the observations at the view's instant."""
        now = view.at
        health = self._health
        names = invoice_names(view.invoices)
        return Observations(
            unusual_hours=tuple(self._unusual_hours(view, outlook)),
            new_names=tuple(self._new_names(view)),
            prices=tuple(
                PriceChange(labels[0], _name(labels), labels[-1], int(present), int(previous))
                for labels, present, previous in _changed(
                    view.unit_prices, view.previous_prices, view.price_changes, now
                )
            ),
            discounts=tuple(
                DiscountChange(
                    labels[0], _name(labels), labels[-1], present / _WHOLE_DISCOUNT, previous / _WHOLE_DISCOUNT
                )
                for labels, present, previous in _changed(
                    view.discounts, view.previous_discounts, view.discount_changes, now
                )
            ),
            restated=tuple(self._restatements(view)),
            keys=tuple(_keys(view)),
            open_invoices=tuple(
                OpenInvoice(invoice.account, names[invoice.account, invoice.id], invoice.total, invoice.due_at)
                for invoice in view.invoices
                if invoice.is_to_be_paid and invoice.total > 0 and invoice.due_at is not None
            ),
            bills=tuple(_bills(view)),
            provider_budgets=dict(health.hard_budgets),
            clock_ahead=health.clock_ahead,
            clock_steps=self._steps.noted(now, health.clock_steps),
            folded_series=self._folded.noted(now, view.overflowed_series),
            idle_apps=tuple(_idle_apps(view, "last_day")),
            burn_ceilings=tuple(_burn_ceilings(view, outlook)),
            idle_month=_idle_month(view),
            focus_push_problems=dict(health.focus_push_problems),
            bookings=health.bookings,
            remote_write_problem=health.remote_write_problem,
        )

    def _unusual_hours(self, view: LedgerView, outlook: Outlook) -> Iterator[UnusualHour]:
        """Yield the hours above what is usual: of each product the one that is further above."""
        labels = [view.labels.index(name) for name in ("account", "product") if name in view.labels]
        costs = {
            hour: made.of(pages, lambda pages: _sums(pages, labels))
            for (hour, made), pages in zip(self._hours.items(), (view.last_hour, view.current_hour), strict=True)
        }
        for expected in outlook.expected:
            key = (expected.account, expected.product)[: len(labels)]
            hours = (
                (costs["last_hour"].get(key, 0), expected.last_hour_high),
                (costs["current_hour"].get(key, 0), expected.current_hour_high),
            )
            cost, usual = max(hours, key=lambda hour: hour[0] - hour[1])
            if cost > usual:
                yield UnusualHour(expected.account, expected.product, cost, usual)

    def _new_names(self, view: LedgerView) -> Iterator[NewName]:
        names = ("account", "product", "model", "app")
        if not set(names) <= set(view.labels):
            return
        since = (view.at - _DAY).timestamp()
        new = {
            labels: seen for labels, seen, _ in chain.from_iterable(p.samples for p in view.first_seen) if seen > since
        }
        if not new:
            return
        places = [view.labels.index(name) for name in names]
        costs = self._costs.of(view.last_day, lambda pages: _sums(pages, places))
        for labels, seen in sorted(new.items()):
            account, product, model, app = labels
            first = datetime.fromtimestamp(seen, view.at.tzinfo)
            yield NewName(account, model or app or product, costs.get(labels, 0), first)

    def _restatements(self, view: LedgerView) -> Iterator[Restated]:
        sums: dict[tuple[str, Literal["up", "down"]], int] = {}
        for scope in view.scopes:
            for direction in _DIRECTIONS:
                growth = self._restated.setdefault((scope.account, scope.source, direction), Growth(_RESTATED_SPAN))
                amount = growth.noted(view.at, scope.restated_up if direction == "up" else scope.restated_down)
                sums[scope.account, direction] = sums.get((scope.account, direction), 0) + amount
        for (account, direction), amount in sums.items():
            if amount:
                yield Restated(account, direction, amount)


class _OncePerPages:
    """Sums that are kept while the pages they were made of are the same: pages are immutable."""

    def __init__(self) -> None:
        self._pages: tuple[Page, ...] | None = None
        self._made: dict[_Labels, int] = {}

    def of(self, pages: Pages, make: Callable[[Pages], dict[_Labels, int]]) -> dict[_Labels, int]:
        if self._pages is None or [*map(id, self._pages)] != [*map(id, pages)]:
            self._pages, self._made = pages, make(pages)
        return self._made


def _sums(pages: Pages, places: Sequence[int]) -> dict[_Labels, int]:
    sums: dict[_Labels, int] = {}
    for page in pages:
        for labels, value, _ in page.samples:
            key = tuple(labels[place] for place in places)
            sums[key] = sums.get(key, 0) + int(value)
    return sums


def _changed(
    present: Pages, previous: Pages, changes: Pages, now: datetime
) -> Iterator[tuple[_Labels, int | float, int | float]]:
    """Yield labels, present and previous value of what has changed within the last day."""
    since = (now - _DAY).timestamp()
    recent = {labels for page in changes for labels, at, _ in page.samples if at > since}
    if not recent:
        return
    before, after = (
        {labels: value for page in pages for labels, value, _ in page.samples if labels in recent}
        for pages in (previous, present)
    )
    for labels in sorted(recent & before.keys() & after.keys()):
        yield labels, after[labels], before[labels]


def _name(labels: _Labels) -> str:
    """Return the most telling label of account, product, model, app, gpu_class and unit."""
    _, product, model, app, *_ = labels
    return model or app or product


def _keys(view: LedgerView) -> Iterator[KeyOverview]:
    for record in view.keys:
        told_from = view.keys_told_from.get(record.key.account)
        if record.is_listed:
            unused = None if told_from is None else record.unused_since(told_from)
            yield KeyOverview(record.key.account, record.label, record.key.created_at, unused)


def _bills(view: LedgerView) -> Iterator[BillDifference]:
    """Yield how the last month differs from FOCUS reports; the overview has the invoice itself."""
    month = periods_at(view.at, ZoneInfo("UTC")).last_month.start
    for item in view.reconciliations:
        if item.month == month and item.against != INVOICE:
            yield BillDifference(item.account, item.against, item.difference)


_MOST_IDLE = 5
"""Apps that are shown of a month."""


def _idle_apps(view: LedgerView, period: str) -> Iterator[IdleApp]:
    """Yield the apps with idle runners in a period, all machines of an app together."""
    costs: dict[tuple[str, str, str], list[int]] = {}
    for page in view.machines.spend_of.get(period, ()):
        for (account, app, environment, _, state), amount, _ in page.samples:
            sums = costs.setdefault((account, app, environment), [0, 0])
            sums[0] += int(amount) if state == "idle" else 0
            sums[1] += int(amount)
    settings = {(item.account, item.app, item.environment): item for item in view.machines.settings}
    lower = {(item.account, item.app, item.environment): item for item in view.machines.what_ifs}
    for key, (idle, cost) in sorted(costs.items()):
        its = settings.get(key)
        if idle > 0:
            known = (None, None) if its is None else (its.min_concurrency, its.keep_alive)
            yield IdleApp(*key, idle, cost, *known, lower.get(key), key in view.machines.tried)


def _idle_month(view: LedgerView) -> IdleMonth | None:
    samples = [sample for page in view.machines.spend_of.get("month", ()) for sample in page.samples]
    cost = sum(int(sample.value) for sample in samples)
    idle = sum(int(sample.value) for sample in samples if sample.labels[-1] == "idle")
    unknown = sum(int(sample.value) for sample in samples if sample.labels[-1] == "unknown")
    apps = sorted(_idle_apps(view, "month"), key=lambda app: (-app.idle, app.account, app.app, app.environment))
    return IdleMonth(idle, cost, tuple(apps[:_MOST_IDLE]), unknown) if cost > 0 else None


def _burn_ceilings(view: LedgerView, outlook: Outlook) -> Iterator[BurnCeiling]:
    ceilings = budget_ceilings(view.machines.ceilings, outlook.budgets)
    for budget in outlook.budgets:
        if budget.budget in ceilings and budget.spend is not None:
            yield BurnCeiling(budget.budget, ceilings[budget.budget], budget.limit - budget.spend)
