from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams

from exporter.simulator.interfaces.calls import ApiError, Cursor, Query

WHOLE = st.integers(0, 2**60)


@given(WHOLE, WHOLE, WHOLE, WHOLE, WHOLE)
def test_a_cursor_reads_back_as_it_was(as_of: int, at: int, row: int, query: int, again: int) -> None:
    cursor = Cursor(as_of, at, row, query, again)
    assert Cursor.parse(cursor.text(), query) == cursor


@given(st.text())
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(ApiError, match="cursor"):
        Cursor.parse(text, -1)


@given(st.text(max_size=30), st.sampled_from(["start", "timezone", "limit", "billing_month", "cursor", "expand"]))
def test_no_text_of_a_parameter_breaks_the_reader(text: str, name: str) -> None:
    query = Query(QueryParams({name: text}))
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for read in (
        lambda: query.period(now),
        lambda: query.limit(1, 1),
        lambda: query.month("billing_month"),
        lambda: query.cursor(now),
        lambda: query.values("expand"),
    ):
        try:
            read()
        except ApiError as error:
            assert error.status == 400  # noqa: PT017  whatever is refused is refused so


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:30:00Z", datetime(2026, 11, 20, 10, 30, tzinfo=UTC)),
        ("2026-11-20T10:30:00.5+02:00", datetime(2026, 11, 20, 8, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-11-20T10:30:00 02:00", datetime(2026, 11, 20, 8, 30, tzinfo=UTC)),
        ("2026-11-20T10:30:00", datetime(2026, 11, 20, 10, 30, tzinfo=UTC)),
    ],
)
def test_dates_and_date_times_are_read(text: str, instant: datetime) -> None:
    assert Query(QueryParams({"start": text})).instant("start") == instant


def test_values_come_once_from_lists_and_repeats() -> None:
    query = Query(QueryParams([("app", "a,b"), ("app", "b, c"), ("app", "")]))
    assert query.values("app") == ("a", "b", "c")
    assert query.values("search") == ()
