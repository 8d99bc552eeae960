"""Catalogue of every family: the single source of names, HELP texts and labels.

The documentation's table is rendered from here; dashboards and alert rules are checked against it. Not listed are the
process and Python families, whose names and HELP texts are prometheus_client's own.

Lives here: the families by subject (`spend`, `accounts`, `outlook`, `machines`, `exporter`), each a `family.Family`.
May import: `exporter.charges`. Begin reading at `family`, then `spend`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from exporter.metrics.catalogue.accounts import ACCOUNTS, NAMES
from exporter.metrics.catalogue.exporter import EXPORTER, FOCUS, OTLP, REMOTE
from exporter.metrics.catalogue.family import Family, Kind
from exporter.metrics.catalogue.machines import MACHINES
from exporter.metrics.catalogue.outlook import OUTLOOK
from exporter.metrics.catalogue.spend import BOOKED, CHARGES, PRICES, REQUESTS, TAGS

__all__ = ["CATALOGUE", "CHARGES", "DEFAULT_CHARGE_LABELS", "RENAMED", "Family", "Kind", "markdown_table"]

DEFAULT_CHARGE_LABELS = ("account", "team", "product", "model", "app", "gpu_class")
"""The dimensions that label what is derived from charges, unless the user selects others."""

RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "fal_counter_pending_usd": "fal_spend_pending_usd",
        "fal_restated_hours_total": "fal_restatements_total",
    }
)
"""Families by the names that they had, which are published beside the present ones for one version."""


def _former(name: str, present: Family) -> Family:
    text = f"Deprecated: renamed to {present.name}; this name will be removed in the next version. {present.help}"
    return replace(present, name=name, help=text)


_PRESENT = {
    family.name: family
    for families in (
        CHARGES,
        PRICES,
        TAGS,
        ACCOUNTS,
        REQUESTS,
        NAMES,
        OUTLOOK,
        MACHINES,
        FOCUS,
        BOOKED,
        REMOTE,
        OTLP,
        EXPORTER,
    )
    for family in families
}

CATALOGUE: Mapping[str, Family] = MappingProxyType(
    _PRESENT | {name: _former(name, _PRESENT[present]) for name, present in RENAMED.items()}
)
"""Every family by its full name, those of a former name last."""


def markdown_table(families: Iterable[Family] = CATALOGUE.values()) -> str:
    """Return the documentation's table of metrics."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for family in families:
        labels = [f"`{label}`" for label in family.labels]
        if family.charge_labels:
            labels.insert(0, "*charge labels*")
        if family.tag_labels:
            labels.append("*tag labels*")
        lines.append(f"| `{family.name}` | {family.kind} | {', '.join(labels)} | {family.help} |")
    return "\n".join(lines) + "\n"
