"""The calls, declared once: read by their declaration, and described by it at `/openapi.json` and `/docs`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.billing import documents, focus, invoices, outlooks, parameters, usage
from exporter.billing.parameters import Parameter
from exporter.billing.shapes import Schema, list_of
from exporter.metrics.publication import Publication
from exporter.web.refusals import JSON
from exporter.web.rest import examples

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerReader

CSV = "text/csv"

AMOUNTS = parameters.choice(
    "amounts",
    "How amounts are written: as JSON numbers with every digit, or as strings, for readers that make floats of "
    "numbers. Left out: number.",
    ("number", "string"),
)


@dataclass(frozen=True, slots=True)
class Sources:
    """What answers are made from.

    Attributes:
        ledger: returns the reader; to be called in a thread.
        publication: the latest; None before the first.
        zone: the configured time zone.
        now: an aware instant.
    """

    ledger: Callable[[], "LedgerReader"]
    publication: Publication | None
    zone: ZoneInfo
    now: datetime


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        name: a word for it, unique.
        title: what it answers, in a few words.
        meaning: the same in sentences.
        schema: of the answer.
        example: an answer, as a document or a text.
        answer: makes the document; None where it is streamed.
        from_ledger: whether it is made from the ledger, not from the latest publication.
    """

    path: str
    name: str
    title: str
    meaning: str
    parameters: tuple[Parameter[object], ...]
    schema: Schema
    example: object
    answer: Callable[[Sources, Mapping[str, str]], object] | None
    from_ledger: bool = True
    media_type: str = JSON

    @property
    def told(self) -> str:
        """What it answers, with the parameters."""
        names = ", ".join(f"`{it.name}`" for it in self.parameters if it.name not in {AMOUNTS.name, "limit", "cursor"})
        return f"{self.title[0].lower()}{self.title[1:]}; {names}"


def _usage(sources: Sources, texts: Mapping[str, str]) -> object:
    question = usage.parse_usage_question(texts, now=sources.now, zone=sources.zone)
    return documents.USAGE.document(usage.answer_usage(sources.ledger(), question))


def _invoices(sources: Sources, texts: Mapping[str, str]) -> object:
    question = invoices.parse_invoices_question(texts)
    return documents.invoices_document(invoices.answer_invoices(sources.ledger(), question))


def _balance(sources: Sources, texts: Mapping[str, str]) -> object:
    return documents.BALANCES.document(outlooks.answer_accounts(sources.publication, texts))


def _budgets(sources: Sources, texts: Mapping[str, str]) -> object:
    return documents.BUDGETS.document(outlooks.answer_budgets(sources.publication, texts))


def _forecast(sources: Sources, texts: Mapping[str, str]) -> object:
    return documents.FORECASTS.document(outlooks.answer_accounts(sources.publication, texts))


CALLS = (
    Call(
        path="/v1/billing/usage",
        name="usage",
        title="Usage and spend of a window",
        meaning="What was used and what it cost, by any of some dimensions, exact to the nano-dollar and the same as "
        "`/metrics` tells. An object in the shape of fal's reporting interface.",
        parameters=(*usage.PARAMETERS, AMOUNTS),
        schema=documents.USAGE.schema,
        example=documents.USAGE.document(examples.USAGE),
        answer=_usage,
    ),
    Call(
        path="/v1/billing/invoices",
        name="invoices",
        title="Invoices",
        meaning="fal's invoices as it states them, the newest first.",
        parameters=(*invoices.PARAMETERS, AMOUNTS),
        schema=list_of(documents.INVOICE.schema),
        example=documents.invoices_document(examples.INVOICES),
        answer=_invoices,
    ),
    Call(
        path="/v1/billing/balance",
        name="balance",
        title="Credit balance, runway and locks",
        meaning="The prepaid credit of each account, how long it lasts at the recent burn, and whether fal has locked "
        "the account.",
        parameters=(*outlooks.ACCOUNT_PARAMETERS, AMOUNTS),
        schema=documents.BALANCES.schema,
        example=documents.BALANCES.document(examples.ACCOUNTS),
        answer=_balance,
        from_ledger=False,
    ),
    Call(
        path="/v1/billing/budgets",
        name="budgets",
        title="Budgets",
        meaning="Each configured budget in its running period: what is spent, what is left, what is expected.",
        parameters=(*outlooks.BUDGET_PARAMETERS, AMOUNTS),
        schema=documents.BUDGETS.schema,
        example=documents.BUDGETS.document(examples.BUDGETS),
        answer=_budgets,
        from_ledger=False,
    ),
    Call(
        path="/v1/billing/forecast",
        name="forecast",
        title="Forecast of the month",
        meaning="What the running month will have cost each account, with a band that holds it in 80 % of cases.",
        parameters=(*outlooks.ACCOUNT_PARAMETERS, AMOUNTS),
        schema=documents.FORECASTS.schema,
        example=documents.FORECASTS.document(examples.ACCOUNTS),
        answer=_forecast,
        from_ledger=False,
    ),
    Call(
        path="/v1/billing/focus",
        name="focus",
        title="A FOCUS Cost and Usage file (CSV)",
        meaning="What was charged, as a file of the FinOps Open Cost and Usage Specification: one row a charge and "
        "period, streamed. The header `fal-exporter-missing-hours` counts the hours of the window that have not been "
        "read to their end.",
        parameters=focus.PARAMETERS,
        schema={"type": "string"},
        example=examples.FOCUS,
        answer=None,
        media_type=CSV,
    ),
)
"""All of them, in the order in which they are shown."""
