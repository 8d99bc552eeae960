"""Charges of the ledger for model endpoints by hour and model, beside which single requests are compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from exporter.charges import HOUR, Window
from exporter.events.summaries import Compared, HourSummary, compare

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerSnapshot

_PRODUCT = "model_apis"
_SOURCES = frozenset({"models", "organization", "reporting", "focus"})
"""Usage sources that report what models are charged for."""


@dataclass(frozen=True, slots=True)
class ChargedHours:
    """Charges of the ledger for model endpoints.

    Attributes:
        costs: nano-USD by hour and model.
        since, through: the ledger has every hour in [since, through); None where it has none.
        settled: until when hours are settled.
    """

    costs: Mapping[tuple[datetime, str], int]
    since: datetime | None
    through: datetime | None
    settled: datetime | None

    def compare(self, summaries: Iterable[HourSummary], until: datetime | None) -> Compared:
        """Compare requests with the charges of the hours that the ledger has, up to an instant; None is before all."""
        if self.since is None or until is None:
            return compare((), {})
        since = self.since
        return compare((one for one in summaries if since <= one.hour and one.hour + HOUR <= until), self.costs)


def charged_by_hour(ledger: "LedgerSnapshot", account: str, window: Window) -> ChargedHours:
    """Return what the ledger charges an account for model endpoints in a window.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    scopes = [scope for scope in ledger.scopes() if scope.account == account and scope.source in _SOURCES]
    sums = ledger.usage(window, ("model",), "hour", where={"account": {account}, "product": {_PRODUCT}})
    costs = {(one.at.astimezone(UTC), one.group[0]): one.amounts.cost for one in sums if one.at is not None}
    throughs = [scope.data_through for scope in scopes if scope.data_through is not None]
    settled = [scope.settled_through for scope in scopes if scope.settled_through is not None]
    since = [scope.history_from for scope in scopes if scope.history_from is not None]
    return ChargedHours(
        costs,
        max(since) if scopes and len(since) == len(scopes) else None,
        min(throughs) if scopes and len(throughs) == len(scopes) else None,
        min(settled) if scopes and len(settled) == len(scopes) else None,
    )
