"""The rules of accounting, held against a model so simple that it can be seen to be right.

The model keeps every charge in a dictionary and every counter as one number, forgets nothing, and has no database.
Whatever is done to both, they must show the same.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from profiles import examples
from sqlalchemy import event, select

from exporter.calendar import PERIODS
from exporter.charges import HOUR, NANO, SURGE, Amounts, Charge, Dimensions, RejectedRow, Window, hour_number, hour_of
from exporter.ledger import Ledger, LedgerView, Rules
from exporter.ledger.tables.schema import MEASURES, charges, rejected_rows, scopes, series, span_totals
from exporter.ledger.tables.span_totals import SPANS
from exporter.samples import Page, Pages, Sample

HOLD = timedelta(minutes=2)
SETTLE = timedelta(hours=48)
GRACE = timedelta(minutes=40)
MAX_SERIES = 5
LABELS = (
    ("account", "team", "model", "gpu_class"),
    ("model", "gpu_class", "team", "account"),
    ("account", "model", "app"),
)
STARTS = (
    datetime(2026, 3, 28, 22, 10, tzinfo=UTC),
    datetime(2026, 10, 24, 23, 59, tzinfo=UTC),
    datetime(2026, 12, 31, 17, 0, tzinfo=UTC),
    datetime(2028, 2, 28, 18, 29, tzinfo=UTC),
)
ZONES = ("UTC", "Europe/Berlin", "Asia/Kolkata", "America/New_York")
CONFIGURATIONS: tuple[dict[str, tuple[str, ...]], ...] = (
    {"a": ("models", "serverless")},
    {"a": ("models", "serverless"), "b": ("reporting",)},
    {"a": ("organization",), "b": ("reporting",)},
    {"a": ("models",)},
    {"b": ("reporting",)},
)
KINDS = [Dimensions("", team="blue", app="app1", gpu_class="A100", unit="second", surge=SURGE)] + [
    Dimensions("", team=team, model=model, app=app, gpu_class=gpu, unit=unit)
    for team, model, app, gpu, unit in (
        ("red", "m1", "", "H100", "second"),
        ("red", "m2", "", "", "image"),
        ("blue", "m3", "", "", "image"),
        ("blue", "", "app1", "A100", "second"),
        ("red", "m1", "", "H100", "minute"),
        ("red", "m4", "", "", "image"),
        ("blue", "m5", "", "B200", "second"),
    )
]

Scope = tuple[str, str]
Span = tuple[datetime, datetime]
Key = tuple[tuple[str, ...], str, str]

amount = st.one_of(st.integers(-5, 50), st.integers(-(2**62), 2**62))
few_amounts = st.builds(Amounts, amount, st.sampled_from([0, 7]), amount, st.sampled_from([0, 1]), amount)
charged = st.lists(st.tuples(st.integers(0, 5), st.sampled_from(KINDS), few_amounts), max_size=8)


@dataclass
class ModelCounter:
    created: datetime
    grown: int = 0
    released: bool = False
    published: int = 0
    first_shown: int | None = None


@dataclass
class ModelScope:
    active: bool = True
    counts_from: datetime = STARTS[0]
    cells: dict[tuple[datetime, Dimensions], Amounts] = field(default_factory=dict)
    folded: dict[Dimensions, Amounts] = field(default_factory=lambda: defaultdict(Amounts))
    folded_from: dict[Dimensions, datetime] = field(default_factory=dict)
    observed: dict[datetime, bool] = field(default_factory=dict)
    running_read: datetime | None = None
    up: int = 0
    down: int = 0
    hours: int = 0
    relabelled: int = 0
    rejected: dict[datetime, list[RejectedRow]] = field(default_factory=dict)
    unplaced: dict[datetime, set[str]] = field(default_factory=dict)
    """By hour the reasons of rows of an unknown hour that may be of it."""


class Model:
    """Expected state of the ledger."""

    def __init__(self, zone: ZoneInfo, labels: tuple[str, ...]) -> None:
        self.zone = zone
        self.labels = labels
        self.scopes: dict[Scope, ModelScope] = {}
        self.configuration: dict[str, tuple[str, ...]] = {}
        self.counters: dict[Key, ModelCounter] = {}
        self.places: dict[tuple[Scope, Dimensions], tuple[str, ...]] = {}
        self.admitted: dict[tuple[str, ...], None] = {}
        self.overflowed = 0
        self.horizon = datetime(1970, 1, 1, tzinfo=UTC)
        self.sequence = 0
        self.scraped = 0
        self.known_over: dict[str, list[datetime]] = {}

    def place(self, dimensions: Dimensions) -> tuple[str, ...]:
        wanted = tuple(getattr(dimensions, name) for name in self.labels)
        if wanted in self.admitted or len(self.admitted) < MAX_SERIES:
            self.admitted.setdefault(wanted)
            return wanted
        folded = tuple(
            "__other__" if value and name in {"model", "app"} else value
            for name, value in zip(self.labels, wanted, strict=True)
        )
        self.admitted.setdefault(folded)
        return folded

    def activate(self, configuration: dict[str, tuple[str, ...]], now: datetime) -> None:
        for account, sources in configuration.items():
            replaced = [
                scope
                for (owner, source), scope in self.scopes.items()
                if owner == account and scope.active and source not in sources
            ]
            covered = [hour for scope in replaced for hour in scope.observed]
            counts_from = min(now, max(covered) + HOUR) if covered else now
            for scope in replaced:
                scope.active = False
            for source in sources:
                known = self.scopes.get((account, source))
                if known is None:
                    self.scopes[account, source] = ModelScope(counts_from=counts_from)
                elif not known.active:
                    known.active, known.counts_from, known.observed, known.rejected = True, counts_from, {}, {}
                    known.unplaced = {}
                    known.running_read = None
        self.configuration = configuration

    def restate(
        self,
        name: Scope,
        window: Window,
        charges: list[Charge],
        at: datetime,
        now: datetime,
        *,
        rejected: Sequence[RejectedRow] = (),
    ) -> None:
        scope = self.scopes[name]
        after = self._guarded(name, window, self._entered(name, charges), rejected)
        grown: dict[Dimensions, Amounts] = {}
        base: dict[Dimensions, Amounts] = {}
        touched = set()
        moved = self._all_moved(name, [hour for hour in window.hours() if hour >= self.horizon], after)
        restated: dict[tuple[datetime, tuple[str, ...]], int] = defaultdict(int)
        restated |= {
            (hour, key[0]): -amount
            for (hour, key), amount in moved.items()
            if key[1] == "cost" and scope.observed.get(hour)
        }
        for hour in [hour for hour in window.hours() if hour >= self.horizon]:
            for kind in {dimensions for h, dimensions in [*scope.cells, *after] if h == hour}:
                before = scope.cells.pop((hour, kind), Amounts())
                now_is = after.get((hour, kind), Amounts())
                if (hour, kind) in after:
                    scope.cells[hour, kind] = now_is
                delta = Amounts(*(new - old for new, old in zip(now_is, before, strict=True)))
                if delta == Amounts():
                    continue
                side = base if hour < scope.counts_from and hour not in scope.observed else grown
                side[kind] = side.get(kind, Amounts()).plus(delta)
                if scope.observed.get(hour):
                    touched.add(hour)
                    restated[hour, self.places[name, kind]] += delta.cost
            scope.observed[hour] = scope.observed.get(hour, False) or hour < hour_of(at)
        scope.running_read = max(at, scope.running_read or at) if hour_of(at) in window else scope.running_read
        scope.hours += len(touched)
        scope.up += sum(max(change, 0) for change in restated.values())
        scope.down += sum(max(-change, 0) for change in restated.values())
        for side, counts in ((base, 0), (grown, 1)):
            for kind, amounts in side.items():
                self._count(self.places[name, kind], kind.unit, amounts, counts, now)
        self._book_moves(scope, moved)
        for counter in self.counters.values():
            if counter.released:
                counter.published = max(counter.published, counter.grown)

    def _book_moves(self, scope: ModelScope, moved: dict[tuple[datetime, Key], int]) -> None:
        """Let what moved be no growth, and no loss that a counter waits for."""
        for (_, key), amount in moved.items():
            self.counters[key].grown -= amount
            scope.relabelled += max(amount, 0) if key[1] == "cost" else 0

    def _guarded(
        self,
        name: Scope,
        window: Window,
        after: dict[tuple[datetime, Dimensions], Amounts],
        rejected: Sequence[RejectedRow],
    ) -> dict[tuple[datetime, Dimensions], Amounts]:
        """Return the cells of a window of which none that a rejected row may be of is lower than it was."""
        scope = self.scopes[name]
        for hour in [hour for hour in window.hours() if hour >= self.horizon]:
            rows = [row for row in rejected if row.hour in {None, hour}]
            scope.rejected[hour] = [row for row in rows if row.hour is not None]
            scope.unplaced[hour] = {row.reason for row in rows if row.hour is None}
            for cell, before in scope.cells.items():
                guards = [row for row in rows if cell[0] == hour and row.dimensions in {None, cell[1]}]
                if guards:
                    now_is = after.get(cell, Amounts())
                    is_lower = now_is.cost < before.cost and not all(row.is_counted for row in guards)
                    after[cell] = Amounts(
                        max(now_is.quantity, before.quantity),
                        max(now_is.gpu_seconds, before.gpu_seconds),
                        *(before[2:] if is_lower else now_is[2:]),
                    )
        return {cell: amounts for cell, amounts in after.items() if any(amounts)}

    def _all_moved(
        self, name: Scope, hours: list[datetime], after: dict[tuple[datetime, Dimensions], Amounts]
    ) -> dict[tuple[datetime, Key], int]:
        scope = self.scopes[name]
        counted = [hour for hour in hours if hour >= scope.counts_from or hour in scope.observed]
        return {(hour, key): amount for hour in counted for key, amount in self._moved(name, hour, after)}

    def _moved(
        self, name: Scope, hour: datetime, after: dict[tuple[datetime, Dimensions], Amounts]
    ) -> Iterator[tuple[Key, int]]:
        """Yield what moves between label sets within an hour, once for every measure and unit."""
        was, now_is = self._published(name, hour, self.scopes[name].cells), self._published(name, hour, after)
        for measure, unit in {key[1:] for key in [*was, *now_is]}:
            # What is cut off a share is carried to the label set that was admitted next.
            keys = [(values, measure, unit) for values in self.admitted if {*was, *now_is} & {(values, measure, unit)}]
            change = {key: now_is.get(key, 0) - was.get(key, 0) for key in keys}
            losing = [key for key in keys if change[key] < 0 and key not in now_is]
            gaining = [key for key in keys if change[key] > 0 and key not in was]
            if sum(change.values()) == 0 and set(was) & set(keys) != set(now_is) & set(keys):
                losing = [key for key in keys if change[key] < 0]
                gaining = [key for key in keys if change[key] > 0]
            lost, gained = (abs(sum(change[key] for key in side)) for side in (losing, gaining))
            for side, total in ((losing, lost), (gaining, gained)):
                sizes = accumulate(abs(change[key]) for key in side)
                shares = [0, *(size * min(lost, gained) // total for size in sizes)]
                for key, (start, end) in zip(side, pairwise(shares), strict=True):
                    yield key, end - start if side is gaining else start - end

    def _published(
        self, name: Scope, hour: datetime, cells: dict[tuple[datetime, Dimensions], Amounts]
    ) -> dict[Key, int]:
        """Return what a scope's cells of an hour add up to where they are published; what is there may be 0."""
        sums: dict[Key, int] = defaultdict(int)
        for (at, kind), amounts in cells.items():
            for measure in ("cost", "discount", "gpu_seconds", "quantity") if at == hour else ():
                unit = kind.unit if measure == "quantity" else ""
                sums[self.places[name, kind], measure, unit] += getattr(amounts, measure)
        return sums

    def _entered(self, name: Scope, charges: list[Charge]) -> dict[tuple[datetime, Dimensions], Amounts]:
        after: dict[tuple[datetime, Dimensions], Amounts] = {}
        for hour, dimensions, amounts in charges:
            if hour >= self.horizon and any(amounts):
                if (name, dimensions) not in self.places:
                    self.places[name, dimensions] = self.place(dimensions)
                    wanted = tuple(getattr(dimensions, label) for label in self.labels)
                    self.overflowed += self.places[name, dimensions] != wanted
                after[hour, dimensions] = after.get((hour, dimensions), Amounts()).plus(amounts)
        return {cell: amounts for cell, amounts in after.items() if any(amounts)}

    def _count(self, values: tuple[str, ...], unit: str, amounts: Amounts, counts: int, now: datetime) -> None:
        for measure in ("cost", "discount", "gpu_seconds", "quantity"):
            value = getattr(amounts, measure)
            if measure == "cost" or value:
                key = (values, measure, unit if measure == "quantity" else "")
                self.counters.setdefault(key, ModelCounter(now)).grown += counts * value

    def fold(self, horizon: datetime, now: datetime) -> None:
        hour = horizon if horizon == hour_of(horizon) else hour_of(horizon) + HOUR
        current = hour_of(now)
        while self.month_of(hour) >= self.month_before(self.month_of(current)):
            hour -= HOUR
        while self.month_of(hour) < self.month_before(self.month_of(current)) and hour < horizon:
            hour += HOUR
        if hour <= self.horizon:
            return
        self.horizon = hour
        for scope in self.scopes.values():
            for cell in [cell for cell in scope.cells if cell[0] < hour]:
                scope.folded[cell[1]] = scope.folded[cell[1]].plus(scope.cells.pop(cell))
                scope.folded_from[cell[1]] = min(cell[0], scope.folded_from.get(cell[1], cell[0]))
            scope.observed = {seen: complete for seen, complete in scope.observed.items() if seen >= hour}

    def reopen(self, labels: tuple[str, ...], now: datetime) -> None:
        self.sequence = self.scraped = 0
        for counter in self.counters.values():
            counter.first_shown = None
        if sorted(labels) == sorted(self.labels):
            turn = [self.labels.index(name) for name in labels]
            self.admitted = {tuple(values[place] for place in turn): None for values in self.admitted}
            self.places = {key: tuple(values[place] for place in turn) for key, values in self.places.items()}
            self.counters = {
                (tuple(key[0][place] for place in turn), *key[1:]): counter for key, counter in self.counters.items()
            }
        else:
            old, self.labels, self.admitted = dict(self.places), labels, {}
            counted, self.counters = self.counters, {}
            for (name, kind), values in old.items():
                self.places[name, kind] = self.place(kind)
                for measure in ("cost", "discount", "gpu_seconds", "quantity"):
                    unit = kind.unit if measure == "quantity" else ""
                    if (values, measure, unit) in counted:
                        self.counters[self.places[name, kind], measure, unit] = ModelCounter(now)
        self.labels = labels

    def view(self, now: datetime) -> None:
        self.sequence += 1
        for counter in self.counters.values():
            shown = counter.first_shown
            if not counter.released and shown is not None and shown <= self.scraped and counter.created + HOLD <= now:
                counter.released, counter.published = True, max(0, counter.grown)
            if shown is None:
                counter.first_shown = self.sequence

    def month_of(self, hour: datetime) -> tuple[int, int]:
        local = hour.astimezone(self.zone)
        return local.year, local.month

    def month_before(self, month: tuple[int, int]) -> tuple[int, int]:
        day = date(*month, 1) - timedelta(days=1)
        return day.year, day.month

    def is_in(self, period: str, hour: datetime, now: datetime) -> bool:
        current = hour_of(now)
        if period == "current_hour":
            return hour == current
        if period == "last_hour":
            return hour == current - HOUR
        if period == "last_day":
            return current - 24 * HOUR < hour <= current
        if period == "today":
            return hour.astimezone(self.zone).date() == current.astimezone(self.zone).date()
        month = self.month_of(current)
        return self.month_of(hour) == (month if period == "month" else self.month_before(month))

    def first_seen(self, known_from: dict[Scope, datetime | None]) -> dict[tuple[str, ...], float]:
        """Return the first hours of what is active, by when each scope's history begins."""
        found: dict[tuple[str, ...], datetime] = {}
        unsure = set()
        for name, since in known_from.items():
            scope = self.scopes[name]
            for hour, kind in [*scope.cells, *((hour, kind) for kind, hour in scope.folded_from.items())]:
                thing = (kind.account, kind.product, kind.model, kind.app)
                found[thing] = min(hour, found.get(thing, hour))
                if since is None or hour < since + timedelta(days=7):
                    unsure.add(thing)
        return {thing: hour.timestamp() for thing, hour in found.items() if thing not in unsure}

    def over(self, period: str, now: datetime) -> list[datetime]:
        """Return the hours of a period that are over."""
        if self.known_over.get("now") != [hour_of(now)]:
            self.known_over = {"now": [hour_of(now)], **{name: [] for name in PERIODS}}
            for hour in Window(hour_of(now) - 70 * 24 * HOUR, hour_of(now)).hours():
                for name in PERIODS:
                    if self.is_in(name, hour, now):
                        self.known_over[name].append(hour)
        return self.known_over[period]

    def coverage(self, account: str, period: str, now: datetime, spans: dict[Scope, Span | None]) -> tuple[int, int]:
        """Return how many hours of a period are over and covered by every source, and how many are over.

        Of a period of which no hour is over, 1 of 1 while a poll that read the current hour is young enough, else 0.

        Args:
            account: a configured one.
            period: its name.
            now: the instant.
            spans: the hours that each source has covered without a gap.
        """
        over = self.over(period, now)
        covered = set(over) or {now}
        for source in self.configuration[account]:
            scope, span = self.scopes[account, source], spans[account, source]
            read = scope.running_read
            is_young = read is not None and now - read <= GRACE
            if span is None or (not over and not is_young):
                return 0, len(over) or 1
            if over:
                known = {hour for hour in over if span[0] <= hour < span[1]}
                assert all(hour < self.horizon or scope.observed[hour] for hour in known)
                if read is not None and is_young and hour_of(read) == span[1]:
                    known.add(span[1])
                    assert span[1] in scope.observed
                covered &= known
        return len(covered), len(over) or 1

    def spent(self, period: str, measure: str, now: datetime, *, surge: bool = False) -> dict[tuple[str, ...], int]:
        sums: dict[tuple[str, ...], int] = defaultdict(int)
        for name, scope in self.scopes.items():
            if scope.active and name[1] in self.configuration.get(name[0], ()):
                for (hour, kind), amounts in scope.cells.items():
                    if self.is_in(period, hour, now) and (kind.surge or not surge):
                        sums[self.places[name, kind]] += getattr(amounts, measure)
        return {values: total for values, total in sums.items() if total}


@dataclass
class Followed:
    """The hours that a follower has read, up to which hour and revision of the ledger."""

    revision: int = -1
    end: datetime = STARTS[0]
    hours: dict[datetime, dict[int, int]] = field(default_factory=dict)

    def begun(self, end: datetime) -> Iterator[Window]:
        """Yield the hours that have begun since: they may have been charged before, when nobody read them."""
        if self.end < end:
            yield Window(self.end, end)


class InjectedError(Exception):
    """Failure that a test has caused."""


@contextmanager
def failing_at(ledger: Ledger, statement: int) -> Iterator[None]:
    """Let the n-th statement fail; the commit too where there are not so many."""
    engine = ledger._session._engine
    left = [statement]

    def before_statement(*_: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise InjectedError

    def before_commit(*_: object) -> None:
        raise InjectedError

    event.listen(engine, "before_cursor_execute", before_statement)
    event.listen(engine, "commit", before_commit)
    try:
        with pytest.raises(InjectedError):
            yield
    finally:
        event.remove(engine, "before_cursor_execute", before_statement)
        event.remove(engine, "commit", before_commit)


class Accounting(RuleBasedStateMachine):
    """Everything that can happen to a ledger, in any order."""

    new_address: ClassVar[Callable[[], str]]

    @initialize(
        zone=st.sampled_from(ZONES),
        start=st.sampled_from(STARTS),
        configuration=st.sampled_from(CONFIGURATIONS),
        labels=st.sampled_from(LABELS),
    )
    def begin(
        self, zone: str, start: datetime, configuration: dict[str, tuple[str, ...]], labels: tuple[str, ...]
    ) -> None:
        self.now = start
        self.folder = TemporaryDirectory()
        self.address = type(self).new_address() or f"sqlite:///{Path(self.folder.name) / 'ledger.sqlite'}"
        self.model = Model(ZoneInfo(zone), labels)
        self.seen: dict[Key, int] = {}
        self.followed = Followed()
        self.whole: dict[str, set[str]] = {}
        self.stamps: dict[Scope, tuple[datetime, datetime, datetime]] = {}
        self.ledger = self.open()
        self.reconfigure(configuration)

    def open(self) -> Ledger:
        rules = Rules(self.model.labels, MAX_SERIES, HOLD, SETTLE, self.model.zone, GRACE)
        return Ledger(self.address, rules=rules, clock=lambda: self.now)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()

    @rule(configuration=st.sampled_from(CONFIGURATIONS))
    def reconfigure(self, configuration: dict[str, tuple[str, ...]]) -> None:
        self.ledger.activate(configuration)
        active = {name for name, scope in self.model.scopes.items() if scope.active}
        self.model.activate(configuration, self.now)
        for name, scope in self.model.scopes.items():
            if scope.active and name not in active:
                self.stamps.pop(name, None)

    @rule(data=st.data(), charges=charged, again=st.booleans())
    def poll_the_last_hours(
        self, data: st.DataObject, charges: list[tuple[int, Dimensions, Amounts]], *, again: bool
    ) -> None:
        name, window, stated = self.answer(data, back=2, length=3, charges=charges)
        for _ in range(1 + again):
            self.ledger.restate(*name, window, stated, at=self.now)
            self.model.restate(name, window, stated, self.now, self.now)

    @rule(
        data=st.data(),
        back=st.one_of(st.integers(0, 8), st.integers(0, 60), st.integers(0, 1600)),
        length=st.integers(1, 6),
        charges=charged,
        late=st.integers(0, 90),
    )
    def poll_any_window(
        self,
        data: st.DataObject,
        back: int,
        length: int,
        charges: list[tuple[int, Dimensions, Amounts]],
        late: int,
    ) -> None:
        name, window, stated = self.answer(data, back, length, charges)
        at = max(self.now - timedelta(minutes=late), window.start)
        self.ledger.restate(*name, window, stated, at=at)
        self.model.restate(name, window, stated, at, self.now)

    @rule(
        data=st.data(),
        charges=charged,
        rejections=st.lists(
            st.tuples(
                st.integers(-1, 2), st.none() | st.sampled_from(KINDS), st.sampled_from(["unit", "text"]), st.booleans()
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def poll_the_last_hours_with_rejected_rows(
        self,
        data: st.DataObject,
        charges: list[tuple[int, Dimensions, Amounts]],
        rejections: list[tuple[int, Dimensions | None, str, bool]],
    ) -> None:
        """State some charges, and rows that cannot be read: of an hour or of any, of a kind or of any."""
        name, window, stated = self.answer(data, back=2, length=3, charges=charges)
        rejected = [
            RejectedRow(
                reason,
                None if place < 0 else window.start + place * HOUR,
                kind and kind._replace(account=name[0]),
                0 if is_counted else 7,
                is_counted,
            )
            for place, kind, reason, is_counted in rejections
        ]
        found = self.ledger.restate(*name, window, stated, at=self.now, rejected=rejected)
        self.model.restate(name, window, stated, self.now, self.now, rejected=rejected)
        assert sum(found.rejected.by_reason.values()) >= len(rejected)

    @rule(data=st.data(), turn=st.integers(1, len(KINDS) - 1), places=st.lists(st.integers(0, 7), max_size=8))
    def relabel_the_last_hours(self, data: st.DataObject, turn: int, places: list[int]) -> None:
        """State the same amounts again, some of them for something else."""
        name, window, _ = self.answer(data, back=2, length=3, charges=[])
        cells = sorted(pair for pair in self.model.scopes[name].cells.items() if pair[0][0] in window)
        stated = [
            (
                (hour - window.start) // HOUR,
                KINDS[(KINDS.index(kind._replace(account="")) + turn * (number in places)) % len(KINDS)],
                amounts,
            )
            for number, ((hour, kind), amounts) in enumerate(cells)
        ]
        _, _, charges = self.answer(data, back=2, length=3, charges=stated, name=name)
        self.ledger.restate(*name, window, charges, at=self.now)
        self.model.restate(name, window, charges, self.now, self.now)

    @rule(data=st.data(), charges=charged, back=st.sampled_from([30, 750, 1600]))
    def load_an_account(self, data: st.DataObject, charges: list[tuple[int, Dimensions, Amounts]], back: int) -> None:
        account = data.draw(st.sampled_from(sorted(self.model.configuration)))
        for source in self.model.configuration[account]:
            window = Window(hour_of(self.now) - back * HOUR, hour_of(self.now) + HOUR)
            stated = [
                Charge(hour_of(self.now) - place * HOUR, kind._replace(account=account), amounts)
                for place, kind, amounts in {
                    (place, kind): (place, kind, charge) for place, kind, charge in charges
                }.values()
            ]
            self.ledger.restate(account, source, window, stated, at=self.now)
            self.model.restate((account, source), window, stated, self.now, self.now)

    @rule(data=st.data(), charges=charged, fails_at=st.integers(1, 20))
    def fail_in_the_middle_of_a_poll(
        self, data: st.DataObject, charges: list[tuple[int, Dimensions, Amounts]], fails_at: int
    ) -> None:
        name, window, stated = self.answer(data, back=2, length=3, charges=charges)
        with failing_at(self.ledger, fails_at):
            self.ledger.restate(*name, window, stated, at=self.now)

    def answer(
        self,
        data: st.DataObject,
        back: int,
        length: int,
        charges: list[tuple[int, Dimensions, Amounts]],
        name: Scope | None = None,
    ) -> tuple[Scope, Window, list[Charge]]:
        """Return what some source states of a window; cells are within 64 bits, their sums need not be."""
        account, source = name or data.draw(
            st.sampled_from(
                [
                    (item, source)
                    for item in sorted(self.model.configuration)
                    for source in self.model.configuration[item]
                ]
            )
        )
        start = hour_of(self.now) - back * HOUR
        stated: list[Charge] = []
        sums: dict[tuple[datetime, Dimensions], Amounts] = {}
        for place, kind, amounts in charges:
            charge = Charge(start + (place % length) * HOUR, kind._replace(account=account), amounts)
            total = sums.get(charge[:2], Amounts()).plus(amounts)
            if all(-(2**63) <= value < 2**63 for value in total):
                sums[charge[:2]] = total
                stated.append(charge)
        return (account, source), Window(start, start + length * HOUR), stated

    @rule(by=st.one_of(st.integers(1, 70), st.integers(1, 180), st.sampled_from([1440, 10_000, 45_000])))
    def wait(self, by: int) -> None:
        self.now += timedelta(minutes=by)

    @rule()
    def wait_for_the_day_or_month_to_end(self) -> None:
        hour = hour_of(self.now)
        month = self.model.month_of(hour)
        while self.model.month_of(hour) == month:
            hour += HOUR
        self.now = hour

    @rule(minutes=st.sampled_from([0, 1, 2, 2, 2]))
    def scrape(self, minutes: int) -> None:
        self.ledger.scraped(self.model.sequence)
        self.model.scraped = self.model.sequence
        self.now += timedelta(minutes=minutes)

    @rule(labels=st.one_of(st.none(), st.none(), st.none(), st.sampled_from(LABELS)))
    def crash(self, labels: tuple[str, ...] | None) -> None:
        self.ledger.close()
        labels = labels or self.model.labels
        if labels != self.model.labels:
            self.seen.clear()
        self.model.reopen(labels, self.now)
        self.ledger = self.open()
        self.ledger.activate(self.model.configuration)

    @rule(days=st.integers(0, 90), minutes=st.integers(0, 60))
    def retain(self, days: int, minutes: int) -> None:
        horizon = self.now - timedelta(days=days, minutes=minutes)
        self.ledger.fold_before(horizon)
        self.model.fold(horizon, self.now)

    @precondition(lambda self: hasattr(self, "ledger"))
    @invariant()
    def shows_what_the_model_shows(self) -> None:
        view = self.ledger.view()
        self.model.view(self.now)
        self.check_counters(view)
        self.check_coverage(view)
        self.check_gauges(view)
        self.check_scopes(view)
        self.check_charges(view)
        self.check_totals()
        self.check_hours()

    def check_counters(self, view: LedgerView) -> None:
        shown: dict[Key, tuple[int, datetime]] = {}
        for measure, pages in (
            ("cost", view.spend),
            ("discount", view.discount),
            ("gpu_seconds", view.gpu_seconds),
            ("quantity", view.quantity),
        ):
            for sample in samples(pages):
                values, unit = (sample[0][:-1], sample[0][-1]) if measure == "quantity" else (sample[0], "")
                assert (values, measure, unit) not in shown, "a series is exposed once"
                shown[values, measure, unit] = (sample[1], sample[2])
        expected = {
            key: counter
            for key, counter in self.model.counters.items()
            if key[0][self.model.labels.index("account")] in self.model.configuration
        }
        truth = {key: (counter.published, counter.created) for key, counter in expected.items()}
        assert {key: item for key, item in shown.items() if truth.get(key) != item} == {
            key: item for key, item in truth.items() if shown.get(key) != item
        }
        assert {values: value for values, value, _ in samples(view.pending)} == {
            key[0]: max(counter.published - counter.grown, 0) for key, counter in expected.items() if key[1] == "cost"
        }
        for key, (value, _) in shown.items():
            assert value >= self.seen.get(key, 0), "a published counter never falls"
            self.seen[key] = value
        assert view.label_sets == len(self.model.admitted)
        assert view.overflowed_series == self.model.overflowed
        assert view.label_sets <= MAX_SERIES + 16

    def check_gauges(self, view: LedgerView) -> None:
        for period, measure, pages in (
            ("current_hour", "cost", view.current_hour),
            ("last_hour", "cost", view.last_hour),
            ("today", "cost", view.today),
            ("last_day", "cost", view.last_day),
            ("last_day", "discount", view.discount_last_day),
            ("month", "cost", view.month_to_date),
            ("last_month", "cost", view.last_month),
            ("last_hour", "gpu_seconds", view.gpu_time_last_hour),
            ("month", "gpu_seconds", view.gpu_time_month_to_date),
        ):
            self.check_table(period, measure, pages)
        quantities: dict[tuple[str, ...], int] = defaultdict(int)
        for values, value, _ in samples(view.quantity_last_day):
            quantities[values[:-1]] += value
        pages = (Page(tuple(Sample(values, value) for values, value in quantities.items())),)
        self.check_table("last_day", "quantity", pages)
        for measure, pages in (("cost", view.surge_month_to_date), ("gpu_seconds", view.gpu_time_surge_month_to_date)):
            self.check_table("month", measure, pages, surge=True)
        for account, totals in view.totals.items():
            total = sum(
                value
                for values, value in self.model.spent("month", "cost", self.now).items()
                if values[self.model.labels.index("account")] == account
            )
            assert totals.month_to_date == (total if account in self.whole["month"] else None)
        assert set(view.totals) == set(self.model.configuration)

    def check_coverage(self, view: LedgerView) -> None:
        spans = {
            (scope.account, scope.source): None
            if scope.history_from is None or scope.data_through is None
            else (scope.history_from, scope.data_through)
            for scope in view.scopes
        }
        assert set(view.coverage) == set(self.model.configuration)
        for period in PERIODS:
            self.whole[period] = set()
            for account, windows in view.coverage.items():
                covered, over = self.model.coverage(account, period, self.now, spans)
                assert windows[period].ratio == covered / over, (account, period)
                assert windows[period].is_whole == (covered == over)
                if covered == over:
                    self.whole[period].add(account)

    def check_table(self, period: str, measure: str, pages: Pages, *, surge: bool = False) -> None:
        """A table holds what the accounts whose window is whole have spent, and no sample of any other account."""
        place = self.model.labels.index("account")
        assert {values[place] for values, _, _ in samples(pages)} <= self.whole[period], period
        spent = self.model.spent(period, measure, self.now, surge=surge)
        truth = {values: amount for values, amount in spent.items() if values[place] in self.whole[period]}
        assert {values: value for values, value, _ in samples(pages) if value} == truth, period

    def check_scopes(self, view: LedgerView) -> None:
        shown = {(scope.account, scope.source): scope for scope in view.scopes}
        assert set(shown) == {(account, source) for account, its in self.model.configuration.items() for source in its}
        for name, state in shown.items():
            scope = self.model.scopes[name]
            assert (state.restated_up, state.restated_down, state.restated_hours) == (scope.up, scope.down, scope.hours)
            assert state.relabelled == scope.relabelled
            self.check_rejected(name, scope)
            if state.data_through is None or state.history_from is None:
                assert not scope.observed
                continue
            inside = Window(state.history_from, state.data_through) if state.history_from < state.data_through else ()
            if inside:
                assert all(scope.observed.get(hour) for hour in inside.hours() if hour >= self.model.horizon)
            assert not scope.observed.get(state.data_through)
            assert not scope.observed.get(state.history_from - HOUR)
            settled = state.settled_through or state.history_from
            assert settled <= max(state.data_through, state.history_from)
            assert state.settled_through is None or state.settled_through <= self.now - SETTLE
            before = self.stamps.get(name, (state.data_through, settled, state.history_from))
            assert state.data_through >= before[0]
            assert state.history_from <= before[2]
            assert state.settled_through is None or settled >= before[1] or before[1] == before[2]
            self.stamps[name] = (state.data_through, settled, state.history_from)

    def check_rejected(self, name: Scope, scope: ModelScope) -> None:
        """Check what is known of rejected rows whose hours are known; the others may be taken for one another.

        One of which a single hour is left that it may be of stands beside those of that hour.
        """
        with self.ledger._session.reading() as connection:
            found = connection.execute(
                select(rejected_rows.c.hour, rejected_rows.c.reason, rejected_rows.c.rows, rejected_rows.c.cost)
                .join(scopes, scopes.c.id == rejected_rows.c.scope_id)
                .where(scopes.c.account == name[0], scopes.c.source == name[1])
                .where(rejected_rows.c.end_hour == rejected_rows.c.hour + 1)
            ).all()
        kept: dict[tuple[int, str], list[int]] = defaultdict(list)
        for hour, rows in scope.rejected.items():
            for row in rows if hour >= self.model.horizon else ():
                kept[hour_number(hour), row.reason].append(row.cost)
        loose = {(hour_number(hour), reason) for hour, reasons in scope.unplaced.items() for reason in reasons}
        shown = {(hour, reason): (rows, cost) for hour, reason, rows, cost in found}
        expected = {key: (len(costs), sum(costs)) for key, costs in kept.items()}
        for key in shown.keys() | expected.keys():
            rows, cost = shown.get(key, (0, 0))
            least = expected.get(key, (0, 0))
            assert (rows, cost) == least or (key in loose and rows > least[0] and cost >= least[1]), key

    def check_charges(self, view: LedgerView) -> None:
        assert view.charges == sum(len(scope.cells) for scope in self.model.scopes.values())
        with self.ledger._session.reading() as connection:
            folded = [0] * len(MEASURES)
            for row in connection.execute(select(*(series.c[f"folded_{name}"] for name in MEASURES))):
                folded = [total + more for total, more in zip(folded, row, strict=True)]
        total = Amounts()
        for scope in self.model.scopes.values():
            for amounts in scope.folded.values():
                total = total.plus(amounts)
        assert tuple(folded) == total
        known_from = {(scope.account, scope.source): scope.history_from for scope in view.scopes}
        assert {values: value for values, value, _ in samples(view.first_seen)} == self.model.first_seen(known_from)

    def check_totals(self) -> None:
        with self.ledger._session.reading() as connection:
            truth: dict[tuple[int, ...], Amounts] = defaultdict(Amounts)
            counts: dict[tuple[int, ...], int] = defaultdict(int)
            for scope, hour, number, *amounts in connection.execute(select(charges)):
                for length in SPANS:
                    truth[scope, length, hour // length, number] = truth[scope, length, hour // length, number].plus(
                        Amounts(*amounts)
                    )
                    counts[scope, length, hour // length, number] += 1
            told = {
                tuple(row[:4]): (row[4], Amounts(*(row[at] * NANO + row[at + 1] for at in range(5, 15, 2))))
                for row in connection.execute(select(span_totals))
            }
        assert told == {key: (counts[key], amounts) for key, amounts in truth.items()}, (
            "totals are those of the charges"
        )

    def check_hours(self) -> None:
        """Compare what a follower has after reading only what was touched with what it would read anew."""
        since = Window(hour_of(self.now) - 48 * HOUR, hour_of(self.now) + HOUR)
        touched = self.ledger.touched_since(self.followed.revision)
        hours = {} if touched is None else self.followed.hours
        for window in [since] if touched is None else [*touched, *self.followed.begun(since.end)]:
            hours |= self.ledger.hourly(window)
        anew = self.ledger.hourly(since)
        assert {hour: by_series for hour, by_series in hours.items() if by_series and hour in since} == {
            hour: by_series for hour, by_series in anew.items() if by_series
        }
        kinds = self.ledger.dimensions()
        assert {(hour, kinds[number]): cost for hour, its in anew.items() for number, cost in its.items()} == {
            (hour, kind): amounts.cost
            for name, scope in self.model.scopes.items()
            if scope.active and name[1] in self.model.configuration.get(name[0], ())
            for (hour, kind), amounts in scope.cells.items()
            if hour in since
        }
        self.followed = Followed(self.ledger.revision, since.end, hours)


def samples(pages: Pages) -> Iterator[tuple[tuple[str, ...], int, datetime]]:
    for page in pages:
        yield from page.samples


class OnSqlite(Accounting):
    new_address = staticmethod(lambda: "")


def lives(number: int, steps: int) -> settings:
    """Return settings for so many lives of so many steps."""
    return settings(max_examples=number, stateful_step_count=steps, suppress_health_check=list(HealthCheck))


def test_an_hour_that_is_charged_before_it_begins_is_seen_when_it_has_begun() -> None:
    ledger = OnSqlite()
    ledger.begin(zone="UTC", start=STARTS[0], configuration={"a": ("models",)}, labels=LABELS[0])
    ahead = hour_of(ledger.now) + 3 * HOUR
    charge = Charge(ahead, KINDS[1]._replace(account="a"), Amounts(cost=7))
    window = Window(ahead, ahead + HOUR)
    ledger.ledger.restate("a", "models", window, [charge], at=ledger.now)
    ledger.model.restate(("a", "models"), window, [charge], ledger.now, ledger.now)
    ledger.shows_what_the_model_shows()
    ledger.crash(labels=None)  # a follower begins anew
    ledger.shows_what_the_model_shows()
    ledger.wait(180)
    ledger.shows_what_the_model_shows()
    ledger.teardown()


@pytest.mark.hypothesis
def test_the_ledger_on_sqlite_shows_what_the_model_shows() -> None:
    run_state_machine_as_test(OnSqlite, settings=lives(examples(3, long=80), steps=40))


@pytest.mark.hypothesis
def test_the_ledger_on_postgresql_shows_what_the_model_shows(empty_postgresql: Callable[[], str]) -> None:
    class OnPostgresql(Accounting):
        new_address = staticmethod(empty_postgresql)

    run_state_machine_as_test(OnPostgresql, settings=lives(examples(1, long=20), steps=25))
