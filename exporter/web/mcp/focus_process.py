"""Checks a FOCUS file in a process of its own: `python -m exporter.web.mcp.focus_process [VERSION]`.

Every row is checked by Python, which in a thread of the web process would hold up scrapes. The file comes by standard
input; standard output is one JSON object: the report as a document and as text, or why there is none.
"""

import json
import sys
from typing import IO

from exporter.focus import reports
from exporter.focus.checks import Checker
from exporter.focus.findings import FocusError

FINDINGS_KEPT = 5
"""Of each rule; all are counted."""

_NAME = "The file"
_PIECE = 2**16


def check(file: IO[bytes], version: str | None) -> dict[str, object]:
    """Return what is told of a file: `document` and `text`, or a `problem`."""
    checker = Checker(version, keep=FINDINGS_KEPT)
    try:
        while piece := file.read(_PIECE):
            checker.feed(piece)
        found = checker.finish()
    except FocusError as error:
        return {"problem": str(error)}
    document = json.loads(reports.check_json(_NAME, found))
    del document["file"]
    return {"document": document, "text": reports.check_text(_NAME, found)}


if __name__ == "__main__":
    json.dump(check(sys.stdin.buffer, sys.argv[1] if len(sys.argv) > 1 else None), sys.stdout)
