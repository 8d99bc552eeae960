"""Findings and problems: what is wrong with a FOCUS file, a row or a field."""

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from exporter.errors import FalExporterError


class FocusError(FalExporterError):
    """The file is not a FOCUS Cost and Usage file that can be read to its end."""

    exit_code = 2


class WrongContentError(FocusError):
    """The input is no Cost and Usage table but an HTML page, a JSON error, another data set or another file."""


class TruncatedFileError(FocusError):
    """The file ends too early: inside a quoted field, inside a row, or before the promised number of bytes."""


class MissingColumnError(FocusError):
    """The header lacks a column without which the reader's caller cannot work."""


LONGEST_VALUE = 120
"""Characters of a value that a report shows."""


class Problem(NamedTuple):
    """One field, or one row, that could not be read.

    Attributes:
        line: where its row begins, counted from 1.
        column: empty where the whole row is meant.
        value: its text, shortened.
        reason: what is wrong, to be read after the value.
    """

    line: int
    column: str
    value: str
    reason: str

    def __str__(self) -> str:
        where = f"line {self.line}, {self.column}" if self.column else f"line {self.line}"
        return f"{where}: {self.value!r} {self.reason}" if self.column else f"{where}: {self.reason}"


class Problems:
    """The problems of one reading.

    Attributes:
        rows: how many rows were left out because of them.
        counts: how many of each column and reason.
        first: the first of them, in order.
    """

    def __init__(self, keep: int) -> None:
        self.rows = 0
        self.counts: Counter[tuple[str, str]] = Counter()
        self.first: list[Problem] = []
        self._keep = keep

    def add(self, line: int, column: str, value: str, reason: str) -> None:
        """Take note of one."""
        self.counts[column, reason] += 1
        if len(self.first) < self._keep:
            shown = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}..."
            self.first.append(Problem(line, column, shown, reason))


class Level(Enum):
    """Keyword of the specification for this level."""

    MUST = "must"
    SHOULD = "should"


class Rule(NamedTuple):
    """A rule.

    Attributes:
        id: stable; lower-case words.
        section: of the specification, by its title, which all versions share.
        says: the rule in a sentence.
        since: the first version of FOCUS that has it.
        until: the last one.
    """

    id: str
    section: str
    says: str
    level: Level = Level.MUST
    since: str = "1.0"
    until: str = "1.4"


class Finding(NamedTuple):
    """A place where a rule does not hold.

    Attributes:
        line: where the row begins, counted from 1; the header is line 1; 0 for the file as a whole.
        column: empty where the whole row or file is meant.
        value: what was there, shortened.
        note: what is wrong, where the rule alone does not say it.
    """

    rule: Rule
    line: int
    column: str
    value: str
    note: str


class Findings:
    """The findings of one check: counted in full, kept word by word in part.

    Attributes:
        counts: how many of each rule.
        kept: the first of each rule, in the order of the file.
    """

    def __init__(self, keep: int) -> None:
        self.counts: Counter[Rule] = Counter()
        self.kept: list[Finding] = []
        self._keep = keep

    def add(self, rule: Rule, line: int, column: str, value: str, note: str = "") -> None:
        """Take note of one."""
        self.counts[rule] += 1
        if self.counts[rule] <= self._keep:
            shown = value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}..."
            self.kept.append(Finding(rule, line, column, shown, note))

    def of(self, rule: Rule) -> Iterable[Finding]:
        """Return what is kept of one rule."""
        return (finding for finding in self.kept if finding.rule == rule)
