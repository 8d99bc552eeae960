"""The tool that checks a FOCUS file."""

import json
import subprocess
import sys

from exporter.billing.errors import QuestionError
from exporter.focus.errors import FocusError
from exporter.web.mcp.focus_process import FINDINGS_KEPT
from exporter.web.mcp.tool import Answer, Arguments, Tool

LONGEST_FILE = 1_000_000
"""Characters: one or two thousand rows of all columns."""

LONGEST_CHECK = 15.0
"""Seconds."""

_VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")
_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}


def focus_tool() -> Tool:
    """Return the tool."""
    return Tool(
        "fal-check-focus",
        "Check a FOCUS file",
        "Tells where a Cost and Usage file breaks the FinOps Open Cost and Usage Specification (FOCUS 1.0 to 1.4): "
        "every broken rule with its section, how often, and the first lines. Takes the text of the CSV file, header "
        f"included, up to {LONGEST_FILE:,} characters; for larger files run `fal-exporter focus check FILE`.",
        {
            "type": "object",
            "properties": {
                "csv": {**_TEXT, "maxLength": LONGEST_FILE, "description": "The file's text, header included."},
                "focus_version": {
                    **_TEXT,
                    "enum": list(_VERSIONS),
                    "description": "Version to check against. Left out: the one whose columns the file fits best.",
                },
            },
            "required": ["csv"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {
                "focus_version": {**_TEXT, "description": "Version that was checked against."},
                "columns": _NUMBER,
                "rows": _NUMBER,
                "clean": {"type": "boolean", "description": "Whether no rule is broken."},
                "counts": {
                    "type": "object",
                    "additionalProperties": _NUMBER,
                    "description": "How often each broken rule is broken, by its identifier.",
                },
                "findings": {
                    "type": "array",
                    "items": {"type": "object"},
                    "description": f"The first {FINDINGS_KEPT} of each rule: rule, level, section, line (null: the "
                    "file as a whole), column, value, message.",
                },
                "invoices": {
                    "type": "array",
                    "items": {"type": "object"},
                    "description": "BilledCost by invoice and currency, as decimal text.",
                },
                "notes": {"type": "array", "items": _TEXT},
            },
            "required": ["focus_version", "columns", "rows", "clean", "counts", "findings", "invoices", "notes"],
        },
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
    command = [sys.executable, "-m", "exporter.web.mcp.focus_process", *([] if version is None else [str(version)])]
    try:
        # A lone surrogate, which JSON can hold, is handed on to be found.
        file = text.encode(errors="surrogatepass")
        done = subprocess.run(command, input=file, stdout=subprocess.PIPE, timeout=LONGEST_CHECK, check=True)  # noqa: S603  our own interpreter and module
    except subprocess.TimeoutExpired:
        raise FocusError(f"the check takes longer than {LONGEST_CHECK:.0f} s; run fal-exporter focus check") from None
    found = json.loads(done.stdout)
    if "problem" in found:
        raise FocusError(found["problem"])
    return Answer(found["document"], found["text"])
