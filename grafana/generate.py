"""Writes the dashboards: `python grafana/generate.py` puts their JSON into grafana/dashboards and dashboards-v2."""  # noqa: INP001  a script

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from source.exporter_health import exporter_health
from source.frame import RUNBOOKS, Frame
from source.gpu_time import gpu_time
from source.invoices import invoices
from source.models_and_prices import models_and_prices
from source.month import month
from source.requests import requests
from source.schema_v2 import resource
from source.spend import spend

FOLDER = Path(__file__).parent / "dashboards"
FOLDER_V2 = Path(__file__).parent / "dashboards-v2"

OLDEST = "10.4.0"
"""The oldest Grafana that the classic form is for."""


def frames() -> tuple[Frame, ...]:
    """Return all dashboards."""
    return (month(), spend(), gpu_time(), models_and_prices(), requests(), invoices(), exporter_health())


def described(document: dict[str, object]) -> dict[str, object]:
    """Return a classic dashboard with what grafana.com asks of one: what it needs, and that nothing is to be filled in.

    The data source is a variable of the dashboard, so that it is chosen after the import as well as before.
    """
    panels = document["panels"]
    kinds = sorted({str(panel["type"]) for panel in panels} - {"row"}) if isinstance(panels, list) else []
    return {
        **document,
        "__inputs": [],
        "__elements": {},
        "__requires": [
            {"type": "grafana", "id": "grafana", "name": "Grafana", "version": OLDEST},
            {"type": "datasource", "id": "prometheus", "name": "Prometheus", "version": "1.0.0"},
            *({"type": "panel", "id": kind, "name": kind, "version": ""} for kind in kinds),
        ],
    }


def documents(runbooks: str = RUNBOOKS) -> Iterator[tuple[Path, str]]:
    """Yield the path and the JSON of each dashboard in each form, the same at every run.

    Args:
        runbooks: the address of the pages of docs/alerts.
    """
    for frame in frames():
        document = json.loads(JSONEncoder().encode(frame.build()))
        for placed in (*document["links"], *document["annotations"]["list"]):
            # The SDK knows one placement only, in a menu; without it, both stand beside the variables.
            placed.pop("placement", None)
        for folder, form in ((FOLDER, described(document)), (FOLDER_V2, resource(document))):
            text = json.dumps(form, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
            yield folder / f"{frame.uid}.json", text.replace(RUNBOOKS, runbooks)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Writes the dashboards into grafana/dashboards and grafana/dashboards-v2."
    )
    parser.add_argument("--runbooks", default=RUNBOOKS, metavar="URL", help="address of the pages of docs/alerts")
    for path, text in documents(parser.parse_args().runbooks.rstrip("/")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
