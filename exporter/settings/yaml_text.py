"""YAML of settings: plain data, and nothing that reads otherwise than it looks.

Apart from the settings, as the library is a megabyte in each process that runs for months, and most have no such file.
"""

import re
from collections.abc import Hashable
from decimal import Decimal
from math import isfinite

import yaml


def load(text: str) -> object:
    """Return the plain data of a text.

    Raises:
        ValueError: it is no YAML, or holds what YAML 1.1 reads otherwise than it looks; a predicate on the file.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  a SafeLoader that also refuses repeated keys
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        if isinstance(error, _OddNumberError):
            raise ValueError(f"has a number{place} that {error.problem}") from None  # noqa: TRY004  a user's value
        repeated = error.problem if isinstance(error, _RepeatedKeyError) else "is not valid YAML"
        raise ValueError(f"{repeated}{place}") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError("is not valid YAML") from None


class _RepeatedKeyError(yaml.constructor.ConstructorError):
    """A mapping has a duplicate key; YAML forbids it, PyYAML would silently take the last."""


class _OddNumberError(yaml.constructor.ConstructorError):
    """A number is not read as it looks."""


_PLAIN_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")


class _StrictLoader(yaml.SafeLoader):
    """Loads plain data, and refuses what YAML 1.1 would silently read as something else than was meant."""

    def construct_plain_int(self, node: yaml.ScalarNode) -> int:
        """Return an integer that is written in decimal digits."""
        if not _PLAIN_INTEGER.fullmatch(node.value):
            raise _OddNumberError(
                problem="YAML reads differently than it looks (010 is 8, 0x10 is 16, 1:30 is 90); write it in decimal "
                "digits without a leading 0, or put it in quotes",
                problem_mark=node.start_mark,
            )
        return int(super().construct_yaml_int(node))

    def construct_plain_float(self, node: yaml.ScalarNode) -> float:
        """Return a number of which no digit is lost."""
        value = float(super().construct_yaml_float(node))
        if isfinite(value) and (":" in node.value or Decimal(node.value.replace("_", "")) != Decimal(str(value))):
            raise _OddNumberError(
                problem="has more digits than can be kept, or contains a colon; put it in quotes",
                problem_mark=node.start_mark,
            )
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:  # noqa: FBT001, FBT002  PyYAML's signature
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise _RepeatedKeyError(problem="has a duplicate key", problem_mark=node.value[position][0].start_mark)
        return super().construct_mapping(node, deep=deep)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_plain_int)
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_plain_float)


def compose(text: str) -> yaml.Node | None:
    """Return a text as nodes, which know their lines; None where there is nothing in it.

    Raises:
        ValueError: it is no YAML; a predicate on the file.
    """
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ValueError(f"is not valid YAML{line}") from None
    except (yaml.YAMLError, RecursionError):
        raise ValueError("is not valid YAML") from None
