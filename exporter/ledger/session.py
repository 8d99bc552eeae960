"""The ledger's database together with what is kept of it in memory, and how both stay the same.

Every write is one transaction that first takes the write lock and then checks that nobody else has written since
(`revision`); after another writer, and after any failure, the contents are read anew. So a second exporter on the same
ledger, however it came to be there, neither doubles nor loses anything.
"""

import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection

from exporter.errors import LedgerError
from exporter.ledger import facts, series_rows
from exporter.ledger.contents import Contents, read_contents
from exporter.ledger.database import changing_tables, clear_errors, open_database, shown
from exporter.ledger.directory import relabel, reorder
from exporter.ledger.label_sets import Labels
from exporter.ledger.migrations import bring_up_to_date


class Session:
    """An open ledger.

    Args:
        address: the database's URL.
        labels: what counters are published under; a ledger with others is changed over as it is opened.
        max_series: how many label sets are admitted before new ones are folded.
        taken_up: called with contents that have just been read, to complete them.

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
        now: datetime,
        taken_up: Callable[[Connection, Contents], None],
    ) -> None:
        self._engine = open_database(address)
        self._labels = labels
        self._max_series = max_series
        self._taken_up = taken_up
        self._contents: Contents | None = None
        self.relabelled = False
        """Whether other labels were found at opening, so that all counters have started at 0 again."""
        try:
            with clear_errors(self._engine.url), changing_tables(self._engine) as connection:
                bring_up_to_date(connection)
                self._settle_labels(connection, now)
            with self.writing():
                pass
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def contents(self) -> Contents:
        """Return the contents as they were written last by this process, read anew if that failed."""
        if self._contents is None:
            with self.reading() as connection:
                self._contents = self._read(connection)
        return self._contents

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Begin a transaction that changes nothing."""
        with clear_errors(self._engine.url), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[tuple[Connection, Contents]]:
        """Begin a transaction on contents that are up to date; if it fails, they are read anew the next time."""
        try:
            with clear_errors(self._engine.url), self._engine.begin() as connection:
                revision = int(facts.read(connection, facts.REVISION) or 0)
                contents = self._contents
                if contents is None or contents.revision != revision:
                    contents = self._contents = self._read(connection)
                contents.revision = revision + 1
                facts.write(connection, facts.REVISION, str(contents.revision))
                yield connection, contents
        except OverflowError:
            self._contents = None
            raise LedgerError(
                "fal states more than 9.2 billion units or dollars in one hour; nothing was written"
            ) from None
        except BaseException:
            self._contents = None
            raise

    def _read(self, connection: Connection) -> Contents:
        if facts.read(connection, facts.LABELS) != _text(self._labels.names):
            raise LedgerError(
                f"the ledger {shown(self._engine.url)} is in use by an exporter with other FAL_EXPORTER_LABELS, "
                "which has changed its counters over to them; let only one exporter use it, and restart that"
            )
        try:
            contents = read_contents(connection, self._labels, self._max_series)
        except (ValueError, KeyError) as error:
            raise LedgerError(
                f"the ledger {shown(self._engine.url)} is damaged, a row cannot be read: {error}; "
                "restore a copy, or move it away and let the exporter start a new one"
            ) from error
        self._taken_up(connection, contents)
        return contents

    def _settle_labels(self, connection: Connection, now: datetime) -> None:
        """Note the birth of a new ledger; change one of other labels over to those that are configured."""
        if facts.read(connection, facts.BORN_AT) is None:
            facts.write(connection, facts.BORN_AT, now.isoformat())
        before = facts.read(connection, facts.LABELS)
        facts.write(connection, facts.LABELS, _text(self._labels.names))
        if before is None or before == _text(self._labels.names):
            return
        names: list[str] = json.loads(before)
        if sorted(names) == sorted(self._labels.names):
            reorder(connection, self._labels, names)
            return
        accounts = {scope.id: scope.account for scope in series_rows.read_scopes(connection)}
        relabel(connection, self._labels, self._max_series, accounts, now)
        self.relabelled = True


def _text(names: Collection[str]) -> str:
    return json.dumps(list(names))
