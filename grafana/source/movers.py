"""This month against the same hours of the last: what moved and why, and who: by team, key and tag."""

from grafana_foundation_sdk.builders import common

from source import palette
from source.panels import SHARE, SIGNED, Built, Query
from source.queries import REST, TOTAL, of_accounts, while_whole
from source.rankings import BEFORE, GROWTH
from source.tables import WRAPPED, Column, coloured_text, products, rows

_CHANGE = "fal_spend_month_change_usd"
_ITEM = ("account", "product", "model", "app", "gpu_class", "cause")
_MOVED = 5
_WIDTHS = {"volume": 112, "price": 132, "new": 98, "gone": 98}
_CAUSES = {"volume": "Volume, mix, $", "price": "Price, discount, $", "new": "New, $", "gone": "Gone, $"}
"""Volume has the mix of models in it, and price the discounts and surge, which the page and REST divide."""

_WHO = 3
_NOW, _THEN = "fal_spend_movers_this_month_usd", "fal_spend_movers_last_month_usd"
_BY = "$moved"
"""The label or tag that a repeated table is of, in the words of the label `by`."""

_SIGNED = coloured_text((0, palette.NEUTRAL))


def changes(*also: str) -> str:
    """Return the changes of the items of the selected accounts, by cause."""
    return of_accounts(_CHANGE, _ITEM, *also)


def moved() -> Built:
    """Return the table of what moved, and why."""

    def items(*also: str) -> str:
        """Return the changes by the most telling name of an item: its model, app or product."""
        named = changes(*also)
        for label in ("product", "app", "model"):
            named = f'label_replace({named}, "name", "$1", "{label}", "(.+)")'
        return f"sum by (name) ({named})"

    largest = f"topk({_MOVED}, abs({items()}))"

    def shown(*also: str) -> str:
        of_all = items(*also)
        return _while_whole(_rows(of_all, largest))

    return rows(
        "What moved since last month, and why",
        "The complete hours of this month against as many of the last: the five models and apps that changed most, "
        "all others, and the total. Volume and mix is the difference in quantity at last month's price of each, price "
        "what remains of it, with discounts and surge; new and gone were sold in one of the two only. The causes add "
        "up to the change. The page and /v1/billing/drivers divide the same change further: into volume and mix of "
        "models, and into price, discount and surge.",
        [
            Query(shown(), ref="change"),
            *(Query(shown(f'cause="{cause}"'), ref=cause) for cause in _CAUSES),
            Query(_while_whole(_places(items(), largest)), ref="place"),
        ],
        {
            "name": Column("What", properties=products() | {"custom.minWidth": 110, **WRAPPED}),
            "Value #change": Column("Change, $", SIGNED, 98, 2, _SIGNED),
            **{
                f"Value #{cause}": Column(title, SIGNED, _WIDTHS[cause], 2, _SIGNED) for cause, title in _CAUSES.items()
            },
            **_PLACE,
        },
        key="name",
        no_value="nothing has moved, or last month is not all loaded",
    ).sort_by(_in_order())


def who_moved() -> Built:
    """Return the table of who moved, repeated for each label and tag that months are compared by."""
    now, then = (_by_name(metric) for metric in (_NOW, _THEN))
    changed = f"({now} - on (name) {then})"
    largest = f"topk({_WHO}, abs({_by_name(_NOW, _NAMED)} - on (name) {_by_name(_THEN, _NAMED)}))"
    all_now, all_then = (f"sum({of_accounts(metric, ('account', 'value'), _OF_ALL)})" for metric in (_NOW, _THEN))

    def table(values: str, of_all: str) -> str:
        return f"{_rows(values, largest, of_all)}\n{_unread(values, of_all)}"

    panel = rows(
        "Who moved: by ${moved:text}",
        "The complete hours of this month against as many of the last: the three that changed most, all others, and "
        "the total. Untagged is what no tag explains; not read by tags are hours whose tags are not final yet, in "
        "both months, and accounts without tags. There is a table for each team, key, member and tag that months can "
        "be compared by; where there is none, by product. The page and /v1/billing/drivers?group_by= have the same "
        "figures.",
        [
            Query(_whole(table(changed, f"({all_now} - {all_then})")), ref="change"),
            Query(_whole(table(now, all_now)), ref="now"),
            Query(
                f"{_whole(_rows(now, largest, all_now))}\n/ on (name) (({_rows(then, largest, all_then)}) > 0)\n- 1",
                ref="share",
            ),
            Query(_whole(_places(now, largest, all_now)), ref="place"),
        ],
        {
            "name": Column("Who", properties=products() | {"custom.minWidth": 90, **WRAPPED}),
            "Value #change": Column("Change, $", SIGNED, 100, 2, _SIGNED),
            "Value #share": Column("±", SHARE, 60, 0, coloured_text(*GROWTH)),
            "Value #now": Column("Compared, $", SIGNED, 104, 2),
            **_PLACE,
        },
        key="name",
        no_value="not compared: hours of last month are not loaded, or not read by tags",
    )
    return panel.sort_by(_in_order()).repeat("moved").repeat_direction("h").max_per_row(3)


def compared() -> str:
    """Return a series for each label and tag that who moved is shown by, named by the label `moved`."""
    several = f'count by (by) (count by (by, value) ({_NOW}{{by!="product"}})) > 1'
    titles = f'label_replace({several}, "title", "$1", "by", "(?:tag:)?(.+)")'
    named = f'label_replace({titles}, "title", "key", "by", "api_key")'
    product = f"vector(1) unless on () ({several})"
    for label in ("by", "title"):
        product = f'label_replace({product}, "{label}", "product", "", "")'
    return f'label_replace({named} or {product}, "moved", "$1", "by", "(.+)")'


_NAMED = 'value!="__other__"'
_SAME = f'by="{_BY}"'
_OF_ALL = 'by="product"'
_OF_TAG = 'by=~"tag:.+"'


def _by_name(metric: str, *also: str) -> str:
    each = of_accounts(metric, ("account", "value"), _SAME, *also)
    for target, pattern in (("$1", "(.+)"), (f"without {_BY}", "^$"), (REST, "__other__")):
        each = f'label_replace({each}, "name", "{target}", "value", "{pattern}")'
    return f"sum by (name) ({each})"


def _rows(values: str, largest: str, of_all: str = "") -> str:
    """Return the rows of a table by the label `name`: the largest, all others and the total."""
    return (
        f"({values} and on (name) {largest})\n"
        f'or label_replace(sum({values} unless on (name) {largest}), "name", "{REST}", "", "")\n'
        f'or label_replace({of_all or f"sum({values})"}, "name", "{TOTAL}", "", "")'
    )


def _places(values: str, largest: str, of_all: str = "") -> str:
    """Return the places of the rows of `_rows`, by which the total stands first and all others last."""
    return (
        f'label_replace(0 * {of_all or f"sum({values})"} + 2, "name", "{TOTAL}", "", "")\n'
        f'or label_replace(0 * sum({values} unless on (name) {largest}), "name", "{REST}", "", "")\n'
        f"or 0 * ({values} and on (name) {largest}) + 1"
    )


_PLACE = {"Value #place": Column("Place", properties={"custom.hidden": True})}


def _in_order() -> list[common.TableSortByFieldState]:
    return [common.TableSortByFieldState().display_name(column).desc(desc=True) for column in ("Place", "Change, $")]


def _unread(values: str, of_all: str) -> str:
    """Return the row of what has no value of the tag at all, so that the table adds up to what every other does."""
    rest = f"({of_all} - sum({values}))"
    return f'or label_replace({rest} > {_CENT} or {rest} < -{_CENT}, "name", "not read by tags", "", "")'


_CENT = 0.005


def _while_whole(table: str) -> str:
    return while_whole(f"({table})", BEFORE)


def _whole(table: str) -> str:
    """Return a table by a label or tag; nothing while an account that is read by tags lacks the comparison by a tag."""
    read = f"count({of_accounts('fal_tagged_through_timestamp_seconds')})"
    has = f"count({of_accounts(_NOW, ('account',), _SAME, _OF_TAG)})"
    return f"({_while_whole(table)}\nunless on () {read} > {has})"
