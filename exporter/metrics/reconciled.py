"""The samples of what fal bills beside what the ledger has, for the running month and the last."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

from exporter.charges import FOCUS_ESTIMATE, FOCUS_INVOICE
from exporter.ledger import Reconciliation
from exporter.samples import Sample

CATEGORIES = ("Usage", "Purchase", "Credit", "Tax", "Adjustment", "Correction")
"""The charge categories of FOCUS, and corrections apart: shown at 0 where nothing is billed."""


def reconciled(compared: Collection[Reconciliation], at: datetime) -> Mapping[str, list[Sample]]:
    """Return the samples by family; months older than the last are not published.

    Invoice and estimate of one month tell of the same usage, so that only one of them is shown as billed.
    """
    periods = _periods(at)
    recent = [(it, periods[it.month]) for it in compared if it.month in periods]
    billed = {(it.account, period): it for it, period in recent if it.against == FOCUS_ESTIMATE}
    billed |= {(it.account, period): it for it, period in recent if it.against == FOCUS_INVOICE}
    return {
        "fal_reconciliation_difference_usd": [
            Sample((it.account, it.against, period), it.difference) for it, period in recent
        ],
        "fal_reconciliation_timestamp_seconds": [
            Sample((it.account, it.against, period), it.compared_at.timestamp()) for it, period in recent
        ],
        "fal_focus_billed_usd": [
            Sample((account, category, period), it.by_category.get(category, 0))
            for (account, period), it in billed.items()
            for category in dict.fromkeys((*CATEGORIES, *it.by_category))
        ],
    }


def _periods(at: datetime) -> dict[datetime, str]:
    """Return the starts of the running UTC month and the one before; fal's billing months are of UTC."""
    month = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return {month: "current_month", (month - timedelta(days=1)).replace(day=1): "last_month"}
