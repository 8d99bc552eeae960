"""fal / GPU time: machines, what they cost, and whether they are used."""

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.models import common as common_models

from source import palette
from source.frame import Frame, Row
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
    stripes,
)
from source.queries import STACKED_BY, TO, by_day, by_hour, of_apps, of_runners, selected, share, total
from source.tables import WRAPPED, Column, bar_cell, rows

TIME = "fal_gpu_time_month_to_date_seconds"
_LAST_HOUR = "fal_gpu_time_last_hour_seconds"
_SPEND = "fal_spend_month_to_date_usd"
_ON_GPUS = 'gpu_class!=""'
_NO_CLASS = f"no GPU time, {NOT_LOADED}, or FAL_EXPORTER_LABELS lacks gpu_class"
_HOURS = "gpu-hours"


def gpu_time() -> Frame:
    """Return the dashboard of GPU time."""
    return Frame(
        uid="fal-gpu-time",
        title="fal / GPU time",
        description="GPU time by class and app: how much, at what price an hour, at surge prices or not, and how idle.",
        labels=("account", "app", "gpu_class"),
        stacked_by="gpu_class",
        rows=(
            Row(4, _figures()),
            Row(9, ((_in_use(), 24),)),
            Row(10, ((_days(), 12), (_cost_by_day(), 12))),
            Row(7, ((_classes(), 24),), "Prices of an hour"),
            Row(11, ((_apps(), 24),)),
            Row(9, ((_idle_cost(), 4), (_idle_share(), 4), (_states(), 16)), "Are the runners used?"),
            Row(9, ((_idle_apps(), 24),)),
            Row(6, ((_lower_settings(), 24),)),
            Row(8, ((_a_day(), 24),)),
        ),
    )


def _price(by: list[str], *also: str) -> str:
    """Return what an hour of a GPU has cost on average this month."""
    return f"3600 * {share(total(_SPEND, by, _ON_GPUS, *also), total(TIME, by, *also))}"


def _figures() -> tuple[tuple[Built, int], ...]:
    surge = share(total("fal_gpu_time_surge_month_to_date_seconds"), total(TIME))
    surge_cost = share(total("fal_spend_surge_month_to_date_usd", (), _ON_GPUS), total(_SPEND, (), _ON_GPUS))
    return (
        (
            figure(
                "GPU-hours, month",
                "GPU time billed since the start of the month in the exporter's time zone, exact and with all "
                "corrections; an hour of a machine with 8 GPUs is 8. Some minutes late.",
                [Query(f"{total(TIME)} / 3600")],
                "locale",
                decimals=0,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            4,
        ),
        (
            figure(
                "Cost, this month",
                "Spend on machines with a GPU since the start of the month, after discounts. Known where gpu_class is "
                "one of FAL_EXPORTER_LABELS.",
                # Without that label no charge is known to be of a GPU, which is not the same as a cost of 0.
                [
                    Query(
                        f"{total(_SPEND, (), _ON_GPUS)}\n"
                        f"unless on () (({total(TIME)} > 0) unless on () count({_SPEND}{{{_ON_GPUS}}}))"
                    )
                ],
                DOLLARS,
                decimals=2,
                color=palette.SPEND,
                no_value=f"no GPU class, or {NOT_LOADED}",
            ),
            4,
        ),
        (
            figure(
                "GPUs, last hour",
                "GPU-seconds of the last complete UTC hour by the seconds of an hour: how many GPUs were billed on "
                "average. May still grow as late charges arrive.",
                [Query(f"{total(_LAST_HOUR)} / 3600")],
                "none",
                decimals=1,
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            4,
        ),
        (
            figure(
                "Serverless GPU-hour",
                "What an hour of a GPU on serverless has cost on average since the start of the month, discounts and "
                "surge prices included, and what the same hours cost at list prices. Compute machines have no list "
                "price that fal states; they are in the tables.",
                [Query(_paid_where_listed(), "paid", "paid"), Query(_list_price([]), "list price", "list")],
                DOLLARS_SHORT,
                decimals=2,
                names=True,
                color=palette.SPEND,
                no_value=f"no GPU time, or {NOT_LOADED}",
            ),
            5,
        ),
        (
            figure(
                "At surge prices",
                "The share of this month's GPU time, and of its cost, that fal charged at surge prices, which are "
                "above its ordinary ones. Only sources that report surge separately are in it.",
                [Query(surge, "share of time", "time"), Query(surge_cost, "share of cost", "cost")],
                SHARE,
                decimals=1,
                names=True,
                thresholds=at_least((0.2, palette.WARNING), (0.5, palette.BAD), base=palette.GOOD),
                no_value=f"no GPU time, or {NOT_LOADED}",
            ),
            4,
        ),
        (coverage(("month_to_date", "this month"), ("last_hour", "last hour")), 3),
    )


def _in_use() -> Built:
    panel = bars(
        "GPUs in use, last two days",
        "GPU-seconds of each UTC hour by the seconds of an hour: how many GPUs were billed on average. An hour is "
        "shown as it was known at the end of the hour after it, the last one as known now. Choose a fixed time range "
        "to see other days.",
        [Query(f"{by_hour(STACKED_BY, _LAST_HOUR, '', TIME)}\n/ 3600", "{{name}}", interval="1h")],
        "none",
        overrides=colours(palette.NAMES),
        legend=("mean", "max"),
    )
    return panel.time_from("48h").hide_time_override(hide_time_override=True)


def _days() -> Built:
    return bars(
        "GPU-hours by day",
        "What each day added to the month's GPU time, in days of your browser's time zone, on the day on which it "
        "became known; the last bar is today so far.",
        [Query(f"{by_day(STACKED_BY, TIME)}\n/ 3600", "{{name}}", interval="1d")],
        "locale",
        overrides=colours(palette.NAMES),
        legend=(),
        at_right=False,
    )


def _cost_by_day() -> Built:
    return bars(
        "Cost of machines with a GPU, by day",
        "What each day added to the month's spend on machines with a GPU, after discounts; otherwise as GPU-hours by "
        "day.",
        [Query(by_day(STACKED_BY, _SPEND, _ON_GPUS), "{{name}}", interval="1d")],
        DOLLARS_SHORT,
        overrides=colours(palette.NAMES),
        legend=(),
        at_right=False,
    ).no_value(_NO_CLASS)


def _list_price(by: list[str]) -> str:
    """Return the list price of the GPU-hours of the month: of each app's classes, by how long it ran on them."""
    ran, prices = total(TIME, _SOLD, _ON_GPUS), _prices()
    return (
        f"3600 * sum by ({', '.join(by)}) (({ran}) * on (app, gpu_class) {prices})\n"
        f"/ sum by ({', '.join(by)}) (({ran}) > 0 and on (app, gpu_class) {prices})"
    )


def _paid_where_listed() -> str:
    """Return what the GPU-hours cost that have a list price."""
    paid, ran = total(_SPEND, _SOLD, _ON_GPUS), total(TIME, _SOLD, _ON_GPUS)
    listed = f"and on (app, gpu_class) {_prices()}"
    return f"3600 * sum(({paid}) {listed})\n/ (sum(({ran}) {listed}) > 0)"


_SOLD = ["app", "gpu_class"]


def _prices() -> str:
    return f"min by (app, gpu_class) (fal_unit_price_usd{selected(('account', 'app', 'gpu_class'), _MACHINES)})"


_MACHINES = 'gpu_class!="",unit="second",product="serverless"'
"""Machines that are sold by the second; compute machines have no list price that fal states."""


def _classes() -> Built:
    by = ["gpu_class"]
    return rows(
        "By GPU class",
        "Month to date: GPU-hours, cost, and what a GPU-hour has cost on average beside what the same hours cost at "
        "list prices, as far as those are known. Paid is below list by discounts and above it by surge prices. GPUs in "
        "use is the mean of the last complete hour.",
        [
            Query(f"{total(TIME, by, _ON_GPUS)} / 3600", ref="hours"),
            Query(total(_SPEND, by, _ON_GPUS), ref="cost"),
            Query(_price(by), ref="paid"),
            Query(_list_price(by), ref="list"),
            Query(share(total(_SURGE, by, _ON_GPUS), total(TIME, by, _ON_GPUS)), ref="surge"),
            Query(f"{total(_LAST_HOUR, by, _ON_GPUS)} / 3600", ref="now"),
        ],
        {"gpu_class": Column("GPU class"), **_COLUMNS},
        key="gpu_class",
        sort="Cost",
        no_value=_NO_CLASS,
    )


_SURGE = "fal_gpu_time_surge_month_to_date_seconds"
_COLUMNS = {
    "Value #hours": Column("GPU-hours", "locale", 130, 0),
    "Value #cost": Column("Cost", DOLLARS, 150, 2),
    "Value #paid": Column("Paid for a GPU-hour", DOLLARS, 170, 2),
    "Value #list": Column("List price", DOLLARS, 130, 2),
    "Value #surge": Column(
        "At surge prices", SHARE, 190, 0, bar_cell() | {"color": {"mode": "fixed", "fixedColor": "orange"}}
    ),
    "Value #now": Column("GPUs in use", "none", 130, 1),
}


def _apps() -> Built:
    by = ["app"]
    matcher = 'app!="",gpu_class!=""'
    ranked = f"topk(15, {total(TIME, by, matcher, at=f'@ {TO}')})"

    def of_ranked(expression: str) -> str:
        return f"({expression})\nand on (app)\n{ranked}"

    return rows(
        "By app",
        "The fifteen apps of the most GPU time this month; columns as by GPU class.",
        [
            Query(f"{ranked} / 3600", ref="hours"),
            Query(of_ranked(total(_SPEND, by, matcher)), ref="cost"),
            Query(of_ranked(_price(by, 'app!=""')), ref="paid"),
            Query(of_ranked(_list_price(by)), ref="list"),
            Query(of_ranked(share(total(_SURGE, by, matcher), total(TIME, by, matcher))), ref="surge"),
            Query(of_ranked(f"{total(_LAST_HOUR, by, matcher)} / 3600"), ref="now"),
        ],
        {
            "app": Column("App"),
            **_COLUMNS,
        },
        key="app",
        sort="Cost",
        no_value=_NO_CLASS,
    )


def _a_day() -> Built:
    hour = total(_LAST_HOUR, ["gpu_class"], _ON_GPUS, at="offset 5m")
    day = total(_LAST_HOUR, ["gpu_class"], _ON_GPUS, at="offset 5m")
    peak = f"max_over_time(({day})[23h30m:1h] @ {TO})"
    return stripes(
        "Utilisation of a day",
        "Each of the last 24 complete hours, by GPU class: GPUs in use against the busiest of these hours. Dark "
        "stripes are hours in which the class was hardly used.",
        [Query(f"{hour}\n/ on (gpu_class) ({peak} > 0)", "{{gpu_class}}", interval="1h")],
    )


_STATES = "fal_gpu_spend_by_state_month_to_date_usd"
_IDLE = 'state="idle"'
_NO_RUNNERS = f"no runners are known, or {NOT_LOADED}"
"""Where the key may not list apps, MACHINES is false, or own apps have cost nothing."""


def _idle_cost() -> Built:
    return figure(
        "Idle, this month",
        "What runners of your own apps cost this month while they were warm, billed and without requests. Absent where "
        "apps cannot be listed: that takes a key that may, and the setting MACHINES.",
        [Query(of_runners(_STATES, (), _IDLE))],
        DOLLARS,
        decimals=2,
        color=palette.STATES["idle"],
        no_value=_NO_RUNNERS,
    )


def _idle_share() -> Built:
    return figure(
        "Idle share",
        "The same as a share of what your own apps cost this month.",
        [Query(share(of_runners(_STATES, (), _IDLE), of_runners(_STATES)))],
        SHARE,
        decimals=0,
        thresholds=at_least((0.3, palette.WARNING), (0.6, palette.BAD), base=palette.GOOD),
        no_value=_NO_RUNNERS,
    )


def _states() -> Built:
    panel = lines(
        "Cost of runners by what they did, in the 24 hours before each point",
        "Runners that worked on requests, were idle (warm, billed and without requests), started or ended; unknown are "
        "hours for which fal has stated no runners.",
        [Query(of_runners("fal_gpu_spend_by_state_last_day_usd", ["state"]), "{{state}}")],
        DOLLARS_SHORT,
        overrides={name: fixed(color) for name, color in palette.STATES.items()},
        legend=("lastNotNull",),
        fill=40,
        at_right=True,
    )
    return panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))


def _lower_settings() -> Built:
    saving, starts = (f"fal_serverless_what_if_{name}" for name in ("saving_usd", "cold_starts"))

    def estimate(series: str, bound: str) -> str:
        """Return a bound of each app, with its setting in words: its rows have equal labels, and are of one account."""
        matchers = selected(("account", "app"), f'bound="{bound}"')
        named = f'label_join({series}{matchers}, "lower", " ", "setting", "value")'
        in_words = f'label_replace({named}, "lower", "$1 s", "lower", "(keep_alive .+)")'
        return f"max by (account, app, environment, lower) ({in_words})"

    largest = f"topk(20, {estimate(saving, 'likely')})"

    def of_largest(series: str, bound: str) -> str:
        return f"({estimate(series, bound)})\nand\n{largest}"

    return rows(
        "What a lower setting would have saved, last 7 days",
        "Of each app the lower setting that would likely have saved most, less what more cold starts would have cost; "
        "the twenty largest. An estimate and no promise: the bounds hold for any order of the week's requests, the "
        "likely value for requests at random, with the settings as they are. Apps for which no setting would likely "
        "have saved anything, or none could be tried, are not here. All settings are at /v1/billing/machines.",
        [
            Query(largest, ref="likely"),
            Query(of_largest(saving, "least"), ref="least"),
            Query(of_largest(saving, "most"), ref="most"),
            Query(of_largest(starts, "likely"), ref="starts"),
            Query(of_largest(starts, "most"), ref="more"),
        ],
        {
            "account": Column("Account", width=130, properties=WRAPPED),
            "app": Column("App"),
            "environment": Column("Environment", width=110),
            "lower": Column("Lower setting", width=160),
            "Value #likely": Column("Likely saved", DOLLARS, 110, 2),
            "Value #least": Column("Saved at least", DOLLARS, 120, 2),
            "Value #most": Column("Saved at most", DOLLARS, 120, 2),
            "Value #starts": Column("More cold starts, likely", "locale", 180, 0),
            "Value #more": Column("At most", "locale", 90, 0),
        },
        sort="Likely saved",
        no_value="no lower setting is known to save anything",
    )


def _idle_apps() -> Built:
    by = ["app"]
    named = of_runners(_STATES, by, 'app!=""', _IDLE)
    idlest = f"topk(10, {named} > 0)"

    def of_idlest(expression: str) -> str:
        return f"({expression})\nand on (app)\n{idlest}"

    return rows(
        "Apps by idle cost, this month",
        "The ten apps whose idle runners cost most, with the settings that decide about it: a runner without requests "
        "stays for the keep-alive, and the minimum always stays. The ceiling is what an hour costs with the most "
        "runners. Cost of a success and failed are of the last 24 hours.",
        [
            Query(idlest, ref="idle"),
            Query(of_idlest(share(of_runners(_STATES, by, _IDLE), of_runners(_STATES, by))), ref="share"),
            Query(of_idlest(of_runners(_STATES, by)), ref="cost"),
            Query(of_idlest(of_apps("fal_serverless_keep_alive_seconds", "max")), ref="keep"),
            Query(of_idlest(of_apps("fal_serverless_min_concurrency", "max")), ref="least"),
            Query(of_idlest(of_apps("fal_serverless_max_concurrency", "max")), ref="most"),
            Query(of_idlest(of_runners("fal_app_burn_ceiling_usd_per_hour", by)), ref="ceiling"),
            Query(of_idlest(of_apps("fal_cost_per_success_usd", "max")), ref="success"),
            Query(of_idlest(of_apps("fal_failed_requests_spend_ratio", "max")), ref="failed"),
        ],
        {
            "app": Column("App"),
            "Value #idle": Column("Idle", DOLLARS, 110, 2),
            "Value #share": Column("Idle share", SHARE, 160, 0, bar_cell()),
            "Value #cost": Column("Cost", DOLLARS, 110, 2),
            "Value #keep": Column("Keep-alive", "s", 100, 0),
            "Value #least": Column("Min. runners", "none", 110, 0),
            "Value #most": Column("Max. runners", "none", 110, 0),
            "Value #ceiling": Column("Ceiling of an hour", DOLLARS, 150, 2),
            "Value #success": Column("Cost of a success", DOLLARS_SHORT, 150),
            "Value #failed": Column("Failed", SHARE, 80, 1),
        },
        key="app",
        sort="Idle",
        no_value=_NO_RUNNERS,
    )
