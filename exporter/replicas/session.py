"""Session with the database: one connection that is opened again when it was lost, its tables, and what it listens to.

Replicas keep what they agree on in tables of their own beside the ledger's, which are made where they are missing.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property

from sqlalchemy import Connection, Engine, NullPool, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from exporter.errors import LedgerError
from exporter.ledger.tables.database import clear_errors, is_pooled, postgresql_engine

_LONGEST_WAIT = "5s"
"""Time that a write waits for another replica's."""

_BEGIN = (
    f"SELECT set_config('lock_timeout', '{_LONGEST_WAIT}', true),"
    " set_config('idle_in_transaction_session_timeout', '{idle_limit}', true)"
)

_QUICK = {"connect_timeout": 5, "tcp_user_timeout": 8000}
"""Parameters of libpq: nothing large is sent, so that a network that has gone shows in seconds."""


class Session:
    """A connection with its tables; not for several threads at once.

    Args:
        url: of the database, on PostgreSQL.
        tables: statements by the names of the tables that they make.
        lock: number of the advisory lock under which they are made.
        channel: of the announcements to wait for.
        idle_limit: after so long the server ends a transaction of a process that was stopped in the middle of it, so
            that it holds up nobody else; "0" for never.

    Attributes:
        number: how many connections have been opened.
        is_pooled: whether a pooler answered for the server when the last one was.
    """

    def __init__(self, url: URL, *, tables: Mapping[str, str], lock: int, channel: str, idle_limit: str = "0") -> None:
        self.number = 0
        self.is_pooled = False
        self._url = url
        self._tables = tables
        self._lock = lock
        self._channel = channel
        self._begin = _BEGIN.format(idle_limit=idle_limit)
        self._connection: Connection | None = None
        self._listening = False

    @property
    def is_open(self) -> bool:
        """True while there is a connection, as far as is known."""
        return self._connection is not None

    @contextmanager
    def transaction(self, *, reads: bool = False) -> Iterator[Connection]:
        """Begin a transaction; one that reads sees one instant.

        Raises:
            LedgerError: the database cannot be used.
        """
        with self._reconnecting():
            connection = self._connected()
            with connection.begin():
                connection.exec_driver_sql(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY" if reads else self._begin
                )
                yield connection

    def wait(self, seconds: float) -> bool:
        """Wait for an announcement, at most so long; return whether there may be something new.

        Where nothing can be announced, behind a pooler that lends its connections or without the database, the time
        passes: the caller reads after it in any case.
        """
        until = time.monotonic() + seconds
        with suppress(LedgerError), self._reconnecting():
            connection = self._connected()
            if not self.is_pooled:
                if not self._listening:
                    with connection.begin():
                        connection.exec_driver_sql(f"LISTEN {self._channel}")
                    self._listening = True
                    # Something may have been announced before.
                    return True
                return self._heard(connection, until)
        time.sleep(max(0.0, until - time.monotonic()))
        return False

    def close(self) -> None:
        """End the connection; the next call opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError):
                connection.close()

    @cached_property
    def _engine(self) -> Engine:
        return postgresql_engine(self._url, poolclass=NullPool, connect_args=_QUICK)

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._engine.connect()
            self._listening = False
            self.number += 1
            try:
                driver = connection.connection.dbapi_connection
                self.is_pooled = driver is None or is_pooled(driver)
                self._make_tables(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _make_tables(self, connection: Connection) -> None:
        with connection.begin():
            exist = text("SELECT " + " AND ".join(f"to_regclass('{name}') IS NOT NULL" for name in self._tables))
            if not connection.execute(exist).scalar_one():
                # Two that make a table at once would collide in the catalogue, IF NOT EXISTS or not.
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._lock})")
                for statement in self._tables.values():
                    connection.exec_driver_sql(statement)

    @contextmanager
    def _reconnecting(self) -> Iterator[None]:
        """Give a connection up that has failed, so that the next call opens another."""
        with clear_errors(self._url):
            try:
                yield
            except DBAPIError:
                if self._connection is not None:
                    # Not given back as if it worked: a rollback on what is lost would be logged with a traceback.
                    self._connection.invalidate()
                self.close()
                raise

    def _heard(self, connection: Connection, until: float) -> bool:
        driver = connection.connection.driver_connection
        try:
            heard = driver is not None and any(
                True for _ in driver.notifies(timeout=max(0.0, until - time.monotonic()), stop_after=1)
            )
        except connection.dialect.loaded_dbapi.Error as error:
            raise DBAPIError(None, None, error) from error
        return heard
