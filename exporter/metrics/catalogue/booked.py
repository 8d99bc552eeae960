"""Families of bookings compared with charged requests; only with BOOKED_SOURCE."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family, dollars

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
