"""Answers as text that a model reads well: a sentence, a Markdown table, what has to be known."""

from collections.abc import Iterable, Mapping, Sequence

_NOTHING = "-"


def table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a Markdown table of the cells with these names; what is null, missing or empty is a dash."""
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def columns_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the names of the cells that at least one row fills, in the order in which they appear."""
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if not _is_nothing(value)))


def _is_nothing(value: object) -> bool:
    return value is None or value in ("", [], {})


def _cell(value: object) -> str:
    match value:
        case Mapping():
            text = ", ".join(f"{_cell(part)} {name}" for name, part in value.items())
        case list():
            text = ", ".join(map(_cell, value))
        case float():
            text = f"{value:.3g}"
        case None:
            text = ""
        case _:
            text = str(value)
    return text.replace("|", "\\|").replace("\n", " ") or _NOTHING
