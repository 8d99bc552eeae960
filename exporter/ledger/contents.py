"""What the ledger keeps in memory: all but the charges themselves."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from exporter.charges import Balance, Invoice
from exporter.ledger import charge_rows, facts, first_hours, records, series_rows
from exporter.ledger.books import Books
from exporter.ledger.calendar import Periods
from exporter.ledger.directory import Directory
from exporter.ledger.first_hours import FirstSeen
from exporter.ledger.hourly import TouchedHours
from exporter.ledger.label_sets import Labels
from exporter.ledger.prices import Item, PriceRecord, PriceTables, read_prices
from exporter.ledger.reconciliations import Reconciliations, read_reconciliations
from exporter.ledger.schema import hour_number
from exporter.ledger.series_rows import Scope


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
                    charge_rows.sum_by_series(
                        connection, self.active, hour_number(window.start), hour_number(window.end)
                    ),
                )
                for name, window in windows.items()
            }
        )


def read_contents(connection: Connection, labels: Labels, max_series: int) -> Contents:
    """Build the contents from the database; no account is active yet."""
    scopes = {scope.id: scope for scope in series_rows.read_scopes(connection)}
    directory = Directory(connection, labels, max_series, {scope.id: scope.account for scope in scopes.values()})
    books = Books(labels)
    books.add_label_sets(directory.label_sets)
    books.add_series(directory.places)
    books.set_counters(series_rows.read_counters(connection))
    balances = records.read_balances(connection)
    revision = int(facts.read(connection, facts.REVISION) or 0)
    return Contents(
        revision=revision,
        born_at=datetime.fromisoformat(facts.read(connection, facts.BORN_AT) or ""),
        horizon=int(facts.read(connection, facts.HORIZON) or 0),
        overflowed=int(facts.read(connection, facts.OVERFLOWED) or 0),
        charges=charge_rows.count(connection),
        scopes=scopes,
        active=frozenset(),
        directory=directory,
        books=books,
        prices=read_prices(connection),
        price_tables=PriceTables(),
        balances=dict(balances),
        noted_balances=balances,
        invoices=records.read_invoices(connection),
        reconciliations=read_reconciliations(connection),
        touched=TouchedHours(revision),
        first_seen=FirstSeen(first_hours.read(connection)),
    )
