"""The dashboards in Grafana 12's schema v2, made from the classic form: the same panels, queries and variables."""

from collections.abc import Mapping
from typing import TypeAlias

Json: TypeAlias = dict[str, object]

API = "dashboard.grafana.app/v2beta1"

_HIDE = {0: "dontHide", 1: "hideLabel", 2: "hideVariable"}
_REFRESH = {0: "never", 1: "onDashboardLoad", 2: "onTimeRangeChanged"}
_SORT = {0: "disabled", 5: "alphabeticalCaseInsensitiveAsc"}
_CURSOR = {0: "Off", 1: "Crosshair", 2: "Tooltip"}


def resource(classic: Json) -> Json:
    """Return a dashboard as the resource that Grafana's API, and its provisioning from Git, take."""
    return {"apiVersion": API, "kind": "Dashboard", "metadata": {"name": classic["uid"]}, "spec": spec(classic)}


def spec(classic: Json) -> Json:
    """Return a classic dashboard in schema v2."""
    placed = [item for panel in _objects(classic["panels"]) for item in (panel, *_objects(panel.get("panels", [])))]
    time = _object(classic["time"])
    return {
        "title": classic["title"],
        "description": classic["description"],
        "tags": classic["tags"],
        "editable": classic["editable"],
        "cursorSync": _CURSOR[_integer(classic["graphTooltip"])],
        "preload": False,
        "annotations": [_annotation(item) for item in _objects(_object(classic["annotations"]).get("list"))],
        "elements": {_name(panel): _panel(panel) for panel in placed if panel["type"] != "row"},
        "layout": _layout(placed),
        "links": [_link(link) for link in _objects(classic["links"])],
        "timeSettings": {
            "timezone": classic["timezone"],
            "from": time["from"],
            "to": time["to"],
            "autoRefresh": classic["refresh"],
            "autoRefreshIntervals": ["5s", "10s", "30s", "1m", "5m", "15m", "30m", "1h", "2h", "1d"],
            "hideTimepicker": False,
            "fiscalYearStartMonth": 0,
            "quickRanges": _object(classic["timepicker"])["quick_ranges"],
        },
        "variables": [_variable(variable) for variable in _objects(_object(classic["templating"])["list"])],
    }


def _object(found: object) -> Json:
    if not isinstance(found, dict):
        raise TypeError(f"an object was expected, not {found!r}")
    return found


def _objects(found: object) -> list[Json]:
    return [_object(item) for item in found] if isinstance(found, list) else []


def _integer(found: object) -> int:
    if not isinstance(found, int):
        raise TypeError(f"a whole number was expected, not {found!r}")
    return found


def _without_nothing(found: Mapping[str, object]) -> Json:
    return {name: value for name, value in found.items() if value is not None}


def _name(panel: Json) -> str:
    return f"panel-{panel['id']}"


def _panel(panel: Json) -> Json:
    options = _without_nothing(
        {name: panel.get(name) for name in ("timeFrom", "timeShift", "maxDataPoints", "hideTimeOverride", "interval")}
    )
    return {
        "kind": "Panel",
        "spec": {
            "id": panel["id"],
            "title": panel["title"],
            "description": panel["description"],
            "links": [
                {"title": link["title"], "url": link["url"], "targetBlank": link.get("targetBlank", False)}
                for link in _objects(panel.get("links"))
            ],
            "data": {
                "kind": "QueryGroup",
                "spec": {
                    "queries": [_query(target) for target in _objects(panel.get("targets"))],
                    "transformations": [
                        {"kind": step["id"], "spec": step} for step in _objects(panel.get("transformations"))
                    ],
                    "queryOptions": options,
                },
            },
            "vizConfig": {
                "kind": "VizConfig",
                "group": panel["type"],
                "version": "",
                "spec": {
                    "options": panel.get("options", {}),
                    "fieldConfig": _fields(panel),
                },
            },
        },
    }


def _fields(panel: Json) -> Json:
    found = _object(panel.get("fieldConfig") or {})
    return {
        "defaults": {"custom": {}, **_object(found.get("defaults") or {})},
        "overrides": _objects(found.get("overrides")),
    }


def _query(target: Json) -> Json:
    spec = {name: value for name, value in target.items() if name not in {"datasource", "refId"}}
    return {
        "kind": "PanelQuery",
        "spec": {"refId": target["refId"], "hidden": False, "query": _data_query(spec, target["datasource"])},
    }


def _data_query(spec: Json, source: object) -> Json:
    of = _object(source)
    return {
        "kind": "DataQuery",
        "group": of["type"],
        "version": "v0",
        "datasource": {"name": of["uid"]},
        "spec": spec,
    }


def _layout(placed: list[Json]) -> Json:
    """Return the rows with a heading as rows of their own, and what stands above them as one without."""
    rows: list[tuple[str, int, list[Json]]] = []
    folded = {panel["title"] for panel in placed if panel.get("collapsed")}
    for panel in placed:
        place = _object(panel["gridPos"])
        if panel["type"] == "row":
            rows.append((str(panel["title"]), _integer(place["y"]) + 1, []))
        else:
            if not rows:
                rows.append(("", _integer(place["y"]), []))
            rows[-1][2].append(panel)
    grids = [_grid(panels, top) for _, top, panels in rows]
    if len(rows) == 1 and not rows[0][0]:
        return grids[0]
    return {
        "kind": "RowsLayout",
        "spec": {
            "rows": [
                {
                    "kind": "RowsLayoutRow",
                    "spec": {
                        "title": title,
                        "collapse": title in folded,
                        "hideHeader": not title,
                        "layout": grid,
                    },
                }
                for (title, _, _), grid in zip(rows, grids, strict=True)
            ]
        },
    }


def _grid(panels: list[Json], top: int) -> Json:
    return {"kind": "GridLayout", "spec": {"items": [_item(panel, top) for panel in panels]}}


def _item(panel: Json, top: int) -> Json:
    place = _object(panel["gridPos"])
    repeat = None
    if "repeat" in panel:
        repeat = {
            "mode": "variable",
            "value": panel["repeat"],
            "direction": panel["repeatDirection"],
            "maxPerRow": panel["maxPerRow"],
        }
    return {
        "kind": "GridLayoutItem",
        "spec": _without_nothing(
            {
                "x": place["x"],
                "y": _integer(place["y"]) - top,
                "width": place["w"],
                "height": place["h"],
                "element": {"kind": "ElementReference", "name": _name(panel)},
                "repeat": repeat,
            }
        ),
    }


def _annotation(annotation: Json) -> Json:
    own = {"name", "enable", "hide", "iconColor", "datasource", "target"}
    target = {
        name: value for name, value in _object(annotation["target"]).items() if name not in {"datasource", "refId"}
    }
    return {
        "kind": "AnnotationQuery",
        "spec": {
            "query": _data_query(target, annotation["datasource"]),
            "enable": annotation["enable"],
            "hide": annotation["hide"],
            "iconColor": annotation["iconColor"],
            "name": annotation["name"],
            "builtIn": False,
            "legacyOptions": {name: value for name, value in annotation.items() if name not in own},
        },
    }


def _link(link: Json) -> Json:
    return {"icon": "", "tooltip": "", "url": "", **link}


def _variable(variable: Json) -> Json:
    common = {
        "name": variable["name"],
        "label": variable.get("label"),
        "description": variable.get("description"),
        "hide": _HIDE[_integer(variable.get("hide", 0))],
        "skipUrlSync": variable.get("skipUrlSync", False),
    }
    many = {
        "multi": variable.get("multi", False),
        "includeAll": variable.get("includeAll", False),
        "allValue": variable.get("allValue"),
        "allowCustomValue": True,
        "options": variable.get("options", []),
    }
    query = variable.get("query", "")
    current = _option(variable.get("current"), query)
    kind, own = {
        "datasource": (
            "DatasourceVariable",
            {
                **many,
                "pluginId": query,
                "refresh": "onDashboardLoad",
                "regex": "",
                "current": {"text": "", "value": ""},
            },
        ),
        "custom": ("CustomVariable", {**many, "query": query, "current": current}),
        "constant": ("ConstantVariable", {"query": query, "current": current}),
        "textbox": ("TextVariable", {"query": query, "current": current}),
        "query": (
            "QueryVariable",
            {
                **many,
                "query": _data_query({"query": query, "refId": variable["name"]}, variable.get("datasource") or {}),
                "definition": variable.get("definition"),
                "regex": variable.get("regex", ""),
                "regexApplyTo": "value",
                "refresh": _REFRESH[_integer(variable.get("refresh", 0))],
                "sort": _SORT[_integer(variable.get("sort", 0))],
                "current": current,
            },
        )
        if variable["type"] == "query"
        else ("", {}),
    }[str(variable["type"])]
    return {"kind": kind, "spec": _without_nothing({**common, **own})}


def _option(current: object, query: object) -> Json:
    if isinstance(current, dict) and current:
        return {name: current[name] for name in ("selected", "text", "value") if name in current}
    return {"text": query, "value": query}
