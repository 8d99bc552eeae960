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
        "rates and burn alerts. It never falls: see fal_spend_pending_usd.",
    ),
    charged(
        "fal_discount_usd_total",
        "counter",
        "Discounts granted in US dollars since the ledger began to count; list price spend is this plus "
        "fal_spend_usd_total.",
    ),
    charged(
        "fal_gpu_seconds_total",
        "counter",
        "GPU time billed in GPU-seconds (a second of a machine with 8 GPUs is 8) since the ledger began to count.",
    ),
    charged(
        "fal_usage_quantity_total",
        "counter",
        "Units billed since the ledger began to count, in the unit of the label unit; never add up different units.",
        ("unit",),
    ),
    charged(
        "fal_spend_pending_usd",
        "gauge",
        "US dollars by which fal_spend_usd_total is ahead of the truth after fal took money back; the counter stands "
        "still until it is 0 again.",
    ),
    charged(
        "fal_spend_current_hour_usd",
        "gauge",
        "Spend in US dollars in the current UTC hour as known now; incomplete by nature, use it to see a surprise "
        "early. Absent while a source has not been read up to it: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_hour_usd",
        "gauge",
        "Spend in US dollars in the last complete UTC hour as known now; may still be corrected by fal. Absent until "
        "the hour is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_today_usd",
        "gauge",
        "Spend in US dollars since midnight in the configured time zone, with all corrections; use it for daily "
        "budgets. Absent until every hour of it that is over is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_day_usd",
        "gauge",
        "Spend in US dollars in the last 24 UTC hours, the running one among them, as known now, whenever the ledger "
        "began. Absent until every hour of it that is over is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_discount_last_day_usd",
        "gauge",
        "Discounts granted in US dollars in the same 24 hours as fal_spend_last_day_usd, and absent like it; only what "
        "had a discount in them has a series.",
    ),
    charged(
        "fal_usage_quantity_last_day",
        "gauge",
        "Units billed in the same 24 hours as fal_spend_last_day_usd, in the unit of the label unit, and absent like "
        "it; only what was billed in them has a series. Never add up different units.",
        ("unit",),
    ),
    charged(
        "fal_spend_month_to_date_usd",
        "gauge",
        "Spend in US dollars since the start of the month in the configured time zone, with all corrections; use it "
        "for budgets and reports. Absent until every hour of it that is over is covered: see "
        "fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_month_usd",
        "gauge",
        "Spend in US dollars in the whole previous month in the configured time zone, with all corrections; compare "
        "it with the invoice. Absent until every hour of it is covered: see fal_window_coverage_ratio.",
    ),
    charged(
        "fal_spend_last_month_to_date_usd",
        "gauge",
        "Spend in US dollars in as many hours from the start of the previous month as this month has had complete "
        "ones, with all corrections; compare fal_spend_month_to_date_usd with it. Only what was charged in them has a "
        "series. Absent for an account while the previous month is not covered.",
    ),
    charged(
        "fal_gpu_time_last_hour_seconds",
        "gauge",
        "GPU-seconds billed in the last complete UTC hour as known now; divided by 3600 it is the mean number of "
        "GPUs in use. Absent like fal_spend_last_hour_usd.",
    ),
    charged(
        "fal_gpu_time_month_to_date_seconds",
        "gauge",
        "GPU-seconds billed since the start of the month in the configured time zone, with all corrections. Absent "
        "like fal_spend_month_to_date_usd.",
    ),
    charged(
        "fal_spend_surge_month_to_date_usd",
        "gauge",
        "The part of fal_spend_month_to_date_usd in US dollars that was charged at surge prices, and absent like it; "
        "its sources are those that report surge separately.",
    ),
    charged(
        "fal_gpu_time_surge_month_to_date_seconds",
        "gauge",
        "The part of fal_gpu_time_month_to_date_seconds that was charged at surge prices, in GPU-seconds; absent like "
        "it.",
    ),
)

_PRICED = ("account", "product", "model", "app", "gpu_class", "unit")
_PERCENT = 100 * NANO
"""Discounts are nano-percent."""

PRICES: tuple[Family, ...] = (
    Family(
        "fal_unit_price_usd",
        "gauge",
        "Price in US dollars of one unit before discount, as seen in the newest charge.",
        _PRICED,
        scale=NANO,
    ),
    Family(
        "fal_unit_price_previous_usd",
        "gauge",
        "Price in US dollars of one unit before the last change of price; absent where none has been seen.",
        _PRICED,
        scale=NANO,
    ),
    Family(
        "fal_unit_price_changed_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge at the present price, in seconds since the epoch; absent where no "
        "change of price has been seen.",
        _PRICED,
    ),
    Family(
        "fal_unit_discount_ratio",
        "gauge",
        "Share of the price that fal takes off, from 0 to 1, as seen in the newest charge.",
        _PRICED,
        scale=_PERCENT,
    ),
    Family(
        "fal_unit_discount_previous_ratio",
        "gauge",
        "Share of the price that fal took off before the last change, from 0 to 1; absent where no change has been "
        "seen. More than fal_unit_discount_ratio means that a discount was lost.",
        _PRICED,
        scale=_PERCENT,
    ),
    Family(
        "fal_unit_discount_changed_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge at the present discount, in seconds since the epoch; absent where no "
        "change has been seen.",
        _PRICED,
    ),
    Family(
        "fal_model_first_seen_timestamp_seconds",
        "gauge",
        "Start of the hour of the first charge of a model or app, in seconds since the epoch; absent for those that "
        "were charged in the ledger's first 7 days, whose age is not known.",
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
        "1 while rows of the source cannot be read, or only in part, else 0: their hours keep what was known of them "
        "before. See fal_unreadable_usd and fal_exporter_rejected_rows.",
        _SOURCE,
    ),
    Family(
        "fal_unreadable_usd",
        "gauge",
        "US dollars in the rows that cannot be read now and are not counted, as far as their cost can be read.",
        _SOURCE,
        scale=NANO,
    ),
    Family(
        "fal_source_available",
        "gauge",
        "1 while the key can read a source whose charges no polled source reports, else 0: the spend shown here lacks "
        "them. Asked at the first start, every day, and by every new version.",
        _SOURCE,
    ),
    Family(
        "fal_source_difference_usd",
        "gauge",
        "US dollars of the complete hours of the recent window that the ledger has of a product less what "
        "/organization/usage reports, when compared last. Below 0 charges are missing here. Absent where the key "
        "cannot read that, or the last comparison failed.",
        ("account", "product"),
        scale=NANO,
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
        "fal_window_coverage_ratio",
        "gauge",
        "Share of the hours of a window that are over and covered by all sources of an account, from 0 to 1; window is "
        "current_hour, last_hour, today, last_day, month_to_date or last_month. Below 1 the gauges of the window are "
        "absent for the account. An hour counts once a poll has read it after its end; until then the newest poll that "
        "read it while it ran counts, for four poll intervals (at least 5 minutes). Where no hour of a window is "
        "over, 1 while such a poll counts, else 0.",
        ("account", "window"),
    ),
    Family(
        "fal_restated_usd_total",
        "counter",
        "US dollars by which fal changed hours that had been published as complete; direction is up or down.",
        (*_SOURCE, "direction"),
        scale=NANO,
    ),
    Family(
        "fal_restatements_total",
        "counter",
        "Times that fal changed an hour that had been published as complete.",
        _SOURCE,
    ),
    Family(
        "fal_spend_relabelled_usd_total",
        "counter",
        "US dollars that fal reported again under other labels within their hours. They moved no counter: those of the "
        "old labels keep what they had counted, those of the new ones did not count it again.",
        _SOURCE,
        scale=NANO,
    ),
    Family(
        "fal_credit_balance_usd",
        "gauge",
        "Prepaid credit in US dollars; may be negative. At fal_credit_floor_usd fal locks the account: see "
        "fal_credit_runway_seconds.",
        ("account",),
        scale=NANO,
    ),
    Family(
        "fal_credit_floor_usd",
        "gauge",
        "Balance in US dollars at which fal locks the account, as configured (credit_floor); fal does not state it.",
        ("account",),
        scale=NANO,
    ),
    Family(
        "fal_account_locked",
        "gauge",
        "1 while fal states that the account is locked for this reason, or refuses calls for it, else 0. Calls that "
        "cost money are refused; calls that read may go on answering.",
        ("account", "reason"),
    ),
    Family(
        "fal_provider_budget_usd",
        "gauge",
        "Monthly budget that the account has set at fal itself; kind is soft, or hard, above which fal locks the "
        "account. fal does not document its unit: US dollars are assumed. Absent where none is set.",
        ("account", "kind"),
        scale=NANO,
    ),
    Family(
        "fal_invoice_total_usd",
        "gauge",
        "Total of an invoice in US dollars as fal states it, by its present status (draft, open, paid, void). fal does "
        "not document its invoices; their shape is assumed.",
        ("account", "invoice", "status"),
        scale=NANO,
    ),
    Family(
        "fal_invoice_due_timestamp_seconds",
        "gauge",
        "When an invoice is due, in seconds since the epoch; absent where fal states no due date. Overdue is one that "
        "is open and due before now. fal does not document its invoices; their shape is assumed.",
        ("account", "invoice", "status"),
    ),
    Family(
        "fal_reconciliation_difference_usd",
        "gauge",
        "US dollars that the ledger has of a UTC month (period: current_month, last_month) less what fal bills as "
        "usage of the same hours, before credits and taxes, when compared last. Above 0 fal bills less than it has "
        "reported, below 0 more, as with compute machines where the source compute is not polled. "
        "against is invoice (whose shape fal does not document; it is assumed), focus_invoice or focus_estimate; "
        "never add them up.",
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

_BUDGET = ("budget",)
_ITEM = ("account", "product", "model", "app", "gpu_class")
_EXPECTED = ("account", "product")


def _dollars(name: str, text: str, labels: tuple[str, ...]) -> Family:
    return Family(name, "gauge", text, labels, scale=NANO)


OUTLOOK: tuple[Family, ...] = (
    Family(
        "fal_credit_runway_seconds",
        "gauge",
        "How long the credit above fal_credit_floor_usd lasts, in seconds, at the burn of the last day or week, "
        "whichever is more; absent while nothing burns, 0 when it is used up.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_change_usd",
        "US dollars by which the complete hours of this month cost more or, below 0, less than as many of the previous "
        "month; cause is volume, price (list price, discounts and surge together), new, gone or unknown (where a "
        "quantity is not known). All causes add up to the change. The 50 items of an account that changed most have "
        "series of their own, the others are __other__. Absent like fal_spend_last_month_to_date_usd.",
        (*_ITEM, "cause"),
    ),
    _dollars(
        "fal_account_spend_month_to_date_usd",
        "Spend in US dollars of a whole account since the start of the month in the configured time zone: where its "
        "forecast begins. It is the sum of fal_spend_month_to_date_usd, in one series for long ranges.",
        ("account",),
    ),
    Family(
        "fal_month_end_timestamp_seconds",
        "gauge",
        "End of the current month in the configured time zone, in seconds since the epoch: what "
        "fal_spend_month_forecast_usd is a forecast for.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_usd",
        "What this month will have cost at its end in US dollars, the median of what the account's own past makes "
        "likely; absent while there is less than a day of history.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_low_usd",
        "Lower edge in US dollars of the band in which the month's cost ends in 8 of 10 cases.",
        ("account",),
    ),
    _dollars(
        "fal_spend_month_forecast_high_usd",
        "Upper edge in US dollars of the band in which the month's cost ends in 8 of 10 cases.",
        ("account",),
    ),
    _dollars("fal_budget_limit_usd", "What a budget allows in US dollars for its period.", _BUDGET),
    _dollars(
        "fal_budget_spend_usd",
        "Spend in US dollars in a budget's current period, exact and with all corrections; absent until the hours of "
        "the period have been loaded.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_usd",
        "What a budget's current period will have cost at its end in US dollars, the median of what the past makes "
        "likely.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_low_usd",
        "Lower edge in US dollars of the band in which the period's cost ends in 8 of 10 cases.",
        _BUDGET,
    ),
    _dollars(
        "fal_budget_forecast_high_usd",
        "Upper edge in US dollars of the band in which the period's cost ends in 8 of 10 cases.",
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
        "Spend in US dollars that reaches a configured share of a budget, for example 80%.",
        (*_BUDGET, "threshold"),
    ),
    Family(
        "fal_budget_burn_ratio",
        "gauge",
        "Spend of the charge hours of a window (1h, 6h, 1d, 3d; the current hour is its last) over what the budget "
        "allows evenly for as long: at 1 the budget is used up exactly by the end of its period.",
        (*_BUDGET, "window"),
    ),
    _dollars(
        "fal_spend_expected_last_hour_usd",
        "What the last complete UTC hour usually costs in US dollars, by the same hours of earlier days and weeks; "
        "absent while there is less than a week of history.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_last_hour_high_usd",
        "What the last complete UTC hour may cost in US dollars without being unusual.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_current_hour_usd",
        "What the current UTC hour usually costs by its end in US dollars.",
        _EXPECTED,
    ),
    _dollars(
        "fal_spend_expected_current_hour_high_usd",
        "What the current UTC hour may cost by its end in US dollars without being unusual.",
        _EXPECTED,
    ),
)

EXPORTER: tuple[Family, ...] = (
    Family("fal_exporter_build_info", "gauge", "Always 1; the label names the exporter's version.", ("version",)),
    Family(
        "fal_exporter_ready",
        "gauge",
        "1 once the current month has been loaded, before that 0; what the readiness probe answers.",
    ),
    Family(
        "fal_exporter_web_config_last_reload_successful",
        "gauge",
        "1 if the file of `WEB_CONFIG_FILE` could be used as it was read last, else 0; absent without one.",
    ),
    Family(
        "fal_exporter_snapshot_timestamp_seconds",
        "gauge",
        "When the served snapshot was made, in seconds since the epoch; if it stands still, the exporter has stopped "
        "polling.",
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
        "Polls that ended, whether they succeeded or failed.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_poll_failures_total",
        "counter",
        "Polls that failed, by reason; the log and the landing page have the whole sentence.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_poll_duration_seconds",
        "histogram",
        "How long a poll took in seconds, all its calls and the ledger's work included.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_attempt_timestamp_seconds",
        "gauge",
        "When the last poll began, in seconds since the epoch.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_success_timestamp_seconds",
        "gauge",
        "When the last successful poll began, in seconds since the epoch; absent until one has succeeded since start.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_api_requests_total",
        "counter",
        "Calls to fal, each attempt counted, by HTTP status code; code is error where no answer came.",
        ("account", "call", "code"),
    ),
    Family(
        "fal_exporter_api_retries_total",
        "counter",
        "Calls to fal that were tried again.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_api_request_duration_seconds",
        "histogram",
        "How long a call to fal took in seconds, each attempt by itself.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_rejected_rows",
        "gauge",
        "Rows of fal's answers that cannot be read now, or only in part (quantity, unit), by reason; each counts once, "
        "however often it is polled.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_missed_runs_total",
        "counter",
        "Scheduled runs that did not start because the one before was still going, or that started two intervals or "
        "more after their time.",
        ("job",),
    ),
    Family(
        "fal_exporter_clock_steps_total",
        "counter",
        "Times that the system clock of the exporter was set by five seconds or more while it ran.",
    ),
    Family(
        "fal_exporter_clock_skew_seconds",
        "gauge",
        "By how many seconds the system clock of the exporter is ahead of fal's, by the Date of fal's last answer; "
        "negative where it is behind.",
    ),
    Family(
        "fal_exporter_publication_failures_total",
        "counter",
        "Failures to make a part of what is published (figures, forecasts, comparisons, days, rankings, page or "
        "metrics); the part keeps its last value meanwhile.",
        ("part",),
    ),
    Family(
        "fal_exporter_publication_part_timestamp_seconds",
        "gauge",
        "Unix time at which a part of what is published was made last, in seconds.",
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
        "cannot be reached: the figures then stay as they were, or are in this process alone.",
    ),
    Family("fal_exporter_ledger_charges", "gauge", "Hourly charges kept in the ledger."),
    Family(
        "fal_exporter_ledger_birth_timestamp_seconds",
        "gauge",
        "When the ledger began to count, in seconds since the epoch; if it changes, counters have restarted at 0.",
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
