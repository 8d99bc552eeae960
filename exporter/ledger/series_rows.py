"""Scopes, series, label sets and counters in the database."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, select

from exporter.charges import Dimensions
from exporter.ledger.books import Place
from exporter.ledger.counters import Counter, CounterKey
from exporter.ledger.database import write_many
from exporter.ledger.label_sets import LabelValues
from exporter.ledger.schema import DIMENSIONS, MEASURES, counters, label_sets, microseconds, scopes, series

_KEY = [counters.c.label_set_id, counters.c.measure, counters.c.unit]
_STATE = [counters.c.grown, counters.c.published, counters.c.created_at, counters.c.released]
_INSERT_COUNTER = counters.insert()
_UPDATE_COUNTER = (
    counters.update()
    .where(*(column == bindparam(f"at_{column.name}") for column in _KEY))
    .values({column.name: bindparam(f"to_{column.name}") for column in _STATE})
)
_UPDATE_SCOPE = scopes.update().where(scopes.c.id == bindparam("at"))


@dataclass(frozen=True, slots=True)
class Scope:
    """One source of one account as the database has it; hours are instants on the hour."""

    id: int
    account: str
    source: str
    active: bool
    born_at: datetime
    counts_from: datetime
    data_through: datetime | None
    settled_through: datetime | None
    last_success_at: datetime | None
    history_from: datetime | None
    restated_up: int
    restated_down: int
    restated_hours: int

    def reborn(self, counts_from: datetime) -> "Scope":
        """Return the scope as it starts over: all that it will read of hours before an instant is history."""
        return replace(
            self, active=True, counts_from=counts_from, data_through=None, settled_through=None, history_from=None
        )


def read_scopes(connection: Connection) -> list[Scope]:
    """Return all scopes."""
    return [Scope(**row) for row in connection.execute(select(scopes).order_by(scopes.c.id)).mappings()]


def add_scope(connection: Connection, account: str, source: str, at: datetime, counts_from: datetime) -> Scope:
    """Begin a scope."""
    number = (connection.scalar(select(func.max(scopes.c.id))) or 0) + 1
    scope = Scope(number, account, source, True, at, counts_from, None, None, None, None, 0, 0, 0)  # noqa: FBT003  a row
    connection.execute(scopes.insert(), _row(scope))
    return scope


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
    return {CounterKey(row[0], row[1], row[2]): Counter(row[3], row[4], row[5], row[6]) for row in rows}


def write_counters(
    connection: Connection, known: Mapping[CounterKey, Counter], states: Mapping[CounterKey, Counter]
) -> None:
    """Save the counters that are new or differ from what is known."""
    new = [(*key, *_state_row(state)) for key, state in states.items() if key not in known]
    changed = [(*_state_row(state), *key) for key, state in states.items() if key in known and known[key] != state]
    write_many(connection, _INSERT_COUNTER, new)
    write_many(connection, _UPDATE_COUNTER, changed)


def _state_row(state: Counter) -> tuple[str, str, int, bool]:
    return str(state.grown), str(state.published), microseconds(state.created_at), state.released
