"""Families of single requests: what they cost, and how their sums compare with the ledger and with bookings.

Only with EVENTS; what concerns bookings, only with BOOKED_SOURCE.
"""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family, dollars

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
