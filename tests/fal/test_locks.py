import pytest
from fal.conftest import Heard

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
        ("User is locked. Reason: Moon phase.", "other"),
        ("User is locked.", "other"),
        ("team is locked", "other"),
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
