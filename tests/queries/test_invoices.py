from datetime import UTC, datetime, timedelta

import pytest

from exporter.charges import NANO, Invoice
from exporter.ledger import Ledger
from exporter.ledger.reader import LedgerReader
from exporter.queries.invoices import answer_invoices, parse_invoices_question
from exporter.queries.parameters import QuestionError


def invoice(number: int, account: str, month: int, status: str) -> Invoice:
    start, end = datetime(2026, month, 1, tzinfo=UTC), datetime(2026, month + 1, 1, tzinfo=UTC)
    issued = None if status == "draft" else end + timedelta(days=1)
    return Invoice(account, f"inv_{number}", str(number), status, start, end, issued, None, "USD", NANO, 0, 0, NANO)


@pytest.fixture
def billed(reader: LedgerReader, ledger: Ledger) -> LedgerReader:
    ledger.record_invoices(
        "studio", [invoice(1, "studio", 8, "paid"), invoice(2, "studio", 9, "open"), invoice(4, "studio", 10, "draft")]
    )
    ledger.record_invoices("research", [invoice(3, "research", 9, "paid"), invoice(5, "research", 7, "past_due")])
    return reader


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({}, ["4", "2", "3", "1", "5"]),
        ({"account": "studio"}, ["4", "2", "1"]),
        ({"status": "paid"}, ["3", "1"]),
        ({"status": "open,draft"}, ["4", "2", "5"]),
        ({"period": "2026-09"}, ["2", "3"]),
        ({"start": "2026-09-01"}, ["4", "2", "3"]),
        ({"end": "2026-09-01"}, ["1", "5"]),
        ({"start": "2026-08-31T23:00Z", "end": "2026-10-01"}, ["2", "3", "1"]),
        ({"account": "research", "status": "open"}, ["5"]),
        ({"account": "research", "status": "void"}, []),
    ],
)
def test_invoices_are_the_newest_first_and_filtered(
    billed: LedgerReader, given: dict[str, str], numbers: list[str]
) -> None:
    with billed.snapshot() as snapshot:
        found = answer_invoices(snapshot, parse_invoices_question(given))
    assert [item.number for item in found] == numbers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"status": "late"}, "status is not a comma-separated list of paid, open, draft, void"),
        ({"period": "2026"}, "period is not a month; write it like 2026-11"),
        ({"period": "2026-09", "start": "2026-09-01"}, "period is given together with start or end"),
        ({"start": "2026-09-02", "end": "2026-09-01"}, "start is not before end"),
        ({"month": "2026-09"}, "month is not one of account, status, period, start, end"),
    ],
)
def test_a_question_that_cannot_be_understood_is_told_what_is_accepted(given: dict[str, str], message: str) -> None:
    with pytest.raises(QuestionError) as caught:
        parse_invoices_question(given)
    assert message in str(caught.value)


def test_an_account_that_is_not_polled_is_an_error(billed: LedgerReader) -> None:
    with billed.snapshot() as snapshot, pytest.raises(QuestionError, match="accepted are research, studio"):
        answer_invoices(snapshot, parse_invoices_question({"account": "nobody"}))
