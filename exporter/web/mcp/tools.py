"""The tools, in the order in which they are listed."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from exporter.queries import drivers, forecasts, invoices, machines, parameters, usage
from exporter.queries.coverage import lacking
from exporter.queries.exact_json import instant_text, text_schema, texts
from exporter.queries.invoices import OWN_ACCOUNT, InvoicePage, Invoices
from exporter.queries.live import ask_live
from exporter.queries.models import (
    Balances,
    Budget,
    Budgets,
    Drivers,
    Forecasts,
    LowerSetting,
    Machines,
    RequestCosts,
)
from exporter.queries.parameters import Given
from exporter.queries.usage import Cursor, fingerprint
from exporter.queries.usage_documents import Usage
from exporter.web.mcp.focus_tools import check_tool, report_tool
from exporter.web.mcp.request_tools import request_tools
from exporter.web.mcp.tool import (
    Answer,
    Arguments,
    Known,
    Tool,
    as_texts,
    columns_of,
    input_schema,
    table,
)
from exporter.web.pages.formatting import span


def balance_tool(known: Known) -> Tool:
    """Return the tool that tells credit balance, runway and locks."""

    def answer(arguments: Arguments) -> Answer:
        found = forecasts.answer_accounts(known.latest(), as_texts(arguments))
        document = Balances.model_validate(found)
        rows = [
            {**texts(balance), "runway": _span(account.runway)}
            for balance, account in zip(document.accounts, found.accounts, strict=True)
        ]
        shown = table(("account", "balance", "balance_at", "credit_floor", "runway", "locked"), rows)
        locks = [
            f"fal has locked {balance.account} ({lock.reason}): {lock.advice}"
            for balance in document.accounts
            for lock in balance.locks
        ]
        text = "\n\n".join([f"Prepaid credit in USD, as of {instant_text(found.as_of)}.", shown, *locks])
        return Answer(texts(document), text)

    return Tool(
        "fal-get-balance",
        "Credit balance and runway",
        "The prepaid credit of each account at fal, how long it lasts at the recent burn rate (`runway_seconds`), and "
        "whether fal has locked the account, why, and what to do (`locks`). At the balance `credit_floor`, mostly 0, "
        "fal refuses calls that cost money until it is topped up.",
        input_schema(forecasts.ACCOUNT_PARAMETERS),
        text_schema(Balances),
        answer,
    )


def budgets_tool(known: Known) -> Tool:
    """Return the tool that tells how budgets stand."""

    def answer(arguments: Arguments) -> Answer:
        found = forecasts.answer_budgets(known.latest(), as_texts(arguments))
        document = Budgets.model_validate(found)
        if not document.budgets:
            return Answer(
                texts(document), "No budget is configured; budgets are set in the exporter's configuration file."
            )
        rows = [{**texts(budget), "reached": _reached(budget)} for budget in document.budgets]
        columns = ("budget", "period", "start", "end", "limit", "spend", "remaining", "forecast", "reached", "burn")
        shown = table(columns, rows)
        text = f"Budgets in USD, as of {instant_text(found.as_of)}.\n\n{shown}{_notes(document.notes)}"
        return Answer(texts(document), text)

    return Tool(
        "fal-get-budgets",
        "Budgets",
        "The configured budgets in their current day, week or month: limit, spend so far, remaining amount, forecast "
        "of the period's spend (expected, and a band that holds in 80% of cases), thresholds, and burn: the burn rate "
        "of the last 1h, 6h, 1d and 3d, where 1 uses up the budget exactly at the end of the period. Answers: will we "
        "exceed the budget?",
        input_schema(forecasts.BUDGET_PARAMETERS),
        text_schema(Budgets),
        answer,
    )


def forecast_tool(known: Known) -> Tool:
    """Return the tool that tells what the month will cost."""

    def answer(arguments: Arguments) -> Answer:
        found = forecasts.answer_accounts(known.latest(), as_texts(arguments))
        document = Forecasts.model_validate(found)
        rows = map(texts, document.accounts)
        shown = table(("account", "start", "end", "spend", "forecast"), rows)
        text = f"The current month in USD, as of {instant_text(found.as_of)}.\n\n{shown}{_notes(document.notes)}"
        return Answer(texts(document), text)

    return Tool(
        "fal-get-forecast",
        "Forecast of the month",
        "Cost of the current month for each account: so far, and forecast at its end: expected, and the lower and "
        "upper edge of a band that holds in 80% of cases. Null until the month to date has been loaded.",
        input_schema(forecasts.ACCOUNT_PARAMETERS),
        text_schema(Forecasts),
        answer,
    )


def _notes(notes: Sequence[str]) -> str:
    return "".join(f"\n\nNote: {note}" for note in notes)


def _reached(budget: Budget) -> list[str]:
    return [threshold.threshold for threshold in budget.thresholds if threshold.reached]


def _span(duration: timedelta | None) -> str | None:
    return None if duration is None else span(duration.total_seconds())


_ROWS = 100
_MOST_ROWS = 1000
_LIMIT = parameters.whole_number("limit", f"Maximum number of rows in an answer. Default: {_ROWS}.", 1, _MOST_ROWS)
_USAGE = (*(item for item in usage.PARAMETERS if item is not usage.LIMIT), _LIMIT)
_INVOICES = (*invoices.PARAMETERS, _LIMIT, usage.CURSOR)


def usage_tool(known: Known) -> Tool:
    """Return the tool that tells usage and spend of a window."""

    def answer(arguments: Arguments) -> Answer:
        given = as_texts(arguments)
        limit = Given(given, _USAGE).get(_LIMIT) or _ROWS
        question = usage.parse_usage_question(given | {"limit": str(limit)}, now=known.clock(), zone=known.zone)
        with known.snapshot() as ledger:
            asked = question.live_questions(ledger.scopes(), ledger.kept_from(), known.clock())
        live = asyncio.run(ask_live(known.inquirer, asked, must=question.live == "true")) if asked else ()
        with known.snapshot() as ledger:
            found = usage.answer_usage(ledger, question, live)
        lacks = lacking(known.latest(), question.accounts)
        document = Usage.model_validate(replace(found, notes=(*found.notes, *lacks)))
        return Answer(texts(document), _usage_text(document))

    return Tool(
        "fal-get-usage",
        "Usage and spend at fal",
        "Spend and usage at fal in a time window, as a total and by any of model, app, gpu_class, account, team, "
        "product, api_key, member, hour, day and month, and by configured tags (`tag:customer`), with filters on each. "
        "Exact, from the exporter's ledger; "
        "hours that the ledger does not have are read from fal and listed in `live`, unless `live` is `false`: tell "
        "the user. Costs nothing at fal. If `complete` is false, hours are missing: tell the user, with "
        "`data_through`. Amounts are US dollars "
        'as decimal text. Example: {"start": "2026-11-01", "end": "2026-11-08", "group_by": ["model"]}. Group by few '
        "dimensions, and by hour only for windows of days; use `cursor` for further pages.",
        input_schema(_USAGE),
        text_schema(Usage),
        answer,
    )


def drivers_tool(known: Known) -> Tool:
    """Return the tool that tells why spend went up or down."""

    def answer(arguments: Arguments) -> Answer:
        question = drivers.parse_drivers_question(as_texts(arguments), now=known.clock(), zone=known.zone)
        with known.snapshot() as ledger:
            found = drivers.answer_drivers(ledger, question)
        lacks = lacking(known.latest(), question.accounts)
        document = Drivers.model_validate(replace(found, notes=(*found.notes, *lacks)))
        return Answer(texts(document), _drivers_text(document))

    return Tool(
        "fal-explain-spend",
        "Why spend went up or down",
        "Why a window cost more or less than an earlier one: the difference split exactly into price, volume, mix "
        "(cheap to dear models, other machines), new and vanished models, discount and surge, in total and for each "
        "model or app; with `group_by` also which customer (a tag, such as tag:customer), team or API key moved. "
        "Without arguments: this month to date against as many hours of the last. Exact, from the ledger; the parts "
        "add up to the difference. If a window is not `complete`, tell the user. Amounts are US "
        'dollars as decimal text. Example: {"window": "last_7_days"}.',
        input_schema(drivers.PARAMETERS),
        text_schema(Drivers),
        answer,
    )


def _drivers_text(document: Drivers) -> str:
    told = document.model_dump(mode="json")
    sides = [
        f"{told[name]['spend']} from {_at(side.start)} to {_at(side.end)}{'' if side.complete else ' (NOT complete)'}"
        for name, side in (("window", document.window), ("compare", document.compare))
    ]
    parts = [{"cause": name, "amount": amount} for name, amount in told["parts"].items()]
    items = [
        {**item, **item["parts"], "item": " ".join(filter(None, (item["model"], item["app"], item["gpu_class"])))}
        for item in told["items"]
    ]
    lines = [
        f"Spend in USD: {sides[0]}; {sides[1]}. Difference: {told['difference']}.",
        "",
        table(("cause", "amount"), parts),
        "",
        table(("item", "unit", "account", "difference", *told["parts"]), items),
    ]
    if document.groups is not None:
        groups = document.groups
        columns = ("spend", "compare_spend", "difference")
        lines += [
            "",
            table(
                (groups.group_by, *columns),
                [{groups.group_by: row["value"], **row} for row in told["groups"]["values"]],
            ),
        ]
        if groups.others_count:
            lines.append(
                f"{groups.others_count} more are not listed: {told['groups']['others']['difference']} together."
            )
    if document.others.count:
        lines.append(f"{document.others.count} more items are not listed.")
    return "\n".join([*lines, *(f"Note: {note}" for note in document.notes)])


def machines_tool(known: Known) -> Tool:
    """Return the tool that tells what runners cost by state."""

    def answer(arguments: Arguments) -> Answer:
        question = machines.parse_machines_question(as_texts(arguments), now=known.clock(), zone=known.zone)
        with known.snapshot() as ledger:
            document = Machines.model_validate(machines.answer_machines(ledger, question))
        return Answer(texts(document), _machines_text(document))

    return Tool(
        "fal-get-idle-cost",
        "The idle bill of your apps",
        "What the runners of the user's own serverless apps cost in a window (default: this month) while they ran, "
        "were idle (warm, billed and without requests), started and ended; exact, most idle money first, with the "
        "settings that decide about it: `keep_alive` seconds, `min_concurrency`, `max_concurrency`. Also what a "
        "successful request costs, what failed requests cost, and cold starts, by app and model. Amounts are US "
        "dollars as decimal text. Answers: where does the GPU money go, which app wastes most, what to change?",
        input_schema(machines.PARAMETERS),
        text_schema(Machines),
        answer,
    )


def invoices_tool(known: Known) -> Tool:
    """Return the tool that lists invoices."""

    def answer(arguments: Arguments) -> Answer:
        given = as_texts(arguments)
        known_texts = Given(given, _INVOICES)
        limit, cursor = known_texts.get(_LIMIT) or _ROWS, known_texts.get(usage.CURSOR)
        asked = {name: text for name, text in given.items() if name not in {"limit", "cursor"}}
        question, asking = invoices.parse_invoices_question(asked), fingerprint("invoices", *sorted(asked.items()))

        if cursor is not None:
            cursor.check(asking)
        first = 0 if cursor is None else cursor.offset
        with known.snapshot() as ledger:
            found = invoices.answer_invoices(ledger, question)
        end = first + limit
        following = str(Cursor(0, asking, 0, end)) if end < len(found) else None
        document = InvoicePage(invoices=Invoices.model_validate(found[first:end]).root, next_cursor=following)
        return Answer(texts(document), _invoices_text(document))

    return Tool(
        "fal-list-invoices",
        "Invoices from fal",
        "The invoices that fal has issued, newest first: status, period, due date, subtotal (usage), credits, tax and "
        "total, in US dollars as decimal text, and every other field that fal sends, such as links. Periods are UTC "
        "months, and `period_end` is exclusive.",
        input_schema(_INVOICES),
        text_schema(InvoicePage),
        answer,
    )


def _usage_text(document: Usage) -> str:
    told = document.model_dump(mode="json")
    total = told["total"]
    amounts = ["spend", *(name for name in ("discount", "gpu_seconds", "quantities") if total[name] not in ("0", {}))]
    by = f" by {', '.join(document.group_by)}" if document.group_by else ""
    lines = [f"Spend from {_at(document.start)} to {_at(document.end)}{by}, in USD: {total['spend']} in total.", ""]
    for part in document.live:
        lines += [f"Asked of fal, not from the ledger: {part.account}, {_at(part.start)} to {_at(part.end)}.", ""]
    rows = [{**row, **{f"tag:{key}": value for key, value in row.get("tags", {}).items()}} for row in told["usage"]]
    lines.append(table([*document.group_by, *amounts], rows if document.group_by else [total]))
    known_to = f"data through {_at(document.data_through)}, settled through {_at(document.settled_through)}"
    lines += [
        "",
        f"{'Complete' if document.complete else 'NOT complete'}; {known_to}.",
        f"Days and months are those of {document.timezone}.",
        *(f"Note: {note}" for note in document.notes),
    ]
    return "\n".join([*lines, *_more(document.next_cursor)])


def _machines_text(document: Machines) -> str:
    told = document.model_dump(mode="json")
    by_app = [
        {**app, **app["spend"], "idle_share": _percent(app["idle_share"]), **(app["settings"] or {})}
        for app in told["apps"]
    ]
    settings = ("keep_alive", "min_concurrency", "max_concurrency")
    columns = ("account", "app", "environment", "gpu_class", *told["spend"], "idle_share", *settings)
    total, share = told["spend"], _percent(told["idle_share"])
    lines = [
        (
            f"Runners from {_at(document.start)} to {_at(document.end)}, in USD: {total['total']} in total, "
            f"{total['idle']} of it idle{f' ({share})' if share else ''}."
        ),
        "",
        table(columns, by_app),
    ]
    if document.requests:
        requests = [{**item, "failed_share": _percent(item["failed_share"])} for item in told["requests"]]
        lines += ["", "Requests in the same window:", "", table([*RequestCosts.model_fields], requests)]
    if document.what_if:
        lines += [
            "",
            "Lower settings, and what they would have saved in the last week of the window (estimates, no promise):",
            "",
            table([*LowerSetting.model_fields], told["what_if"]),
        ]
    return "\n".join([*lines, *(f"\nNote: {note}" for note in document.notes)])


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"


def _invoices_text(document: InvoicePage) -> str:
    rows = [texts(invoice) for invoice in document.invoices]
    if not rows:
        return "No invoices match."
    columns = [name for name in columns_of(rows) if name not in {"id", "currency", OWN_ACCOUNT}]
    return "\n".join(["Amounts in USD.", "", table(columns, rows), *_more(document.next_cursor)])


def _more(cursor: str | None) -> list[str]:
    return ["", f"There are more rows: repeat the call with cursor {cursor}."] if cursor else []


def _at(instant: datetime | None) -> str:
    return instant_text(instant) or "unknown"


def tools(known: Known) -> tuple[Tool, ...]:
    """Return all tools."""
    return (*ledger_tools(known), budgets_tool(known), forecast_tool(known))


def ledger_tools(known: Known) -> tuple[Tool, ...]:
    """Return the tools that need no running exporter."""
    return (
        usage_tool(known),
        drivers_tool(known),
        machines_tool(known),
        *request_tools(known),
        invoices_tool(known),
        balance_tool(known),
        report_tool(known),
        check_tool(),
    )
