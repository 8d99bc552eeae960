"""Move of a ledger to another database: from SQLite to PostgreSQL, or back, with counters unbroken.

Every table is copied row by row as it is, in the order of its key, in transactions of some thousand rows. Each says how
far it has come, so that a move that was interrupted goes on where it was. Until the last transaction the target is no
ledger: the single facts are written there, after both ledgers have been verified. The source is not changed.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from sqlalchemy import Boolean, Connection, Engine, text

from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger.collector_lock import CollectorLock, LedgerNote, as_collector
from exporter.ledger.maintenance.verification import Verified, verify
from exporter.ledger.tables import schema
from exporter.ledger.tables.database import (
    changing_tables,
    clear_errors,
    ledger_url,
    open_database,
    reading,
    shown,
)
from exporter.ledger.tables.schema import MOVED_FROM, metadata

_ROWS = 20_000
"""Rows of a transaction: enough to be quick, few enough to be no loss when a move is interrupted."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a move.

    Attributes:
        table: the one that is being copied.
        rows: copied so far, of all tables; those of a move before that is continued count.
        of: rows in all.
    """

    table: str
    rows: int
    of: int


@dataclass(frozen=True, slots=True)
class Moved:
    """Result of a move.

    Attributes:
        verified: the ledger in its new place.
        rows: of all tables.
        continued: rows that a move before had copied already.
    """

    verified: Verified
    rows: int
    continued: int


def move_ledger(source: str, target: str, *, on_progress: Callable[[Progress], None]) -> Moved:
    """Copy a ledger that no exporter is using into a database without one.

    Args:
        source: `sqlite:///path` or `postgresql://user@host/database`.
        target: the same.
        on_progress: called after every transaction.

    Raises:
        ConfigurationError: an address is not a database's, or both are the same.
        LedgerInUseError: an exporter is running on either.
        LedgerError: there is no ledger to move, it is not sound, the target has one already, or a database fails.
    """
    source_url, target_url = ledger_url(source), ledger_url(target)
    if source_url == target_url:
        raise ConfigurationError(f"the ledger {shown(source_url)} cannot be moved to itself; name another database")
    # Before anything is locked: a lock makes a file, also beside a ledger that is not there.
    with reading(source):
        pass
    with as_collector(source), reading(source) as from_, as_collector(target) as lock:
        before = _sound(from_, f"the ledger {shown(source_url)}")
        engine = open_database(target)
        try:
            with clear_errors(target_url):
                moved = _Move(from_, engine, shown(target_url), on_progress).run(before)
        finally:
            engine.dispose()
        _note(lock, from_)
        return moved


@dataclass(frozen=True, slots=True)
class _Table:
    """A table as it is copied: by names, and by the databases' own values.

    Attributes:
        columns: names in order.
        key: names of the columns of the primary key.
        truths: positions of truth values, in place of which SQLite has numbers.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    truths: tuple[int, ...]

    @property
    def reached(self) -> str:
        """Name of the fact that says how far it has been copied."""
        return f"{MOVED_FROM} {self.name}"

    def count(self, connection: Connection) -> int:
        """Return how many rows there are."""
        return connection.scalar(text(f'SELECT count(*) FROM "{self.name}"')) or 0  # noqa: S608  our own names

    def rows(self, connection: Connection, after: Sequence[int | str] | None) -> Iterator[tuple[object, ...]]:
        """Yield the rows whose key is greater than one, in the order of keys; all where there is none."""
        key = _listed(self.key)
        after = () if after is None else after
        condition = f"WHERE ({key}) > ({', '.join(f':after_{index}' for index in range(len(after)))}) " if after else ""
        question = text(f'SELECT {_listed(self.columns)} FROM "{self.name}" {condition}ORDER BY {key}')  # noqa: S608
        for row in connection.execute(question, {f"after_{index}": value for index, value in enumerate(after)}):
            yield tuple(row)

    def write(self, connection: Connection, rows: Sequence[tuple[object, ...]]) -> None:
        """Insert rows, by COPY where there is one."""
        target = f'"{self.name}" ({_listed(self.columns)})'
        if connection.dialect.name != "postgresql":
            places = ", ".join("?" * len(self.columns))
            connection.exec_driver_sql(f"INSERT INTO {target} VALUES ({places})", list(rows))  # noqa: S608
            return
        with closing(connection.connection.cursor()) as cursor, cursor.copy(f"COPY {target} FROM STDIN") as copy:
            for row in rows:
                values = list(row)
                for index in self.truths:
                    values[index] = bool(values[index])
                copy.write_row(values)


def _tables() -> tuple[_Table, ...]:
    """Return all tables but that of single facts, those first that others refer to."""
    return tuple(
        _Table(
            table.name,
            tuple(column.name for column in table.columns),
            tuple(column.name for column in table.primary_key.columns),
            tuple(index for index, column in enumerate(table.columns) if isinstance(column.type, Boolean)),
        )
        for table in metadata.sorted_tables
        if table is not schema.facts
    )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


class _Move:
    """One move.

    Args:
        source: a transaction that sees one instant.
        engine: of the target.
        name: of the target, for sentences.
        on_progress: called after every transaction.
    """

    def __init__(self, source: Connection, engine: Engine, name: str, on_progress: Callable[[Progress], None]) -> None:
        self._source = source
        self._engine = engine
        self._name = name
        self._on_progress = on_progress
        self._tables = _tables()
        self._identity = json.dumps([schema.read(source, name) for name in (schema.BORN_AT, schema.REVISION)])

    def run(self, before: Verified) -> Moved:
        """Copy what has not been copied."""
        self._prepare()
        total = sum(table.count(self._source) for table in self._tables)
        with self._engine.connect() as connection:
            copied = continued = sum(table.count(connection) for table in self._tables)
        for table in self._tables:
            left = table.rows(self._source, self._reached(table))
            key = [table.columns.index(name) for name in table.key]
            while batch := list(islice(left, _ROWS)):
                with changing_tables(self._engine) as connection:
                    table.write(connection, batch)
                    schema.write(connection, table.reached, json.dumps([batch[-1][index] for index in key]))
                copied += len(batch)
                self._on_progress(Progress(table.name, copied, total))
        return Moved(self._finish(before), total, continued)

    def _prepare(self) -> None:
        """Create the tables, or make sure that what is there is what an interrupted move of this state has left."""
        with changing_tables(self._engine) as connection:
            if not self._engine.dialect.has_table(connection, schema.facts.name):
                metadata.create_all(connection)
            elif schema.read(connection, "schema") is not None:
                raise LedgerError(f"there is a ledger in {self._name} already; name a database without one")
            elif (known := schema.read(connection, MOVED_FROM)) is None:
                raise LedgerError(
                    f"the database {self._name} has a table `fact` that is not fal-exporter's; name another"
                )
            elif known == self._identity:
                return
            else:
                # The ledger has been written since, so that what was copied may be of another state.
                for table in reversed(metadata.sorted_tables):
                    connection.execute(table.delete())
            schema.write(connection, MOVED_FROM, self._identity)

    def _reached(self, table: _Table) -> list[int | str] | None:
        """Return the key of the last row that an interrupted move has copied."""
        with self._engine.connect() as connection:
            reached = schema.read(connection, table.reached)
        return None if reached is None else json.loads(reached)

    def _finish(self, before: Verified) -> Verified:
        """Make the target a ledger, which is the last thing that is written."""
        with changing_tables(self._engine) as connection:
            for table in self._tables:
                if table.count(connection) != table.count(self._source):
                    raise LedgerError(
                        f"not every row of table {table.name} is in {self._name}: has something else written there? "
                        "Empty the database and begin again"
                    )
            connection.execute(schema.facts.delete())
            for name, value in schema.read_all(self._source).items():
                schema.write(connection, name, value)
            after = _sound(connection, f"the copy in {self._name}")
            if replace(after, notes=()) != replace(before, notes=()):
                raise LedgerError(
                    f"the copy in {self._name} is not the same ledger; empty the database and begin again"
                )
            return after


def _sound(connection: Connection, name: str) -> Verified:
    try:
        found = verify(connection)
    except ValueError as error:
        raise LedgerError(f"{name} is damaged, a row cannot be read: {error}; restore a backup") from error
    if found.problems:
        raise LedgerError(f"{name} is not sound: {'; '.join(found.problems)}; restore a backup")
    return found


def _note(lock: CollectorLock, source: Connection) -> None:
    facts = schema.read_all(source)
    lock.note(LedgerNote(facts.get(schema.BORN_AT, ""), int(facts.get(schema.REVISION, "0"))))
