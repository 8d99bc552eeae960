"""Families of accounts: sources, coverage, restatements, credit, locks, invoices, reconciliation, keys and teams."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family

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
        "fal_source_partial",
        "gauge",
        "1 while rows of the source cannot be read, or only partly, else 0; their hours keep their previous values. "
        "See fal_unreadable_usd and fal_exporter_rejected_rows.",
        _SOURCE,
    ),
    Family(
        "fal_unreadable_usd",
        "gauge",
        "US dollars in rows that currently cannot be read and are not counted, as far as their cost can be read.",
        _SOURCE,
        scale=NANO,
    ),
    Family(
        "fal_source_available",
        "gauge",
        "1 while the key can read a source whose charges no polled source reports, else 0; if 1, the spend shown here "
        "lacks these charges. Checked at the first start, every day, and by every new version.",
        _SOURCE,
    ),
    Family(
        "fal_source_difference_usd",
        "gauge",
        "US dollars that the ledger has for a product in the complete hours of the recent window minus what "
        "/organization/usage reports, as of the last comparison. A negative value means that charges are missing "
        "here. Absent if the key cannot read that call or the last comparison failed.",
        ("account", "product"),
        scale=NANO,
    ),
    Family(
        "fal_data_through_timestamp_seconds",
        "gauge",
        "End of the last hour covered by a successful poll, in seconds since the epoch; time() minus this is the age "
        "of the data.",
        _SOURCE,
    ),
    Family(
        "fal_settled_through_timestamp_seconds",
        "gauge",
        "End of the last hour that was polled after it had passed the settle delay, in seconds since the epoch; "
        "earlier hours are not expected to change.",
        _SOURCE,
    ),
    Family(
        "fal_window_coverage_ratio",
        "gauge",
        "Share of the complete hours of a window that all sources of an account cover, from 0 to 1; window is "
        "current_hour, last_hour, today, last_day, month_to_date or last_month. Below 1 the gauges of the window are "
        "absent for the account. An hour is covered once a poll has read it after its end; until then, the newest "
        "poll that read it before its end counts for four poll intervals (at least 5 minutes). If a window has no "
        "complete hour, 1 while such a poll counts, else 0.",
        ("account", "window"),
    ),
    Family(
        "fal_restated_usd_total",
        "counter",
        "US dollars by which fal changed hours that had already been published as complete; direction is up or down.",
        (*_SOURCE, "direction"),
        scale=NANO,
    ),
    Family(
        "fal_restatements_total",
        "counter",
        "Number of times that fal changed an hour that had already been published as complete.",
        _SOURCE,
    ),
    Family(
        "fal_spend_relabelled_usd_total",
        "counter",
        "US dollars that fal reported again under other labels within the same hours. No counter changed: the "
        "counters of the old labels keep these charges, those of the new labels do not count them again.",
        _SOURCE,
        scale=NANO,
    ),
    Family(
        "fal_credit_balance_usd",
        "gauge",
        "Prepaid credit in US dollars; may be negative. fal locks the account at fal_credit_floor_usd: see "
        "fal_credit_runway_seconds.",
        ("account",),
        scale=NANO,
    ),
    Family(
        "fal_credit_floor_usd",
        "gauge",
        "Balance in US dollars at which fal locks the account, as configured (credit_floor); fal does not report it.",
        ("account",),
        scale=NANO,
    ),
    Family(
        "fal_account_locked",
        "gauge",
        "1 while fal reports that the account is locked for this reason, or refuses calls for it, else 0. Calls that "
        "cost money are refused; calls that only read may still be answered.",
        ("account", "reason"),
    ),
    Family(
        "fal_provider_budget_usd",
        "gauge",
        "Monthly budget that the account has set at fal itself; kind is soft or hard, and fal locks the account above "
        "the hard one. fal does not document its unit: US dollars are assumed. Absent if none is set.",
        ("account", "kind"),
        scale=NANO,
    ),
    Family(
        "fal_invoice_total_usd",
        "gauge",
        "Total of an invoice in US dollars as fal states it, by its present status (draft, open, paid, void). fal "
        "does not document its invoices; their format is assumed.",
        ("account", "invoice", "status"),
        scale=NANO,
    ),
    Family(
        "fal_invoice_due_timestamp_seconds",
        "gauge",
        "When an invoice is due, in seconds since the epoch; absent if fal states no due date. One with a due "
        "date in the past is overdue unless its status is draft, paid or void. fal does not document its invoices; "
        "their format is assumed.",
        ("account", "invoice", "status"),
    ),
    Family(
        "fal_reconciliation_difference_usd",
        "gauge",
        "US dollars that the ledger has for a UTC month (period: current_month, last_month) minus what fal bills as "
        "usage of the same hours, before credits and taxes, as of the last comparison. Above 0, fal bills less than "
        "it has reported; below 0, it bills more, for example for compute machines if the source compute is not "
        "polled. against is invoice (whose format fal does not document; it is assumed), focus_invoice or "
        "focus_estimate; never add them together.",
        _COMPARED,
        scale=NANO,
    ),
    Family(
        "fal_reconciliation_timestamp_seconds",
        "gauge",
        "When the ledger was last compared with what fal bills, in seconds since the epoch; the differences are as of "
        "this time.",
        _COMPARED,
    ),
    Family(
        "fal_focus_billed_usd",
        "gauge",
        "US dollars of a UTC month in fal's FOCUS report by charge category (Usage, Purchase, Credit, Tax, "
        "Adjustment; Correction separately): from the invoice if there is one, else from the estimate. Their sum is "
        "the amount to be paid; use it to explain fal_reconciliation_difference_usd.",
        ("account", "charge_category", "period"),
        scale=NANO,
    ),
)


_KEY = ("account", "key_id", "api_key")

NAMES: tuple[Family, ...] = (
    Family(
        "fal_api_key_info",
        "gauge",
        "1 for each API key that fal lists for the account, or has listed: its present alias, who created it and when. "
        "alias is the name that people know; key_id stays the same when it changes.",
        ("account", "key_id", "alias", "creator", "created"),
    ),
    Family(
        "fal_api_key_created_timestamp_seconds",
        "gauge",
        "When an API key that fal lists was created, in seconds since the epoch; use it to notice new keys. api_key is "
        "the value of that label of charges.",
        _KEY,
    ),
    Family(
        "fal_api_key_last_used_timestamp_seconds",
        "gauge",
        "Start of the last hour with a charge of an API key that fal lists, in seconds since the epoch; absent where "
        "the ledger knows none. Charges are known by key only where api_key or member is a label, or in a budget.",
        _KEY,
    ),
    Family(
        "fal_api_key_unused_since_timestamp_seconds",
        "gauge",
        "Since when an API key that fal lists has had no charge, in seconds since the epoch: start of the last hour "
        "with one, or, where the ledger knows none, the key's creation or the first hour known by key, whichever is "
        "later. Absent while no charges are known by key.",
        _KEY,
    ),
    Family(
        "fal_team_info",
        "gauge",
        "1 for each team that fal lists for the organization: team is its username, as in the charges, name its name.",
        ("account", "team", "name"),
    ),
)
