"""Panels in the one style of all dashboards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    prometheus,
    stat,
    statushistory,
    timeseries,
)
from grafana_foundation_sdk.builders import text as text_panel
from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.text import TextMode

from source import palette
from source.queries import covered

DATA_SOURCE = common_models.DataSourceRef(type_val="prometheus", uid="${datasource}")
NO_DATA = "no data yet"
NOT_LOADED = "not all loaded"
"""Of the sum of a window that an account lacks hours of."""

RECORDED_SINCE = "nothing yet: recorded while Prometheus scrapes the exporter"
"""Of what no history tells, on a graph that begins long before the exporter did."""

NO_FORECAST = "no spend to forecast, or not all loaded"

FINE = 2000
"""Points of a graph that are asked for, so that a young ledger has some on one of a month."""

DOLLARS = "currency:financial:$"
"""Written out in full, for figures that are read."""
DOLLARS_SHORT = "currencyUSD"
"""$367K or $0.0004, for axes and prices; below 0 -$18.2K."""
SIGNED = "currency:financial: "
"""-18,249.89, for columns with $ in their title that may be below 0, of which DOLLARS would make $-18,249.89."""
MORE, LESS = "currency:financial:+$", "currency:financial:-$"
"""+$18,249.89 and -$18,249.89, each for a query of its own whose values have no sign."""
SHARE = "percentunit"
AS_WRITTEN = "string"
"""With the digits that it has, neither more nor fewer."""
INSTANT = "time:D MMM HH:mm"
"""Milliseconds since the epoch as a day and minute."""
INSTANT_OF_YEAR = "time:D MMM YYYY HH:mm"
"""The same with its year, for what may lie long ago."""
LASTING = "dtdurations"
"""Seconds as 1 hour, or 2 days, 3 hours: as many smaller units as decimals."""

_LEAST = -1e12
"""Below every value that is shown."""

Built = Builder[models.Panel]


@dataclass(frozen=True)
class Query:
    """A query of a panel.

    Attributes:
        expression: PromQL.
        name: how its series are called in the legend; label names in double braces.
        ref: its letter or word, by which overrides and transformations find it.
        interval: the least step, such as 1h; empty for whatever the width asks.
        with_exemplars: whether exemplars are asked for, too.
    """

    expression: str
    name: str = ""
    ref: str = "A"
    interval: str = ""
    with_exemplars: bool = False


def at_least(*steps: tuple[float, str], base: str = palette.NEUTRAL) -> ThresholdsConfig:
    """Return colours for values from a number on, in ascending order; `base` is that of all below, not of no data."""
    below = [] if base == palette.NEUTRAL else [models.Threshold(_LEAST, base)]
    above = [models.Threshold(value, color) for value, color in steps]
    return (
        ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([models.Threshold(value=None, color=palette.NEUTRAL), *below, *above])
    )


def coloured(*steps: tuple[float, str], base: str = palette.NEUTRAL) -> dict[str, object]:
    """Return the options of a field whose values have colours from numbers on."""
    return {"color": {"mode": "thresholds"}, "thresholds": at_least(*steps, base=base).build()}


def fixed(color: str) -> dict[str, object]:
    """Return the option of a field that has one colour."""
    return {"color": {"mode": "fixed", "fixedColor": color}}


def colours(names: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """Return the overrides that give series of these names these colours."""
    return {
        name: fixed(color) | ({"displayName": palette.NAME_TEXTS[name]} if name in palette.NAME_TEXTS else {})
        for name, color in names.items()
    }


def figure(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    thresholds: ThresholdsConfig | None = None,
    decimals: int | None = None,
    color: str = palette.NEUTRAL,
    background: bool = False,
    names: bool = False,
    size: int = 0,
    no_value: str = NO_DATA,
) -> stat.Panel:
    """Return one large number, or a few side by side.

    The number has the colour of its threshold or, without thresholds, `color`, which fills the tile where `background`
    is set. With `names` each number has its series' name above it. `size` is in pixels, 0 for what fits.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .no_value(no_value)
        .color_mode(
            common_models.BigValueColorMode.BACKGROUND_SOLID if background else common_models.BigValueColorMode.VALUE
        )
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .justify_mode(common_models.BigValueJustifyMode.AUTO)
        .text_mode(common_models.BigValueTextMode.VALUE_AND_NAME if names else common_models.BigValueTextMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .orientation(common_models.VizOrientation.VERTICAL if names else common_models.VizOrientation.AUTO)
    )
    if thresholds is None:
        panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(color))
    else:
        panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)).thresholds(thresholds)
    if decimals is not None:
        panel.decimals(decimals)
    if size:
        panel.text(common.VizTextDisplayOptions().value_size(size))
    for query in queries:
        panel.with_target(target_of(query).instant())
    return panel


def coverage(*windows: tuple[str, str]) -> stat.Panel:
    """Return the share of the hours of some windows that is known.

    Args:
        windows: values of the label `window`, and their names.
    """
    panel = figure(
        "Hours read",
        "The share of the hours that are over and read from every source, of the selected account that lacks most of "
        "them. Below 100 % the sums of the window are absent: its history is being loaded, begins later than the "
        "window, or a source fails. The exporter's landing page says which.",
        [Query(covered(window), name, window) for window, name in windows],
        "percentunit",
        thresholds=at_least((1, palette.GOOD), base=palette.WARNING),
        names=True,
    )
    return panel.decimals(0)


def lines(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    legend: Sequence[str] = (),
    fill: int = 8,
    at_right: bool = False,
    from_zero: bool = True,
) -> timeseries.Panel:
    """Return lines over time, on an axis that begins at 0 unless it is a logarithmic one.

    The legend shows the calculations of `legend` in columns, such as `lastNotNull`; without, it is a list of names.
    `fill` is the opacity in percent of the area below each line.
    """
    shown = (
        common.VizLegendOptions()
        .show_legend(show_legend=True)
        .placement(common_models.LegendPlacement.RIGHT if at_right else common_models.LegendPlacement.BOTTOM)
        .display_mode(common_models.LegendDisplayMode.TABLE if legend else common_models.LegendDisplayMode.LIST)
        .calcs(list(legend))
    )
    if legend:
        shown.sort_by({"mean": "Mean", "sum": "Total", "max": "Max"}.get(legend[0], "Last *")).sort_desc(sort_desc=True)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(unit)
        .no_value(NO_DATA)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .line_width(2)
        .fill_opacity(fill)
        .show_points(common_models.VisibilityMode.NEVER)
        .span_nulls(3_600_000)
        .axis_border_show(axis_border_show=False)
        .legend(shown)
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if from_zero:
        # An axis around a value that hardly moves would say the same number at every line.
        panel.axis_soft_min(0)
    for query in queries:
        panel.with_target(target_of(query).range())
    for name, options in (overrides or {}).items():
        panel.override_by_name(name, properties(options))
    return panel


def bars(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: str,
    *,
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    legend: Sequence[str] = ("sum",),
    at_right: bool = True,
) -> timeseries.Panel:
    """Return stacked bars over time; a bar stands to the right of its time, which is the start of its hour or day."""
    panel = lines(title, description, queries, unit, overrides=overrides, legend=legend, at_right=at_right)
    return (
        panel.draw_style(common_models.GraphDrawStyle.BARS)
        .bar_alignment(common_models.BarAlignment.AFTER)
        .bar_width_factor(0.86)
        .line_width(0)
        .fill_opacity(82)
        .stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    )


def stripes(title: str, description: str, queries: Sequence[Query]) -> statushistory.Panel:
    """Return a stripe for each series, of the last day's hours, dark to bright by values from 0 to 1."""
    panel = (
        statushistory.Panel()
        .title(title)
        .description(description)
        .datasource(DATA_SOURCE)
        .unit(SHARE)
        .decimals(0)
        .min(0)
        .max(1)
        .no_value(NO_DATA)
        .color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.CONTINUOUS_BLUES))
        .show_value(common_models.VisibilityMode.NEVER)
        .row_height(0.85)
        .col_width(0.94)
        .line_width(0)
        .fill_opacity(90)
        .legend(
            common.VizLegendOptions()
            .show_legend(show_legend=False)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
        )
        .time_from("24h")
        .hide_time_override(hide_time_override=True)
    )
    for query in queries:
        panel.with_target(target_of(query).range())
    return panel


def words_in_markdown(title: str, description: str, text: str) -> text_panel.Panel:
    """Return a panel of words."""
    return text_panel.Panel().title(title).description(description).mode(TextMode.MARKDOWN).content(text)


def said(texts: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    """Return the mapping of values to a text in a colour."""
    return models.ValueMap(
        {
            value: models.ValueMappingResult(text=text, color=color, index=place)
            for place, (value, (text, color)) in enumerate(texts.items())
        }
    )


def target_of(query: Query) -> prometheus.Dataquery:
    """Return a query as a panel takes it."""
    target = prometheus.Dataquery().datasource(DATA_SOURCE).expr(query.expression).ref_id(query.ref)
    if query.name:
        target.legend_format(query.name)
    if query.interval:
        target.interval(query.interval)
    if query.with_exemplars:
        target.exemplar(exemplar=True)
    return target


def properties(options: Mapping[str, object]) -> list[models.DynamicConfigValue]:
    """Return options of a field, by their names in Grafana, as an override takes them."""
    return [models.DynamicConfigValue(id_val=name, value=value) for name, value in options.items()]
