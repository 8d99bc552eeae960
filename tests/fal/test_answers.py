import contextlib
import json
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest
from fal.conftest import Answer, Bench, Fal, Heard, as_json, refused
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import NANO
from exporter.fal.account import read_standing
from exporter.fal.answers import (
    LOCK_REASONS,
    BrokenOffError,
    Locks,
    complaint,
    decoded,
    lock_reason,
    retry_after,
    scrubber,
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(VALUES)
def test_json_comes_out_as_it_went_in(value: object) -> None:
    assert decoded(json.dumps(value).encode()) == value


@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_a_fraction_keeps_every_digit(value: Decimal) -> None:
    text = f"{value:f}" if abs(value.adjusted()) < 200 else str(value)
    read = decoded(f"[{text}]".encode())
    assert isinstance(read, list)
    assert Decimal(read[0]) == value


def test_no_float_is_ever_made() -> None:
    assert decoded(b"[0.1, 1e2, 3]") == [Decimal("0.1"), Decimal(100), 3]


@pytest.mark.parametrize("number", ["1e99999999999999999999", "9" * 5000])
def test_a_number_beyond_all_bounds_is_infinite_and_spoils_nothing_else(number: str) -> None:
    assert decoded(f'{{"a": {number}, "b": 0.1}}'.encode()) == {"a": Decimal("Infinity"), "b": Decimal("0.1")}


def test_a_byte_order_mark_is_skipped() -> None:
    assert decoded(b"\xef\xbb\xbf[1]") == [1]


@given(VALUES.filter(lambda value: isinstance(value, list | dict) and bool(value)), st.data())
def test_a_text_that_is_cut_is_told_to_be(value: object, data: st.DataObject) -> None:
    whole = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(BrokenOffError):
        decoded(cut)


def test_a_cut_within_a_character_is_a_cut() -> None:
    with pytest.raises(BrokenOffError):
        decoded('["é'.encode()[:-1])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{'a': 1}",
        b"[1,]",
        b"[] []",
        b"[] x",
        b'[NaN, 0.5, "]"]',
        b"[-Infinity]",
        b"\xff",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_no_json_is_refused_but_not_called_cut(body: bytes) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  its exact kind is the point
        decoded(body)
    assert not isinstance(caught.value, BrokenOffError)


@given(st.binary())
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(ValueError):
        decoded(body)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.",
            "exhausted_balance",
        ),
        ("User is locked. Reason: Admin lock", "admin_lock"),
        ("User is locked. Reason: TOP_UP", "top_up"),
        ("User is locked. Reason: Moon phase.", "unknown"),
        ("User is locked. Reason: User budget is exceeded. Raise it, or top up.", "budget_exceeded"),
        ("User is locked. Reason: Please add a payment method to go on.", "payment_method"),
        ("User is locked. Reason: This account has been archived.", "archived"),
        ("User is locked. Reason: Unknown.", "unknown"),
        ("User is locked.", "unknown"),
        ("team is locked", "unknown"),
        ("Access denied", None),
        ("", None),
    ],
)
def test_lock_reasons_are_a_closed_set(message: str, reason: str | None) -> None:
    assert lock_reason(message) == reason
    assert reason is None or reason in LOCK_REASONS


def test_an_account_is_locked_until_every_call_that_said_so_works_again() -> None:
    heard = Heard()
    locks = Locks("prod", heard)
    locks.refused("/a", "top_up")
    locks.refused("/b", "top_up")
    locks.succeeded("/c")
    locks.succeeded("/a")
    assert locks.reasons == {"top_up"}
    locks.succeeded("/b")
    assert locks.reasons == set()
    assert heard.locks == ["prod locked: top_up", "prod unlocked"]


def test_a_reason_that_gives_way_to_another_is_taken_back() -> None:
    heard = Heard()
    locks = Locks("prod", heard)
    locks.refused("/a", "top_up")
    locks.refused("/b", "admin_lock")
    locks.succeeded("/a")
    assert heard.locks == [
        "prod locked: top_up",
        "prod locked: admin_lock",
        "prod unlocked",
        "prod locked: admin_lock",
    ]


USER, DETAILS = "/users/current", "/billing/user_details"
UNLOCKED = as_json({"user_id": "user_1", "is_locked": False})
REFUSED = as_json({"detail": "User is locked. Reason: TOP_UP"}, 403)
SILENT = as_json({"user_id": "user_1"})


def locked(reason: str | None) -> Answer:
    return as_json({"user_id": "user_1", "is_locked": True, "lock_reason": reason})


@pytest.mark.parametrize(
    ("user", "details", "reasons"),
    [
        (locked("Admin lock. Top up your balance."), UNLOCKED, {"admin_lock"}),
        (UNLOCKED, locked("User budget is exceeded. Raise it."), {"budget_exceeded"}),
        (locked(None), locked("This account has been archived."), {"archived"}),
        (locked(None), refused(404), {"unknown"}),
        (refused(500), locked("Please add a payment method."), {"payment_method"}),
        (REFUSED, refused(404), {"top_up"}),
        (REFUSED, UNLOCKED, set()),
        (SILENT, UNLOCKED, set()),
    ],
)
async def test_either_call_that_states_the_lock_decides(
    fal: Fal, bench: Bench, user: Answer, details: Answer, reasons: set[str]
) -> None:
    fal.plays(USER, user)
    fal.plays(DETAILS, details)
    client = bench.client(attempts=1)
    assert (await read_standing(client)).is_stated
    assert client.locks.reasons == reasons


@pytest.mark.parametrize("answer", [refused(404), refused(403), refused(500), SILENT, as_json([])])
async def test_where_fal_states_no_lock_it_stays_as_it_was(fal: Fal, bench: Bench, answer: Answer) -> None:
    fal.plays(USER, locked("Admin lock"), answer, UNLOCKED)
    fal.plays(DETAILS, answer)
    client = bench.client(attempts=1)
    await read_standing(client)
    assert not (await read_standing(client)).is_stated
    assert client.locks.reasons == {"admin_lock"}
    assert (await read_standing(client)).is_stated
    assert client.locks.reasons == set()


def test_a_refused_call_stays_a_second_witness() -> None:
    locks = Locks("prod", Heard())
    locks.refused("/a", "unknown")
    locks.stated("admin_lock")
    assert locks.reasons == {"admin_lock"}
    locks.stated(None)
    assert locks.reasons == {"unknown"}
    locks.succeeded("/a")
    assert locks.reasons == set()


@pytest.mark.parametrize(
    ("details", "budgets"),
    [
        ({"soft_monthly_budget": 500, "hard_monthly_budget": 1000}, {"soft": 500 * NANO, "hard": 1000 * NANO}),
        ({"soft_monthly_budget": None, "hard_monthly_budget": 20}, {"hard": 20 * NANO}),
        ({"hard_monthly_budget": "much"}, {}),
        ({}, {}),
    ],
)
async def test_the_budgets_set_at_fal_are_taken_for_us_dollars(
    fal: Fal, bench: Bench, details: dict[str, object], budgets: dict[str, int]
) -> None:
    fal.plays(USER, as_json({"is_locked": False, "is_paying": True}))
    fal.plays(DETAILS, as_json(details))
    standing = await read_standing(bench.client())
    assert (standing.budgets, standing.is_paying) == (budgets, True)


async def test_budgets_that_fal_does_not_state_are_not_taken_for_none(fal: Fal, bench: Bench) -> None:
    fal.plays(USER, UNLOCKED)
    fal.plays(DETAILS, refused(404))
    standing = await read_standing(bench.client())
    assert (standing.budgets, standing.is_paying) == (None, None)


NOW = datetime(2015, 10, 21, 7, 28, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        ("1.5", 1.5),
        ("-3", None),
        ("soon", None),
        ("inf", None),
        ("9" * 400, None),
        ("Wed, 21 Oct 2015 07:29:30 GMT", 90.0),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:00:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms_or_ignored(text: str, seconds: float | None) -> None:
    assert retry_after(httpx.Headers({"retry-after": text}), lambda: NOW) == seconds


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)))
def test_no_retry_after_is_a_crash(text: str) -> None:
    seconds = retry_after(httpx.Headers({"retry-after": text}), lambda: NOW)
    assert seconds is None or seconds >= 0


@given(st.binary())
def test_any_body_of_an_error_is_read(body: bytes) -> None:
    said = complaint(httpx.Headers(), body, scrubber("id:some-secret"))
    assert len(said.message) <= 301


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"type": "not_found", "message": "m", "request_id": "r"}}', ("not_found", "m", "r")),
        (b'{"error": "plain"}', ("", "plain", "")),
        (b'{"detail": "older"}', ("", "older", "")),
        (b'{"detail": [{"msg": "x"}]}', ("", "[{'msg': 'x'}]", "")),
        (b'{"error": {"type": 5, "message": null}}', ("", "", "")),
        (b"[]", ("", "[]", "")),
        (b"upstream\nconnect error", ("", "upstream connect error", "")),
        (b"", ("", "", "")),
    ],
)
def test_errors_are_read_in_the_shapes_of_both_hosts(body: bytes, said: tuple[str, str, str]) -> None:
    found = complaint(httpx.Headers(), body, scrubber("id:some-secret"))
    assert (found.fal_type, found.message, found.request_id) == said


def test_a_text_is_cleaned_of_the_key_and_of_its_secret_alone_before_it_is_cut() -> None:
    scrub = scrubber("key-id:the-secret")
    assert scrub("you sent key-id:the-secret,\nor the-secret") == "you sent ***, or ***"
    assert "the-s" not in scrub("x" * 296 + "the-secret")
