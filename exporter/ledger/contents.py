"""Contents of a ledger in memory, all but the charges: read from the database, or written anew to a lost one."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from exporter.calendar import Periods
from exporter.charges import Balance, Invoice, Team, first_hour_from, hour_number
from exporter.errors import LedgerError
from exporter.ledger.accounting.counters import Counter, Labels
from exporter.ledger.accounting.coverage import Scope
from exporter.ledger.accounting.reconciliation import Reconciliations
from exporter.ledger.accounting.totals import Spent, Totals
from exporter.ledger.directory import Directory
from exporter.ledger.machines import MachineTotals
from exporter.ledger.tables import hours, rows, schema
from exporter.ledger.tables import tags as tag_tables
from exporter.ledger.tables.hours import FirstSeen, TouchedHours
from exporter.ledger.tables.keys import Keys, first_uses, labels_of, read_keys, read_teams, write_keys, write_teams
from exporter.ledger.tables.prices import Item, PriceRecord, PriceTables, read_prices, write_prices
from exporter.ledger.tables.rows import read_reconciliations, write_reconciliation

if TYPE_CHECKING:
    from exporter.ledger.tables.tags import CounterKey
    from exporter.tags import TagValues


class TagTotals:
    """Spend by tags: the configured keys, where counting began, and the counters.

    Args:
        connection: in a transaction.

    Attributes:
        keys: those that counters are published under.
        accounts: the first hour that counts of each account, by its number.
        counters: by account, model and tags.
        revision: grows with everything that fal states anew.
    """

    def __init__(self, connection: Connection) -> None:
        self.keys: TagValues = tuple(json.loads(schema.read(connection, tag_tables.KEYS) or "[]"))
        self.accounts = tag_tables.read_accounts(connection)
        self.counters: dict[CounterKey, Counter] = tag_tables.read_counters(connection, self.keys)
        self.revision = 0

    def write(self, connection: Connection, at: datetime) -> None:
        """Write the totals into a ledger whose database is lost; what is read again is history then."""
        schema.write(connection, tag_tables.KEYS, json.dumps(self.keys))
        for account in self.accounts:
            self.accounts[account] = first_hour_from(at)
            tag_tables.write_account(connection, account, self.accounts[account])
        tag_tables.write_counters(connection, self.keys, self.counters)


@dataclass(slots=True)
class Contents:
    """The ledger's state beside its charges; always equal to what the database says at `revision`.

    Attributes:
        committed: the last revision that has been written; below `revision` after a write that failed.
        keys: the API keys that fal has listed.
        first_uses: the first hour that was charged for with any key, by account.
        accounts: those that are configured, in the words of the fact ACCOUNTS; None where it is absent.
        teams: as fal listed them last, by account.
        machines: charges divided by the states of runners.
        tags: spend by tags.
    """

    revision: int
    committed: int
    born_at: datetime
    horizon: int
    overflowed: int
    charges: int
    scopes: dict[int, Scope]
    active: frozenset[int]
    directory: Directory
    totals: Totals
    prices: dict[Item, PriceRecord]
    price_tables: PriceTables
    balances: dict[str, Balance]
    noted_balances: dict[str, Balance]
    invoices: list[Invoice]
    reconciliations: Reconciliations
    touched: TouchedHours
    first_seen: FirstSeen
    keys: Keys
    first_uses: dict[str, datetime]
    teams: dict[str, tuple[Team, ...]]
    machines: MachineTotals
    tags: TagTotals
    accounts: str | None = None

    def active_scopes(self) -> list[Scope]:
        """Return the scopes whose charges are published."""
        return [scope for scope in self.scopes.values() if scope.id in self.active]

    def active_scope(self, account: str, source: str) -> Scope:
        """Return the scope of a source whose charges are published.

        Raises:
            LedgerError: it is not active.
        """
        for number in self.active:
            scope = self.scopes[number]
            if (scope.account, scope.source) == (account, source):
                return scope
        raise LedgerError(f"the source {source} of account {account} is not active in the ledger; activate it first")

    def activate(self, accounts: Mapping[str, Collection[str]]) -> None:
        """Publish these accounts, from these sources, and no others."""
        self.active = frozenset(
            scope.id
            for scope in self.scopes.values()
            if scope.active and scope.source in accounts.get(scope.account, ())
        )
        self.totals.show_accounts(accounts.keys())
        self.machines.changed()
        self.price_tables.show(self.prices, accounts)

    def sum_periods(self, connection: Connection, periods: Periods, *, everything: bool) -> None:
        """Sum up the periods whose hours have changed, or all of them."""
        windows = periods.windows() if everything else self.totals.moved_periods(periods)
        self.totals.set_periods(
            {
                name: (
                    window,
                    rows.sum_by_series(
                        connection,
                        self.active,
                        hour_number(window.start),
                        hour_number(window.end),
                        Spent._fields if name == "last_day" else Spent._fields[:2],
                    ),
                )
                for name, window in windows.items()
            }
        )


def read_contents(connection: Connection, labels: Labels, max_series: int) -> Contents:
    """Build the contents from the database; no account is active yet."""
    scopes = {scope.id: scope for scope in rows.read_scopes(connection)}
    keys = read_keys(connection)
    accounts = {scope.id: scope.account for scope in scopes.values()}
    directory = Directory(connection, labels, max_series, accounts, labels_of(keys))
    totals = Totals(labels)
    totals.add_label_sets(directory.label_sets)
    totals.add_series(directory.places)
    totals.set_counters(rows.read_counters(connection))
    balances = rows.read_balances(connection)
    revision = int(schema.read(connection, schema.REVISION) or 0)
    return Contents(
        revision=revision,
        committed=revision,
        born_at=datetime.fromisoformat(schema.read(connection, schema.BORN_AT) or ""),
        horizon=int(schema.read(connection, schema.HORIZON) or 0),
        overflowed=int(schema.read(connection, schema.OVERFLOWED) or 0),
        charges=rows.count(connection),
        scopes=scopes,
        active=frozenset(),
        directory=directory,
        totals=totals,
        prices=read_prices(connection),
        price_tables=PriceTables(),
        balances=dict(balances),
        noted_balances=balances,
        invoices=rows.read_invoices(connection),
        reconciliations=read_reconciliations(connection),
        touched=TouchedHours(revision),
        first_seen=FirstSeen(hours.read(connection)),
        keys=keys,
        first_uses=first_uses(connection),
        teams=read_teams(connection),
        machines=MachineTotals(connection),
        tags=TagTotals(connection),
        accounts=schema.read(connection, schema.ACCOUNTS),
    )


def write_contents(connection: Connection, contents: Contents, *, labels: str, at: datetime) -> None:
    """Write a ledger anew whose database is lost: everything but its charges.

    Counters, label sets and series go on. The charges are to be read from fal again and are history then, as the
    counters have counted them: every source counts from now on.

    Args:
        connection: to an empty database, or to empty tables.
        contents: what was in memory.
        labels: the text of the fact LABELS.
        at: now, an aware instant.
    """
    schema.metadata.create_all(connection)
    facts = {
        "schema": str(schema.SCHEMA_VERSION),
        schema.BORN_AT: contents.born_at.isoformat(),
        schema.REVISION: str(contents.revision + 1),
        schema.CHARGES_REVISION: str(contents.revision + 1),
        schema.LABELS: labels,
        schema.HORIZON: str(contents.horizon),
        schema.OVERFLOWED: str(contents.overflowed),
        schema.REBUILT_AT: at.isoformat(),
    }
    if contents.accounts is not None:
        facts[schema.ACCOUNTS] = contents.accounts
    for name, value in facts.items():
        schema.write(connection, name, value)
    for scope in contents.scopes.values():
        rows.insert_scope(connection, replace(scope.reborn(at), active=scope.active))
    directory = contents.directory
    rows.add_label_sets(connection, directory.label_sets)
    for scope_id in contents.scopes:
        series = directory.series_of(scope_id)
        if series:
            places = {number: (dimensions, directory.places[number]) for dimensions, number in series.items()}
            rows.add_series(connection, scope_id, places)
    hours.write(connection, contents.first_seen.first_hours)
    rows.write_counters(connection, {}, contents.totals.counters)
    write_prices(connection, {}, contents.prices.values())
    for balance in contents.balances.values():
        rows.write_balance(connection, None, balance)
    for account in {invoice.account for invoice in contents.invoices}:
        rows.write_invoices(connection, account, [item for item in contents.invoices if item.account == account])
    for reconciliation in contents.reconciliations.values():
        write_reconciliation(connection, reconciliation)
    write_keys(connection, contents.keys.values())
    for account, listed in contents.teams.items():
        write_teams(connection, account, listed)
    contents.machines.write(connection, at)
    contents.tags.write(connection, at)
