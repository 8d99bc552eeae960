"""Machines in the ledger: charges divided by the states of runners, their counters, and the figures made of them.

Whenever charges of an hour change, or its runners are read, the hour is divided anew and what was kept of it replaced.
Gauges are sums of what is kept, so that the states of an app add up to its spend at every instant. A counter takes an
hour up once its runners have been read after its end, or as `unknown` when they have been waited for long enough; from
then on it follows every correction, by the rules of all counters.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from exporter.calendar import Periods
from exporter.charges import HOUR, Dimensions, Window, first_hour_from, gpu_machine, hour_number, hour_of, hour_start
from exporter.forecasting.what_if import AppWeek
from exporter.ledger.accounting.counters import (
    Admission,
    Counter,
    CounterKey,
    Holds,
    LabelValues,
    advanced,
    released,
)
from exporter.ledger.accounting.coverage import PublishedPages, Scope
from exporter.ledger.accounting.machines import (
    MEASURES,
    STATE_LABELS,
    StateSplit,
    app_weeks,
    counted_change,
    efficiency,
    is_ripe,
    split,
)
from exporter.ledger.tables import machines as tables
from exporter.ledger.tables.machines import MachineAccount
from exporter.ledger.tables.prices import Item, PriceRecord
from exporter.machines import (
    STATES,
    AppSettings,
    Ceiling,
    Efficiency,
    Parts,
    RequestSum,
    RunnerHour,
    StateSum,
    app_name,
)
from exporter.samples import PagedTable, Pages, Sample

WINDOWS = ("today", "last_day", "month", "last_month")
"""The periods for which gauges by state are made."""

_MOST_SERIES = 2_000
"""Apps, environments and GPU classes with series of their own; what exceeds them is folded into `__other__`."""

_OLDEST = 90 * 24
"""Hours for which fal has runners."""

_LAST_DAY = 24
_SECONDS_OF_HOUR = 3600
_WHOLE = 100 * 10**9


class MachineTotals:
    """Accounts whose charges are divided by state, with their counters and sums, as in the database.

    Args:
        connection: in a transaction.

    Attributes:
        accounts: by name.
        settings: of all apps.
        counters: the state stands in the place of a unit.
        version: another number whenever figures may have changed.
    """

    def __init__(self, connection: Connection) -> None:
        self.accounts = tables.read_accounts(connection)
        self.settings = tables.read_settings(connection)
        self.counters = tables.read_counters(connection)
        self.series = tables.read_series(connection)
        self._numbers = {values: number for number, values in self.series.items()}
        self._admission = Admission(STATE_LABELS, _MOST_SERIES, self.series.values())
        self._sums: dict[str, tuple[Window, Mapping[int, tuple[Parts, Parts]]]] = {}
        self._efficiency: tuple[Mapping[str, Window], tuple[Efficiency, ...]] | None = None
        self._looked_at = 0
        self.version = 0

    def rebook(
        self,
        connection: Connection,
        scopes: Iterable[Scope],
        dimensions: Mapping[int, Dimensions],
        hours: Collection[int],
        now: datetime,
    ) -> dict[CounterKey, Counter]:
        """Divide some hours of one account anew; return the counters that moved, which have been written.

        Args:
            connection: in the transaction that has changed charges or runners.
            scopes: the active ones of the account.
            dimensions: of every series.
            hours: their numbers.
            now: an aware instant.
        """
        its = {scope.id: scope for scope in scopes}
        names = {scope.account for scope in its.values()} & self.accounts.keys()
        if not hours or not names:
            return {}
        (name,) = names
        first, end = min(hours), max(hours) + 1
        account, this_hour = _clamped(self.accounts[name], now), hour_number(hour_of(now))
        counted_from = {
            number: max(first_hour_from(scope.counts_from), account.counts_from) for number, scope in its.items()
        }
        runners = tables.read_runners(connection, name, first, end)
        kept = tables.read_splits(connection, its, first, end)
        unseen = {cell for cell in kept if cell[1] in hours}
        new: dict[tables.Cell, tuple[int, StateSplit]] = {}
        changes: list[tuple[StateSplit | None, StateSplit | None]] = []
        for scope, hour, series, cost, gpu_seconds in tables.read_charged(connection, its, first, end):
            if hour not in hours:
                continue
            cell = (series, hour)
            unseen.discard(cell)
            before = kept.get(cell)
            its_own = dimensions[series]
            history = runners.get((app_name(its_own.app), hour)) if its_own.app else None
            counted = (before is not None and before.counted) or (
                counted_from[scope] <= hour < this_hour
                and is_ripe(
                    hour,
                    is_complete=history is not None and history.complete,
                    asked_through=account.runners_through or 0,
                )
            )
            states = None if history is None else history.runners
            place = self._place(connection, its_own) if before is None else before.place
            after = StateSplit(place, split(cost, states), split(gpu_seconds, states), counted)
            if after != before:
                new[cell] = (scope, after)
                changes.append((before, after))
        gone = {*unseen, *(cell for cell in new if cell in kept)}
        changes += [(kept[cell], None) for cell in unseen]
        tables.write_splits(connection, gone, new)
        if changes:
            self._forget_sums()
        return self._grow(connection, changes, now)

    def start(self, connection: Connection, account: str, now: datetime) -> bool:
        """Begin to divide an account's charges; return whether that is new. What was spent before is history."""
        if account in self.accounts:
            return False
        self.save(connection, MachineAccount(account, first_hour_from(now)))
        return True

    def save(self, connection: Connection, account: MachineAccount) -> None:
        """Keep an account's state."""
        tables.write_account(connection, account)
        self.accounts[account.account] = account

    def asked(self, connection: Connection, account: str, window: Window, now: datetime, *, runners: bool) -> None:
        """Note that fal has been asked for the runners, or else the requests, of all apps in a window."""
        known = _clamped(self.accounts[account], now)
        through = known.runners_through if runners else known.requests_through
        end = min(hour_number(window.end), hour_number(hour_of(now)))
        # Past a gap the hours before it have not been asked for.
        if end > 0 and (through is None or hour_number(window.start) <= through < end):
            self.save(
                connection, replace(known, runners_through=end) if runners else replace(known, requests_through=end)
            )
            self._forget_sums()

    def is_to_look(self, now: datetime) -> bool:
        """Return whether it is time, once an hour, to look for hours that have been waited for long enough."""
        return hour_number(hour_of(now)) != self._looked_at

    def unripe(self, connection: Connection, scopes: Mapping[str, Collection[Scope]], now: datetime) -> dict[str, int]:
        """Return the first hour, by account, of those that may have to be counted as unknown."""
        hour = self._looked_at = hour_number(hour_of(now))
        found = {}
        for name, account in self.accounts.items():
            first = max(account.counts_from, hour - _OLDEST)
            number = tables.first_uncounted(connection, [scope.id for scope in scopes.get(name, ())], first, hour)
            if number is not None:
                found[name] = number
        return found

    def write(self, connection: Connection, at: datetime) -> None:
        """Write everything but hours to an empty database; what is read again of hours before now is history."""
        for account in tuple(self.accounts.values()):
            self.save(connection, MachineAccount(account.account, max(account.counts_from, first_hour_from(at))))
        for name in {item.account for item in self.settings}:
            tables.write_settings(connection, name, [item for item in self.settings if item.account == name])
        tables.add_series(connection, self.series)
        tables.write_counters(connection, {}, self.counters)
        self._forget_sums()

    def _place(self, connection: Connection, dimensions: Dimensions) -> int:
        return self.admit(connection, self._admission.place(STATE_LABELS.of(dimensions)))

    def admit(self, connection: Connection, values: LabelValues) -> int:
        """Return the number of label values; new ones get the next."""
        number = self._numbers.get(values)
        if number is None:
            number = max(self.series, default=0) + 1
            tables.add_series(connection, {number: values})
            self.series[number] = values
            self._numbers[values] = number
        return number

    def _grow(
        self, connection: Connection, changes: Iterable[tuple[StateSplit | None, StateSplit | None]], now: datetime
    ) -> dict[CounterKey, Counter]:
        growth: dict[CounterKey, int] = {}
        for before, after in changes:
            place = (after or before or _NOWHERE).place
            for measure, parts in counted_change(before, after).items():
                for state, amount in zip(STATES, parts, strict=True):
                    if amount:
                        key = CounterKey(place, measure, state)
                        growth[key] = growth.get(key, 0) + amount
        new = Counter(0, 0, now, released=False)
        moved = {key: advanced(self.counters.get(key, new), by) for key, by in growth.items() if by}
        tables.write_counters(connection, self.counters, moved)
        return moved

    def set_counters(self, states: Mapping[CounterKey, Counter]) -> None:
        """Take up counters that have been written."""
        self.counters.update(states)
        self.version += 1

    def sums(
        self, connection: Connection, scopes: Collection[int], periods: Periods
    ) -> Mapping[str, Mapping[int, tuple[Parts, Parts]]]:
        """Return cost and GPU time by state for each of WINDOWS, by number of the label values."""
        windows = periods.windows()
        for name in WINDOWS:
            window = windows[name]
            if name not in self._sums or self._sums[name][0] != window:
                first, end = hour_number(window.start), hour_number(window.end)
                self._sums[name] = (window, tables.sum_splits(connection, scopes, first, end))
        return {name: sums for name, (_, sums) in self._sums.items()}

    def last_day(self, account: str, charges: Sequence[datetime | None]) -> Window | None:
        """Return the last 24 hours of which charges, runners and requests are known; None where they are not.

        Args:
            account: its name.
            charges: end of what is known of each of its sources.
        """
        its = self.accounts[account]
        ends = [None if instant is None else hour_number(instant) for instant in charges]
        through = [its.runners_through, its.requests_through, *ends]
        known = [number for number in through if number is not None]
        if not charges or len(known) < len(through):
            return None
        end = hour_start(min(known))
        return Window(end - _LAST_DAY * HOUR, end)

    def efficiency(
        self, connection: Connection, scopes: Mapping[str, Collection[Scope]], windows: Mapping[str, Window]
    ) -> tuple[Efficiency, ...]:
        """Return what requests cost in a window of each account."""
        if self._efficiency is None or self._efficiency[0] != windows:
            accounts_of = {scope.id: account for account in windows for scope in scopes[account]}
            self._efficiency = (windows, read_efficiency(connection, accounts_of, windows))
        return self._efficiency[1]

    def _forget_sums(self) -> None:
        self.version += 1
        self._sums.clear()
        self._efficiency = None

    def changed(self) -> None:
        """Have sums made anew: other charges count, or requests are known."""
        self._forget_sums()


_NOWHERE = StateSplit(0, Parts(), Parts())


def _clamped(account: MachineAccount, now: datetime) -> MachineAccount:
    """Return an account without hours that are still to come, which a clock that was wrong has left in it."""
    hour = hour_number(hour_of(now))
    return replace(
        account,
        counts_from=min(account.counts_from, hour + 1),
        runners_through=account.runners_through and min(account.runners_through, hour),
        requests_through=account.requests_through and min(account.requests_through, hour),
    )


class MachineView:
    """Lays figures of machines out on pages, and holds new counters at 0 as those of charges are.

    Args:
        hold: how long a new counter is held at 0, at the least.
    """

    def __init__(self, hold: timedelta) -> None:
        self.holds = Holds(hold)
        self._counters: dict[str, PagedTable[CounterKey]] = {measure: PagedTable() for measure in MEASURES}
        self._gauges: dict[tuple[str, str], PagedTable[tuple[int, str]]] = {
            (measure, name): PagedTable() for measure in MEASURES for name in WINDOWS
        }
        self._published = {key: PublishedPages(0) for key in self._gauges}

    def lay_out(
        self,
        totals: MachineTotals,
        sums: Mapping[str, Mapping[int, tuple[Parts, Parts]]],
        accounts: Collection[str],
    ) -> None:
        """Lay out the counters of some accounts, and the gauges."""
        self._lay_out_counters(totals, accounts)
        self._lay_out_gauges(totals, sums)

    def counters(self) -> dict[str, Pages]:
        """Return the counters by measure."""
        return {measure: table.pages() for measure, table in self._counters.items()}

    def gauges(self, lacking: Mapping[str, frozenset[str]]) -> dict[tuple[str, str], Pages]:
        """Return the gauges by measure and period, without accounts of which the period is not covered."""
        return {
            (measure, name): self._published[measure, name].pages(table.pages(), lacking[name])
            for (measure, name), table in self._gauges.items()
        }

    def _lay_out_counters(self, totals: MachineTotals, accounts: Collection[str]) -> None:
        for measure, table in self._counters.items():
            table.replace_all(
                {
                    key: Sample((*totals.series[key.label_set], key.unit), counter.shown, counter.created_at)
                    for key, counter in sorted(totals.counters.items())
                    if key.measure == measure and totals.series[key.label_set][0] in accounts
                }
            )

    def _lay_out_gauges(self, totals: MachineTotals, sums: Mapping[str, Mapping[int, tuple[Parts, Parts]]]) -> None:
        """Lay out gauges; what has an amount in one period is shown in all."""
        for at, measure in enumerate(MEASURES):
            shown = sorted(
                {
                    (number, state)
                    for by_series in sums.values()
                    for number, amounts in by_series.items()
                    for state, amount in zip(STATES, amounts[at], strict=True)
                    if amount
                }
            )
            for name in WINDOWS:
                table = self._gauges[measure, name]
                table.replace_all(
                    {
                        (number, state): Sample(
                            (*totals.series[number], state),
                            getattr(sums[name][number][at], state) if number in sums[name] else 0,
                        )
                        for number, state in shown
                    }
                )


def release_due(connection: Connection, totals: MachineTotals, holds: Holds, now: datetime) -> None:
    """Release the counters whose hold is over."""
    due = holds.due(totals.counters, now)
    states = {key: released(totals.counters[key]) for key in due}
    tables.write_counters(connection, totals.counters, states)
    totals.set_counters(states)
    holds.end(states)


def ceilings_of(
    settings: Iterable[AppSettings], prices: Mapping[Item, PriceRecord], gpus: Mapping[tuple[str, str, str], int]
) -> tuple[Ceiling, ...]:
    """Return what apps can burn in an hour: runners that they may have, times the newest price of their machine.

    Args:
        settings: of apps; one without a bound, or whose machine has no price yet, has no ceiling.
        prices: of seconds of machines, after any discount.
        gpus: number of GPUs of a runner by account, app and environment; where it is not known, that of the machine.
    """
    found = []
    for item in settings:
        machine = gpu_machine(item.machine)
        key: Item = (item.account, "serverless", "", item.app, machine.gpu_class, "second")
        record = prices.get(key)
        if record is None or not item.max_concurrency:
            continue
        price = record.newest.price * (_WHOLE - record.newest.discount) // _WHOLE
        count = max(machine.gpus, gpus.get((item.account, item.app, item.environment), 1), 1)
        amount = price * _SECONDS_OF_HOUR * item.max_concurrency * count
        found.append(Ceiling(item.account, item.app, item.environment, machine.gpu_class, amount))
    return tuple(found)


_MAIN = "main"


def as_charged(settings: Iterable[AppSettings], charged: Collection[tuple[str, str, str]]) -> tuple[AppSettings, ...]:
    """Return settings with the apps and environments that charges have.

    Charges may name the owner of an app, and may leave out the name of the main environment.

    Args:
        settings: of apps, as fal lists them.
        charged: account, app and environment of what has been charged for.
    """
    with_owner = {(account, app) for account, app, _ in charged}
    found = []
    for item in settings:
        app = item.endpoint if (item.account, item.endpoint) in with_owner else item.app
        is_unnamed = item.environment == _MAIN and (item.account, app, _MAIN) not in charged
        found.append(replace(item, app=app, environment="" if is_unnamed else item.environment))
    return tuple(found)


def read_state_sums(connection: Connection, scopes: Mapping[int, str], window: Window) -> tuple[StateSum, ...]:
    """Return what apps cost in a window by state, in the order of their names.

    Args:
        connection: in a transaction.
        scopes: the account of each active scope.
        window: whole hours.
    """
    sums: dict[tuple[str, str, str, str], tuple[Parts, Parts]] = {}
    for scope, app, environment, gpu_class, cost, gpu_seconds in tables.sum_by_app(
        connection, scopes, hour_number(window.start), hour_number(window.end)
    ):
        key = (scopes[scope], app, environment, gpu_class)
        known = sums.get(key, (Parts(), Parts()))
        sums[key] = (known[0].plus(cost), known[1].plus(gpu_seconds))
    return tuple(StateSum(*key, *sums[key]) for key in sorted(sums))


def read_app_weeks(
    connection: Connection,
    settings: Iterable[AppSettings],
    accounts: Mapping[str, MachineAccount],
    scopes: Mapping[int, str],
    window: Window,
) -> tuple[AppWeek, ...]:
    """Return the apps that other settings can be tried on, with their hours in a window.

    Args:
        connection: in a transaction.
        settings: of apps, as charges name them.
        accounts: those that are divided by state.
        scopes: the account of each active scope.
        window: whole hours.
    """
    first, end = hour_number(window.start), hour_number(window.end)

    def runners(account: str) -> list[RunnerHour]:
        found = tables.read_runners(connection, account, first, end)
        return [found[key] for key in sorted(found)]

    return tuple(
        app_weeks(
            settings,
            {name: account.requests_through for name, account in accounts.items()},
            runners=runners,
            requests=lambda account: tables.read_requests(connection, account, first, end),
            states=lambda span: read_state_sums(connection, scopes, span),
        )
    )


def read_efficiency(
    connection: Connection, scopes: Mapping[int, str], windows: Mapping[str, Window]
) -> tuple[Efficiency, ...]:
    """Return what requests cost in a window of each account.

    Args:
        connection: in a transaction.
        scopes: the account of each active scope.
        windows: by account; charges and requests of all their hours are known.
    """
    found: list[Efficiency] = []
    for account, window in windows.items():
        ids = {number: name for number, name in scopes.items() if name == account}
        found += efficiency(
            read_state_sums(connection, ids, window),
            read_request_sums(connection, [account], window),
            tables.model_costs(connection, ids, hour_number(window.start), hour_number(window.end)),
        )
    return tuple(found)


def known_requests(connection: Connection, account: MachineAccount, charges: Window | None) -> Window | None:
    """Return the hours of which an account's charges and requests are both known; None for none.

    Args:
        connection: in a transaction.
        account: its state.
        charges: the hours that are known of each of its sources; None for none.
    """
    first = tables.first_request_hour(connection, account.account)
    if charges is None or first is None or account.requests_through is None:
        return None
    start, end = max(charges.start, hour_start(first)), min(charges.end, hour_start(account.requests_through))
    return Window(start, end) if start < end else None


def read_request_sums(connection: Connection, accounts: Collection[str], window: Window) -> tuple[RequestSum, ...]:
    """Return the requests of the apps and models of some accounts in a window."""
    first, end = hour_number(window.start), hour_number(window.end)
    sums: dict[tuple[str, str, str], RequestSum] = {}
    for account in accounts:
        for item in tables.read_requests(connection, account, first, end):
            key = (account, item.product, item.name)
            known = sums.get(key, RequestSum(*key))
            sums[key] = RequestSum(
                *key,
                known.requests + item.requests,
                known.succeeded + item.succeeded,
                known.user_errors + item.user_errors,
                known.errors + item.errors,
                known.cold_starts + item.cold_starts,
                known.billable + item.billable,
            )
    return tuple(sums[key] for key in sorted(sums))
