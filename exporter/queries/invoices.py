"""Invoices as fal states them, newest first: question, answer, and the document that programs are sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, Field, RootModel, model_validator

from exporter.charges import Invoice as StatedInvoice
from exporter.charges import decimal_of
from exporter.queries import parameters
from exporter.queries.coverage import check_accounts
from exporter.queries.exact_json import Document, SentAmount, SentDocument, SentText
from exporter.queries.parameters import Parameter, QuestionError

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerSnapshot

STATUSES = ("paid", "open", "draft", "void")

ACCOUNT = parameters.values("account", "Only these accounts, comma-separated. Default: all.", "default")
STATUS = parameters.choices(
    "status",
    "Only invoices of these states, comma-separated. A state that fal introduces later counts as open. Default: all.",
    STATUSES,
    "open,paid",
)
START = parameters.instant(
    "start",
    "Only invoices whose period ends after this; ISO 8601, UTC if it has no offset. Default: all.",
    "2026-10-01",
)
END = parameters.instant("end", "Only invoices whose period begins before this. Default: all.", "2026-11-01")
PERIOD = parameters.month("period", "Only invoices whose period overlaps this month; instead of `start` and `end`.")
PARAMETERS: tuple[Parameter[object], ...] = (ACCOUNT, STATUS, PERIOD, START, END)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class InvoicesQuestion:
    """A question about invoices; None is all.

    Attributes:
        start, end: aware and in UTC; what is wanted are invoices whose period has a part in [start, end).
    """

    accounts: frozenset[str] | None = None
    statuses: frozenset[str] | None = None
    start: datetime | None = None
    end: datetime | None = None


def parse_invoices_question(given: Mapping[str, str]) -> InvoicesQuestion:
    """Read a question from the texts of its parameters.

    Raises:
        QuestionError: a parameter is not known or cannot be read.
    """
    texts = parameters.Given(given, PARAMETERS)
    statuses, period = texts.get(STATUS), texts.get(PERIOD)
    start, end = (texts.get(parameter) for parameter in (START, END))
    if period is not None and (start, end) != (None, None):
        raise QuestionError("period", "is given together with start or end; use one or the other")
    question = InvoicesQuestion(
        accounts=texts.get(ACCOUNT),
        statuses=None if statuses is None else frozenset(statuses),
        # The periods of fal's invoices are months of UTC, whatever zone the days of usage follow.
        start=_instant(start, None if period is None else period.start),
        end=_instant(end, None if period is None else period.end),
    )
    if question.start is not None and question.end is not None and question.start >= question.end:
        raise QuestionError("start", "is not before end, which is exclusive")
    return question


def answer_invoices(ledger: "LedgerSnapshot", question: InvoicesQuestion) -> tuple[StatedInvoice, ...]:
    """Return the invoices that are asked for, those issued last first.

    Raises:
        QuestionError: an account is not polled.
        NoDataYetError: nothing has been read from fal yet.
        LedgerError: the ledger cannot be read.
    """
    check_accounts((scope.account for scope in ledger.scopes()), question.accounts or ())
    wanted = [invoice for invoice in ledger.invoices() if _is_wanted(invoice, question)]
    wanted.sort(key=lambda item: item.id)
    return tuple(sorted(wanted, key=lambda item: (item.issued_at or item.period_end, item.period_end), reverse=True))


def stated(invoice: StatedInvoice) -> dict[str, object]:
    """Return all that fal has sent of an invoice, numbers as decimals; where that has not been kept, what has been."""
    if invoice.stated:
        sent: dict[str, object] = json.loads(invoice.stated, parse_float=Decimal)
        return sent
    return {
        "id": invoice.id,
        "number": invoice.number,
        "status": invoice.status,
        **{name: _written(getattr(invoice, name)) for name in ("period_start", "period_end", "issued_at", "due_at")},
        "currency": invoice.currency,
        **{name: decimal_of(getattr(invoice, name)) for name in ("subtotal", "credits", "tax", "total")},
    }


def _written(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


def _instant(written: parameters.LocalTime | None, otherwise: datetime | None) -> datetime | None:
    return otherwise if written is None else parameters.aware(written, _UTC)


def _states(invoice: StatedInvoice) -> frozenset[str]:
    return frozenset({invoice.status, *(("open",) if invoice.is_to_be_paid else ())})


def _is_wanted(invoice: StatedInvoice, question: InvoicesQuestion) -> bool:
    return (
        (question.accounts is None or invoice.account in question.accounts)
        and (question.statuses is None or bool(question.statuses & _states(invoice)))
        and (question.start is None or invoice.period_end > question.start)
        and (question.end is None or invoice.period_start < question.end)
    )


OWN_ACCOUNT = "x_fal_exporter_account"
"""Field of an invoice that is ours, not fal's; fal has no reason to send one of this name."""


class Invoice(SentDocument):
    """One invoice as fal sent it: every field it has, under its name and with its value; those below are known.

    Amounts are in USD. fal does not document the fields. One that fal did not send is missing.
    """

    model_config = ConfigDict(extra="allow")

    x_fal_exporter_account: str = Field(description="Configured account; the one field that is the exporter's own.")
    account: object = Field(
        None,
        description="The same, unless fal sends a field of this name, which then stands here. Deprecated: read "
        "`x_fal_exporter_account`.",
    )
    id: SentText = Field(None, description="fal's identifier of the invoice.")
    number: SentText = Field(None, description="Number on the invoice.")
    status: SentText = Field(None, description="`paid`, `open`, `draft` or `void`.")
    period_start: SentText = Field(None, description="Start of the billed period, ISO 8601.")
    period_end: SentText = Field(None, description="End of the billed period, exclusive.")
    issued_at: SentText = Field(None, description="When it was issued.")
    due_at: SentText = Field(None, description="When it is due.")
    currency: SentText = Field(None, description="Always USD.")
    subtotal: SentAmount = Field(None, description="Usage.")
    credits: SentAmount = Field(None, description="Credits.")
    tax: SentAmount = Field(None, description="Tax.")
    total: SentAmount = Field(None, description="Amount to be paid.")

    @model_validator(mode="before")
    @classmethod
    def _of_invoice(cls, invoice: object) -> object:
        """Return the fields: fal's, and which account they are of."""
        if not isinstance(invoice, StatedInvoice):
            return invoice
        return {"account": invoice.account, **stated(invoice), OWN_ACCOUNT: invoice.account}


class Invoices(RootModel[tuple[Invoice, ...]]):
    """Invoices as the array that the reporting interface answers."""

    model_config = ConfigDict(frozen=True, from_attributes=True, strict=True)


class InvoicePage(Document):
    """One page of invoices."""

    invoices: tuple[Invoice, ...] = Field(description="The invoices, most recently issued first.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last page.")
