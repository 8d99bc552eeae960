"""Invoices held against a file: what is to be paid for each, and what its BilledCost adds up to.

The rule that finance cares for. All charges of an invoice count: usage and purchases, credits, taxes and adjustments.
Rows without InvoiceId belong to none. Amounts are exact; a difference of a billionth is one.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from exporter.focus.check_report import Finding, HeldInvoice, InvoiceSum, Report, State
from exporter.focus.checks import MOST_REMEMBERED
from exporter.focus.dataset import UnreadableFileError
from exporter.focus.rules.compiled import NO_INVOICE_GIVEN
from exporter.focus.rules.table import by_id
from exporter.focus.values import number, number_text

RULE = "X-InvoiceTotal"
_COLUMNS = ("invoice_id", "amount", "currency")


class ExpectedInvoice(NamedTuple):
    """An invoice, and what is to be paid for it.

    Attributes:
        currency: empty where it is the only one that the invoice has in the file.
        number: under which the file may have it instead; empty for none.
        is_required: whether it must be in the file.
    """

    invoice: str
    amount: Decimal
    currency: str = ""
    number: str = ""
    is_required: bool = True


def parse_expected(text: str) -> ExpectedInvoice:
    """Read `INVOICE_ID=AMOUNT`, after which a currency may stand: `INV-7=1234.56 EUR`.

    Raises:
        ValueError: it is something else; the message says what.
    """
    invoice, found, amount = text.rpartition("=")
    if not found or not invoice.strip():
        raise ValueError(f"{text!r} is not INVOICE_ID=AMOUNT, such as INV-7=1234.56 or 'INV-7=1234.56 EUR'")
    return _expected(invoice, *amount.split(maxsplit=1))


def read_expected(path: Path) -> list[ExpectedInvoice]:
    """Read a CSV file with the columns invoice_id, amount and, if wanted, currency.

    Raises:
        UnreadableFileError: there is no such file.
        ValueError: it is something else; the message says where and what.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UnreadableFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text in UTF-8") from None
    table = csv.DictReader(io.StringIO(text), restkey="more", restval="")
    names = [name.strip() for name in table.fieldnames or ()]
    if not {*_COLUMNS[:2]} <= {*names}:
        raise ValueError(f"{path} does not begin with the header invoice_id,amount or invoice_id,amount,currency")
    table.fieldnames = names
    try:
        return [_of_line(line) for line in table]
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {table.line_num}: {error}") from None


def _of_line(line: Mapping[str, str]) -> ExpectedInvoice:
    if "more" in line:
        raise ValueError("has more fields than the header; put an amount with a comma in quotes")
    return _expected(*(line.get(name) or "" for name in _COLUMNS))


def _expected(invoice: str, amount: str = "", currency: str = "") -> ExpectedInvoice:
    if not invoice.strip():
        raise ValueError("has no invoice_id")
    try:
        value = number(amount.strip())
    except ValueError as error:
        raise ValueError(f"amount {amount.strip()!r} of invoice {invoice.strip()} {error}") from None
    return ExpectedInvoice(invoice.strip(), value, currency.strip().upper())


def refuse_twice(expected: Iterable[ExpectedInvoice]) -> None:
    """Refuse an invoice that is expected more than once.

    Raises:
        ValueError: one is, in one currency, or once without a currency.
    """
    counts = Counter((item.invoice, item.currency) for item in expected)
    invoices = Counter(invoice for invoice, _ in counts)
    for (invoice, currency), count in counts.items():
        if count > 1 or (not currency and invoices[invoice] > 1):
            raise ValueError(f"invoice {invoice} is expected more than once; state each with its currency, and once")


def hold(report: Report, expected: Sequence[ExpectedInvoice]) -> None:
    """Hold the sums of a report against what is to be paid, and add what came out to it.

    Args:
        report: of a check that has come to its end.
        expected: each invoice once.
    """
    rule = by_id()[RULE]
    if report.scope.not_applicable.get(rule) == NO_INVOICE_GIVEN:
        del report.scope.not_applicable[rule]
        report.scope.active.append(rule)
    report.held += _held(report, expected)
    is_active = rule in report.scope.active
    # These are of all files together.
    report.findings.part = ""
    for item in report.held:
        if is_active and item.state.is_wrong:
            value = "" if item.found is None else number_text(item.found.billed)
            report.findings.add(Finding(rule, 0, "BilledCost", value, str(item)))
    compared = any(item.found is not None and item.expected is not None for item in report.held)
    if is_active and not compared and not any(item.state.is_wrong for item in report.held):
        report.findings.add(Finding(rule, 0, "InvoiceId", "", "no invoice of the file could be held against one"))
    report.notes += _notes(report)


def _held(report: Report, expected: Sequence[ExpectedInvoice]) -> Iterator[HeldInvoice]:
    sums: dict[str, dict[str, InvoiceSum]] = {}
    for (invoice, currency), total in report.invoices.items():
        if invoice:
            sums.setdefault(invoice, {})[currency] = total
    seen: set[tuple[str, str]] = set()
    for item in expected:
        name = item.number if item.number in sums and item.invoice not in sums else item.invoice
        held = _compared(item, name, sums.get(name, {}), are_all=len(report.invoices) < MOST_REMEMBERED)
        seen.add((name, held.currency))
        yield held
    for invoice, found in sorted(sums.items()):
        for currency, total in sorted(found.items()):
            if (invoice, currency) not in seen:
                yield HeldInvoice(invoice, currency, State.UNEXPECTED, None, total)


def _compared(item: ExpectedInvoice, name: str, found: Mapping[str, InvoiceSum], *, are_all: bool) -> HeldInvoice:
    """Compare one invoice with the sums that a file has of it, by currency."""
    currency = item.currency or (next(iter(found)) if len(found) == 1 else "")
    total = found.get(currency)
    remark = ""
    if total is None:
        state = State.MISSING if item.is_required or found else State.ELSEWHERE
        if found:
            remark = f"the file has it in {', '.join(sorted(found))}"
            remark += "" if item.currency else "; state the currency after the amount"
        elif not are_all:
            remark = f"only the first {MOST_REMEMBERED:,} invoices were summed up"
    elif total.left_out:
        state = State.INCOMPLETE
    else:
        state = State.EQUAL if total.billed == item.amount else State.DIFFERENT
    return HeldInvoice(name, currency, state, item.amount, total, remark)


def _notes(report: Report) -> Iterator[str]:
    for (invoice, currency), total in sorted(report.invoices.items()):
        if not invoice:
            rows, billed = total.rows + total.left_out, f"{number_text(total.billed)} {currency}".rstrip()
            yield f"rows without InvoiceId, in no invoice's sum: {rows:,}, {billed}"
    if report.malformed:
        yield f"rows that are no records and so in no invoice's sum: {report.malformed:,}"
