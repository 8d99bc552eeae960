"""Families of charges: counters, gauges of windows, prices and discounts; spend by tags; single requests.

What tags tell is an allocation of the spend, to which it adds up and adds nothing. Requests are charges, too, one by
one: their sums are compared with the ledger and with bookings.
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
        "including all corrections; compare it with fal_spend_month_compared_usd. Only what was charged in them has a "
        "series. Absent for an account while the previous month is not covered.",
    ),
    charged(
        "fal_spend_month_compared_usd",
        "gauge",
        "Spend in US dollars in the hours of this month that fal_spend_last_month_to_date_usd is compared with, "
        "including all corrections: fal_spend_month_to_date_usd without the hours that are not complete. Absent for an "
        "account when fal_spend_last_month_to_date_usd is.",
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


REQUESTS: tuple[Family, ...] = (
    Family(
        "fal_request_cost_usd",
        "histogram",
        "Cost of a request in US dollars, counted when its hour has been read to its end, some ten minutes after the "
        "hour. Only with EVENTS. Counts never fall; requests that come late are added. In protobuf a native histogram, "
        "too. In OpenMetrics and protobuf, exemplars name the request_id of the dearest request of each bucket.",
        ("account", "model"),
        scale=NANO,
    ),
    Family(
        "fal_events_difference_usd",
        "gauge",
        "US dollars that the requests of a model cost minus what the ledger charges for it, over the settled hours of "
        "the deep window that both have; without hours of which requests cannot be read. Not 0 means that two "
        "interfaces of fal disagree. Only with EVENTS.",
        ("account", "model"),
        scale=NANO,
    ),
    Family(
        "fal_events_compared",
        "gauge",
        "Number of settled hours of the deep window in which requests have been compared with the ledger.",
        ("account",),
    ),
    Family(
        "fal_events_differing",
        "gauge",
        "Number of settled hours of the deep window in which the requests of a model do not add up to what the ledger "
        "charges for it.",
        ("account",),
    ),
    Family(
        "fal_events_through_timestamp_seconds",
        "gauge",
        "End of the last hour whose requests have been read to its end, in seconds since the epoch.",
        ("account",),
    ),
    Family(
        "fal_events_up",
        "gauge",
        "1 if fal answers with billing events, 0 if it has refused; it is asked again every day.",
        ("account",),
    ),
)


BOOKED: tuple[Family, ...] = (
    dollars(
        "fal_booked_usd",
        "US dollars that your gateway or program booked for requests in this month and the last, up to the end of the "
        "window. Only with BOOKED_SOURCE, as all of these; absent before the first comparison.",
        (),
    ),
    dollars("fal_booked_charged_usd", "US dollars that fal charged for requests in the same window.", ()),
    Family(
        "fal_booked_difference_usd",
        "gauge",
        "US dollars booked minus charged in the same window, by model; `not charged` is what fal has not charged for.",
        ("model",),
        scale=NANO,
    ),
    dollars(
        "fal_booked_finding_usd",
        "US dollars booked minus charged of the requests of a finding: never_booked, booked_twice, never_charged, "
        "differing; their sum is the whole difference. not_read is not compared yet.",
        ("finding",),
    ),
    Family("fal_booked_finding_requests", "gauge", "Requests of a finding in the same window.", ("finding",)),
    Family(
        "fal_booked_unread",
        "gauge",
        "Hours of the same window, of all accounts, whose requests are not all known: what fal charged in them is "
        "missing in the other figures.",
    ),
    Family(
        "fal_booked_window_end_timestamp_seconds",
        "gauge",
        "End of the window that was compared last, in seconds since the epoch.",
    ),
    Family(
        "fal_booked_up",
        "gauge",
        "1 if the newest comparison of bookings with requests succeeded, 0 if it failed; then the other figures are "
        "those of the last that did.",
    ),
)
