"""The tools that tell what lies ahead, as it has been published last."""

from datetime import timedelta

from exporter.billing import outlooks
from exporter.billing.documents import BALANCE, BALANCES, BUDGET, BUDGETS, FORECASTS, MONTH_FORECAST
from exporter.billing.shapes import instant_text
from exporter.outlook.budgets import percent
from exporter.outlook.state import BudgetOutlook
from exporter.web.mcp.tables import table
from exporter.web.mcp.tool import Answer, Arguments, Known, Tool, as_document, as_texts, input_schema, output_schema
from exporter.web.wording import span


def balance_tool(known: Known) -> Tool:
    """Return the tool that tells credit balance, runway and locks."""

    def answer(arguments: Arguments) -> Answer:
        found = outlooks.answer_accounts(known.latest(), as_texts(arguments))
        rows = [{**as_document(BALANCE.document(it)), "runway": _span(it.runway)} for it in found.accounts]
        shown = table(("account", "balance", "balance_at", "runway", "locked"), rows)
        return Answer(
            as_document(BALANCES.document(found)),
            f"Prepaid credit in USD, as of {instant_text(found.as_of)}.\n\n{shown}",
        )

    return Tool(
        "fal-get-balance",
        "Credit balance and runway",
        "The prepaid credit of each account at fal, how long it lasts at the recent burn (`runway_seconds`), and "
        "whether fal has locked the account. At a balance of 0 fal answers every call with 403 until it is topped up.",
        input_schema(outlooks.ACCOUNT_PARAMETERS),
        output_schema(BALANCES.schema),
        answer,
    )


def budgets_tool(known: Known) -> Tool:
    """Return the tool that tells how budgets stand."""

    def answer(arguments: Arguments) -> Answer:
        found = outlooks.answer_budgets(known.latest(), as_texts(arguments))
        document = as_document(BUDGETS.document(found))
        if not found.budgets:
            return Answer(document, "No budget is configured; budgets are a setting of the exporter's file.")
        rows = [{**as_document(BUDGET.document(it)), "reached": _reached(it)} for it in found.budgets]
        columns = ("budget", "period", "start", "end", "limit", "spend", "remaining", "forecast", "reached", "burn")
        return Answer(document, f"Budgets in USD, as of {instant_text(found.as_of)}.\n\n{table(columns, rows)}")

    return Tool(
        "fal-get-budgets",
        "Budgets",
        "The configured budgets in their running day, week or month: limit, spend so far, what remains, forecast of "
        "the period's spend (expected, and a band that holds in 80 % of cases), thresholds, and burn: how many times "
        "faster than the budget allows evenly money was spent in the last 1h, 6h, 1d and 3d. For: will we exceed "
        "the budget?",
        input_schema(outlooks.BUDGET_PARAMETERS),
        output_schema(BUDGETS.schema),
        answer,
    )


def forecast_tool(known: Known) -> Tool:
    """Return the tool that tells what the month will cost."""

    def answer(arguments: Arguments) -> Answer:
        found = outlooks.answer_accounts(known.latest(), as_texts(arguments))
        rows = [as_document(MONTH_FORECAST.document(it)) for it in found.accounts]
        shown = table(("account", "start", "end", "spend", "forecast"), rows)
        return Answer(
            as_document(FORECASTS.document(found)),
            f"The running month in USD, as of {instant_text(found.as_of)}.\n\n{shown}",
        )

    return Tool(
        "fal-get-forecast",
        "Forecast of the month",
        "What the running month has cost each account so far, and will have cost at its end: expected, and the low and "
        "high edge of a band that holds in 80 % of cases. Null until the month so far has been loaded.",
        input_schema(outlooks.ACCOUNT_PARAMETERS),
        output_schema(FORECASTS.schema),
        answer,
    )


def _reached(budget: BudgetOutlook) -> list[str]:
    spend = budget.spend
    return [percent(it) for it in budget.thresholds if spend is not None and spend >= it * budget.limit]


def _span(duration: timedelta | None) -> str | None:
    return None if duration is None else span(duration.total_seconds())
