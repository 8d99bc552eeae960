"""The life of an exporter, lived through by a clock that is moved, and judged by a real Prometheus.

There are two: six days, and thirty days, which take some two minutes. What happens in them is in `e2e.life.story`. The
last test shows that the others can fail.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from e2e.life import checks
from e2e.life.living import EXPORTER, NAIVE, Life, live
from e2e.life.prometheus import Prometheus, prometheus_on
from e2e.life.story import GLITCHED, NANO, SIX_DAYS, THIRTY_DAYS, Story
from e2e.processes import Labels


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(SIX_DAYS, id="six days", marks=pytest.mark.xdist_group("six days")),
        pytest.param(THIRTY_DAYS, id="thirty days", marks=[pytest.mark.long, pytest.mark.xdist_group("thirty days")]),
    ],
)
def story(request: pytest.FixtureRequest) -> Story:
    told: Story = request.param
    return told


@pytest.fixture(scope="module")
def life(story: Story, program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    program("promtool", "prometheus")  # before minutes have been spent in vain
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(live(story, tmp_path_factory.mktemp("life")))
    finally:
        structlog.configure(**before)


@pytest.fixture(scope="module")
def prometheus(life: Life, program: Callable[[str, str], str]) -> Iterator[Prometheus]:
    with prometheus_on(life.recorded, life.recorded.parent, program) as prometheus:
        yield prometheus


def test_no_counter_ever_falls(story: Story, prometheus: Prometheus) -> None:
    assert checks.falls(story, prometheus, EXPORTER) == []


def test_the_polls_have_brought_all_that_fal_has_stated(life: Life) -> None:
    learnt = {family: {labels: item for labels, item in now.items() if item} for family, now in life.learnt.now.items()}
    assert learnt == life.grown


def test_the_increase_over_the_life_is_what_was_learnt_in_it(story: Story, life: Life, prometheus: Prometheus) -> None:
    waiting = {family: life.learnt.waiting(family) for family in life.grown}
    assert checks.wrong_increases(story, prometheus, EXPORTER, life.grown, waiting) == []
    ahead = {dict(labels).get("model") for labels in waiting["fal_spend_usd_total"]}
    assert GLITCHED in ahead, "a charge that was taken back for good must show as pending"
    assert len(ahead) > 1, "some counters must still be waiting at the end"


def test_gauges_have_told_the_truth_of_their_instant(story: Story, life: Life, prometheus: Prometheus) -> None:
    assert checks.wrong_gauges(prometheus, EXPORTER, life.expected) == []
    instants = {family: len(by_instant) for family, by_instant in life.expected.items()}
    assert instants["fal_spend_today_usd"] > story.hours
    assert instants["fal_spend_month_to_date_usd"] > story.months


def test_last_month_is_its_invoice_to_the_nano_dollar(story: Story, life: Life, prometheus: Prometheus) -> None:
    assert checks.wrong_month(prometheus, EXPORTER, story.last_scrape, life.invoice) == []
    invoices = prometheus.at(f'fal_invoice_total_usd{{instance="{EXPORTER}"}}', story.last_scrape)
    assert life.invoice / NANO in invoices.values()


def test_a_counter_says_one_beginning_all_its_life(life: Life) -> None:
    assert life.starts == 9
    assert {series: told for series, told in life.created.items() if len(told) > 1} == {}


def test_a_naive_exporter_fails_every_check(story: Story, life: Life, prometheus: Prometheus) -> None:
    nothing = {family: dict[Labels, int]() for family in life.grown}
    assert checks.falls(story, prometheus, NAIVE)
    increases = checks.wrong_increases(story, prometheus, NAIVE, life.grown, nothing)
    assert {complaint.split()[2] for complaint in increases} == set(life.grown)
    gauges = checks.wrong_gauges(prometheus, NAIVE, life.expected)
    assert {complaint.split()[0] for complaint in gauges} == set(life.expected)
    assert checks.wrong_month(prometheus, NAIVE, story.last_scrape, life.invoice)
