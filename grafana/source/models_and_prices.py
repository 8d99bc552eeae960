"""fal / Models and prices: what a unit costs, and how many were bought."""

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.models.common import LineInterpolation, ScaleDistribution, VisibilityMode

from source import palette
from source.frame import Frame, Row, happened
from source.panels import (
    DOLLARS,
    DOLLARS_SHORT,
    FINE,
    INSTANT_OF_YEAR,
    NOT_LOADED,
    RECORDED_SINCE,
    SHARE,
    Built,
    Query,
    at_least,
    coverage,
    figure,
    lines,
)
from source.queries import FROM, TO, counted, total, while_whole
from source.tables import WRAPPED, Column, coloured_text, rows

_MONTH = "fal_spend_month_to_date_usd"
_PRICED = ("account", "product", "model", "app", "gpu_class")
_ROW = ("model", "app", "gpu_class", "unit")
_SKU = ("model", "app", "gpu_class")


def models_and_prices() -> Frame:
    """Return the dashboard of models and prices."""
    return Frame(
        uid="fal-models-and-prices",
        title="fal / Models and prices",
        description="Unit prices, discounts and their changes, and what was bought of each unit.",
        labels=("account", "product", "model", "app"),
        annotations=(
            happened(
                "Price changes",
                palette.WARNING,
                "fal_unit_price_changed_timestamp_seconds",
                ("account", "model", "app", "gpu_class", "unit"),
                title="New price: {{model}}{{app}} {{gpu_class}}",
                text="The price of a {{unit}} changed for {{account}}",
            ),
            happened(
                "Discount changes",
                palette.FORECAST,
                "fal_unit_discount_changed_timestamp_seconds",
                ("account", "model", "app", "gpu_class", "unit"),
                title="New discount: {{model}}{{app}} {{gpu_class}}",
                text="The discount on a {{unit}} changed for {{account}}",
            ),
        ),
        rows=(
            Row(4, _figures()),
            Row(13, ((_prices(), 24),)),
            Row(5, ((_changes("price"), 24),), "What changed"),
            Row(5, ((_changes("discount"), 24),)),
            Row(11, ((_over_time(), 8), (_paid_by_day(), 8), (_by_unit(), 8)), "Prices and quantities over time"),
            Row(13, ((_bought(), 24),)),
        ),
    )


def priced(metric: str, *, by: tuple[str, ...] = _ROW, at: str = "") -> str:
    """Return a family of unit prices or discounts, the highest of the selected accounts."""
    selection = ",".join(f'{label}=~"${label}"' for label in _PRICED)
    return f"max by ({', '.join(by)}) ({metric}{{{selection}}}{' ' + at if at else ''})"


def _since_start(metric: str) -> str:
    return (
        f"count({priced(metric, at=f'@ {TO}')} >= {FROM}) or vector(0) and on () count({priced('fal_unit_price_usd')})"
    )


def _figures() -> tuple[tuple[Built, int], ...]:
    paid = total("fal_spend_last_day_usd")
    discount = f"({total('fal_discount_last_day_usd')} or 0 * {paid})"
    models = f"(count(sum by (model, app) ({total(_MONTH, ['model', 'app'])}) > 0) or vector(0))"
    return (
        (
            figure(
                "Models and apps, month",
                "How many models and apps have cost anything since the start of the month.",
                [Query(while_whole(models, _MONTH))],
                "none",
                color=palette.SPEND,
                no_value=NOT_LOADED,
            ),
            5,
        ),
        (
            figure(
                "Discount, last 24 hours",
                "Discounts granted by list-price cost, of the charges of the last 24 UTC hours, the running one among "
                "them.",
                [Query(f"{discount}\n/ (({discount} + {paid}) > 0)")],
                SHARE,
                decimals=1,
                color=palette.GOOD,
                no_value="nothing bought, or not all loaded",
            ),
            5,
        ),
        (
            figure(
                "Price changes",
                "How many list prices changed within the time range, as the exporter saw it in the charges.",
                [Query(_since_start("fal_unit_price_changed_timestamp_seconds"))],
                "none",
                no_value="no prices yet",
                thresholds=at_least((1, palette.WARNING), base=palette.GOOD),
            ),
            5,
        ),
        (
            figure(
                "Discount changes",
                "How many discounts changed within the time range, as the exporter saw it in the charges.",
                [Query(_since_start("fal_unit_discount_changed_timestamp_seconds"))],
                "none",
                no_value="no prices yet",
                thresholds=at_least((1, palette.WARNING), base=palette.GOOD),
            ),
            5,
        ),
        (coverage(("month_to_date", "this month"), ("last_day", "24 hours")), 4),
    )


def _prices() -> Built:
    ranked = f"topk(30, {total(_MONTH, _SKU, at=f'@ {TO}')})"
    price, discount = priced("fal_unit_price_usd"), priced("fal_unit_discount_ratio")
    return rows(
        "Prices",
        "List price and discount of a unit as in its newest charge, and what is paid after discount, for the thirty "
        "that cost most this month. Of several prices, such as a surge price beside the usual one or those of two "
        "accounts, the highest.",
        [
            Query(f"{price}\nand on (model, app, gpu_class)\n{ranked}", ref="price"),
            Query(f"{discount}\nand on (model, app, gpu_class)\n{ranked}", ref="discount"),
            Query(
                f"{price} * on (model, app, gpu_class, unit) (1 - {discount})\n"
                f"and on (model, app, gpu_class)\n{ranked}",
                ref="net",
            ),
            Query(ranked, ref="month"),
        ],
        {
            "model": Column("Model", properties=WRAPPED),
            "app": Column("App", width=150),
            "gpu_class": Column("GPU class", width=95),
            "unit": Column("Unit", width=140),
            "Value #price": Column("List price", DOLLARS_SHORT, 110),
            "Value #discount": Column("Discount", SHARE, 90, 0, coloured_text((0.0001, palette.GOOD))),
            "Value #net": Column("After discount", DOLLARS_SHORT, 125),
            "Value #month": Column("Month, all units", DOLLARS, 136, 2),
        },
        sort="Month, all units",
        no_value="no prices yet",
    )


def _changes(what: str) -> Built:
    present = {"price": "fal_unit_price_usd", "discount": "fal_unit_discount_ratio"}[what]
    previous = {"price": "fal_unit_price_previous_usd", "discount": "fal_unit_discount_previous_ratio"}[what]
    unit = {"price": DOLLARS_SHORT, "discount": SHARE}[what]
    newest = f"topk(20, {priced(f'fal_unit_{what}_changed_timestamp_seconds')})"
    # A higher price is bad, a higher discount good.
    worse, better = (palette.BAD, palette.GOOD) if what == "price" else (palette.GOOD, palette.BAD)
    change = f"{priced(present)}\n- {priced(previous)}"
    if what == "price":
        change = f"({change})\n/ ({priced(previous)} > 0)"
    return rows(
        f"{what.capitalize()} changes",
        f"The twenty newest changes of a {what} that the exporter saw in the charges, whenever they were: before, now, "
        f"and by how much. The hour is that of the first charge with the new {what}. Changes before the "
        "exporter ran are not here; what prices did to the month is in fal / Month.",
        [
            Query(f"1000 * {newest}", ref="when"),
            *(
                Query(f"({expression})\nand on (model, app, gpu_class, unit)\n{newest}", ref=ref)
                for ref, expression in (("before", priced(previous)), ("now", priced(present)), ("change", change))
            ),
        ],
        {
            "Value #when": Column("Since", INSTANT_OF_YEAR, 150),
            "model": Column("Model", properties=WRAPPED),
            "app": Column("App", width=200),
            "unit": Column("Unit", width=160),
            "Value #before": Column("Before", unit, 130),
            "Value #now": Column("Now", unit, 130),
            "Value #change": Column("Change", SHARE, 110, 0, coloured_text((0, worse), base=better)),
        },
        sort="Since",
        no_value=f"no change of a {what} seen yet",
    )


def _over_time() -> Built:
    ranked = f"topk(8, {total(_MONTH, _SKU, at=f'@ {TO}')})"
    panel = lines(
        "List prices",
        "The list price of a unit over time, of the eight that cost most this month; on a logarithmic scale, since a "
        "character and a video differ by a factor of thousands. Known from the time on that the exporter was scraped.",
        [
            Query(
                f"{priced('fal_unit_price_usd')}\nand on (model, app, gpu_class)\n{ranked}",
                "{{model}}{{app}} {{gpu_class}} / {{unit}}",
            )
        ],
        DOLLARS_SHORT,
        legend=("lastNotNull",),
        fill=0,
        from_zero=False,
    )
    return (
        panel.line_interpolation(LineInterpolation.STEP_AFTER)
        .show_points(VisibilityMode.AUTO)
        .scale_distribution(_LOGARITHMIC)
        .max_data_points(FINE)
        .no_value(RECORDED_SINCE)
    )


def _paid_for_a_unit(ranked: str, quantity: str) -> str:
    """Return what a unit came to on average, of what is sold by one unit only."""
    several = f"count by (model, app) ({total('fal_usage_quantity_total', ['model', 'app', 'unit'])}) > 1"
    return f"({ranked})\n/ on (model, app) group_right () ((({quantity}) > 0) unless on (model, app) ({several}))"


def _paid_by_day() -> Built:
    paid = counted("fal_spend_usd_total", 24, ["model", "app"])
    quantity = counted("fal_usage_quantity_total", 24, ["model", "app", "unit"])
    ranked = f"({paid})\nand on (model, app)\ntopk(8, {total(_MONTH, ['model', 'app'], at=f'@ {TO}')})"
    panel = lines(
        "Paid for a unit, by day",
        "What a unit came to on average, discounts and surge prices included: the spend that became known in each day "
        "by the units, for the eight that cost most this month and are sold by one unit only. On the day on which the "
        "ledger was begun, what it has counted since. On a logarithmic scale.",
        [Query(_paid_for_a_unit(ranked, quantity), "{{model}}{{app}} / {{unit}}", interval="1d")],
        DOLLARS_SHORT,
        legend=("lastNotNull",),
        fill=0,
        from_zero=False,
    )
    return panel.show_points(VisibilityMode.AUTO).span_nulls(span_nulls=True).scale_distribution(_LOGARITHMIC)


def _by_unit() -> Built:
    panel = lines(
        "Quantity by unit and hour, last two days",
        "Units that became known in each hour, by unit; different units are never added up. On a logarithmic scale. "
        "In the hour in which the ledger was begun, what it has counted since.",
        [Query(counted("fal_usage_quantity_total", 1, ["unit"]), "{{unit}}", interval="1h")],
        "short",
        legend=("sum",),
        fill=0,
        from_zero=False,
    )
    return panel.scale_distribution(_LOGARITHMIC).time_from("48h").hide_time_override(hide_time_override=True)


_LOGARITHMIC = common.ScaleDistributionConfig().type(ScaleDistribution.LOG).log(10)


def _bought() -> Built:
    quantity = total("fal_usage_quantity_last_day", ["model", "app", "unit"])
    ranked = f"topk(20, {total('fal_spend_last_day_usd', ['model', 'app'])} > 0)"
    return rows(
        "Bought in the last 24 hours, and what a unit came to",
        "Units and spend of the last 24 UTC hours, the running one among them, for the twenty of the most spend, and "
        "what was paid for a unit on average, discounts and surge prices included; not told where something is sold by "
        "several units. An account is left out while not all of these hours have been loaded: see Hours read.",
        [
            Query(f"({quantity})\nand on (model, app)\n{ranked}", ref="quantity"),
            Query(ranked, ref="paid"),
            Query(_paid_for_a_unit(ranked, quantity), ref="each"),
        ],
        {
            "model": Column("Model", properties=WRAPPED),
            "app": Column("App", width=220),
            "unit": Column("Unit", width=180),
            "Value #quantity": Column("Quantity", "locale", 160, 0),
            "Value #paid": Column("Spend, all units", DOLLARS, 160, 2),
            "Value #each": Column("Paid for a unit", DOLLARS_SHORT, 160),
        },
        sort="Spend, all units",
        no_value="nothing bought in the last 24 hours, or not all loaded",
    )
