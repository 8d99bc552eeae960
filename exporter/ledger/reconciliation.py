"""Reconciliation: what fal bills of a month beside what the ledger holds of the same hours.

A difference is never corrected here: charges come from the sources alone.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, inspect, select

from exporter.charges import Bill
from exporter.ledger.database import NoLedgerError, reading
from exporter.ledger.schema import reconciliations

Key = tuple[str, str, datetime]
Reconciliations = dict[Key, "Reconciliation"]


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """One comparison; amounts in nano-USD.

    Attributes:
        against: where fal states it; see `exporter.charges.Bill`.
        month: start of the UTC month.
        through: end of the hours that were compared; the month's end for what is final.
        compared_at: when fal was asked.
        ledger: what the ledger held of these hours.
        usage: what fal bills as usage of them.
        by_category: what fal bills altogether, by charge category.
    """

    account: str
    against: str
    month: datetime
    through: datetime
    compared_at: datetime
    ledger: int
    usage: int
    by_category: Mapping[str, int]

    @property
    def key(self) -> Key:
        """Key of a comparison."""
        return self.account, self.against, self.month

    @property
    def difference(self) -> int:
        """The ledger's sum less what fal bills as usage: above zero, fal bills less than the ledger has."""
        return self.ledger - self.usage


def reconciliation(bill: Bill, *, ledger: int, at: datetime) -> Reconciliation:
    """Return the comparison of a bill with the ledger's sum of the same hours."""
    start = bill.window.start
    return Reconciliation(
        account=bill.account,
        against=bill.against,
        month=start.replace(day=1, hour=0),
        through=bill.window.end,
        compared_at=at,
        ledger=ledger,
        usage=bill.usage,
        by_category=dict(bill.by_category),
    )


def write_reconciliation(connection: Connection, compared: Reconciliation) -> None:
    """Save a comparison in place of an earlier one."""
    table = reconciliations.c
    connection.execute(
        reconciliations.delete().where(
            table.account == compared.account, table.against == compared.against, table.month == compared.month
        )
    )
    values: dict[str, object] = {column.name: getattr(compared, column.name) for column in reconciliations.columns}
    connection.execute(reconciliations.insert(), values | {"by_category": json.dumps(compared.by_category)})


def read_reconciliations(connection: Connection) -> Reconciliations:
    """Return all comparisons, oldest month first."""
    rows = connection.execute(
        select(reconciliations).order_by(reconciliations.c.month, reconciliations.c.account, reconciliations.c.against)
    )
    found = [Reconciliation(**{**row, "by_category": json.loads(row["by_category"])}) for row in rows.mappings()]
    return {item.key: item for item in found}


def recorded_reconciliations(address: str, account: str) -> tuple[Reconciliation, ...]:
    """Return an account's comparisons in a ledger that an exporter may be using; none where there is no ledger yet.

    Raises:
        LedgerError: the database cannot be read.
    """
    try:
        with reading(address, of_any_version=True) as connection:
            if not inspect(connection).has_table(reconciliations.name):
                return ()
            return tuple(item for item in read_reconciliations(connection).values() if item.account == account)
    except NoLedgerError:
        return ()
