import io

import pytest
from prometheus_client.openmetrics.parser import text_fd_to_metric_families

from exporter.metrics.backfill import Grid, Step, TimedFamily
from exporter.metrics.catalogue import CATALOGUE

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
