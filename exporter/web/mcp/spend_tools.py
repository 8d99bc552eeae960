"""The tools that tell what has been spent and billed, from the ledger."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from exporter.billing import invoices, parameters, usage
from exporter.billing.cursors import Cursor, fingerprint
from exporter.billing.documents import INVOICE, USAGE, USAGE_ROW, USAGE_TOTAL
from exporter.billing.parameters import Given
from exporter.billing.shapes import TEXT_OR_NULL, instant_text, list_of
from exporter.billing.states import of_one_state
from exporter.billing.usage import UsageAnswer
from exporter.web.mcp.tables import columns_of, table
from exporter.web.mcp.tool import Answer, Arguments, Known, Tool, as_document, as_texts, input_schema, output_schema

_ROWS = 100
_MOST_ROWS = 1000
_LIMIT = parameters.whole_number("limit", f"Rows in one answer, at most. Left out: {_ROWS}.", 1, _MOST_ROWS)
_USAGE = (*(it for it in usage.PARAMETERS if it is not usage.LIMIT), _LIMIT)
_INVOICES = (*invoices.PARAMETERS, _LIMIT, usage.CURSOR)


def usage_tool(known: Known) -> Tool:
    """Return the tool that tells usage and spend of a window."""

    def answer(arguments: Arguments) -> Answer:
        given = as_texts(arguments)
        limit = Given(given, _USAGE).get(_LIMIT) or _ROWS
        question = usage.parse_usage_question(given | {"limit": str(limit)}, now=known.clock(), zone=known.zone)
        found = usage.answer_usage(known.reader, question)
        return Answer(as_document(USAGE.document(found)), _usage_text(found))

    return Tool(
        "fal-get-usage",
        "Usage and spend at fal",
        "What was spent and used at fal in a window of time, as a total and by any of model, app, gpu_class, account, "
        "team, product, hour, day and month, with filters on each. Exact, from the exporter's ledger; costs nothing "
        "at fal. `complete` false means that hours are missing: tell the user, with `data_through`. Amounts are US "
        'dollars as decimal text. Example: {"start": "2026-11-01", "end": "2026-11-08", "group_by": ["model"]}. '
        "Group by few dimensions, and by hour only for days: pages follow by `cursor`.",
        input_schema(_USAGE),
        output_schema(USAGE.schema),
        answer,
    )


def invoices_tool(known: Known) -> Tool:
    """Return the tool that lists invoices."""

    def answer(arguments: Arguments) -> Answer:
        given = as_texts(arguments)
        texts = Given(given, _INVOICES)
        limit, cursor = texts.get(_LIMIT) or _ROWS, texts.get(usage.CURSOR)
        asked = {name: text for name, text in given.items() if name not in {"limit", "cursor"}}
        question, asking = invoices.parse_invoices_question(asked), fingerprint("invoices", *sorted(asked.items()))

        def page(revision: int) -> tuple[list[Mapping[str, object]], str | None]:
            if cursor is not None:
                cursor.check(revision, asking)
            first = 0 if cursor is None else cursor.offset
            found = invoices.answer_invoices(known.reader, question)
            end = first + limit
            following = str(Cursor(revision, asking, 0, end)) if end < len(found) else None
            return [as_document(INVOICE.document(invoice)) for invoice in found[first:end]], following

        rows, following = of_one_state(known.reader, page)
        return Answer({"invoices": rows, "next_cursor": following}, _invoices_text(rows, following))

    return Tool(
        "fal-list-invoices",
        "Invoices from fal",
        "The invoices that fal has issued, newest first: status, period, due date, subtotal (usage), credits, tax and "
        "total, in US dollars as decimal text. Periods are months of UTC, `period_end` is exclusive.",
        input_schema(_INVOICES),
        output_schema(
            {
                "type": "object",
                "properties": {
                    "invoices": {**list_of(INVOICE.schema), "description": "Those issued last first."},
                    "next_cursor": {**TEXT_OR_NULL, "description": "`cursor` of the next page; null on the last."},
                },
                "required": ["invoices", "next_cursor"],
                "additionalProperties": False,
            }
        ),
        answer,
    )


def _usage_text(found: UsageAnswer) -> str:
    total = as_document(USAGE_TOTAL.document(found.total))
    amounts = ["spend", *(name for name in ("discount", "gpu_seconds", "quantities") if total[name] not in ("0", {}))]
    by = f" by {', '.join(found.group_by)}" if found.group_by else ""
    lines = [f"Spend from {_at(found.start)} to {_at(found.end)}{by}, in USD: {total['spend']} in total.", ""]
    if found.group_by:
        lines.append(table([*found.group_by, *amounts], [as_document(USAGE_ROW.document(row)) for row in found.rows]))
    else:
        lines.append(table(amounts, [total]))
    known = found.coverage
    known_to = f"data through {_at(known.data_through)}, settled through {_at(known.settled_through)}"
    lines += [
        "",
        f"{'Complete' if known.complete else 'NOT complete'}; {known_to}.",
        f"Days and months are those of {found.timezone}.",
        *(f"Note: {note}" for note in found.notes),
    ]
    return "\n".join([*lines, *_more(found.next_cursor)])


def _invoices_text(page: Sequence[Mapping[str, object]], following: str | None) -> str:
    if not page:
        return "There are no such invoices."
    columns = [name for name in columns_of(page) if name not in {"id", "currency"}]
    return "\n".join(["Amounts in USD.", "", table(columns, page), *_more(following)])


def _more(cursor: str | None) -> list[str]:
    return ["", f"There are more rows: ask the same with cursor {cursor}."] if cursor else []


def _at(instant: datetime | None) -> str:
    return instant_text(instant) or "unknown"
