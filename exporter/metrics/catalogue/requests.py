"""Families of single requests: what they cost, and how their sums compare with the ledger; only with EVENTS."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family

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
        "the deep window that both have. Not 0 means that two interfaces of fal disagree. Only with EVENTS.",
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
