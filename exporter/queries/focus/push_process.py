"""Process that pushes FOCUS files: `python -m exporter.queries.focus.push_process`.

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
from exporter.queries.focus.cost_services import service_from_environment
from exporter.queries.focus.push import Change, PushOrder, push
from exporter.queries.focus.upload import state_path, upload
from exporter.worker import serve


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a push, as the process tells it.

    Attributes:
        rows: of the months that were pushed.
        written: those of them that were new or had changed.
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


STORE = "store"
"""Name of the destination that is a folder or an object store; the others are cost services."""

_WRITTEN = {Change.NEW, Change.CHANGED}


def order_text(destination: str, *, address: str, url: str, output_format: str, version: str, now: datetime) -> bytes:
    """Write an order for the default months.

    Args:
        destination: `STORE`, or the name of a cost service, whose keys are in the environment.
        address: of the ledger.
        url: of the store.
        output_format: of the store's files.
        version: of FOCUS, of the store's files.
        now: the present.
    """
    document = {"address": address, "url": url, "format": output_format, "version": version, "now": now.isoformat()}
    return json.dumps({"destination": destination, **document}).encode()


def _done(given: Mapping[str, str]) -> Outcome:
    now = datetime.fromisoformat(given["now"])
    if given["destination"] == STORE:
        order = PushOrder(given["address"], given["url"], Format(given["format"]), now, version=given["version"])
        pushed = push(order)
        return Outcome(pushed.rows, sum(file.change in _WRITTEN for file in pushed.files), tuple(pushed.notes))
    uploaded = upload(
        given["address"], service_from_environment(given["destination"]), state_path(given["address"]), now
    )
    return Outcome(
        sum(len(month.costs) for month in uploaded.months),
        sum(month.change in _WRITTEN for month in uploaded.months),
        tuple(uploaded.notes),
    )


def _work(order: bytes, output: IO[bytes]) -> None:
    try:
        outcome = _done(json.loads(order))
    except FalExporterError as error:
        outcome = Outcome(problem=str(error))
    output.write(outcome.line)


if __name__ == "__main__":
    sys.exit(serve(_work))
