"""Door of the ledger for spend by tags: an allocation of what the ledger has, which adds nothing to it.

Figures of windows cover every hour: what fal has not tagged yet is untagged. Counters take an hour up once it has
been read some time after its end (`READ_AFTER`), and follow every later change of its charges and of its tags.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection

from exporter.charges import Clock, Window, first_hour_from, hour_number, hour_of, hour_start
from exporter.forecasting.changes import TagComparison, same_part
from exporter.ledger.accounting.counters import Counter, Holds, advanced, released
from exporter.ledger.accounting.restatement import CellRow
from exporter.ledger.accounting.tags import NO_TAGS, READ_AFTER, Place, TagFigures, admitted, allocated, hours_to_divide
from exporter.ledger.contents import Contents, TagTotals
from exporter.ledger.session import Session
from exporter.ledger.tables import schema
from exporter.ledger.tables import tags as tables
from exporter.ledger.tables.span_totals import UsageSum, UsageTerms, usage_sums
from exporter.ledger.tables.tags import COUNTER_UNIT, CounterKey, Items, TaggedHour
from exporter.samples import PagedTable, Sample
from exporter.tags import TAG, TaggedReading, TagValues, tag_values, tags_text

HourlyTags = dict[datetime, dict[CounterKey, int]]
"""Nano-USD by account, model and tags, for every hour of a window."""


class TagLedger:
    """Spend by tags in the ledger. Not for use from several threads at once.

    Args:
        session: returns the ledger's.
        clock: the time.
        hold: how long a new counter is held at 0, at the least.
        max_series: how many combinations are admitted before those of new tags are folded.

    Raises:
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(self, session: Callable[[], Session], *, clock: Clock, hold: timedelta, max_series: int) -> None:
        self._session = session
        self._clock = clock
        self._max_series = max_series
        self._holds: Holds[CounterKey] = Holds(hold)
        self._spend: PagedTable[CounterKey] = PagedTable()
        self._pending: PagedTable[CounterKey] = PagedTable()
        self._month: PagedTable[CounterKey] = PagedTable()
        self._by_key: PagedTable[tuple[str, ...]] = PagedTable()
        self._summed: tuple[object, ...] | None = None
        self._shown: set[CounterKey] = set()
        self._figures = NO_TAGS

    @property
    def keys(self) -> TagValues:
        """Keys of the tags that spend is read by."""
        return self._session().contents().tags.keys

    def settle(self, keys: TagValues) -> None:
        """Take up the configured keys; where they have changed, counters begin anew under other labels."""
        if self._session().contents().tags.keys == keys:
            return
        with self._session().writing() as (connection, contents):
            tables.forget_counted(connection)
            schema.write(connection, tables.KEYS, json.dumps(keys))
            contents.tags = TagTotals(connection)
            self._holds.keep({})
            self._shown.clear()

    def read_through(self, account: str, window: Window) -> frozenset[datetime]:
        """Return the hours of a window that have been read by tags for good, some time after their end."""
        with self._session().reading() as connection:
            hours = tables.read_hours(connection, account, hour_number(window.start), hour_number(window.end))
        return frozenset(hour_start(hour) for hour, state in hours.items() if state.complete)

    def record(self, reading: TaggedReading, *, at: datetime) -> None:
        """Replace what is known of a window by tags, in one transaction.

        Args:
            reading: of a configured account, and with the configured keys.
            at: when the poll began, an aware instant.
        """
        account, first, end = reading.account, hour_number(reading.window.start), hour_number(reading.window.end)
        now = self._clock()
        with self._session().writing() as (connection, contents):
            totals = contents.tags
            if account not in totals.accounts:
                totals.accounts[account] = first_hour_from(now)
                tables.write_account(connection, account, totals.accounts[account])
            first = max(first, contents.horizon)
            items = {
                charge: (charge.model, charge.unit, tags_text(reading.keys, charge.tags)) for charge in reading.charges
            }
            numbers = Items(connection).numbers([*items.values()])
            stated = {
                (hour_number(charge.hour), numbers[item], *charge.amounts[:1], *charge.amounts[2:])
                for charge, item in items.items()
                if hour_number(charge.hour) >= first
            }
            before = tables.read_charges(connection, account, first, end)
            tables.write_charges(connection, account, before - stated, stated - before)
            known = tables.read_hours(connection, account, first, end)
            hours = {
                hour: TaggedHour(
                    (hour in known and known[hour].complete) or hour_start(hour + 1 + READ_AFTER) <= at,
                    reading.stated.get(hour_start(hour), 0),
                )
                for hour in range(first, end)
            }
            tables.write_hours(
                connection, account, known, {hour: state for hour, state in hours.items() if known.get(hour) != state}
            )
            changed = {row[0] for row in before ^ stated}
            ripe = {
                hour
                for hour, state in hours.items()
                if state.complete and (hour not in known or not known[hour].complete)
            }
            totals.revision += 1
            contents.touched.note(contents.revision, changed)
            if changed or ripe:
                schema.write(connection, schema.CHARGES_REVISION, str(contents.revision))
            self._rebook(connection, contents, account, changed | ripe, now)

    def restated(
        self, connection: Connection, contents: Contents, account: str, deltas: Iterable[CellRow], now: datetime
    ) -> None:
        """Take up hours anew whose charges have changed, in the transaction that changes them."""
        if account in contents.tags.accounts:
            self._rebook(connection, contents, account, {row[0] for row in deltas}, now)

    def hourly(self, window: Window) -> HourlyTags:
        """Return what every hour of a window cost by account, model and tags; what no tag explains is among it.

        Of hours before those that the ledger has nothing is tagged, whatever fal states of them.
        """
        contents = self._session().contents()
        numbers = range(hour_number(window.start), hour_number(window.end))
        found: HourlyTags = {hour: {} for hour in window.hours()}
        keys = contents.tags.keys
        with self._session().reading() as connection:
            for account in contents.tags.accounts:
                covered = _covered(contents, account)
                known_from = covered.start if covered else numbers.stop
                found_of = _allocated(connection, contents, account, numbers, keys, known_from=known_from)
                for hour, costs in found_of.items():
                    found[hour_start(hour)].update({(account, *place): cost for place, cost in costs.items()})
        return found

    def compared(self, account: str, month: Window, last_month: Window, until: datetime) -> TagComparison | None:
        """Compare a month with as many hours of the one before by each tag; None where spend is not read by tags.

        Both windows are those of `same_part`, up to the last hour from the start of the month on that has been read by
        tags for good: later ones are still called untagged.

        Args:
            account: all of whose last month is in the ledger.
            month: the running month.
            last_month: the month before.
            until: up to where the charges of the account are known.
        """
        contents = self._session().contents()
        keys = contents.tags.keys
        if not keys or account not in contents.tags.accounts:
            return None
        scopes = {scope.id: account for scope in contents.active_scopes() if scope.account == account}
        known_from = {account: hour_start(_covered(contents, account).start)}
        with self._session().reading() as connection:
            through = month.start
            if until > month.start:
                through = tables.read_until(connection, account, Window(month.start, until))
            windows = same_part(month, last_month, through)
            if windows is None:
                return TagComparison(lacking="the first hours of this month have not been read by tags yet")
            hours, missing = len(windows[0]), len(windows[0]) - tables.hours_read(connection, account, windows[0])
            if missing:
                return TagComparison(lacking=f"{missing:,} of {hours:,} hours of last month have not been read by tags")
            before, after = (
                _by_key(tables.tagged_sums(connection, scopes, _by_tags(window, keys), keys, known_from), keys)
                for window in windows
            )
        return TagComparison(windows[1].end, before, after)

    def take_up(self, contents: Contents) -> None:
        """Hold the counters of contents that have just been read."""
        self._holds.keep(contents.tags.counters)

    def scraped(self, sequence: int) -> None:
        """Note that a scrape has seen the view with this number."""
        self._holds.scraped(sequence)

    def figures(self, accounts: Collection[str], month: Window, lacking: frozenset[str], sequence: int) -> TagFigures:
        """Return the figures of this instant; counters whose hold is over are released with it.

        Args:
            accounts: those that are published.
            month: the running month.
            lacking: the accounts whose month is not covered.
            sequence: the view's number.
        """
        now, contents = self._clock(), self._session().contents()
        if not contents.tags.keys:
            return NO_TAGS
        due = self._holds.due(contents.tags.counters, now)
        if due:
            with self._session().writing() as (connection, contents):
                counters = contents.tags.counters
                states = {key: released(counters[key]) for key in due}
                tables.write_counters(connection, contents.tags.keys, states)
                counters.update(states)
            self._holds.end(due)
            self._holds.grew()
        self._holds.shown(sequence)
        contents = self._session().contents()
        shown = {key: counter for key, counter in contents.tags.counters.items() if key[0] in accounts}
        self._spend.replace_all(
            {key: Sample(_labels(key), counter.shown, counter.created_at) for key, counter in shown.items()}
        )
        self._pending.replace_all(
            {key: Sample(_labels(key), counter.pending) for key, counter in shown.items() if counter.pending}
        )
        self._sum_month(contents, [name for name in contents.tags.accounts if name in accounts], month, lacking)
        return self._figures.with_counters(contents.tags.keys, self._spend.pages(), self._pending.pages())

    def _sum_month(self, contents: Contents, accounts: Collection[str], month: Window, lacking: frozenset[str]) -> None:
        """Sum the month up anew where charges, tags or the month have changed."""
        before = self._summed
        hour = hour_of(self._clock())
        covered = {account: _covered(contents, account) for account in accounts}
        state = (contents.tags, contents.tags.revision, month, tuple(accounts), lacking, hour, covered)
        if before is not None and before[1:] == state and not _has_changed(contents, before[0]):
            return
        first, end = hour_number(month.start), hour_number(month.end)
        scopes = {scope.id: scope.account for scope in contents.active_scopes() if scope.account in accounts}
        with self._session().reading() as connection:
            stated = tables.stated_sums(connection, accounts, first, end)
            has = usage_sums(connection, scopes, UsageTerms(month, ("account", "model")))
            read = {account: _read_run(tables.read_hours(connection, account, first, end)) for account in accounts}
            both = {
                account: {hour: state for hour, state in hours.items() if hour in covered[account]}
                for account, hours in read.items()
            }
            differences = {
                account: _difference(connection, scopes, account, hours) for account, hours in both.items() if hours
            }
        keys = contents.tags.keys
        is_young = hour_number(hour) < first + READ_AFTER + 2
        tagged: dict[str, dict[Place, int]] = {account: {} for account in accounts}
        for _, account, model, _, tags, amounts in stated:
            place = model, tag_values(json.loads(tags), keys)
            tagged[account][place] = tagged[account].get(place, 0) + amounts.cost
        costs: dict[CounterKey, int] = {}
        for account in accounts:
            # A month of which an hour has not been read by tags yet would call it untagged for good.
            is_read = bool(read[account]) and min(read[account]) == first
            if account in lacking or not (is_read or is_young):
                continue
            of_model = {found.group[1]: found.amounts.cost for found in has if found.group[0] == account}
            for place, cost in allocated(of_model, tagged[account], len(keys)).items():
                key = self._place((account, *place), contents)
                costs[key] = costs.get(key, 0) + cost
        self._month.replace_all({key: Sample(_labels(key), costs[key]) for key in sorted(costs)})
        by_key: dict[tuple[str, ...], int] = {}
        for key, cost in costs.items():
            account, _, *values = _labels(key)
            for name, value in zip(contents.tags.keys, values, strict=True):
                by_key[account, name, value] = by_key.get((account, name, value), 0) + cost
        self._by_key.replace_all({key: Sample(key, by_key[key]) for key in sorted(by_key)})
        self._figures = TagFigures(
            month=self._month.pages(),
            by_key=self._by_key.pages(),
            through={account: hour_start(max(hours) + 1) for account, hours in read.items() if hours},
            difference=differences,
        )
        self._summed = (contents.revision, *state)

    def _place(self, key: CounterKey, contents: Contents) -> CounterKey:
        found = admitted(key, self._shown | contents.tags.counters.keys(), self._max_series)
        self._shown.add(found)
        return found

    def _rebook(
        self, connection: Connection, contents: Contents, account: str, hours: Collection[int], now: datetime
    ) -> None:
        """Have counters take up some hours as they are now; those that do not count are left out."""
        totals = contents.tags
        first = max(totals.accounts[account], contents.horizon)
        wanted = {hour for hour in hours if hour >= first}
        if not wanted:
            return
        state = tables.read_hours(connection, account, min(wanted), max(wanted) + 1)
        wanted = {hour for hour in wanted if hour in state and state[hour].complete}
        if not wanted:
            return
        keys = totals.keys
        costs: dict[tuple[int, CounterKey], int] = {}
        for hour, places in _allocated(connection, contents, account, wanted, keys).items():
            for place, cost in places.items():
                key = self._place((account, *place), contents)
                costs[hour, key] = costs.get((hour, key), 0) + cost
        items = {key: (key[1], COUNTER_UNIT, tags_text(keys, key[2])) for _, key in costs}
        numbers = Items(connection).numbers([*items.values()])
        key_of = {numbers[item]: key for key, item in items.items()}
        booked = tables.read_bookings(connection, account, wanted)
        after = {(hour, numbers[items[key]]): cost for (hour, key), cost in costs.items() if cost}
        gone = [cell for cell, cost in booked.items() if after.get(cell) != cost]
        new = {cell: cost for cell, cost in after.items() if booked.get(cell) != cost}
        tables.write_bookings(connection, account, gone, new)
        key_of |= tables.keys_of(connection, account, {item for _, item in gone} - key_of.keys(), keys)
        growth: dict[CounterKey, int] = {}
        for sign, cells in ((-1, {cell: booked[cell] for cell in gone}), (1, new)):
            for (_, item), cost in cells.items():
                growth[key_of[item]] = growth.get(key_of[item], 0) + sign * cost
        states = {
            key: advanced(totals.counters.get(key, Counter(0, 0, now, released=False)), by)
            for key, by in growth.items()
        }
        tables.write_counters(connection, keys, states)
        for key in states:
            if key not in totals.counters:
                self._holds.begin(key)
        if states:
            self._holds.grew()
        totals.counters.update(states)


def _by_tags(window: Window, keys: TagValues) -> UsageTerms:
    return UsageTerms(window, tuple(f"{TAG}{key}" for key in keys))


def _by_key(found: Iterable[UsageSum], keys: TagValues) -> dict[str, dict[str, int]]:
    """Return costs by one tag alone, from sums by all of them."""
    costs: dict[str, dict[str, int]] = {key: {} for key in keys}
    for summed in found:
        for key, value in zip(keys, summed.group, strict=True):
            costs[key][value] = costs[key].get(value, 0) + summed.amounts.cost
    return costs


def _labels(key: CounterKey) -> tuple[str, ...]:
    account, model, tags = key
    return account, model, *tags


def _has_changed(contents: Contents, revision: object) -> bool:
    touched = contents.touched.after(revision) if isinstance(revision, int) else None
    return touched is None or bool(touched)


def _scopes_of(contents: Contents, account: str) -> list[int]:
    return [scope.id for scope in contents.active_scopes() if scope.account == account]


def _covered(contents: Contents, account: str) -> range:
    """Return the numbers of the hours of which the ledger has everything that tags divide."""
    return hours_to_divide(contents.active_scopes(), account)


def _allocated(
    connection: Connection,
    contents: Contents,
    account: str,
    hours: Collection[int],
    keys: TagValues,
    *,
    known_from: int = 0,
) -> dict[int, dict[Place, int]]:
    """Return what some hours cost by model and tags; nothing is tagged of those before `known_from`."""
    costs = tables.costs_by_model(connection, _scopes_of(contents, account), hours)
    tagged = tables.costs_by_place(connection, account, hours, keys)
    return {
        hour: allocated(of_model, tagged[hour] if hour >= known_from else {}, len(keys))
        for hour, of_model in costs.items()
    }


def _read_run(hours: Mapping[int, TaggedHour]) -> dict[int, TaggedHour]:
    """Return the last run of consecutive hours that have been read for good."""
    complete = {hour: state for hour, state in hours.items() if state.complete}
    run: dict[int, TaggedHour] = {}
    for hour in sorted(complete, reverse=True):
        if run and hour + 1 not in run:
            break
        run[hour] = complete[hour]
    return run


def _difference(
    connection: Connection, scopes: Mapping[int, str], account: str, hours: Mapping[int, TaggedHour]
) -> int:
    """Return what fal states of some consecutive hours by tags, tagged or not, less what the ledger has of models."""
    window = Window(hour_start(min(hours)), hour_start(max(hours) + 1))
    its = {scope: name for scope, name in scopes.items() if name == account}
    found = usage_sums(connection, its, UsageTerms(window, ("model",)))
    has = sum(item.amounts.cost for item in found if item.group[0])
    return sum(state.stated for state in hours.values()) - has
