"""Families of pushed FOCUS files; only with FOCUS_PUSH_URL or FOCUS_UPLOAD."""

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
