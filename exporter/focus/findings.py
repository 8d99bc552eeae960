"""Errors and problems: what is wrong with a FOCUS file, a row or a field that is read."""

from collections import Counter
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
            self.first.append(Problem(line, column, shortened(value), reason))


def shortened(value: str) -> str:
    """Return a value as a report shows it."""
    return value if len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}..."
