"""Families of pushed FOCUS files; only with FOCUS_PUSH_URL."""

from exporter.metrics.catalogue.family import Family

FOCUS: tuple[Family, ...] = (
    Family(
        "fal_focus_push_last_success_timestamp_seconds",
        "gauge",
        "When the destination of FOCUS files was last known to be up to date, in seconds since the epoch; absent "
        "before that. Only with FOCUS_PUSH_URL.",
    ),
    Family(
        "fal_focus_push_up",
        "gauge",
        "1 if the newest push of FOCUS files succeeded, 0 if it failed; absent before the first. Only with "
        "FOCUS_PUSH_URL.",
    ),
    Family(
        "fal_focus_push_rows",
        "gauge",
        "Rows of the months that the newest successful push of FOCUS files covers. Only with FOCUS_PUSH_URL.",
    ),
    Family(
        "fal_focus_push_written_files_total",
        "counter",
        "FOCUS files that were new or had changed, and were written. Only with FOCUS_PUSH_URL.",
    ),
    Family(
        "fal_focus_push_failures_total",
        "counter",
        "Pushes of FOCUS files that failed; they are tried again after 15 minutes. Only with FOCUS_PUSH_URL.",
    ),
)
