from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Amounts
from exporter.ledger.restatement import CellRow, merged, summed

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
