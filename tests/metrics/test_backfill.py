import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

from exporter.metrics.backfill import Grid, Step, TimedFamily, counter, last_day, last_hour, since_start
from exporter.metrics.catalogue import CATALOGUE

H = 3600
HOURS = st.dictionaries(st.integers(100, 140), st.integers(-50, 100), min_size=1).map(
    lambda hours: dict(sorted(hours.items()))
)


def at(steps: list[Step], instant: int) -> int | None:
    return next((step.value for step in reversed(steps) if step.at <= instant), None)


def test_a_counter_is_born_at_0_and_rises_at_the_hours_ends() -> None:
    steps = counter({100: 5, 101: 7, 110: 1}, before=0, total=13, last=200 * H, resolution=300)
    assert steps == [(100 * H, 0), (101 * H, 5), (102 * H, 12), (111 * H, 13)]


def test_a_counter_goes_on_where_the_retention_folded() -> None:
    assert counter({100: 5}, before=20, total=25, last=200 * H, resolution=300) == [(100 * H, 20), (101 * H, 25)]


def test_a_counter_waits_while_money_is_taken_back() -> None:
    steps = counter({100: 5, 101: -3, 102: 1, 103: 4}, before=0, total=7, last=200 * H, resolution=300)
    assert steps == [(100 * H, 0), (101 * H, 5), (104 * H, 7)]


def test_what_came_late_and_was_counted_live_is_left_out_of_the_last_hours() -> None:
    steps = counter({100: 5, 101: 7}, before=0, total=9, last=200 * H, resolution=300)
    assert steps == [(100 * H, 0), (101 * H, 5), (102 * H, 9)]


def test_the_known_part_of_the_running_hour_comes_with_the_last_sample() -> None:
    steps = counter({100: 5, 101: 7}, before=0, total=8, last=101 * H + 1500, resolution=300)
    assert steps == [(100 * H, 0), (101 * H, 5), (101 * H + 1500, 8)]


def test_a_counter_of_the_running_hour_alone_still_has_its_0_first() -> None:
    assert counter({100: 5}, before=0, total=3, last=100 * H, resolution=H) == [(99 * H, 0), (100 * H, 3)]


def test_without_a_positive_total_there_is_no_counter() -> None:
    assert counter({100: -5}, before=0, total=-5, last=200 * H, resolution=300) == []


@given(HOURS, st.integers(-50, 100), st.integers(1, 500), st.integers(100, 150))
def test_whatever_was_charged_a_counter_never_falls_and_ends_at_its_total(
    hours: dict[int, int], before: int, total: int, last: int
) -> None:
    steps = counter(hours, before=before, total=total, last=last * H, resolution=300)
    assert steps[-1].value == total
    assert [step.at for step in steps] == sorted({step.at for step in steps})
    assert [step.value for step in steps] == sorted(step.value for step in steps)
    assert steps[0].value >= 0
    assert steps[0].at < last * H
    assert steps[-1].at <= last * H


@given(HOURS, st.integers(99, 145))
def test_the_last_hour_is_told_from_its_end_to_the_next(hours: dict[int, int], hour: int) -> None:
    shown = at(last_hour(hours), hour * H + 1799)
    assert (shown or 0) == hours.get(hour - 1, 0)


@given(HOURS, st.integers(99, 145), st.integers(60, 130))
def test_the_last_day_is_its_complete_hours_once_all_are_known(
    hours: dict[int, int], hour: int, known_from: int
) -> None:
    shown = at(last_day(hours, known_from), hour * H + 1799)
    if hour - 23 >= known_from:
        assert shown == sum(amount for item, amount in hours.items() if hour - 23 <= item < hour)
    else:
        assert shown is None


@given(HOURS, st.integers(100, 145), st.integers(90, 130))
def test_a_period_is_told_as_the_sum_of_its_complete_hours(hours: dict[int, int], hour: int, known_from: int) -> None:
    starts = [90, 96, 107, 120, 131, 150]
    start = max(item for item in starts if item <= hour)
    shown = at(since_start(hours, starts, known_from), hour * H)
    if start >= known_from:
        assert (shown or 0) == sum(amount for item, amount in hours.items() if start <= item < hour)
    else:
        assert shown in {0, None}


def test_a_period_whose_beginning_is_not_known_is_left_out() -> None:
    assert since_start({100: 5, 120: 7}, [96, 120, 144], known_from=97) == [(120 * H, 0), (121 * H, 7), (144 * H, 0)]


TARGET = {"instance": "localhost:8080", "job": "fal"}


def encoded(values: tuple[str, ...], steps: list[Step], until: int, grid: Grid) -> str:
    family = TimedFamily(CATALOGUE["fal_spend_usd_total"], ("account", "model"), TARGET, grid)
    return family.header + "".join(lines for lines, _ in family.lines(values, steps, until)) + "# EOF\n"


def test_values_hold_from_step_to_step_on_every_instant_of_the_grid() -> None:
    text = encoded(("a", "m"), [Step(600, 0), Step(1200, 1_500_000_000)], 1801, Grid(0, 5000, 300))
    (family,) = text_fd_to_metric_families(io.StringIO(text))
    assert (family.name, family.type, family.unit) == ("fal_spend_usd", "counter", "usd")
    assert [(float(sample.timestamp), sample.value) for sample in family.samples] == [
        (600, 0.0),
        (900, 0.0),
        (1200, 1.5),
        (1500, 1.5),
        (1800, 1.5),
    ]


def test_no_sample_is_at_or_after_the_end_of_series_or_grid() -> None:
    steps = [Step(0, 1)]
    assert " 600\n" not in encoded(("a", "m"), steps, 600, Grid(0, 5000, 300))
    assert " 600\n" not in encoded(("a", "m"), steps, 5000, Grid(0, 600, 300))
    assert " 300\n" in encoded(("a", "m"), steps, 600, Grid(0, 600, 300))
    assert " 600\n" not in encoded(("a", "m"), [*steps, Step(900, 2)], 600, Grid(0, 5000, 300))


def test_a_later_start_changes_no_value() -> None:
    steps = [Step(0, 10**9), Step(900, 2 * 10**9)]
    whole = encoded(("a", "m"), steps, 3000, Grid(0, 3000, 300)).splitlines()
    part = encoded(("a", "m"), steps, 3000, Grid(700, 3000, 300)).splitlines()
    assert part == [line for line in whole if not line.endswith((" 0", " 300", " 600"))]


@pytest.mark.parametrize("value", ['quote " here', "back\\slash", "line\nfeed", "ünï"])
def test_series_have_the_labels_of_live_scrapes_and_the_targets(value: str) -> None:
    text = encoded(("a", value), [Step(0, 1)], 300, Grid(0, 300, 300))
    ((sample,),) = [family.samples for family in text_fd_to_metric_families(io.StringIO(text))]
    assert sample.labels == {"account": "a", "model": value, **TARGET}


def test_an_empty_label_is_left_out() -> None:
    text = encoded(("a", ""), [Step(0, 1)], 300, Grid(0, 300, 300))
    ((sample,),) = [family.samples for family in text_fd_to_metric_families(io.StringIO(text))]
    assert sample.labels == {"account": "a", **TARGET}
