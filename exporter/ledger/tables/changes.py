"""Marks of the days whose charges have changed, by which a reader knows what it may keep in memory.

A mark is a random number that is another one after every change of a day, and never the same again: equal marks are of
equal charges, whatever has been restored or renamed meanwhile. A day without a mark has not changed since version 5.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, Table, and_, bindparam, select

from exporter.ledger.tables.database import write_many
from exporter.ledger.tables.schema import metadata

# Without a reference to the scope, whose number another may get: who reads the marks compares the scopes too.
changed_days = Table(
    "changed_day",
    metadata,
    Column("scope", Integer, primary_key=True, autoincrement=False),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("mark", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
"""The mark of a scope's day, the number of days since 1970. Since version 5."""

_EVERYTHING = (0, -1)
"""In place of scope and day, the mark that is changed with all charges."""

_BITS = 62
_DELETE = changed_days.delete().where(
    and_(changed_days.c.scope == bindparam("at_scope"), changed_days.c.day == bindparam("at_day"))
)
_INSERT = changed_days.insert()
MARKS = select(changed_days.c.scope, changed_days.c.day, changed_days.c.mark)
"""Selects all marks."""


class Marks(NamedTuple):
    """Marks as of one instant.

    Attributes:
        everything: that of all charges, 0 where there is none.
        days: by scope and day.
    """

    everything: int
    days: Mapping[tuple[int, int], int]


def mark_days(connection: Connection, scope: int, days: Collection[int]) -> None:
    """Note that charges of some days of a scope have changed."""
    _write(connection, [(scope, day) for day in sorted(days)])


def mark_everything(connection: Connection) -> None:
    """Note that any charges may have changed."""
    connection.execute(changed_days.delete())
    _write(connection, [_EVERYTHING])


def marks_of(rows: Iterable[Sequence[int]]) -> Marks:
    """Return the marks that `MARKS` has selected."""
    days = {(scope, day): mark for scope, day, mark in rows}
    return Marks(days.pop(_EVERYTHING, 0), days)


def _write(connection: Connection, cells: list[tuple[int, int]]) -> None:
    write_many(connection, _DELETE, cells)
    write_many(connection, _INSERT, [(*cell, secrets.randbits(_BITS)) for cell in cells])
