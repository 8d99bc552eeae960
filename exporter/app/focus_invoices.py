"""Invoices that `focus check` holds files against: from the command line, from a file, and from the ledger."""

from dataclasses import dataclass
from pathlib import Path

from exporter.charges import decimal_of
from exporter.errors import ConfigurationError
from exporter.focus.expected import ExpectedInvoice, parse_expected, read_expected, refuse_twice
from exporter.ledger.export import open_statement

_ISSUED = ("paid", "open")
"""States of an invoice that has been issued and bills something."""


@dataclass(frozen=True, slots=True)
class Invoices:
    """Amounts to be paid for invoices.

    Attributes:
        stated: each `INVOICE_ID=AMOUNT`.
        file: of more of them; None for none.
        ledger: its address; None where its invoices do not matter.
    """

    stated: tuple[str, ...] = ()
    file: Path | None = None
    ledger: str | None = None

    def read(self) -> list[ExpectedInvoice]:
        """Return all of them; those of the ledger that were stated as well are as they were stated.

        Raises:
            ConfigurationError: an option or the file is wrong.
            UnreadableFileError: the file cannot be read.
            LedgerError: there is no ledger, or it cannot be read.
        """
        try:
            option = "--expect"
            expected = [parse_expected(text) for text in self.stated]
            if self.file is not None:
                option = "--expect-file"
                expected += read_expected(self.file)
            refuse_twice(expected)
        except ValueError as error:
            raise ConfigurationError(f"{option}: {error}") from None
        if self.ledger is not None:
            stated = {item.invoice for item in expected}
            expected += [item for item in _in_ledger(self.ledger) if stated.isdisjoint({item.invoice, item.number})]
        return expected


def _in_ledger(address: str) -> list[ExpectedInvoice]:
    """Return the invoices of the ledger that have been issued; a file need not have all of them."""
    with open_statement(address) as statement:
        return [
            ExpectedInvoice(item.id, decimal_of(item.total), item.currency.upper(), item.number, is_required=False)
            for item in statement.invoices()
            if item.status in _ISSUED
        ]
