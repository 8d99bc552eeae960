"""The rule files as data, and the tables of the documentation that are made from them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

RULES = Path(__file__).parent.parent / "deploy" / "prometheus"
FILES = ("thresholds", "recording", "alerts")


class Rule(NamedTuple):
    """One rule; durations are as written and empty where there is none, labels and annotations empty where none."""

    name: str
    is_alert: bool
    expression: str
    wait: str
    labels: dict[str, str]
    annotations: dict[str, str]


class Threshold(NamedTuple):
    """One threshold: its name after `fal:threshold_`, its default as written, and the comment above it."""

    name: str
    default: str
    meaning: str


def rules(file: str) -> Iterator[Rule]:
    for group in yaml.load((RULES / f"{file}.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["groups"]:
        for rule in group["rules"]:
            yield Rule(
                rule.get("alert") or rule["record"],
                "alert" in rule,
                rule["expr"],
                rule.get("for", ""),
                rule.get("labels", {}),
                rule.get("annotations", {}),
            )


def thresholds() -> Iterator[Threshold]:
    text = (RULES / "thresholds.yaml").read_text(encoding="utf-8")
    rule = r"^      # (.+)\n      - record: fal:threshold_(\w+)\n        expr: vector\(([\d.]+)\)\n"
    for meaning, name, default in re.findall(rule, text, flags=re.MULTILINE):
        yield Threshold(name, default, meaning)


def alerts_table() -> str:
    """Return the table of alerts, with links to their runbooks."""
    lines = ["| alert | severity | after | says |", "|---|---|---|---|"]
    for rule in rules("source/alerts"):
        said = _plain(rule.annotations["summary"])
        page = f"[`{rule.name}`](alerts/{rule.name}.md)"
        lines.append(f"| {page} | {rule.labels['severity']} | {rule.wait or 'at once'} | {said} |")
    return "\n".join(lines) + "\n"


def thresholds_table() -> str:
    """Return the table of thresholds."""
    lines = ["| threshold | default | meaning |", "|---|---|---|"]
    lines += [f"| `{threshold.name}` | {threshold.default} | {threshold.meaning} |" for threshold in thresholds()]
    return "\n".join(lines) + "\n"


def _plain(summary: str) -> str:
    """Return a summary, as it is written in the source, with its templates replaced by what they stand for."""
    for template, stands_for in (
        (r"\{\{ with printf .*?\{\{ end \}\}", "*percent*"),
        (r"\{\{ with \.Labels\.\w+ \}\}.*?\{\{ end \}\}|\{\{ of_account \}\}", ""),
        (r"\{\{ or \.Labels\.model \.Labels\.app \}\}", "*model*"),
        (r"\{\{ \.Labels\.(\w+)(?: \| bill)? \}\}", r"*\1*"),
        (r"\{\{ if lt \$value 0\.0 \}\}(\w+)\{\{ else \}\}(\w+)\{\{ end \}\}", r"\2 or \1"),
        (r"\{\{ \$value \| duration \}\}", "*duration*"),
        (r"\{\{ \$value \| humanizePercentage \}\}", "*percent*"),
        (r"\{\{ \$value \| usd(?:_unsigned)? \}\}", "*amount*"),
        (r"\{\{ \$value \| price \}\}", "*price*"),
        (r"\{\{ \$value \| printf[^}]*\}\}", "*N*"),
    ):
        summary = re.sub(template, stands_for, summary)
    assert "{{" not in summary, summary
    return summary
