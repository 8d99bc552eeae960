"""Process that pushes FOCUS files: `python -m exporter.queries.focus_push_process`.

It brings the libraries of object stores and of Parquet with it, which the collector then need not hold, and takes a
month's rows off the collector's interpreter. Its output is one line: what was done, or why it was not.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import IO

from exporter.errors import FalExporterError
from exporter.focus.outputs import Format
from exporter.queries.focus_push import Change, PushOrder, push
from exporter.queries.worker import serve


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a push, as the process tells it.

    Attributes:
        rows: of the months that were pushed.
        written: files that were new or had changed.
        notes: months that were left out, and why.
        problem: why it failed; empty where it did not.
    """

    rows: int = 0
    written: int = 0
    notes: tuple[str, ...] = ()
    problem: str = ""

    @property
    def line(self) -> bytes:
        """The outcome as a line."""
        document = {"rows": self.rows, "written": self.written, "notes": self.notes, "problem": self.problem}
        return json.dumps(document).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> "Outcome":
        """Read what `line` has written."""
        found = json.loads(line)
        return cls(found["rows"], found["written"], tuple(found["notes"]), found["problem"])


def order_text(order: PushOrder) -> bytes:
    """Write an order for the default months."""
    document = {
        "address": order.address,
        "url": order.url,
        "format": order.output_format.value,
        "now": order.now.isoformat(),
    }
    return json.dumps(document).encode()


def _read(given: Mapping[str, str]) -> PushOrder:
    return PushOrder(given["address"], given["url"], Format(given["format"]), datetime.fromisoformat(given["now"]))


def _work(order: bytes, output: IO[bytes]) -> None:
    try:
        done = push(_read(json.loads(order)))
    except FalExporterError as error:
        output.write(Outcome(problem=str(error)).line)
        return
    written = sum(file.change in {Change.NEW, Change.CHANGED} for file in done.files)
    output.write(Outcome(done.rows, written, tuple(done.notes)).line)


if __name__ == "__main__":
    sys.exit(serve(_work))
