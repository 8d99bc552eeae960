"""Every family the exporter publishes: the single source of names, HELP texts and labels.

The README's table is rendered from here; dashboards and alert rules are checked against it. Not listed are the
process and Python families, whose names and HELP texts are prometheus_client's own.
"""

from collections.abc import Mapping
from types import MappingProxyType

from exporter.metrics.families.accounts import ACCOUNTS
from exporter.metrics.families.charges import CHARGES
from exporter.metrics.families.exporter import EXPORTER
from exporter.metrics.families.family import Family, Kind
from exporter.metrics.families.outlook import OUTLOOK
from exporter.metrics.families.prices import PRICES

__all__ = ["CATALOGUE", "CHARGES", "DEFAULT_CHARGE_LABELS", "Family", "Kind", "markdown_table"]

DEFAULT_CHARGE_LABELS = ("account", "team", "product", "model", "app", "gpu_class")
"""The dimensions that label what is derived from charges, unless the user selects others."""

CATALOGUE: Mapping[str, Family] = MappingProxyType(
    {family.name: family for family in CHARGES + PRICES + ACCOUNTS + OUTLOOK + EXPORTER}
)
"""Every family by its full name."""


def markdown_table() -> str:
    """Return the README's table of metrics."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in CATALOGUE.values():
        labels = [f"`{label}`" for label in family.labels]
        if family.charge_labels:
            labels.insert(0, "*charge labels*")
        lines.append(f"| `{family.name}` | {family.kind} | {', '.join(labels)} | {family.help} |")
    return "\n".join(lines) + "\n"
