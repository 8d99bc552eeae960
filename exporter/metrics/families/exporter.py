"""The exporter's own health."""

from exporter.metrics.families.family import Family

_SOURCE = ("account", "source")

EXPORTER: tuple[Family, ...] = (
    Family("fal_exporter_build_info", "gauge", "Always 1; the label names the exporter's version.", ("version",)),
    Family(
        "fal_exporter_ready",
        "gauge",
        "1 once the current month has been loaded, before that 0; what the readiness probe answers.",
    ),
    Family(
        "fal_exporter_snapshot_timestamp_seconds",
        "gauge",
        "When the served snapshot was made, in seconds since the epoch; if it stands still, the exporter has stopped "
        "polling.",
    ),
    Family(
        "fal_exporter_scrapes_total",
        "counter",
        "Scrapes of /metrics answered, by format (text, openmetrics) and encoding (identity, gzip).",
        ("format", "encoding"),
    ),
    Family(
        "fal_exporter_history_progress_ratio",
        "gauge",
        "Share of the configured history that has been loaded, from 0 to 1.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_polls_total",
        "counter",
        "Polls that ended, whether they succeeded or failed.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_poll_failures_total",
        "counter",
        "Polls that failed, by reason; the log and the landing page have the whole sentence.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_poll_duration_seconds",
        "histogram",
        "How long a poll took in seconds, all its calls and the ledger's work included.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_attempt_timestamp_seconds",
        "gauge",
        "When the last poll began, in seconds since the epoch.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_success_timestamp_seconds",
        "gauge",
        "When the last successful poll began, in seconds since the epoch; absent until one has succeeded since start.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_api_requests_total",
        "counter",
        "Calls to fal, each attempt counted, by HTTP status code; code is error where no answer came.",
        ("account", "call", "code"),
    ),
    Family(
        "fal_exporter_api_retries_total",
        "counter",
        "Calls to fal that were tried again.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_api_request_duration_seconds",
        "histogram",
        "How long a call to fal took in seconds, each attempt by itself.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_rejected_rows_total",
        "counter",
        "Rows of fal's answers that were left out because they were malformed, by reason; the sums lack them.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_missed_runs_total",
        "counter",
        "Scheduled runs that did not start because the one before was still going or the process was too busy.",
        ("job",),
    ),
    Family(
        "fal_exporter_series",
        "gauge",
        "Combinations of charge labels that have been admitted; see fal_exporter_series_overflow_total.",
    ),
    Family(
        "fal_exporter_series_overflow_total",
        "counter",
        "Combinations of charge labels that were folded into __other__ because the series limit was reached.",
    ),
    Family("fal_exporter_ledger_charges", "gauge", "Hourly charges kept in the ledger."),
    Family(
        "fal_exporter_ledger_birth_timestamp_seconds",
        "gauge",
        "When the ledger began to count, in seconds since the epoch; if it changes, counters have restarted at 0.",
    ),
)
