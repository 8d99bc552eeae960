"""Session: the database together with what is kept of it in memory.

What the ledger keeps in memory: all but the charges themselves.

The ledger's database together with what is kept of it in memory, and how both stay the same.

Every write is one transaction that first takes the write lock and then checks that nobody else has written since
(`revision`); after another writer, and after any failure, the contents are read anew. So a second exporter on the same
ledger, however it came to be there, neither doubles nor loses anything.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from exporter.calendar import Periods
from exporter.charges import Balance, Invoice
from exporter.errors import LedgerError
from exporter.ledger import hours, rows, schema
from exporter.ledger.counters import Labels
from exporter.ledger.database import changing_tables, clear_errors, open_database, shown
from exporter.ledger.directory import Directory, relabel, reorder
from exporter.ledger.hours import FirstSeen, TouchedHours
from exporter.ledger.migrations import bring_up_to_date
from exporter.ledger.prices import Item, PriceRecord, PriceTables, read_prices
from exporter.ledger.reconciliation import Reconciliations, read_reconciliations
from exporter.ledger.rows import Scope
from exporter.ledger.schema import hour_number
from exporter.ledger.totals import Books


@dataclass(slots=True)
class Contents:
    """The ledger's state beside its charges; always equal to what the database says at `revision`."""

    revision: int
    born_at: datetime
    horizon: int
    overflowed: int
    charges: int
    scopes: dict[int, Scope]
    active: frozenset[int]
    directory: Directory
    books: Books
    prices: dict[Item, PriceRecord]
    price_tables: PriceTables
    balances: dict[str, Balance]
    noted_balances: dict[str, Balance]
    invoices: list[Invoice]
    reconciliations: Reconciliations
    touched: TouchedHours
    first_seen: FirstSeen

    def active_scopes(self) -> list[Scope]:
        """Return the scopes whose charges are published."""
        return [scope for scope in self.scopes.values() if scope.id in self.active]

    def activate(self, accounts: Mapping[str, Collection[str]]) -> None:
        """Publish these accounts, from these sources, and no others."""
        self.active = frozenset(
            scope.id
            for scope in self.scopes.values()
            if scope.active and scope.source in accounts.get(scope.account, ())
        )
        self.books.show_accounts(accounts.keys())
        self.price_tables.show(self.prices, accounts)

    def sum_periods(self, connection: Connection, periods: Periods, *, everything: bool) -> None:
        """Sum up the periods whose hours have changed, or all of them."""
        windows = periods.windows() if everything else self.books.moved_periods(periods)
        self.books.set_periods(
            {
                name: (
                    window,
                    rows.sum_by_series(connection, self.active, hour_number(window.start), hour_number(window.end)),
                )
                for name, window in windows.items()
            }
        )


def read_contents(connection: Connection, labels: Labels, max_series: int) -> Contents:
    """Build the contents from the database; no account is active yet."""
    scopes = {scope.id: scope for scope in rows.read_scopes(connection)}
    directory = Directory(connection, labels, max_series, {scope.id: scope.account for scope in scopes.values()})
    books = Books(labels)
    books.add_label_sets(directory.label_sets)
    books.add_series(directory.places)
    books.set_counters(rows.read_counters(connection))
    balances = rows.read_balances(connection)
    revision = int(schema.read(connection, schema.REVISION) or 0)
    return Contents(
        revision=revision,
        born_at=datetime.fromisoformat(schema.read(connection, schema.BORN_AT) or ""),
        horizon=int(schema.read(connection, schema.HORIZON) or 0),
        overflowed=int(schema.read(connection, schema.OVERFLOWED) or 0),
        charges=rows.count(connection),
        scopes=scopes,
        active=frozenset(),
        directory=directory,
        books=books,
        prices=read_prices(connection),
        price_tables=PriceTables(),
        balances=dict(balances),
        noted_balances=balances,
        invoices=rows.read_invoices(connection),
        reconciliations=read_reconciliations(connection),
        touched=TouchedHours(revision),
        first_seen=FirstSeen(hours.read(connection)),
    )


class Session:
    """An open ledger.

    Args:
        address: the database's URL.
        labels: what counters are published under; a ledger with others is changed over as it is opened.
        max_series: how many label sets are admitted before new ones are folded.
        on_loaded: called with contents that have just been read, to complete them.

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
        on_loaded: Callable[[Connection, Contents], None],
    ) -> None:
        self._engine = open_database(address)
        self._labels = labels
        self._max_series = max_series
        self._on_loaded = on_loaded
        self._contents: Contents | None = None
        self.relabelled = False
        """True if other labels were found at opening, so that all counters have started at 0 again."""
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
                revision = int(schema.read(connection, schema.REVISION) or 0)
                contents = self._contents
                if contents is None or contents.revision != revision:
                    contents = self._contents = self._read(connection)
                contents.revision = revision + 1
                schema.write(connection, schema.REVISION, str(contents.revision))
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
        if schema.read(connection, schema.LABELS) != _text(self._labels.names):
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
        names: list[str] = json.loads(before)
        if sorted(names) == sorted(self._labels.names):
            reorder(connection, self._labels, names)
            return
        accounts = {scope.id: scope.account for scope in rows.read_scopes(connection)}
        relabel(connection, self._labels, self._max_series, accounts, now)
        self.relabelled = True


def _text(names: Collection[str]) -> str:
    return json.dumps(list(names))
