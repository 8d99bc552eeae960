"""Rows of the database: scopes, series, charges, observed hours, balances, invoices and reconciliations."""

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import cache
from itertools import chain

from sqlalchemy import ColumnElement, Connection, Select, and_, bindparam, delete, func, select

from exporter.charges import NANO, Balance, Dimensions, Invoice
from exporter.ledger.accounting.counters import Counter, CounterKey, LabelValues
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.reconciliation import Key, Reconciliation, Reconciliations
from exporter.ledger.accounting.restatement import HOURS_OF_DAY, CellRow, Difference, HourKind, SumsBySeries
from exporter.ledger.accounting.totals import Place, Spent
from exporter.ledger.tables import bulk, changes, span_totals
from exporter.ledger.tables.database import write_many
from exporter.ledger.tables.schema import (
    DIMENSIONS,
    MEASURES,
    balances,
    charges,
    counters,
    invoices,
    label_sets,
    microseconds,
    observed_hours,
    reconciliations,
    scopes,
    series,
)

_KEY = [counters.c.label_set_id, counters.c.measure, counters.c.unit]
_STATE = [counters.c.grown, counters.c.published, counters.c.created_at, counters.c.released, counters.c.base]
_INSERT_COUNTER = counters.insert()
_UPDATE_COUNTER = (
    counters.update()
    .where(*(column == bindparam(f"at_{column.name}") for column in _KEY))
    .values({column.name: bindparam(f"to_{column.name}") for column in _STATE})
)
_UPDATE_SCOPE = scopes.update().where(scopes.c.id == bindparam("at"))


_SCOPES = select(scopes).order_by(scopes.c.id)


def read_scopes(connection: Connection) -> list[Scope]:
    """Return all scopes."""
    return [Scope(**row) for row in connection.execute(_SCOPES).mappings()]


def add_scope(connection: Connection, account: str, source: str, at: datetime, counts_from: datetime) -> Scope:
    """Begin a scope."""
    number = (connection.scalar(select(func.max(scopes.c.id))) or 0) + 1
    scope = Scope(
        id=number,
        account=account,
        source=source,
        active=True,
        born_at=at,
        counts_from=counts_from,
        data_through=None,
        settled_through=None,
        history_from=None,
        last_success_at=None,
        restated_up=0,
        restated_down=0,
        restated_hours=0,
    )
    insert_scope(connection, scope)
    return scope


def insert_scope(connection: Connection, scope: Scope) -> None:
    """Insert a scope under its number."""
    connection.execute(scopes.insert(), _row(scope))


def write_scope(connection: Connection, scope: Scope) -> None:
    """Save a scope's state."""
    state = _row(scope)
    # Were the number written anew, SQLite would look for every row that refers to it: all of the scope's charges.
    connection.execute(_UPDATE_SCOPE, {"at": state.pop("id"), **state})


def _row(scope: Scope) -> dict[str, object]:
    return {column.name: getattr(scope, column.name) for column in scopes.columns}


def read_series(connection: Connection, accounts: Mapping[int, str]) -> Iterable[tuple[int, int, Dimensions, int]]:
    """Yield id, scope, dimensions and label set of every series; `accounts` names the account of each scope."""
    columns = [series.c[name] for name in DIMENSIONS]
    for row in connection.execute(select(series.c.id, series.c.scope_id, series.c.label_set_id, *columns)):
        yield row[0], row[1], Dimensions(accounts[row[1]], *row[3:]), row[2]


def add_series(connection: Connection, scope: int, new: Mapping[int, tuple[Dimensions, Place]]) -> None:
    """Insert series by number."""
    nothing = {f"folded_{name}": 0 for name in MEASURES}
    connection.execute(
        series.insert(),
        [
            {
                "id": number,
                "scope_id": scope,
                **{name: getattr(dimensions, name) for name in DIMENSIONS},
                "label_set_id": place.label_set,
                **nothing,
            }
            for number, (dimensions, place) in new.items()
        ],
    )


def move_series(connection: Connection, label_set_of: Mapping[int, int]) -> None:
    """Publish series under other label sets."""
    if label_set_of:
        connection.execute(
            series.update().where(series.c.id == bindparam("at")).values(label_set_id=bindparam("to")),
            [{"at": number, "to": label_set} for number, label_set in label_set_of.items()],
        )


def read_label_sets(connection: Connection) -> dict[int, LabelValues]:
    """Return the admitted label sets in order of admission."""
    rows = connection.execute(select(label_sets.c.id, label_sets.c.labels).order_by(label_sets.c.id))
    return {number: tuple(json.loads(values)) for number, values in rows}


def add_label_sets(connection: Connection, new: Mapping[int, LabelValues]) -> None:
    """Admit label sets."""
    if new:
        connection.execute(
            label_sets.insert(),
            [{"id": number, "labels": json.dumps(values, ensure_ascii=False)} for number, values in new.items()],
        )


def rename_label_sets(connection: Connection, values_of: Mapping[int, LabelValues]) -> None:
    """Write label sets anew under their numbers."""
    if values_of:
        connection.execute(
            label_sets.update().where(label_sets.c.id == bindparam("at")).values(labels=bindparam("to")),
            [{"at": number, "to": json.dumps(values, ensure_ascii=False)} for number, values in values_of.items()],
        )


def forget_label_sets(connection: Connection, up_to: int) -> None:
    """Remove the label sets up to a number, and their counters."""
    connection.execute(delete(counters).where(counters.c.label_set_id <= up_to))
    connection.execute(delete(label_sets).where(label_sets.c.id <= up_to))


def read_counters(connection: Connection) -> dict[CounterKey, Counter]:
    """Return every counter, in order of label sets."""
    rows = connection.execute(select(counters).order_by(counters.c.label_set_id))
    return {CounterKey(row[0], row[1], row[2]): Counter(*row[3:]) for row in rows}


def write_counters(
    connection: Connection, known: Mapping[CounterKey, Counter], states: Mapping[CounterKey, Counter]
) -> None:
    """Save the counters that are new or differ from what is known."""
    new = [(*key, *_state_row(state)) for key, state in states.items() if key not in known]
    changed = [(*_state_row(state), *key) for key, state in states.items() if key in known and known[key] != state]
    write_many(connection, _INSERT_COUNTER, new)
    write_many(connection, _UPDATE_COUNTER, changed)


def _state_row(state: Counter) -> tuple[str, str, int, bool, str]:
    return str(state.grown), str(state.published), microseconds(state.created_at), state.released, str(state.base)


_AMOUNTS = [charges.c[name] for name in MEASURES]
_CELL = and_(
    charges.c.scope_id == bindparam("at_scope"),
    charges.c.hour == bindparam("at_hour"),
    charges.c.series_id == bindparam("at_series"),
)
_CHARGES = bulk.Target(charges.name, ("scope_id", "hour", "series_id", *MEASURES), ("scope_id", "hour", "series_id"))
_INSERT = charges.insert()
_UPDATE = charges.update().where(_CELL).values({name: bindparam(f"to_{name}") for name in MEASURES})
_DELETE = charges.delete().where(_CELL)
_CELLS = select(charges.c.hour, charges.c.series_id, *_AMOUNTS).where(
    charges.c.scope_id == bindparam("scope"), charges.c.hour >= bindparam("first"), charges.c.hour < bindparam("end")
)


def read_cells(connection: Connection, scope: int, first: int, end: int) -> set[CellRow]:
    """Return a scope's charges of the hours in [first, end)."""
    rows = connection.execute(_CELLS, {"scope": scope, "first": first, "end": end})
    return set(map(tuple, rows.all()))


def write_difference(
    connection: Connection, scope: int, difference: Difference, sums: Mapping[HourKind, SumsBySeries]
) -> None:
    """Bring a scope's charges, and their totals, to the state after a restatement whose changes add up to `sums`."""
    added = [(scope, *row) for row in difference.added]
    removed = [(scope, *cell) for cell in difference.removed]
    if bulk.is_worth_it(connection, added):
        bulk.insert(connection, _CHARGES, added)
    else:
        write_many(connection, _INSERT, added)
    if bulk.is_worth_it(connection, difference.changed):
        bulk.merge(connection, _CHARGES, [(scope, *row) for row in difference.changed], then="replace")
    else:
        write_many(connection, _UPDATE, [(*row[2:], scope, *row[:2]) for row in difference.changed])
    if bulk.is_worth_it(connection, removed):
        bulk.delete(connection, _CHARGES, removed)
    else:
        write_many(connection, _DELETE, removed)
    span_totals.add(connection, scope, difference, sums)
    hours = {row[0] for row in chain(difference.added, difference.changed, difference.removed)}
    changes.mark_days(connection, scope, {hour // HOURS_OF_DAY for hour in hours})


_SPENT = ("cost", "gpu_seconds")


def sum_by_series(
    connection: Connection, scopes: Collection[int], first: int, end: int, measures: Collection[str] = _SPENT
) -> dict[int, Spent]:
    """Return what every series of some scopes spent in the hours in [first, end).

    Args:
        connection: in a transaction.
        scopes: numbers of scopes.
        first: number of the first hour.
        end: number of the hour after the last.
        measures: the leading fields of `Spent` that are wanted; the others are 0.
    """
    # The statement is made once: after every poll it is asked for several periods, and to make it takes longer than to
    # execute it on a small ledger.
    statement = _sums_by_series(tuple(measures))
    rows = connection.execute(statement, {"scopes": list(scopes), "first": first, "end": end})
    return {row[0]: Spent(*_whole(row[1:])) for row in rows.all()}


@cache
def _sums_by_series(measures: tuple[str, ...]) -> "Select[*tuple[int, ...]]":
    return (
        select(charges.c.series_id, *(half for name in measures for half in _halves(charges.c[name])))
        .where(
            charges.c.scope_id.in_(bindparam("scopes", expanding=True)),
            charges.c.hour >= bindparam("first"),
            charges.c.hour < bindparam("end"),
        )
        .group_by(charges.c.series_id)
    )


def count(connection: Connection) -> int:
    """Return the number of charges that are kept one by one."""
    return connection.scalar(select(func.count()).select_from(charges)) or 0


def fold(connection: Connection, horizon: int) -> int:
    """Put the charges of the hours before the horizon into their series' folded sums; return how many there were."""
    halves = [half for name in MEASURES for half in _halves(charges.c[name])]
    sums = connection.execute(
        select(charges.c.series_id, *halves).where(charges.c.hour < horizon).group_by(charges.c.series_id)
    ).all()
    if not sums:
        return 0
    folded = [f"folded_{name}" for name in MEASURES]
    known = {row[0]: row[1:] for row in connection.execute(select(series.c.id, *(series.c[name] for name in folded)))}
    connection.execute(
        series.update()
        .where(series.c.id == bindparam("at_series"))
        .values({name: bindparam(f"to_{name}") for name in folded}),
        [
            {
                "at_series": row[0],
                **{
                    f"to_{name}": before + more
                    for name, before, more in zip(folded, known[row[0]], _whole(row[1:]), strict=True)
                },
            }
            for row in sums
        ],
    )
    folded_charges = connection.execute(delete(charges).where(charges.c.hour < horizon)).rowcount
    span_totals.rebuild(connection, until=horizon)
    changes.mark_everything(connection)
    return folded_charges


def _halves(column: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Sum whole units and remainders apart: neither can leave 64 bits, and both databases cut towards zero."""
    return func.sum(column // NANO), func.sum(column % NANO)


def _whole(halves: Iterable[int]) -> list[int]:
    """Put sums of `_halves` together again; PostgreSQL gives them as decimals."""
    rest = iter(halves)
    return [int(high) * NANO + int(low) for high, low in zip(rest, rest, strict=True)]


_hour = observed_hours.c.hour
_IN_SCOPE = observed_hours.c.scope_id == bindparam("scope")
_OBSERVED = select(_hour, observed_hours.c.complete).where(
    _IN_SCOPE, _hour >= bindparam("first"), _hour < bindparam("end")
)
_COMPLETE = select(_hour).where(_IN_SCOPE, observed_hours.c.complete)
_COMPLETE_FROM = _COMPLETE.where(_hour >= bindparam("first")).order_by(_hour)
_COMPLETE_BEFORE = _COMPLETE.where(_hour < bindparam("end")).order_by(_hour.desc())


def read_observed(connection: Connection, scope: int, first: int, end: int) -> dict[int, bool]:
    """Return the covered hours in [first, end), each with whether it was covered after its end."""
    rows = connection.execute(_OBSERVED, {"scope": scope, "first": first, "end": end})
    return {row[0]: row[1] for row in rows.all()}


def write_observed(connection: Connection, scope: int, before: Mapping[int, bool], after: Mapping[int, bool]) -> None:
    """Note which hours a poll has covered, and whether after their end."""
    new = [
        {"scope_id": scope, "hour": hour, "complete": complete}
        for hour, complete in after.items()
        if hour not in before
    ]
    if new:
        connection.execute(observed_hours.insert(), new)
    for hour, complete in after.items():
        if hour in before and complete != before[hour]:
            connection.execute(
                observed_hours.update().where(observed_hours.c.scope_id == scope, observed_hours.c.hour == hour),
                {"complete": complete},
            )


def covered_until(connection: Connection, scope: int, hour: int) -> int:
    """Return the end of the run of hours, covered after their end, that begins at an hour; the hour where none does."""
    rows = connection.execute(_COMPLETE_FROM, {"scope": scope, "first": hour})
    with rows:
        for row in rows:
            if row[0] != hour:
                break
            hour += 1
    return hour


def covered_since(connection: Connection, scope: int, hour: int) -> int:
    """Return the start of the run of hours, covered after their end, that ends where an hour starts; or that hour."""
    rows = connection.execute(_COMPLETE_BEFORE, {"scope": scope, "end": hour})
    with rows:
        for row in rows:
            if row[0] != hour - 1:
                break
            hour -= 1
    return hour


def first_unseen(connection: Connection, scopes: Collection[int]) -> int | None:
    """Return the first hour after all that some scopes have covered, None where they have covered nothing."""
    last = connection.scalar(select(func.max(observed_hours.c.hour)).where(observed_hours.c.scope_id.in_(scopes)))
    return None if last is None else last + 1


def forget_observed(connection: Connection, scope: int) -> None:
    """Forget which hours of a scope have been covered, so that what they hold counts as history."""
    connection.execute(delete(observed_hours).where(observed_hours.c.scope_id == scope))


def not_over_from(connection: Connection, scope: int, hour: int) -> None:
    """Note that no hour of a scope from one on was over when it was covered."""
    connection.execute(
        observed_hours.update().where(observed_hours.c.scope_id == scope, _hour >= hour).values(complete=False)
    )


def forget_before(connection: Connection, horizon: int) -> None:
    """Forget the hours before the retention's horizon."""
    connection.execute(delete(observed_hours).where(observed_hours.c.hour < horizon))


_BALANCE_PAUSE = timedelta(hours=1)
"""An unchanged balance is noted again after this time, so that a history without a change is no gap."""


def write_balance(connection: Connection, known: Balance | None, balance: Balance) -> bool:
    """Note a balance, one that has not changed only once an hour; return whether it was noted."""
    if known is not None and known.amount == balance.amount and abs(balance.at - known.at) < _BALANCE_PAUSE:
        return False
    connection.execute(balances.delete().where(balances.c.account == balance.account, balances.c.at == balance.at))
    connection.execute(balances.insert(), {"account": balance.account, "at": balance.at, "amount": balance.amount})
    return True


def forget_balances_before(connection: Connection, horizon: datetime) -> None:
    """Forget the balances before the retention's horizon, but for the newest of every account."""
    for balance in read_balances(connection).values():
        connection.execute(
            balances.delete().where(balances.c.account == balance.account, balances.c.at < min(horizon, balance.at))
        )


def forget_balances_after(connection: Connection, account: str, instant: datetime) -> None:
    """Forget the balances of an account that bear a later instant."""
    connection.execute(balances.delete().where(balances.c.account == account, balances.c.at > instant))


def read_balances(connection: Connection) -> dict[str, Balance]:
    """Return the newest balance of every account."""
    newest = select(balances.c.account, func.max(balances.c.at).label("at")).group_by(balances.c.account).subquery()
    rows = connection.execute(
        select(balances.c.account, balances.c.amount, balances.c.at).join(
            newest, and_(balances.c.account == newest.c.account, balances.c.at == newest.c.at)
        )
    )
    return {row.account: Balance(row.account, row.amount, row.at) for row in rows}


def read_balance_history(connection: Connection, account: str, since: datetime) -> list[Balance]:
    """Return the balances of an account that were noted from an instant on, oldest first."""
    rows = connection.execute(
        select(balances.c.account, balances.c.amount, balances.c.at)
        .where(balances.c.account == account, balances.c.at >= since)
        .order_by(balances.c.at)
    )
    return [Balance(row.account, row.amount, row.at) for row in rows]


def write_invoices(connection: Connection, account: str, stated: Collection[Invoice], gone: Iterable[str] = ()) -> None:
    """Save invoices as fal states them now, and delete those that are gone, by id; others are kept."""
    by_id = {item.id: item for item in stated}
    replaced = {*by_id, *gone}
    connection.execute(invoices.delete().where(invoices.c.account == account, invoices.c.id.in_(replaced)))
    if by_id:
        connection.execute(
            invoices.insert(),
            [{column.name: getattr(item, column.name) for column in invoices.columns} for item in by_id.values()],
        )


def read_invoices(connection: Connection) -> list[Invoice]:
    """Return all invoices, newest first."""
    rows = connection.execute(select(invoices).order_by(invoices.c.period_start.desc(), invoices.c.id))
    return [Invoice(**row) for row in rows.mappings()]


def write_reconciliation(connection: Connection, compared: Reconciliation) -> None:
    """Save a comparison in place of an earlier one."""
    delete_reconciliation(connection, compared.key)
    values: dict[str, object] = {column.name: getattr(compared, column.name) for column in reconciliations.columns}
    connection.execute(reconciliations.insert(), values | {"by_category": json.dumps(compared.by_category)})


def delete_reconciliation(connection: Connection, key: Key) -> None:
    """Delete a comparison, if there is one."""
    account, against, month = key
    table = reconciliations.c
    connection.execute(
        reconciliations.delete().where(table.account == account, table.against == against, table.month == month)
    )


def read_reconciliations(connection: Connection) -> Reconciliations:
    """Return all comparisons, oldest month first."""
    found = connection.execute(
        select(reconciliations).order_by(reconciliations.c.month, reconciliations.c.account, reconciliations.c.against)
    )
    compared = [Reconciliation(**{**row, "by_category": json.loads(row["by_category"])}) for row in found.mappings()]
    return {item.key: item for item in compared}
