"""Findings and problems: what is wrong with a FOCUS file, a row or a field."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from exporter.errors import FalExporterError
from exporter.focus.rules.table import Level, Rule


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
            self.first.append(Problem(line, column, shortened(value), reason))


class Finding(NamedTuple):
    """A place where a rule does not hold.

    Attributes:
        line: where the row begins, counted from 1; the header is line 1; 0 for the file as a whole.
        column: empty where the whole row or file is meant.
        value: what was there, shortened.
        note: what is wrong, where the rule alone does not say it.
        attributes: attributes of the specification that do not hold there either.
    """

    rule: Rule
    line: int
    column: str = ""
    value: str = ""
    note: str = ""
    attributes: tuple[Rule, ...] = ()


class Findings:
    """The findings of one check: counted in full, kept word by word in part.

    Args:
        keep: of each rule.
        most: of all rules together; None for no limit.

    Attributes:
        counts: how many of each rule.
        attributes: how many of each attribute, which are findings of other rules too.
        kept: the first of each rule, in the order of the file.
    """

    def __init__(self, keep: int, most: int | None = None) -> None:
        self.counts: Counter[Rule] = Counter()
        self.attributes: Counter[Rule] = Counter()
        self.kept: list[Finding] = []
        self._keep = keep
        self._most = most

    def add(self, finding: Finding) -> None:
        """Take note of one."""
        rule = finding.rule
        self.counts[rule] += 1
        self.attributes.update(finding.attributes)
        if self.counts[rule] <= self._keep and (self._most is None or len(self.kept) < self._most):
            self.kept.append(finding._replace(value=shortened(finding.value)))

    def of(self, rule: Rule) -> Iterable[Finding]:
        """Return what is kept of one rule, or of an attribute."""
        return (finding for finding in self.kept if finding.rule is rule or rule in finding.attributes)

    def total(self, *levels: Level) -> int:
        """Return how many there are of some levels; of all where none is named."""
        return sum(count for rule, count in self.counts.items() if not levels or rule.level in levels)


def shortened(value: str) -> str:
    """Return a value as a report shows it."""
    return value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}..."
