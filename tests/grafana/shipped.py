"""The dashboards as they are shipped, and the queries that they ask."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted((REPOSITORY / "grafana" / "dashboards").glob("*.json"))
DOCUMENTS_V2 = sorted((REPOSITORY / "grafana" / "dashboards-v2").glob("*.json"))

Json = dict[str, object]


def objects(found: object) -> list[Json]:
    """Return the objects of a JSON array; none where there is no array."""
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def text(document: Json, name: str) -> str:
    found = document.get(name, "")
    assert isinstance(found, str), f"{name} is {found!r}"
    return found


@dataclass(frozen=True)
class Dashboard:
    document: Json

    @property
    def uid(self) -> str:
        return text(self.document, "uid")

    @property
    def panels(self) -> list[Json]:
        """All panels but the headings of rows."""
        return [panel for panel in self.placed if panel["type"] != "row"]

    @property
    def placed(self) -> list[Json]:
        """All panels, those of a folded row after its heading."""
        return [
            item for panel in objects(self.document["panels"]) for item in (panel, *objects(panel.get("panels", [])))
        ]

    @property
    def variables(self) -> list[Json]:
        templating = self.document["templating"]
        return objects(templating["list"]) if isinstance(templating, dict) else []

    @property
    def annotations(self) -> list[Json]:
        found = self.document["annotations"]
        return objects(found["list"]) if isinstance(found, dict) else []


@dataclass(frozen=True)
class Asked:
    """A query with where it is asked: of a panel, an annotation or a variable."""

    dashboard: str
    title: str
    ref: str
    expression: str
    kind: Literal["instant", "range", "variable"]
    step: int = 60

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.title or 'the banner'}: {self.ref}"


def dashboards() -> list[Dashboard]:
    return [Dashboard(json.loads(path.read_text(encoding="utf-8"))) for path in DOCUMENTS]


_STEPS = {"": 60, "5m": 300, "1h": 3600, "1d": 86400}


def asked_by(dashboard: Dashboard) -> Iterator[Asked]:
    for panel in dashboard.panels:
        for target in objects(panel.get("targets")):
            kind: Literal["instant", "range"] = "instant" if target.get("instant") else "range"
            step = _STEPS[text(target, "interval")]
            yield Asked(dashboard.uid, text(panel, "title"), text(target, "refId"), text(target, "expr"), kind, step)
    for annotation in dashboard.annotations:
        yield Asked(dashboard.uid, f"marks: {annotation['name']}", "", text(annotation, "expr"), "range", 3600)
    for variable in dashboard.variables:
        if variable["type"] == "query":
            name = text(variable, "name")
            yield Asked(dashboard.uid, f"variable {name}", name, text(variable, "query"), "variable")


def resolved(expression: str, variables: Mapping[str, str], *, start: float, end: float, step: int = 60) -> str:
    """Return PromQL with Grafana's variables replaced as Grafana replaces them.

    Args:
        expression: what a dashboard asks.
        variables: values by name; a selection is a regular expression.
        start, end: of the time range, in seconds since the epoch.
        step: in seconds.
    """
    values = {
        "__from:date:seconds": f"{start:.0f}",
        "__to:date:seconds": f"{end:.0f}",
        "__range": f"{end - start:.0f}s",
        "__interval": f"{step}s",
        "__rate_interval": f"{max(step + 15, 60)}s",
        **variables,
    }

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name.isdigit():
            return found[0]
        assert name in values, f"the variable {name} does not exist"
        return values[name]

    return re.sub(r"\$\{([^}]+)\}|\$(\w+)", value, expression)
