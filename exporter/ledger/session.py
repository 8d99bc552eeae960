"""Session: the ledger's database together with what is kept of it in memory, all but the charges themselves.

Every write is one transaction that first takes the write lock and then checks that nobody else has written since
(`revision`); after another writer, and after any failure, the contents are read anew. So a second exporter on the same
ledger, however it came to be there, neither doubles nor loses anything.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from exporter.charges import Clock
from exporter.errors import LedgerError
from exporter.ledger.accounting.counters import Labels
from exporter.ledger.collector_lock import CollectorLock, LedgerInUseError, LedgerNote
from exporter.ledger.contents import Contents, read_contents
from exporter.ledger.directory import relabel, reorder
from exporter.ledger.heights import Heights, heights_of, keep_heights
from exporter.ledger.loss import LedgerCondition, LossGuard, LostLedgerError, first_look
from exporter.ledger.tables import rows, schema
from exporter.ledger.tables.database import changing_tables, clear_errors, for_reading, open_database, shown
from exporter.ledger.tables.keys import labels_of, read_keys
from exporter.ledger.tables.migrations import bring_up_to_date

_log = structlog.get_logger(__name__)


class Session:
    """An open ledger.

    Args:
        address: the database's URL.
        labels: what counters are published under; a ledger with others is changed over as it is opened.
        max_series: how many label sets are admitted before new ones are folded.
        clock: the time.
        on_loaded: called with contents that have just been read, to complete them.
        lock: the right to be the ledger's collector, released with the session; None for one beside the collector.
        heights: what this process has shown of the ledger, which another collector has written; None for nothing.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerError: from every method: the database cannot be used; what was being written has not been written.
    """

    def __init__(
        self,
        address: str,
        *,
        labels: Labels,
        max_series: int,
        clock: Clock,
        on_loaded: Callable[[Connection, Contents], None],
        lock: CollectorLock | None = None,
        heights: Heights | None = None,
    ) -> None:
        self._labels = labels
        self._max_series = max_series
        self._on_loaded = on_loaded
        self._lock = lock
        self._contents: Contents | None = None
        self._last: Contents | None = None
        self._outer: Connection | None = None
        self._taken: LedgerInUseError | None = None
        self._is_open = False
        self._heights = heights
        self._lost_writes = 0
        self.fail_overs = 0
        """Number of times that the server has lost its newest writes."""
        self.relabelled = False
        """True if other labels were found at opening, so that all counters have started at 0 again."""
        with _released_on_failure(lock):
            self._engine = open_database(address)
            self._guard = LossGuard(
                self._engine, labels=_text(labels.names), clock=clock, last=lambda: self._last, rebuilt=self._forget
            )
            try:
                self._open(clock)
            except BaseException:
                self._engine.dispose()
                raise

    @property
    def condition(self) -> LedgerCondition:
        """The state of the database."""
        return self._guard.condition

    def close(self) -> None:
        """Let go of the database; a SQLite ledger is one whole file afterwards."""
        if self._is_open:
            self._is_open = False
            with suppress(LedgerError):
                self._guard.check_file()
            if not self._guard.is_lost:
                self._leave_note()
                self._checkpoint()
        self._engine.dispose()
        if self._lock is not None:
            self._lock.release()

    def check(self) -> None:
        """Notice a ledger that is lost; put it back where that can be done.

        Raises:
            LedgerInUseError: another process has become the ledger's collector.
            LostLedgerError: the ledger is lost, and nothing can be written.
        """
        if self._taken is not None:
            raise self._taken
        self._guard.check_file()

    def contents(self) -> Contents:
        """Return the contents as they were written last by this process, read anew if that failed."""
        if self._contents is None and self._is_open:
            self._look_at_server()
        if self._contents is None and self._heights is not None:
            # Nothing is shown of an earlier state before counters have their heights again.
            with self.writing() as (_, contents):
                pass
            return contents
        if self._contents is None:
            with self.reading() as connection:
                self._contents = self._last = self._read(connection)
        return self._contents

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a transaction that changes nothing; it sees one instant, and no writer waits for it."""
        if self._outer is not None:
            yield self._outer
            return
        with self._clear_errors(), for_reading(self._engine).begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, Contents]]:
        """Begin a transaction on contents that are up to date; if it fails, they are read anew the next time."""
        with self._whole_or_not_at_all(), self._transaction() as connection:
            revision = int(schema.read(connection, schema.REVISION) or 0)
            contents = self._contents
            if contents is None or contents.revision != revision:
                contents = self._contents = self._read(connection, changes=True)
            contents.revision += 1
            schema.write(connection, schema.REVISION, str(contents.revision))
            yield connection, contents
        contents.committed = contents.revision
        self._last, self._heights = contents, None
        if self._lost_writes:
            self._guard.notice_loss_of(self._lost_writes)
            self._lost_writes = 0
            self.fail_overs += 1
        self._guard.written()

    @contextmanager
    def in_one_transaction(self) -> Iterator[Connection]:
        """Make all that is read and written in the block one transaction; all is read anew afterwards."""
        with self._whole_or_not_at_all(), self._transaction() as connection:
            self._outer = connection
            try:
                yield connection
            finally:
                self._outer = None
        self._forget()
        self._guard.written()

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        try:
            yield
        except LostLedgerError:
            # Nothing was begun, and there is nothing to read anew.
            raise
        except OverflowError:
            self._forget()
            raise LedgerError(
                "fal states more than 9.2 billion units or dollars in one hour; nothing was written"
            ) from None
        except BaseException:
            self._forget()
            raise

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        if self._outer is not None:
            yield self._outer
            return
        with self._clear_errors():
            self._check_before_writing()
        with self._clear_errors(), self._engine.begin() as connection:
            self._fence(connection)
            yield connection

    def _fence(self, connection: Connection) -> None:
        if self._lock is not None:
            try:
                self._lock.fence(connection)
            except LedgerInUseError as error:
                self._taken = error
                raise

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        """Turn the driver's errors into sentences, and keep the last one as the ledger's problem."""
        try:
            with clear_errors(self._engine.url):
                yield
        except LedgerError as error:
            if isinstance(error.__cause__, DBAPIError):
                self._guard.failure = str(error)
            raise

    def _check_before_writing(self) -> None:
        if self._lock is not None:
            try:
                self._lock.check()
            except LedgerInUseError as error:
                self._taken = error
        if self._is_open:
            self.check()
            self._look_at_server()

    def _look_at_server(self) -> None:
        """Notice that a server has lost its newest writes; its contents are read anew, and counters keep heights."""
        if self._guard.check_tables() and self._last is not None:
            self._heights = heights_of(self._last, self._labels.names)
            self._last = None
            self._forget()

    def read_anew(self) -> None:
        """Have the contents read from the database before they are used again."""
        self._forget()

    def _forget(self) -> None:
        self._contents = None

    def _open(self, clock: Clock) -> None:
        before = None if self._lock is None else self._lock.before
        found = first_look(self._engine.url, clock())
        with clear_errors(self._engine.url), changing_tables(self._engine) as connection:
            self._fence(connection)
            is_new = bring_up_to_date(connection)
            self._settle_labels(connection, clock())
            known = schema.read_all(connection)
        self._guard.notice(*found.oddities(known, before, is_new=is_new))
        with self.writing():
            pass
        self._guard.opened()
        self._is_open = True
        self._leave_note()

    def _leave_note(self) -> None:
        if self._lock is not None and self._last is not None:
            self._lock.note(LedgerNote(self._last.born_at.isoformat(), self._last.revision))

    def _checkpoint(self) -> None:
        """Write the log into the database, so that a copy of that one file holds everything."""
        if self._engine.dialect.name != "sqlite":
            return
        try:
            with closing(self._engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
                cursor.execute("PRAGMA busy_timeout = 1000")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                (is_busy, *_) = cursor.fetchone() or (True,)
        except (DBAPIError, sqlite3.Error):
            is_busy = True
        if is_busy:
            _log.warning(
                "the ledger is still being read, so a part of it stays in its write-ahead log; copy both files, or use "
                "fal-exporter ledger backup",
                ledger=shown(self._engine.url),
                log=f"{self._engine.url.database}-wal",
            )

    def _read(self, connection: Connection, *, changes: bool = False) -> Contents:
        if schema.read(connection, schema.LABELS) != _text(self._labels.names):
            raise LedgerError(
                f"the ledger {shown(self._engine.url)} is in use by an exporter with other FAL_EXPORTER_LABELS, which "
                "has changed its counters over to them; let only one exporter use it, and restart that one"
            )
        try:
            contents = read_contents(connection, self._labels, self._max_series)
        except (ValueError, KeyError) as error:
            raise LedgerError(
                f"the ledger {shown(self._engine.url)} is damaged, a row cannot be read: {error}; restore a backup, "
                "or move it away and let the exporter start a new one"
            ) from error
        self._guard.recognise(contents)
        if changes and self._heights is not None and self._heights.are_ahead_of(contents):
            self._lost_writes = self._heights.revision - contents.revision
            keep_heights(connection, contents, self._heights, self._labels.names)
        self._on_loaded(connection, contents)
        return contents

    def _settle_labels(self, connection: Connection, now: datetime) -> None:
        """Note the birth of a new ledger; change one of other labels over to those that are configured."""
        if schema.read(connection, schema.BORN_AT) is None:
            schema.write(connection, schema.BORN_AT, now.isoformat())
        before = schema.read(connection, schema.LABELS)
        schema.write(connection, schema.LABELS, _text(self._labels.names))
        if before is None or before == _text(self._labels.names):
            return
        found: list[str] = json.loads(before)
        if sorted(found) == sorted(self._labels.names):
            reorder(connection, self._labels, found)
            return
        accounts = {scope.id: scope.account for scope in rows.read_scopes(connection)}
        key_labels = labels_of(read_keys(connection))
        relabel(connection, self._labels, self._max_series, accounts, key_labels, now)
        self.relabelled = True


def _text(names: Collection[str]) -> str:
    return json.dumps(list(names))


@contextmanager
def _released_on_failure(lock: CollectorLock | None) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if lock is not None:
            lock.release()
        raise
