"""Frame that all dashboards have in common: variables, links, annotations, and the grid."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard, prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from source.panels import DATA_SOURCE
from source.queries import DIMENSIONS, FROM, TO, of_accounts

TAG = "fal-exporter"
"""Dashboards of this tag link to each other."""

RUNBOOKS = "https://git.example.com/fal-exporter/docs/alerts"
"""The pages of docs/alerts, as in the alerts; `generate.py --runbooks` takes another address."""

_WIDTH = 24
_TITLES = {
    "account": "Account",
    "team": "Team",
    "product": "Product",
    "model": "Model",
    "app": "App",
    "gpu_class": "GPU class",
}

_REPEATED = {
    "ranked": ("Rankings", "The labels that any charge of the month has."),
    "moved": ("Movers", "The labels and tags that the months are compared by."),
    "tag": ("Tags", "The tags that spend is read by."),
}
"""Titles and descriptions of the variables that panels are repeated over."""

_RANGES = (
    ("Month to date", "now/M", "now"),
    ("Last month", "now-1M/M", "now-1M/M"),
    ("Today so far", "now/d", "now"),
    ("Last 24 hours", "now-24h", "now"),
    ("Last 7 days", "now-7d", "now"),
    ("Last 30 days", "now-30d", "now"),
    ("Last 90 days", "now-90d", "now"),
)
"""Choices of the time picker; none ends in the future, where no figure can be asked for."""


@dataclass(frozen=True)
class Row:
    """Panels side by side, with their widths, which make up 24; below a heading where there is one.

    Attributes:
        is_folded: whether what is below the heading is shown only when it is asked for: what few people use.
    """

    height: int
    panels: Sequence[tuple[Builder[models.Panel], int]]
    heading: str = ""
    is_folded: bool = False


@dataclass(frozen=True)
class Frame:
    """A dashboard.

    Attributes:
        uid: under which links and provisioning know it; never changed.
        title, description: as Grafana shows them.
        rows: from top to bottom.
        labels: which of DIMENSIONS can be selected.
        constants: values that queries and links take from hidden variables, by name.
        asked: values that the reader may change, by name: title, first value and meaning.
        repeats: what variables repeat panels over: by the variable's name PromQL whose series carry a label of that
            name, with the value, and the label `title`.
        stacked_by: whether the reader chooses the label by which graphs are stacked; what it is at first.
        annotations: what is marked on the graphs.
        start: of the time range.
    """

    uid: str
    title: str
    description: str
    rows: Sequence[Row]
    labels: Sequence[str] = DIMENSIONS
    constants: Mapping[str, str] = field(default_factory=dict)
    asked: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    repeats: Mapping[str, str] = field(default_factory=dict)
    stacked_by: str = ""
    annotations: Sequence[dashboard.AnnotationQuery] = ()
    start: str = "now/M"

    def build(self) -> models.Dashboard:
        """Return the dashboard with its panels in place and numbered."""
        built = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .timezone("browser")
            .time(self.start, "now")
            .refresh("5m")
            .timepicker(
                dashboard.TimePicker().quick_ranges(
                    [dashboard.TimeOption().display(name).from_val(start).to(end) for name, start, end in _RANGES]
                )
            )
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .variables(self._variables())
            .link(
                dashboard.DashboardLink("fal")
                .type(models.DashboardLinkType.DASHBOARDS)
                .tags([TAG])
                .include_vars(include_vars=True)
                .keep_time(keep_time=True)
            )
            .annotations(list(self.annotations))
            .build()
        )
        built.panels = self._panels()
        for variable in built.templating.list_val or ():
            if variable.type_val == models.VariableType.CONSTANT:
                variable.hide, variable.skip_url_sync = models.VariableHide.HIDE_VARIABLE, True
        return built

    def _variables(self) -> list[Builder[models.VariableModel]]:
        found: list[Builder[models.VariableModel]] = [
            dashboard.DatasourceVariable("datasource")
            .label("Data source")
            .type("prometheus")
            .hide(models.VariableHide.HIDE_LABEL)
            .description("The Prometheus that scrapes fal-exporter.")
        ]
        constants = {name: ".*" for name in DIMENSIONS if name not in self.labels} | {"runbooks": RUNBOOKS}
        found += [
            dashboard.ConstantVariable(name).value(value)
            for name, value in (constants | dict(self.constants)).items()
            if self._uses(name)
        ]
        for name, (title, value, meaning) in self.asked.items():
            found.append(dashboard.TextBoxVariable(name).label(title).default_value(value).description(meaning))
        found += [
            dashboard.QueryVariable(name)
            .label(_REPEATED[name][0])
            .hide(models.VariableHide.HIDE_VARIABLE)
            .description(_REPEATED[name][1])
            .datasource(DATA_SOURCE)
            .query(f"query_result({query})")
            .definition(f"query_result({query})")
            .regex(f'/{name}="(?<value>[^"]+)".*title="(?<text>[^"]+)"/')
            .multi(multi=True)
            .include_all(include_all=True)
            .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
            .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
            for name, query in self.repeats.items()
        ]
        if self.stacked_by:
            options = [
                models.VariableOption(selected=name == self.stacked_by, text=title, value=name)
                for name, title in _TITLES.items()
            ]
            found.append(
                dashboard.CustomVariable("by")
                .label("By")
                .description("The label that the bars tell apart.")
                .values(", ".join(f"{option.text} : {option.value}" for option in options))
                .options(options)
                .current(next(option for option in options if option.selected))
            )
        for place, name in enumerate(self.labels):
            earlier = ",".join(f'{label}=~"${label}"' for label in self.labels[:place])
            family = f"fal_spend_usd_total{{{earlier}}}" if earlier else "fal_source_up"
            found.append(
                dashboard.QueryVariable(name)
                .label(_TITLES[name])
                .datasource(DATA_SOURCE)
                .query(f"label_values({family}, {name})")
                .definition(f"label_values({family}, {name})")
                .multi(multi=True)
                .include_all(include_all=True)
                .all_value(".*")
                .current(models.VariableOption(selected=True, text=["All"], value=["$__all"]))
                .refresh(models.VariableRefresh.ON_DASHBOARD_LOAD)
                .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
            )
        return found

    def _uses(self, name: str) -> bool:
        """Tell whether a query or a link takes the value of a variable."""
        panels = "".join(JSONEncoder().encode(builder.build()) for row in self.rows for builder, _ in row.panels)
        return re.search(rf"\$\{{?{name}\b", panels) is not None

    def _panels(self) -> list[models.Panel | models.RowPanel]:
        placed: list[models.Panel | models.RowPanel] = []
        folded: list[models.Panel] | None = None
        top = count = 0
        for row in self.rows:
            if row.heading:
                count += 1
                heading = dashboard.Row(row.heading).id(count).collapsed(collapsed=row.is_folded).build()
                heading.grid_pos = models.GridPos(h=1, w=_WIDTH, x=0, y=top)
                placed.append(heading)
                folded = heading.panels if row.is_folded else None
                top += 1
            left = 0
            for builder, width in row.panels:
                count += 1
                panel = builder.build()
                panel.id_val = count
                panel.grid_pos = models.GridPos(h=row.height, w=width, x=left, y=top)
                if folded is None:
                    placed.append(panel)
                else:
                    folded.append(panel)
                left += width
            repeated = len(row.panels) == 1 and bool(panel.repeat)
            if left != _WIDTH and not repeated:
                raise ValueError(f"{self.uid}: the panels of a row are {left} wide, not {_WIDTH}")
            top += row.height
        if folded is None and any(row.is_folded for row in self.rows):
            raise ValueError(f"{self.uid}: only the last heading can be folded; what follows would have to move up")
        return placed


def happened(
    name: str, color: str, metric: str, labels: Sequence[str], *, title: str, text: str
) -> dashboard.AnnotationQuery:
    """Return marks at the instants that a family of timestamps tells of, as far as they lie in the time range.

    Args:
        name: as the reader switches it on and off.
        color: of the marks.
        metric: the family, in seconds since the epoch.
        labels: what the marks tell apart.
        title: what a mark says first; label names in double braces.
        text: what it says next.
    """
    since = f"{of_accounts(metric, labels, at=f'@ {TO}')} >= {FROM}"
    return _annotation(name, color, f"1000 * ({since})", title, text).use_value_for_time(use_value_for_time=True)


def whenever(name: str, color: str, expression: str, *, title: str, text: str) -> dashboard.AnnotationQuery:
    """Return marks at the hours in which an expression has a value of 1 or more; otherwise as `happened`."""
    return _annotation(name, color, expression, title, text).step("1h")


def _annotation(name: str, color: str, expression: str, title: str, text: str) -> dashboard.AnnotationQuery:
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATA_SOURCE)
        .enable(enable=True)
        .hide(hide=False)
        .icon_color(color)
        .expr(expression)
        .title_format(title)
        .text_format(text)
        .target(prometheus.Dataquery().expr(expression).ref_id("Annotation").interval("1h").range())
    )
