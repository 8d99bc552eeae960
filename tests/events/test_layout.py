from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.events.layout import Piece, days_between, folder_of, hour_piece, part_piece, piece_of, sort_out

DAY = date(2026, 11, 27)
HOUR = datetime(2026, 11, 27, 13, tzinfo=UTC)


def at(minute: int) -> datetime:
    return HOUR + timedelta(hours=1, minutes=minute)


def whole(minute: int) -> Piece:
    return Piece("day", "default", DAY, at(minute))


@pytest.mark.parametrize(
    ("piece", "name"),
    [
        (hour_piece("default", HOUR, at(10)), "account=default/day=2026-11-27/hour-13-20261127T141000000000Z.parquet"),
        (
            part_piece("default", HOUR, at(10), 3),
            "account=default/day=2026-11-27/part-13-20261127T141000000000Z-00003.parquet",
        ),
        (whole(10), "account=default/day=2026-11-27/day-20261127T141000000000Z.parquet"),
        (
            hour_piece("a b/ä=c", HOUR, at(10)),
            "account=a%20b%2F%C3%A4%3Dc/day=2026-11-27/hour-13-20261127T141000000000Z.parquet",
        ),
    ],
)
def test_a_name_says_what_a_file_holds(piece: Piece, name: str) -> None:
    assert piece.name == name
    assert piece_of(name) == piece


@pytest.mark.parametrize(
    "name",
    [
        "account=default/day=2026-11-27/notes.txt",
        "_documents/progress/default.json",
        "account=default/day=2026-11-27/hour-24-20261127T141000000000Z.parquet",
        "account=default/day=2026-11-27/.hour-13-20261127T141000000000Z.parquet",
    ],
)
def test_other_files_are_none_of_requests(name: str) -> None:
    assert piece_of(name) is None


def test_the_latest_complete_reading_of_an_hour_counts() -> None:
    older, newer = hour_piece("default", HOUR, at(10)), hour_piece("default", HOUR, at(20))
    files = sort_out([newer, older])
    assert files.hours == (newer,)
    assert files.stale == (older,)


def test_parts_count_until_their_hour_has_been_read_to_its_end() -> None:
    parts = (part_piece("default", HOUR, at(0), 0), part_piece("default", HOUR, at(5), 0))
    assert sort_out(parts).parts == parts
    files = sort_out([*parts, hour_piece("default", HOUR, at(10))])
    assert (files.parts, files.stale) == ((), parts)


def test_a_reading_under_way_changes_nothing_and_is_not_stale() -> None:
    complete, under_way = hour_piece("default", HOUR, at(10)), part_piece("default", HOUR, at(20), 0)
    files = sort_out([complete, under_way])
    assert (files.counted, files.stale) == ((complete,), ())


def test_a_compacted_day_replaces_what_it_was_made_of_and_is_replaced_hour_by_hour() -> None:
    source, again = hour_piece("default", HOUR, at(10)), hour_piece("default", HOUR, at(30))
    files = sort_out([source, whole(10), again])
    assert (files.whole, files.hours, files.stale) == (whole(10), (again,), (source,))
    assert not files.is_compact
    assert sort_out([whole(10)]).is_compact
    assert sort_out([]).is_compact


pieces = st.one_of(
    st.builds(whole, st.integers(0, 50)),
    st.builds(
        lambda hour, minute: Piece("hour", "default", DAY, at(minute), hour), st.integers(0, 3), st.integers(0, 50)
    ),
    st.builds(
        lambda hour, minute, number: Piece("part", "default", DAY, at(minute), hour, number),
        st.integers(0, 3),
        st.integers(0, 50),
        st.integers(0, 2),
    ),
)


@given(st.lists(pieces, unique=True).flatmap(lambda found: st.tuples(st.just(found), st.permutations(found))))
def test_what_counts_depends_on_no_order_and_stays_when_stale_files_are_deleted_in_part(
    both: tuple[list[Piece], list[Piece]],
) -> None:
    found, shuffled = both
    files = sort_out(found)
    assert sort_out(shuffled) == files
    for deleted in range(len(files.stale) + 1):
        left = [piece for piece in found if piece not in files.stale[:deleted]]
        assert sort_out(left).counted == files.counted


def test_days_of_a_span_end_before_its_end() -> None:
    start = datetime(2026, 11, 26, 23, tzinfo=UTC)
    assert days_between(start, datetime(2026, 11, 28, tzinfo=UTC)) == (date(2026, 11, 26), DAY)
    assert folder_of("default", DAY) == "account=default/day=2026-11-27/"
