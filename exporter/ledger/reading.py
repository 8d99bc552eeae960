"""Opening a ledger beside the exporter that writes it: takes no write lock, changes nothing, creates no ledger."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, Pool, create_engine, event, inspect, make_url
from sqlalchemy.engine import URL

from exporter.errors import LedgerError
from exporter.ledger import facts, schema
from exporter.ledger.database import clear_errors, shown

_ROWS = 5000
"""Rows that are fetched at once, so that a large ledger is never in memory as a whole."""


class NoLedgerError(LedgerError):
    """There is no ledger at the address yet."""


@contextmanager
def reading(address: str, *, of_any_version: bool = False) -> Iterator[Connection]:
    """Open a ledger for reading; all that is read is of one instant, however long it takes.

    Args:
        address: `sqlite:///path` or `postgresql://user@host/database`.
        of_any_version: whether what is read is the same in every version of the schema.

    Raises:
        NoLedgerError: there is no ledger.
        LedgerError: it is of another version, or it cannot be read.
    """
    url = make_url(address)
    engine = reading_engine(url, poolclass=NullPool, yield_per=_ROWS)
    try:
        with clear_errors(url), engine.connect() as connection:
            check_tables(connection, url)
            check_version(facts.read(connection, "schema"), url, of_any_version=of_any_version)
            yield connection
    finally:
        engine.dispose()


def reading_engine(url: URL, *, poolclass: type[Pool], yield_per: int | None = None) -> Engine:
    """Connect to a ledger for reading.

    Args:
        url: of the ledger.
        poolclass: how connections are kept; those of a pool are for any thread.
        yield_per: how many rows to fetch at once; None for all.

    Raises:
        NoLedgerError: there is no file.
    """
    options = {} if yield_per is None else {"yield_per": yield_per}
    if url.get_backend_name() != "sqlite":
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            isolation_level="REPEATABLE READ",
            execution_options={"postgresql_readonly": True, **options},
            poolclass=poolclass,
            pool_pre_ping=poolclass is not NullPool,
        )
    path = Path(url.database or "")
    if not path.is_file():
        raise no_ledger(url)
    address = f"file:{quote(str(path.absolute()))}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False),
        execution_options=options,
        poolclass=poolclass,
    )

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def no_ledger(url: URL) -> NoLedgerError:
    """Return the error that there is no ledger yet."""
    return NoLedgerError(f"there is no ledger {shown(url)} yet; fal-exporter serve makes one")


def check_tables(connection: Connection, url: URL) -> None:
    """Raise NoLedgerError where the database has no ledger in it."""
    if not inspect(connection).has_table(schema.facts.name):
        raise NoLedgerError(f"there is no ledger in {shown(url)} yet; fal-exporter serve makes one")


def check_version(version: str | None, url: URL, *, of_any_version: bool = False) -> None:
    """Raise LedgerError where a ledger is of another version than this exporter reads."""
    if version != str(schema.SCHEMA_VERSION) and not of_any_version:
        raise LedgerError(
            f"the ledger {shown(url)} has schema {version}, this exporter reads schema {schema.SCHEMA_VERSION}; "
            "use the version of the exporter that writes the ledger"
        )
