from datetime import UTC, datetime, timedelta

import pytest

from exporter.charges import HOUR, Window
from exporter.ledger.directory import reached, settled, state_of
from exporter.ledger.tables.rows import Scope

DAY = datetime(2026, 11, 20, tzinfo=UTC)
DELAY = timedelta(hours=48)
NEW = Scope(1, "main", "models", True, DAY, DAY, None, None, None, None, 0, 0, 0)  # noqa: FBT003  a row


def hours(start: int, end: int) -> Window:
    return Window(DAY + start * HOUR, DAY + end * HOUR)


def at(hour: float) -> datetime:
    return DAY + hour * HOUR


def test_data_reach_to_the_last_complete_hour_of_the_poll() -> None:
    scope = reached(NEW, hours(0, 13), at(12.5))
    assert (scope.history_from, scope.data_through, scope.last_success_at) == (at(0), at(12), at(12.5))


def test_a_poll_of_the_running_hour_alone_covers_nothing_yet() -> None:
    assert reached(NEW, hours(12, 13), at(12.5)).data_through == at(12)


@pytest.mark.parametrize(
    ("window", "history_from", "data_through"),
    [
        (hours(10, 14), 0, 13),
        (hours(12, 14), 0, 13),
        (hours(-24, 0), -24, 12),
        (hours(3, 5), 0, 12),
    ],
)
def test_a_window_that_touches_what_is_covered_moves_its_ends(
    window: Window, history_from: int, data_through: int
) -> None:
    scope = reached(reached(NEW, hours(0, 13), at(12.5)), window, at(13.5))
    assert (scope.history_from, scope.data_through) == (at(history_from), at(data_through))


@pytest.mark.parametrize("window", [hours(14, 16), hours(-24, -2)])
def test_a_window_beyond_a_gap_does_not(window: Window) -> None:
    before = reached(NEW, hours(0, 13), at(12.5))
    after = reached(before, window, at(15.5))
    assert (after.history_from, after.data_through) == (before.history_from, before.data_through)
    assert after.last_success_at == at(15.5)


def test_a_poll_that_began_earlier_moves_no_stamp_back() -> None:
    before = reached(NEW, hours(0, 13), at(12.5))
    assert reached(before, hours(0, 13), at(11.5)) == before


def test_hours_that_had_not_ended_when_the_poll_began_join_nothing() -> None:
    before = reached(NEW, hours(12, 13), at(12.5))
    assert reached(before, hours(8, 13), at(10.5)).history_from == at(12)


def polled(window: Window, when: float) -> Scope:
    return settled(reached(NEW, window, at(when)), window, at(when), DELAY)


def test_an_hour_is_settled_when_a_poll_after_the_settle_delay_has_covered_what_followed_it() -> None:
    assert polled(hours(-96, 13), 12.5).settled_through == at(12) - DELAY


def test_a_poll_of_the_last_hours_alone_settles_nothing() -> None:
    assert polled(hours(10, 13), 12.5).settled_through is None


def test_the_settled_hours_never_reach_beyond_the_covered_ones() -> None:
    assert polled(hours(-96, -70), 12.5).settled_through == at(-70)


def test_a_scope_shows_its_stamps() -> None:
    state = state_of(polled(hours(-96, 13), 12.5))
    assert (state.account, state.source, state.born_at) == ("main", "models", DAY)
    assert (state.history_from, state.data_through, state.settled_through) == (at(-96), at(12), at(-36))
