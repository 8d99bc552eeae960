"""Lease of a ledger on PostgreSQL: which of its replicas is the collector.

A row says who holds the lease, under which token, and until when by the database's clock, so that no two machines'
clocks need to agree. The holder renews it every few seconds; it runs out when the holder dies, hangs, or is cut off
from the database. An advisory lock of a session cannot serve by itself, as the server keeps it for a process that has
been stopped, and for a machine that is gone without a word. The collector's advisory lock is held besides, so that
commands and exporters that are no replicas are refused as before.

Fencing: a write to the ledger takes the ledger's write lock, and then compares the token. Whoever takes over changes
the token under the same lock, so that nothing of an earlier holder is written afterwards, however long it had been
stopped. Tokens are random: a server that comes back from a copy may have forgotten the last one, and a number that
is counted up could then be given twice.
"""

import os
import re
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from exporter.charges import uptime
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import LedgerInUseError
from exporter.ledger.collector_lock import AdvisoryLock, LedgerNote
from exporter.ledger.tables.database import WRITE_LOCK, clear_errors, ledger_url, postgresql_engine, shown

_log = structlog.get_logger(__name__)

TERM = 10.0
"""Seconds for which a lease is good after it has been renewed."""

_RENEWALS_A_TERM = 4
_WRITER_PATIENCE = "2s"
"""A writer that is under way is waited for so long when its lease has run out; then its session is ended."""

_TABLE_LOCK = 0x66616C63
"""Number of the advisory lock under which the table is made."""

_LOCK_NOT_AVAILABLE = "55P03"
_FIRST_NUMBER_SHIFT = 20


class LostLeaseError(LedgerInUseError):
    """Another replica has become the ledger's collector, or may have."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A replica that may become the leader.

    Attributes:
        replica: its name, which no other has.
        version: the exporter's.
        configuration: a digest of what the figures depend on; equal for replicas that serve the same.
    """

    replica: str
    version: str
    configuration: str


@dataclass(frozen=True, slots=True)
class Leader:
    """The replica that holds the lease, and since when, by the database's clock."""

    replica: str
    version: str
    configuration: str
    since: datetime


_TABLE = """
CREATE TABLE IF NOT EXISTS replica_lease (
    only_row boolean PRIMARY KEY CHECK (only_row),
    token text NOT NULL,
    replica text NOT NULL,
    session text NOT NULL,
    version text NOT NULL,
    configuration text NOT NULL,
    since timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    successor text NOT NULL DEFAULT ''
)
"""
_READ = text(
    "SELECT replica, session, version, configuration, since, expires_at <= clock_timestamp() AS is_over "
    "FROM replica_lease"
)
_TAKE = text(
    "INSERT INTO replica_lease (only_row, token, replica, session, version, configuration, since, expires_at) "
    "VALUES (true, :token, :replica, :session, :version, :configuration, clock_timestamp(), "
    "clock_timestamp() + make_interval(secs => :term)) "
    "ON CONFLICT (only_row) DO UPDATE SET token = excluded.token, replica = excluded.replica, "
    "session = excluded.session, version = excluded.version, configuration = excluded.configuration, "
    "since = excluded.since, expires_at = excluded.expires_at, successor = '' RETURNING since"
)
_RENEW = text(
    "UPDATE replica_lease SET expires_at = clock_timestamp() + make_interval(secs => :term) "
    "WHERE token = :token RETURNING successor"
)
_END = text("UPDATE replica_lease SET expires_at = '-infinity' WHERE token = :token")
_TOKEN = text("SELECT token FROM replica_lease")
_ASK_FOR_IT = text("UPDATE replica_lease SET successor = :version WHERE successor <> :version")
_END_STUCK_WRITER = text(
    "SELECT pg_terminate_backend(held.pid) FROM pg_locks AS held "
    "JOIN pg_stat_activity AS activity ON activity.pid = held.pid "
    "WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1 AND held.classid = 0 "
    "AND held.objid = :lock AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND activity.state LIKE 'idle in transaction%' "
    "AND activity.state_change < clock_timestamp() - interval '1 second'"
)
_END_SESSIONS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE application_name = :session AND datname = current_database() AND pid <> pg_backend_pid()"
)


class Lease:
    """A lease that is held, and renewed by a thread until it is released or lost. It is a `CollectorLock`.

    Args:
        engine: makes connections for renewing; disposed of in the end.
        token: distinguishes it from all other leases.
        since: when it was taken, by the database's clock; an attribute, too.
        good_until: when it runs out by `monotonic`, unless it is renewed.
        lock: the advisory lock of the ledger's collector.
        monotonic: seconds on a clock that nobody sets, and that goes on while a machine sleeps.

    Attributes:
        successor: the version of a replica that cannot read what this one publishes, and asks to be the leader.
    """

    before: LedgerNote | None = None

    def __init__(
        self,
        engine: Engine,
        *,
        token: str,
        since: datetime,
        good_until: float,
        term: float,
        lock: AdvisoryLock,
        monotonic: Callable[[], float],
    ) -> None:
        self.token = token
        self.successor = ""
        self.since = since
        self._engine = engine
        self._good_until = good_until
        self._term = term
        self._lock = lock
        self._monotonic = monotonic
        self._is_taken = False
        self._last_number = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def is_held(self) -> bool:
        """True while no other replica can have taken it."""
        return not self._is_taken and self._monotonic() < self._good_until

    @property
    def first_number(self) -> int:
        """Number from which the leader numbers what it publishes; above all those of the leaders before."""
        return max(round(self.since.timestamp() * 1000) << _FIRST_NUMBER_SHIFT, self._last_number)

    def go_on_from(self, number: int) -> None:
        """Number what is published above this, too: the database's clock may have been another server's before."""
        self._last_number = number

    def permit(self) -> None:
        """Allow a call to fal.

        Raises:
            LostLeaseError: another replica may be polling.
        """
        if not self.is_held:
            raise self._lost()

    def check(self) -> None:
        """Make sure that the lease is held, and the advisory lock of the collector with it.

        Raises:
            LostLeaseError: another replica may have taken it.
            LedgerInUseError: an exporter that is no replica has become the ledger's collector.
            LedgerError: the database cannot be asked.
        """
        self.permit()
        self._lock.check()

    def fence(self, connection: Connection) -> None:
        """Refuse a write of a replica whose lease has gone; to be called with the ledger's write lock.

        Raises:
            LostLeaseError: another replica has taken it.
        """
        if connection.scalar(_TOKEN) != self.token:
            self._is_taken = True
            raise self._lost()

    def note(self, note: LedgerNote) -> None:
        """Keep nothing: a database that is lost takes its notes along."""

    def release(self) -> None:
        """Let go of it, so that another replica need not wait until it runs out."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        self._lock.release()
        # Where the database is away it runs out by itself.
        with suppress(DBAPIError), self._engine.connect() as connection:
            connection.execute(_END, {"token": self.token})
        self._engine.dispose()

    def _renew(self) -> None:
        problem = ""
        while not self._ended.wait(self._term / _RENEWALS_A_TERM):
            sent_at = self._monotonic()
            try:
                with self._engine.connect() as connection:
                    renewed = connection.execute(_RENEW, {"token": self.token, "term": self._term}).first()
            except DBAPIError as error:
                if not problem:
                    problem = str(error.orig).strip().partition("\n")[0]
                    _log.warning("the lease of the ledger could not be renewed; it is tried again", problem=problem)
                continue
            if renewed is None:
                self._is_taken = True
                return
            problem = ""
            self._good_until = sent_at + self._term
            self.successor = renewed.successor

    def _lost(self) -> LostLeaseError:
        return LostLeaseError(
            f"this replica's lease of the ledger {shown(self._engine.url)} has run out or been taken by another; "
            "nothing more is written or polled here until it is this one's turn again"
        )


class Leases:
    """Asks for the lease of a ledger, again and again. Not for several threads at once.

    Args:
        address: `postgresql://user@host/database`.
        candidate: the replica that asks.
        term: seconds for which a lease is good.
        monotonic: as of `Lease`.

    Raises:
        ConfigurationError: the address is not one of PostgreSQL, or its driver is not installed.
        LedgerError: from every method: the database cannot be used.
    """

    def __init__(
        self, address: str, candidate: Candidate, *, term: float = TERM, monotonic: Callable[[], float] = uptime
    ) -> None:
        self._url = ledger_url(address)
        if self._url.get_backend_name() != "postgresql":
            raise ConfigurationError(
                "FAL_EXPORTER_REPLICATED needs a ledger in PostgreSQL, as replicas share it; set "
                "FAL_EXPORTER_LEDGER_URL to postgresql://..., or start one exporter only"
            )
        self._candidate = candidate
        self._session = f"fal-exporter pid {os.getpid()} on {socket.gethostname()}"[:63]
        self._term = term
        self._monotonic = monotonic
        self._engine = self._connections(self._url)
        self._has_table = False

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def ask(self) -> Lease | Leader:
        """Return the lease if it is free and this replica may have it now, else who holds it.

        Raises:
            LedgerInUseError: the lease was free, but an exporter that is no replica, or a command, has the ledger.
        """
        try:
            with clear_errors(self._url), self._engine.connect() as connection:
                self._settle(connection)
                with connection.begin():
                    found = connection.execute(_READ).first()
                if found is not None and not found.is_over:
                    return _leader(found)
                return self._take(connection, found)
        except LedgerError:
            self._has_table = False
            raise

    def ask_to_yield(self) -> None:
        """Ask the leader to make place for this replica's version."""
        with clear_errors(self._url), self._engine.begin() as connection:
            connection.execute(_ASK_FOR_IT, {"version": self._candidate.version})

    def _settle(self, connection: Connection) -> None:
        if not self._has_table:
            with connection.begin():
                # Not the ledger's write lock: a replica that hangs may hold that one.
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _TABLE_LOCK})
                connection.execute(text(_TABLE))
            self._has_table = True

    def _take(self, connection: Connection, before: "Row[tuple[object, ...]] | None") -> Lease | Leader:
        token, asked_at = str(uuid.uuid4()), self._monotonic()
        try:
            with connection.begin():
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_WRITER_PATIENCE}'")
                connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": WRITE_LOCK})
                found = connection.execute(_READ).first()
                if found is not None and not found.is_over:
                    return _leader(found)
                since = connection.scalar(
                    _TAKE,
                    {
                        "token": token,
                        "replica": self._candidate.replica,
                        "session": self._session,
                        "version": self._candidate.version,
                        "configuration": self._candidate.configuration,
                        "term": self._term,
                    },
                )
        except DBAPIError as error:
            if before is None or getattr(error.orig, "sqlstate", None) != _LOCK_NOT_AVAILABLE:
                raise
            with connection.begin():
                ended = connection.execute(_END_STUCK_WRITER, {"lock": WRITE_LOCK}).rowcount
                ended += self._end_sessions(connection, before)
            _log.warning("the leader's lease has run out in the middle of a write; its sessions are ended", ended=ended)
            return _leader(before)
        if before is not None:
            with connection.begin():
                self._end_sessions(connection, before)
        return self._begun(token, since, asked_at)

    def _end_sessions(self, connection: Connection, holder: "Row[tuple[object, ...]]") -> int:
        """End the sessions of a holder whose lease has run out: it may hang, and the collector's lock with it."""
        if holder.session == self._session:
            return 0
        return connection.execute(_END_SESSIONS, {"session": holder.session}).rowcount

    def _begun(self, token: str, since: datetime, asked_at: float) -> Lease:
        try:
            lock = _locked(self._url)
        except LedgerError:
            with self._engine.begin() as connection:
                connection.execute(_END, {"token": token})
            raise
        return Lease(
            # Without transactions: one that was begun when the process was stopped would hold the row.
            self._connections(self._url).execution_options(isolation_level="AUTOCOMMIT"),
            token=token,
            since=since,
            good_until=asked_at + self._term,
            term=self._term,
            lock=lock,
            monotonic=self._monotonic,
        )

    def _connections(self, url: URL) -> Engine:
        return postgresql_engine(
            url,
            pool_size=1,
            pool_pre_ping=True,
            connect_args={"application_name": self._session, "connect_timeout": 3, "tcp_user_timeout": 8000},
        )


def _locked(url: URL) -> AdvisoryLock:
    """Take the advisory lock; a session that has just been ended lets go of it in a moment."""
    pause = threading.Event()
    for _ in range(20):
        with suppress(LedgerInUseError):
            return AdvisoryLock(url)
        pause.wait(0.1)
    return AdvisoryLock(url)


def _leader(row: "Row[tuple[object, ...]]") -> Leader:
    return Leader(row.replica, row.version, row.configuration, row.since)


def is_newer(version: str, than: str) -> bool:
    """Return whether a version of the exporter is newer than another, by its numbers."""
    return _numbers(version) > _numbers(than)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]
