"""What a check finds: which rule, where, and what was there."""

from collections import Counter
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from exporter.focus.problems import LONGEST_VALUE


class Level(Enum):
    """How the specification puts it."""

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
