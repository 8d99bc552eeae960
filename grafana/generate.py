"""Writes the dashboards: `python grafana/generate.py` puts their JSON into grafana/dashboards."""  # noqa: INP001  a script

import json
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from source.exporter_health import exporter_health
from source.frame import Frame
from source.gpu_time import gpu_time
from source.invoices import invoices
from source.models_and_prices import models_and_prices
from source.spend import spend

FOLDER = Path(__file__).parent / "dashboards"


def frames() -> tuple[Frame, ...]:
    """Return all dashboards."""
    return (spend(), gpu_time(), models_and_prices(), invoices(), exporter_health())


def documents() -> Iterator[tuple[str, str]]:
    """Yield each dashboard's file name and JSON, the same at every run."""
    for frame in frames():
        document = json.loads(JSONEncoder().encode(frame.build()))
        for placed in (*document["links"], *document["annotations"]["list"]):
            # The SDK knows one placement only, in a menu; without it, both stand beside the variables.
            placed.pop("placement", None)
        yield f"{frame.uid}.json", json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, text in documents():
        (FOLDER / name).write_text(text, encoding="utf-8")
