"""The flags of the command line, made from the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from exporter.settings.model import Settings
from exporter.settings.names import NEVER_A_FLAG, environment_name, flag_name
from exporter.settings.table import default_text


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting as a flag.

    Attributes:
        field: the setting's name in `Settings`.
        name: the flag, `--poll-interval`.
        placeholder: what stands for the value in the help; None for a switch, which takes none.
        description: what the setting means, its environment variable and its default.
    """

    field: str
    name: str
    placeholder: str | None
    description: str


def flags() -> Iterator[Flag]:
    """Yield a flag for every setting but keys and accounts."""
    for field, info in Settings.model_fields.items():
        if field in NEVER_A_FLAG:
            continue
        default = default_text(field)
        meaning = str(info.description).replace("`", "")
        yield Flag(
            field=field,
            name=flag_name(field),
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
