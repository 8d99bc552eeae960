"""Writes Cost and Usage files: UTF-8, LF, FOCUS columns in alphabetical order and then our own, one row a charge.

Numbers are exact, in fixed notation and always with a decimal point; null is an empty field without quotes; fields are
quoted only where CSV needs it. All of that is what readers that guess types mistake least.
"""

import csv
import io
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from itertools import compress, islice
from typing import IO

from exporter.focus.charge import FocusCharge
from exporter.focus.layout import layout, values

_ROWS = 500
_IN_MEMORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds.

    Attributes:
        columns: in order.
        billed_cost: the sum of BilledCost in nano-USD.
    """

    columns: tuple[str, ...]
    rows: int
    billed_cost: int


def write(
    charges: Iterable[FocusCharge],
    file: IO[bytes] | BufferedIOBase,
    *,
    version: str = "1.2",
    omit_empty_columns: bool = False,
) -> Written:
    """Write charges to a file, in their order.

    Args:
        charges: read once, and never held but for some hundreds.
        file: open for writing.
        version: of FOCUS.
        omit_empty_columns: leave out every column that no row fills, for programs that refuse nulls. What is left
            may lack columns that FOCUS demands.

    Raises:
        ValueError: the version cannot be written.
    """
    columns = layout(version)
    tally = _Tally(columns)
    if not omit_empty_columns:
        file.write(_csv([columns]))
        file.writelines(map(_csv, tally.rows(charges)))
        return Written(columns, tally.count, tally.billed_cost)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        spool.writelines(map(_csv, tally.rows(charges)))
        spool.seek(0)
        kept = tuple(compress(columns, tally.filled))
        file.write(_csv([kept]))
        rows = csv.reader(io.TextIOWrapper(spool, encoding="utf-8", newline=""))
        while some := list(islice(rows, _ROWS)):
            file.write(_csv(compress(row, tally.filled) for row in some))
    return Written(kept, tally.count, tally.billed_cost)


class _Tally:
    """Turns charges into rows and remembers what they add up to."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.count = 0
        self.billed_cost = 0
        self.filled = [False] * len(columns)
        self._columns = columns

    def rows(self, charges: Iterable[FocusCharge]) -> Iterator[list[list[str]]]:
        """Yield rows, some hundreds at a time."""
        rest = iter(charges)
        while some := list(islice(rest, _ROWS)):
            self.count += len(some)
            self.billed_cost += sum(charge.amounts.cost for charge in some)
            rows = [[found.get(name, "") for name in self._columns] for found in map(values, some)]
            self.filled = [any(column) for column in zip(self.filled, *rows, strict=True)]
            yield rows


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
