"""fal / Exporter health: is the exporter polling, keeping and serving?"""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import common, timeseries

from source import palette
from source.banner import state
from source.frame import Frame, Row
from source.panels import Built, Query, at_least, bars, figure, fixed, lines, properties, said
from source.queries import of_accounts, of_ledgers, selected
from source.tables import WRAPPED, Column, coloured_text, rows, words

_SOURCE = ("account", "source")
_ACCOUNT = selected(("account",))
_IS_EXPORTER = "and on (job, instance) fal_exporter_build_info"


def exporter_health() -> Frame:
    """Return the dashboard of the exporter's own health."""
    return Frame(
        uid="fal-exporter-health",
        title="fal / Exporter health",
        description="Whether the exporter polls, keeps and serves: sources, calls to fal, ledger, scrapes, resources.",
        labels=("account",),
        start="now-24h",
        rows=(
            Row(5, ((state(), 24),)),
            Row(5, ((_failing_now(), 24),)),
            Row(4, _figures()),
            Row(15, ((_sources(), 16), (_failures(), 8))),
            Row(8, ((_calls(), 8), (_latency(), 8), (_poll_duration(), 8)), "Calls to fal"),
            Row(8, ((_retries(), 8), (_rejected(), 8), (_missed(), 8))),
            Row(8, ((_series(), 8), (_scrapes(), 8), (_scrape_cost(), 8)), "Ledger and scrapes"),
            Row(8, ((_processor(), 12), (_memory(), 12))),
        ),
    )


def _figures() -> tuple[tuple[Built, int], ...]:
    ready = figure(
        "Ready",
        "1 once the current month has been loaded: what the readiness probe answers. The least of all exporters.",
        [Query("min(fal_exporter_ready)")],
        "none",
        thresholds=at_least((1, palette.GOOD), base=palette.BAD),
        no_value="no exporter is scraped",
    )
    ready.mappings([said({"1": ("ready", palette.GOOD), "0": ("loading", palette.WARNING)})])
    return (
        (ready, 3),
        (
            figure(
                "Updated",
                "How long ago the served figures were made, of the exporter that is furthest behind. They are made "
                "anew every few seconds; if this grows, the exporter has stopped polling.",
                [Query("time() - min(fal_exporter_snapshot_timestamp_seconds)")],
                "s",
                decimals=0,
                thresholds=at_least((60, palette.WARNING), (300, palette.BAD), base=palette.GOOD),
            ),
            3,
        ),
        (
            figure(
                "Failing",
                "Sources whose last poll failed. They are polled again and again, and what was missed is read later.",
                [
                    Query(
                        f"count({of_accounts('fal_source_up', _SOURCE)} == 0)\n"
                        f"or vector(0) and on () count(fal_source_up{_ACCOUNT})"
                    )
                ],
                "none",
                thresholds=at_least((1, palette.BAD), base=palette.GOOD),
            ),
            3,
        ),
        (
            figure(
                "History",
                "Share of the configured history that has been loaded, of the source that is furthest behind.",
                [Query(f"min({of_accounts('fal_exporter_history_progress_ratio', _SOURCE)})")],
                "percentunit",
                decimals=0,
                thresholds=at_least((1, palette.GOOD), base=palette.WARNING),
            ),
            3,
        ),
        (
            figure(
                "Charges kept",
                "Hourly charges that the ledger keeps; older ones are folded into totals.",
                [Query(of_ledgers("fal_exporter_ledger_charges"))],
                "locale",
                decimals=0,
                color=palette.SPEND,
            ),
            4,
        ),
        (
            figure(
                "Counting since",
                "When the ledger began to count, of the youngest one. If this moves, counters have started at 0 again.",
                [Query("1000 * max(fal_exporter_ledger_birth_timestamp_seconds)")],
                "dateTimeFromNow",
                color=palette.NEUTRAL,
            ),
            4,
        ),
        (
            figure(
                "Over the series limit",
                "Combinations of labels that did not fit below the limit of series and are folded into one, __other__, "
                "which keeps their totals. "
                "Raise FAL_EXPORTER_MAX_SERIES or publish fewer labels.",
                [Query(of_ledgers("fal_exporter_series_overflow_total"))],
                "none",
                thresholds=at_least((1, palette.WARNING), base=palette.GOOD),
            ),
            4,
        ),
    )


ADVICE = {
    "no_answer": "no answer: see fal's status page",
    "connection": "cannot connect: check the URL, DNS and the network",
    "proxy": "the proxy fails: check HTTPS_PROXY",
    "tls": "TLS fails: check the URL, the clock and the certificates",
    "timeout": "fal is slow: retried; else raise REQUEST_TIMEOUT",
    "deadline": "the poll takes too long: retried; else raise POLL_DEADLINE",
    "truncated": "the answer breaks off: retried; check proxies in between",
    "refused": "fal refuses the call: see fal's status page",
    "key_rejected": "the key is refused: check it, or make a new one",
    "scope": "the key may not read this: use one with admin scope",
    "feature": "not enabled for the account: ask fal, or remove the source",
    "locked": "the account is locked: see FalAccountLocked",
    "not_found": "fal has no such call: check the URL, or remove the source",
    "rate_limited": "too many calls: retried; poll less often",
    "server_error": "fal fails: retried; see fal's status page",
    "bad_request": "fal does not understand: look for a newer exporter",
    "detail_refused": "fal refuses the detail it has reported: retried",
    "redirected": "fal has moved: set the URL that answers",
    "bad_answer": "the answer is wrong: see fal's status page",
    "not_json": "not fal that answers: check the URL and proxies",
    "not_csv": "not fal that answers: check the URL and proxies",
    "shape": "the answer has another form: look for a newer exporter",
    "too_large": "the answer is too large: lower PAGE_SIZE",
    "endless_pages": "the pages do not end: retried",
    "configuration": "the key cannot be used: check the settings",
    "ledger": "the ledger cannot be written: see FalLedgerLost",
    "requests": "the store of requests cannot be read or written",
    "unreadable": "no row can be read: look for a newer exporter",
    "unexpected": "nobody has foreseen this: report it with the log",
}
"""Advice by the reason of a failure."""


_UNKNOWN = "unknown"
_NO_REASON = {_UNKNOWN: "see the landing page or the log"}


def _failing_now() -> Built:
    failed = f"increase(fal_exporter_poll_failures_total{_ACCOUNT}[1h]) > 0"
    down = f"max by (account, source) (fal_source_up{_ACCOUNT}) == 0"
    return rows(
        "What fails now, and what to do",
        "Sources whose last poll failed, with the reasons of the last hour and what to do about each. They are polled "
        "again and again, and what was missed is read later; the log and the landing page have the whole sentence.",
        # Of one that fails since before Prometheus scraped its failures no reason is known here.
        [
            Query(
                f"max by (account, source, reason) ({failed}) and on (account, source) {down}\n"
                f'or label_replace({down}, "reason", "{_UNKNOWN}", "", "")\n'
                f"unless on (account, source) max by (account, source) ({failed})"
            )
        ],
        {
            "account": Column("Account", width=104, properties=WRAPPED),
            "source": Column("Source", width=112),
            "reason": Column(
                "What to do",
                properties={
                    "mappings": [said({name: (text, "") for name, text in (ADVICE | _NO_REASON).items()})],
                    "links": [
                        {"title": "Runbook", "url": "${runbooks}/FalPollFailing.md", "targetBlank": True},
                    ],
                },
            ),
            "Value": Column("In 1 h", width=62, decimals=0),
        },
        sort="In 1 h",
        no_value="no source fails now",
    )


def _sources() -> Built:
    up, partial = (of_accounts(family, _SOURCE) for family in ("fal_source_up", "fal_source_partial"))
    panel = rows(
        "Sources",
        "Each source by account: whether its last poll succeeded and all rows can be read, when the last successful "
        "one began, how far its data reach, and its polls and failures in the time range.",
        [
            # Of a source that has failed from the start it is not known whether it is partial.
            Query(f"{up} * on (account, source) (2 - {partial})\nor 2 * {up}", ref="up"),
            Query(f"1000 * {of_accounts('fal_exporter_last_poll_success_timestamp_seconds', _SOURCE)}", ref="success"),
            Query(f"1000 * {of_accounts('fal_data_through_timestamp_seconds', _SOURCE)}", ref="through"),
            # One that has never been polled has no state.
            Query(
                f"max by (account, source) (increase(fal_exporter_polls_total{_ACCOUNT}[$__range]))\n"
                f"and on (account, source) {up}",
                ref="polls",
            ),
            Query(
                "sum by (account, source) (max by (account, source, reason) ("
                f"increase(fal_exporter_poll_failures_total{_ACCOUNT}[$__range])))\n"
                f"and on (account, source) {up}",
                ref="failures",
            ),
        ],
        {
            "account": Column("Account", properties={"custom.minWidth": 110} | WRAPPED),
            "source": Column("Source", width=112),
            "Value #up": Column(
                "State",
                width=64,
                properties=words(
                    {"2": ("up", palette.GOOD), "1": ("partial", palette.WARNING), "0": ("failing", palette.BAD)}
                ),
            ),
            "Value #success": Column("Last success", "dateTimeFromNow", 142),
            "Value #through": Column("Data through", "dateTimeFromNow", 142),
            "Value #polls": Column("Polls", "locale", 62, 0),
            "Value #failures": Column("Failed", "locale", 76, 0, coloured_text((0.5, palette.WARNING))),
        },
    )
    return panel.sort_by(
        [
            common.TableSortByFieldState().display_name("State").desc(desc=False),
            common.TableSortByFieldState().display_name("Failed").desc(desc=True),
        ]
    )


def _failures() -> Built:
    return _rare(
        bars(
            "Failed polls by reason",
            "Polls that failed in each step of the graph, by reason; the log and the landing page have the whole "
            "sentence.",
            [
                Query(
                    _happened("fal_exporter_poll_failures_total", "reason", ("account", "source", "reason")),
                    "{{reason}}",
                    interval="5m",
                )
            ],
            "none",
            legend=("sum",),
            at_right=False,
        )
    )


def _rare(panel: timeseries.Panel) -> Built:
    """Return a graph of what seldom happens: whole numbers, from 0 to 1 at least, and a legend that says "none"."""
    return panel.axis_soft_max(1).decimals(0).override_by_name("none", properties(fixed(palette.NEUTRAL)))


def _happened(metric: str, by: str, labels: Sequence[str], selector: str = _ACCOUNT) -> str:
    """Return what a counter counted in each step, of the groups that counted anything; 0 where none did.

    Args:
        metric: the counter.
        by: the label to keep.
        labels: all that the counter has: what replicas have in common counts once.
        selector: of its series.
    """
    # Rounded, as an increase is extrapolated to the edges of the step: 2 failures are not 2.03.
    grown = f"max by ({', '.join(labels)}) (increase({metric}{selector}[$__interval]))"
    counted = f"round(sum by ({by}) ({grown})) > 0"
    return f'{counted}\nor on () label_replace(0 * sum(fal_exporter_ready), "{by}", "none", "", "")'


def _calls() -> Built:
    return lines(
        "Calls by status code",
        "Calls to fal per second, each attempt counted, by HTTP status code; error is where no answer came.",
        [
            Query(
                "sum by (code) (max by (account, call, code) ("
                f"rate(fal_exporter_api_requests_total{_ACCOUNT}[$__rate_interval])))",
                "{{code}}",
            )
        ],
        "reqps",
        overrides={
            "200": fixed(palette.GOOD),
            "429": fixed(palette.WARNING),
            "500": fixed(palette.BAD),
            "503": fixed(palette.BAD),
            "error": fixed("dark-red"),
        },
    )


def _quantile(metric: str, by: str, quantile: float) -> str:
    return f"histogram_quantile({quantile}, sum by (le, {by}) (rate({metric}_bucket{_ACCOUNT}[$__rate_interval]))) >= 0"


def _latency() -> Built:
    return lines(
        "Latency of fal, 95th percentile",
        "How long a call to fal takes, each attempt by itself, by interface; 95 of 100 calls are faster.",
        [Query(_quantile("fal_exporter_api_request_duration_seconds", "call", 0.95), "{{call}}", interval="5m")],
        "s",
        fill=0,
    )


def _poll_duration() -> Built:
    return lines(
        "Duration of a poll, 95th percentile",
        "How long a poll takes with all its calls and the ledger's work, by source; 95 of 100 polls are faster. While "
        "history is loaded, polls are long.",
        [Query(_quantile("fal_exporter_poll_duration_seconds", "source", 0.95), "{{source}}", interval="5m")],
        "suffix: s",
        fill=0,
    )


def _retries() -> Built:
    return _rare(
        bars(
            "Calls tried again",
            "Calls to fal that were tried again in each step of the graph, by interface.",
            [
                Query(
                    _happened("fal_exporter_api_retries_total", "call", ("account", "call")), "{{call}}", interval="5m"
                )
            ],
            "none",
            legend=(),
            at_right=False,
        )
    )


def _rejected() -> Built:
    return _rare(
        lines(
            "Rows that cannot be read",
            "Rows of fal's answers that cannot be read now, or only in part, by reason: their hours keep what was "
            "known of them before. None is good.",
            [
                Query(
                    f"sum by (reason) (max by (account, source, reason) (fal_exporter_rejected_rows{_ACCOUNT})) > 0\n"
                    'or on () label_replace(0 * sum(fal_exporter_ready), "reason", "none", "", "")',
                    "{{reason}}",
                )
            ],
            "none",
        )
    )


def _missed() -> Built:
    return _rare(
        bars(
            "Missed runs",
            "Scheduled runs that did not start because the one before was still going or the process was too busy.",
            [
                Query(
                    _happened("fal_exporter_missed_runs_total", "job", ("job", "exported_job"), ""),
                    "{{job}}",
                    interval="5m",
                )
            ],
            "none",
            legend=(),
            at_right=False,
        )
    )


def _series() -> Built:
    return lines(
        "Combinations of labels",
        "How many combinations of account, product, model, app and further labels charges have; each is a series of "
        "every family of charges. The limit is FAL_EXPORTER_MAX_SERIES.",
        [Query("max by (job, instance) (fal_exporter_series)", "{{instance}}")],
        "locale",
    )


def _scrapes() -> Built:
    return lines(
        "Scrapes",
        "Scrapes answered per second, by format and encoding.",
        [
            Query(
                "sum by (format, encoding) (max by (format, encoding, job, instance) ("
                "rate(fal_exporter_scrapes_total[$__rate_interval]))) > 0",
                "{{format}} {{encoding}}",
            )
        ],
        "reqps",
    )


def _scrape_cost() -> Built:
    panel = lines(
        "Cost of a scrape",
        "How long Prometheus took for a scrape, and how many samples it got.",
        [
            Query(f"scrape_duration_seconds {_IS_EXPORTER}", "{{instance}}", "duration"),
            Query(f"scrape_samples_scraped {_IS_EXPORTER}", "{{instance}} samples", "samples"),
        ],
        "s",
        fill=0,
    )
    dashed = {"fill": "dash", "dash": [6, 6]}
    right = {"unit": "locale", "custom.axisSoftMin": 0, "custom.axisPlacement": "right", "custom.lineStyle": dashed}
    panel.override_by_query("samples", properties(right))
    return panel


def _processor() -> Built:
    return lines(
        "Processor",
        "Processor time per second: of the process that serves, and of the one that polls.",
        [
            Query(f"rate(process_cpu_seconds_total[$__rate_interval]) {_IS_EXPORTER}", "{{instance}} serves", "serves"),
            Query(
                "rate(fal_exporter_collector_process_cpu_seconds_total[$__rate_interval])",
                "{{instance}} polls",
                "polls",
            ),
        ],
        "percentunit",
        fill=0,
    )


def _memory() -> Built:
    return lines(
        "Memory",
        "Resident memory: of the process that serves, and of the one that polls.",
        [
            Query(f"process_resident_memory_bytes {_IS_EXPORTER}", "{{instance}} serves", "serves"),
            Query("fal_exporter_collector_process_resident_memory_bytes", "{{instance}} polls", "polls"),
        ],
        "bytes",
        fill=0,
    )
