"""fal / Spend: the front page."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as models

from source import palette
from source.banner import SHIPPED, state
from source.frame import Frame, Row, happened, whenever
from source.outlook import MONTH, budgets, course, month_ends
from source.panels import (
    DOLLARS,
    DOLLARS_SHORT,
    INSTANT,
    LASTING,
    NO_FORECAST,
    NOT_LOADED,
    SHARE,
    Built,
    Query,
    at_least,
    bars,
    coloured,
    colours,
    coverage,
    figure,
    properties,
)
from source.queries import STACKED_BY, by_day, by_hour, growth, of_accounts, total
from source.rankings import BEFORE, COMPARED, GROWTH, by_label, by_tag, present, tags


def spend() -> Frame:
    """Return the front page."""
    return Frame(
        uid="fal-spend",
        title="fal / Spend",
        description="What fal costs: this month against budget and forecast, today, and who and what spends it.",
        labels=("account", "product", "team"),
        stacked_by="product",
        repeats={"ranked": present(), "tag": tags()},
        annotations=(
            happened(
                "New models",
                palette.SPEND,
                "fal_model_first_seen_timestamp_seconds",
                ("account", "product", "model", "app"),
                title="New: {{model}}{{app}}",
                text="First charge of {{account}} for it",
            ),
            happened(
                "Price changes",
                palette.WARNING,
                "fal_unit_price_changed_timestamp_seconds",
                ("account", "model", "app", "gpu_class", "unit"),
                title="New price: {{model}}{{app}} {{gpu_class}}",
                text="The price of a {{unit}} changed for {{account}}",
            ),
            whenever(
                "Restatements",
                palette.FORECAST,
                "sum by (account, direction) (max by (account, source, direction) "
                '(increase(fal_restated_usd_total{account=~"$account"}[1h]))) > 100',
                title="fal restated complete hours",
                text="{{account}}: more than $100 {{direction}} within an hour",
            ),
        ),
        rows=(
            Row(5, ((state(), 24),)),
            Row(4, (*_figures(),)),
            Row(
                4,
                (
                    (_not_included(), 8),
                    (coverage(("month_to_date", "this month"), ("last_month", "last month")), 8),
                    (_data_through(), 8),
                ),
            ),
            Row(9, ((course(), 11), (budgets(), 13))),
            Row(10, ((_days(), 24),)),
            Row(9, ((_hours(), 24),)),
            Row(15, ((by_label(), 12),), "Who and what spends it"),
            Row(10, ((by_tag(), 8),), "By tag of the requests (FAL_EXPORTER_TAGS)", is_folded=True),
        ),
    )


def _not_included() -> Built:
    by_product = of_accounts("fal_source_difference_usd", ("account", "product"))
    billed = of_accounts("fal_reconciliation_difference_usd", ("account",), 'period="last_month"')
    return figure(
        "Charged, not counted here",
        "What fal charges beyond the figures below, because it is not polled or the key cannot read it. Last 48 hours: "
        "by the sums by product of /organization/usage, where the key can read that. Last month: by fal's bill. The "
        "exporter's landing page and fal-exporter check say what it is.",
        [
            Query(f"sum(clamp_min(-1 * {by_product}, 0))", "last 48 hours", "recent"),
            Query(f"sum(clamp_min(-1 * {billed}, 0))", "last month", "month"),
        ],
        DOLLARS_SHORT,
        decimals=2,
        names=True,
        thresholds=at_least((0.01, palette.WARNING), base=palette.GOOD),
        no_value="not compared yet",
    )


def _data_through() -> Built:
    through = f"min({of_accounts('fal_data_through_timestamp_seconds', ('account', 'source'))})"
    panel = figure(
        "Data through",
        "The end of the newest hour that is known of all selected accounts, and how long ago that is. fal bills by the "
        "hour and is some minutes late, so this lies one to two hours back; corrections may come for days.",
        [Query(f"1000 * {through}", "until", "until"), Query(f"time() - {through}", "ago", "age")],
        INSTANT,
        names=True,
    )
    panel.override_by_query("age", properties({"unit": LASTING, "decimals": 0}))
    return panel.orientation(common.VizOrientation.HORIZONTAL)


def _figures() -> tuple[tuple[Built, int], ...]:
    return (
        (
            figure(
                "Month to date",
                "Spend since the start of the month in the exporter's time zone, exact and with all corrections known "
                "so far. Some minutes late.",
                [Query(total(MONTH))],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            4,
        ),
        (_last_month(), 4),
        (
            figure(
                "Month at its end",
                "What the month will have cost at its end: the median, and the band in which it ends in 8 of 10 cases. "
                "Of whole accounts; the other variables do not change it. Needs a day of history.",
                month_ends(),
                DOLLARS,
                decimals=0,
                names=True,
                color=palette.FORECAST,
                no_value=NO_FORECAST,
            ),
            5,
        ),
        (
            figure(
                "Today",
                "Spend since midnight in the exporter's time zone, as known now, and against the same weekday a week "
                "ago at the same time of day, each as it was known then. Charges arrive for minutes, and now and then "
                "for hours, after they were made.",
                [
                    Query(total("fal_spend_today_usd"), "so far", "today"),
                    Query(growth("fal_spend_today_usd", "1w"), "± a week ago", "growth"),
                ],
                DOLLARS_SHORT,
                decimals=2,
                names=True,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ).override_by_query("growth", properties({"unit": SHARE, "decimals": 1} | coloured(*GROWTH))),
            4,
        ),
        (
            figure(
                "This hour",
                "Spend in the running UTC hour as known now, incomplete by nature, and in the last complete one.",
                [
                    Query(total("fal_spend_current_hour_usd"), "so far", "running"),
                    Query(total("fal_spend_last_hour_usd"), "last", "complete"),
                ],
                DOLLARS_SHORT,
                decimals=2,
                names=True,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            3,
        ),
        (
            figure(
                "Credit",
                "Prepaid credit of the selected accounts as fal states it, at most minutes old; at 0 fal locks an "
                "account. And how long it lasts at the burn of the last day, of the account that runs out first; "
                "nothing while nothing burns.",
                [
                    Query(f"sum({of_accounts('fal_credit_balance_usd')})", "now", "balance"),
                    Query(f"min({of_accounts('fal_credit_runway_seconds')})", "lasts", "runway"),
                ],
                DOLLARS_SHORT,
                names=True,
                thresholds=at_least((SHIPPED["credit_balance_usd"], palette.GOOD), base=palette.BAD),
            ).override_by_query(
                "runway", properties({"unit": "s", "decimals": 1} | coloured(*_RUNWAY, base=palette.BAD))
            ),
            4,
        ),
    )


def _last_month() -> Built:
    month = "/d/fal-month?${datasource:queryparam}&${account:queryparam}&${__url_time_range}"
    link = dashboard.DashboardLink("fal / Month: what has moved, and why")
    return (
        figure(
            "Last month",
            "What the whole last month has cost, by the ledger, and by which share the complete hours of this month "
            "cost more (below 0: less) than as many of the last. fal / Month, which the link leads to, says what has "
            "moved and why.",
            [
                Query(total("fal_spend_last_month_usd"), "all of it", "whole"),
                Query(f"{total(COMPARED)}\n/ ({total(BEFORE)} > 0)\n- 1", "± this month", "growth"),
            ],
            DOLLARS,
            decimals=2,
            names=True,
            size=22,
            color=palette.SPEND,
            no_value=NOT_LOADED,
        )
        .override_by_query("growth", properties({"unit": SHARE, "decimals": 1} | coloured(*GROWTH)))
        .orientation(common.VizOrientation.HORIZONTAL)
        .links([link.type(models.DashboardLinkType.LINK).url(month)])
    )


_RUNWAY = (
    (SHIPPED["credit_runway_critical_seconds"], palette.WARNING),
    (SHIPPED["credit_runway_warning_seconds"], palette.GOOD),
)
"""Seconds that credit should last, as in the alert FalCreditRunwayShort."""


def _days() -> Built:
    return bars(
        "Spend by day",
        "What each day added to the month, in days of your browser's time zone: charges and corrections, on the day on "
        "which they became known, so that a month's bars add up to the month to date. The last bar is today so far. "
        "The nine largest of the label chosen under Stacked by have a colour, the others are one.",
        [Query(by_day(STACKED_BY, MONTH), "{{name}}", interval="1d")],
        DOLLARS_SHORT,
        overrides=colours(palette.NAMES),
    ).no_value(f"nothing yet: drawn from the day on that Prometheus scrapes the exporter, or {NOT_LOADED}")


def _hours() -> Built:
    panel = bars(
        "Spend by hour, last two days",
        "What fal charged for each UTC hour: exact amounts, no rates. An hour is shown as it was known at the end of "
        "the hour after it, the last two as known now and still growing; later corrections are in the month to date. "
        "Choose a fixed time range to see other days.",
        [
            Query(
                by_hour(STACKED_BY, "fal_spend_last_hour_usd", "fal_spend_current_hour_usd", MONTH),
                "{{name}}",
                interval="1h",
            )
        ],
        DOLLARS_SHORT,
        overrides=colours(palette.NAMES),
    )
    return panel.time_from("48h").hide_time_override(hide_time_override=True)
