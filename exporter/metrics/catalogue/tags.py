"""Families of spend by tags: an allocation of the spend, to which it adds up and adds nothing."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family, dollars

_LABELS = ("account", "model")

TAGS: tuple[Family, ...] = (
    Family(
        "fal_tagged_spend_usd_total",
        "counter",
        "Spend in US dollars by tags since the ledger began to count by them, what no tag explains as untagged; the "
        "sum is the spend of the same hours. An hour is counted some hours after its end, because tags come late. It "
        "never decreases: see fal_tagged_spend_pending_usd.",
        _LABELS,
        tag_labels=True,
        scale=NANO,
    ),
    Family(
        "fal_tagged_spend_pending_usd",
        "gauge",
        "US dollars by which fal_tagged_spend_usd_total exceeds the actual spend after fal reduced a charge or tagged "
        "it otherwise; the counter does not move until this is 0 again.",
        _LABELS,
        tag_labels=True,
        scale=NANO,
    ),
    Family(
        "fal_tagged_spend_month_to_date_usd",
        "gauge",
        "Spend in US dollars since the start of the month in the configured time zone by tags, including all "
        "corrections; the sum is that of fal_spend_month_to_date_usd. What no tag explains is untagged, and negative "
        "where fal has tagged more than it charges. Absent until the month has been read by tags.",
        _LABELS,
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
