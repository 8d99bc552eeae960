"""Sums of a store that only appends, whatever is corrected: tried on lives that are drawn at random."""

from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.ledger.accounting.counters import CounterKey
from exporter.ledger.accounting.remote import HOUR, HourSamples, Position, Sample

FIRST = 500_000
KEYS = [CounterKey(label_set, "cost", "") for label_set in (1, 2, 3)]
ACCOUNTS = {1: "a", 2: "a", 3: "b"}


class AppendingStore:
    """Keeps samples as Prometheus does: one of each instant, none of which is ever another."""

    def __init__(self) -> None:
        self.gauges: defaultdict[CounterKey, dict[int, int]] = defaultdict(dict)
        self.counters: defaultdict[CounterKey, dict[int, int]] = defaultdict(dict)

    def take(self, told: list[HourSamples]) -> None:
        for of in told:
            for samples, series in ((of.gauge, self.gauges[of.key]), (of.counter, self.counters[of.key])):
                for at, value in samples:
                    assert series.setdefault(at, value) == value, "an instant has one value for ever"

    def sum_over_time(self, key: CounterKey, first: int, end: int) -> int:
        """As Prometheus 2, whose ranges have both ends; ranges of Prometheus 3 lack the first."""
        return sum(value for at, value in self.gauges[key].items() if first * HOUR <= at <= end * HOUR)

    def increase(self, key: CounterKey, first: int, end: int) -> int:
        """As Prometheus 3, without extrapolation, which is checked to be none."""
        found = sorted(item for item in self.counters[key].items() if first * HOUR < item[0] <= end * HOUR)
        if len(found) < 2:
            return 0
        assert found[0][1] == 0, "nothing is extrapolated to the start"
        assert found[-1][0] == end * HOUR, "nothing is extrapolated to the end"
        return rises(found)


def rises(samples: list[Sample]) -> int:
    pairs = pairwise(samples)
    return sum(after - before if after >= before else after for (_, before), (_, after) in pairs)


def position() -> Position:
    return Position(born=FIRST, begun=FIRST, through=FIRST, labels="[]")


def correct(told: Position, hour: int, deltas: dict[CounterKey, int], reach: int = FIRST) -> list[HourSamples]:
    told.rounds += 1
    return told.corrections(hour, deltas, account_of=ACCOUNTS.__getitem__, reach=reach)


Changes = dict[CounterKey, int]
Life = list[tuple[Changes, int, Changes]]
changes = st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9), max_size=3)
lives = st.lists(st.tuples(changes, st.integers(1, 60), changes), min_size=1, max_size=30)


@given(lives)
def test_every_hour_is_what_was_charged_whatever_came_late(life: Life) -> None:
    told, store = position(), AppendingStore()
    truth: list[defaultdict[CounterKey, int]] = []
    for charged, back, late in life:
        truth.append(defaultdict(int, charged))
        store.take(told.first_samples(charged))
        hour = max(len(truth) - back, 0)
        deltas = {key: by for key, by in late.items() if by}
        for key, by in deltas.items():
            truth[hour][key] += by
        store.take(correct(told, FIRST + hour, deltas))
    for key in KEYS:
        for number, charged in enumerate(truth):
            hour = FIRST + number
            assert store.sum_over_time(key, hour, hour + 1) == charged[key]
            assert store.increase(key, hour, hour + 1) == charged[key]
        whole = sum(charged[key] for charged in truth)
        assert store.increase(key, FIRST, FIRST + len(truth)) == whole
        assert store.sum_over_time(key, FIRST, FIRST + len(truth)) == whole


def test_a_counter_waits_for_what_is_taken_back_and_the_gauge_does_not() -> None:
    told, store = position(), AppendingStore()
    key = KEYS[0]
    store.take(told.first_samples({key: 10}))
    store.take(correct(told, FIRST, {key: -4}))
    assert told.series[key].debt == 4
    store.take(told.first_samples({key: 3}))
    store.take(told.first_samples({key: 3}))
    hours = [(FIRST + number, FIRST + number + 1) for number in range(3)]
    assert [store.sum_over_time(key, *hour) for hour in hours] == [6, 3, 3]
    assert [store.increase(key, *hour) for hour in hours] == [10, 0, 2]
    assert told.series[key].debt == 0


def test_what_moves_to_other_labels_of_the_account_within_an_hour_moves_no_counter() -> None:
    told, store = position(), AppendingStore()
    one, other, elsewhere = KEYS
    store.take(told.first_samples({one: 10}))
    store.take(correct(told, FIRST, {one: -4, other: 4, elsewhere: 5}))
    assert [store.sum_over_time(key, FIRST, FIRST + 1) for key in KEYS] == [6, 4, 5]
    assert [store.increase(key, FIRST, FIRST + 1) for key in KEYS] == [10, 0, 5]
    assert not any(series.debt for series in told.series.values())


@pytest.mark.parametrize("is_refused", [False, True])
def test_what_a_store_does_not_take_late_is_told_with_the_next_hour(is_refused: bool) -> None:  # noqa: FBT001  a parameter
    told, store = position(), AppendingStore()
    key = KEYS[0]
    store.take(told.first_samples({key: 10}))
    late = correct(told, FIRST, {key: 4}, reach=FIRST if is_refused else FIRST + 1)
    assert bool(late) is is_refused
    told.carry(late)
    store.take(told.first_samples({key: 1}))
    assert [store.sum_over_time(key, FIRST + hour, FIRST + hour + 1) for hour in (0, 1)] == [10, 5]
    assert [store.increase(key, FIRST + hour, FIRST + hour + 1) for hour in (0, 1)] == [10, 5]
    store.take(told.first_samples({}))
    assert store.sum_over_time(key, FIRST + 2, FIRST + 3) == 0, "it is told once"


def test_a_series_that_is_not_charged_for_any_more_is_forgotten_but_for_what_it_owes() -> None:
    told = position()
    told.first_samples({KEYS[0]: 1, KEYS[1]: 1})
    correct(told, FIRST, {KEYS[1]: -1})
    told.forget_before(FIRST + 1)
    assert [*told.series] == [KEYS[1]]
