from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fal.conftest import Bench, Fal, as_json

from exporter.charges import Invoice
from exporter.fal.account import read_invoices
from exporter.fal.errors import LockedError, ShapeError

PATH = "/billing/invoices"


def stated(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "id": "inv_1",
        "number": "F-2026-10",
        "status": "PAID",
        "period_start": "2026-10-01",
        "period_end": "2026-11-01T00:00:00Z",
        "issued_at": "2026-11-02T02:00:00+02:00",
        "due_at": None,
        "currency": "USD",
        "subtotal": Decimal("100.5"),
        "credits": Decimal("-20.25"),
        "tax": 0,
        "total": Decimal("80.25"),
    }
    return {name: value for name, value in (row | changes).items() if value is not ...}


async def test_invoices_are_read_with_their_utc_periods(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json([stated(novelty=1)]))
    invoices = await read_invoices(bench.client())
    assert tuple(invoices) == (
        Invoice(
            account="prod",
            id="inv_1",
            number="F-2026-10",
            status="paid",
            period_start=datetime(2026, 10, 1, tzinfo=UTC),
            period_end=datetime(2026, 11, 1, tzinfo=UTC),
            issued_at=datetime(2026, 11, 2, tzinfo=UTC),
            due_at=None,
            currency="USD",
            subtotal=100_500_000_000,
            credits=-20_250_000_000,
            tax=0,
            total=80_250_000_000,
        ),
    )
    assert invoices.rejected == {}


async def test_a_refusal_that_only_the_poll_after_hours_could_take_back_is_no_lock(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json({"detail": "User is locked. Reason: TOP_UP"}, 403))
    client = bench.client()
    with pytest.raises(LockedError):
        await read_invoices(client)
    assert client.locks.reasons == set()


async def test_a_draft_may_leave_out_what_is_not_known_yet(fal: Fal, bench: Bench) -> None:
    known_later = dict.fromkeys(("number", "issued_at", "due_at", "subtotal", "credits", "tax"), ...)
    fal.plays(PATH, as_json([stated(status="draft", **known_later)]))
    (invoice,) = await read_invoices(bench.client())
    assert (invoice.number, invoice.issued_at, invoice.subtotal, invoice.credits) == ("", None, 80_250_000_000, 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (5, "not_an_object"),
        (stated(id=...), "missing_field"),
        (stated(total="80,00"), "wrong_type"),
        (stated(status=None), "missing_field"),
        (stated(period_end="soon"), "bucket"),
        (stated(currency="EUR"), "currency"),
        (stated(tax=10**12), "out_of_range"),
    ],
)
async def test_a_malformed_invoice_is_left_out_and_counted(fal: Fal, bench: Bench, bad: object, reason: str) -> None:
    fal.plays(PATH, as_json([bad, stated()]))
    invoices = await read_invoices(bench.client())
    assert [invoice.id for invoice in invoices] == ["inv_1"]
    assert invoices.rejected == {reason: 1}


async def test_no_invoices_are_no_error_but_no_list_is(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json([]))
    assert await read_invoices(bench.client()) == ()
    fal.plays(PATH, as_json({"invoices": []}))
    with pytest.raises(ShapeError):
        await read_invoices(bench.client())
