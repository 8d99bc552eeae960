import pytest
from fal.conftest import Answer, Bench, Fal, Heard, as_json, refused

from exporter.charges import NANO
from exporter.fal.account import read_standing
from exporter.fal.answers import LOCK_REASONS, Locks, lock_reason


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
