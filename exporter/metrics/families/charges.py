"""Families derived from charges; their samples are nano-units."""

from exporter.metrics.families.family import Family, charged

CHARGES: tuple[Family, ...] = (
    charged(
        "fal_spend_usd_total",
        "counter",
        "Spend after discounts in US dollars since the ledger began to count; use increase() over it for graphs, "
        "rates and burn alerts. It never falls: see fal_counter_pending_usd.",
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
        "fal_counter_pending_usd",
        "gauge",
        "US dollars by which fal_spend_usd_total is ahead of the truth after fal took money back; the counter stands "
        "still until it is 0 again.",
    ),
    charged(
        "fal_spend_current_hour_usd",
        "gauge",
        "Spend in US dollars in the running UTC hour as known now; incomplete by nature, use it to see a surprise "
        "early.",
    ),
    charged(
        "fal_spend_last_hour_usd",
        "gauge",
        "Spend in US dollars in the last complete UTC hour as known now; may still be corrected by fal.",
    ),
    charged(
        "fal_spend_today_usd",
        "gauge",
        "Spend in US dollars since midnight in the configured time zone, with all corrections; use it for daily "
        "budgets.",
    ),
    charged(
        "fal_spend_month_to_date_usd",
        "gauge",
        "Spend in US dollars since the start of the month in the configured time zone, with all corrections; use it "
        "for budgets and reports.",
    ),
    charged(
        "fal_spend_last_month_usd",
        "gauge",
        "Spend in US dollars in the whole previous month in the configured time zone, with all corrections; compare "
        "it with the invoice.",
    ),
    charged(
        "fal_gpu_time_last_hour_seconds",
        "gauge",
        "GPU-seconds billed in the last complete UTC hour as known now; divided by 3600 it is the mean number of "
        "GPUs in use.",
    ),
    charged(
        "fal_gpu_time_month_to_date_seconds",
        "gauge",
        "GPU-seconds billed since the start of the month in the configured time zone, with all corrections.",
    ),
    charged(
        "fal_spend_surge_month_to_date_usd",
        "gauge",
        "The part of fal_spend_month_to_date_usd in US dollars that was charged at surge prices; its sources are those "
        "that tell surge apart.",
    ),
    charged(
        "fal_gpu_time_surge_month_to_date_seconds",
        "gauge",
        "The part of fal_gpu_time_month_to_date_seconds that was charged at surge prices, in GPU-seconds.",
    ),
)
