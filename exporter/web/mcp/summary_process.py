"""Process that sums up a FOCUS file: `python -m exporter.web.mcp.summary_process`.

Every row is read by Python, which in a thread of the web process would hold up scrapes. The order is the file, after a
line of JSON with the number of rows that are wanted; the head tells why there is no answer, the body is the answer.
"""

import csv
import io
import json
import sys
from collections.abc import Mapping
from itertools import islice
from typing import IO

from exporter.focus.findings import FocusError
from exporter.focus.reader import Reader
from exporter.focus.reports import SummaryRow, Totals
from exporter.focus.values import number_text
from exporter.worker import serve

_PIECE = 2**20


def summarize(order: bytes, output: IO[bytes]) -> None:
    """Sum up the file of an order, and show its first rows without the columns that they do not fill."""
    asked, _, file = order.partition(b"\n")
    reader, totals = Reader(SummaryRow), Totals()
    try:
        for start in range(0, len(file), _PIECE):
            totals.add(reader.feed(file[start : start + _PIECE]))
        totals.add(reader.finish())
    except FocusError as error:
        _write({"problem": str(error)}, output)
        return
    _write({"problem": None}, output)
    _write(
        {
            "focus_version": reader.header.version if reader.header else "",
            "rows": reader.rows,
            "unreadable_rows": reader.problems.rows,
            "totals": _totals(totals),
            "first_rows": _rows(file, json.loads(asked)["rows"]),
        },
        output,
    )


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


def _write(part: Mapping[str, object], output: IO[bytes]) -> None:
    output.write(json.dumps(part).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(serve(summarize))
