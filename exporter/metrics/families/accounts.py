"""The state of accounts and sources."""

from exporter.charges import NANO
from exporter.metrics.families.family import Family

_SOURCE = ("account", "source")
_COMPARED = ("account", "against", "period")

ACCOUNTS: tuple[Family, ...] = (
    Family(
        "fal_source_up",
        "gauge",
        "1 if the last poll of the source succeeded, 0 if it failed; alert on it together with "
        "fal_data_through_timestamp_seconds.",
        _SOURCE,
    ),
    Family(
        "fal_data_through_timestamp_seconds",
        "gauge",
        "End of the last hour covered by a successful poll, in seconds since the epoch; time() minus this is how old "
        "the data are.",
        _SOURCE,
    ),
    Family(
        "fal_settled_through_timestamp_seconds",
        "gauge",
        "End of the last hour older than the settle delay that has been polled since, in seconds since the epoch; "
        "hours before it are not expected to change.",
        _SOURCE,
    ),
    Family(
        "fal_restated_usd_total",
        "counter",
        "US dollars by which fal changed hours that had been published as complete; direction is up or down.",
        (*_SOURCE, "direction"),
        scale=NANO,
    ),
    Family(
        "fal_restated_hours_total",
        "counter",
        "Times that fal changed an hour that had been published as complete.",
        _SOURCE,
    ),
    Family(
        "fal_credit_balance_usd",
        "gauge",
        "Prepaid credit in US dollars; may be negative. At 0 fal locks the account: see fal_credit_runway_seconds.",
        ("account",),
        scale=NANO,
    ),
    Family(
        "fal_account_locked",
        "gauge",
        "1 while fal answers that the account is locked for this reason, else 0; a locked account serves nothing.",
        ("account", "reason"),
    ),
    Family(
        "fal_invoice_total_usd",
        "gauge",
        "Total of an invoice in US dollars as fal states it, by its present status (draft, open, paid, void).",
        ("account", "invoice", "status"),
        scale=NANO,
    ),
    Family(
        "fal_invoice_due_timestamp_seconds",
        "gauge",
        "When an invoice is due, in seconds since the epoch; absent where fal states no due date. Overdue is one that "
        "is open and due before now.",
        ("account", "invoice", "status"),
    ),
    Family(
        "fal_reconciliation_difference_usd",
        "gauge",
        "US dollars that the ledger has of a UTC month (period: current_month, last_month) less what fal bills as "
        "usage of the same hours, before credits and taxes, when compared last. Above 0 fal bills less than it has "
        "reported, below 0 more, as with compute machines, which the sources models and serverless do not report. "
        "against is invoice, focus_invoice or focus_estimate; never add them up.",
        _COMPARED,
        scale=NANO,
    ),
    Family(
        "fal_reconciliation_timestamp_seconds",
        "gauge",
        "When the ledger was compared last with what fal bills, in seconds since the epoch; a difference is of then.",
        _COMPARED,
    ),
    Family(
        "fal_focus_billed_usd",
        "gauge",
        "US dollars of a UTC month in fal's FOCUS report by charge category (Usage, Purchase, Credit, Tax, Adjustment; "
        "Correction apart): of the invoice where there is one, else of the estimate. Their sum is what is to be paid; "
        "use it to explain fal_reconciliation_difference_usd.",
        ("account", "charge_category", "period"),
        scale=NANO,
    ),
)
