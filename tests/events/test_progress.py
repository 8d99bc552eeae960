from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR
from exporter.events.progress import (
    LAG,
    Progress,
    Reading,
    first_progress,
    is_due_again,
    next_reading,
    read_progress,
    written,
)

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SETTLE = timedelta(hours=48)


def following(
    progress: Progress,
    now: datetime,
    *,
    history_from: datetime = NOON,
    read: Mapping[datetime, datetime] | None = None,
    differing: Collection[datetime] = (),
) -> Reading | None:
    return next_reading(
        progress,
        now,
        history_from=history_from,
        tail_every=5 * MINUTE,
        settle=SETTLE,
        read=read or {},
        differing=differing,
    )


def test_an_hour_is_read_whole_ten_minutes_after_its_end() -> None:
    progress = Progress(NOON, NOON, NOON + HOUR)
    assert following(progress, NOON + HOUR + LAG) == Reading(NOON, NOON, NOON + HOUR, NOON + HOUR + LAG)
    assert following(progress, NOON + HOUR + LAG - MINUTE).is_whole is False


def test_the_running_hour_is_read_on_from_a_little_before_where_it_was_read_to() -> None:
    progress = Progress(NOON, NOON, NOON + 20 * MINUTE)
    assert following(progress, NOON + 24 * MINUTE) is None
    found = following(progress, NOON + 26 * MINUTE)
    assert found is not None
    assert (found.start, found.end, found.is_whole) == (NOON + 15 * MINUTE, NOON + 26 * MINUTE, False)
    assert progress.done(found).tail == NOON + 26 * MINUTE


def test_a_tail_ends_with_its_hour() -> None:
    progress = Progress(NOON, NOON, NOON + 58 * MINUTE)
    found = following(progress, NOON + HOUR + 3 * MINUTE)
    assert found is not None
    assert (found.hour, found.end) == (NOON, NOON + HOUR)
    assert following(progress.done(found), NOON + HOUR + 6 * MINUTE).hour == NOON + HOUR


def test_a_reading_under_way_goes_before_everything() -> None:
    reading = Reading(NOON, NOON, NOON + HOUR, NOON + 2 * HOUR, cursor="abc", parts=2)
    assert following(first_progress(NOON + 9 * HOUR).begin(reading), NOON + 9 * HOUR) is reading


def test_hours_follow_one_another_and_then_the_history_backwards() -> None:
    progress, now, hours = first_progress(NOON), NOON + 3 * HOUR, []
    while (reading := following(progress, now, history_from=NOON - 4 * HOUR)) is not None:
        if reading.is_whole:
            hours.append(reading.hour)
        progress = progress.begin(reading).done(reading)
    offsets = [(hour - NOON) // HOUR for hour in hours]
    assert offsets == [-1, 0, 1, -2, -3, -4]
    assert (progress.since, progress.through) == (NOON - 4 * HOUR, NOON + 2 * HOUR)


def test_an_hour_that_differs_is_read_again_ever_more_seldom() -> None:
    end = NOON + HOUR
    assert not is_due_again(NOON, end + LAG, end + HOUR, SETTLE, differs=True)
    assert is_due_again(NOON, end + LAG, end + HOUR + LAG, SETTLE, differs=True)
    assert not is_due_again(NOON, end + 40 * HOUR, end + 47 * HOUR, SETTLE, differs=True)
    assert not is_due_again(NOON, end + LAG, end + 2 * HOUR, SETTLE, differs=False)


@pytest.mark.parametrize("age", [6, 48])
def test_every_hour_is_read_again_at_set_ages(age: int) -> None:
    end = NOON + HOUR
    read_at = end + (age - 1) * HOUR
    assert not is_due_again(NOON, read_at, end + age * HOUR - MINUTE, SETTLE, differs=False)
    assert is_due_again(NOON, read_at, end + age * HOUR, SETTLE, differs=False)
    assert not is_due_again(NOON, end + age * HOUR, end + age * HOUR + MINUTE, SETTLE, differs=False)


def test_a_repeated_reading_moves_no_edge() -> None:
    progress = Progress(NOON - 9 * HOUR, NOON + HOUR, NOON + HOUR + 5 * MINUTE)
    read = {NOON - 8 * HOUR: NOON - 7 * HOUR}
    again = following(progress, NOON + HOUR + 8 * MINUTE, read=read)
    assert again is not None
    assert again.hour == NOON - 8 * HOUR
    assert progress.begin(again).done(again) == progress


@pytest.mark.parametrize(("tail", "after"), [(20 * MINUTE, HOUR), (HOUR + 5 * MINUTE, HOUR + 5 * MINUTE)])
def test_an_hour_that_is_read_whole_takes_nothing_back_of_the_next(tail: timedelta, after: timedelta) -> None:
    progress = Progress(NOON - HOUR, NOON, NOON + tail)
    whole = Reading(NOON, NOON, NOON + HOUR, NOON + HOUR + LAG)
    assert progress.begin(whole).done(whole) == Progress(NOON - HOUR, NOON + HOUR, NOON + after)


def test_a_tail_that_ends_before_another_takes_nothing_back() -> None:
    tail = Reading(NOON, NOON, NOON + 10 * MINUTE, NOON + 10 * MINUTE, is_whole=False)
    progress = Progress(NOON, NOON, NOON + 15 * MINUTE)
    assert progress.begin(tail).done(tail) == progress


def test_a_refusal_keeps_the_place_and_an_answer_ends_it() -> None:
    reading = Reading(NOON, NOON, NOON + HOUR, NOON + 2 * HOUR, cursor="abc")
    off = Progress(NOON, NOON, NOON).begin(reading).switched_off("fal said no", NOON + 26 * HOUR)
    assert (off.reading, off.off_reason) == (reading, "fal said no")
    assert off.done(reading).off_until is None
    assert reading.from_start() == Reading(NOON, NOON, NOON + HOUR, NOON + 2 * HOUR)


instants = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
readings = st.builds(
    Reading, instants, instants, instants, instants, st.none() | st.text(), st.integers(0, 9), st.booleans()
)


@given(
    st.builds(
        Progress,
        instants,
        instants,
        instants,
        st.none() | readings,
        st.none() | instants,
        st.text(),
        st.none() | st.booleans(),
    )
)
def test_progress_reads_as_it_was_written(progress: Progress) -> None:
    assert read_progress(written(progress)) == progress


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"reading":1}'])
def test_what_is_no_progress_is_refused(document: bytes) -> None:
    with pytest.raises(ValueError, match="not a document of progress"):
        read_progress(document)
