"""Running totals over the ledger, kept in memory, and the immutable view made of them.

The totals hold one number per label set and period, and one per counter; they are built from the database once, and a
restatement adds its deltas. What is laid out on pages here is what the exposition shows.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from exporter.calendar import PERIODS, Periods
from exporter.charges import Balance, Dimensions, Invoice, Team, Window, hour_number
from exporter.ledger.accounting.counters import COUNTED, Counter, CounterKey, Labels, LabelValues
from exporter.ledger.accounting.coverage import AccountCoverage, ScopeState
from exporter.ledger.accounting.key_labels import KeyRecord
from exporter.ledger.accounting.machines import NO_MACHINES, MachineFigures
from exporter.ledger.accounting.reconciliation import Reconciliation
from exporter.ledger.accounting.restatement import HourKind, SumsBySeries, merged
from exporter.ledger.accounting.tags import NO_TAGS, TagFigures
from exporter.samples import PagedTable, Pages, Sample


@dataclass(frozen=True, slots=True)
class PeriodTotals:
    """One account's spend in nano-USD; None where the window is not covered (see the module `coverage`)."""

    current_hour: int | None
    last_hour: int | None
    today: int | None
    last_day: int | None
    month_to_date: int | None
    last_month: int | None


@dataclass(frozen=True, slots=True)
class LedgerView:
    """The ledger's figures at an instant. Every table's values are in nano-units.

    The labels of a table are the configured labels; `quantity` has `unit` after them, and the tables of prices and
    discounts have account, product, model, app, gpu_class and unit. Counters carry the instant of their creation.

    A table of a window, `current_hour` to `gpu_time_surge_month_to_date`, has nothing of an account of which the window
    is not covered.

    Attributes:
        known_of_month: as `month_to_date`, but of every account whatever is known of its month.
        surge_month_to_date: the part of `month_to_date` that was charged at surge prices; likewise the GPU time. Only
            what has been sold at such prices in the periods shown has a sample.
        previous_prices: what a unit cost before its price changed last; only of those whose price has been seen to.
        price_changes: when: the start of the hour of the charge that showed it, in seconds since 1970 (not nano).
        discounts: the share taken off each unit price, in units of 10**-11 (100 * NANO of them are everything).
        previous_discounts, discount_changes: as for prices, of the discounts.
        revision: number of the ledger's state that the figures are of.
        keys: the API keys that fal has listed.
        keys_told_from: start of the first hour that was charged for with any key, by account.
        teams: as fal listed them last.
        first_seen: with account, product, model and app: the start of the hour of the first charge in seconds since
            1970 (not nano), retention notwithstanding; without those that may be older than the known history.
        machines: of the accounts whose charges are divided by the states of runners.
        tags: of the accounts whose spend is read by tags.
    """

    sequence: int
    at: datetime
    labels: tuple[str, ...]
    spend: Pages
    discount: Pages
    gpu_seconds: Pages
    quantity: Pages
    pending: Pages
    current_hour: Pages
    last_hour: Pages
    today: Pages
    last_day: Pages
    discount_last_day: Pages
    quantity_last_day: Pages
    month_to_date: Pages
    known_of_month: Pages
    last_month: Pages
    gpu_time_last_hour: Pages
    gpu_time_month_to_date: Pages
    surge_month_to_date: Pages
    gpu_time_surge_month_to_date: Pages
    unit_prices: Pages
    previous_prices: Pages
    price_changes: Pages
    discounts: Pages
    previous_discounts: Pages
    discount_changes: Pages
    first_seen: Pages
    scopes: tuple[ScopeState, ...]
    coverage: Mapping[str, AccountCoverage]
    totals: Mapping[str, PeriodTotals]
    balances: tuple[Balance, ...]
    invoices: tuple[Invoice, ...]
    reconciliations: tuple[Reconciliation, ...]
    charges: int
    label_sets: int
    overflowed_series: int
    born_at: datetime
    revision: int = 0
    keys: tuple[KeyRecord, ...] = ()
    keys_told_from: Mapping[str, datetime] = field(default_factory=dict)
    teams: tuple[Team, ...] = ()
    machines: MachineFigures = NO_MACHINES
    tags: TagFigures = NO_TAGS


GPU_PERIODS = ("last_hour", "month")
"""The periods for which GPU time is told; spend is told for all."""

SURGE_MEASURES = ("cost", "gpu_seconds")
"""Measures of surge that are published for the month."""

DAY_MEASURES = ("discount", "quantity")
"""Published beside the spend of the last 24 hours; a quantity by unit."""


class Place(NamedTuple):
    """Place at which a series is published."""

    label_set: int
    unit: str
    is_surge: bool = False


class Spent(NamedTuple):
    """Nano-USD and GPU nano-seconds; discount and quantity are read of the last 24 hours only."""

    cost: int
    gpu_seconds: int
    discount: int = 0
    quantity: int = 0


class SeriesSpend(NamedTuple):
    """Nano-USD and nano-units of one series in a window.

    Attributes:
        dimensions: all of them, its unit included.
        labels: values of the configured charge labels under which it is published.
    """

    dimensions: Dimensions
    labels: LabelValues
    cost: int
    quantity: int
    discount: int = 0


UnitKey = tuple[int, str]
"""A label set, and the unit of a quantity; empty for all else."""


@dataclass(slots=True)
class _Period:
    """The sums of one period, its bounds as hour numbers."""

    start: int = 0
    end: int = 0
    cost: dict[int, int] = field(default_factory=dict)
    gpu_seconds: dict[int, int] = field(default_factory=dict)
    accounts: dict[str, int] = field(default_factory=dict)
    surge: dict[str, dict[int, int]] = field(default_factory=lambda: {measure: {} for measure in SURGE_MEASURES})
    day: dict[str, dict[UnitKey, int]] = field(default_factory=lambda: {measure: {} for measure in DAY_MEASURES})


class Totals:
    """Sums per label set, and the tables made of them."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._accounts: Collection[str] = ()
        self._values: dict[int, LabelValues] = {}
        self._account_of: dict[int, str] = {}
        self._standing: set[int] = set()
        self._places: dict[int, Place] = {}
        self._counters: dict[CounterKey, Counter] = {}
        self._periods = {name: _Period() for name in PERIODS}
        self._counter_tables: dict[str, PagedTable[CounterKey]] = {measure: PagedTable() for measure in COUNTED}
        self._pending: PagedTable[CounterKey] = PagedTable()
        self._cost_tables: dict[str, PagedTable[int]] = {name: PagedTable() for name in PERIODS}
        self._gpu_tables: dict[str, PagedTable[int]] = {name: PagedTable() for name in GPU_PERIODS}
        self._surge_tables: dict[str, PagedTable[int]] = {measure: PagedTable() for measure in SURGE_MEASURES}
        self._day_tables: dict[str, PagedTable[UnitKey]] = {measure: PagedTable() for measure in DAY_MEASURES}

    @property
    def counters(self) -> Mapping[CounterKey, Counter]:
        """Every counter, those of accounts that are no longer configured too."""
        return self._counters

    @property
    def label_values(self) -> Mapping[int, LabelValues]:
        """The admitted label sets by number."""
        return self._values

    def place_of(self, series: int) -> Place:
        """Return where a series is published."""
        return self._places[series]

    def add_label_sets(self, values: Mapping[int, LabelValues]) -> None:
        """Take up label sets, in order of admission."""
        self._values.update(values)
        self._account_of.update({number: self._labels.account_of(value) for number, value in values.items()})
        self._standing.update(number for number, value in values.items() if self._labels.is_of_team(value))

    def charged(self, account: str) -> set[LabelValues]:
        """Return the label sets of an account that have been charged for in any of PERIODS."""
        return {
            self._values[number]
            for period in self._periods.values()
            for number in period.cost
            if self._account_of[number] == account
        }

    def show_at_zero(self, numbers: Collection[int]) -> None:
        """Show the spend of label sets without charges."""
        for number in numbers:
            for table in self._cost_tables.values():
                table.put(number, Sample(self._values[number], 0))

    def add_series(self, places: Mapping[int, Place]) -> None:
        """Take up series."""
        self._places.update(places)

    def show_accounts(self, accounts: Collection[str]) -> None:
        """Publish the counters of these accounts and no others."""
        self._accounts = frozenset(accounts)
        shown = {key: counter for key, counter in self._counters.items() if self._is_shown(key)}
        for measure, table in self._counter_tables.items():
            table.replace_all({key: self._sample(key, item) for key, item in shown.items() if key.measure == measure})
        self._pending.replace_all({key: self._wait(key, item) for key, item in shown.items() if key.measure == "cost"})

    def set_counters(self, counters: Mapping[CounterKey, Counter]) -> None:
        """Set the state of some counters."""
        self._counters.update(counters)
        for key, counter in counters.items():
            if self._is_shown(key):
                self._counter_tables[key.measure].put(key, self._sample(key, counter))
                if key.measure == "cost":
                    self._pending.put(key, self._wait(key, counter))

    def moved_periods(self, periods: Periods) -> dict[str, Window]:
        """Return the periods whose hours are not the ones that the totals have summed up."""
        return {
            name: window
            for name, window in periods.windows().items()
            if (self._periods[name].start, self._periods[name].end)
            != (hour_number(window.start), hour_number(window.end))
        }

    def set_periods(self, sums: Mapping[str, tuple[Window, Mapping[int, Spent]]]) -> None:
        """Set periods anew from sums per series of the active sources."""
        for name, (window, by_series) in sums.items():
            period = _Period(hour_number(window.start), hour_number(window.end))
            for series, spent in by_series.items():
                self._add(name, period, self._places[series], spent)
            self._periods[name] = period
        standing = {number for number in self._standing if self._account_of[number] in self._accounts}
        present = sorted(standing.union(*(period.cost for period in self._periods.values())))
        for name, table in self._cost_tables.items():
            table.replace_all({key: Sample(self._values[key], self._periods[name].cost.get(key, 0)) for key in present})
        self._lay_out_surge()
        burning = sorted(set().union(*(self._periods[name].gpu_seconds for name in GPU_PERIODS)))
        for name, table in self._gpu_tables.items():
            table.replace_all(
                {key: Sample(self._values[key], self._periods[name].gpu_seconds.get(key, 0)) for key in burning}
            )
        for measure, day_table in self._day_tables.items():
            keys = sorted(self._periods["last_day"].day[measure])
            day_table.replace_all({key: self._day_sample(measure, key) for key in keys})

    def periods_of(self, hour: int) -> tuple[str, ...]:
        """Return the names of the periods that an hour, by its number, lies in."""
        return tuple(name for name, period in self._periods.items() if period.start <= hour < period.end)

    def apply(self, sums: Mapping[HourKind, SumsBySeries]) -> None:
        """Add what the changes of a restatement add up to, to the periods they lie in."""
        touched: set[int] = set()
        burning: set[int] = set()
        units: set[UnitKey] = set()
        for names, by_series in merged(sums, lambda kind: kind.periods).items():
            for series, amounts in by_series.items() if names else ():
                spent = Spent(amounts.cost, amounts.gpu_seconds, amounts.discount, amounts.quantity)
                place = self._places[series]
                for name in names:
                    self._add(name, self._periods[name], place, spent)
                touched.add(place.label_set)
                units |= {(place.label_set, place.unit), (place.label_set, "")}
                if spent.gpu_seconds:
                    burning.add(place.label_set)
        for key in sorted(touched):
            for name, table in self._cost_tables.items():
                table.put(key, Sample(self._values[key], self._periods[name].cost.get(key, 0)))
        self._lay_out_surge()
        for key in sorted(burning):
            for name, table in self._gpu_tables.items():
                table.put(key, Sample(self._values[key], self._periods[name].gpu_seconds.get(key, 0)))
        self._lay_out_day(units)

    def counter_pages(self, measure: str) -> Pages:
        """Return the counters of one of the counted measures."""
        return self._counter_tables[measure].pages()

    def pending_pages(self) -> Pages:
        """Return by how much each spend counter is ahead of the truth."""
        return self._pending.pages()

    def cost_pages(self, period: str) -> Pages:
        """Return the spend of one of PERIODS."""
        return self._cost_tables[period].pages()

    def gpu_pages(self, period: str) -> Pages:
        """Return the GPU time of one of GPU_PERIODS."""
        return self._gpu_tables[period].pages()

    def surge_pages(self, measure: str) -> Pages:
        """Return the month's part that was sold at surge prices, of one of SURGE_MEASURES."""
        return self._surge_tables[measure].pages()

    def day_pages(self, measure: str) -> Pages:
        """Return one of DAY_MEASURES of the last 24 hours."""
        return self._day_tables[measure].pages()

    def by_account(self, coverage: Mapping[str, AccountCoverage]) -> dict[str, PeriodTotals]:
        """Return the spend of every account in the windows that are covered, in nano-USD."""
        return {
            account: PeriodTotals(
                *(self._periods[name].accounts.get(account, 0) if windows[name].is_whole else None for name in PERIODS)
            )
            for account, windows in coverage.items()
        }

    def _add(self, name: str, period: _Period, place: Place, spent: Spent) -> None:
        label_set = place.label_set
        period.cost[label_set] = period.cost.get(label_set, 0) + spent.cost
        account = self._account_of[label_set]
        period.accounts[account] = period.accounts.get(account, 0) + spent.cost
        if spent.gpu_seconds and name in GPU_PERIODS:
            period.gpu_seconds[label_set] = period.gpu_seconds.get(label_set, 0) + spent.gpu_seconds
        if place.is_surge and name == "month":
            for measure, sums in period.surge.items():
                sums[label_set] = sums.get(label_set, 0) + getattr(spent, measure)
        if name == "last_day":
            for measure, amount, unit in (("discount", spent.discount, ""), ("quantity", spent.quantity, place.unit)):
                if amount:
                    amounts = period.day[measure]
                    amounts[label_set, unit] = amounts.get((label_set, unit), 0) + amount

    def _lay_out_day(self, touched: set[UnitKey]) -> None:
        for measure, table in self._day_tables.items():
            for key in sorted(touched & self._periods["last_day"].day[measure].keys()):
                table.put(key, self._day_sample(measure, key))

    def _day_sample(self, measure: str, key: UnitKey) -> Sample:
        label_set, unit = key
        values = self._values[label_set]
        return Sample((*values, unit) if measure == "quantity" else values, self._periods["last_day"].day[measure][key])

    def _lay_out_surge(self) -> None:
        for measure, table in self._surge_tables.items():
            sums = self._periods["month"].surge[measure]
            table.replace_all({key: Sample(self._values[key], sums[key]) for key in sorted(sums)})

    def _is_shown(self, key: CounterKey) -> bool:
        return self._account_of[key.label_set] in self._accounts

    def _sample(self, key: CounterKey, counter: Counter) -> Sample:
        values = self._values[key.label_set]
        labels = (*values, key.unit) if key.measure == "quantity" else values
        return Sample(labels, counter.shown, counter.created_at)

    def _wait(self, key: CounterKey, counter: Counter) -> Sample:
        return Sample(self._values[key.label_set], counter.pending)
