"""Tables in the one style of all dashboards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import common, dashboard, table
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from source import palette
from source.panels import DATA_SOURCE, NO_DATA, Query, at_least, fixed, properties, said, target_of


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: its header.
        unit: one of Grafana's.
        width: in pixels; 0 for what is left.
        decimals: None for as many as it takes.
        properties: further options of the field, by their names in Grafana.
    """

    title: str
    unit: str = ""
    width: int = 0
    decimals: int | None = None
    properties: Mapping[str, object] = field(default_factory=dict)


WRAPPED: Mapping[str, object] = {"custom.wrapText": True, "custom.cellOptions": {"type": "auto", "wrapText": True}}
"""Of a column of names, so that a long one takes two lines and is not cut."""


def rows(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Mapping[str, Column],
    *,
    key: str = "",
    trend: str = "",
    sort: str = "",
    no_value: str = NO_DATA,
) -> table.Panel:
    """Return a table: the queries' values side by side.

    Each query gives a column that is called `Value #` and its ref, each label one of its own name. `columns` says which
    are shown, how, and in which order. Rows are joined by the label `key`; without one, rows whose labels are the same
    are one. The query whose ref is `trend` is drawn as bars in each row. `sort` is the title of the column by which the
    rows are sorted, largest first.
    """
    steps = [] if not trend else [_step("timeSeriesTable", {trend: {"stat": "lastNotNull"}}, only=trend)]
    if key and len(queries) > 1:
        steps.append(_step("joinByField", {"byField": key, "mode": "outer"}))
    elif not trend:
        steps.append(_step("merge", {}))
    renamed = {f"Value #{queries[0].ref}": "Value"} if len(queries) == 1 else {}
    order = {renamed.get(name, name): place for place, name in enumerate(columns)}
    steps.append(
        _step(
            "filterFieldsByName",
            {"include": {"names": list(order)}},
        )
    )
    steps.append(
        _step(
            "organize",
            {
                "indexByName": order,
                "renameByName": {renamed.get(name, name): column.title for name, column in columns.items()},
            },
        )
    )
    panel = (
        table.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .no_value(no_value)
        .cell_height(common_models.TableCellHeight.SM)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(palette.SPEND))
        .transformations(steps)
    )
    if sort:
        panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(desc=True)])
    for query in queries:
        target = target_of(query)
        panel.with_target(target.range() if query.ref == trend else target.instant().format(PromQueryFormat.TABLE))
    for column in columns.values():
        options: dict[str, object] = {"noValue": "-"}
        if column.unit:
            options["unit"] = column.unit
        if column.decimals is not None:
            options["decimals"] = column.decimals
        if column.width:
            options["custom.width"] = column.width
        panel.override_by_name(column.title, properties(options | dict(column.properties)))
    return panel


def sparkline(color: str = palette.SPEND) -> dict[str, object]:
    """Return the options of a column that draws the course of a value in each row."""
    return {
        "custom.cellOptions": {
            "type": "sparkline",
            "drawStyle": "bars",
            "barAlignment": 0,
            "barWidthFactor": 0.8,
            "lineWidth": 0,
            "fillOpacity": 75,
            "hideValue": True,
        },
        **fixed(color),
    }


def bar_cell(most: float = 1) -> dict[str, object]:
    """Return the options of a column that shows a share as a bar in each row."""
    return {
        "custom.cellOptions": {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
        "min": 0,
        "max": most,
    }


def coloured_text(*steps: tuple[float, str], base: str = palette.NEUTRAL) -> dict[str, object]:
    """Return the options of a column whose text has a colour by its value."""
    return {
        "custom.cellOptions": {"type": "color-text"},
        "color": {"mode": "thresholds"},
        "thresholds": at_least(*steps, base=base).build(),
    }


def words(texts: Mapping[str, tuple[str, str]]) -> dict[str, object]:
    """Return the options of a column whose values are said in words, in a colour each."""
    return {"custom.cellOptions": {"type": "color-text"}, "mappings": [said(texts)]}


def products() -> dict[str, object]:
    """Return the options of a column in which products and labels are called as people call them."""
    return {"mappings": [said({name: (text, "") for name, text in palette.NAME_TEXTS.items()})]}


def link(title: str, uid: str, label: str) -> dict[str, object]:
    """Return a link from a cell to a dashboard, with its value as the label's variable, and the same time range."""
    others = "${datasource:queryparam}&${account:queryparam}&${__url_time_range}"
    return {"title": title, "url": f"/d/{uid}?{others}&var-{label}=${{__value.raw}}", "targetBlank": False}


def _step(name: str, options: object, *, only: str = "") -> models.DataTransformerConfig:
    concerned = models.MatcherConfig(id_val="byRefId", options=only) if only else None
    return models.DataTransformerConfig(id_val=name, filter_val=concerned, options=options)
