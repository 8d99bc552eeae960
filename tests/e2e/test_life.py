"""Thirty days of an exporter, lived through in some two minutes, and judged by a real Prometheus.

What happens is in `e2e.life.story`. The last test shows that the others can fail.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog
from e2e.life import checks, story
from e2e.life.living import EXPORTER, NAIVE, Life, live
from e2e.life.prometheus import Prometheus, prometheus_on
from e2e.processes import Labels


@pytest.fixture(scope="module")
def life(program: Callable[[str, str], str], tmp_path_factory: pytest.TempPathFactory) -> Life:
    program("promtool", "prometheus")  # before two minutes have been spent in vain
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(live(tmp_path_factory.mktemp("life")))
    finally:
        structlog.configure(**before)


@pytest.fixture(scope="module")
def prometheus(life: Life, program: Callable[[str, str], str]) -> Iterator[Prometheus]:
    with prometheus_on(life.recorded, life.recorded.parent, program) as prometheus:
        yield prometheus


def test_no_counter_ever_falls(prometheus: Prometheus) -> None:
    assert checks.falls(prometheus, EXPORTER) == []


def test_the_polls_have_brought_all_that_fal_has_stated(life: Life) -> None:
    learnt = {family: {labels: it for labels, it in now.items() if it} for family, now in life.learnt.now.items()}
    assert learnt == life.grown


def test_the_increase_over_the_life_is_what_was_learnt_in_it(life: Life, prometheus: Prometheus) -> None:
    waiting = {family: life.learnt.waiting(family) for family in life.grown}
    assert checks.wrong_increases(prometheus, EXPORTER, life.grown, waiting) == []
    ahead = {dict(labels).get("model") for labels in waiting["fal_spend_usd_total"]}
    assert story.GLITCHED in ahead, "a charge that was taken back for good must show as pending"
    assert len(ahead) > 1, "some counters must still be waiting at the end"


def test_gauges_have_told_the_truth_of_their_instant(life: Life, prometheus: Prometheus) -> None:
    assert checks.wrong_gauges(prometheus, EXPORTER, life.expected) == []
    instants = {family: len(by_instant) for family, by_instant in life.expected.items()}
    assert instants["fal_spend_today_usd"] > 700
    assert instants["fal_spend_month_to_date_usd"] > 28


def test_last_month_is_its_invoice_to_the_nano_dollar(life: Life, prometheus: Prometheus) -> None:
    assert checks.wrong_month(prometheus, EXPORTER, story.LAST_SCRAPE, life.invoice) == []
    invoices = prometheus.at(f'fal_invoice_total_usd{{instance="{EXPORTER}"}}', story.LAST_SCRAPE)
    assert life.invoice / story.NANO in invoices.values()


def test_a_counter_says_one_beginning_all_its_life(life: Life) -> None:
    assert life.starts == 9
    assert {series: told for series, told in life.created.items() if len(told) > 1} == {}


def test_a_naive_exporter_fails_every_check(life: Life, prometheus: Prometheus) -> None:
    nothing = {family: dict[Labels, int]() for family in life.grown}
    assert checks.falls(prometheus, NAIVE)
    increases = checks.wrong_increases(prometheus, NAIVE, life.grown, nothing)
    assert {complaint.split()[2] for complaint in increases} == set(life.grown)
    gauges = checks.wrong_gauges(prometheus, NAIVE, life.expected)
    assert {complaint.split()[0] for complaint in gauges} == set(life.expected)
    assert checks.wrong_month(prometheus, NAIVE, story.LAST_SCRAPE, life.invoice)
