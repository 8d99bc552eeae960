"""Spend by tags as it is kept in memory: the configured keys, where counting began, and the counters."""

import json
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from exporter.charges import first_hour_from
from exporter.ledger.tables import schema
from exporter.ledger.tables import tags as tables

if TYPE_CHECKING:
    from exporter.ledger.accounting.counters import Counter
    from exporter.ledger.tables.tags import CounterKey
    from exporter.tags import TagValues


class TagBooks:
    """Tags of a ledger.

    Args:
        connection: in a transaction.

    Attributes:
        keys: those that counters are published under.
        accounts: the first hour that counts of each account, by its number.
        counters: by account, model and tags.
        revision: grows with everything that fal states anew.
    """

    def __init__(self, connection: Connection) -> None:
        self.keys: TagValues = tuple(json.loads(schema.read(connection, tables.KEYS) or "[]"))
        self.accounts = tables.read_accounts(connection)
        self.counters: dict[CounterKey, Counter] = tables.read_counters(connection, self.keys)
        self.revision = 0

    def write(self, connection: Connection, at: datetime) -> None:
        """Write the books into a ledger whose database is lost; what is read again is history then."""
        schema.write(connection, tables.KEYS, json.dumps(self.keys))
        for account in self.accounts:
            self.accounts[account] = first_hour_from(at)
            tables.write_account(connection, account, self.accounts[account])
        tables.write_counters(connection, self.keys, self.counters)
