from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, Window
from exporter.forecasting.forecast import HourlySpend

START = datetime(2026, 11, 21, tzinfo=UTC)


def window(start: int, end: int) -> Window:
    return Window(START + start * HOUR, START + end * HOUR)


MOVES = st.tuples(st.just("move"), st.integers(0, 6), st.integers(0, 0))
SETS = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5), st.integers(0, 3))


@given(st.lists(st.one_of(MOVES, SETS), max_size=40))
def test_it_tells_what_a_plain_mapping_of_hours_would(steps: list[tuple[str, int, int]]) -> None:
    hours: HourlySpend[str] = HourlySpend(window(0, 6))
    plain: dict[tuple[str, int], int] = {}
    first = 0
    for what, place, amount in steps:
        if what == "move":
            first += place
            hours.move_to(window(first, first + 6))
        else:
            hour = first + place
            hours.set_hour(START + hour * HOUR, {what: amount})
            plain = {key: it for key, it in plain.items() if key[1] != hour} | {(what, hour): amount}
        kept = {key: it for key, it in plain.items() if first <= key[1] < first + 6}
        for key in ("a", "b"):
            assert list(hours.of(key)) == [kept.get((key, first + at), 0) for at in range(6)]
            assert hours.total(key, window(first + 1, first + 9)) == sum(hours.of(key)[1:])


def test_what_has_cost_nothing_for_long_is_forgotten() -> None:
    hours: HourlySpend[str] = HourlySpend(window(0, 6))
    hours.set_hour(START, {"a": 7})
    hours.move_to(window(1, 7))
    assert "a" not in hours
    assert list(hours) == []


def test_only_a_change_of_the_past_makes_a_new_version() -> None:
    hours: HourlySpend[str] = HourlySpend(window(0, 6))
    hours.set_hour(START + 5 * HOUR, {"a": 7})
    hours.set_hour(START + 4 * HOUR, {"a": 7})
    assert hours.versions["a"] == 0
    hours.set_hour(START + 3 * HOUR, {"a": 7})
    hours.set_hour(START + 3 * HOUR, {"a": 7})
    assert hours.versions["a"] == 1
    hours.set_hour(START + 3 * HOUR, {})
    assert hours.versions["a"] == 2


def test_it_does_not_move_back() -> None:
    with pytest.raises(ValueError, match="moves forward"):
        HourlySpend(window(1, 6)).move_to(window(0, 5))
