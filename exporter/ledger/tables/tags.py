"""Tags in the database: spend by tags as fal states it, what counters have taken up of it, and the counters.

All of it since version 5. Tags stand as JSON objects, so that a change of the configured keys leaves what is stored as
it is. Questions about usage by tags are answered here too: the sums of the ledger, divided as fal allocates them.
"""

import collections
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    func,
    select,
)

from exporter.calendar import bucket_start
from exporter.charges import NANO, NOTHING, Amounts, Window, hour_number, hour_start
from exporter.ledger.accounting.counters import Counter
from exporter.ledger.accounting.tags import Place, untagged
from exporter.ledger.tables.database import write_many
from exporter.ledger.tables.schema import ExactSum, Instant, charges, metadata, microseconds, series
from exporter.ledger.tables.span_totals import UsageSum, UsageTerms, usage_sums
from exporter.tags import TAG, UNTAGGED, TagValues, tag_values, tags_text

tag_accounts = Table(
    "tag_account",
    metadata,
    Column("account", Text, primary_key=True),
    Column("counts_from", Integer, nullable=False),
)
"""Accounts whose spend is read by tags; hours before `counts_from` are history, which counters leave out."""

tag_items = Table(
    "tag_item",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("tags", Text, nullable=False),
    UniqueConstraint("model", "unit", "tags"),
)
"""Tagged series: a model with the tags of its requests, and the unit of its quantity; empty for a counter."""

tagged_hours = Table(
    "tagged_hour",
    metadata,
    Column("account", Text, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("complete", Boolean, nullable=False),
    Column("stated", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Hours that have been read by tags; `stated` is what fal states of all requests, tagged or not."""

_MEASURES = ("quantity", "list_cost", "discount", "cost")

tagged_charges = Table(
    "tagged_charge",
    metadata,
    Column("account", Text, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("item_id", ForeignKey("tag_item.id"), primary_key=True, autoincrement=False),
    *(Column(name, BigInteger, nullable=False) for name in _MEASURES),
    sqlite_with_rowid=False,
)
"""Amounts of an hour that had tags, as fal states them."""

tagged_bookings = Table(
    "tagged_booking",
    metadata,
    Column("account", Text, primary_key=True),
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("item_id", ForeignKey("tag_item.id"), primary_key=True, autoincrement=False),
    Column("cost", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""Amounts that counters have taken up of an hour, those without tags included."""

tagged_counters = Table(
    "tagged_counter",
    metadata,
    Column("account", Text, primary_key=True),
    Column("item_id", ForeignKey("tag_item.id"), primary_key=True, autoincrement=False),
    Column("grown", ExactSum, nullable=False),
    Column("published", ExactSum, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("released", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""Counters of spend by tags."""

TABLES = (tag_accounts, tag_items, tagged_hours, tagged_charges, tagged_bookings, tagged_counters)
"""All of them, in the order in which they can be created."""

KEYS = "tags"
"""Fact: the configured keys, a JSON array."""

COUNTER_UNIT = ""


@dataclass(frozen=True, slots=True)
class TaggedHour:
    """Last reading of an hour by tags; `stated` is nano-USD of all requests."""

    complete: bool
    stated: int


class Items:
    """The items of the database by what they are.

    Args:
        connection: in a transaction that writes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known = {tuple(row[1:]): row[0] for row in connection.execute(select(tag_items))}

    def numbers(self, wanted: Collection[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
        """Return the numbers of items: model, unit and tags as JSON; new ones are added."""
        following = max(self._known.values(), default=0) + 1
        new = dict(zip(sorted({*wanted} - self._known.keys()), range(following, following + len(wanted)), strict=False))
        write_many(self._connection, tag_items.insert(), [(number, *item) for item, number in new.items()])
        self._known.update(new)
        return {item: self._known[item] for item in wanted}


def read_accounts(connection: Connection) -> dict[str, int]:
    """Return the first hour that counts of each account."""
    return {row[0]: row[1] for row in connection.execute(select(tag_accounts))}


def write_account(connection: Connection, account: str, counts_from: int) -> None:
    """Save from which hour on an account counts."""
    connection.execute(tag_accounts.delete().where(tag_accounts.c.account == account))
    connection.execute(tag_accounts.insert(), {"account": account, "counts_from": counts_from})


def read_hours(connection: Connection, account: str, first: int, end: int) -> dict[int, TaggedHour]:
    """Return the hours in [first, end) that have been read by tags."""
    table = tagged_hours.c
    found = connection.execute(
        select(table.hour, table.complete, table.stated).where(
            table.account == account, table.hour >= first, table.hour < end
        )
    )
    return {row[0]: TaggedHour(row[1], row[2]) for row in found}


def write_hours(connection: Connection, account: str, known: Collection[int], hours: Mapping[int, TaggedHour]) -> None:
    """Save hours in place of those that are known."""
    table = tagged_hours.c
    for hour in known:
        if hour in hours:
            connection.execute(tagged_hours.delete().where(table.account == account, table.hour == hour))
    write_many(
        connection,
        tagged_hours.insert(),
        [(account, hour, state.complete, state.stated) for hour, state in hours.items()],
    )


StatedRow = tuple[int, int, int, int, int, int]
"""Hour, item, quantity, list cost, discount and cost."""


def read_charges(connection: Connection, account: str, first: int, end: int) -> set[StatedRow]:
    """Return what was stated of the hours in [first, end)."""
    table = tagged_charges.c
    found = connection.execute(
        select(table.hour, table.item_id, *(table[name] for name in _MEASURES)).where(
            table.account == account, table.hour >= first, table.hour < end
        )
    )
    return {(row[0], row[1], row[2], row[3], row[4], row[5]) for row in found}


def write_charges(connection: Connection, account: str, gone: Iterable[StatedRow], new: Iterable[StatedRow]) -> None:
    """Remove rows, then save others."""
    table = tagged_charges.c
    for hour, item in sorted({(row[0], row[1]) for row in gone}):
        connection.execute(
            tagged_charges.delete().where(table.account == account, table.hour == hour, table.item_id == item)
        )
    write_many(connection, tagged_charges.insert(), [(account, *row) for row in sorted(new)])


def costs_by_place(
    connection: Connection, account: str, hours: Collection[int], keys: TagValues
) -> dict[int, dict[Place, int]]:
    """Return what was stated of some hours by model and tags, by hour."""
    table = tagged_charges.c
    found: dict[int, dict[Place, int]] = {hour: {} for hour in hours}
    for hour, model, tags, cost in connection.execute(
        select(table.hour, tag_items.c.model, tag_items.c.tags, table.cost)
        .join(tag_items, tag_items.c.id == table.item_id)
        .where(table.account == account, table.hour >= min(hours, default=0), table.hour <= max(hours, default=-1))
    ):
        if hour in found:
            place = model, tag_values(json.loads(tags), keys)
            found[hour][place] = found[hour].get(place, 0) + cost
    return found


def costs_by_model(
    connection: Connection, scopes: Collection[int], hours: Collection[int]
) -> dict[int, dict[str, int]]:
    """Return what the ledger has of some hours by model, by hour; what is of no model has the empty name."""
    table = charges.c
    found: dict[int, dict[str, int]] = {hour: {} for hour in hours}
    for hour, model, cost in connection.execute(
        select(table.hour, series.c.model, table.cost)
        .join(series, series.c.id == table.series_id)
        .where(table.scope_id.in_(scopes), table.hour >= min(hours, default=0), table.hour <= max(hours, default=-1))
    ):
        if hour in found:
            found[hour][model] = found[hour].get(model, 0) + cost
    return found


def read_bookings(connection: Connection, account: str, hours: Collection[int]) -> dict[tuple[int, int], int]:
    """Return what counters have taken up of some hours, by hour and item."""
    table = tagged_bookings.c
    found = connection.execute(
        select(table.hour, table.item_id, table.cost).where(
            table.account == account, table.hour >= min(hours, default=0), table.hour <= max(hours, default=-1)
        )
    )
    return {(row[0], row[1]): row[2] for row in found if row[0] in hours}


def write_bookings(
    connection: Connection, account: str, gone: Iterable[tuple[int, int]], new: Mapping[tuple[int, int], int]
) -> None:
    """Remove bookings, then save others."""
    table = tagged_bookings.c
    for hour, item in gone:
        connection.execute(
            tagged_bookings.delete().where(table.account == account, table.hour == hour, table.item_id == item)
        )
    write_many(
        connection, tagged_bookings.insert(), [(account, hour, item, cost) for (hour, item), cost in new.items()]
    )


CounterKey = tuple[str, str, TagValues]
"""Account, model and values of the tags."""


def keys_of(connection: Connection, account: str, items: Collection[int], keys: TagValues) -> dict[int, CounterKey]:
    """Return the counters' keys of some items."""
    found = connection.execute(
        select(tag_items.c.id, tag_items.c.model, tag_items.c.tags).where(tag_items.c.id.in_(items))
    )
    return {row[0]: (account, row[1], tag_values(json.loads(row[2]), keys)) for row in found}


def read_counters(connection: Connection, keys: TagValues) -> dict[CounterKey, Counter]:
    """Return every counter, in the order of the accounts and items."""
    table = tagged_counters.c
    found = connection.execute(
        select(
            table.account,
            tag_items.c.model,
            tag_items.c.tags,
            table.grown,
            table.published,
            table.created_at,
            table.released,
        )
        .join(tag_items, tag_items.c.id == table.item_id)
        .order_by(table.account, table.item_id)
    )
    return {(row[0], row[1], tag_values(json.loads(row[2]), keys)): Counter(*row[3:]) for row in found}


def write_counters(connection: Connection, keys: TagValues, counters: Mapping[CounterKey, Counter]) -> None:
    """Save counters in place of their earlier states."""
    if not counters:
        return
    items = {key: (key[1], COUNTER_UNIT, tags_text(keys, key[2])) for key in counters}
    numbers = Items(connection).numbers([*items.values()])
    table = tagged_counters.c
    for key in counters:
        connection.execute(
            tagged_counters.delete().where(table.account == key[0], table.item_id == numbers[items[key]])
        )
    write_many(
        connection,
        tagged_counters.insert(),
        [
            (
                key[0],
                numbers[items[key]],
                str(state.grown),
                str(state.published),
                microseconds(state.created_at),
                state.released,
            )
            for key, state in counters.items()
        ],
    )


def forget_counted(connection: Connection) -> None:
    """Forget what has been counted, of all accounts: counters of other tags begin anew."""
    for table in (tagged_counters, tagged_bookings, tag_accounts):
        connection.execute(table.delete())


def forget_before(connection: Connection, horizon: int) -> None:
    """Forget hours before the retention's horizon; counters keep them."""
    for table in (tagged_hours, tagged_charges, tagged_bookings):
        connection.execute(table.delete().where(table.c.hour < horizon))


TaggedSum = tuple[int, str, str, str, str, Amounts]
"""Hour, or -1 where all hours are one sum; account, model, unit, tags as JSON, and what was stated."""


def stated_sums(
    connection: Connection, accounts: Collection[str], first: int, end: int, *, by_hour: bool = False
) -> list[TaggedSum]:
    """Add up what was stated of the hours in [first, end)."""
    table = tagged_charges.c
    halves = [half for name in _MEASURES for half in (func.sum(table[name] // NANO), func.sum(table[name] % NANO))]
    key = [table.account, tag_items.c.model, tag_items.c.unit, tag_items.c.tags]
    hour = [table.hour] if by_hour else []
    found = connection.execute(
        select(*hour, *key, *halves)
        .join(tag_items, tag_items.c.id == table.item_id)
        .where(table.account.in_(accounts), table.hour >= first, table.hour < end)
        .group_by(*hour, *key)
    )
    summed = []
    for row in found.all():
        at, rest = (row[0], row[1:]) if by_hour else (-1, row)
        account, model, unit, tags, *parts = rest
        quantity, list_cost, discount, cost = (
            int(high) * NANO + int(low) for high, low in zip(parts[::2], parts[1::2], strict=True)
        )
        summed.append((at, account, model, unit, tags, Amounts(quantity, 0, list_cost, discount, cost)))
    return summed


TaggedCell = tuple[str, int, str, str]
"""Account, hour, model and unit."""


def tagged_cells(
    connection: Connection, accounts: Mapping[int, str], first: int, end: int, keys: TagValues
) -> dict[TaggedCell, dict[str, Amounts]]:
    """Return what was stated of the hours in [first, end) by tags as text, of cells that the ledger has one charge of.

    Args:
        connection: in a transaction.
        accounts: of the scopes that count.
        first: number of the first hour.
        end: number of the hour after the last.
        keys: of the tags that are wanted.
    """
    count: dict[TaggedCell, int] = {}
    for scope, hour, model, unit in connection.execute(
        select(charges.c.scope_id, charges.c.hour, series.c.model, series.c.unit)
        .join(series, series.c.id == charges.c.series_id)
        .where(charges.c.scope_id.in_(accounts), charges.c.hour >= first, charges.c.hour < end)
        .where(series.c.product == "model_apis")
    ).all():
        cell = accounts[scope], hour, model, unit
        count[cell] = count.get(cell, 0) + 1
    found: dict[TaggedCell, dict[str, Amounts]] = {}
    for hour, account, model, unit, text, amounts in stated_sums(
        connection, {*accounts.values()}, first, end, by_hour=True
    ):
        cell = account, hour, model, unit
        shown = tags_text(keys, tag_values(json.loads(text), keys))
        if count.get(cell) == 1 and shown != "{}":
            parts = found.setdefault(cell, {})
            parts[shown] = parts.get(shown, Amounts()).plus(amounts)
    return found


_UsageCell = tuple[datetime | None, str, str]
"""Start of a bucket, account and model."""


def tagged_sums(
    connection: Connection,
    accounts: Mapping[int, str],
    terms: UsageTerms,
    keys: TagValues,
    known_from: Mapping[str, datetime],
) -> tuple[UsageSum, ...]:
    """Add up charges by tags; what no tag explains has the value `untagged`, and is below zero where fal tags more.

    Args:
        connection: in a transaction, so that all is of one instant.
        accounts: of the scopes that count.
        terms: of the question, by account, model, and keys of tags behind `tag:`.
        keys: those of the tags that the ledger reads.
        known_from: the first hour from which on the ledger has what tags divide, by account; of earlier ones nothing
            is told by tags, as it would be taken from what the ledger does not have.
    """
    charged = {name: values for name, values in terms.where.items() if not name.startswith(TAG)}
    wanted = {name: values for name, values in terms.where.items() if name.startswith(TAG)}
    sums: defaultdict[tuple[datetime | None, tuple[str, ...]], Amounts] = defaultdict(Amounts)
    quantities: defaultdict[tuple[datetime | None, tuple[str, ...]], collections.Counter[str]] = defaultdict(
        collections.Counter
    )
    for (at, account, model), values, amounts, units in _tagged_rows(
        connection, accounts, terms._replace(by=("account", "model"), where=charged), keys, known_from
    ):
        named = {"account": account, "model": model} | {
            f"{TAG}{key}": value for key, value in zip(keys, values, strict=True)
        }
        if all(named[name] in found for name, found in wanted.items()):
            place = at, tuple(named[name] for name in terms.by)
            sums[place] = sums[place].plus(amounts)
            quantities[place].update(units)
    return tuple(
        UsageSum(at, group, sums[at, group], {unit: amount for unit, amount in sorted(units.items()) if amount})
        for (at, group), units in sorted(quantities.items(), key=lambda item: (item[0][0] or hour_start(0), item[0][1]))
        if sums[at, group] != NOTHING or any(units.values())
    )


def _tagged_rows(
    connection: Connection,
    accounts: Mapping[int, str],
    terms: UsageTerms,
    keys: TagValues,
    known_from: Mapping[str, datetime],
) -> Iterator[tuple[_UsageCell, TagValues, Amounts, Mapping[str, int]]]:
    """Yield what is tagged, and then what is left of each model."""
    rest: dict[_UsageCell, Amounts] = {}
    rest_units: defaultdict[_UsageCell, collections.Counter[str]] = defaultdict(collections.Counter)
    for found in usage_sums(connection, accounts, terms):
        cell = found.at, found.group[0], found.group[1]
        rest[cell] = found.amounts
        rest_units[cell].update(found.quantities)
    names = {account for account in accounts.values() if account in terms.where.get("account", {account})}
    end = hour_number(terms.window.end)
    found_by_tags = (
        row
        for account in sorted(names & known_from.keys())
        for row in stated_sums(
            connection,
            {account},
            hour_number(max(terms.window.start, known_from[account])),
            end,
            by_hour=terms.every is not None,
        )
    )
    for hour, account, model, unit, text, amounts in found_by_tags:
        values = tag_values(json.loads(text), keys)
        if model not in terms.where.get("model", {model}) or all(value == UNTAGGED for value in values):
            continue
        start = None
        if terms.every is not None:
            start = max(bucket_start(hour_start(hour), terms.every, terms.zone), terms.window.start)
        cell = start, account, model
        plain = amounts._replace(quantity=0)
        yield cell, values, plain, {unit: amounts.quantity}
        rest[cell] = rest.get(cell, NOTHING).plus(plain.negated())
        rest_units[cell].subtract({unit: amounts.quantity})
    for cell, amounts in rest.items():
        yield cell, untagged(len(keys)), amounts, rest_units[cell]


def hours_read(connection: Connection, account: str, window: Window) -> int:
    """Return how many hours of a window have been read by tags for good."""
    hours = read_hours(connection, account, hour_number(window.start), hour_number(window.end))
    return sum(state.complete for state in hours.values())


def stated_runs(connection: Connection, account: str, hours: range) -> Iterator[tuple[Window, int]]:
    """Yield every run of some hours that have been read by tags for good, and what fal states of it."""
    known = read_hours(connection, account, hours.start, hours.stop)
    complete = sorted(hour for hour, state in known.items() if state.complete)
    # In a run the hours grow as their places do.
    for _, places in groupby(enumerate(complete), lambda place: place[1] - place[0]):
        run = [hour for _, hour in places]
        yield Window(hour_start(run[0]), hour_start(run[-1] + 1)), sum(known[hour].stated for hour in run)


def read_until(connection: Connection, account: str, window: Window) -> datetime:
    """Return up to where all hours of a window have been read by tags for good; its start where the first has not."""
    first, end = hour_number(window.start), hour_number(window.end)
    hours = read_hours(connection, account, first, end)
    unread = (hour for hour in range(first, end) if hour not in hours or not hours[hour].complete)
    return hour_start(next(unread, end))
