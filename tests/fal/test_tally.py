from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import Amounts, Charge, Dimensions, Window
from exporter.fal.aggregation import Tally
from exporter.fal.rows import Rejection, Rejections

START = datetime(2026, 11, 21, 10, tzinfo=UTC)
WINDOW = Window(START, START + timedelta(hours=3))

CHARGES = st.builds(
    Charge,
    st.sampled_from(list(WINDOW.hours())),
    st.sampled_from([Dimensions("prod", model=model) for model in "abc"]),
    st.integers(0, 10**12).map(lambda number: Amounts(*range(number, number + 5))),
)


def tally() -> Tally:
    return Tally("prod", "models", WINDOW, Rejections("prod", lambda text: text))


@given(st.lists(CHARGES))
def test_a_reading_holds_one_sum_for_each_hour_and_dimensions(charges: list[Charge]) -> None:
    sums = tally()
    for charge in charges:
        sums.add(*charge)
    expected = {
        Charge(*key, Amounts(*map(sum, zip(*(it.amounts for it in charges if it[:2] == key), strict=True))))
        for key in {it[:2] for it in charges}
    }
    assert sorted(sums.reading().charges) == sorted(expected)


def test_stamps_name_hours_within_the_window_or_say_why_not() -> None:
    sums = tally()
    assert sums.hour("2026-11-21T12:00:00+00:00") == START + timedelta(hours=2)
    assert sums.hour("2026-11-21T13:00:00Z") is Rejection.OUTSIDE_WINDOW
    assert sums.hour("2026-11-21T12:00:01Z") is Rejection.BUCKET
    assert sums.hour("20261121") is Rejection.BUCKET
    assert sums.hour([]) is Rejection.BUCKET
