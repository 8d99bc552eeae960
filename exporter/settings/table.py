"""The settings as the README's table shows them."""

from datetime import timedelta
from zoneinfo import ZoneInfo

from exporter.settings.addresses import Listen
from exporter.settings.model import Settings
from exporter.settings.names import FILE_ONLY, NEVER_A_FLAG, NEVER_IN_FILE, environment_name, file_name, flag_name
from exporter.settings.quantities import format_duration, format_size


def settings_table() -> str:
    """Return a Markdown table of every setting: its names, its default, what it means."""
    lines = ["| Environment | Flag | File | Default | Meaning |", "|---|---|---|---|---|"]
    for field, info in Settings.model_fields.items():
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
    match Settings.model_fields[field].default:
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
