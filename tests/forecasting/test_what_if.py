"""Lower settings of apps, judged by lives that are simulated request by request."""

import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import NANO
from exporter.forecasting.what_if import AppHour, AppWeek, Saving, Setting, proposals, saving, what_if
from exporter.machines import Runners

HOUR = 3600


class Judged(Protocol):
    story: str
    told: Saving
    idle: int
    saved: int
    starts: int

    @property
    def holds(self) -> bool: ...


def quiet(hours: int, *, idle: int = 1, pending: int = 0) -> tuple[AppHour, ...]:
    return (AppHour(Runners(idle=idle * NANO, pending=pending), 0, 0),) * hours


@pytest.fixture(scope="module")
def judged() -> Callable[[int], Iterator[Judged]]:
    path = Path(__file__).parents[1] / "benchmarks" / "what_if.py"
    found: Callable[[int], Iterator[Judged]] = runpy.run_path(str(path))["judged"]
    return found


@pytest.mark.long
def test_what_is_saved_in_truth_lies_within_the_bounds(judged: Callable[[int], Iterator[Judged]]) -> None:
    lives = list(judged(2))
    assert [item for item in lives if not item.holds] == []
    assert [item for item in lives if item.starts > item.told.most_starts] == []
    assert all(item.told.least <= item.told.likely <= item.told.most for item in lives)
    # They say something: where few ask, the bounds are near each other.
    rare = [item for item in lives if item.story.startswith("rare")]
    assert all(item.told.most - item.told.least < item.idle / 10 for item in rare)


def test_a_runner_that_is_kept_for_nobody_is_all_of_the_saving() -> None:
    (told,) = what_if([AppWeek("default", "quiet", "", Setting(60, 1), quiet(168, pending=0), 168 * NANO)])
    assert (told.present, told.proposed) == (Setting(60, 1), Setting(60, 0))
    # The runner that is idle at the start stays for its keep-alive.
    assert told.most == told.likely == 168 * NANO
    assert told.least == 168 * NANO * (168 * HOUR - 60) // (168 * HOUR)
    assert told.most_starts == told.likely_starts == 0


def test_cold_starts_are_paid_for() -> None:
    """A runner waits for two requests an hour, each some time after the other; a start takes 36 seconds."""
    hours = (AppHour(Runners(running=NANO // 10, idle=NANO * 8 // 10, pending=NANO * 2 // 100), 4, 2),) * 24
    (halved, *_) = what_if([AppWeek("default", "slow", "", Setting(1200, 0), hours, 24 * 92 * NANO)])
    found = saving(hours, Setting(1200, 0), halved.proposed)
    price = 100 * NANO // HOUR
    assert halved.most == pytest.approx(found.most * price / NANO, rel=1e-6)
    assert halved.likely == pytest.approx((found.likely / NANO - found.likely_starts * 36) * price, rel=1e-6)
    assert halved.likely < halved.most


def test_what_no_setting_can_lower_is_not_told() -> None:
    assert what_if([AppWeek("default", "lean", "", Setting(10, 0), quiet(24), NANO)]) == ()
    assert what_if([AppWeek("default", "free", "", Setting(60, 1), quiet(24), 0)]) == ()
    assert what_if([AppWeek("default", "gone", "", Setting(60, 1), (), NANO)]) == ()
    # All that is alive is the minimum: a shorter keep-alive ends nothing.
    assert saving(quiet(24), Setting(300, 1), Setting(60, 1)).most == 0


def test_lower_settings_are_lower_in_one_of_the_two() -> None:
    assert list(proposals(Setting(300, 3))) == [Setting(150, 3), Setting(75, 3), Setting(300, 2), Setting(300, 0)]
    assert list(proposals(Setting(15, 0))) == []
    for wrong in (Setting(300, 1), Setting(200, 0), Setting(400, 1)):
        with pytest.raises(ValueError, match="one of the two"):
            saving(quiet(1), Setting(300, 1), wrong)


runners = st.builds(Runners, *[st.integers(0, 5 * NANO)] * 4)
app_hours = st.lists(st.builds(AppHour, runners, st.integers(0, 500), st.integers(0, 50)), max_size=8)


@given(app_hours, st.integers(0, 3600), st.integers(0, 4))
def test_bounds_enclose_what_is_likely_and_nobody_saves_more_than_was_idle(
    hours: list[AppHour], keep_alive: int, least: int
) -> None:
    idle = sum(hour.runners.idle for hour in hours) * HOUR
    for proposed in proposals(Setting(keep_alive, least)):
        found = saving(hours, Setting(keep_alive, least), proposed)
        assert 0 <= found.least <= found.likely <= found.most <= idle
        assert 0 <= found.likely_starts <= found.most_starts
