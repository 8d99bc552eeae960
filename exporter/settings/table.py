"""The settings as a table for the documentation and as flags of the command line.

The settings as the documentation's table shows them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from zoneinfo import ZoneInfo

from exporter.settings.model import SettingFields
from exporter.settings.parsing import (
    FILE_ONLY,
    NEVER_A_FLAG,
    NEVER_IN_FILE,
    Listen,
    environment_name,
    file_name,
    flag_name,
    format_duration,
    format_size,
)


def settings_table() -> str:
    """Return a Markdown table of every setting: its names, its default, what it means."""
    lines = ["| Environment | Flag | File | Default | Meaning |", "|---|---|---|---|---|"]
    for field, info in SettingFields.model_fields.items():
        cells = (
            "" if field in FILE_ONLY else f"`{environment_name(field)}`",
            "" if field in NEVER_A_FLAG else f"`{flag_name(field)}`",
            "" if field in NEVER_IN_FILE else f"`{file_name(field)}`",
            f"`{default}`" if (default := default_text(field)) else "",
            str(info.description),
        )
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def default_text(field: str) -> str:
    """Return a setting's default as a user would write it, or the empty string where it has none."""
    match SettingFields.model_fields[field].default:
        case None | ():
            return "auto" if field in {"sources", "history"} else ""
        case timedelta() as duration:
            return format_duration(duration)
        case ZoneInfo() | Listen() as named:
            return str(named)
        case tuple() as names:
            return ",".join(names)
        case bool() as flag:
            return str(flag).lower()
        case value:
            return format_size(value) if field == "max_answer_size" else str(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting as a flag.

    Attributes:
        field: the setting's name in `SettingFields`.
        name: the flag, `--poll-interval`.
        also: further names of the flag.
        placeholder: what stands for the value in the help; None for a switch, which takes none.
        description: what the setting means, its environment variable and its default.
    """

    field: str
    name: str
    also: tuple[str, ...]
    placeholder: str | None
    description: str


_ALSO: Mapping[str, tuple[str, ...]] = MappingProxyType({"web_config_file": ("--web.config.file",)})
"""Names by which other exporters know a flag."""


def flags() -> Iterator[Flag]:
    """Yield a flag for every setting but keys and accounts."""
    for field, info in SettingFields.model_fields.items():
        if field in NEVER_A_FLAG:
            continue
        default = default_text(field)
        meaning = str(info.description).replace("`", "")
        yield Flag(
            field=field,
            name=flag_name(field),
            also=_ALSO.get(field, ()),
            placeholder=_placeholder(field, info.annotation),
            description=f"{meaning} [{environment_name(field)}{f'; default: {default}' if default else ''}]",
        )


def _placeholder(field: str, kind: object) -> str | None:
    if kind is bool:
        return None
    if field.endswith("_file"):
        return "FILE"
    if field == "max_answer_size":
        return "SIZE"
    if kind in {timedelta, timedelta | None}:
        return "DURATION"
    return "NUMBER" if kind is int else "TEXT"
