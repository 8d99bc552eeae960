"""Problems of settings, one sentence each, in the names the user wrote; never with a secret."""

from collections.abc import Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from exporter.logs import redact, redact_loosely
from exporter.settings.fields import Origins, nearest

_SECRET = frozenset(
    {
        *("key", "ledger_url", "ledger_read_url", "events_url", "booked_source"),
        *("remote_write_password", "remote_write_token", "remote_write_headers"),
    }
)
_LONGEST = 60
_ENTRIES = {
    "entries": ("an account", ("name", "key", "key_file", "key_env", "sources")),
    "budgets": ("a budget", ("name", "amount", "period", "timezone", "match", "thresholds")),
}
_ENTRY_HAS = {"entries": "a name and one of key, key_file and key_env", "budgets": "a name and an amount"}


class Contradiction(ValueError):  # noqa: N818  it reads as what it is
    """Settings that do not go together: a whole sentence, with `{field}` where a setting is to be named."""


def sentences(error: ValidationError, origins: Origins) -> Iterator[str]:
    """Yield a sentence for each problem that pydantic found."""
    for problem in error.errors(include_url=False):
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, Contradiction):
            yield redact(str(cause).format_map(origins))
        else:
            yield redact(f"{_name(problem['loc'], origins)}: {_predicate(problem, cause)}")


def _name(location: tuple[int | str, ...], origins: Origins) -> str:
    field, *inner = location
    steps = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in inner)
    return origins["entries" if field == "accounts" else str(field)] + steps


def _predicate(problem: ErrorDetails, cause: object) -> str:
    kind, value, context = problem["type"], problem["input"], problem.get("ctx", {})
    match kind:
        case "value_error":
            predicate = str(cause)
        case "missing":
            return "is missing; add it"
        case "extra_forbidden":
            noun, fields = _ENTRIES[str(problem["loc"][0])]
            near = nearest(str(problem["loc"][-1]), list(fields))
            return f"is not a setting of {noun}{f'; did you mean {near}?' if near else ''}"
        case "greater_than_equal":
            predicate = f"is less than the minimum, {context['ge']}"
        case "less_than_equal":
            predicate = f"is more than the maximum, {context['le']}"
        case "bool_parsing" | "bool_type":
            predicate = "is neither true nor false"
        case "tuple_type":
            return f"is not a list; each of its entries has {_ENTRY_HAS[str(problem['loc'][0])]}"
        case "model_type" | "model_attributes_type":
            noun, _ = _ENTRIES[str(problem["loc"][0])]
            return f"is not {noun}; {noun} has {_ENTRY_HAS[str(problem['loc'][0])]}"
        case "path_type":
            predicate = "is not the path of a file"
        case _:
            predicate = "is not a whole number" if kind.startswith("int_") else "is invalid"
    return predicate if problem["loc"][-1] in _SECRET else f"{_shown(value)}{predicate}"


def _shown(value: object) -> str:
    """Return a value in quotes, or nothing where it is no plain value or long."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    if isinstance(value, dict) or not text or len(text) > _LONGEST or not text.isprintable():
        return ""
    return f'"{redact_loosely(text)}" '
