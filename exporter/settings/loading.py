"""Loading of the settings: flags before the environment before the file before the defaults; problems as sentences.

A problem is told in the names that the user wrote, never with a secret.
"""

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from exporter.errors import ConfigurationError
from exporter.logs import redact, redact_loosely
from exporter.settings.contradictions import Contradiction, KeylessSettings, Settings
from exporter.settings.credentials import open_regular
from exporter.settings.parsing import (
    ENVIRONMENT_PREFIX,
    FILE_ONLY,
    NEVER_IN_FILE,
    Listen,
    Origins,
    environment_name,
    file_name,
    flag_name,
    nearest,
    parse_listen,
)


def read_file(path: Path) -> Mapping[str, object]:
    """Return the settings of a configuration file; an empty file holds none.

    Raises:
        ValueError: the file cannot be read as its suffix says. The sentence is a predicate on the file, and quotes
            nothing from it but key names, since it may hold keys of accounts.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ValueError("has an unknown file name extension; use .yaml, .yml or .toml")
    try:
        with open_regular(path) as file:
            content = parse(file.read())
    except OSError as error:
        raise ValueError(f"cannot be read: {(error.strerror or 'input/output error').lower()}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError("is not a mapping of settings; write it like poll_interval: 5m")  # noqa: TRY004  a user's value
    return {str(name): value for name, value in content.items()}


def _parse_toml(text: str) -> object:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = str(error).rpartition("(at ")[2].rstrip(")")
        raise ValueError(f"is not valid TOML at {place}") from None


def _parse_yaml(text: str) -> object:
    from exporter.settings.yaml_text import load  # noqa: PLC0415  only where there is such a file

    return load(text)


_PARSERS: Mapping[str, Callable[[str], object]] = {".yaml": _parse_yaml, ".yml": _parse_yaml, ".toml": _parse_toml}

_SERVICE_LINK = re.compile(
    r"(?:\w+_)?(?:SERVICE_HOST=.*|SERVICE_PORT(?:_\w+)?=\d+|PORT=\w+://.*|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?=.*)"
)
"""Variables that Kubernetes adds to every pod beside a service named fal-exporter: not settings."""


_KEY_HALVES = ("FAL_KEY_ID", "FAL_KEY_SECRET")
"""Variables that hold a key in two halves, as fal's own clients take it, where FAL_KEY does not."""


def load_settings(flags: Mapping[str, object], *, needs_keys: bool = True) -> Settings:
    """Return the settings.

    Args:
        flags: what was given on the command line, by field.
        needs_keys: whether the accounts' keys have to be there.

    Raises:
        ConfigurationError: one line for each problem, each naming its setting as the user wrote it.
    """
    values, origins, problems = _join(flags)
    try:
        settings = (Settings if needs_keys else KeylessSettings).model_validate(values)
    except ValidationError as error:
        problems += sentences(error, origins)
    if problems:
        raise ConfigurationError("\n".join(dict.fromkeys(problems)))
    return settings


def listening_address() -> Listen:
    """Return where a server with this environment listens, whatever else may be wrong with its settings.

    Raises:
        ConfigurationError: the address is not one.
    """
    values, origins, _ = _join({})
    try:
        return parse_listen(str(values.get("listen", Settings.model_fields["listen"].default)))
    except ValueError as error:
        raise ConfigurationError(f"{origins['listen']}: {error}") from None


def _join(flags: Mapping[str, object]) -> tuple[dict[str, object], Origins, list[str]]:
    values: dict[str, object] = {}
    origins, problems = Origins(), list(_unknown_variables())

    def add(layer: Mapping[str, object], names: Mapping[str, str]) -> None:
        for field in layer.keys() - values.keys():
            values[field], origins[field] = layer[field], names[field]

    add(flags, {field: flag_name(field) for field in flags})
    environment = _Environment(Settings)()
    names = {field: environment_name(field) for field in environment}
    if not environment.keys() & {"key", "key_file"}:
        halves = [os.environ.get(name, "").strip() for name in _KEY_HALVES]
        if all(halves):
            environment["key"], names["key"] = ":".join(halves), " with ".join(_KEY_HALVES)
        elif any(halves):
            given, missing = _KEY_HALVES if halves[0] else reversed(_KEY_HALVES)
            problems.append(f"{given} is set without {missing}; set both, or FAL_KEY alone")
    add(environment, names)
    if "config_file" in values:
        path = Path(str(values["config_file"]))
        try:
            file = read_file(path)
        except ValueError as error:
            raise ConfigurationError(f'{origins["config_file"]}: "{redact_loosely(str(path))}" {error}') from None
        fields = {file_name(field): field for field in Settings.model_fields if field not in NEVER_IN_FILE}
        add(
            {fields[name]: value for name, value in file.items() if name in fields},
            {field: f"{path}: {name}" for name, field in fields.items()},
        )
        known = {name: name for name in fields}
        problems += (
            f"{path}: {redact_loosely(name)} is not a setting of the configuration file{_suggestion(name, known)}"
            for name in file
            if name not in fields
        )
    return values, origins, problems


class _Environment(EnvSettingsSource):
    """The environment, under the names of `exporter.settings.fields` alone."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[object, str, bool]:  # noqa: ARG002  theirs
        """Return the text of a setting's variable, or None where it is not set or empty."""
        name = None if field_name in FILE_ONLY else environment_name(field_name)
        return name and self.env_vars.get(name), field_name, False


def _unknown_variables() -> Iterator[str]:
    known = {field: environment_name(field) for field in Settings.model_fields if field not in FILE_ONLY}
    for variable, value in sorted(os.environ.items()):
        name = variable.removeprefix(ENVIRONMENT_PREFIX)
        if name == variable or variable in known.values() or _SERVICE_LINK.fullmatch(f"{name}={value}"):
            continue
        if name in {"ACCOUNTS", "BUDGETS"}:
            file = environment_name("config_file")
            yield f"{variable} is not a setting; list {name.lower()} in a file named by {file}"
        else:
            yield f"{variable} is not a setting{_suggestion(name, known)}"


def _suggestion(name: str, known: Mapping[str, str]) -> str:
    """Suggest the nearest known name, in the form in which it is to be written."""
    written = name.upper().removeprefix(ENVIRONMENT_PREFIX).lower().replace("-", "_")
    # What is a setting elsewhere was not meant to be another one here.
    near = None if written in NEVER_IN_FILE else nearest(written, list(known))
    return f"; did you mean {known[near]}?" if near else "; see docs/configuration.md"


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
