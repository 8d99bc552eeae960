"""Families of what is pushed: FOCUS files, hourly samples by remote write, and metrics by OTLP."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family

_DESTINATION = ("destination",)

FOCUS: tuple[Family, ...] = (
    Family(
        "fal_focus_push_last_success_timestamp_seconds",
        "gauge",
        "When a destination of FOCUS files (store, datadog, vantage) was last known to be up to date, in seconds since "
        "the epoch; absent before that. Only with FOCUS_PUSH_URL or FOCUS_UPLOAD, as all of these.",
        _DESTINATION,
    ),
    Family(
        "fal_focus_push_up",
        "gauge",
        "1 if the newest push of FOCUS files to a destination succeeded, 0 if it failed; absent before the first.",
        _DESTINATION,
    ),
    Family(
        "fal_focus_push_rows",
        "gauge",
        "Rows of the months that the newest successful push of FOCUS files to a destination covers.",
        _DESTINATION,
    ),
    Family(
        "fal_focus_push_written_months_total",
        "counter",
        "Months that were new at a destination of FOCUS files or had changed, and were written.",
        _DESTINATION,
    ),
    Family(
        "fal_focus_push_failures_total",
        "counter",
        "Pushes of FOCUS files to a destination that failed; they are tried again after 15 minutes.",
        _DESTINATION,
    ),
)

REMOTE: tuple[Family, ...] = (
    Family(
        "fal_remote_write_up",
        "gauge",
        "1 if the newest remote write of hourly samples succeeded, 0 if it failed; absent before the first. Only with "
        "REMOTE_WRITE_URL, as all of these.",
    ),
    Family(
        "fal_remote_write_last_success_timestamp_seconds",
        "gauge",
        "When everything that was to be told had been acknowledged by the store last, in seconds since the epoch.",
    ),
    Family(
        "fal_remote_write_told_through_timestamp_seconds",
        "gauge",
        "End of the last hour whose samples the store has acknowledged, in seconds since the epoch.",
    ),
    Family("fal_remote_write_pending_requests", "gauge", "Requests that wait to be acknowledged by the store."),
    Family(
        "fal_remote_write_counters_waiting_usd",
        "gauge",
        "US dollars that fal has taken back since they were sent, and by which the sent counters therefore wait; the "
        "sent gauges have them.",
        scale=NANO,
    ),
    Family("fal_remote_write_samples_total", "counter", "Samples that the store has acknowledged."),
    Family("fal_remote_write_failures_total", "counter", "Remote writes that failed; they go on at the next interval."),
    Family(
        "fal_remote_write_refused_total",
        "counter",
        "Hours of single series that the store will never take, too old or out of order: their amounts are sent with "
        "the next hour (next_hour), or left out because they are of before the first remote write (history).",
        ("outcome",),
    ),
)

OTLP: tuple[Family, ...] = (
    Family(
        "fal_otlp_up",
        "gauge",
        "1 if the newest metrics could be sent by OTLP, 0 if not; absent before the first. Only with OTLP_URL, as all "
        "of these.",
    ),
    Family(
        "fal_otlp_last_success_timestamp_seconds",
        "gauge",
        "When metrics were sent by OTLP last, in seconds since the epoch.",
    ),
    Family("fal_otlp_points_total", "counter", "Points of metrics that were sent by OTLP."),
    Family("fal_otlp_failures_total", "counter", "Times that metrics could not be sent by OTLP."),
)
