"""The table of rules, and what a provider supports, which decides whether some of them apply.

`table.csv` beside this module has a line for every rule of the requirements model of FOCUS 1.2, for those that 1.3 and
1.4 have added as far as a file can break them, and for ours (`X-`). Facts only: level, kind, columns, values,
condition, versions, and what a provider has to support for it to apply. `wording` makes sentences of them.

What it may have to support has the names of the requirements model, such as `REGION_SUPPORTED`. Where nothing is said,
columns that are in the file are checked, and columns that only some providers must have are not missed.
"""

import csv
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType

import yaml

from exporter.errors import ConfigurationError
from exporter.focus.columns import COLUMNS, VERSIONS
from exporter.focus.rules.conditions import Condition, parse_condition

LATEST = VERSIONS[-1]
_FIRST_WITH_DATA_SETS = "1.3"
"""From here on ids of columns and of the data set begin with the data set's."""

_DATA_SET = "CAU-"
OWN = "X-"


class Level(Enum):
    """Keyword of the specification for this level."""

    MUST = "must"
    SHOULD = "should"
    MAY = "may"


class Kind(Enum):
    """Kind of demand of a rule; the value is its name in the table."""

    PRESENCE = "presence"
    TYPE = "type"
    FORMAT = "format"
    ATTRIBUTE = "attribute"
    NULL = "null"
    NOT_NULL = "not-null"
    FINITE = "finite"
    ALLOWED = "allowed"
    NATIONAL = "national"
    AT_LEAST = "at-least"
    EQUAL = "equal"
    UNEQUAL = "unequal"
    PRODUCT = "product"
    MEMBER = "member"
    ONE_OF_EACH = "one-of-each"
    START = "start"
    EXCLUSIVE_END = "exclusive-end"
    WITHIN = "within"
    KEYS = "keys"
    HEADER = "header"
    NULL_WORD = "null-word"
    PLACEHOLDER = "placeholder"
    BLANK = "blank"
    FILE = "file"
    INVOICE = "invoice"
    SAME_AS = "same-as"
    COMPOSITE = "composite"
    PERMISSION = "permission"
    UNDECIDABLE = "undecidable"

    @property
    def is_decidable(self) -> bool:
        """True if a file can break a rule of this kind."""
        return self not in {Kind.COMPOSITE, Kind.PERMISSION, Kind.UNDECIDABLE}


REASONS: Mapping[str, str] = MappingProxyType(
    {
        "currency": "a file does not show in which currency an amount was calculated",
        "invoice": "needs the invoice",
        "price-list": "needs the provider's price list",
        "documents": "needs the provider's documentation or metadata",
        "history": "needs the files of other periods",
        "accounts": "needs everything the provider has, not one file",
        "source": "needs the provider's own records",
        "words": "needs somebody who judges words",
        "charge": "needs to know what the charge is for, which only its columns say",
    }
)
"""Why a rule cannot be decided by looking at a file."""


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A rule.

    Attributes:
        id: of the requirements model of 1.2, of the model of the version that has introduced it, or `X-` and ours.
        column: that is judged; empty where it is the file, the header or any column.
        value: of the kind: what is allowed, compared, the parts of a composite, why it is undecidable.
        when: rows without it are not judged.
        since: the first version of FOCUS that has it.
        until: the last one.
        needs: names of what the provider has to support.
        note: its subject, where the facts do not say it.
    """

    id: str
    level: Level
    kind: Kind
    column: str
    value: str
    when: Condition
    since: str
    until: str
    needs: tuple[str, ...]
    note: str

    def is_in(self, version: str) -> bool:
        """Return whether a version has the rule."""
        return self.since <= version <= self.until

    def name(self, version: str) -> str:
        """Return its id in a version: from 1.3 on the model puts the data set before those of columns."""
        if version < _FIRST_WITH_DATA_SETS or self.id.startswith((_DATA_SET, OWN)) or "-A-" in self.id:
            return self.id
        return _DATA_SET + self.id

    @property
    def values(self) -> tuple[str, ...]:
        """The values, columns or rules that `value` names, columns without their sign."""
        return tuple(item.removeprefix("@") for item in self.value.split("|")) if self.value else ()

    @property
    def is_measured(self) -> bool:
        """True for an equality of numbers, or of two columns, which is looked at row by row."""
        is_number = self.column in COLUMNS and COLUMNS[self.column].is_number
        return self.kind is Kind.EQUAL and (is_number or self.value.startswith("@"))

    @property
    def columns(self) -> list[str]:
        """All columns that it looks at."""
        others = [item[1:] for item in self.value.split("|") if item.startswith("@")]
        return list(dict.fromkeys(filter(None, (self.column, *others, *self.when.columns))))


@cache
def rules() -> tuple[Rule, ...]:
    """Return every rule of every version, in the order of the table."""
    text = files(__package__).joinpath("table.csv").read_text(encoding="utf-8")
    return tuple(
        Rule(
            id=line["id"],
            level=Level(line["level"].lower()),
            kind=Kind(line["kind"]),
            column=line["column"],
            value=line["value"],
            when=parse_condition(line["when"]),
            since=line["since"],
            until=line["until"] or LATEST,
            needs=tuple(line["needs"].split()),
            note=line["note"],
        )
        for line in csv.DictReader(text.splitlines())
    )


@cache
def by_id() -> Mapping[str, Rule]:
    """Return every rule by its id; from 1.3 on both forms of an id are known."""
    found = {rule.id: rule for rule in rules()}
    return found | {rule.name(LATEST): rule for rule in rules() if rule.name(LATEST) not in found}


def rules_of(version: str) -> list[Rule]:
    """Return a version's rules, in the order of the table."""
    return [rule for rule in rules() if rule.is_in(version)]


def parts(rule: Rule) -> list[Rule]:
    """Return the rules that a composite stands for, those of composites in it too; of another rule itself."""
    if rule.kind is not Kind.COMPOSITE:
        return [rule]
    known = by_id()
    return [part for name in rule.values for part in parts(known[name])]


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
