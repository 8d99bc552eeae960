"""Findings of a check: where a rule does not hold."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from exporter.focus.findings import shortened
from exporter.focus.rules.table import Level, Rule


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
        part: name of the file that is checked, of several; their findings name it.
    """

    def __init__(self, keep: int, most: int | None = None) -> None:
        self.counts: Counter[Rule] = Counter()
        self.attributes: Counter[Rule] = Counter()
        self.kept: list[Finding] = []
        self.part = ""
        self._keep = keep
        self._most = most

    def add(self, finding: Finding) -> None:
        """Take note of one."""
        rule = finding.rule
        self.counts[rule] += 1
        self.attributes.update(finding.attributes)
        if self.counts[rule] <= self._keep and (self._most is None or len(self.kept) < self._most):
            note = "; ".join(filter(None, (finding.note, self.part and f"in {self.part}")))
            self.kept.append(finding._replace(value=shortened(finding.value), note=note))

    def of(self, rule: Rule) -> Iterable[Finding]:
        """Return what is kept of one rule, or of an attribute."""
        return (finding for finding in self.kept if finding.rule is rule or rule in finding.attributes)

    def total(self, *levels: Level) -> int:
        """Return how many there are of some levels; of all where none is named."""
        return sum(count for rule, count in self.counts.items() if not levels or rule.level in levels)
