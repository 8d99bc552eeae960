from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.accounting.machines import NOTHING_SPLIT, UNKNOWN_AFTER, StateSplit, counted_change, is_ripe, split
from exporter.machines import STATES, Parts, Runners

LARGEST = 2**63 - 1
AMOUNTS = st.integers(-LARGEST, LARGEST)
NANO_RUNNERS = st.one_of(st.just(0), st.integers(0, 9), st.integers(0, LARGEST // 4))
HISTORIES = st.one_of(st.none(), st.builds(Runners, NANO_RUNNERS, NANO_RUNNERS, NANO_RUNNERS, NANO_RUNNERS))


@given(AMOUNTS, HISTORIES)
def test_the_parts_of_an_amount_add_up_to_it_and_none_has_another_sign(amount: int, runners: Runners | None) -> None:
    parts = split(amount, runners)
    assert parts.total == amount
    assert all(part == 0 or (part > 0) == (amount > 0) for part in parts)


@given(AMOUNTS, HISTORIES)
def test_each_part_is_within_a_nano_unit_of_its_exact_share(amount: int, runners: Runners | None) -> None:
    parts = split(amount, runners)
    if runners is None or not runners.total:
        assert parts == Parts(unknown=amount)
        return
    assert parts.unknown == 0
    for part, count in zip(parts[:-1], runners, strict=True):
        assert abs(part - Fraction(amount * count, runners.total)) < 1


@given(AMOUNTS, HISTORIES)
def test_what_is_taken_back_is_divided_as_what_was_charged(amount: int, runners: Runners | None) -> None:
    assert split(amount, runners).plus(split(-amount, runners)) == NOTHING_SPLIT


@given(AMOUNTS, NANO_RUNNERS)
def test_a_state_without_runners_gets_nothing(amount: int, others: int) -> None:
    assert split(amount, Runners(running=1 + others, draining=others)).idle == 0


@given(st.integers(0, LARGEST), HISTORIES, st.integers(1, 1000))
def test_only_the_shares_of_the_states_matter(amount: int, runners: Runners | None, times: int) -> None:
    more = None if runners is None else Runners(*(count * times for count in runners))
    assert split(amount, more) == split(amount, runners)


def test_what_is_rounded_off_a_state_is_carried_into_the_next() -> None:
    assert split(100, Runners(1, 1, 1, 0)) == Parts(33, 33, 34, 0)
    assert split(2, Runners(1, 1, 1, 1)) == Parts(0, 1, 0, 1)
    assert split(-100, Runners(1, 1, 1, 0)) == Parts(-33, -33, -34, 0)


SPLITS = st.one_of(
    st.none(),
    st.builds(
        lambda cost, seconds, runners, counted: StateSplit(1, split(cost, runners), split(seconds, runners), counted),
        AMOUNTS,
        AMOUNTS,
        HISTORIES,
        st.booleans(),
    ),
)


@given(st.lists(SPLITS, min_size=1, max_size=6))
def test_changes_add_up_to_what_counts_at_last(history: list[StateSplit | None]) -> None:
    grown = dict.fromkeys(("cost", "gpu_seconds"), NOTHING_SPLIT)
    before: StateSplit | None = None
    for after in history:
        for measure, parts in counted_change(before, after).items():
            grown[measure] = grown[measure].plus(parts)
        before = after
    counts = before if before is not None and before.counted else None
    assert grown["cost"] == (NOTHING_SPLIT if counts is None else counts.cost)
    assert grown["gpu_seconds"] == (NOTHING_SPLIT if counts is None else counts.gpu_seconds)


@pytest.mark.parametrize(
    ("is_complete", "asked_through", "ripe"),
    [
        (True, 0, True),
        (False, 100, False),
        (False, 101 + UNKNOWN_AFTER - 1, False),
        (False, 101 + UNKNOWN_AFTER, True),
    ],
)
def test_an_hour_counts_once_read_after_its_end_or_long_asked_for(
    *, is_complete: bool, asked_through: int, ripe: bool
) -> None:
    assert is_ripe(100, is_complete=is_complete, asked_through=asked_through) == ripe


def test_the_last_state_is_the_one_of_hours_without_history() -> None:
    assert Parts._fields == STATES
    assert Runners._fields == STATES[:-1]
