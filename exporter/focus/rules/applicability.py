"""Applicability: what a provider supports, which decides whether some rules apply.

The names are those of the requirements model, such as `REGION_SUPPORTED`. A rule that needs something the provider does
not support does not apply. Where nothing is said, columns that are in the file are checked, and columns that only some
providers must have are not missed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from exporter.errors import ConfigurationError
from exporter.focus.rules.table import Rule, rules

_WORDS: Mapping[str, bool] = {"supported": True, "unsupported": False}


def criteria() -> list[str]:
    """Return every name, in alphabetical order."""
    return sorted({name for rule in rules() for name in rule.needs})


@dataclass(frozen=True, slots=True)
class Applicability:
    """Knowledge of a provider.

    Attributes:
        stated: by name, whether it is supported; what is not there is not known.
    """

    stated: Mapping[str, bool] = field(default_factory=dict)

    def lacking(self, rule: Rule) -> str | None:
        """Return what a rule needs and the provider does not support; None for nothing."""
        return next((name for name in rule.needs if self.stated.get(name) is False), None)

    def unknown(self, rule: Rule) -> str | None:
        """Return what a rule needs and nothing is said of; None for nothing."""
        return next((name for name in rule.needs if name not in self.stated), None)


def unsaid(rule: Rule, applicability: Applicability) -> str:
    """Return why a rule that needs something does not apply as long as nothing is said of it; nothing where it does."""
    unknown = applicability.unknown(rule)
    return f"it is not said whether {unknown}; see --applicability" if unknown else ""


def read_applicability(path: Path) -> Applicability:
    """Read a YAML file of lines like `REGION_SUPPORTED: unsupported`.

    Raises:
        ConfigurationError: it cannot be read, or holds something else.
    """
    try:
        found: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--applicability: {path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"--applicability: {path} is not UTF-8; {_example()}") from None
    except yaml.YAMLError:
        raise ConfigurationError(f"--applicability: {path} is not YAML; {_example()}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"--applicability: {path} is not a list of names; {_example()}")
    return Applicability({_name(key, criteria()): _supported(key, value) for key, value in found.items()})


def _name(key: object, known: Collection[str]) -> str:
    if not isinstance(key, str) or key not in known:
        raise ConfigurationError(f"--applicability: {key!r} is not known; known are {', '.join(known)}")
    return key


def _supported(key: object, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str) or value not in _WORDS:
        raise ConfigurationError(f"--applicability: {key}: {value!r} is neither `supported` nor `unsupported`")
    return _WORDS[value]


def _example() -> str:
    return "write lines like `REGION_SUPPORTED: unsupported`"
