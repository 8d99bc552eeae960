"""The door of the ledger room: everything that is written or asked goes through `Ledger`.

One writer at a time: every write is one transaction that first takes the write lock and then checks that nobody else
has written since (`revision`); after another writer, and after any failure, the contents are read anew. So a second
exporter on the same ledger, however it came to be there, neither doubles nor loses anything.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from exporter.charges import Balance, Charge, Clock, Invoice, UnitPrice, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import charge_rows, facts, records, series_rows
from exporter.ledger.books import Books
from exporter.ledger.calendar import periods_at
from exporter.ledger.contents import Contents, read_contents
from exporter.ledger.counters import Counter, CounterKey, Holds, advanced, measured, released
from exporter.ledger.database import clear_errors, open_database
from exporter.ledger.directory import relabel
from exporter.ledger.label_sets import Labels
from exporter.ledger.restatement import Booking, book, difference
from exporter.ledger.schema import bring_up_to_date, first_hour_from, hour_number
from exporter.ledger.scope_states import reached, state_of
from exporter.ledger.series_rows import Scope
from exporter.ledger.view import LedgerView, ScopeState


@dataclass(frozen=True, slots=True)
class Rules:
    """How the ledger is to publish.

    Attributes:
        labels: the labels of charge-derived families.
        max_series: how many label sets are admitted before new ones are folded.
        birth_hold: how long a new counter is held at zero, at the least.
        settle_delay: after this time an hour counts as settled.
        zone: whose days and months "today" and "month" are.
    """

    labels: tuple[str, ...] = ("account", "team", "product", "model", "app", "gpu_class")
    max_series: int = 10_000
    birth_hold: timedelta = timedelta(minutes=2)
    settle_delay: timedelta = timedelta(hours=48)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))


@dataclass(frozen=True, slots=True)
class Restatement:
    """What replacing a window changed: cells added, changed and removed, and nano-USD in complete hours."""

    window: Window
    added: int
    changed: int
    removed: int
    restated_up: int
    restated_down: int
    restated_hours: int

    @property
    def is_empty(self) -> bool:
        """Whether the window was already as fal states it."""
        return not (self.added or self.changed or self.removed)


class Ledger:
    """The ledger, open. Not for use from several threads at once.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(self, address: str, *, rules: Rules, clock: Clock) -> None:
        self._engine = open_database(address)
        self._rules = rules
        self._labels = Labels(rules.labels)
        self._clock = clock
        self._holds = Holds(rules.birth_hold)
        self._accounts: Mapping[str, Collection[str]] = {}
        self._sequence = 0
        self._contents: Contents | None = None
        self.relabelled = False
        """Whether other labels were found at opening, so that all counters have started at 0 again."""
        with clear_errors(self._engine.url), self._engine.begin() as connection:
            bring_up_to_date(connection)
            self._settle_labels(connection)
        with self._writing():
            pass

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def activate(self, accounts: Mapping[str, Collection[str]]) -> None:
        """Take up the sources of every configured account and publish these accounts and no others.

        A source that is new, or that comes back to an account after other sources had taken its place, starts with all
        it will read of earlier hours as history. An account that comes back as it was goes on where it was.
        """
        now = self._clock()
        with self._writing() as (connection, contents):
            for account, sources in accounts.items():
                known = {scope.source: scope for scope in contents.scopes.values() if scope.account == account}
                for source in sources:
                    scope = known.get(source)
                    if scope is None:
                        scope = series_rows.add_scope(connection, account, source, now)
                    elif not scope.active:
                        charge_rows.forget_observed(connection, scope.id)
                        scope = scope.reborn(now)
                        series_rows.write_scope(connection, scope)
                    contents.scopes[scope.id] = scope
                for source, scope in known.items():
                    if scope.active and source not in sources:
                        contents.scopes[scope.id] = replace(scope, active=False)
                        series_rows.write_scope(connection, contents.scopes[scope.id])
            self._accounts = {account: tuple(sources) for account, sources in accounts.items()}
            contents.activate(self._accounts)
            contents.sum_periods(connection, periods_at(now, self._rules.zone), everything=True)

    def restate(
        self, account: str, source: str, window: Window, charges: Iterable[Charge], *, at: datetime
    ) -> Restatement:
        """Replace all charges of a source in a window, in one transaction.

        Args:
            account: a configured account.
            source: one of its activated sources.
            window: what was polled.
            charges: all that fal states of it; one per hour and dimensions.
            at: when the poll began, an aware instant.
        """
        with self._writing() as (connection, contents):
            scope = _active_scope(contents, account, source)
            first = max(hour_number(window.start), contents.horizon)
            end = hour_number(window.end)
            entry = contents.directory.enter(connection, scope.id, charges, first)
            observed = charge_rows.read_observed(connection, scope.id, first, end)
            change = difference(charge_rows.read_cells(connection, scope.id, first, end), entry.cells)
            booking = book(change.deltas, observed=observed, first_counted=first_hour_from(scope.counts_from))

            books = contents.books
            books.add_label_sets(entry.label_sets)
            books.add_series(entry.places)
            counters = _moved_counters(books, booking, self._clock())
            charge_rows.write_difference(connection, scope.id, change)
            complete = hour_number(hour_of(at))
            charge_rows.write_observed(
                connection,
                scope.id,
                before=observed,
                after={hour: observed.get(hour, False) or hour < complete for hour in range(first, end)},
                changed={delta.hour for delta in change.deltas},
                at=at,
            )
            series_rows.write_counters(connection, books.counters, counters)
            scope = replace(
                reached(scope, window, at, self._rules.settle_delay),
                restated_up=scope.restated_up + booking.restated_up,
                restated_down=scope.restated_down + booking.restated_down,
                restated_hours=scope.restated_hours + len(booking.restated_hours),
            )
            series_rows.write_scope(connection, scope)
            if entry.overflowed:
                contents.overflowed += entry.overflowed
                facts.write(connection, facts.OVERFLOWED, str(contents.overflowed))

            contents.scopes[scope.id] = scope
            contents.charges += len(change.added) - len(change.removed)
            for key in counters:
                if key not in books.counters:
                    self._holds.begin(key)
            books.set_counters(counters)
            books.apply(change.deltas)
        return Restatement(
            window,
            len(change.added),
            len(change.changed),
            len(change.removed),
            booking.restated_up,
            booking.restated_down,
            len(booking.restated_hours),
        )

    def record_prices(self, prices: Iterable[UnitPrice]) -> None:
        """Keep the newest price of everything that is charged."""
        with self._writing() as (connection, contents):
            if records.write_prices(connection, contents.prices, prices):
                contents.activate(self._accounts)

    def record_balance(self, balance: Balance) -> None:
        """Keep an account's balance."""
        with self._writing() as (connection, contents):
            if records.write_balance(connection, contents.noted_balances.get(balance.account), balance):
                contents.noted_balances[balance.account] = balance
            contents.balances[balance.account] = balance

    def record_invoices(self, account: str, invoices: Collection[Invoice]) -> None:
        """Keep an account's invoices as fal states them now."""
        with self._writing() as (connection, contents):
            records.write_invoices(connection, account, invoices)
            contents.invoices = records.read_invoices(connection)

    def chosen_sources(self, account: str) -> tuple[str, ...] | None:
        """Return the sources once chosen for an account, None before a choice."""
        with clear_errors(self._engine.url), self._engine.begin() as connection:
            return records.read_choice(connection, account)

    def choose_sources(self, account: str, sources: Collection[str]) -> None:
        """Keep the choice of an account's sources."""
        with self._writing() as (connection, _):
            records.write_choice(connection, account, sources, self._clock())

    def fold_before(self, horizon: datetime) -> int:
        """Fold the hours before the horizon into per-series totals; return how many charges there were."""
        number = first_hour_from(horizon)
        with self._writing() as (connection, contents):
            if number <= contents.horizon:
                return 0
            folded = charge_rows.fold(connection, number)
            facts.write(connection, facts.HORIZON, str(number))
            contents.horizon = number
            contents.charges -= folded
        return folded

    def scopes(self) -> tuple[ScopeState, ...]:
        """Return how far every active source is known."""
        contents = self._fresh_contents()
        return tuple(state_of(scope) for scope in contents.scopes.values() if scope.id in contents.active)

    def scraped(self, sequence: int) -> None:
        """Note that a scrape has seen the view with this number."""
        self._holds.scraped(sequence)

    def view(self) -> LedgerView:
        """Return the figures of this instant; counters whose hold is over are released with it."""
        now = self._clock()
        contents = self._fresh_contents()
        periods = periods_at(now, self._rules.zone)
        due = self._holds.due(contents.books.counters, now)
        if due or contents.books.moved_periods(periods):
            with self._writing() as (connection, contents):
                contents.sum_periods(connection, periods, everything=False)
                states = {key: released(contents.books.counters[key]) for key in due}
                series_rows.write_counters(connection, contents.books.counters, states)
                contents.books.set_counters(states)
            self._holds.end(due)
        self._sequence += 1
        self._holds.shown(self._sequence)
        books = contents.books
        return LedgerView(
            sequence=self._sequence,
            at=now,
            labels=self._labels.names,
            spend=books.counter_pages("cost"),
            discount=books.counter_pages("discount"),
            gpu_seconds=books.counter_pages("gpu_seconds"),
            quantity=books.counter_pages("quantity"),
            pending=books.pending_pages(),
            current_hour=books.cost_pages("current_hour"),
            last_hour=books.cost_pages("last_hour"),
            today=books.cost_pages("today"),
            month_to_date=books.cost_pages("month"),
            last_month=books.cost_pages("last_month"),
            gpu_time_last_hour=books.gpu_pages("last_hour"),
            gpu_time_month_to_date=books.gpu_pages("month"),
            unit_prices=contents.price_table.pages(),
            scopes=self.scopes(),
            totals=books.totals(),
            balances=tuple(it for account, it in contents.balances.items() if account in self._accounts),
            invoices=tuple(it for it in contents.invoices if it.account in self._accounts),
            charges=contents.charges,
            label_sets=len(books.label_values),
            overflowed_series=contents.overflowed,
            born_at=contents.born_at,
        )

    def _settle_labels(self, connection: Connection) -> None:
        wanted = json.dumps(self._rules.labels)
        now = self._clock()
        if facts.read(connection, facts.BORN_AT) is None:
            facts.write(connection, facts.BORN_AT, now.isoformat())
        elif facts.read(connection, facts.LABELS) != wanted:
            accounts = {scope.id: scope.account for scope in series_rows.read_scopes(connection)}
            relabel(connection, self._labels, self._rules.max_series, accounts, now)
            self.relabelled = True
        facts.write(connection, facts.LABELS, wanted)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, Contents]]:
        """Begin a transaction on contents that are up to date; if it fails, they are read anew the next time."""
        try:
            with clear_errors(self._engine.url), self._engine.begin() as connection:
                revision = facts.read_revision_for_update(connection)
                contents = self._contents
                if contents is None or contents.revision != revision:
                    contents = self._contents = self._read(connection)
                contents.revision = revision + 1
                facts.write(connection, facts.REVISION, str(contents.revision))
                yield connection, contents
        except OverflowError:
            self._contents = None
            raise LedgerError(
                "fal states more than 9.2 billion units or dollars in one hour; nothing was written"
            ) from None
        except BaseException:
            self._contents = None
            raise

    def _read(self, connection: Connection) -> Contents:
        contents = read_contents(connection, self._labels, self._rules.max_series)
        self._holds.keep(contents.books.counters)
        contents.activate(self._accounts)
        contents.sum_periods(connection, periods_at(self._clock(), self._rules.zone), everything=True)
        return contents

    def _fresh_contents(self) -> Contents:
        if self._contents is None:
            with clear_errors(self._engine.url), self._engine.begin() as connection:
                self._contents = self._read(connection)
        return self._contents


def _active_scope(contents: Contents, account: str, source: str) -> Scope:
    for number in contents.active:
        scope = contents.scopes[number]
        if (scope.account, scope.source) == (account, source):
            return scope
    raise LedgerError(f"the source {source} of account {account} is not active in the ledger; activate it first")


def _moved_counters(books: Books, booking: Booking, now: datetime) -> dict[CounterKey, Counter]:
    """Return the counters that a booking moves or brings to life."""
    states: dict[CounterKey, Counter] = {}
    for amounts_by_series, counts in ((booking.base, 0), (booking.grown, 1)):
        for series, amounts in amounts_by_series.items():
            place = books.place_of(series)
            for measure, unit, amount in measured(amounts, place.unit):
                key = CounterKey(place.label_set, measure, unit)
                counter = states.get(key) or books.counters.get(key) or Counter(0, 0, now, released=False)
                states[key] = advanced(counter, amount * counts)
    return states
