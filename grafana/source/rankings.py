"""The tables of who and what spends the most; each has a row for all others and one for the total."""

from collections.abc import Collection

from source import palette
from source.outlook import MONTH
from source.panels import DOLLARS, NOT_LOADED, SHARE, Built, Query, said
from source.queries import REST, TO, TOTAL, growth, of_each, ranked, selected, total, while_whole
from source.tables import WRAPPED, Column, coloured_text, link, products, rows, sparkline

GROWTH = ((0.25, palette.WARNING), (1, palette.BAD))
"""Growth in a week, as a share, from which it is worth a look."""

RANKED = "$ranked"
"""The label that a repeated table is of."""

LABELS = {
    "account": "account",
    "product": "product",
    "team": "team",
    "model": "model",
    "app": "app",
    "gpu_class": "GPU class",
    "environment": "environment",
    "api_key": "key",
}
"""The labels that a table is shown for where a charge of the month has them, and how they are called.

Accounts have one where there are two of them.
"""

REPORTED = ("account", "product", "team", "model", "app", "api_key")
"""The labels of a month's report, which with all of them fits one printed page."""

BEFORE = "fal_spend_last_month_to_date_usd"
COMPARED = "fal_spend_month_compared_usd"
"""The same hours of the last month and of this one: what is compared, and never the month to date, is compared."""

_LINKS = (
    ("Only this, in Spend", "fal-spend"),
    ("Its GPU time", "fal-gpu-time"),
    ("Its units and prices", "fal-models-and-prices"),
)


def present(labels: Collection[str] = tuple(LABELS)) -> str:
    """Return a series for each of some labels that a charge of the month has, named by the label `ranked`."""
    month = "fal_spend_month_to_date_usd"
    found = [(label, f'count({month}{{{label}!=""}} > 0)') for label in labels if label != "account"]
    found.insert(0, ("account", f"count(count by (account) ({month})) > 1"))
    # Before anything is known, one table says so: a query by no label would be an error.
    return " or ".join(
        f'label_replace(label_replace({there_is}, "ranked", "{label}", "", ""), "title", "{LABELS[label]}", "", "")'
        for label, there_is in (*found, ("product", f"absent({month})"))
    )


def by_label() -> Built:
    """Return the table of the eight largest values of a label, repeated for each label that charges have."""
    label = RANKED
    month = ranked(MONTH, label, MONTH, 8)
    largest = f"topk(8, {total(MONTH, [label], at=f'@ {TO}')})"
    grown = growth("fal_spend_today_usd", "1w", [label], f'{label}!=""')
    of_all = f'label_replace({growth("fal_spend_today_usd", "1w")}, "{label}", "{TOTAL}", "", "")'
    last_hour = total("fal_spend_last_hour_usd", [label], f'{label}!=""', at="offset 5m")
    panel = rows(
        "By ${ranked:text}",
        "The eight of the largest month to date, what all others cost, and the total: this month, its share, today so "
        "far, today against the same time a week ago, and the last 24 complete hours, each as known at the end of the "
        "next. There is a table for each label that any charge of the month has.",
        [
            Query(_named(month), ref="month"),
            Query(_named(_share(month)), ref="share"),
            Query(_named(ranked("fal_spend_today_usd", label, MONTH, 8)), ref="today"),
            Query(_named(f"({grown})\nand on ({label})\n{largest}\nor {of_all}"), ref="change"),
            Query(_named(f"({last_hour})\nand on ({label})\n{largest}"), ref="trend", interval="1h"),
        ],
        {
            "name": Column("Name", properties=_NAME),
            "Value #month": Column("This month", DOLLARS, 102, 2),
            "Value #share": Column("Share", SHARE, 60, 1),
            "Value #today": Column("Today", DOLLARS, 96, 2),
            "Value #change": Column("± a week ago", SHARE, 104, 0, coloured_text(*GROWTH)),
            "Trend": Column("24 hours", width=68, properties=sparkline()),
        },
        key="name",
        trend="trend",
        sort="This month",
        no_value=f"no spend yet, or {NOT_LOADED}",
    )
    panel.time_from("24h").hide_time_override(hide_time_override=True)
    return panel.repeat("ranked").repeat_direction("h").max_per_row(2)


def of_month() -> Built:
    """Return the table of a label for a report, repeated likewise: this month, and the same part of the last one."""
    month, before, now = (ranked(metric, RANKED, MONTH, 3) for metric in (MONTH, BEFORE, COMPARED))
    panel = rows(
        "By ${ranked:text}",
        "The three of the largest month to date, what all others cost, and the total; beside it what the same part of "
        "the last month cost: as many hours from its start as are complete in this month, and by which share those of "
        "this month cost more. The running hour is in the month to date alone. There is a table for each label that "
        "any charge of the month has; add api_key to FAL_EXPORTER_LABELS to see keys.",
        [
            Query(_named(month), ref="month"),
            Query(_named(before), ref="before"),
            Query(f"{_named(now)}\n/ on (name) ({_named(before)} > 0)\n- 1", ref="change"),
        ],
        {
            "name": Column("Name", properties=_NAME),
            "Value #month": Column("This month", DOLLARS, 102, 2),
            "Value #before": Column("Last, by then", DOLLARS, 100, 2),
            "Value #change": Column("±", SHARE, 46, 0, coloured_text(*GROWTH)),
        },
        key="name",
        sort="This month",
        no_value=f"no spend yet, or {NOT_LOADED}",
    )
    return panel.repeat("ranked").repeat_direction("h").max_per_row(3)


def tags() -> str:
    """Return a series for each tag that spend is read by, named by the label `tag`; if there is none, one says so."""
    series = "fal_tag_spend_month_to_date_usd"
    named = f'label_replace(count by (key) ({series}), "tag", "$1", "key", "(.+)")'
    none = f'label_replace(absent({series}), "tag", "(none)", "", "")'
    return f'label_replace({named} or {none}, "title", "$1", "tag", "(.+)")'


def by_tag() -> Built:
    """Return the table of the values of a tag, repeated for each tag that spend is read by."""
    series = 'fal_tag_spend_month_to_date_usd{account=~"$account",key=~"$tag"}'
    spend = f"sum by (value) (max by (account, key, value) ({series}))"
    whole = f"({while_whole('sum(' + of_each(MONTH + selected(('account',))) + ')', MONTH)} and on () {spend})"
    unread = f"({whole} - sum({spend}))"
    table = (
        f"topk({_TAGS}, {spend})\n"
        f'or label_replace(sum({spend} unless topk({_TAGS}, {spend})), "value", "{REST}", "", "")\n'
        f'or label_replace({unread} >= {_CENT} or {unread} <= -{_CENT}, "value", "not read by tags", "", "")\n'
        f'or label_replace({whole}, "value", "{TOTAL}", "", "")'
    )
    return (
        rows(
            "By tag ${tag:text}",
            "The ten values of a tag that cost most in the month to date, as far as callers have tagged their "
            "requests, and their shares of the whole month. Untagged is what no tag explains, and hours whose tags fal "
            "has not reported for good yet; not read by tags are accounts that fal does not report by tags. There is a "
            "table for each of FAL_EXPORTER_TAGS.",
            [
                Query(table, ref="month"),
                Query(f"({table})\n/ on () group_left () ({whole} != 0)", ref="share"),
            ],
            {
                "value": Column("Value", properties={"mappings": [said({"untagged": (_UNTAGGED, "")})]}),
                "Value #month": Column("This month", DOLLARS, 110, 2),
                "Value #share": Column("Share", SHARE, 64, 1),
            },
            key="value",
            sort="This month",
            no_value="no spend by tags; set FAL_EXPORTER_TAGS",
        )
        .repeat("tag")
        .repeat_direction("h")
        .max_per_row(3)
    )


_TAGS = 10
_CENT = 0.005
_UNTAGGED = "untagged, or not read yet"

_NAME: dict[str, object] = products() | {
    "custom.minWidth": 120,
    **WRAPPED,
    "links": [link(title, uid, RANKED) for title, uid in _LINKS],
}


def _share(sums: str) -> str:
    return f"({sums})\n/ on () group_left () ({total(MONTH)} != 0)"


def _named(expression: str) -> str:
    """Return an expression by `$ranked` with its values under the label `name`, which a table can be joined by."""
    return f'sum by (name) (label_replace({expression}, "name", "$1", "{RANKED}", "(.+)"))'
