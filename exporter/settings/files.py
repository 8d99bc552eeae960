"""The configuration file: YAML or TOML, read strictly."""

import tomllib
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path

import yaml


def read_file(path: Path) -> Mapping[str, object]:
    """Return the settings of a configuration file; an empty file holds none.

    Raises:
        ValueError: the file cannot be read as its suffix says. The sentence is a predicate on the file, and quotes
            nothing from it but key names, since it may hold keys of accounts.
    """
    parse = _PARSERS.get(path.suffix.lower())
    if parse is None:
        raise ValueError("has an unknown suffix; name the file .yaml, .yml or .toml")
    try:
        content = parse(path.read_text(encoding="utf-8"))
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
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader that also refuses repeated keys
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        repeated = error.problem if isinstance(error, _RepeatedKeyError) else "is not valid YAML"
        raise ValueError(f"{repeated}{place}") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError("is not valid YAML") from None


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A mapping has a key twice; YAML forbids it, PyYAML would silently take the last."""


class _StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002  PyYAML's signature
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise _RepeatedKeyError(problem="has a key twice", problem_mark=node.value[position][0].start_mark)
        return super().construct_mapping(node, deep=deep)


_PARSERS: Mapping[str, Callable[[str], object]] = {".yaml": _parse_yaml, ".yml": _parse_yaml, ".toml": _parse_toml}
