"""Families of the exporter itself: snapshots, polls, calls, scheduling, the ledger, and what it pushes elsewhere."""

from exporter.charges import NANO
from exporter.metrics.catalogue.family import Family

_SOURCE = ("account", "source")

EXPORTER: tuple[Family, ...] = (
    Family("fal_exporter_build_info", "gauge", "Always 1; the label names the exporter's version.", ("version",)),
    Family(
        "fal_exporter_ready",
        "gauge",
        "1 once the current month has been loaded, 0 before that; the same as the readiness probe.",
    ),
    Family(
        "fal_exporter_access_file_last_reload_successful",
        "gauge",
        "1 if the file of this setting (tokens or web configuration) could be used when it was last read, otherwise 0. "
        "Absent for settings that name no file.",
        ("setting",),
    ),
    Family(
        "fal_exporter_snapshot_timestamp_seconds",
        "gauge",
        "When the served snapshot was made, in seconds since the epoch; if it does not advance, the exporter has "
        "stopped polling.",
    ),
    Family(
        "fal_exporter_scrapes_total",
        "counter",
        "Scrapes of /metrics answered, by format (text, openmetrics, protobuf) and encoding (identity, gzip).",
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
        "Polls that ended, successful or not.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_poll_failures_total",
        "counter",
        "Polls that failed, by reason; the log and the landing page have the full error.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_poll_duration_seconds",
        "histogram",
        "Duration of a poll in seconds, including all its calls and the ledger's work.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_attempt_timestamp_seconds",
        "gauge",
        "When the last poll started, in seconds since the epoch.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_last_poll_success_timestamp_seconds",
        "gauge",
        "When the last successful poll started, in seconds since the epoch; absent until one has succeeded since "
        "startup.",
        _SOURCE,
    ),
    Family(
        "fal_exporter_api_requests_total",
        "counter",
        "Calls to fal by HTTP status code, counting each attempt; code is error if no response arrived.",
        ("account", "call", "code"),
    ),
    Family(
        "fal_exporter_api_retries_total",
        "counter",
        "Calls to fal that were retried.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_api_request_duration_seconds",
        "histogram",
        "Duration of a call to fal in seconds, measured for each attempt.",
        ("account", "call"),
    ),
    Family(
        "fal_exporter_rejected_rows",
        "gauge",
        "Rows in fal's responses that currently cannot be read, or only partly (quantity, unit), by reason; each row "
        "counts once, no matter how often it is polled.",
        (*_SOURCE, "reason"),
    ),
    Family(
        "fal_exporter_missed_runs_total",
        "counter",
        "Scheduled runs that did not start because the previous one was still running, or that started two or more "
        "intervals late.",
        ("job",),
    ),
    Family(
        "fal_exporter_collector_restarts_total",
        "counter",
        "Number of times that the collector process was started again after it had ended unexpectedly; the last "
        "publication is served meanwhile.",
    ),
    Family(
        "fal_exporter_leader",
        "gauge",
        "1 if this exporter collects for all replicas of its ledger, 0 if it serves what another one has collected. "
        "Absent without `REPLICATED`.",
    ),
    Family(
        "fal_exporter_accounts_owned",
        "gauge",
        "Number of accounts that this replica asks fal for. Absent without `DIVIDE_POLLING`.",
    ),
    Family(
        "fal_exporter_replica_problem",
        "gauge",
        "1 if this replica should not collect, else 0, by reason: its configuration differs from that of the replica "
        "that collects (configuration), or it does not reach fal (fal). Absent without `REPLICATED`.",
        ("reason",),
    ),
    Family(
        "fal_exporter_config_last_reload_successful",
        "gauge",
        "1 if the last read of the configuration, at the start or after SIGHUP, succeeded; 0 if it failed and the "
        "former configuration is in use.",
    ),
    Family(
        "fal_exporter_config_last_reload_success_timestamp_seconds",
        "gauge",
        "Time of the last successful read of the configuration, in seconds since the Unix epoch.",
    ),
    Family(
        "fal_exporter_clock_steps_total",
        "counter",
        "Number of times that the exporter's system clock was set by five seconds or more while it ran.",
    ),
    Family(
        "fal_exporter_clock_skew_seconds",
        "gauge",
        "How far the exporter's system clock is ahead of fal's in seconds, by the Date header of fal's last response; "
        "negative if it is behind.",
    ),
    Family(
        "fal_exporter_publication_failures_total",
        "counter",
        "Failures to update a part of the publication (figures, forecasts, comparisons, days, rankings, page or "
        "metrics); the part keeps its last value meanwhile.",
        ("part",),
    ),
    Family(
        "fal_exporter_publication_part_timestamp_seconds",
        "gauge",
        "When a part of the publication was last updated, in seconds since the epoch.",
        ("part",),
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
    Family(
        "fal_exporter_ledger_up",
        "gauge",
        "1 while the ledger can be read and written and is where it was opened; 0 while it is lost, locked, full or "
        "unreachable, in which case the figures stay as they were or exist only in this process.",
    ),
    Family("fal_exporter_ledger_charges", "gauge", "Hourly charges kept in the ledger."),
    Family(
        "fal_exporter_ledger_birth_timestamp_seconds",
        "gauge",
        "When the ledger began to count, in seconds since the epoch; if this changes, the counters have restarted at "
        "0.",
    ),
)


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
