"""Loss of the ledger's database while it is open: noticing it, and saving what is still there.

A SQLite file can be deleted, replaced or overwritten under the process that has it open, and SQLite goes on without a
word: what is written then is in a file without a name, or in a mixture of two. So the name is compared with the open
file before every write and every view, which costs two calls of the system.

- The name is gone, or its write-ahead log: the open file still holds everything. It is copied to the name.
- Another file has the name: it may have been put there on purpose, so it stays, and nothing is written to it. The
  open file is copied beside it.
- The same file has other contents (truncated, or overwritten by `cp`): only memory is left. The file is renamed, and
  a new one is written from memory: counters and series go on, the charges are read from fal again.

On PostgreSQL the ledger's own facts are compared before every write: where all tables are gone or empty they are
written from memory; where they hold another state, nothing is written.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import structlog
from sqlalchemy import Connection, Engine, QueuePool, inspect, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from exporter.charges import Clock
from exporter.errors import LedgerError
from exporter.ledger.collector_lock import LedgerNote, give_to_owner_of
from exporter.ledger.contents import Contents, write_contents
from exporter.ledger.tables import rows, schema
from exporter.ledger.tables.database import clear_errors, for_reading, open_database, reading, shown, sqlite_path

_log = structlog.get_logger(__name__)

Sight = Literal["intact", "gone", "replaced", "changed"]


class LostLedgerError(LedgerError):
    """The database is no longer the ledger that was opened; nothing is written to it."""


class _Signature(NamedTuple):
    device: int
    inode: int
    size: int
    changed: int


class LedgerCondition(NamedTuple):
    """The state of the ledger's database as its collector sees it.

    Attributes:
        problem: what keeps the ledger from being read or written, as a sentence; empty while it works.
        restart_helps: whether the problem ends when the exporter is started again.
        events: what has happened to the database since it was opened, and what was odd then; sentences.
    """

    problem: str = ""
    restart_helps: bool = False
    events: tuple[str, ...] = ()


class LedgerFile:
    """The file of a ledger that this process has open, by its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._main: _Signature | None = None
        self._log: tuple[int, int] | None = None
        self.settle()

    def written(self) -> None:
        """Take the file for what it should be, after this process has written to it.

        A ledger never shrinks by its own writes, so a file that has was truncated while it was being written, and is
        left to the next look.
        """
        main = _signature(self.path)
        if main is None or self._main is None or main.size >= self._main.size:
            self.settle()

    def settle(self) -> None:
        """Take the file at the name for what it should be."""
        self._main = _signature(self.path) or self._main
        log = _signature(_log_of(self.path))
        self._log = None if log is None else (log.device, log.inode)

    def look(self) -> Sight:
        """Compare the file at the name with the one that was opened."""
        main = _signature(self.path)
        if main is None or self._main is None:
            return "gone"
        if main[:2] != self._main[:2]:
            return "replaced"
        if self._log is not None:
            log = _signature(_log_of(self.path))
            if log is None or log[:2] != self._log:
                return "gone"
        return "intact" if main == self._main else "changed"

    def is_vacant(self) -> bool:
        """Return whether the file at the name holds nothing: it is empty, or a database without a table."""
        try:
            if self.path.stat().st_size == 0:
                return True
            with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?immutable=1", uri=True)) as connection:
                # Immutable: else the write-ahead log of the file that was here would be read as a part of this one.
                (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except (OSError, sqlite3.Error):
            return False
        return bool(tables == 0)

    def drop_log(self) -> None:
        """Remove the write-ahead log of the open file from beside another file, which would be damaged by it."""
        log = _signature(_log_of(self.path))
        if log is not None and (log.device, log.inode) == self._log:
            _log_of(self.path).unlink(missing_ok=True)
            _index_of(self.path).unlink(missing_ok=True)

    def put_back(self, engine: Engine) -> None:
        """Copy the open file to the name, which is free or vacant; the engine's connections are closed.

        Raises:
            OSError, sqlite3.Error: it could not be copied; the engine still has the open file.
        """
        copy = self.path.with_name(f"{self.path.name}.rescued")
        copy_open_file(engine, copy)
        self.replace_by(copy, engine)

    def replace_by(self, database: Path, engine: Engine) -> None:
        """Put a closed database in the file's place, and close the engine's connections."""
        engine.dispose()
        for name in (_log_of(self.path), _index_of(self.path)):
            # A log that stayed would be played into the new file.
            name.unlink(missing_ok=True)
        give_to_owner_of(self.path.parent, database)
        database.replace(self.path)
        sync_folder(self.path.parent)


class FirstLook(NamedTuple):
    """State of a SQLite ledger's name before it was opened.

    Attributes:
        size: the file's; None where there was none, or where the ledger is on a server.
        orphan: the new name of a write-ahead log whose database was missing or empty.
    """

    name: str
    size: int | None
    orphan: str

    def oddities(self, known: Mapping[str, str], before: LedgerNote | None, *, is_new: bool) -> Iterator[str]:
        """Yield what says that the ledger that was opened is not the one that was used before.

        Args:
            known: the facts of the ledger that was opened.
            before: what the last collector has noted.
            is_new: whether there was no ledger, so that one was begun.
        """
        remedy = "if you have a copy of it, stop the exporter and run `fal-exporter ledger restore FILE`"
        begun = "a new ledger was created, whose counters start at 0"
        if self.orphan:
            yield (
                f"the ledger's file {self.name} was missing or empty beside its write-ahead log, which is now called "
                f"{self.orphan}; {begun}; {remedy}"
            )
        elif is_new and before is not None:
            yield (
                f"the ledger {self.name} of {before.born_at[:16]} has disappeared since it was last used; {begun}; "
                f"{remedy}"
            )
        elif is_new and self.size:
            yield (
                f"the SQLite file {self.name} contains no ledger; it may be a copy that was made without the file "
                f"ending in -wal; {begun}; {remedy}"
            )
        elif before is not None and before.born_at != known.get(schema.BORN_AT):
            yield f"the ledger {self.name} is not the one that was last used here, which began at {before.born_at[:16]}"
        elif before is not None and int(known.get(schema.REVISION) or 0) < before.revision:
            yield (
                f"the ledger {self.name} is an older state of the one that was last used here; counters may have "
                "fallen, and what was charged since is counted again"
            )


def first_look(url: URL, now: datetime) -> FirstLook:
    """Look at a ledger's file before it is opened; rename a write-ahead log that SQLite would delete."""
    path = sqlite_path(url)
    if path is None:
        return FirstLook("", None, "")
    main, log = _signature(path), _signature(_log_of(path))
    orphan = ""
    if (main is None or main.size == 0) and log is not None and log.size:
        renamed = free_name(_log_of(path), "orphaned", now)
        with suppress(OSError):
            _log_of(path).rename(renamed)
            orphan = renamed.name
    return FirstLook(str(path), None if main is None else main.size, orphan)


def copy_open_file(engine: Engine, target: Path) -> None:
    """Copy the database that the engine has open, whatever its name leads to now.

    Raises:
        OSError, sqlite3.Error: it could not be copied; no half of it is left.
    """
    raw = engine.raw_connection()
    try:
        source = raw.driver_connection
        if not isinstance(source, sqlite3.Connection):
            raise sqlite3.InterfaceError("the connection is not one of SQLite")
        copy_database(source, target)
    finally:
        raw.close()


def copy_database(
    source: sqlite3.Connection, target: Path, *, progress: Callable[[int, int, int], object] | None = None
) -> None:
    """Copy a database at one instant into one whole file that has reached the disk.

    Raises:
        OSError, sqlite3.Error: it could not be copied; no half of it is left.
    """
    target.unlink(missing_ok=True)
    try:
        with closing(sqlite3.connect(target, isolation_level=None)) as copy:
            # In one step, which sees one instant; writers of the source do not wait for it.
            source.backup(copy, progress=progress)
            # The copy has the source's journal mode: with a write-ahead log it would be two files when opened.
            copy.execute("PRAGMA journal_mode = DELETE")
            (found,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is damaged: {found}")  # noqa: TRY301  removes the copy
        with target.open("rb") as file:
            os.fsync(file.fileno())
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have a new name in a folder survive a power loss, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def free_name(path: Path, why: str, at: datetime) -> Path:
    """Return a name beside a file that nothing has yet."""
    name = f"{path.name}.{why}-{at:%Y%m%dT%H%M%SZ}"
    found, number = path.with_name(name), 1
    while found.exists():
        number += 1
        found = path.with_name(f"{name}-{number}")
    return found


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-wal")


def _index_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-shm")


def _signature(path: Path) -> _Signature | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return _Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


_RETRY = timedelta(seconds=30)
"""Pause between attempts to write a lost file anew."""

_FROM_MEMORY = (
    "the ledger was rewritten from memory: counters continue, and the charges are read from fal again; what was "
    "charged between the last poll and the end of this hour, and late charges of earlier hours, are missing from the "
    "counters"
)


class LossGuard:
    """Watches over an open ledger.

    Args:
        engine: writes the ledger; its connections are closed when the database is written anew.
        labels: the text of the fact LABELS.
        last: returns the contents that were last known to be in the database.
        rebuilt: called when the database was written from memory, so that the contents are read again.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        labels: str,
        clock: Clock,
        last: Callable[[], Contents | None],
        rebuilt: Callable[[], None],
    ) -> None:
        self.failure = ""
        """The last error of the database; empty since the last write that succeeded."""
        self._engine = engine
        self._labels = labels
        self._clock = clock
        self._last = last
        self._rebuilt = rebuilt
        self._name = f"the ledger {shown(engine.url)}"
        self._path = sqlite_path(engine.url)
        self._file: LedgerFile | None = None
        self._loss = ""
        self._restart_helps = False
        self._events: list[str] = []
        self._set_aside: tuple[int, int] | None = None
        self._retry_at: datetime | None = None
        self._must_rebuild = False
        self._timeline: str | None = None

    @property
    def is_lost(self) -> bool:
        """True if the ledger is not in its place."""
        return bool(self._loss)

    @property
    def condition(self) -> LedgerCondition:
        """The state of the database."""
        return LedgerCondition(self._loss or self.failure, self._restart_helps, tuple(self._events))

    def opened(self) -> None:
        """Begin to watch."""
        if self._path is not None:
            self._file = LedgerFile(self._path)
        else:
            with clear_errors(self._engine.url), for_reading(self._engine).begin() as connection:
                self._timeline = _timeline(connection)

    def written(self) -> None:
        """Note that this process has written to the database."""
        self.failure = ""
        if self._file is not None and not self._loss:
            self._file.written()

    def notice(self, *sentences: str) -> None:
        """Log that something has happened to the ledger, and keep it for the page."""
        for sentence in sentences:
            _log.warning("the ledger has changed since it was last used", problem=sentence)
            self._events.append(sentence)

    def check_file(self) -> None:
        """Compare a SQLite ledger with the file that was opened; write it anew where it is lost.

        A file that was deleted and cannot be written anew yet is used on as long as it is open.

        Raises:
            LostLedgerError: the open file is the ledger no more.
        """
        file = self._file
        if file is None:
            return
        sight = "changed" if self._must_rebuild else file.look()
        if sight == "replaced" and file.is_vacant():
            sight = "gone"
        if sight == "changed" and not self._must_rebuild and self._is_unharmed():
            file.settle()
            sight = "intact"
        if sight == "intact":
            self._found_again()
        elif sight == "replaced":
            self._step_aside(file)
        else:
            self._write_anew(file, from_memory=sight == "changed" or not self._has_open_file())

    def notice_loss_of(self, writes: int) -> None:
        """Note that the server has lost so many of the newest writes."""
        self.notice(
            f"{self._now()}: {self._name} lacks the newest {writes} writes, as after a fail-over to a standby that was "
            "behind; what they held is read from fal again, and counters keep their values until it is"
        )

    def check_tables(self) -> bool:
        """Compare the facts of a ledger on a server with memory; write the tables anew where all are gone.

        Returns:
            True if the server has failed over to one that lacks the newest writes.

        Raises:
            LostLedgerError: they hold another state.
            LedgerError: they cannot be written anew.
        """
        last = self._last()
        if self._path is not None or last is None:
            return False
        timeline = None
        try:
            with for_reading(self._engine).begin() as connection:
                known = schema.read_all(connection)
                timeline = _timeline(connection)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") != _UNDEFINED_TABLE:
                return False  # the write that follows says what is wrong
            known = {}
        # A dump that is being restored is an earlier state as well, and must not be written to: it has no new timeline.
        has_failed_over = timeline is not None and self._timeline is not None and timeline != self._timeline
        is_same = _is_same(known, last)
        if is_same or (has_failed_over and known.get(schema.BORN_AT) == last.born_at.isoformat()):
            self._timeline = timeline
            self._found_again()
            return not is_same
        with clear_errors(self._engine.url), self._engine.begin() as connection:
            if _holds_rows(connection):
                self._fail_as_other(is_ledger=schema.BORN_AT in known)
            write_contents(connection, last, labels=self._labels, at=self._clock())
        self._found_again()
        self._rebuilt()
        self.notice(f"{self._now()}: the tables of {self._name} were gone; {_FROM_MEMORY}")
        return False

    def recognise(self, contents: Contents) -> None:
        """Compare contents that were read anew with those that memory had.

        Raises:
            LostLedgerError: they are an earlier state, or those of another ledger.
        """
        last = self._last()
        if last is not None and (contents.born_at != last.born_at or contents.revision < last.committed):
            self._fail_as_other(is_ledger=True)

    def _fail_as_other(self, *, is_ledger: bool) -> None:
        self._restart_helps = is_ledger
        remedy = (
            "restart the exporter to continue from there"
            if is_ledger
            else "restore a complete dump, or drop all tables of the ledger, which are then rewritten"
        )
        self._fail(f"{self._name} contains a different state than before, so nothing is written to it; {remedy}")

    def _now(self) -> str:
        return f"{self._clock():%Y-%m-%d %H:%M} UTC"

    def _found_again(self) -> None:
        if self._loss:
            _log.info("the ledger is back in place")
        self._loss, self._restart_helps, self._retry_at, self._must_rebuild = "", False, None, False

    def _fail(self, loss: str) -> None:
        if loss != self._loss:
            _log.error("the ledger is lost", problem=loss)
        self._loss = loss
        raise LostLedgerError(loss)

    def _is_unharmed(self) -> bool:
        """Return whether a file that another program has written to still holds the ledger as memory knows it."""
        last = self._last()
        try:
            with reading(self._address()) as connection:
                found = [row[0] for row in connection.exec_driver_sql("PRAGMA integrity_check(1)")]
                known = schema.read_all(connection)
                if found != ["ok"] or last is None or not _is_same(known, last):
                    return found == ["ok"] and last is None
                if last.revision != last.committed:
                    return True
                return rows.read_counters(connection) == last.totals.counters and rows.count(connection) == last.charges
        except (LedgerError, ValueError):
            return False

    def _step_aside(self, file: LedgerFile) -> None:
        status = file.path.stat()
        if self._set_aside != (status.st_dev, status.st_ino):
            self._set_aside = (status.st_dev, status.st_ino)
            copy = free_name(file.path, "replaced", self._clock())
            try:
                copy_open_file(self._engine, copy)
                kept = f"what had been counted was saved as {copy.name} beside it"
            except (OSError, sqlite3.Error) as error:
                kept = f"what had been counted could not be saved: {error}"
            file.drop_log()
            self.notice(f"{self._now()}: {file.path} was replaced by another file; {kept}")
        self._restart_helps = self._is_ledger()
        remedy = (
            "restart the exporter to continue with that file"
            if self._restart_helps
            else "move that file away, and the ledger is rewritten"
        )
        self._fail(f"{self._name} has been replaced by another file, so nothing is written to it; {remedy}")

    def _is_ledger(self) -> bool:
        try:
            with reading(self._address(), of_any_version=True):
                return True
        except LedgerError:
            return False

    def _write_anew(self, file: LedgerFile, *, from_memory: bool) -> None:
        now = self._clock()
        if self._retry_at is not None and now < self._retry_at:
            if from_memory:
                raise LostLedgerError(self._loss)
            return
        try:
            if from_memory:
                event = self._rebuild(file)
            else:
                file.put_back(self._engine)
                event = f"{file.path} was deleted; it was restored from the open file, and nothing is lost"
        except (OSError, sqlite3.Error, LedgerError) as error:
            self._retry_at, self._restart_helps = now + _RETRY, False
            loss = (
                f"{self._name} is lost and cannot be rewritten: {error}; what has been counted exists only in this "
                "process: do not stop it until the directory can be written again"
            )
            with suppress(*(() if from_memory else (LostLedgerError,))):
                self._fail(loss)
            return
        self._found_again()
        if from_memory:
            self._rebuilt()
        self.notice(f"{self._now()}: {event}")
        with clear_errors(self._engine.url), for_reading(self._engine).begin() as connection:
            schema.read(connection, schema.REVISION)
        file.settle()

    def _rebuild(self, file: LedgerFile) -> str:
        """Write a new file from memory and return what has happened."""
        self._must_rebuild = True
        last = self._last()
        if last is None:
            raise LedgerError("nothing of it is in memory")
        new = file.path.with_name(f"{file.path.name}.rescued")
        new.unlink(missing_ok=True)
        engine = open_database(f"sqlite:///{new}")
        try:
            with clear_errors(engine.url), engine.begin() as connection:
                write_contents(connection, last, labels=self._labels, at=self._clock())
        finally:
            engine.dispose()
        what = f"{file.path} was deleted"
        if file.path.exists():
            damaged = free_name(file.path, "damaged", self._clock())
            # Renamed before it is closed, else SQLite would write its log into it.
            file.path.rename(damaged)
            what = f"{file.path} was overwritten or truncated, and is now called {damaged.name}"
        file.replace_by(new, self._engine)
        return f"{what}; {_FROM_MEMORY}"

    def _has_open_file(self) -> bool:
        pool = self._engine.pool
        return isinstance(pool, QueuePool) and pool.checkedin() > 0

    def _address(self) -> str:
        return self._engine.url.render_as_string(hide_password=False)


_UNDEFINED_TABLE = "42P01"

_TIMELINE = "SELECT CASE WHEN NOT pg_is_in_recovery() THEN substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END"
"""PostgreSQL counts in it how often a standby, or a copy, has gone its own way."""


def _timeline(connection: Connection) -> str | None:
    """Return the timeline of a PostgreSQL server; None where it does not say."""
    try:
        found: str | None = connection.exec_driver_sql(_TIMELINE).scalar()
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return None
    return found


def _is_same(known: Mapping[str, str], last: Contents) -> bool:
    return known.get(schema.BORN_AT) == last.born_at.isoformat() and (
        int(known.get(schema.REVISION) or 0) >= last.committed
    )


def _holds_rows(connection: Connection) -> bool:
    known = inspect(connection)
    return any(
        connection.execute(select(table).limit(1)).first() is not None
        for name, table in schema.metadata.tables.items()
        if known.has_table(name)
    )
