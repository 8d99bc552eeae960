"""`/billing/invoices`: the invoices of the account.

The published description leaves the body open; what is read here is assumed: an array of `{"id", "number", "status",
"period_start", "period_end", "issued_at", "due_at", "currency", "subtotal", "credits", "tax", "total"}`, `period_end`
exclusive.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Self

from exporter.charges import Invoice
from exporter.fal.calls import Call, Host
from exporter.fal.client import Client
from exporter.fal.fields import Row, in_dollars, instant, number, optional_text, row_of, text
from exporter.fal.rejections import RejectedError

CALL = Call(Host.REPORTING, "/billing/invoices")


class Invoices(tuple[Invoice, ...]):  # noqa: SLOT001  a tuple's subclass can have no slots of its own
    """The invoices of one answer.

    Attributes:
        rejected: how many were not understood, by reason (one of `REJECTIONS`).
    """

    rejected: Mapping[str, int]

    def __new__(cls, invoices: Iterable[Invoice], rejected: Mapping[str, int]) -> Self:
        """Keep both."""
        made = super().__new__(cls, invoices)
        made.rejected = rejected
        return made


async def read_invoices(client: Client) -> Invoices:
    """Read all invoices of the account; one that is not understood is left out and counted.

    Raises:
        CallError: every kind of failure; see `exporter.fal.errors`.
    """
    answer = await client.get(CALL, {}, client.deadline(), heed_lock=False)
    if not isinstance(answer, list):
        raise client.misshapen(CALL, "is no list of invoices")
    invoices = []
    rejected: Counter[str] = Counter()
    for row in answer:
        try:
            invoices.append(invoice(client.account, row_of(row)))
        except RejectedError as error:
            client.rejections.reject(rejected, "invoices", error.reason, row)
    return Invoices(invoices, dict(rejected))


def invoice(account: str, row: Row) -> Invoice:
    """Read one invoice; credits and totals may be below zero.

    Raises:
        RejectedError: a needed field is absent or not what it should be.
    """
    in_dollars(row.get("currency"))
    total = number(row.get("total"))
    subtotal = row.get("subtotal")
    return Invoice(
        account=account,
        id=text(row.get("id")),
        number=optional_text(row.get("number")),
        status=text(row.get("status")).lower(),
        period_start=instant(row.get("period_start")),
        period_end=instant(row.get("period_end")),
        issued_at=_optional_instant(row.get("issued_at")),
        due_at=_optional_instant(row.get("due_at")),
        currency="USD",
        subtotal=total if subtotal is None else number(subtotal),
        credits=_optional_number(row.get("credits")),
        tax=_optional_number(row.get("tax")),
        total=total,
    )


def _optional_instant(value: object) -> datetime | None:
    return None if value is None else instant(value)


def _optional_number(value: object) -> int:
    return 0 if value is None else number(value)
