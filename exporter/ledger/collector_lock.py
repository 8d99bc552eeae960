"""Collector lock: a ledger has one collector, and a second one learns who holds it.

Readers, `check`, `backfill` and the exports take no lock. The lock ends with the process that holds it, however that
ends, so none is ever stale:

- SQLite: an exclusive `flock` on a file beside the database, `NAME.lock`. The kernel releases it when the process
  dies. SQLite's own locks cannot serve: they last for one transaction, or (`locking_mode = EXCLUSIVE`) shut out all
  readers. The file stays when the lock is released, as removing it would let two processes lock two files; it
  says who held the ledger last and what the ledger was then, so that a ledger that has disappeared is noticed.
- PostgreSQL: an advisory lock on a connection of its own, which the server releases when the session ends. A row with
  an expiry would need clocks that agree. The key includes the schema, so that one database can hold several ledgers.
  The lock is the session's, but where a pooler is between it is a transaction's that stays open: a pooler that lends
  its sessions for a transaction (PgBouncer: `pool_mode = transaction`) would go on to lend one that holds a lock, to
  a second collector as well as to the first, and keep it when the first has ended.
"""

import fcntl
import json
import os
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog
from sqlalchemy import Connection, NullPool, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from exporter.errors import LedgerError
from exporter.ledger.tables.database import (
    clear_errors,
    file_sentence,
    is_pooled,
    ledger_url,
    postgresql_engine,
    shown,
    sqlite_path,
)

_log = structlog.get_logger(__name__)

START_PATIENCE = 3.0
"""Seconds that a starting collector waits for the one before it to end."""

_PAUSE = 0.1
_KEY = 0x66616C
"""The first half of the advisory lock's key; the other is the checksum of the schema's name."""


class LedgerInUseError(LedgerError):
    """Another process is the ledger's collector."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class LedgerNote:
    """The ledger as its last collector knew it.

    Attributes:
        born_at: when the ledger began to count, as the ledger has it.
        revision: its number of writes.
    """

    born_at: str
    revision: int


class CollectorLock(Protocol):
    """The right to be a ledger's only collector."""

    @property
    def before(self) -> LedgerNote | None:
        """The ledger as it was left by the collector before; None where that is not known."""

    def check(self) -> None:
        """Make sure that the lock is still held; take it again where it was lost and is free.

        Raises:
            LedgerInUseError: another process has taken it meanwhile.
            LedgerError: it cannot be asked for.
        """

    def fence(self, connection: Connection) -> None:
        """Refuse a write that has taken the write lock, where another collector has come in between.

        Raises:
            LedgerInUseError: another process is the collector.
        """

    def note(self, note: LedgerNote) -> None:
        """Keep what the ledger is now, where there is a place for it."""

    def release(self) -> None:
        """Let go of it."""


def take_collector_lock(address: str, *, patience: float = 0.0) -> CollectorLock:
    """Become the collector of a ledger.

    Args:
        address: `sqlite:///path` or `postgresql://user@host/database`.
        patience: seconds to wait for another collector to end.

    Raises:
        LedgerInUseError: another process is the collector.
        ConfigurationError, LedgerError: the lock cannot be asked for.
    """
    url = ledger_url(address)
    end = time.monotonic() + patience
    while True:
        try:
            if url.get_backend_name() == "sqlite":
                path = sqlite_path(url)
                return _NoLock() if path is None else _FileLock(url, path)
            return AdvisoryLock(url)
        except LedgerInUseError:
            if time.monotonic() >= end:
                raise
            time.sleep(_PAUSE)


def collector_of(url: URL) -> str:
    """Return who is the collector of a ledger, in words; empty where nobody is. The lock is not taken.

    Raises:
        LedgerError: it cannot be asked for.
    """
    if url.get_backend_name() == "sqlite":
        path = sqlite_path(url)
        return "" if path is None else _file_holder(lock_path(path))
    engine = postgresql_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    try:
        with clear_errors(url), engine.connect() as connection:
            holder = connection.execute(_HOLDER, _advisory_key(connection)).first()
    finally:
        engine.dispose()
    return "" if holder is None else _session(holder.application_name, holder.client_addr, holder.since)


def _file_holder(path: Path) -> str:
    """Return who has locked a file; one that cannot be read or is missing is nobody's as far as can be told."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        # Shared, for an instant: an exporter that starts just now tries again.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(_content(descriptor))
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    return ""


@contextmanager
def as_collector(address: str) -> Iterator[CollectorLock]:
    """Hold the lock for a command that changes a ledger.

    Raises:
        LedgerInUseError: an exporter is running on the ledger.
    """
    lock = take_collector_lock(address)
    try:
        yield lock
    finally:
        lock.release()


def lock_path(path: Path) -> Path:
    """Return the file that is locked for a SQLite ledger."""
    return path.with_name(f"{path.name}.lock")


def give_to_owner_of(folder: Path, path: Path) -> None:
    """Give a file that root has written to the user the folder belongs to, as which the exporter may run."""
    if os.geteuid() == 0:
        status = folder.stat()
        os.chown(path, status.st_uid, status.st_gid)


def _in_use(url: URL, holder: str) -> LedgerInUseError:
    return LedgerInUseError(
        f"the ledger {shown(url)} already has a collector, {holder}; run one exporter per ledger: stop that one, or "
        "set FAL_EXPORTER_LEDGER_URL to a ledger of its own"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class _NoLock:
    """A database in memory is nobody else's."""

    before: LedgerNote | None = None

    def check(self) -> None:
        pass

    def fence(self, connection: Connection) -> None:
        pass

    def note(self, note: LedgerNote) -> None:
        pass

    def release(self) -> None:
        pass


class _FileLock:
    """An exclusive lock on the file beside a SQLite database."""

    def __init__(self, url: URL, path: Path) -> None:
        self._url = url
        self._path = lock_path(path)
        self._since = _now()
        self._descriptor = -1
        self._note: LedgerNote | None = None
        self._take()
        self.before = self._note

    def check(self) -> None:
        if self._is_in_place():
            return
        # Removed together with the ledger, for example by `rm ledger.sqlite*`: another process could lock a new file.
        self.release()
        note = self._note
        self._take()
        self._note = note
        self._write()

    def fence(self, connection: Connection) -> None:
        """Refuse nothing: the kernel keeps the lock as long as the process lives."""

    def note(self, note: LedgerNote) -> None:
        if note != self._note:
            self._note = note
            self._write()

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take(self) -> None:
        while not self._is_in_place():
            self.release()
            try:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
                give_to_owner_of(self._path.parent, self._path)
            except OSError as error:
                raise LedgerError(f"the ledger {shown(self._url)} {file_sentence(error)}") from None
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                content = self._read()
                self.release()
                raise _in_use(self._url, _holder(content)) from None
            except OSError as error:
                _log.warning(
                    "this file system cannot lock files: a second exporter on the same ledger would go unnoticed",
                    file=str(self._path),
                    problem=error.strerror,
                )
                break
        self._note = _noted(self._read())
        self._write()

    def _is_in_place(self) -> bool:
        """Return whether the file that is open is the one that another process would lock."""
        if self._descriptor < 0:
            return False
        with suppress(OSError):
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        return False

    def _read(self) -> dict[str, object]:
        return _content(self._descriptor)

    def _write(self) -> None:
        content: dict[str, object] = {"host": socket.gethostname(), "pid": os.getpid(), "since": self._since}
        if self._note is not None:
            content |= {"ledger_born_at": self._note.born_at, "ledger_revision": self._note.revision}
        line = json.dumps(content).encode() + b"\n"
        # The lock is what counts; a full disk only means that the note is missing.
        with suppress(OSError):
            os.pwrite(self._descriptor, line, 0)
            os.ftruncate(self._descriptor, len(line))


def _content(descriptor: int) -> dict[str, object]:
    try:
        content = json.loads(os.pread(descriptor, 4096, 0) or b"{}")
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _holder(content: dict[str, object]) -> str:
    if not content:
        return "a process that has just started"
    return f"process {content.get('pid')} on host {content.get('host')}, since {content.get('since')}"


def _noted(content: dict[str, object]) -> LedgerNote | None:
    born_at, revision = content.get("ledger_born_at"), content.get("ledger_revision")
    return LedgerNote(born_at, revision) if isinstance(born_at, str) and isinstance(revision, int) else None


_LOCK_SESSION = text("SELECT pg_try_advisory_lock(:key, :schema)")
_LOCK_TRANSACTION = text("SELECT pg_try_advisory_xact_lock(:key, :schema)")
_NO_TIMEOUT = text(
    "SELECT set_config(name, '0', :is_pooled) FROM pg_settings "
    "WHERE name IN ('idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')"
)
"""A lock that the server's limits let go would be another's, unnoticed until the next write."""

_HOLDER = text(
    "SELECT activity.application_name, activity.client_addr, "
    # The session of a pooler is older than what it is lent for.
    "coalesce(activity.xact_start, activity.backend_start) AS since FROM pg_locks AS held "
    "JOIN pg_stat_activity AS activity ON activity.pid = held.pid "
    "WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 2 "
    "AND held.classid = :key AND held.objid = :schema "
    "AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class AdvisoryLock:
    """An advisory lock of PostgreSQL, and the connection that holds it: for the session, or for an open transaction."""

    before: LedgerNote | None = None

    def __init__(self, url: URL) -> None:
        self._url = url
        self._engine = postgresql_engine(
            url,
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            # Shown by pg_stat_activity, which tells the next one who holds the lock; cut at 63 bytes.
            connect_args={"application_name": f"fal-exporter pid {os.getpid()} on {socket.gethostname()}"},
        )
        self._connection: Connection | None = None
        self._is_pooled = False
        with clear_errors(url):
            self._connection = self._take()

    def check(self) -> None:
        """Make sure that the session still holds it; take it again where the session has ended and it is free.

        Raises:
            LedgerInUseError: another process has taken it meanwhile.
            LedgerError: it cannot be asked for.
        """
        with clear_errors(self._url):
            if self._connection is not None:
                try:
                    self._connection.execute(text("SELECT 1"))
                except DBAPIError as error:
                    self._connection.close()
                    self._connection = None
                    if not error.connection_invalidated:
                        raise
            if self._connection is None:
                self._connection = self._take()

    def fence(self, connection: Connection) -> None:
        """Refuse nothing: another collector is found at the next check, and by the revision that it has written."""

    def note(self, note: LedgerNote) -> None:
        """Keep nothing: a database that is lost takes its notes along."""

    def release(self) -> None:
        """Let go of it, by ending the session."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._engine.dispose()

    def _take(self) -> Connection:
        connection = self._engine.connect()
        try:
            if pooled := _is_behind_pooler(connection):
                # Pinned to one session of the server until the transaction ends, which is when the connection does.
                connection.exec_driver_sql("BEGIN")
            else:
                # The server ends the session within a minute when the machine of its client is gone without a word.
                for setting in ("tcp_keepalives_idle = 30", "tcp_keepalives_interval = 10", "tcp_keepalives_count = 3"):
                    connection.exec_driver_sql(f"SET {setting}")
            connection.execute(_NO_TIMEOUT, {"is_pooled": pooled})
            key = _advisory_key(connection)
            is_ours = connection.scalar(_LOCK_TRANSACTION if pooled else _LOCK_SESSION, key)
            holder = None if is_ours else connection.execute(_HOLDER, key).first()
        except BaseException:
            connection.close()
            raise
        if is_ours:
            self._tell(is_pooled=pooled)
            return connection
        connection.close()
        raise _in_use(
            self._url,
            "another session of the database"
            if holder is None
            else _session(holder.application_name, holder.client_addr, holder.since),
        )

    def _tell(self, *, is_pooled: bool) -> None:
        """Log the first time that the lock costs a pooler one of its connections."""
        if is_pooled and not self._is_pooled:
            _log.info(
                "PostgreSQL is reached through a pooler: one of its server connections stays with the collector, in an "
                "open transaction that holds the lock",
                ledger=shown(self._url),
            )
        self._is_pooled = is_pooled


def _is_behind_pooler(connection: Connection) -> bool:
    driver = connection.connection.dbapi_connection
    return driver is not None and is_pooled(driver)


def _advisory_key(connection: Connection) -> dict[str, int]:
    schema = connection.scalar(text("SELECT current_schema()")) or ""
    return {"key": _KEY, "schema": zlib.crc32(schema.encode()) & 0x7FFFFFFF}


def _session(name: str, address: str | None, since: datetime) -> str:
    at = since.astimezone(UTC).isoformat(timespec="seconds")
    return f"{name} at {address or 'a local socket'}, since {at}"
