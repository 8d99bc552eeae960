from datetime import UTC, datetime, timedelta

from exporter.charges import Invoice, Window
from exporter.ledger.accounting.invoices import billed_part, invoice_names, withdrawn

OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))


def day(number: int) -> datetime:
    return OCTOBER.start + timedelta(days=number - 1)


def invoice(
    name: str, first: int, after: int, status: str = "paid", *, number: str = "", account: str = "a"
) -> Invoice:
    """Return an invoice of the days from one on to before another of October."""
    return Invoice(account, name, number, status, day(first), day(after), None, None, "USD", 1, 0, 0, 1)


def told(*invoices: Invoice) -> tuple[datetime, set[str]] | None:
    part = billed_part(invoices, OCTOBER)
    if part is None:
        return None
    assert part.window.start == OCTOBER.start
    assert len({item.id for item in part.invoices}) == len(part.invoices), "each counts once"
    return part.window.end, {item.id for item in part.invoices}


def test_invoices_bill_a_month_from_its_start_as_far_as_they_follow_on_each_other() -> None:
    assert told() is None
    assert told(invoice("all", 1, 32)) == (OCTOBER.end, {"all"})
    assert told(invoice("later", 2, 32)) is None
    assert told(invoice("1", 1, 11)) == (day(11), {"1"})
    assert told(invoice("3", 21, 32), invoice("1", 1, 11)) == (day(11), {"1"})
    assert told(invoice("3", 21, 32), invoice("2", 11, 21), invoice("1", 1, 11)) == (OCTOBER.end, {"1", "2", "3"})


def test_a_note_counts_with_the_hours_that_it_is_about() -> None:
    assert told(invoice("1", 1, 11), invoice("note", 3, 4)) == (day(11), {"1", "note"})
    assert told(invoice("1", 1, 11), invoice("note", 12, 13)) == (day(11), {"1"})
    assert told(invoice("1", 1, 11), invoice("of no time", 4, 4)) == (day(11), {"1", "of no time"})
    assert told(invoice("1", 1, 11), invoice("of no time", 11, 11)) == (day(11), {"1", "of no time"})
    assert told(invoice("of no time", 1, 1)) is None


def test_a_draft_goes_on_where_issued_invoices_end_and_stands_beside_none_of_the_same_time() -> None:
    assert told(invoice("1", 1, 11), invoice("2", 11, 32, "draft")) == (OCTOBER.end, {"1", "2"})
    assert told(invoice("1", 1, 11), invoice("all", 1, 32, "draft")) == (day(11), {"1"})
    assert told(invoice("1", 1, 11, "draft"), invoice("2", 11, 32)) == (OCTOBER.end, {"1", "2"})
    assert told(invoice("1", 1, 12, "draft"), invoice("2", 11, 32)) is None
    assert told(invoice("1", 1, 11, "void"), invoice("all", 1, 32, "draft")) == (OCTOBER.end, {"all"})


def test_an_invoice_that_reaches_out_of_the_month_bills_nothing_of_it() -> None:
    assert told(invoice("both", 1, 33), invoice("before", -5, 10)) is None
    whole = invoice("all", 1, 32)
    assert told(whole, invoice("both", 31, 33)) is None, "how much of October the other bills is not known"
    assert told(whole, invoice("before", -5, 1), invoice("after", 32, 40)) == (OCTOBER.end, {"all"})


def test_the_name_of_an_invoice_is_its_own() -> None:
    numbered, again, other = invoice("1", 1, 2, number="N"), invoice("2", 1, 2, number="N"), invoice("3", 1, 2)
    elsewhere, confusing = invoice("4", 1, 2, number="N", account="b"), invoice("5", 1, 2, number="3")
    same = invoice("6", 1, 2, number="6")
    names = invoice_names([numbered, again, other, elsewhere, confusing, same])
    assert names == {
        ("a", "1"): "1",
        ("a", "2"): "2",
        ("a", "3"): "3",
        ("b", "4"): "N",
        ("a", "5"): "5",
        ("a", "6"): "6",
    }


def test_what_fal_lists_no_more_among_what_it_lists_is_withdrawn_unless_it_is_history() -> None:
    states = ("draft", "open", "uncollectible", "paid", "void")
    known = [invoice(status, 5, 9, status) for status in states]
    old = invoice("old", 1, 5, "open")
    assert withdrawn([*known, old], [invoice("new", 5, 9)]) == {"draft", "open", "uncollectible"}
    assert withdrawn([*known, old], [invoice("new", 6, 9)]) == set(), "it may list the newest only"
    assert withdrawn([*known, old], [invoice("newest", 20, 32), invoice("new", 5, 9)]) == {
        "draft",
        "open",
        "uncollectible",
    }
    assert withdrawn([*known, old], []) == set()
    assert withdrawn(known, [invoice("open", 1, 3)]) == {"draft", "uncollectible"}
