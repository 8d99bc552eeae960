from collections.abc import Callable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Amounts
from exporter.ledger.accounting.restatement import (
    Booking,
    Cell,
    CellRow,
    HourKind,
    book,
    difference,
    hour_kinds,
    merged,
    summed,
)

HOURS = range(6)
numbers = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(st.tuples(st.sampled_from(HOURS), st.integers(1, 3), *[numbers] * 5), max_size=30)


def row(hour: int, series: int, cost: int) -> CellRow:
    return hour, series, 0, 0, cost, 0, cost


def test_rows_are_added_up_per_kind_of_hour_and_series() -> None:
    sums = summed([row(1, 7, 5), row(2, 7, 6), row(3, 7, 100), row(1, 8, 1)], {1: "early", 2: "early", 3: "late"})
    assert sums == {
        "early": {7: Amounts(list_cost=11, cost=11), 8: Amounts(list_cost=1, cost=1)},
        "late": {7: Amounts(list_cost=100, cost=100)},
    }


@given(rows)
def test_sums_of_narrow_kinds_merge_to_the_sums_of_wide_ones(rows: list[CellRow]) -> None:
    narrow = summed(rows, {hour: hour for hour in HOURS})
    assert merged(narrow, lambda hour: hour // 4) == summed(rows, {hour: hour // 4 for hour in HOURS})


def test_merging_leaves_the_sums_that_it_was_given_as_they_were() -> None:
    sums = summed([row(1, 7, 5), row(2, 7, 6)], {1: 1, 2: 2})
    merged(sums, lambda _: "all")
    assert sums == {1: {7: Amounts(list_cost=5, cost=5)}, 2: {7: Amounts(list_cost=6, cost=6)}}


states = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(1, 3)), st.tuples(*[numbers] * 5), max_size=12)
State = dict[Cell, tuple[int, int, int, int, int]]


def rows_of_restatement(state: State) -> list[CellRow]:
    return [(*cell, *amounts) for cell, amounts in state.items()]


def booked(
    deltas: list[CellRow],
    *,
    observed: Mapping[int, bool],
    first_counted: int = 0,
    label_set_of: Callable[[int], int] = int,
) -> Booking:
    kinds = hour_kinds(deltas, observed=observed, first_counted=first_counted, periods_of=lambda _: ())
    return book(deltas, summed(deltas, kinds), observed=observed, label_set_of=label_set_of)


@given(states, states)
def test_a_difference_brings_the_state_before_to_the_state_after(before: State, after: State) -> None:
    change = difference(set(rows_of_restatement(before)), rows_of_restatement(after))
    state = {cell: amounts for cell, amounts in before.items() if cell not in set(change.removed)}
    assert not {item[:2] for item in change.added} & set(before)
    assert {item[:2] for item in change.changed} <= set(before)
    for item in [*change.added, *change.changed]:
        state[item[:2]] = item[2:]
    assert state == after


@given(states, states)
def test_what_a_difference_writes_is_in_the_order_of_hours_and_series(before: State, after: State) -> None:
    change = difference(set(rows_of_restatement(before)), rows_of_restatement(after))
    for cells in (change.added, change.changed, change.removed):
        assert list(cells) == sorted(cells)


@given(states, states)
def test_the_deltas_are_what_lies_between_before_and_after(before: State, after: State) -> None:
    nothing = (0, 0, 0, 0, 0)
    expected = {
        (*cell, *(new - old for new, old in zip(after.get(cell, nothing), before.get(cell, nothing), strict=True)))
        for cell in {*before, *after}
        if before.get(cell) != after.get(cell)
    }
    deltas = difference(set(rows_of_restatement(before)), rows_of_restatement(after)).deltas
    assert set(deltas) == expected
    assert len(deltas) == len(expected)


@given(states)
def test_stating_the_same_again_changes_nothing(state: State) -> None:
    change = difference(set(rows_of_restatement(state)), rows_of_restatement(state))
    assert not change.added
    assert not change.changed
    assert not change.removed
    assert not change.deltas


def test_an_hour_before_the_birth_is_history_when_it_is_seen_for_the_first_time() -> None:
    booking = booked([row(9, 1, 100), row(10, 1, 5)], observed={}, first_counted=10)
    assert booking.base == {1: Amounts(list_cost=100, cost=100)}
    assert booking.grown == {1: Amounts(list_cost=5, cost=5)}


def test_what_changes_in_an_hour_before_the_birth_that_has_been_seen_is_counted() -> None:
    booking = booked([row(9, 1, 100)], observed={9: False}, first_counted=10)
    assert (booking.base, booking.grown) == ({}, {1: Amounts(list_cost=100, cost=100)})


def test_only_a_complete_hour_can_be_restated_and_up_and_down_are_told_apart() -> None:
    deltas = [row(10, 1, 7), row(11, 1, 5), row(11, 2, -3), row(12, 1, -4), row(13, 1, 9)]
    booking = booked(deltas, observed={10: False, 11: True, 12: True})
    assert (booking.restated_up, booking.restated_down) == (5, 7)
    assert booking.restated_hours == {11, 12}


def test_what_moves_between_series_of_a_label_set_within_an_hour_is_no_restatement() -> None:
    deltas = [row(11, 1, -5), row(11, 2, 5), row(12, 1, -4), row(13, 2, 4)]
    observed = {11: True, 12: True, 13: True}
    booking = booked(deltas, observed=observed, label_set_of=lambda _: 7)
    assert (booking.restated_up, booking.restated_down) == (4, 4)


def test_an_hour_tells_its_day_whether_it_is_history_and_the_periods_it_lies_in() -> None:
    deltas = [row(47, 1, 1), row(48, 1, 1), row(48, 2, 1)]
    kinds = hour_kinds(deltas, observed={}, first_counted=48, periods_of=lambda hour: ("today",) if hour > 47 else ())
    assert kinds == {47: HourKind(1, True, ()), 48: HourKind(2, False, ("today",))}  # noqa: FBT003  a row
