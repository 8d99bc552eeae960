"""Process that reads a FOCUS file for an agent: `python -m exporter.web.mcp.focus_process`.

Every row is read by Python, which in a thread of the web process would hold up scrapes. The order is a line of JSON
that says what is wanted, and the file after it; the head says why there is no answer, and the body is the answer.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import IO

from exporter.focus import check_report
from exporter.focus.checks import Checker
from exporter.focus.findings import FocusError
from exporter.focus.reader import Reader
from exporter.focus.reports import SummaryRow, Totals
from exporter.focus.values import number_text
from exporter.worker import serve

_NAME = "The file"
_PIECE = 2**20


def work(order: bytes, output: IO[bytes]) -> None:
    """Check the file of an order, or sum it up."""
    line, _, file = order.partition(b"\n")
    asked = json.loads(line)
    try:
        if asked["work"] == "check":
            answer = _check(file, asked["focus_version"], keep=asked["findings_kept"])
        else:
            answer = _summarize(file, most_rows=asked["rows"])
    except FocusError as error:
        _write({"problem": str(error)}, output)
        return
    _write({"problem": None}, output)
    _write(answer, output)


def _write(part: Mapping[str, object], output: IO[bytes]) -> None:
    output.write(json.dumps(part).encode() + b"\n")


def _pieces(file: bytes) -> Iterator[bytes]:
    return (file[start : start + _PIECE] for start in range(0, len(file), _PIECE))


def _check(file: bytes, version: str | None, *, keep: int) -> Mapping[str, object]:
    """Return the report on a file, as a document and as text."""
    checker = Checker(version, keep=keep)
    for piece in _pieces(file):
        checker.feed(piece)
    found = checker.finish()
    document = json.loads(check_report.check_json(_NAME, found))
    for left_out in ("file", "error", "rules"):
        del document[left_out]
    return {"document": document, "text": check_report.check_text(_NAME, found)}


def _summarize(file: bytes, *, most_rows: int) -> Mapping[str, object]:
    """Return the sums of a file, and its first rows without the columns that they do not fill."""
    reader, totals = Reader(SummaryRow), Totals()
    for piece in _pieces(file):
        totals.add(reader.feed(piece))
    totals.add(reader.finish())
    return {
        "focus_version": reader.header.version if reader.header else "",
        "rows": reader.rows,
        "unreadable_rows": reader.problems.rows,
        "totals": _totals(totals),
        "first_rows": _rows(file, most_rows),
    }


_KEY = ("currency", "month", "category", "service", "invoice")


def _totals(totals: Totals) -> list[dict[str, object]]:
    """Return the sums, the largest first; SKUs together, of which there may be thousands."""
    return [
        {
            **dict(zip(_KEY, group, strict=True)),
            "rows": total.rows,
            "billed_cost": number_text(total.billed),
            "list_cost": number_text(total.listed),
        }
        for group, total in totals.by(*_KEY).items()
    ]


def _rows(file: bytes, most: int) -> list[dict[str, str]]:
    lines = io.TextIOWrapper(io.BytesIO(file), encoding="utf-8-sig", errors="replace", newline="")
    return [
        {name: value for name, value in row.items() if isinstance(name, str) and isinstance(value, str) and value}
        for row in islice(csv.DictReader(lines), most)
    ]


if __name__ == "__main__":
    sys.exit(serve(work))
