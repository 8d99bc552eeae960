"""Giving an account another name, so that its counters go on under it."""

import json

from sqlalchemy import inspect, select

from exporter.errors import LedgerError
from exporter.ledger import facts, schema, series_rows
from exporter.ledger.database import changing_tables, clear_errors, open_database, shown
from exporter.ledger.migrations import bring_up_to_date


def rename_account(address: str, old: str, new: str) -> None:
    """Rename an account in a ledger that no exporter is using, in one transaction.

    The account's counters go on at their values under the new name. To Prometheus they are new series, and those add
    nothing to any `increase()` by their first value.

    Raises:
        ConfigurationError: the address is not a database's.
        LedgerError: the ledger does not know the old name, knows the new one already, or cannot be written.
    """
    engine = open_database(address)
    name = f"the ledger {shown(engine.url)}"
    try:
        with clear_errors(engine.url), changing_tables(engine) as connection:
            if not inspect(connection).has_table(schema.facts.name):
                raise LedgerError(f"{name} is empty; there is no account to rename")
            bring_up_to_date(connection)
            accounts = set(connection.scalars(select(schema.scopes.c.account)))
            if old not in accounts:
                known = ", ".join(sorted(accounts)) or "none"
                raise LedgerError(f'{name} has no account "{old}"; its accounts are: {known}')
            if new in accounts:
                raise LedgerError(
                    f'{name} already counts for an account "{new}"; '
                    "two accounts cannot be joined, as each "
                    "has counters of its own"
                )
            for table in (schema.scopes, schema.unit_prices, schema.balances, schema.invoices, schema.reconciliations):
                connection.execute(table.update().where(table.c.account == old), {"account": new})
            place = json.loads(facts.read(connection, facts.LABELS) or "[]").index("account")
            series_rows.rename_label_sets(
                connection,
                {
                    number: (*values[:place], new, *values[place + 1 :])
                    for number, values in series_rows.read_label_sets(connection).items()
                    if values[place] == old
                },
            )
            facts.write(connection, facts.REVISION, str(int(facts.read(connection, facts.REVISION) or 0) + 1))
    finally:
        engine.dispose()
