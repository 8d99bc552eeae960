"""The door of the ledger room: everything that is written or asked goes through `Ledger`."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from exporter.calendar import Periods, periods_at
from exporter.charges import (
    Balance,
    Bill,
    Charge,
    Clock,
    Dimensions,
    Invoice,
    RejectedRow,
    UnitPrice,
    Window,
    first_hour_from,
    hour_number,
    hour_of,
    hour_start,
)
from exporter.ledger.accounting.counters import Holds, Labels, Rules, released
from exporter.ledger.accounting.coverage import (
    PublishedPages,
    Scope,
    ScopeState,
    booked,
    clamped,
    coverage,
    reached,
    settled,
    state_of,
)
from exporter.ledger.accounting.effects import Effects, effects_of
from exporter.ledger.accounting.invoices import withdrawn
from exporter.ledger.accounting.reconciliation import Reconciliation, reconciliation
from exporter.ledger.accounting.restatement import (
    RejectedRows,
    Restatement,
)
from exporter.ledger.accounting.totals import LedgerView, SeriesSpend, Spent
from exporter.ledger.collector_lock import CollectorLock
from exporter.ledger.contents import Contents
from exporter.ledger.heights import Heights
from exporter.ledger.loss import LedgerCondition
from exporter.ledger.machine_ledger import MachineLedger
from exporter.ledger.name_ledger import NameLedger
from exporter.ledger.remote_ledger import RemoteLedger
from exporter.ledger.session import Session
from exporter.ledger.tables import hours, machines, rows, schema, tags
from exporter.ledger.tables import prices as price_rows
from exporter.ledger.tables.hours import HourlyCosts, TouchedHours, read_hourly
from exporter.ledger.tables.rejected import (
    first_rejected,
    forget_rejected,
    guarded,
    read_rejected,
    write_rejected,
)
from exporter.ledger.tables.rows import write_reconciliation
from exporter.ledger.tag_ledger import TagLedger
from exporter.samples import Pages

__all__ = ["Ledger", "Restatement", "Rules"]


class Ledger:
    """The ledger, open. Not for use from several threads at once.

    Args:
        lock: the right to be the ledger's collector, released when the ledger is closed; without it others may write.
        first_number: the number of the first view is the next; scrapes that report a lower one are of another's views.
        heights: what this process has shown of the ledger before, which another collector has written meanwhile.

    Attributes:
        names: the same door for what concerns keys and teams.
        machines: the same for runners.
        tags: the same for spend by tags.
        remote: the same for remote write.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(
        self,
        address: str,
        *,
        rules: Rules,
        clock: Clock,
        lock: CollectorLock | None = None,
        first_number: int = 0,
        heights: Heights | None = None,
    ) -> None:
        self._rules = rules
        self._labels = Labels(rules.labels)
        self._clock = clock
        self._scraped_at = clock()
        self._holds = Holds(rules.birth_hold)
        self._accounts: Mapping[str, Collection[str]] = {}
        self._sequence = first_number
        account_at = self._labels.names.index("account")
        self._published: defaultdict[str, PublishedPages] = defaultdict(lambda: PublishedPages(account_at))
        self.machines = MachineLedger(lambda: self._session, clock=clock, hold=rules.birth_hold)
        self.tags = TagLedger(lambda: self._session, clock=clock, hold=rules.birth_hold, max_series=rules.max_series)
        self.names = NameLedger(lambda: self._session, labels=self._labels, clock=clock, holds=self._holds)
        self.remote = RemoteLedger(lambda: self._session, labels=self._labels, clock=clock)
        self._session = Session(
            address,
            labels=self._labels,
            max_series=rules.max_series,
            clock=clock,
            on_loaded=self._take_up,
            lock=lock,
            heights=heights,
        )
        if rules.tags is not None:
            self.tags.settle(rules.tags)

    @property
    def relabelled(self) -> bool:
        """True if other labels were found at opening, so that all counters have started at 0 again."""
        return self._session.relabelled

    @property
    def fail_overs(self) -> int:
        """Number of times that the ledger's server has lost its newest writes."""
        return self._session.fail_overs

    @property
    def condition(self) -> LedgerCondition:
        """The state of the database."""
        return self._session.condition

    def close(self) -> None:
        """Let go of the database; a SQLite ledger is one whole file afterwards."""
        self._session.close()

    def in_one_transaction(self) -> AbstractContextManager[Connection]:
        """Make all that is done with the ledger in a block one transaction, for a command that changes it."""
        return self._session.in_one_transaction()

    def activate(self, accounts: Mapping[str, Collection[str]]) -> None:
        """Take up the sources of every configured account and publish these accounts and no others.

        A source that is new, or that comes back to an account after other sources had taken its place, starts with all
        it will read of earlier hours as history; where it takes the place of others, it counts from the first hour
        that they have not covered. An account that comes back as it was goes on where it was.
        """
        now = self._clock()
        with self._session.writing() as (connection, contents):
            counted = {number for number, scope in contents.scopes.items() if scope.active}
            for account, sources in accounts.items():
                known = {scope.source: scope for scope in contents.scopes.values() if scope.account == account}
                replaced = [scope for source, scope in known.items() if scope.active and source not in sources]
                unseen = rows.first_unseen(connection, [scope.id for scope in replaced])
                counts_from = now if unseen is None else min(now, hour_start(unseen))
                for scope in replaced:
                    contents.scopes[scope.id] = replace(scope, active=False)
                    rows.write_scope(connection, contents.scopes[scope.id])
                for source in sources:
                    scope = known.get(source) or rows.add_scope(connection, account, source, now, counts_from)
                    if not scope.active:
                        rows.forget_observed(connection, scope.id)
                        forget_rejected(connection, [scope.id])
                        # How much the source reports is found out anew: the account may have lost or won something.
                        scope = replace(scope.reborn(counts_from), detail="", detail_asked_at=None, detail_version="")
                        rows.write_scope(connection, scope)
                    contents.scopes[scope.id] = scope
            configured = json.dumps([*accounts], ensure_ascii=False)
            if contents.accounts != configured:
                # Readers count these accounts and no others, as the gauges do.
                schema.write(connection, schema.ACCOUNTS, configured)
            is_counted = {number for number, scope in contents.scopes.items() if scope.active}
            if counted != is_counted or contents.accounts != configured:
                schema.write(connection, schema.CHARGES_REVISION, str(contents.revision))
            contents.accounts = configured
            contents.activate(accounts)
            contents.touched = TouchedHours(contents.revision)
            contents.sum_periods(connection, periods_at(now, self._rules.zone), everything=True)
        self._accounts = {account: tuple(sources) for account, sources in accounts.items()}

    def restate(
        self,
        account: str,
        source: str,
        window: Window,
        charges: Iterable[Charge],
        *,
        at: datetime,
        rejected: Iterable[RejectedRow] = (),
    ) -> Restatement:
        """Replace all charges of a source in a window, in one transaction.

        Args:
            account: a configured account.
            source: one of its activated sources.
            window: what was polled.
            charges: all that fal states of it; those of the same hour and dimensions are added up.
            at: when the poll began, an aware instant.
            rejected: the rows that could not be read, or only in part; what they may be of is not lowered.

        Raises:
            ValueError: a charge lies outside the window or belongs to another account; nothing has been written.
        """
        with self._session.writing() as (connection, contents):
            now = self._clock()
            scope = self._corrected(connection, contents.active_scope(account, source), max(now, at))
            first, end = max(hour_number(window.start), contents.horizon), hour_number(window.end)
            entry = contents.directory.enter(connection, scope, window, charges, contents.horizon)
            contents.totals.add_label_sets(entry.label_sets)
            contents.totals.add_series(entry.places)
            observed = rows.read_observed(connection, scope.id, first, end)
            cells = rows.read_cells(connection, scope.id, first, end)
            rejected = tuple(rejected)
            after = guarded(cells, entry.cells, rejected, contents.directory.series_of(scope.id))
            effects = effects_of(
                contents.totals, cells, after, observed=observed, counts_from=scope.counts_from, now=now
            )

            self.names.restated(connection, contents, account, effects.change.added)
            first_hours = _write_effects(connection, contents, scope, effects)
            complete = hour_number(hour_of(at))
            rows.write_observed(
                connection,
                scope.id,
                before=observed,
                after={hour: observed.get(hour, False) or hour < complete for hour in range(first, end)},
            )
            write_rejected(connection, scope.id, first, end, rejected)
            unreadable = read_rejected(connection, scope.id)
            scope = _with_stamps(connection, scope, window, at, self._rules)
            scope = booked(scope, effects.booking)
            rows.write_scope(connection, scope)
            if entry.overflowed:
                contents.overflowed += entry.overflowed
                schema.write(connection, schema.OVERFLOWED, str(contents.overflowed))

            contents.scopes[scope.id] = scope
            contents.first_seen.move(first_hours)
            self._take_up_effects(contents, effects)
            if entry.places:
                self.names.look_again()
            self.machines.restated(connection, contents, account, effects.change.deltas, now)
            self.tags.restated(connection, contents, account, effects.change.deltas, now)
        change, booking = effects.change, effects.booking
        return Restatement(
            window,
            len(change.added),
            len(change.changed),
            len(change.removed),
            booking.restated_up,
            booking.restated_down,
            len(booking.restated_hours),
            booking.relabelled,
            unreadable,
        )

    def _take_up_effects(self, contents: Contents, effects: Effects) -> None:
        """Show in memory what a restatement has written."""
        totals, counters = contents.totals, effects.counters
        contents.charges += len(effects.change.added) - len(effects.change.removed)
        contents.touched.note(contents.revision, effects.kinds)
        for key in counters:
            if key not in totals.counters:
                self._holds.begin(key)
        if counters:
            self._holds.grew()
        totals.set_counters(counters)
        totals.apply(effects.sums)

    def record_prices(self, prices: Iterable[UnitPrice]) -> None:
        """Keep the newest price of everything that is charged, and how it changed last."""
        seen = tuple(prices)
        if not price_rows.news(self._session.contents().prices, seen):
            return
        with self._session.writing() as (connection, contents):
            found = price_rows.news(contents.prices, seen)
            price_rows.write_prices(connection, contents.prices, found.values())
            contents.prices.update(found)
            contents.price_tables.note(found, self._accounts)

    def record_balance(self, balance: Balance) -> None:
        """Keep an account's balance."""
        with self._session.writing() as (connection, contents):
            newest = contents.balances.get(balance.account)
            if newest is not None and newest.at > (now := self._clock()):
                rows.forget_balances_after(connection, balance.account, now)
                contents.noted_balances.pop(balance.account, None)
                newest = None
            if rows.write_balance(connection, contents.noted_balances.get(balance.account), balance):
                contents.noted_balances[balance.account] = balance
            if newest is None or newest.at <= balance.at:
                contents.balances[balance.account] = balance

    def record_invoices(
        self,
        account: str,
        invoices: Collection[Invoice],
        *,
        is_whole: bool = False,
        foreign: Collection[str] = (),
    ) -> None:
        """Keep an account's invoices as fal states them now.

        Args:
            account: whose they are.
            invoices: those that could be read.
            is_whole: whether these are all that fal lists, so that others are withdrawn; see `withdrawn`.
            foreign: ids of those that fal states in another currency now; they are no longer kept in dollars.
        """
        with self._session.writing() as (connection, contents):
            gone = withdrawn(self.invoices(account), invoices) if is_whole else frozenset()
            rows.write_invoices(connection, account, invoices, gone.union(foreign))
            contents.invoices = rows.read_invoices(connection)

    def balance_history(self, account: str, since: datetime) -> tuple[Balance, ...]:
        """Return how an account's balance has gone since an instant, oldest first."""
        with self._session.reading() as connection:
            return tuple(rows.read_balance_history(connection, account, since))

    def invoices(self, account: str) -> tuple[Invoice, ...]:
        """Return an account's invoices as fal stated them last, newest first."""
        return tuple(invoice for invoice in self._session.contents().invoices if invoice.account == account)

    def reconcile(self, bill: Bill, *, at: datetime) -> Reconciliation:
        """Compare a bill with the charges of the same hours, and keep the outcome in place of an earlier one.

        Args:
            bill: of a configured account; the ledger has covered all hours of its window.
            at: when the bill was asked for, an aware instant.
        """
        with self._session.writing() as (connection, contents):
            scopes = [number for number in contents.active if contents.scopes[number].account == bill.account]
            spent = rows.sum_by_series(connection, scopes, hour_number(bill.window.start), hour_number(bill.window.end))
            compared = reconciliation(bill, ledger=sum(item.cost for item in spent.values()), at=at)
            write_reconciliation(connection, compared)
            contents.reconciliations[compared.key] = compared
        return compared

    def withdraw(self, account: str, against: str, month: datetime) -> None:
        """Keep the comparison of a month with a bill no longer; nothing happens where there is none."""
        key = account, against, month
        if key in self._session.contents().reconciliations:
            with self._session.writing() as (connection, contents):
                rows.delete_reconciliation(connection, key)
                del contents.reconciliations[key]

    def cost_by_product(self, account: str, window: Window) -> Mapping[str, int]:
        """Return what a window cost an account by product, in nano-USD, of its active sources."""
        costs: dict[str, int] = {}
        for series in self.spend_by_series(account, window):
            product = series.dimensions.product
            costs[product] = costs.get(product, 0) + series.cost
        return costs

    def spend_by_series(self, account: str, window: Window) -> tuple[SeriesSpend, ...]:
        """Return what an account bought in a window by everything that distinguishes it, of its active sources."""
        contents = self._session.contents()
        scopes = [number for number in contents.active if contents.scopes[number].account == account]
        first, end = hour_number(window.start), hour_number(window.end)
        with self._session.reading() as connection:
            spent = rows.sum_by_series(connection, scopes, first, end, Spent._fields)
        label_values = contents.totals.label_values
        return tuple(
            SeriesSpend(
                contents.directory.dimensions[number],
                label_values[contents.totals.place_of(number).label_set],
                sums.cost,
                sums.quantity,
                sums.discount,
            )
            for number, sums in spent.items()
        )

    def rejected_rows(self, account: str) -> Mapping[str, RejectedRows]:
        """Return the rows that cannot be read now, by active source of an account."""
        scopes = [scope for scope in self._session.contents().active_scopes() if scope.account == account]
        with self._session.reading() as connection:
            return {scope.source: read_rejected(connection, scope.id) for scope in scopes}

    def record_detail(self, account: str, source: str, detail: str, *, at: datetime, version: str) -> None:
        """Keep how much a source reports of a charge, and when and by which version of the exporter it was asked."""
        with self._session.writing() as (connection, contents):
            scope = contents.active_scope(account, source)
            scope = replace(scope, detail=detail, detail_asked_at=at, detail_version=version)
            rows.write_scope(connection, scope)
            contents.scopes[scope.id] = scope

    def accounts(self) -> frozenset[str]:
        """Return the accounts that the ledger counts for, configured or not."""
        return frozenset(scope.account for scope in self._session.contents().scopes.values() if scope.active)

    def counted_sources(self, account: str) -> tuple[str, ...]:
        """Return the sources that the ledger counts for an account, whether it is configured or not."""
        scopes = self._session.contents().scopes.values()
        return tuple(scope.source for scope in scopes if scope.account == account and scope.active)

    def fold_before(self, horizon: datetime) -> int:
        """Fold the hours before the horizon into per-series totals; return how many charges there were.

        The hours of this month and the last are never folded, whatever the horizon: the gauges are made of them.
        """
        number = min(
            first_hour_from(horizon), hour_number(periods_at(self._clock(), self._rules.zone).last_month.start)
        )
        with self._session.writing() as (connection, contents):
            if number <= contents.horizon:
                return 0
            folded = rows.fold(connection, number)
            rows.forget_before(connection, number)
            machines.forget_before(connection, number)
            tags.forget_before(connection, number)
            forget_rejected(connection, contents.scopes, before=number)
            rows.forget_balances_before(connection, hour_start(number))
            schema.write(connection, schema.HORIZON, str(number))
            schema.write(connection, schema.CHARGES_REVISION, str(contents.revision))
            contents.horizon = number
            contents.touched = TouchedHours(contents.revision)
            contents.charges -= folded
        return folded

    @property
    def revision(self) -> int:
        """Number of the state of the ledger that this process knows; every write makes a new one."""
        return self._session.contents().revision

    def hourly(self, window: Window) -> HourlyCosts:
        """Return what every hour of a window cost by series, in nano-USD, of the active sources.

        Hours that have been folded cost nothing here. `dimensions` tells what the series are.
        """
        contents = self._session.contents()
        with self._session.reading() as connection:
            return read_hourly(connection, contents.active, window)

    def dimensions(self) -> Mapping[int, Dimensions]:
        """Return what each series is of, by its number; a number keeps its meaning. It grows as series appear."""
        return self._session.contents().directory.dimensions

    def touched_since(self, revision: int) -> tuple[Window, ...] | None:
        """Return the hours whose charges have changed since a revision, or None if any of them may have."""
        return self._session.contents().touched.after(revision)

    def scopes(self) -> tuple[ScopeState, ...]:
        """Return how far every active source is known."""
        contents, now = self._session.contents(), self._clock()
        return tuple(state_of(clamped(scope, now, self._rules.settle_delay)) for scope in contents.active_scopes())

    def scraped(self, sequence: int, *, is_push: bool = False) -> None:
        """Note that a scrape has seen the view with this number; a push counts where there has been none for a hold."""
        now = self._clock()
        if is_push and now - self._scraped_at < self._rules.birth_hold:
            return
        self._scraped_at = self._scraped_at if is_push else now
        self._holds.scraped(sequence)
        self.machines.scraped(sequence)
        self.tags.scraped(sequence)

    def view(self) -> LedgerView:
        """Return the figures of this instant; counters whose hold is over are released with it."""
        self._session.check()
        now = self._clock()
        periods = periods_at(now, self._rules.zone)
        self.names.rename_due(now)
        self._move_on(now, periods)
        contents = self._session.contents()
        self._sequence += 1
        self._holds.shown(self._sequence)
        totals, prices, scopes = contents.totals, contents.price_tables, self.scopes()
        known = coverage(self._accounts, scopes, periods, now=now, grace=self._rules.poll_grace)
        lacking = {
            name: frozenset(account for account, windows in known.items() if not windows[name].is_whole)
            for name in periods.windows()
        }

        figures = self.machines.figures(self._accounts, scopes, periods, lacking, self._sequence)

        def published(table: str, period: str, pages: Pages) -> Pages:
            return self._published[table].pages(pages, lacking[period])

        return LedgerView(
            sequence=self._sequence,
            at=now,
            labels=self._labels.names,
            spend=totals.counter_pages("cost"),
            discount=totals.counter_pages("discount"),
            gpu_seconds=totals.counter_pages("gpu_seconds"),
            quantity=totals.counter_pages("quantity"),
            pending=totals.pending_pages(),
            current_hour=published("cost current_hour", "current_hour", totals.cost_pages("current_hour")),
            last_hour=published("cost last_hour", "last_hour", totals.cost_pages("last_hour")),
            today=published("cost today", "today", totals.cost_pages("today")),
            last_day=published("cost last_day", "last_day", totals.cost_pages("last_day")),
            discount_last_day=published("discount last_day", "last_day", totals.day_pages("discount")),
            quantity_last_day=published("quantity last_day", "last_day", totals.day_pages("quantity")),
            month_to_date=published("cost month", "month", totals.cost_pages("month")),
            known_of_month=totals.cost_pages("month"),
            last_month=published("cost last_month", "last_month", totals.cost_pages("last_month")),
            gpu_time_last_hour=published("gpu last_hour", "last_hour", totals.gpu_pages("last_hour")),
            gpu_time_month_to_date=published("gpu month", "month", totals.gpu_pages("month")),
            surge_month_to_date=published("surge cost", "month", totals.surge_pages("cost")),
            gpu_time_surge_month_to_date=published("surge gpu", "month", totals.surge_pages("gpu_seconds")),
            unit_prices=prices.pages("price"),
            previous_prices=prices.pages("previous_price"),
            price_changes=prices.pages("price_changed"),
            discounts=prices.pages("discount"),
            previous_discounts=prices.pages("previous_discount"),
            discount_changes=prices.pages("discount_changed"),
            first_seen=contents.first_seen.pages(contents.active_scopes(), contents.directory.series_of),
            scopes=scopes,
            coverage=known,
            totals=totals.by_account(known),
            balances=tuple(
                replace(balance, at=min(balance.at, now))
                for account, balance in contents.balances.items()
                if account in self._accounts
            ),
            invoices=tuple(invoice for invoice in contents.invoices if invoice.account in self._accounts),
            reconciliations=tuple(item for item in contents.reconciliations.values() if item.account in self._accounts),
            charges=contents.charges,
            label_sets=len(totals.label_values),
            overflowed_series=contents.overflowed,
            born_at=contents.born_at,
            revision=contents.committed,
            keys=tuple(record for record in contents.keys.values() if record.key.account in self._accounts),
            keys_told_from=contents.first_uses,
            teams=tuple(team for account in self._accounts for team in contents.teams.get(account, ())),
            machines=figures,
            tags=self.tags.figures(self._accounts, periods.month, lacking["month"], self._sequence),
        )

    def _move_on(self, now: datetime, periods: Periods) -> None:
        """Release the counters whose hold is over, and go over to the periods of this instant."""
        contents = self._session.contents()
        if not self._holds.due(contents.totals.counters, now) and not contents.totals.moved_periods(periods):
            return
        with self._session.writing() as (connection, contents):
            contents.sum_periods(connection, periods, everything=False)
            counters = contents.totals.counters
            states = {key: released(counters[key]) for key in self._holds.due(counters, now)}
            rows.write_counters(connection, counters, states)
            contents.totals.set_counters(states)
        self._holds.end(states)
        if states:
            self._holds.grew()

    def _corrected(self, connection: Connection, scope: Scope, now: datetime) -> Scope:
        """Return a scope without instants of the future, and no hour that is covered before it is over."""
        past = clamped(scope, now, self._rules.settle_delay)
        if past != scope:
            rows.not_over_from(connection, scope.id, hour_number(hour_of(now)))
        return past

    def _take_up(self, connection: Connection, contents: Contents) -> None:
        self.names.look_again()
        self._holds.keep(contents.totals.counters)
        self.machines.take_up(contents)
        self.tags.take_up(contents)
        contents.activate(self._accounts)
        contents.sum_periods(connection, periods_at(self._clock(), self._rules.zone), everything=True)


def _with_stamps(connection: Connection, scope: Scope, window: Window, at: datetime, rules: Rules) -> Scope:
    """Return the scope after a poll; hours that earlier polls had covered beyond a gap count once the gap is filled."""
    scope = reached(scope, window, at)
    if scope.data_through is not None and scope.history_from is not None:
        until = rows.covered_until(connection, scope.id, hour_number(scope.data_through))
        since = rows.covered_since(connection, scope.id, hour_number(scope.history_from))
        scope = replace(scope, data_through=hour_start(until), history_from=hour_start(since))
    known_from = scope.settled_through or scope.history_from
    rejected = None if known_from is None else first_rejected(connection, scope.id, hour_number(known_from))
    unsettled = None if rejected is None else hour_start(rejected)
    return settled(scope, window, at, rules.settle_delay, unsettled_from=unsettled)


def _write_effects(
    connection: Connection, contents: Contents, scope: Scope, effects: Effects
) -> Mapping[int, int | None]:
    """Write cells, totals and counters; return the first hours of series that have moved."""
    change = effects.change
    rows.write_difference(connection, scope.id, change, effects.sums)
    first_hours = hours.update(connection, scope.id, contents.first_seen.first_hours, change)
    rows.write_counters(connection, contents.totals.counters, effects.counters)
    if change.added or change.changed or change.removed:
        schema.write(connection, schema.CHARGES_REVISION, str(contents.revision))
    return first_hours
