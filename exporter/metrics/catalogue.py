"""Catalogue of every family: the single source of names, HELP texts and labels.

The documentation's table is rendered from here; dashboards and alert rules are checked against it. Not listed are the
process and Python families, whose names and HELP texts are prometheus_client's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from exporter.charges import NANO

Kind = Literal["counter", "gauge", "histogram"]

_UNITS = ("usd", "seconds", "bytes", "ratio")


@dataclass(frozen=True, slots=True)
class Family:
    """One family of series.

    Attributes:
        name: as exposed in the text format, `_total` included.
        help: what it is, its unit, and what to use it for.
        labels: its own labels, in the order of the samples' values.
        charge_labels: whether the configured charge labels come before its own.
        scale: how many of the samples' integer units make one of the exposed unit.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    charge_labels: bool = False
    scale: int = 1

    @property
    def base_name(self) -> str:
        """The name of the family in OpenMetrics, where only a counter's samples carry `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def unit(self) -> str:
        """The unit for OpenMetrics, which must be the name's last word; empty where the name ends in none."""
        last_word = self.base_name.rpartition("_")[2]
        return last_word if last_word in _UNITS else ""

    def labels_with(self, charge_labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels of its samples when these charge labels are configured."""
        return charge_labels + self.labels if self.charge_labels else self.labels


def charged(name: str, kind: Kind, text: str, labels: tuple[str, ...] = ()) -> Family:
    """Return a family that the configured charge labels come first in, its samples nano-units."""
    return Family(name, kind, text, labels, charge_labels=True, scale=NANO)


CHARGES: tuple[Family, ...] = (
    charged(
        "fal_spend_usd_total",
        "counter",
        "Spend after discounts in US dollars since the ledger began to count; use increase() over it for graphs, "
        "rates and burn alerts. It never decreases: see fal_spend_pending_usd.",
    ),
    charged(
        "fal_discount_usd_total",
        "counter",
        "Discounts granted in US dollars since the ledger began to count; add fal_spend_usd_total for the spend at "
        "list prices.",
    ),
    charged(
        "fal_gpu_seconds_total",
        "counter",
        "GPU time billed in GPU-seconds (one second of a machine with 8 GPUs counts 8) since the ledger began to "
        "count.",
    ),
    charged(
        "fal_usage_quantity_total",
        "counter",
        "Units billed since the ledger began to count, in the unit of the label unit; never add different units "
        "together.",
        ("unit",),
    ),
    charged(
        "fal_spend_pending_usd",
        "gauge",
        "US dollars by which fal_spend_usd_total exceeds the actual spend after fal reduced past charges; the counter "
        "does not move until this is 0 again.",
    ),
    charged(
        "fal_spend_current_hour_usd",
        "gauge",
        "Spend in US dollars in the current UTC hour as known so far; always incomplete, use it to notice surprises "
        "early. Absent while a source has not been read up to it: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_hour_usd",
        "gauge",
        "Spend in US dollars in the last complete UTC hour as known so far; fal may still correct it. Absent until "
        "the hour is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_today_usd",
        "gauge",
        "Spend in US dollars since midnight in the configured time zone, including all corrections; use it for daily "
        "budgets. Absent until every complete hour of it is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_day_usd",
        "gauge",
        "Spend in US dollars in the last 24 UTC hours, including the current one, as known so far, no matter when the "
        "ledger began. Absent until every complete hour of it is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_discount_last_day_usd",
        "gauge",
        "Discounts granted in US dollars in the same 24 hours as fal_spend_last_day_usd, and absent when that is; "
        "only charges with a discount have a series.",
    ),
    charged(
        "fal_usage_quantity_last_day",
        "gauge",
        "Units billed in the same 24 hours as fal_spend_last_day_usd, in the unit of the label unit, and absent when "
        "that is; only what was billed in them has a series. Never add different units together.",
        ("unit",),
    ),
    charged(
        "fal_spend_month_to_date_usd",
        "gauge",
        "Spend in US dollars since the start of the month in the configured time zone, including all corrections; use "
        "it for budgets and reports. Absent until every complete hour of it is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_month_usd",
        "gauge",
        "Spend in US dollars in the whole previous month in the configured time zone, including all corrections; "
        "compare it with the invoice. Absent until every hour of it is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_month_to_date_usd",
        "gauge",
        "Spend in US dollars in the first hours of the previous month, as many as are complete in this month, "
        "including all corrections; compare it with fal_spend_month_to_date_usd. Only what was charged in them has a "
        "series. Absent for an account while the previous month is not covered.",
    ),
    charged(
        "fal_gpu_time_last_hour_seconds",
        "gauge",
        "GPU-seconds billed in the last complete UTC hour as known so far; divide by 3600 for the average number of "
        "GPUs in use. Absent when fal_spend_last_hour_usd is.",
    ),
    charged(
        "fal_gpu_time_month_to_date_seconds",
        "gauge",
        "GPU-seconds billed since the start of the month in the configured time zone, including all corrections. "
        "Absent when fal_spend_month_to_date_usd is.",
    ),
    charged(
        "fal_spend_surge_month_to_date_usd",
        "gauge",
        "The part of fal_spend_month_to_date_usd in US dollars that was charged at surge prices, and absent when that "
        "is; only for sources that report surge separately.",
    ),
    charged(
        "fal_gpu_time_surge_month_to_date_seconds",
        "gauge",
        "The part of fal_gpu_time_month_to_date_seconds in GPU-seconds that was charged at surge prices; absent when "
        "that is.",
    ),
)

_PRICED = ("account", "product", "model", "app", "gpu_class", "unit")
_PERCENT = 100 * NANO
"""Discounts are nano-percent."""

PRICES: tuple[Family, ...] = (
    Family(
        "fal_unit_price_usd",
        "gauge",
        "Price in US dollars of one unit before discount, as of the newest charge.",
        _PRICED,
        scale=NANO,
    ),
    Family(
        "fal_unit_price_previous_usd",
        "gauge",
        "Price in US dollars of one unit before the last price change; absent if no change has been seen.",
        _PRICED,
        scale=NANO,
    ),
    Family(
        "fal_unit_price_changed_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge at the present price, in seconds since the epoch; absent if no price "
        "change has been seen.",
        _PRICED,
    ),
    Family(
        "fal_unit_discount_ratio",
        "gauge",
        "Discount as a share of the price, from 0 to 1, as of the newest charge.",
        _PRICED,
        scale=_PERCENT,
    ),
    Family(
        "fal_unit_discount_previous_ratio",
        "gauge",
        "Discount before its last change as a share of the price, from 0 to 1; absent if no change has been seen. A "
        "value above fal_unit_discount_ratio means that a discount was lost.",
        _PRICED,
        scale=_PERCENT,
    ),
    Family(
        "fal_unit_discount_changed_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge at the present discount, in seconds since the epoch; absent if no "
        "change has been seen.",
        _PRICED,
    ),
    Family(
        "fal_model_first_seen_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge of a model or app, in seconds since the epoch; absent for those "
        "charged in the ledger's first 7 days, whose age is unknown.",
        ("account", "product", "model", "app"),
    ),
)

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
        "When an invoice is due, in seconds since the epoch; absent if fal states no due date. An open invoice with a "
        "due date in the past is overdue. fal does not document its invoices; their format is assumed.",
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

_BUDGET = ("budget",)
_ITEM = ("account", "product", "model", "app", "gpu_class")
_EXPECTED = ("account", "product")


def _dollars(name: str, text: str, labels: tuple[str, ...]) -> Family:
    return Family(name, "gauge", text, labels, scale=NANO)


OUTLOOK: tuple[Family, ...] = (
    Family(
        "fal_credit_runway_seconds",
        "gauge",
        "How long the credit above fal_credit_floor_usd lasts, in seconds, at the higher of the burn rates of the "
        "last day and the last week; absent while nothing is spent, 0 when the credit is used up.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_change_usd",
        "US dollars by which the complete hours of this month cost more (below 0: less) than as many hours of the "
        "previous month; cause is volume, price (list price, discounts and surge together), new, gone or unknown (if "
        "a quantity is unknown). All causes add up to the change. The 50 items of an account that changed most have "
        "their own series, the others are __other__. Absent when fal_spend_last_month_to_date_usd is.",
        (*_ITEM, "cause"),
    ),
    _dollars(
        "fal_account_spend_month_to_date_usd",
        "Spend in US dollars of a whole account since the start of the month in the configured time zone: the "
        "starting point of its forecast. It is the sum of fal_spend_month_to_date_usd, in one series for long ranges.",
        ("account",),
    ),
    Family(
        "fal_month_end_timestamp_seconds",
        "gauge",
        "End of the current month in the configured time zone, in seconds since the epoch: the time that "
        "fal_spend_month_forecast_usd is a forecast for.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_usd",
        "Forecast of this month's total cost in US dollars: the median of what the account's own history makes "
        "likely; absent while there is less than a day of history.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_low_usd",
        "Lower edge in US dollars of the band that contains the month's total cost in 8 of 10 cases.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_high_usd",
        "Upper edge in US dollars of the band that contains the month's total cost in 8 of 10 cases.",
        ("account",),
    ),
    _dollars("fal_budget_limit_usd", "Amount in US dollars that a budget allows for its period.", _BUDGET),
    _dollars(
        "fal_budget_spend_usd",
        "Spend in US dollars in a budget's current period, exact and including all corrections; absent until the "
        "hours of the period have been loaded.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_usd",
        "Forecast of the total cost of a budget's current period in US dollars: the median of what history makes "
        "likely.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_low_usd",
        "Lower edge in US dollars of the band that contains the period's total cost in 8 of 10 cases.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_high_usd",
        "Upper edge in US dollars of the band that contains the period's total cost in 8 of 10 cases.",
        _BUDGET,
    ),
    Family(
        "fal_budget_period_start_timestamp_seconds",
        "gauge",
        "Start of a budget's current period, in seconds since the epoch.",
        _BUDGET,
    ),
    Family(
        "fal_budget_period_end_timestamp_seconds",
        "gauge",
        "End of a budget's current period, in seconds since the epoch.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_threshold_usd",
        "Spend in US dollars at which a configured share of a budget, for example 80%, is reached.",
        (*_BUDGET, "threshold"),
    ),
    Family(
        "fal_budget_burn_ratio",
        "gauge",
        "Spend in the charge hours of a window (1h, 6h, 1d, 3d, including the current hour) divided by what the "
        "budget allows for the same time if spent evenly: at 1 the budget is used up exactly at the end of its period.",
        (*_BUDGET, "window"),
    ),
    _dollars(
        "fal_spend_expected_last_hour_usd",
        "Usual cost of the last complete UTC hour in US dollars, based on the same hours of earlier days and weeks; "
        "absent while there is less than a week of history.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_last_hour_high_usd",
        "Highest cost of the last complete UTC hour in US dollars that would not be unusual.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_current_hour_usd",
        "Usual cost of the current UTC hour at its end in US dollars.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_current_hour_high_usd",
        "Highest cost of the current UTC hour at its end in US dollars that would not be unusual.",
        _EXPECTED,
    ),
)

EXPORTER: tuple[Family, ...] = (
    Family("fal_exporter_build_info", "gauge", "Always 1; the label names the exporter's version.", ("version",)),
    Family(
        "fal_exporter_ready",
        "gauge",
        "1 once the current month has been loaded, 0 before that; the same as the readiness probe.",
    ),
    Family(
        "fal_exporter_web_config_last_reload_successful",
        "gauge",
        "1 if the file of `WEB_CONFIG_FILE` was last read successfully, else 0; absent if none is configured.",
    ),
    Family(
        "fal_exporter_snapshot_timestamp_seconds",
        "gauge",
        "When the served snapshot was made, in seconds since the epoch; if it does not advance, the exporter has "
        "stopped polling.",
    ),
    Family(
        "fal_exporter_scrapes_total",
        "counter",
        "Scrapes of /metrics answered, by format (text, openmetrics) and encoding (identity, gzip).",
        ("format", "encoding"),
    ),
    Family(
        "fal_exporter_history_progress_ratio",
        "gauge",
        "Share of the configured history that has been loaded, from 0 to 1.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_polls_total",
        "counter",
        "Polls that ended, successful or not.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_poll_failures_total",
        "counter",
        "Polls that failed, by reason; the log and the landing page have the full error.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_poll_duration_seconds",
        "histogram",
        "Duration of a poll in seconds, including all its calls and the ledger's work.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_attempt_timestamp_seconds",
        "gauge",
        "When the last poll started, in seconds since the epoch.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_success_timestamp_seconds",
        "gauge",
        "When the last successful poll started, in seconds since the epoch; absent until one has succeeded since "
        "startup.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_api_requests_total",
        "counter",
        "Calls to fal by HTTP status code, counting each attempt; code is error if no response arrived.",
        ("account", "call", "code"),
    ),
    Family(
        "fal_exporter_api_retries_total",
        "counter",
        "Calls to fal that were retried.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_api_request_duration_seconds",
        "histogram",
        "Duration of a call to fal in seconds, measured for each attempt.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_rejected_rows",
        "gauge",
        "Rows in fal's responses that currently cannot be read, or only partly (quantity, unit), by reason; each row "
        "counts once, no matter how often it is polled.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_missed_runs_total",
        "counter",
        "Scheduled runs that did not start because the previous one was still running, or that started two or more "
        "intervals late.",
        ("job",),
    ),
    Family(
        "fal_exporter_clock_steps_total",
        "counter",
        "Number of times that the exporter's system clock was set by five seconds or more while it ran.",
    ),
    Family(
        "fal_exporter_clock_skew_seconds",
        "gauge",
        "Seconds by which the exporter's system clock is ahead of fal's, by the Date header of fal's last response; "
        "negative if it is behind.",
    ),
    Family(
        "fal_exporter_publication_failures_total",
        "counter",
        "Failures to update a part of the publication (figures, forecasts, comparisons, days, rankings, page or "
        "metrics); the part keeps its last value meanwhile.",
        ("part",),
    ),
    Family(
        "fal_exporter_publication_part_timestamp_seconds",
        "gauge",
        "When a part of the publication was last updated, in seconds since the epoch.",
        ("part",),
    ),
    Family(
        "fal_exporter_series",
        "gauge",
        "Combinations of charge labels that have been admitted; see fal_exporter_series_overflow_total.",
    ),
    Family(
        "fal_exporter_series_overflow_total",
        "counter",
        "Combinations of charge labels that were folded into __other__ because the series limit was reached.",
    ),
    Family(
        "fal_exporter_ledger_up",
        "gauge",
        "1 while the ledger can be read and written and is where it was opened; 0 while it is lost, locked, full or "
        "unreachable, in which case the figures stay as they were or exist only in this process.",
    ),
    Family("fal_exporter_ledger_charges", "gauge", "Hourly charges kept in the ledger."),
    Family(
        "fal_exporter_ledger_birth_timestamp_seconds",
        "gauge",
        "When the ledger began to count, in seconds since the epoch; if this changes, the counters have restarted at "
        "0.",
    ),
)

__all__ = ["CATALOGUE", "CHARGES", "DEFAULT_CHARGE_LABELS", "RENAMED", "Family", "Kind", "markdown_table"]

DEFAULT_CHARGE_LABELS = ("account", "team", "product", "model", "app", "gpu_class")
"""The dimensions that label what is derived from charges, unless the user selects others."""

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "fal_counter_pending_usd": "fal_spend_pending_usd",
        "fal_restated_hours_total": "fal_restatements_total",
    }
)
"""Families by the names that they had, which are published beside the present ones for one version."""


def _former(name: str, present: Family) -> Family:
    text = f"Deprecated: renamed to {present.name}; this name ends with the next version. {present.help}"
    return replace(present, name=name, help=text)


_PRESENT = {family.name: family for family in CHARGES + PRICES + ACCOUNTS + OUTLOOK + EXPORTER}

CATALOGUE: Mapping[str, Family] = MappingProxyType(
    _PRESENT | {name: _former(name, _PRESENT[present]) for name, present in RENAMED.items()}
)
"""Every family by its full name, those of a former name last."""


def markdown_table() -> str:
    """Return the documentation's table of metrics."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in CATALOGUE.values():
        labels = [f"`{label}`" for label in family.labels]
        if family.charge_labels:
            labels.insert(0, "*charge labels*")
        lines.append(f"| `{family.name}` | {family.kind} | {', '.join(labels)} | {family.help} |")
    return "\n".join(lines) + "\n"
