"""Door of the ledger for what concerns runners: settings of apps, their runners, requests, and the figures of them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection

from exporter.calendar import Periods
from exporter.charges import Clock, Window, hour_number, hour_of
from exporter.forecasting.what_if import WhatIf, best_of
from exporter.ledger.accounting.coverage import Scope, ScopeState
from exporter.ledger.accounting.machines import NO_MACHINES, MachineFigures, week_before
from exporter.ledger.accounting.restatement import CellRow
from exporter.ledger.contents import Contents
from exporter.ledger.machines import MachineTotals, MachineView, as_charged, ceilings_of, read_app_weeks, release_due
from exporter.ledger.session import Session
from exporter.ledger.tables import machines as tables
from exporter.ledger.tables.machines import MachineAccount
from exporter.machines import SERVERLESS, AppSettings, Efficiency, RequestHour, RunnerHour


class MachineLedger:
    """Runners in the ledger. Not for use from several threads at once.

    An account is divided by state from when its apps have been listed first.

    Args:
        session: returns the ledger's.
        clock: the time.
        hold: how long a new counter is held at 0, at the least.

    Raises:
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(self, session: Callable[[], Session], *, clock: Clock, hold: timedelta) -> None:
        self._session = session
        self._clock = clock
        self._view = MachineView(hold)
        self._efficiency: tuple[Efficiency, ...] = ()
        self._what_ifs: tuple[WhatIf, ...] = ()
        self._gpus: dict[tuple[str, str, str], int] = {}
        # What has been laid out, and of which state of it: views are made several times a second.
        self._laid_out: MachineTotals | None = None
        self._laid_out_key: object = None

    def account(self, account: str) -> MachineAccount | None:
        """Return how far an account is known; None for one that is not divided by state."""
        return self._session().contents().machines.accounts.get(account)

    def settings(self, account: str) -> tuple[AppSettings, ...]:
        """Return the settings of an account's apps as fal listed them last."""
        return tuple(item for item in self._session().contents().machines.settings if item.account == account)

    def models(self, account: str, window: Window) -> tuple[str, ...]:
        """Return the models that an account was charged for in a window."""
        contents = self._session().contents()
        scopes = {scope.id: account for scope in _scopes_of(contents, account)}
        with self._session().reading() as connection:
            costs = tables.model_costs(connection, scopes, hour_number(window.start), hour_number(window.end))
        return tuple(sorted(model for _, model in costs if model))

    def record_settings(self, account: str, listed: Collection[AppSettings], *, is_whole: bool = True) -> None:
        """Keep the settings of an account's apps as fal lists them now.

        Args:
            account: whose apps they are.
            listed: those that could be read.
            is_whole: whether these are all that fal lists; otherwise those of no other app are forgotten.
        """
        now = self._clock()
        with self._session().writing() as (connection, contents):
            totals = contents.machines
            if not is_whole:
                read = {(item.endpoint, item.environment) for item in listed}
                listed = [
                    *listed,
                    *(item for item in self.settings(account) if (item.endpoint, item.environment) not in read),
                ]
            tables.write_settings(connection, account, listed)
            totals.settings = tables.read_settings(connection)
            if totals.start(connection, account, now):
                self._begin(connection, contents, account, now)

    def record_runners(
        self, account: str, window: Window, runners: Mapping[str, Sequence[RunnerHour]], *, is_whole: bool = True
    ) -> None:
        """Replace the runners of some apps in a window, and divide the hours anew that have changed.

        Args:
            account: one whose apps have been listed.
            window: what fal was asked for.
            runners: all that it stated, by app.
            is_whole: whether all apps are among them.
        """
        now = self._clock()
        span = (hour_number(window.start), hour_number(window.end))
        with self._session().writing() as (connection, contents):
            known = tables.read_runners(connection, account, *span)
            touched: set[int] = set()
            for app, hours in runners.items():
                before = {item for key, item in known.items() if key[0] == app}
                touched |= {item.hour for item in before ^ {*hours}}
                if before != {*hours}:
                    tables.write_runners(connection, account, app, span, hours)
            if is_whole:
                contents.machines.asked(connection, account, window, now, runners=True)
            self._rebook(connection, contents, account, touched, now)

    def record_requests(
        self,
        account: str,
        window: Window,
        names: Collection[tuple[str, str]],
        requests: Iterable[RequestHour],
        *,
        is_whole: bool = True,
    ) -> None:
        """Replace the requests of some apps and models, by product and name, in a window."""
        span = (hour_number(window.start), hour_number(window.end))
        with self._session().writing() as (connection, contents):
            tables.write_requests(connection, account, names, span, requests)
            contents.machines.changed()
            if is_whole:
                contents.machines.asked(connection, account, window, self._clock(), runners=False)

    def restated(
        self, connection: Connection, contents: Contents, account: str, deltas: Iterable[CellRow], now: datetime
    ) -> None:
        """Divide the hours anew in which charges of runners have changed, in the transaction that changes them."""
        if account not in contents.machines.accounts:
            return
        hours_of: dict[int, set[int]] = {}
        for row in deltas:
            hours_of.setdefault(row[1], set()).add(row[0])
        dimensions = contents.directory.dimensions
        hours = [its for series, its in hours_of.items() if dimensions[series].product == SERVERLESS]
        self._rebook(connection, contents, account, set().union(*hours), now)
        # What models cost per request is of the same charges.
        contents.machines.changed()

    def take_up(self, contents: Contents) -> None:
        """Hold the counters of contents that have just been read."""
        self._view.holds.keep(contents.machines.counters)

    def scraped(self, sequence: int) -> None:
        """Note that a scrape has seen the view with this number."""
        self._view.holds.scraped(sequence)

    def figures(
        self,
        accounts: Collection[str],
        scopes: Sequence[ScopeState],
        periods: Periods,
        lacking: Mapping[str, frozenset[str]],
        sequence: int,
    ) -> MachineFigures:
        """Return the figures of this instant; counters whose hold is over are released with it.

        Args:
            accounts: those that are published.
            scopes: how far their sources are known.
            periods: of this instant.
            lacking: the accounts of which a period is not covered, by its name.
            sequence: the view's number.
        """
        now, contents = self._clock(), self._session().contents()
        if not contents.machines.accounts:
            return NO_MACHINES
        its = {name: _scopes_of(contents, name) for name in contents.machines.accounts.keys() & {*accounts}}
        self._count_unripe(its, now)
        holds = self._view.holds
        if holds.due(self._session().contents().machines.counters, now):
            with self._session().writing() as (connection, contents):
                release_due(connection, contents.machines, holds, now)
        holds.shown(sequence)
        contents = self._session().contents()
        totals = contents.machines
        windows = {
            name: totals.last_day(name, [scope.data_through for scope in scopes if scope.account == name])
            for name in its
        }
        ids = frozenset(scope.id for found in its.values() for scope in found)
        settings = as_charged(
            [item for item in totals.settings if item.account in its],
            {(values[0], values[1], values[2]) for values in totals.series.values()},
        )
        key = (totals.version, ids, tuple(sorted(its)), tuple(periods.windows().values()), windows, settings)
        if self._laid_out is not totals or self._laid_out_key != key:
            with self._session().reading() as connection:
                self._view.lay_out(totals, totals.sums(connection, ids, periods), its)
                self._efficiency = totals.efficiency(
                    connection, its, {name: window for name, window in windows.items() if window is not None}
                )
                accounts_of = {scope.id: name for name, found in its.items() for scope in found}
                known = {name: totals.accounts[name] for name in its}
                weeks = tuple(read_app_weeks(connection, settings, known, accounts_of, week_before(now)))
                self._what_ifs = best_of(weeks)
                self._gpus = {(week.account, week.app, week.environment): week.gpus for week in weeks}
            self._laid_out, self._laid_out_key = totals, key
        counters, gauges = self._view.counters(), self._view.gauges(lacking)
        return MachineFigures(
            spend=counters["cost"],
            gpu_seconds=counters["gpu_seconds"],
            spend_of={name: pages for (measure, name), pages in gauges.items() if measure == "cost"},
            gpu_time_of={name: pages for (measure, name), pages in gauges.items() if measure == "gpu_seconds"},
            settings=settings,
            ceilings=ceilings_of(settings, contents.prices, self._gpus),
            efficiency=self._efficiency,
            what_ifs=self._what_ifs,
            tried=frozenset(self._gpus),
        )

    def _begin(self, connection: Connection, contents: Contents, account: str, now: datetime) -> None:
        """Divide all that the ledger has of an account; without runners it is unknown until they are read."""
        scopes = [scope.id for scope in _scopes_of(contents, account)]
        first = contents.horizon
        hours = {row[1] for row in tables.read_charged(connection, scopes, first, hour_number(hour_of(now)) + 1)}
        self._rebook(connection, contents, account, hours, now)

    def _count_unripe(self, scopes: Mapping[str, Sequence[Scope]], now: datetime) -> None:
        """Count hours as unknown that have been waited for long enough."""
        if not self._session().contents().machines.is_to_look(now):
            return
        with self._session().reading() as connection:
            unripe = self._session().contents().machines.unripe(connection, scopes, now)
        for account, first in unripe.items():
            with self._session().writing() as (connection, contents):
                through = contents.machines.accounts[account].runners_through or 0
                self._rebook(connection, contents, account, set(range(first, through)), now)

    def _rebook(
        self, connection: Connection, contents: Contents, account: str, hours: Collection[int], now: datetime
    ) -> None:
        kept = {hour for hour in hours if hour >= contents.horizon}
        totals = contents.machines
        moved = totals.rebook(connection, _scopes_of(contents, account), contents.directory.dimensions, kept, now)
        for key in moved:
            if key not in totals.counters:
                self._view.holds.begin(key)
        totals.set_counters(moved)


def _scopes_of(contents: Contents, account: str) -> list[Scope]:
    return [scope for scope in contents.active_scopes() if scope.account == account]
