"""The course of a month: what it has cost, the path to its end, the last month beside it, and the budgets."""

from itertools import pairwise

from source import palette
from source.panels import (
    DOLLARS,
    DOLLARS_SHORT,
    NOT_LOADED,
    SHARE,
    SIGNED,
    Built,
    Query,
    at_least,
    fixed,
    lines,
    properties,
)
from source.queries import of_accounts, share, total, while_whole
from source.tables import Column, bar_cell, coloured_text, rows

MONTH = "fal_spend_month_to_date_usd"

_SEEN = "[32d:5m] @ end()"
"""The newest value in the range of a graph that reaches into the future, read every five minutes of it."""


def month_ends() -> list[Query]:
    """Return what the month comes to at its end: low, likely and high; nothing while an account lacks hours of it."""
    return [
        Query(while_whole(f"sum({of_accounts(f'fal_spend_month_forecast{edge}_usd')})", MONTH), name, name)
        for edge, name in (("_low", "low"), ("", "likely"), ("_high", "high"))
    ]


def course() -> Built:
    """Return the graph of a month from its first day to its last, whatever day it is."""
    panel = lines(
        "The month, and the path to its end",
        "Month to date over the whole month. From now on the dashed line is the expected path, day by day by what each "
        "weekday usually costs, to the amount at which the month will probably end, in the band of 8 cases in 10. "
        "Grey: the last month as Prometheus knows it. Red: the largest monthly budget of all of it. Forecast and "
        "budget are of whole accounts, whatever else is selected.",
        [
            Query(total(MONTH), "this month", "spent"),
            Query(_month_before(), "last month", "before"),
            Query(_path("_low"), "80 % band, low", "low"),
            Query(_path("_high"), "80 % band, high", "high"),
            Query(_path(""), "expected path", "likely"),
            Query(_limit(), "budget: {{budget}}", "limit"),
        ],
        DOLLARS_SHORT,
        overrides={
            "this month": fixed(palette.SPEND) | {"custom.fillOpacity": 18, "custom.lineWidth": 3},
            "last month": fixed(palette.PAST) | {"custom.lineWidth": 1, "custom.fillOpacity": 0},
            "expected path": fixed(palette.FORECAST)
            | {"custom.lineStyle": {"fill": "dash", "dash": [8, 8]}, "custom.fillOpacity": 0},
            "80 % band, low": _EDGE,
            "80 % band, high": _EDGE | {"custom.fillBelowTo": "80 % band, low", "custom.fillOpacity": 22},
        },
    )
    panel.override_by_query(
        "limit",
        properties(
            fixed(palette.LIMIT) | {"custom.lineStyle": {"fill": "dash", "dash": [12, 6]}, "custom.fillOpacity": 0}
        ),
    )
    # From the start of the month that holds the start of the range to the end of the one that holds its end.
    return (
        panel.time_shift("0d/M")
        .hide_time_override(hide_time_override=True)
        .max_data_points(186)
        .min(0)
        .no_value(f"no spend yet, or {NOT_LOADED}")
    )


_EDGE: dict[str, object] = fixed(palette.FORECAST) | {
    "custom.lineWidth": 0,
    "custom.fillOpacity": 0,
    "custom.hideFrom": {"legend": True, "tooltip": False, "viz": False},
}


def _newest(metric: str, labels: str = "account", matchers: str = '{account=~"$account"}') -> str:
    """Return the newest values of a family in a range whose end is to come, of the exporters that answer now."""
    answering = (
        f"last_over_time(fal_exporter_snapshot_timestamp_seconds{_SEEN}) > on () group_left () "
        f"(max(last_over_time(fal_exporter_snapshot_timestamp_seconds{_SEEN})) - 900)"
    )
    return f"max by ({labels}) (last_over_time({metric}{matchers}{_SEEN}) and on (job, instance) ({answering}))"


_NOW = f"scalar(max(last_over_time(fal_exporter_snapshot_timestamp_seconds{_SEEN})))"
_HORIZONS = (1, 7, 14, 28)


def _path(edge: str) -> str:
    """Return the path from what the month has cost to an edge of its forecast, at all instants from now on.

    By then the same share of the way has been gone as of the days' expected costs. An edge of the band is as far away
    as that of so many days ahead, and meets the forecast's own at the end.
    """
    end = f"scalar(max({_newest('fal_month_end_timestamp_seconds')}))"
    spent = _newest("fal_account_spend_month_to_date_usd")
    forecast = _newest(f"fal_spend_month_forecast{edge}_usd")
    gone, whole = _expected(""), _expected(" @ end()")
    share = f"{gone}\n  / on (account) {whole}"
    if edge:
        now_and_end = (_spread("time()"), _spread(end))
        wide, widest = now_and_end if edge == "_high" else reversed(now_and_end)
        share = f"{share}\n  * on (account) {wide}\n  / on (account) {widest}"
    # The path begins where the month stands, before the first whole hour is over.
    share = f"({share}\n  or on (account) 0 * {spent} and on () (vector(time()) < {_NOW} + 3600))"
    return (
        f"sum({spent}\n+ on (account) ({forecast} - on (account) {spent})\n  * on (account) {share})\n"
        f"and on () (vector(time()) >= {_NOW} <= {end} + 3600)"
    )


def _expected(at: str) -> str:
    """Return what the hours from now to an instant are expected to cost, by account."""
    of_days = _last("fal_spend_expected_weekday_usd", "weekday")
    # The hour that ends at an instant belongs to the day before midnight.
    today = 'count_values("weekday", day_of_week(vector(time() - 3600)))'
    hours = f"sum by (account) ({of_days} * on (weekday) group_left () {today}) and on () (vector(time()) > {_NOW})"
    return f"sum_over_time(({hours})[32d:1h]{at})"


def _spread(instant: str) -> str:
    """Return the spread of the time from now to an instant: even steps between those that are published."""
    days = f"(({instant} - {_NOW}) / 86400)"
    reached = [f"clamp((vector{days} - {first}) / {then - first}, 0, 1)" for first, then in pairwise(_HORIZONS)]
    weights = [f"(1 - {reached[0]})", *(f"({one} - {two})" for one, two in pairwise(reached)), reached[-1]]
    spreads = (
        f"{_last('fal_spend_forecast_spread_ratio', 'ahead', f'{horizon}d')} * scalar({weight})"
        for horizon, weight in zip(_HORIZONS, weights, strict=True)
    )
    return "sum by (account) (\n    " + "\n    or ".join(spreads) + "\n  )"


def _last(metric: str, label: str, value: str = "") -> str:
    """Return the newest values of a family by account and a label, in a range whose end is to come."""
    matcher = f',{label}="{value}"' if value else ""
    return f'max by (account, {label}) (last_over_time({metric}{{account=~"$account"{matcher}}}{_SEEN}))'


def _month_before() -> str:
    """Return the month to date of as many days before as the last month had."""
    length = "days_in_month(vector(time() - 86400 * scalar(day_of_month(vector(time())))))"
    return "\nor on ()\n".join(
        f"({total(MONTH, at=f'offset {days}d')}\n  and on () {length} == {days})" for days in (31, 30, 29, 28)
    )


def _limit() -> str:
    length = (
        f"{_newest('fal_budget_period_end_timestamp_seconds', 'budget', '')} - "
        f"{_newest('fal_budget_period_start_timestamp_seconds', 'budget', '')}"
    )
    everything = f"sum({_newest('fal_account_spend_month_to_date_usd')})"
    covers = f"{_newest('fal_budget_spend_usd', 'budget', '')} >= on () group_left () 0.99 * {everything}"
    return (
        f"topk(1, {_newest('fal_budget_limit_usd', 'budget', '')}\n"
        f"  and on (budget) ({length} > {_MONTHLY})\n"
        f"  and on (budget) ({covers}))"
    )


_MONTHLY = 2_000_000
"""Seconds that are more than a week and less than a month."""


def budgets() -> Built:
    """Return the table of the budgets."""

    def budget(metric: str, *matchers: str) -> str:
        return f"max by (budget) ({metric}{{{','.join(matchers)}}})"

    def of_limit(metric: str) -> str:
        # Within each exporter: budgets of two of them may have the same name.
        return f"max by (budget) ({share(metric, 'fal_budget_limit_usd')})"

    start, end = (budget(f"fal_budget_period_{edge}_timestamp_seconds") for edge in ("start", "end"))
    return rows(
        "Budgets, each in its running period",
        "Each configured budget: its period, what has been spent in it, exactly and with all corrections, the share of "
        "its limit as a bar that is full at the limit, the share of the limit at which the period will probably end, "
        "what is then left of the limit, below 0 what is spent beyond it, and how fast the last day burned (pace): at "
        "1 the budget is used up exactly by the end of its period. Orange from 80 %, red from 100 %. What a budget "
        "matches is in the exporter's configuration; no variable changes it.",
        [
            Query(f"topk(20, {of_limit('fal_budget_spend_usd')})", ref="used"),
            Query(f"{end} - {start}", ref="period"),
            Query(budget("fal_budget_spend_usd"), ref="spent"),
            Query(budget("fal_budget_limit_usd"), ref="limit"),
            Query(of_limit("fal_budget_forecast_usd"), ref="forecast"),
            Query("min by (budget) (fal_budget_limit_usd - fal_budget_forecast_usd)", ref="left"),
            Query(budget("fal_budget_burn_ratio", 'window="1d"'), ref="burn"),
        ],
        {
            "budget": Column("Budget", properties={"custom.minWidth": 76}),
            "Value #period": Column("Period", width=56, properties=_PERIOD),
            "Value #used": Column("Used", SHARE, 84, 1, bar_cell() | _AGAINST_LIMIT),
            "Value #spent": Column("Spent", DOLLARS, 96, 2),
            "Value #limit": Column("Limit", DOLLARS, 96, 2),
            "Value #forecast": Column(
                "At its end", SHARE, 74, 1, coloured_text((0.9, palette.WARNING), (1, palette.BAD))
            ),
            "Value #left": Column("Left then, $", SIGNED, 96, 2, coloured_text((0, palette.NEUTRAL), base=palette.BAD)),
            "Value #burn": Column("Pace", "none", 48, 2, coloured_text((1.2, palette.WARNING), (2, palette.BAD))),
        },
        key="budget",
        sort="Used",
        no_value="no budgets configured",
    )


_AGAINST_LIMIT: dict[str, object] = {
    "color": {"mode": "thresholds"},
    "thresholds": at_least((0.8, palette.WARNING), (0.95, "dark-orange"), (1, palette.BAD), base=palette.GOOD).build(),
}

_PERIOD: dict[str, object] = {
    "mappings": [
        {
            "type": "range",
            "options": {"from": start, "to": end, "result": {"text": text, "index": place}},
        }
        for place, (start, end, text) in enumerate(
            ((0, 100_000, "day"), (100_000, _MONTHLY, "week"), (_MONTHLY, 3_000_000, "month"))
        )
    ]
}
