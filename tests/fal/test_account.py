import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from fal.conftest import Answer, Bench, Fal, as_json, refused

from exporter.charges import Balance, Invoice
from exporter.fal.account import read_balance, read_invoices
from exporter.fal.errors import KeyRejectedError, LockedError, ScopeError, ServerError, ShapeError

ADMIN, ANY = "/v1/account/billing", "/billing/user_balance"
LOCKED = as_json({"detail": "User is locked. Reason: TOP_UP"}, 403)


def credit(amount: object, currency: object = "USD") -> Answer:
    return as_json({"username": "acme", "credits": {"current_balance": amount, "currency": currency}})


async def test_an_admin_key_reads_it_from_the_account(fal: Fal, bench: Bench) -> None:
    fal.plays(ADMIN, credit(Decimal("24.5")))
    assert await read_balance(bench.client()) == Balance("prod", 24_500_000_000, bench.time.now())
    assert [(request.path, request.query) for request in fal.requests] == [(ADMIN, {"expand": ["credits"]})]


async def test_a_key_without_scope_reads_the_bare_number_and_it_is_remembered(fal: Fal, bench: Bench) -> None:
    fal.plays(ADMIN, refused(403))
    fal.plays(ANY, as_json(Decimal("-0.18")))
    client = bench.client()
    for _ in range(3):
        assert (await read_balance(client)).amount == -180_000_000
    assert (len(fal.asked(ADMIN)), len(fal.asked(ANY))) == (1, 3)


async def test_the_remembered_call_gives_way_when_it_is_refused(fal: Fal, bench: Bench) -> None:
    fal.plays(ADMIN, refused(404), credit(5))
    fal.plays(ANY, as_json(1), refused(404))
    client = bench.client()
    await read_balance(client)
    assert (await read_balance(client)).amount == 5 * 10**9


async def test_after_a_lock_the_first_call_is_tried_again_so_that_it_can_take_it_back(fal: Fal, bench: Bench) -> None:
    fal.plays(ADMIN, LOCKED, credit(7))
    fal.plays(ANY, as_json(1))
    client = bench.client()
    assert (await read_balance(client)).amount == 10**9
    assert client.locks.reasons == {"top_up"}
    assert (await read_balance(client)).amount == 7 * 10**9
    assert client.locks.reasons == set()


@pytest.mark.parametrize("afterwards", [credit(7), refused(403)], ids=["an admin key", "any other key"])
async def test_a_lock_that_both_calls_told_of_is_over_with_the_one_that_is_used(
    afterwards: Answer, fal: Fal, bench: Bench
) -> None:
    fal.plays(ADMIN, LOCKED, afterwards)
    fal.plays(ANY, LOCKED, as_json(7))
    client = bench.client()
    with pytest.raises(LockedError):
        await read_balance(client)
    assert client.locks.reasons == {"top_up"}
    assert (await read_balance(client)).amount == 7 * 10**9
    assert client.locks.reasons == set()


@pytest.mark.parametrize(
    ("admin", "other", "kind"),
    [
        (refused(401), refused(401), KeyRejectedError),
        (LOCKED, LOCKED, LockedError),
        (refused(403), refused(404), ScopeError),
        (refused(500), as_json(1), ServerError),
        (refused(403), refused(500), ServerError),
        (refused(403), as_json({"balance": 1}), ShapeError),
        (credit(1, "EUR"), refused(404), ShapeError),
    ],
)
async def test_the_failure_that_matters_is_told(
    fal: Fal, bench: Bench, admin: Answer, other: Answer, kind: type[Exception]
) -> None:
    fal.plays(ADMIN, admin)
    fal.plays(ANY, other)
    with pytest.raises(kind):
        await read_balance(bench.client(attempts=1))


@pytest.mark.parametrize(
    "answer", [as_json({"username": "acme"}), credit("24 USD"), credit(None), as_json([]), credit(1, "EUR")]
)
async def test_an_account_that_does_not_tell_its_credit_gives_way_to_the_bare_number(
    fal: Fal, bench: Bench, answer: Answer
) -> None:
    fal.plays(ADMIN, answer)
    fal.plays(ANY, as_json(3))
    assert (await read_balance(bench.client())).amount == 3 * 10**9


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
            stated='{"id":"inv_1","number":"F-2026-10","status":"PAID","period_start":"2026-10-01","period_end":'
            '"2026-11-01T00:00:00Z","issued_at":"2026-11-02T02:00:00+02:00","due_at":null,"currency":"USD","subtotal":'
            '100.5,"credits":-20.25,"tax":0,"total":80.25,"novelty":1}',
        ),
    )
    assert invoices.rejected == {}


async def test_all_that_an_invoice_has_is_kept_with_every_digit(fal: Fal, bench: Bench) -> None:
    sent = (
        '{"id": "inv_1", "status": "open", "period_start": "2026-10-01", "period_end": "2026-11-01", '
        '"currency": "USD", "total": 0.12345678901234567890, "pdf": "https://fal.example/\\u00fc?a=1&b=\\u0000", '
        '"lines": [{"amount": 1.50, "deep": [true, null, -0.0, 1E-7, 12345678901234567890]}], '
        '"huge": 1e99999999999999999999}'
    )
    fal.plays(PATH, Answer(f"[{sent}]".encode(), headers=(("content-type", "application/json"),)))
    (invoice,) = await read_invoices(bench.client())
    exact = json.loads(sent.replace("1e99999999999999999999", "null"), parse_float=str)
    assert json.loads(invoice.stated, parse_float=str) == exact
    assert "1.50" in invoice.stated
    assert invoice.stated.isascii()


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
    (period,) = invoices.unread
    assert (period is None) == (reason in {"not_an_object", "bucket"})
    assert period in {None, (invoices[0].period_start, invoices[0].period_end)}
    assert not invoices.foreign, "one that can be read has this id, too"


async def test_an_invoice_in_another_currency_is_named(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json([stated(id="inv_2", currency="EUR"), stated(id="inv_3", total="80,00"), stated()]))
    invoices = await read_invoices(bench.client())
    assert ([invoice.id for invoice in invoices], invoices.foreign) == (["inv_1"], {"inv_2"})


async def test_no_invoices_are_no_error_but_no_list_is(fal: Fal, bench: Bench) -> None:
    fal.plays(PATH, as_json([]))
    assert await read_invoices(bench.client()) == ()
    fal.plays(PATH, as_json({"invoices": []}))
    with pytest.raises(ShapeError, match=r"failed: fal's answer is not a list of invoices"):
        await read_invoices(bench.client())
