"""The tables of the documentation as the code has them; run it to write them into their pages."""

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import click
from alert_tables import alerts_table, thresholds_table

from exporter.cli import commands
from exporter.fal.errors import REASONS, ApiError
from exporter.focus.check_report import rules_text
from exporter.focus.columns import VERSIONS
from exporter.focus.rules.table import LATEST, Kind, rules, rules_of
from exporter.metrics.catalogue import markdown_table
from exporter.metrics.remote_write import HOURLY
from exporter.queries.exact_json import schemas
from exporter.settings import settings_table
from exporter.web.application import LANDING, METRICS
from exporter.web.rest.calls import CALLS
from exporter.web.rest.entrance import DOCS as API_PAGE
from exporter.web.rest.entrance import OPENAPI

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"

ROUTES: Mapping[str, str] = MappingProxyType(
    {
        METRICS: "the exposition: text 0.0.4, OpenMetrics 1.0 or delimited protobuf by `Accept`, gzip by "
        "`Accept-Encoding`",
        LANDING: "the landing page; `?refresh=5` reloads it every five seconds, `?account=text` shows those accounts; "
        "with `Accept: text/plain` its figures as text",
        "/-/healthy": "200 while the process works, even without its ledger; 503 once a restart would help",
        "/healthz": "the same",
        "/-/ready": "503 until the current month has been loaded, then 200, even while fal is unavailable",
        "/readyz": "the same",
        **{call.path: call.told for call in CALLS},
        OPENAPI: "the calls above under `/v1`, described in OpenAPI 3.1",
        API_PAGE: "the same as a web page",
    }
)
"""Every route and what it answers."""


class Table(NamedTuple):
    """A table, and the page of `docs` that has it between two comments with the table's name."""

    page: str
    made: Callable[[], str]


def commands_table() -> str:
    lines = ["| command | what it does |", "|---|---|", *_rows(commands, "fal-exporter")]
    return "\n".join(lines) + "\n"


def _rows(group: click.Group, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _rows(command, f"{prefix} {name}")
        elif not command.hidden:
            yield f"| `{prefix} {name}` | {command.get_short_help_str(200)} |"


def routes_table() -> str:
    lines = ["| route | answers |", "|---|---|"]
    lines += [f"| `{path}` | {meaning} |" for path, meaning in ROUTES.items()]
    return "\n".join(lines) + "\n"


def reasons_table() -> str:
    """Return a table of why calls to fal fail, by the value of the label `reason`."""
    kinds = {kind.reason: kind for kind in _descendants(ApiError) if "reason" in vars(kind)}
    lines = ["| reason | meaning | what to do |", "|---|---|---|"]
    for reason in REASONS:
        kind = kinds[reason]
        # The classes that only group others say no more than the common advice.
        if not kind.__subclasses__():
            meaning = (kind.__doc__ or "").splitlines()[0]
            lines.append(f"| `{reason}` | {meaning} | {kind.advice[0].upper()}{kind.advice[1:]}. |")
    return "\n".join(lines) + "\n"


def _descendants(kind: type[ApiError]) -> Iterator[type[ApiError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


def fields_table() -> str:
    """Return a table of the fields of all answers of REST, as their models declare them."""
    described = json.loads(json.dumps(schemas([call.model for call in CALLS if call.model is not None], "{model}")))
    lines = ["| document | field | value | meaning |", "|---|---|---|---|"]
    for name, schema in described.items():
        for field, part in schema.get("properties", {}).items():
            meaning = part["description"] if "description" in part else described[part["$ref"]]["description"]
            lines.append(f"| `{name}` | `{field}` | {_value(part)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _value(schema: object) -> str:
    """Return in words what a field's value is."""
    match schema:
        case {"$ref": model}:
            words = f"`{model}`"
        case {"anyOf": [inner, {"type": "null"}]}:
            words = f"{_value(inner)} or null"
        case {"type": [inner, "null"], **rest}:
            words = f"{_value({**rest, 'type': inner})} or null"
        case {"type": ["number", "string", *null]}:
            words = "amount or null" if null else "amount"
        case {"type": "array", "items": items}:
            words = f"list of {_value(items)}"
        case {"type": "object", "additionalProperties": values}:
            words = f"map of {_value(values)}"
        case {"type": "string", "format": "date-time"}:
            words = "instant"
        case {"type": str(name)}:
            words = {"string": "text"}.get(name, name)
        case {"description": str(), **rest} if not rest:
            words = "any value"
        case _:
            raise ValueError(f"there are no words for {schema}")
    return words


def coverage_table() -> str:
    """Return a table of the rules of every version by what becomes of them."""
    lines = ["| rules of | " + " | ".join(VERSIONS) + " |", "|---|" + "---|" * len(VERSIONS)]
    for kind, name in (
        (None, "checked"),
        (Kind.UNDECIDABLE, "no file can decide"),
        (Kind.PERMISSION, "only allow something"),
        (Kind.COMPOSITE, "consist of others"),
    ):
        counts = [
            sum(rule.kind.is_decidable if kind is None else rule.kind is kind for rule in rules_of(version))
            for version in VERSIONS
        ]
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"


TABLES: Mapping[str, Table] = {
    "focus coverage": Table("focus-rules.md", coverage_table),
    "focus rules": Table("focus-rules.md", lambda: rules_text(LATEST, rules()) + "\n"),
    "commands": Table("commands.md", commands_table),
    "settings": Table("configuration.md", settings_table),
    "metrics": Table("metrics.md", markdown_table),
    "hourly samples": Table("remote-write.md", lambda: markdown_table(chain.from_iterable(HOURLY.values()))),
    "alerts": Table("alerts.md", alerts_table),
    "thresholds": Table("alerts.md", thresholds_table),
    "routes": Table("rest.md", routes_table),
    "fields": Table("rest.md", fields_table),
    "reasons": Table("troubleshooting.md", reasons_table),
}


def with_table(text: str, name: str) -> str:
    """Return a page with one of its tables as the code has it."""
    before, begin, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- end of {name} -->")
    if not (begin and end):
        raise ValueError(f"{TABLES[name].page} has no place for the table of {name}")
    return f"{before}{begin}{TABLES[name].made()}{end}{after}"


if __name__ == "__main__":
    for each, table in TABLES.items():
        page = DOCS / table.page
        page.write_text(with_table(page.read_text(encoding="utf-8"), each), encoding="utf-8")
