"""The tables of who and what spends the most."""

from source import palette
from source.panels import DOLLARS, SHARE, Built, Query
from source.queries import TO, growth, total
from source.tables import Column, coloured_text, link, rows, sparkline

MONTH = "fal_spend_month_to_date_usd"
GROWTH = ((0.25, palette.WARNING), (1, palette.BAD))
"""Growth in a week, as a share, from which it is worth a look."""

_COLUMNS = {"model": "Model", "app": "App", "gpu_class": "GPU class", "team": "Team"}
_LINKS = {
    "model": ("What it costs by unit", "fal-models-and-prices"),
    "app": ("Its GPU time", "fal-gpu-time"),
    "gpu_class": ("Its GPU time", "fal-gpu-time"),
    "team": ("Only this team", "fal-spend"),
}


def ranking(label: str, title: str, one: str) -> Built:
    """Return the ten values of a label with the largest month to date; `one` is such a value in a sentence."""
    there_is_one = f'{label}!=""'
    month = total(MONTH, [label], there_is_one)
    ranked = f"topk(10, {total(MONTH, [label], there_is_one, at=f'@ {TO}')})"

    def of_ranked(expression: str) -> str:
        return f"({expression})\nand on ({label})\n{ranked}"

    panel = rows(
        title,
        "The ten of the largest month to date: what each has spent, its share of all that is selected, today so far, "
        "today against the same time a week ago, and its last 24 complete hours, each as known at the end of the next. "
        f"What is charged without {one} is not listed, but it is in the whole.",
        [
            Query(ranked, ref="month"),
            Query(of_ranked(f"{month}\n/ on () group_left () ({total(MONTH)} != 0)"), ref="share"),
            Query(of_ranked(total("fal_spend_today_usd", [label], there_is_one)), ref="today"),
            Query(of_ranked(growth("fal_spend_today_usd", "1w", [label], there_is_one)), ref="change"),
            Query(
                of_ranked(total("fal_spend_last_hour_usd", [label], there_is_one, at="offset 5m")),
                ref="trend",
                interval="1h",
            ),
        ],
        {
            label: Column(_COLUMNS[label], properties={"links": [link(*_LINKS[label], label)], "custom.minWidth": 100}),
            "Value #month": Column("This month", DOLLARS, 102, 2),
            "Value #share": Column("Share", SHARE, 56, 1),
            "Value #today": Column("Today", DOLLARS, 82, 2),
            "Value #change": Column("± week", SHARE, 68, 0, coloured_text(*GROWTH)),
            "Trend": Column("24 hours", width=86, properties=sparkline()),
        },
        key=label,
        trend="trend",
        sort="This month",
        no_value=f"no spend with {one} yet",
    )
    return panel.time_from("24h").hide_time_override(hide_time_override=True)
