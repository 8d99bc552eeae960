import csv
import gzip
import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from queries.conftest import HISTORY, NOW

from exporter.charges import NANO, Invoice, Window
from exporter.focus.checks import Checker
from exporter.ledger import Ledger, Rules
from exporter.queries.focus.file_process import run
from exporter.queries.focus.question import Head, Order, parse_focus_question

HISTORY_TEXTS = {"source": "estimate", "start": "2026-10-30", "end": "2026-11-03T11:00Z"}
OCTOBER = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
INVOICE = Invoice(
    account="studio",
    id="in_7",
    number="7",
    status="open",
    period_start=OCTOBER.start,
    period_end=OCTOBER.end,
    issued_at=datetime(2026, 11, 2, tzinfo=UTC),
    due_at=None,
    currency="USD",
    subtotal=65 * NANO,
    credits=5 * NANO,
    tax=11_400_000_000,
    total=71_400_000_000,
)


def written(address: str, given: Mapping[str, str], *, gzipped: bool = False) -> tuple[Head, bytes]:
    output = io.BytesIO()
    run(Order(address, parse_focus_question(given, now=NOW), gzipped=gzipped), output)
    head, _, body = output.getvalue().partition(b"\n")
    return Head.read(head), body


def rows_of(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode())))


def billed(rows: list[dict[str, str]]) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0))


def test_an_order_arrives_as_it_was_sent() -> None:
    question = parse_focus_question(HISTORY_TEXTS | {"focus_version": "1.3", "account": "studio"}, now=NOW)
    order = Order("sqlite:///it's here", question, gzipped=True)
    assert Order.read(order.written) == order


def test_the_file_adds_up_to_the_ledger(address: str, ledger: Ledger, hours: int) -> None:
    del ledger
    asked = HISTORY_TEXTS | {"end": "2026-11-03T10:00Z", "timeframe": "day", "bound_to_timeframe": "false"}
    head, body = written(address, asked)
    rows = rows_of(body)
    assert head == Head(missing=0, start="2026-10-30T00:00:00Z", end="2026-11-03T10:00:00Z")
    assert billed(rows) == (hours - 1) * Decimal("1.44")
    assert len(rows) == 3 * 5
    assert gzip.decompress(written(address, asked, gzipped=True)[1]) == body


def test_hours_that_have_not_been_read_to_their_end_are_counted(address: str, ledger: Ledger) -> None:
    del ledger
    # The running hour, whichever source lacks it; the rest of the day is yet to come.
    assert written(address, HISTORY_TEXTS | {"timeframe": "day"})[0].missing == 1


def test_the_default_is_the_last_day_by_the_hour(address: str, ledger: Ledger) -> None:
    del ledger
    head, body = written(address, {"source": "estimate"})
    assert (head.start, head.end) == ("2026-11-02T10:00:00Z", "2026-11-03T11:00:00Z")
    assert len(rows_of(body)) == 3 * 25


def test_buckets_follow_the_time_zone_and_stay_within_months_of_utc(address: str, ledger: Ledger) -> None:
    del ledger
    asked = {"source": "estimate", "start": "2026-10-31", "end": "2026-11-02", "timeframe": "day"}
    _, body = written(address, asked | {"timezone": "Asia/Kolkata", "account": "research"})
    assert [(row["ChargePeriodStart"], row["ChargePeriodEnd"]) for row in rows_of(body)] == [
        ("2026-10-30T19:00:00Z", "2026-10-31T19:00:00Z"),
        ("2026-10-31T19:00:00Z", "2026-11-01T00:00:00Z"),
        ("2026-11-01T00:00:00Z", "2026-11-01T19:00:00Z"),
    ]
    head, body = written(address, asked | {"timeframe": "week", "account": "research"})
    assert (head.start, head.end) == ("2026-10-26T00:00:00Z", "2026-11-02T00:00:00Z")
    assert [row["ChargePeriodStart"] for row in rows_of(body)] == ["2026-10-26T00:00:00Z", "2026-11-01T00:00:00Z"]
    assert billed(rows_of(body)) == 72 * Decimal("0.09")


def test_a_window_for_minutes_is_answered_by_the_hour_and_says_so(address: str, ledger: Ledger) -> None:
    del ledger
    head, body = written(address, {"start": "2026-11-02T06:10Z", "end": "2026-11-02T07:10Z"})
    assert head.note == "The window is short enough for minutes, but the ledger has hours."
    assert len(rows_of(body)) == 3 * 2


def test_one_account_can_be_asked_for(address: str, ledger: Ledger) -> None:
    del ledger
    _, body = written(address, HISTORY_TEXTS | {"account": "research"})
    assert {row["BillingAccountId"] for row in rows_of(body)} == {"research"}
    assert written(address, HISTORY_TEXTS | {"account": "nobody"}) == (
        Head(status=400, message="account is not an account that is polled"),
        b"",
    )


@pytest.fixture
def invoiced(ledger: Ledger) -> Ledger:
    """Add an invoice of October to the account studio, whose usage of that month the ledger has as 64.80."""
    ledger.record_invoices("studio", [INVOICE, replace(INVOICE, id="in_0", status="void", total=NANO)])
    return ledger


def test_an_invoiced_month_adds_up_to_the_invoice(address: str, invoiced: Ledger) -> None:
    del invoiced
    for asked in ({"charge_month": "2026-10"}, {"billing_month": "2026-11"}, {}):
        head, body = written(address, {"live": "false", "account": "studio", **asked})
        rows = rows_of(body)
        assert (head.status, head.start, head.end) == (200, "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z")
        assert head.missing == 29 * 24
        assert "BilledCost by invoice adds up to the total" in head.note
        assert {row["InvoiceId"] for row in rows} == {"in_7"}
        assert billed(rows) == Decimal("71.4")
        assert {row["ChargeCategory"]: row["BilledCost"] for row in rows if row["ChargeCategory"] != "Usage"} == {
            "Adjustment": "0.2",
            "Credit": "-5.0",
            "Tax": "11.4",
        }
        assert len(rows) == 2 * 48 + 3
    checker = Checker("1.2")
    checker.feed(body)
    assert checker.finish().is_clean


def test_an_account_with_charges_and_no_invoice_makes_a_month_of_all_incomplete(address: str, invoiced: Ledger) -> None:
    head, _ = written(address, {"live": "false", "charge_month": "2026-10"})
    assert head.status == 404
    assert head.message.startswith("account 'research' has charges of 2026-10 and no invoice for them")
    invoiced.record_invoices("research", [replace(INVOICE, account="research", id="in_8", number="8")])
    assert billed(rows_of(written(address, {"live": "false", "charge_month": "2026-10"})[1])) == 2 * Decimal("71.4")


@pytest.mark.parametrize(
    ("asked", "status", "message"),
    [
        ({"live": "false", "charge_month": "2026-10"}, 404, "knows of no invoice for charges of 2026-10"),
        ({"live": "false", "billing_month": "2026-10"}, 404, "knows of no invoice for charges of 2026-09"),
        ({"live": "false"}, 404, "the ledger knows of no invoice; source=estimate answers"),
        (
            {"source": "estimate", "start": "2026-08-01", "end": "2026-09-01"},
            404,
            "the ledger has nothing of 2026-08-01",
        ),
        ({"source": "estimate", "start": "2026-12-01", "end": "2026-12-02"}, 404, "is in the future"),
    ],
)
def test_what_the_ledger_lacks_is_refused_with_a_sentence(
    address: str, ledger: Ledger, asked: dict[str, str], status: int, message: str
) -> None:
    if asked.get("charge_month"):
        ledger.record_invoices("studio", [replace(INVOICE, status="draft")])
    head, body = written(address, asked)
    assert (head.status, body) == (status, b"")
    assert message in head.message


def test_a_window_without_charges_is_empty_where_it_is_known_and_refused_where_its_start_is_not(
    address: str, ledger: Ledger
) -> None:
    ledger.activate({"studio": ("models",), "research": ("serverless",), "quiet": ("models",)})
    ledger.restate("quiet", "models", HISTORY, [], at=NOW)
    head, body = written(address, HISTORY_TEXTS | {"account": "quiet"})
    assert (head.status, rows_of(body)) == (200, [])
    head, _ = written(address, HISTORY_TEXTS | {"start": "2026-10-20", "account": "quiet"})
    assert (head.status, "240 of its hours have not been read" in head.message) == (409, False)
    assert "241 of its hours have not been read from fal" in head.message


def test_without_a_ledger_or_with_a_strange_one_there_is_no_file(tmp_path: Path) -> None:
    assert written(f"sqlite:///{tmp_path / 'none'}", HISTORY_TEXTS)[0].status == 503
    (tmp_path / "strange").write_text("This is no database, but it is long enough to be looked at." * 20)
    head, _ = written(f"sqlite:///{tmp_path / 'strange'}", HISTORY_TEXTS)
    assert head.status == 503
    assert "cannot be read" in head.message
    assert "strange" not in head.message
    Ledger(f"sqlite:///{tmp_path / 'new'}", rules=Rules(), clock=lambda: NOW).close()
    assert "nothing has been read" in written(f"sqlite:///{tmp_path / 'new'}", HISTORY_TEXTS)[0].message


def test_hours_that_have_been_folded_are_refused(address: str, ledger: Ledger) -> None:
    del ledger
    later = Ledger(address, rules=Rules(), clock=lambda: NOW + timedelta(days=90))
    later.fold_before(datetime(2026, 11, 1, tzinfo=UTC))
    later.close()
    head, _ = written(address, HISTORY_TEXTS)
    assert head.status == 404
    assert head.message.startswith("the report starts before 2026-11-01T00:00Z, the first hour that the ledger keeps")
    assert written(address, HISTORY_TEXTS | {"start": "2026-11-01"})[0].status == 200
