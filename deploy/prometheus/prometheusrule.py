"""The rule files as PrometheusRule objects for the Prometheus Operator; run it to write them to prometheusrule.yaml."""  # noqa: INP001  a script, not a module

from pathlib import Path
from textwrap import indent

FOLDER = Path(__file__).parent
TARGET = FOLDER / "prometheusrule.yaml"

_OBJECT = """\
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: fal-{name}
  labels:
    app.kubernetes.io/name: fal-exporter
spec:
"""


def prometheus_rules() -> str:
    """Return one object for each rule file, its text unchanged, so that the thresholds can be replaced alone."""
    objects = []
    for name in ("thresholds", "recording", "alerts"):
        text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        objects.append(_OBJECT.format(name=name) + indent(text, "  "))
    return "# Made from the rule files by prometheusrule.py; change those.\n---\n" + "---\n".join(objects)


if __name__ == "__main__":
    TARGET.write_text(prometheus_rules(), encoding="utf-8")
