"""Export of charges: of a window, and of the time before the counters were created.

All that is read is of one instant, and is streamed.

A counter begins at 0 and counts what the ledger learns from then on. What it leaves out is its history: all that is
known of its series, less what it has counted. This difference is exact whatever happened since: a charge of an hour
before the birth that came after it has been counted live, so it is no part of the history, although its hour is.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import itemgetter

from sqlalchemy import Connection, func, literal, select

from exporter.charges import (
    Amounts,
    Charge,
    Dimensions,
    Invoice,
    Window,
    first_hour_from,
    hour_number,
    hour_start,
)
from exporter.errors import LedgerError
from exporter.ledger.accounting.counters import LabelValues
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.key_labels import labelled
from exporter.ledger.accounting.tags import divided
from exporter.ledger.tables import machines, schema, tags
from exporter.ledger.tables import rows as ledger_rows
from exporter.ledger.tables.database import reading
from exporter.ledger.tables.keys import labels_of, read_keys
from exporter.ledger.tables.prices import PriceRecord, read_prices
from exporter.ledger.tables.rejected import rejected_hours
from exporter.ledger.tables.schema import (
    DIMENSIONS,
    MEASURES,
    charges,
    counters,
    label_sets,
    observed_hours,
    scopes,
    series,
)
from exporter.machines import STATES

_HOURS_OF_DAY = 24


@dataclass(frozen=True, slots=True)
class Coverage:
    """Coverage of a window by the ledger.

    Attributes:
        kept_from: the first hour whose charges are kept one by one, None where all are.
        missing: hours of the window that have not been covered to their end by every source, or of which rows cannot
            be read; all of it where an account has not been read at all.
    """

    kept_from: datetime | None
    missing: int


@dataclass(slots=True)
class TagCosts:
    """Cost of charges of models by what is known of their tags; nano-USD. All of them add up to the charges.

    Attributes:
        tagged: of requests with tags.
        untagged: without tags, of hours that have been read by tags for good: no tag explains it, or it is not certain
            whose it is.
        unread: without tags, of hours that have not been read by tags for good, so that some of it may get tags yet.
    """

    tagged: int = 0
    untagged: int = 0
    unread: int = 0


class Statement:
    """One state of the ledger, as long as its transaction is open."""

    def __init__(self, connection: Connection, account: str | None) -> None:
        self._connection = connection
        found = connection.execute(select(scopes.c.id, scopes.c.account).where(scopes.c.active)).all()
        configured = schema.accounts_of(schema.read(connection, schema.ACCOUNTS))
        self._accounts = {
            row[0]: str(row[1])
            for row in found
            if account in {None, row[1]} and (configured is None or row[1] in configured)
        }
        self._is_unread = not {*self._accounts.values()}.issuperset(
            name for name in configured or () if account in {None, name}
        )
        self._tag_keys: tuple[str, ...] = tuple(json.loads(schema.read(connection, tags.KEYS) or "[]"))
        self._tagged: tuple[int, Mapping[tags.TaggedCell, Mapping[str, Amounts]]] | None = None
        self._read_by_tags: set[tuple[str, int]] = set()
        self._tag_costs = TagCosts()

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts that the ledger counts, or the one that was asked for if it does."""
        return tuple(dict.fromkeys(self._accounts.values()))

    def charges(self, window: Window) -> Iterator[Charge]:
        """Yield the charges of a window in the order of their hours; sources that are no longer polled are left out.

        API keys have their labels.
        """
        labels = labels_of(read_keys(self._connection))
        named = {
            row[0]: labelled(Dimensions(self._accounts[row[1]], *row[2:]), labels)
            for row in self._connection.execute(
                select(series.c.id, series.c.scope_id, *(series.c[name] for name in DIMENSIONS)).where(
                    series.c.scope_id.in_(self._accounts)
                )
            )
        }
        amounts = [charges.c[name] for name in MEASURES]
        rows = self._connection.execute(
            select(charges.c.hour, charges.c.series_id, *amounts)
            .where(
                charges.c.scope_id.in_(self._accounts),
                charges.c.hour >= hour_number(window.start),
                charges.c.hour < hour_number(window.end),
            )
            .order_by(charges.c.hour, charges.c.scope_id, charges.c.series_id)
        )
        for row in rows:
            yield Charge(hour_start(row[0]), named[row[1]], Amounts(*row[2:]))

    def divide(self, charge: Charge) -> tuple[tuple[str, Amounts], ...]:
        """Divide a charge by the tags of its requests, as JSON text; what has none has the empty text.

        Only where that is certain: a charge that shares its hour, model and unit with another one (of another key,
        say) stays whole, as fal does not say whose requests were tagged. Charges are asked for in order of hours.
        """
        hour, of = hour_number(charge.hour), charge.dimensions
        if not self._tag_keys or of.product != "model_apis":
            return (("", charge.amounts),)
        day = hour // _HOURS_OF_DAY
        if self._tagged is None or self._tagged[0] != day:
            self._tagged = (
                day,
                tags.tagged_cells(
                    self._connection, self._accounts, day * _HOURS_OF_DAY, (day + 1) * _HOURS_OF_DAY, self._tag_keys
                ),
            )
            self._read_by_tags = {
                (account, number)
                for account in self.accounts
                for number, read in tags.read_hours(
                    self._connection, account, day * _HOURS_OF_DAY, (day + 1) * _HOURS_OF_DAY
                ).items()
                if read.complete
            }
        parts = divided(charge.amounts, self._tagged[1].get((of.account, hour, of.model, of.unit), {}))
        costs = self._tag_costs
        for text, amounts in parts:
            if text:
                costs.tagged += amounts.cost
            elif (of.account, hour) in self._read_by_tags:
                costs.untagged += amounts.cost
            else:
                costs.unread += amounts.cost
        return parts

    @property
    def tag_keys(self) -> tuple[str, ...]:
        """The keys of the tags that the ledger reads; none where it reads no tags."""
        return self._tag_keys

    def take_tag_costs(self) -> TagCosts:
        """Return the cost of what has been divided by tags since it was taken last."""
        taken, self._tag_costs = self._tag_costs, TagCosts()
        return taken

    def has_charges(self, window: Window) -> bool:
        """Return whether there is a charge in a window."""
        found = self._connection.execute(
            select(charges.c.hour)
            .where(
                charges.c.scope_id.in_(self._accounts),
                charges.c.hour >= hour_number(window.start),
                charges.c.hour < hour_number(window.end),
            )
            .limit(1)
        )
        return found.first() is not None

    def prices(self) -> Mapping[tuple[str, ...], PriceRecord]:
        """Return the newest unit prices, and how they changed last."""
        return read_prices(self._connection)

    def invoices(self) -> tuple[Invoice, ...]:
        """Return the invoices of the accounts, newest first."""
        return tuple(item for item in ledger_rows.read_invoices(self._connection) if item.account in self.accounts)

    def coverage(self, window: Window) -> Coverage:
        """Return what the ledger may lack of a window."""
        horizon = int(schema.read(self._connection, schema.HORIZON) or 0)
        kept_from = hour_start(horizon) if horizon else None
        if self._is_unread:
            return Coverage(kept_from, len(window))
        first, end = hour_number(window.start), hour_number(window.end)
        covered = self._connection.scalars(
            select(observed_hours.c.hour)
            .where(
                observed_hours.c.scope_id.in_(self._accounts),
                observed_hours.c.hour >= first,
                observed_hours.c.hour < end,
                observed_hours.c.complete,
            )
            .group_by(observed_hours.c.hour)
            .having(func.count() == len(self._accounts))
        )
        whole = {*covered} - rejected_hours(self._connection, self._accounts, first, end)
        return Coverage(kept_from, len(window) - len(whole))


@contextmanager
def open_statement(address: str, account: str | None = None) -> Iterator[Statement]:
    """Open the ledger to read one state of it: of all accounts, or of one.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    with reading(address) as connection:
        yield Statement(connection, account)


@dataclass(frozen=True, slots=True)
class Past:
    """History of one series of a family before its creation, in nano-units.

    Attributes:
        labels: the values of the ledger's labels; those of a quantity are followed by its unit.
        birth: when the live series began.
        known_from: number of the first hour from which on every hour has been covered.
        folded: the charges of the hours before the retention's horizon, all together.
        hours: what was charged in each hour that began before the birth, by the hour's number, ascending; not empty.
        total: what the live counter leaves out.
    """

    labels: LabelValues
    birth: datetime
    known_from: int
    folded: int
    hours: Mapping[int, int]
    total: int


@dataclass(frozen=True, slots=True)
class _Origin:
    """A scope as the history sees it.

    Attributes:
        birth: when the live series of its charges began.
        first_counted: number of the first hour that is counted live as a whole.
        is_reborn: whether it came back after others had taken its place, so that its counters hold hours of two lives.
    """

    scope: Scope
    birth: datetime
    first_counted: int
    is_reborn: bool


class History:
    """The history of some accounts, as reported by their active sources, as the gauges are.

    Raises:
        LedgerError: the ledger holds nothing of the accounts.
    """

    def __init__(self, connection: Connection, accounts: Collection[str]) -> None:
        self._connection = connection
        self.labels: LabelValues = tuple(json.loads(schema.read(connection, schema.LABELS) or "[]"))
        self._horizon = int(schema.read(connection, schema.HORIZON) or 0)
        self._origins = _origins(connection, accounts)
        if not self._origins:
            raise LedgerError(f"the ledger contains nothing of {', '.join(sorted(accounts))} yet; run serve first")
        self._active = [number for number, origin in self._origins.items() if origin.scope.active]
        self._scopes_of = self._read_scopes_of_label_sets()

    @property
    def label_sets(self) -> int:
        """Number of label sets of the accounts."""
        return len(self._scopes_of)

    @property
    def first_hour(self) -> int | None:
        """The number of the first hour whose charges are kept; None without any."""
        first: int | None = self._connection.scalar(
            select(func.min(charges.c.hour)).where(charges.c.scope_id.in_(self._active))
        )
        return first

    @property
    def last_birth(self) -> datetime:
        """Start of the youngest live series."""
        return max(origin.birth for origin in self._origins.values())

    def pasts(self, measure: str) -> Iterator[Past]:
        """Yield what is known of one of `schema.MEASURES`, one series after the other.

        The database sorts, and one series at a time is in memory, whatever the ledger's size.
        """
        unit = series.c.unit if measure == "quantity" else literal("")
        values = ledger_rows.read_label_sets(self._connection)
        grown = self._read_grown(measure)
        folded = self._read_folded(measure)
        rows = self._connection.execute(
            select(series.c.label_set_id, unit.label("unit"), charges.c.scope_id, charges.c.hour, charges.c[measure])
            .join(series, series.c.id == charges.c.series_id)
            .where(charges.c.scope_id.in_(self._origins), charges.c[measure] != 0)
            .order_by(series.c.label_set_id, "unit", charges.c.hour)
        )
        for key, cells in groupby(rows, key=itemgetter(0, 1)):
            origins = [self._origins[scope] for scope in self._scopes_of.get(key[0], ())]
            if not origins:
                continue
            birth = min(origin.birth for origin in origins)
            hours, counted = self._told(((cell[2], cell[3], cell[4]) for cell in cells), first_hour_from(birth))
            if not hours:
                continue
            before = folded.get(key, 0)
            known = before + sum(hours.values())
            yield Past(
                labels=(*values[key[0]], key[1]) if measure == "quantity" else values[key[0]],
                birth=birth,
                known_from=max(self._horizon, *(_known_from(origin) for origin in origins)),
                folded=before,
                hours=hours,
                total=known if any(origin.is_reborn for origin in origins) else known + counted - grown.get(key, 0),
            )

    def states(self) -> Iterator[Past]:
        """Yield what runners of apps cost by what they did, one series after the other; the state is the last label.

        Hours of which fal has not been asked for runners yet are left out: that they are unknown may not last.
        """
        accounts = machines.read_accounts(self._connection)
        named = machines.read_series(self._connection)
        found = machines.read_state_costs(self._connection, self._active)
        for number, cells in groupby(found, key=itemgetter(0)):
            account = named[number][0]
            through = accounts[account].runners_through if account in accounts else None
            if through is None:
                continue
            origins = [self._origins[scope] for scope in self._active if self._origins[scope].scope.account == account]
            birth = min(origin.birth for origin in origins)
            end = min(first_hour_from(birth), through)
            hours: dict[str, dict[int, int]] = {state: {} for state in STATES}
            for _, hour, parts in cells:
                for state, cost in zip(STATES, parts, strict=True):
                    if cost and hour < end:
                        hours[state][hour] = hours[state].get(hour, 0) + cost
            known_from = max(self._horizon, *(_known_from(origin) for origin in origins))
            for state, of in hours.items():
                if of:
                    yield Past((*named[number], state), birth, known_from, folded=0, hours=of, total=sum(of.values()))

    def _told(self, cells: Iterable[tuple[int, int, int]], birth: int) -> tuple[dict[int, int], int]:
        """Return the charges of the hours that began before the birth, and the sum of those that are counted live."""
        hours: dict[int, int] = {}
        counted = 0
        for scope, hour, amount in cells:
            origin = self._origins[scope]
            if hour >= origin.first_counted:
                counted += amount
            elif hour < birth and origin.scope.active:
                hours[hour] = hours.get(hour, 0) + amount
        return hours, counted

    def _read_scopes_of_label_sets(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for label_set, scope in self._connection.execute(
            select(series.c.label_set_id, series.c.scope_id).where(series.c.scope_id.in_(self._active)).distinct()
        ):
            found.setdefault(label_set, []).append(scope)
        return found

    def _read_grown(self, measure: str) -> dict[tuple[int, str], int]:
        rows = self._connection.execute(
            select(counters.c.label_set_id, counters.c.unit, counters.c.grown).where(counters.c.measure == measure)
        )
        return {(row[0], row[1]): row[2] for row in rows}

    def _read_folded(self, measure: str) -> dict[tuple[int, str], int]:
        column = series.c[f"folded_{measure}"]
        sums: dict[tuple[int, str], int] = {}
        for label_set, unit, amount in self._connection.execute(
            select(series.c.label_set_id, series.c.unit, column).where(series.c.scope_id.in_(self._active), column != 0)
        ):
            key = (label_set, unit if measure == "quantity" else "")
            sums[key] = sums.get(key, 0) + amount
        return sums


def _origins(connection: Connection, accounts: Collection[str]) -> dict[int, _Origin]:
    scopes = [scope for scope in ledger_rows.read_scopes(connection) if scope.account in accounts]
    changed_over = _changed_over_at(connection)
    origins = {}
    for scope in scopes:
        # A source that took the place of others has a history up to where the first of them began to count.
        births = [item.born_at for item in scopes if item.account == scope.account and not item.active] + [
            scope.born_at
        ]
        since = max(scope.counts_from, changed_over or scope.counts_from)
        origins[scope.id] = _Origin(
            scope=scope,
            birth=max(min(births), changed_over or min(births)),
            first_counted=first_hour_from(since),
            is_reborn=since > max(scope.born_at, changed_over or scope.born_at),
        )
    return origins


def _changed_over_at(connection: Connection) -> datetime | None:
    """Return when all counters started at 0 again under other labels; None if they never did.

    A change of labels gives all label sets new numbers and births their counters at that instant.
    """
    first = connection.scalar(select(func.min(label_sets.c.id)))
    if first is None or first == 1:
        return None
    began: datetime | None = connection.scalar(select(func.min(counters.c.created_at)))
    return began


def _known_from(origin: _Origin) -> int:
    start = origin.scope.history_from
    return origin.first_counted if start is None else hour_number(start)
