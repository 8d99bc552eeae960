"""Opening a ledger beside the exporter that writes it: takes no write lock, changes nothing, creates no ledger."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, inspect, make_url
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
    is_file = url.get_backend_name() == "sqlite"
    if is_file and not Path(url.database or "").is_file():
        raise NoLedgerError(f"there is no ledger {shown(url)} yet; fal-exporter serve makes one")
    engine = _file(url) if is_file else _server(url)
    try:
        with clear_errors(url), engine.connect() as connection:
            _check(connection, url, of_any_version=of_any_version)
            yield connection
    finally:
        engine.dispose()


def _file(url: URL) -> Engine:
    address = f"file:{quote(str(Path(url.database or '').absolute()))}?mode=ro"
    engine = create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(address, uri=True, isolation_level=None),
        execution_options={"yield_per": _ROWS},
        poolclass=NullPool,
    )

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _server(url: URL) -> Engine:
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        isolation_level="REPEATABLE READ",
        execution_options={"postgresql_readonly": True, "yield_per": _ROWS},
        poolclass=NullPool,
    )


def _check(connection: Connection, url: URL, *, of_any_version: bool) -> None:
    if not inspect(connection).has_table(schema.facts.name):
        raise NoLedgerError(f"there is no ledger in {shown(url)} yet; fal-exporter serve makes one")
    version = facts.read(connection, "schema")
    if version != str(schema.SCHEMA_VERSION) and not of_any_version:
        raise LedgerError(
            f"the ledger {shown(url)} has schema {version}, this exporter reads schema {schema.SCHEMA_VERSION}; "
            "use the version of the exporter that writes the ledger"
        )
