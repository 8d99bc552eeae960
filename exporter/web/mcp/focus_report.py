"""The tool that asks for a FOCUS report: sums and first rows of it, and how to get the whole."""

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from exporter.queries import focus, parameters
from exporter.queries.exact_json import text_schema, texts
from exporter.queries.focus import FocusQuestion, parse_focus_question
from exporter.queries.focus_report import BrokenOffError, Report, ReportSources, opened_report
from exporter.queries.parameters import Given
from exporter.web.mcp.tool import Answer, Arguments, Known, Tool, as_texts, input_schema, table
from exporter.worker import worker

LARGEST_REPORT = 16 * 2**20
"""Bytes of a report that is summed up: some 40,000 rows."""

_LONGEST = 18.0
"""Seconds."""

_ROWS = 10
_MOST_ROWS = 100
_LARGEST_SUMMARY = 2**24
_PATH = "/v1/billing/focus"
_SUMMARY = "exporter.web.mcp.summary_process"
_LIMIT = parameters.whole_number("limit", f"Maximum number of rows in the answer. Default: {_ROWS}.", 1, _MOST_ROWS)
_PARAMETERS = (*focus.PARAMETERS, _LIMIT)
_SHOWN = ("month", "category", "service", "invoice", "rows", "billed_cost", "currency")


class FocusSummary(BaseModel):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """Report of Cost and Usage, summed up."""

    answered_by: str = Field(
        description="`ledger`: the exporter's ledger. `fal`: fal's own report, which was read at `read_at`."
    )
    read_at: str = Field(description="When fal's own report was read; empty for the ledger.")
    missing_hours: int | None = Field(
        description="Hours of the window that the ledger has not read completely; null for fal's own report."
    )
    note: str = Field(description="Remarks on what the report is made of.")
    focus_version: str = Field(description="Version whose columns the report has.")
    rows: int = Field(description="Rows of the whole report.")
    unreadable_rows: int = Field(description="Rows that are not in `totals` because they cannot be read.")
    totals: list[dict[str, object]] = Field(
        description="Exact sums as decimal text, by currency, month of the charges, charge category, service, invoice."
    )
    first_rows: list[dict[str, str]] = Field(description="The first rows, without empty columns.")
    whole: str = Field(description="REST call that answers with the whole report as CSV.")


def report_tool(known: Known) -> Tool:
    """Return the tool."""

    def answer(arguments: Arguments) -> Answer:
        given = as_texts(arguments)
        limit = Given(given, _PARAMETERS).get(_LIMIT) or _ROWS
        asked = {name: text for name, text in given.items() if name != _LIMIT.name}
        question = parse_focus_question(asked, now=known.clock())
        document = asyncio.run(_answered(known, question, asked, limit))
        return Answer(texts(document), _text(document))

    return Tool(
        "fal-get-focus",
        "FOCUS report",
        "A FinOps FOCUS report of fal's charges, summarized: the invoice of a month (source `invoice`: usage, "
        "credits, taxes), or usage of a window so far (`estimate`). The parameters are those of fal's own report. "
        "Answers with exact sums, the first rows, and `whole`, the REST call for the whole CSV. `answered_by` says "
        "whether the figures are from fal's own report or the exporter's ledger: tell the user. With `invoice`, "
        "`tagged-estimate` or `live` true the exporter may ask fal for its report.",
        input_schema(_PARAMETERS),
        text_schema(FocusSummary),
        answer,
    )


async def _answered(known: Known, question: FocusQuestion, asked: Mapping[str, str], limit: int) -> FocusSummary:
    """Read a report and have it summed up.

    Raises:
        FalExporterError: there is none, it is too large, or it takes too long.
    """
    sources = ReportSources(known.reader.address, known.inquirer, known.accounts)
    whole = f"GET {_PATH}{'?' if asked else ''}{urlencode(asked)}"
    try:
        async with asyncio.timeout(_LONGEST):
            async with opened_report(question, sources, patience=_LONGEST) as report:
                body = await _body(report, whole)
            order = json.dumps({"rows": limit}).encode() + b"\n" + body
            async with worker(_SUMMARY, order) as process:
                problem = json.loads(await process.head())["problem"]
                if problem is not None:
                    raise BrokenOffError(f"the report cannot be summarized: {problem}")
                found = json.loads(await process.body(_LARGEST_SUMMARY))
    except TimeoutError:
        raise BrokenOffError(f"the report takes longer than {_LONGEST:.0f} s; get it by {whole}") from None
    return FocusSummary(
        answered_by=report.answered_by,
        read_at=report.read_at,
        missing_hours=report.missing,
        note=report.note,
        focus_version=found["focus_version"],
        rows=found["rows"],
        unreadable_rows=found["unreadable_rows"],
        totals=found["totals"],
        first_rows=found["first_rows"],
        whole=whole,
    )


async def _body(report: Report, whole: str) -> bytes:
    body = bytearray()
    while piece := await report.piece():
        body += piece
        if len(body) > LARGEST_REPORT:
            raise BrokenOffError(
                f"the report is larger than {LARGEST_REPORT // 2**20} MiB, too large to be summarized here; name a "
                f"shorter window or a longer timeframe, or get the whole by {whole}"
            )
    return bytes(body)


def _text(document: FocusSummary) -> str:
    who = "fal's own report" if document.answered_by == "fal" else "The exporter's ledger"
    lines = [f"{who}, {document.rows:,} rows; amounts by currency.", "", table(_SHOWN, document.totals), ""]
    if document.read_at:
        lines.append(f"Read from fal at {document.read_at}.")
    if document.missing_hours:
        lines.append(f"NOT complete: {document.missing_hours:,} hours have not been read from fal.")
    if document.unreadable_rows:
        lines.append(f"NOT in the sums: {document.unreadable_rows:,} rows that cannot be read.")
    if document.note:
        lines.append(document.note)
    return "\n".join([*lines, f"The whole report as CSV: {document.whole}"])
