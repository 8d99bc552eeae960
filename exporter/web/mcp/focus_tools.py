"""The tools about FOCUS files: a report summed up, with the way to the whole, and a file checked."""

import asyncio
import json
from collections.abc import Mapping
from urllib.parse import urlencode

from pydantic import BaseModel, Field

from exporter.focus.findings import FocusError
from exporter.queries import parameters
from exporter.queries.exact_json import text_schema, texts
from exporter.queries.focus.question import PARAMETERS, FocusQuestion, parse_focus_question
from exporter.queries.focus.report import BrokenOffError, Report, ReportSources, opened_report
from exporter.queries.parameters import Given, QuestionError
from exporter.web.mcp.tool import Answer, Arguments, Known, Tool, as_texts, input_schema, table
from exporter.worker import worker

LARGEST_REPORT = 16 * 2**20
"""Bytes of a report that is summed up: some 40,000 rows."""

_LONGEST = 18.0
"""Seconds."""

_ROWS = 10
_MOST_ROWS = 100
_LARGEST_ANSWER = 2**24
"""Bytes that a process may answer with."""

_PATH = "/v1/billing/focus"
_PROCESS = "exporter.web.mcp.focus_process"
_LIMIT = parameters.whole_number("limit", f"Maximum number of rows in the answer. Default: {_ROWS}.", 1, _MOST_ROWS)
_PARAMETERS = (*PARAMETERS, _LIMIT)
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
    """Return the tool that sums up a report."""

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
            found = await _worked({"work": "summarize", "rows": limit}, body)
    except FocusError as error:
        raise BrokenOffError(f"the report cannot be summarized: {error}") from None
    except TimeoutError:
        raise BrokenOffError(f"the report takes longer than {_LONGEST:.0f} s; get it by {whole}") from None
    return FocusSummary.model_validate(
        {
            "answered_by": report.answered_by,
            "read_at": report.read_at,
            "missing_hours": report.missing,
            "note": report.note,
            "whole": whole,
            **found,
        }
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


LONGEST_FILE = 1_000_000
"""Characters: one or two thousand rows of all columns."""

LONGEST_CHECK = 15.0
"""Seconds."""

_VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")
_TEXT = {"type": "string"}

_FINDINGS_KEPT = 5
"""Of each rule; all are counted."""


class FocusCheck(BaseModel):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """Report on a Cost and Usage file."""

    focus_version: str = Field(description="Version that the file was checked against.")
    columns: int
    rows: int
    clean: bool = Field(description="True if no rule is broken.")
    counts: dict[str, int] = Field(description="Number of violations of each broken rule, by its identifier.")
    findings: list[dict[str, object]] = Field(
        description=f"The first {_FINDINGS_KEPT} of each rule: rule, attributes of the specification that are broken "
        "with it, level, line (0: the file as a whole), column, value, message."
    )
    outcomes: dict[str, int] = Field(
        description="Number of rules by outcome: holds, broken, not_applicable, not_decidable, permission."
    )
    invoices: list[dict[str, object]] = Field(
        description="BilledCost by invoice and currency, as decimal text, and the rows that are not in it."
    )
    notes: list[str]


def check_tool() -> Tool:
    """Return the tool that checks a file."""
    return Tool(
        "fal-check-focus",
        "Check a FOCUS file",
        "Checks a Cost and Usage file against the FinOps Open Cost and Usage Specification (FOCUS 1.0 to 1.4): every "
        "broken rule with its level, how often, and the first lines. Takes the text of the CSV file, header "
        f"included, up to {LONGEST_FILE:,} characters; for larger files run `fal-exporter focus check FILE`.",
        {
            "type": "object",
            "properties": {
                "csv": {**_TEXT, "maxLength": LONGEST_FILE, "description": "The file's text, header included."},
                "focus_version": {
                    **_TEXT,
                    "enum": list(_VERSIONS),
                    "description": "Version to check against. Default: the one whose columns the file fits best.",
                },
            },
            "required": ["csv"],
            "additionalProperties": False,
        },
        text_schema(FocusCheck),
        check,
    )


def check(arguments: Arguments) -> Answer:
    """Check a file.

    Raises:
        QuestionError: an argument is missing or is not what it should be.
        FocusError: this is no Cost and Usage file, it is cut off, or takes too long.
    """
    text, version = arguments.get("csv"), arguments.get("focus_version")
    for name in arguments.keys() - {"csv", "focus_version"}:
        raise QuestionError(name, "is not a parameter; there are csv and focus_version")
    if not isinstance(text, str) or not text or len(text) > LONGEST_FILE:
        raise QuestionError("csv", f"is not the text of a CSV file of up to {LONGEST_FILE:,} characters")
    if version is not None and version not in _VERSIONS:
        raise QuestionError("focus_version", f"is not one of {', '.join(_VERSIONS)}")
    found = asyncio.run(_checked(text, version))
    return Answer(texts(FocusCheck.model_validate(found["document"])), str(found["text"]))


async def _checked(text: str, version: str | None) -> Mapping[str, object]:
    # A lone surrogate, which JSON can hold, is handed on to be found.
    file = text.encode(errors="surrogatepass")
    try:
        async with asyncio.timeout(LONGEST_CHECK):
            return await _worked({"work": "check", "focus_version": version, "findings_kept": _FINDINGS_KEPT}, file)
    except TimeoutError:
        raise FocusError(f"the check takes longer than {LONGEST_CHECK:.0f} s; run fal-exporter focus check") from None


async def _worked(asked: Mapping[str, object], file: bytes) -> Mapping[str, object]:
    """Have a file read in a process.

    Raises:
        FocusError: this is no Cost and Usage file, or it is cut off.
    """
    async with worker(_PROCESS, json.dumps(asked).encode() + b"\n" + file) as process:
        problem = json.loads(await process.head())["problem"]
        if problem is not None:
            raise FocusError(problem)
        found: dict[str, object] = json.loads(await process.body(_LARGEST_ANSWER))
        return found
