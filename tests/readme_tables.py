"""The tables of the README as the code has them; run it to write them into the README."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click
from alert_tables import alerts_table, thresholds_table

from exporter.cli import commands
from exporter.metrics.catalogue import markdown_table
from exporter.settings import settings_table
from exporter.web.application import ROUTES

README = Path(__file__).parent.parent / "README.md"


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


TABLES: Mapping[str, Callable[[], str]] = {
    "commands": commands_table,
    "settings": settings_table,
    "metrics": markdown_table,
    "alerts": alerts_table,
    "thresholds": thresholds_table,
    "routes": routes_table,
}


def with_tables(text: str) -> str:
    """Return the README with every table as the code has it."""
    for name, table in TABLES.items():
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, _, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}<!-- {name} -->\n{table()}<!-- end of {name} -->{after}"
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
