"""Families of charges: counters, gauges of windows, prices and discounts; and of spend by tags.

What tags tell is an allocation of the spend, to which it adds up and adds nothing.
"""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family, charged, dollars

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


_TAGGED = ("account", "model")

TAGS: tuple[Family, ...] = (
    Family(
        "fal_tagged_spend_usd_total",
        "counter",
        "Spend in US dollars by tags since the ledger began to count by them, what no tag explains as untagged; the "
        "sum is the spend of the same hours. An hour is counted some hours after its end, because tags come late. It "
        "never decreases: see fal_tagged_spend_pending_usd.",
        _TAGGED,
        tag_labels=True,
        scale=NANO,
    ),
    Family(
        "fal_tagged_spend_pending_usd",
        "gauge",
        "US dollars by which fal_tagged_spend_usd_total exceeds the actual spend after fal reduced a charge or tagged "
        "it otherwise; the counter does not move until this is 0 again.",
        _TAGGED,
        tag_labels=True,
        scale=NANO,
    ),
    Family(
        "fal_tagged_spend_month_to_date_usd",
        "gauge",
        "Spend in US dollars since the start of the month in the configured time zone by tags, including all "
        "corrections; the sum is that of fal_spend_month_to_date_usd. What no tag explains is untagged, and negative "
        "where fal has tagged more than it charges. Absent until the month has been read by tags.",
        _TAGGED,
        tag_labels=True,
        scale=NANO,
    ),
    dollars(
        "fal_tag_spend_month_to_date_usd",
        "fal_tagged_spend_month_to_date_usd by one tag alone: key is its name and value what it is set to, all models "
        "and other tags together. The values of a key add up to the month in US dollars; never add up keys.",
        ("account", "key", "value"),
    ),
    dollars(
        "fal_tagged_difference_usd",
        "US dollars that fal reports by tags (tagged or not) for models in the hours of this month that have been read "
        "by tags, minus what the ledger has of them; fal's two figures can differ.",
        ("account",),
    ),
    Family(
        "fal_tagged_through_timestamp_seconds",
        "gauge",
        "End of the last hour that has been read by tags for good, in seconds since the epoch; absent for an account "
        "that fal does not report by tags.",
        ("account",),
    ),
)
