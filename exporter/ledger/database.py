"""Opening the ledger's database: the only module that knows which database it is."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from exporter.errors import ConfigurationError, LedgerError

_BUSY_SECONDS = 5

_SENTENCES = {
    sqlite3.SQLITE_BUSY: "is locked by another process; one exporter at a time can write a SQLite ledger",
    sqlite3.SQLITE_LOCKED: "is locked by another process; one exporter at a time can write a SQLite ledger",
    sqlite3.SQLITE_READONLY: "is read-only; give the exporter's user the right to write the file and its folder",
    sqlite3.SQLITE_FULL: "cannot grow, the disk is full; free some space, nothing has been half written",
    sqlite3.SQLITE_IOERR: "cannot be read or written, the disk reports an error",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a copy, or move it away and let the exporter start a new one",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; move the file away, or name another",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; its folder must exist and be writable for the exporter's user",
}


def shown(url: URL) -> str:
    """Return the database's name for a sentence, without a password."""
    return url.render_as_string(hide_password=True)


def open_database(address: str) -> Engine:
    """Connect to `sqlite:///path` or `postgresql+psycopg://user@host/database`.

    Raises:
        ConfigurationError: the address is not a database's, or its driver is not installed.
    """
    try:
        url = make_url(address)
        if url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise ConfigurationError(
                f"FAL_EXPORTER_LEDGER_URL names a {url.get_backend_name()} database; use sqlite:/// or postgresql+psycopg://"
            )
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() != "sqlite")
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"FAL_EXPORTER_LEDGER_URL needs the driver {missing.name}; install fal-exporter[postgresql]"
        ) from None
    except (ArgumentError, SQLAlchemyError):
        raise ConfigurationError(
            "FAL_EXPORTER_LEDGER_URL is not a database address; an example is sqlite:///fal-exporter.sqlite"
        ) from None
    if url.get_backend_name() == "sqlite":
        _prepare_sqlite(engine)
    return engine


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        del entry
        # The driver would begin transactions by itself, too late and without the write lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_SECONDS * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        # A published counter must be on the disk before a scrape can see it, else a power loss makes it fall.
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def clear_errors(url: URL) -> Iterator[None]:
    """Turn the database driver's errors into one sentence.

    Raises:
        LedgerError: says which ledger, what is wrong and what to do.
    """
    try:
        yield
    except DBAPIError as error:
        name = f"the ledger {shown(url)}"
        if isinstance(error.orig, sqlite3.Error):
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            sentence = _SENTENCES.get(code, f"cannot be used: {error.orig}")
            raise LedgerError(f"{name} {sentence}") from error
        first_line = str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else "no reason given"
        raise LedgerError(f"{name} cannot be used: {first_line}") from error
