"""Dashboards as release files, in the form that grafana.com takes and that Grafana's import asks questions for.

`python deploy/release/dashboards.py FOLDER` writes one file for each dashboard of grafana/dashboards. The data source
and the address of the pages of alerts become inputs (`__inputs`): the import asks for them, and they remain variables.
"""  # noqa: INP001  a script

import argparse
import json
from pathlib import Path

DASHBOARDS = Path(__file__).parents[2] / "grafana" / "dashboards"
DATA_SOURCE, RUNBOOKS = "DS_PROMETHEUS", "VAR_RUNBOOKS"

Document = dict[str, object]


def release_form(dashboard: Document) -> Document:
    """Return a dashboard whose data source and address of runbooks are asked for at its import."""
    templating = dashboard["templating"]
    if not isinstance(templating, dict):
        raise TypeError("a dashboard's templating is an object")
    variables = [dict(variable) for variable in templating["list"]]
    inputs: list[Document] = []
    for variable in variables:
        kind, name = variable["type"], variable["name"]
        if kind == "datasource":
            asked = "${" + DATA_SOURCE + "}"
            inputs.append(
                {
                    "name": DATA_SOURCE,
                    "label": variable["label"],
                    "description": variable["description"],
                    "type": "datasource",
                    "pluginId": variable["query"],
                    "pluginName": "Prometheus",
                }
            )
            variable["current"] = {"selected": True, "text": asked, "value": asked}
        elif (kind, name) == ("constant", "runbooks"):
            asked = "${" + RUNBOOKS + "}"
            inputs.append(
                {
                    "name": RUNBOOKS,
                    "label": "Address of the pages of docs/alerts",
                    "description": "Alerts link to their page below it.",
                    "type": "constant",
                    "value": variable["query"],
                }
            )
            variable["query"] = asked
            variable["current"] = {"selected": True, "text": asked, "value": asked}
            variable["options"] = [{"selected": True, "text": asked, "value": asked}]
    # An id belongs to one Grafana alone: with it, an import would replace another dashboard there.
    return {**dashboard, "id": None, "__inputs": inputs, "templating": {**templating, "list": variables}}


def write(folder: Path) -> list[Path]:
    """Write all release files into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for path in sorted(DASHBOARDS.glob("*.json")):
        document = release_form(json.loads(path.read_text(encoding="utf-8")))
        target = folder / f"{path.stem}.grafana.json"
        target.write_text(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(target)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the dashboards as release files.")
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
