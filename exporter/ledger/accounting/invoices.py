"""Invoices of a month: which of them bill, and how many of its hours.

fal may send one invoice for a month, or several: one each time a threshold is reached, a credit note, a correction.
What they bill is compared with the ledger, and put in place of an estimate, only for the hours that they cover.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from exporter.charges import Invoice, Window, first_hour_from, hour_of, hour_start


@dataclass(frozen=True, slots=True)
class BilledPart:
    """The hours of a UTC month that invoices bill, and those invoices.

    Attributes:
        window: the hours that they cover, from the start of the month on and without a gap.
        invoices: those that bill these hours, and nothing beyond them.
    """

    window: Window
    invoices: tuple[Invoice, ...]


def billed_part(invoices: Iterable[Invoice], month: Window) -> BilledPart | None:
    """Return what the invoices of one account bill of a month; None where none bills its first hour.

    Void ones bill nothing; a draft stands for the invoice that is not yet there, and so not beside one that is. A
    period that ends at 23:59:59 ends with its hour. None, too, where an invoice bills hours of it and of another month
    together (`reaching_out`): a part of what is billed is not the bill.
    """
    invoices = tuple(invoices)
    if reaching_out(invoices, month):
        return None
    of_month = [
        invoice
        for invoice in invoices
        if invoice.status != "void" and invoice.period_start in month and invoice.period_end <= month.end
    ]
    issued = [invoice for invoice in of_month if invoice.is_issued]
    counting = issued + [
        draft for draft in of_month if not draft.is_issued and not any(_overlap(draft, other) for other in issued)
    ]
    end = month.start
    for invoice in sorted(counting, key=lambda item: item.period_start):
        if hour_of(invoice.period_start) <= end:
            end = max(end, _end(invoice))
    if end == month.start:
        return None
    return BilledPart(Window(month.start, end), tuple(invoice for invoice in counting if _end(invoice) <= end))


def reaching_out(invoices: Iterable[Invoice], month: Window) -> tuple[Invoice, ...]:
    """Return the issued invoices that bill usage of a month and of hours outside it together.

    How much of each, fal does not say. One of credits or taxes alone has no part in the usage that is compared.
    """
    return tuple(
        invoice
        for invoice in invoices
        if invoice.is_issued
        and invoice.subtotal
        and invoice.period_start < month.end
        and invoice.period_end > month.start
        and not (invoice.period_start in month and invoice.period_end <= month.end)
    )


def invoice_names(invoices: Collection[Invoice]) -> Mapping[tuple[str, str], str]:
    """Return the name of each invoice, by account and id: its number, or its id where that is none of its alone."""
    shared = Counter((item.account, name) for item in invoices for name in {item.number, item.id})
    return {
        (item.account, item.id): item.number if item.number and shared[item.account, item.number] == 1 else item.id
        for item in invoices
    }


def withdrawn(known: Iterable[Invoice], stated: Collection[Invoice]) -> frozenset[str]:
    """Return the ids of the invoices of an account that fal does not list any more, although it lists older ones.

    What is paid or void is history, and kept: fal may list the newest only.

    Args:
        known: those that are kept.
        stated: all that fal lists now.
    """
    listed, since = {item.id for item in stated}, min((item.period_start for item in stated), default=None)
    return frozenset(
        item.id
        for item in known
        if since is not None
        and item.period_start >= since
        and item.id not in listed
        and item.status not in {"paid", "void"}
    )


def _end(invoice: Invoice) -> datetime:
    """Return the end of the hours that an invoice covers."""
    return hour_start(first_hour_from(invoice.period_end))


def _overlap(first: Invoice, second: Invoice) -> bool:
    return first.period_start < second.period_end and second.period_start < first.period_end
