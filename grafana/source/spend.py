"""fal / Spend: the front page."""

from grafana_foundation_sdk.models.common import BigValueTextMode

from source import palette
from source.frame import Frame, Row, happened, whenever
from source.panels import (
    DOLLARS,
    DOLLARS_SHORT,
    NOT_LOADED,
    SHARE,
    Built,
    Query,
    at_least,
    bars,
    colours,
    coverage,
    figure,
    fixed,
    lines,
    properties,
)
from source.queries import FROM, STACKED_BY, TO, by_day, by_hour, covered, growth, of_accounts, share, total
from source.rankings import GROWTH, MONTH, ranking
from source.tables import Column, bar_cell, coloured_text, rows

_LATE = 3 * 3600
"""Age of the data in seconds from which they are late, as in the alert FalUsageDataStale."""


_BY_GROWTH = at_least(*GROWTH)


def spend() -> Frame:
    """Return the front page."""
    return Frame(
        uid="fal-spend",
        title="fal / Spend",
        description="What fal costs: this month against budget and forecast, today, and who and what spends it.",
        stacked_by="product",
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
                'sum by (account, direction) (increase(fal_restated_usd_total{account=~"$account"}[1h])) > 100',
                title="fal restated complete hours",
                text="{{account}}: more than $100 {{direction}} within an hour",
            ),
        ),
        rows=(
            Row(
                3,
                (
                    (_state(), 11),
                    (_not_included(), 5),
                    (coverage(("month_to_date", "this month"), ("last_month", "last month")), 4),
                    (_data_through(), 4),
                ),
            ),
            Row(4, (*_figures(),)),
            Row(9, ((_burn_up(), 14), (_budgets(), 10))),
            Row(10, ((_days(), 24),)),
            Row(9, ((_hours(), 24),)),
            Row(
                12,
                ((ranking("model", "Models", "a model"), 12), (ranking("app", "Apps", "an app"), 12)),
                "Who and what spends it",
            ),
            Row(10, ((ranking("gpu_class", "GPU classes", "a GPU"), 12), (ranking("team", "Teams", "a team"), 12))),
        ),
    )


def _state() -> Built:
    age = f"time() - {of_accounts('fal_data_through_timestamp_seconds', ('account', 'source'))}"
    locked = of_accounts("fal_account_locked", ("account", "reason"))
    available = of_accounts("fal_source_available", ("account", "source"))
    partly = covered("current_hour", "last_hour", "today", "month_to_date", "last_month", by=("account", "window"))
    panel = figure(
        "",
        "Whether the figures below can be trusted. Red: fal has locked an account, which then serves nothing. Orange: "
        "the newest complete hour of a source is more than three hours old, where one to two are normal, charges are "
        "left out that the key can read: add the source, or hours of a window have not been loaded, whose figures are "
        "then absent. Green: all is well. Grey: nothing is known.",
        [
            Query(f"topk(3, {locked} > 0)", "{{account}} is locked: {{reason}}", "locked"),
            Query(f"topk(3, ({age}) > {_LATE})", "{{account}}: {{source}} data are late", "late"),
            Query(f"topk(3, {available} > 0)", "{{account}}: charges of {{source}} are not included", "lacking"),
            Query(f"topk(3, {partly} < 1)", "{{account}}: {{window}} is not all loaded", "partly"),
            Query(
                f"count({of_accounts('fal_data_through_timestamp_seconds', ('account', 'source'))})\n"
                f"unless on () count({locked} > 0)\n"
                f"unless on () count(({age}) > {_LATE})\n"
                f"unless on () count({available} > 0)\n"
                f"unless on () count({partly} < 1)",
                "All is well: no account is locked, all data are on time",
                "well",
            ),
            Query(
                'absent(fal_data_through_timestamp_seconds{account=~"$account"})',
                "No data: no exporter is scraped, or none has read any usage yet",
                "none",
            ),
        ],
        "none",
        background=True,
        size=20,
    )
    panel.text_mode(BigValueTextMode.NAME)
    tints = {
        "locked": "dark-red",
        "late": "dark-orange",
        "lacking": "dark-orange",
        "partly": "dark-orange",
        "well": palette.GOOD_TINT,
        "none": palette.NO_DATA_TINT,
    }
    for ref, color in tints.items():
        panel.override_by_query(ref, properties(fixed(color)))
    return panel


def _not_included() -> Built:
    by_product = of_accounts("fal_source_difference_usd", ("account", "product"))
    billed = of_accounts("fal_reconciliation_difference_usd", ("account",), 'period="last_month"')
    return figure(
        "Not included",
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
    return figure(
        "Data through",
        "The end of the newest hour that is known of all selected accounts. fal bills by the hour and is some minutes "
        "late, so this lies one to two hours back; corrections may come for days.",
        [Query(f"1000 * min({of_accounts('fal_data_through_timestamp_seconds', ('account', 'source'))})")],
        "dateTimeAsIsoNoDateIfToday",
    )


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
        (
            figure(
                "Forecast",
                "What the month will have cost at its end: the median, and the band in which it ends in 8 of 10 cases. "
                "Of whole accounts; the other variables do not change it. Needs a day of history.",
                [
                    Query(f"sum({of_accounts(f'fal_spend_month_forecast{edge}_usd')})", name, ref)
                    for edge, name, ref in (("_low", "low", "low"), ("", "likely", "likely"), ("_high", "high", "high"))
                ],
                DOLLARS_SHORT,
                decimals=2,
                names=True,
                color=palette.FORECAST,
            ),
            5,
        ),
        (
            figure(
                "Today",
                "Spend since midnight in the exporter's time zone, as known now; charges arrive for minutes, and now "
                "and then for hours, after they were made.",
                [Query(total("fal_spend_today_usd"))],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            3,
        ),
        (
            figure(
                "± week",
                "Today so far against the same weekday a week ago at the same time of day, each as it was known then.",
                [Query(growth("fal_spend_today_usd", "1w"))],
                SHARE,
                decimals=1,
                thresholds=_BY_GROWTH,
                no_value="-",
            ),
            2,
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
            4,
        ),
        (
            figure(
                "Balance",
                "Prepaid credit of the selected accounts as fal states it, at most minutes old. At 0 fal locks an "
                "account.",
                [Query(f"sum({of_accounts('fal_credit_balance_usd')})")],
                DOLLARS,
                decimals=0,
                thresholds=at_least((100, palette.GOOD), base=palette.BAD),
            ),
            3,
        ),
        (
            figure(
                "Runway",
                "How long the balance lasts at the burn of the last day, of the account that runs out first; none "
                "while nothing burns.",
                [Query(f"min({of_accounts('fal_credit_runway_seconds')})")],
                "s",
                decimals=1,
                thresholds=at_least((21600, palette.WARNING), (259200, palette.GOOD), base=palette.BAD),
                no_value="-",
            ),
            3,
        ),
    )


def _burn_up() -> Built:
    panel = lines(
        "The month so far, and where it is going",
        "Month to date over time, which falls to 0 with each month. The band is where the month will end in 8 of 10 "
        "cases, by the newest forecast; the dashed line in it is the median. The red line is the largest budget. "
        "Forecast and budget are of whole accounts, so the variables for teams, models and the like do not move them.",
        [
            Query(f"{total(MONTH)}\nand on () vector(time()) >= {FROM}", "month to date", "spent"),
            Query(_forecast("_low"), "forecast, low", "low"),
            Query(_forecast("_high"), "forecast, high", "high"),
            Query(_forecast(""), "forecast", "likely"),
            Query(f"topk(1, max by (budget) (fal_budget_limit_usd @ {TO}))", "budget: {{budget}}", "limit"),
        ],
        DOLLARS_SHORT,
        overrides={
            "month to date": fixed(palette.SPEND) | {"custom.fillOpacity": 18, "custom.lineWidth": 3},
            "forecast": fixed(palette.FORECAST)
            | {"custom.lineStyle": {"fill": "dash", "dash": [8, 8]}, "custom.fillOpacity": 0},
            "forecast, low": _EDGE,
            "forecast, high": _EDGE | {"custom.fillBelowTo": "forecast, low", "custom.fillOpacity": 22},
        },
    )
    panel.override_by_query(
        "limit",
        properties(
            fixed(palette.LIMIT) | {"custom.lineStyle": {"fill": "dash", "dash": [12, 6]}, "custom.fillOpacity": 0}
        ),
    )
    return panel.max_data_points(120).min(0)


def _forecast(edge: str) -> str:
    return f"sum({of_accounts(f'fal_spend_month_forecast{edge}_usd', at=f'@ {TO}')})"


_EDGE: dict[str, object] = fixed(palette.FORECAST) | {
    "custom.lineWidth": 0,
    "custom.fillOpacity": 0,
    "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
}


def _budgets() -> Built:
    def budget(metric: str, *matchers: str) -> str:
        return f"max by (budget) ({metric}{{{','.join(matchers)}}})"

    spent, limit = budget("fal_budget_spend_usd"), budget("fal_budget_limit_usd")
    return rows(
        "Budgets",
        "Each configured budget in its running period: what has been spent, exactly and with all corrections, the "
        "share of its limit, the forecast of the whole period, and how fast the last day burned: at 1 the budget is "
        "used up exactly by the end of its period. What a budget matches is in the exporter's configuration; the "
        "variables do not change it.",
        [
            Query(f"topk(20, {share(spent, limit)})", ref="used"),
            Query(spent, ref="spent"),
            Query(limit, ref="limit"),
            Query(share(budget("fal_budget_forecast_usd"), limit), ref="forecast"),
            Query(budget("fal_budget_burn_ratio", 'window="1d"'), ref="burn"),
        ],
        {
            "budget": Column("Budget", properties={"custom.minWidth": 80}),
            "Value #used": Column("Used", SHARE, 92, 0, bar_cell() | _AGAINST_LIMIT),
            "Value #spent": Column("Spent", DOLLARS_SHORT, 64),
            "Value #limit": Column("Limit", DOLLARS_SHORT, 64),
            "Value #forecast": Column(
                "Forecast", SHARE, 72, 0, coloured_text((0.9, palette.WARNING), (1, palette.BAD))
            ),
            "Value #burn": Column("Burn", "none", 52, 2, coloured_text((1.2, palette.WARNING), (2, palette.BAD))),
        },
        key="budget",
        sort="Used",
        no_value="no budgets configured",
    )


_AGAINST_LIMIT: dict[str, object] = {
    "color": {"mode": "thresholds"},
    "thresholds": at_least((0.8, palette.WARNING), (1, palette.BAD), base=palette.GOOD).build(),
}


def _days() -> Built:
    return bars(
        "Spend by day",
        "What each day added to the month, in days of your browser's time zone: charges and corrections, on the day on "
        "which they became known, so that a month's bars add up to the month to date. The last bar is today so far. "
        "The nine largest of the label chosen under Stacked by have a colour, the others are one.",
        [Query(by_day(STACKED_BY, MONTH), "{{name}}", interval="1d")],
        DOLLARS_SHORT,
        overrides=colours(palette.NAMES),
    )


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
