"""Process that checks a FOCUS file: `python -m exporter.web.mcp.focus_process`.

Every row is checked by Python, which in a thread of the web process would hold up scrapes. The head tells why there is
no report, and the body is the report, as a document and as text.
"""

import json
import sys
from collections.abc import Mapping
from typing import IO

from exporter.focus import check_report
from exporter.focus.checks import Checker
from exporter.focus.findings import FocusError
from exporter.worker import serve

FINDINGS_KEPT = 5
"""Of each rule; all are counted."""

_NAME = "The file"
_PIECE = 2**16


def check(order: bytes, output: IO[bytes]) -> None:
    """Check the file of an order: its text as `csv`, and the version to check against as `focus_version`."""
    asked = json.loads(order)
    checker = Checker(asked["focus_version"], keep=FINDINGS_KEPT)
    # A lone surrogate, which JSON can hold, is handed on to be found.
    file = asked["csv"].encode(errors="surrogatepass")
    try:
        for start in range(0, len(file), _PIECE):
            checker.feed(file[start : start + _PIECE])
        found = checker.finish()
    except FocusError as error:
        _write({"problem": str(error)}, output)
        return
    document = json.loads(check_report.check_json(_NAME, found))
    for left_out in ("file", "error", "rules"):
        del document[left_out]
    _write({"problem": None}, output)
    _write({"document": document, "text": check_report.check_text(_NAME, found)}, output)


def _write(part: Mapping[str, object], output: IO[bytes]) -> None:
    output.write(json.dumps(part).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(serve(check))
