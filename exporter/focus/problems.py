"""What could not be read, row by row: counted in full, kept in part."""

from collections import Counter
from typing import NamedTuple

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
