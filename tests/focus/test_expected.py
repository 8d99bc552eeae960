"""Invoices held against the sums of a file."""

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from focus.conftest import FileRow, base_rows, to_csv

from exporter.focus.check_report import Report, State, check_json, check_junit, check_text
from exporter.focus.checks import Checker
from exporter.focus.dataset import UnreadableFileError
from exporter.focus.expected import RULE, ExpectedInvoice, hold, parse_expected, read_expected, refuse_twice
from exporter.focus.findings import FocusError
from exporter.focus.rules.table import Level


def invoiced(*invoices: str, **changes: str) -> list[FileRow]:
    """Rows of which each has one invoice, billed at 1.1 more than the one before it."""
    rows = base_rows()
    return [
        rows[place] | {"InvoiceId": invoice, "BilledCost": f"{place + 1}.1"} | changes
        for place, invoice in enumerate(invoices)
    ]


def held(rows: Sequence[FileRow], *expected: ExpectedInvoice | str, ignored: Sequence[str] = ()) -> Report:
    checker = Checker("1.2", ignored=ignored)
    checker.feed(to_csv(rows))
    report = checker.finish()
    hold(report, [parse_expected(item) if isinstance(item, str) else item for item in expected])
    return report


def told(report: Report) -> list[str]:
    return [finding.note for finding in report.findings.kept if finding.rule.id == RULE]


def test_an_invoice_that_is_what_is_to_be_paid_breaks_nothing_and_holds() -> None:
    report = held(invoiced("A", "A", "B"), "A=3.2", "B=3.1 usd")
    assert [(item.invoice, item.state, item.difference) for item in report.held] == [
        ("A", State.EQUAL, Decimal(0)),
        ("B", State.EQUAL, Decimal(0)),
    ]
    assert not told(report)
    assert f'name="{RULE}" />' in check_junit("f.csv", report)


def test_a_billionth_is_a_finding_with_what_was_expected_found_and_the_difference() -> None:
    report = held(invoiced("A", "A"), "A=3.199999999")
    assert told(report) == ["invoice A: expected 3.199999999 USD, found 3.2 USD, difference 0.000000001 USD"]
    assert report.fails(Level.MUST)
    text = check_text("f.csv", report)
    assert "  different: invoice A: expected 3.199999999 USD, found 3.2 USD, difference 0.000000001 USD" in text
    found = json.loads(check_json("f.csv", report))
    assert found["expected_invoices"] == [
        {
            "invoice": "A",
            "currency": "USD",
            "state": "different",
            "expected": "3.199999999",
            "found": "3.2",
            "difference": "0.000000001",
            "rows": 2,
            "rows_left_out": 0,
            "known_cost_left_out": "0.0",
            "remark": "",
        }
    ]
    assert "difference 0.000000001 USD" in check_junit("f.csv", report)


def test_credits_and_taxes_of_an_invoice_count_and_rows_without_one_are_told() -> None:
    rows = invoiced("A", "A", "A", "")
    rows[1] |= {"ChargeCategory": "Credit", "BilledCost": "-5.0"}
    rows[2] |= {"ChargeCategory": "Tax", "BilledCost": "0.4"}
    report = held(rows, "A=-3.5")
    assert [item.state for item in report.held] == [State.EQUAL]
    assert "rows without InvoiceId, in no invoice's sum: 1, 4.1 USD" in report.notes


def test_rows_whose_cost_is_no_number_keep_a_sum_from_being_right() -> None:
    rows = invoiced("A", "A")
    rows[1]["BilledCost"] = "$2.10"
    assert told(held(rows, "A=1.1")) == [
        "invoice A: expected 1.1 USD, found 1.1 USD, 1 row is not in this sum (readable: 2.1 USD)"
    ]


def test_rows_that_are_no_records_are_told() -> None:
    checker = Checker("1.2")
    checker.feed(to_csv(invoiced("A")) + b"stray,row\n" + to_csv(invoiced("A")))
    report = checker.finish()
    hold(report, [parse_expected("A=2.2")])
    assert "rows that are no records and so in no invoice's sum: 1" in report.notes


def test_an_invoice_that_is_missing_is_a_finding_and_one_that_nobody_expected_is_told() -> None:
    report = held(invoiced("A"), "B=1")
    assert told(report) == ["invoice B: expected 1.0, not in the file"]
    assert [str(item) for item in report.held if item.state is State.UNEXPECTED] == [
        "invoice A: found 1.1 USD, nobody expected it"
    ]


def test_currencies_are_apart_and_one_must_be_named_where_there_are_several() -> None:
    rows = invoiced("A", "A")
    rows[1]["BillingCurrency"] = "EUR"
    assert told(held(rows, "A=3.2")) == [
        "invoice A: expected 3.2, the file has it in EUR, USD; state the currency after the amount"
    ]
    assert not told(held(rows, "A=1.1 USD", "A=2.1 EUR"))
    assert told(held(invoiced("A"), "A=1.1 EUR")) == ["invoice A: expected 1.1 EUR, the file has it in USD"]


def test_the_ledgers_invoices_may_be_of_other_files_but_not_all_of_them() -> None:
    own = ExpectedInvoice("id-1", Decimal("1.1"), "USD", "A", is_required=False)
    other = ExpectedInvoice("id-2", Decimal(5), "USD", "B", is_required=False)
    report = held(invoiced("A"), own, other)
    assert not told(report)
    assert [item.state for item in report.held] == [State.EQUAL, State.ELSEWHERE]
    assert "of the ledger's invoices not in the file: 1" in check_text("f.csv", report)
    assert told(held(invoiced("A"), other)) == ["no invoice of the file could be held against one"]


def test_the_rule_can_be_ignored_and_does_not_apply_where_nothing_is_expected() -> None:
    report = held(invoiced("A"), "A=5", ignored=[RULE])
    assert not told(report)
    assert [item.state for item in report.held] == [State.DIFFERENT]
    checker = Checker("1.2")
    checker.feed(to_csv(invoiced("A")))
    reasons = {rule.id: reason for rule, reason in checker.finish().scope.not_applicable.items()}
    assert reasons[RULE].startswith("no invoice was given")


def test_an_expectation_is_an_id_an_amount_and_perhaps_a_currency() -> None:
    assert parse_expected("A=B=1.5") == ExpectedInvoice("A=B", Decimal("1.5"))
    assert parse_expected(" A = -1.5 eur") == ExpectedInvoice("A", Decimal("-1.5"), "EUR")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("A", "'A' is not INVOICE_ID=AMOUNT"),
        ("=5", "'=5' is not INVOICE_ID=AMOUNT"),
        ("A=", "amount '' of invoice A is not a number"),
        ("A=$5", "amount '\\$5' of invoice A is not a number"),
        ("A=1,000.50", "amount '1,000.50' of invoice A is not a number"),
        ("A=1E70", "has more than 60 places"),
    ],
)
def test_what_is_no_expectation_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse_expected(text)


def test_expectations_come_from_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "invoices.csv"
    path.write_text("\ufeffinvoice_id, amount,currency\nA,1.5,usd\n\nB,2,\nC,3\n", encoding="utf-8")
    assert [(item.invoice, item.amount, item.currency) for item in read_expected(path)] == [
        ("A", Decimal("1.5"), "USD"),
        ("B", Decimal(2), ""),
        ("C", Decimal(3), ""),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"A,1.5\n", "does not begin with the header invoice_id,amount"),
        (b"", "does not begin with the header"),
        (b"invoice_id,amount\nA,1\nB,1,000\n", "line 3: has more fields than the header"),
        (b"invoice_id,amount\nA,dear\n", "line 2: amount 'dear' of invoice A is not a number"),
        (b"invoice_id,amount\n,1\n", "line 2: has no invoice_id"),
        (b"\xff\xfe", "is not text in UTF-8"),
    ],
)
def test_a_file_that_holds_no_expectations_is_refused(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "invoices.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence):
        read_expected(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"none\.csv cannot be read: No such file") as caught:
        read_expected(tmp_path / "none.csv")
    assert isinstance(caught.value, FocusError)


def test_an_invoice_is_expected_once() -> None:
    refuse_twice([parse_expected("A=1 USD"), parse_expected("A=1 EUR"), parse_expected("B=1")])
    for second in ("A=2 USD", "A=2"):
        with pytest.raises(ValueError, match="invoice A is expected more than once"):
            refuse_twice([parse_expected("A=1 USD"), parse_expected(second)])
