from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Amounts
from exporter.ledger.counters import Counter, CounterKey, Holds, advanced, measured, released

BORN = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOLD = timedelta(minutes=2)
KEY = CounterKey(1, "cost", "")
NEW = Counter(0, 0, BORN, released=False)


@given(st.lists(st.integers(-100, 100)))
def test_a_released_counter_shows_the_highest_truth_there_has_been(changes: list[int]) -> None:
    counter = released(NEW)
    truth = highest = 0
    for change in changes:
        counter = advanced(counter, change)
        truth += change
        highest = max(highest, truth)
        assert (counter.published, counter.pending) == (highest, highest - truth)


@given(st.lists(st.integers(-100, 100)))
def test_a_held_counter_shows_zero_and_its_truth_when_it_is_released(changes: list[int]) -> None:
    counter = NEW
    for change in changes:
        counter = advanced(counter, change)
        assert counter.published == 0
    assert released(counter).published == max(sum(changes), 0)


def test_the_cost_is_always_counted_the_rest_where_there_is_some() -> None:
    assert list(measured(Amounts(), "image")) == [("cost", "", 0)]
    assert list(measured(Amounts(1, 2, 3, 4, 5), "image")) == [
        ("cost", "", 5),
        ("discount", "", 4),
        ("gpu_seconds", "", 2),
        ("quantity", "image", 1),
    ]


def held() -> Holds:
    holds = Holds(HOLD)
    holds.begin(KEY)
    return holds


def test_a_counter_is_due_when_the_hold_has_passed_and_a_scrape_has_seen_it_at_zero() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(1)
    assert holds.due({KEY: NEW}, BORN + HOLD - timedelta(seconds=1)) == []
    assert holds.due({KEY: NEW}, BORN + HOLD) == [KEY]


def test_a_counter_that_no_scrape_has_seen_is_held_on() -> None:
    holds = held()
    assert holds.due({KEY: NEW}, BORN + HOLD) == []
    holds.shown(1)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_a_scrape_of_a_view_before_the_counter_s_birth_does_not_count() -> None:
    holds = Holds(HOLD)
    holds.shown(1)
    holds.begin(KEY)
    holds.shown(2)
    holds.scraped(1)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_a_scrape_of_a_view_of_an_earlier_process_does_not_count() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(900)
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_a_counter_that_has_been_released_is_held_no_more() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(1)
    holds.end([KEY, KEY])
    assert holds.due({KEY: NEW}, BORN + HOLD) == []


def test_contents_that_are_read_anew_keep_what_is_known_of_scrapes() -> None:
    holds = held()
    holds.shown(1)
    holds.scraped(1)
    other = CounterKey(2, "cost", "")
    holds.keep({KEY: NEW, other: NEW})
    assert holds.due({KEY: NEW, other: NEW}, BORN + HOLD) == [KEY]
    holds.keep({KEY: released(NEW), other: NEW})
    assert holds.due({KEY: released(NEW), other: NEW}, BORN + HOLD) == []
