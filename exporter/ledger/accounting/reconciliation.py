"""Reconciliation: what fal bills of a month beside what the ledger holds of the same hours.

A difference is never corrected here: charges come from the sources alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from exporter.charges import Bill

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
