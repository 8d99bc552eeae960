"""The real processes on a full disk, and suspended for an hour: the last truth is served, and nobody has to help."""

import os
import resource
import signal
from datetime import timedelta

import pytest
from e2e.processes import Exporter, Fal, wait_until
from e2e.test_clock import WrongClock, polls, steps

from exporter.charges import NANO
from exporter.simulator import GlitchedJob, PlantedSpend

LATE = "fal-ai/late"
FULL = 64 * 1024
"""Bytes that a file may still have: less than the ledger has, more than the log."""


def spent(exporter: Exporter) -> float:
    found = exporter.scrape().get("fal_spend_usd_total", {})
    return sum(value for labels, value in found.items() if ("model", LATE) in labels)


def charge(fal: Fal, dollars: int) -> None:
    hour = int(fal.now.timestamp()) // 3600
    fal.simulator.account.plant([PlantedSpend(hour, GlitchedJob(model=LATE).line(dollars * NANO))])


def ledger_up(exporter: Exporter) -> float:
    (value,) = exporter.scrape()["fal_exporter_ledger_up"].values()
    return value


def health(exporter: Exporter) -> tuple[int, str]:
    answer = exporter.get("/-/healthy")
    assert answer is not None
    return answer.status_code, answer.text


@pytest.mark.long
def test_on_a_full_disk_the_last_truth_is_served_until_there_is_room_again(fal: Fal, exporter: Exporter) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    charge(fal, 5)
    wait_until(lambda: spent(exporter) == 5, "a charge is counted")
    assert exporter.collector is not None
    before = resource.prlimit(exporter.collector, resource.RLIMIT_FSIZE)
    resource.prlimit(exporter.collector, resource.RLIMIT_FSIZE, (FULL, before[1]))
    charge(fal, 7)
    wait_until(lambda: ledger_up(exporter) == 0, "it is noticed that nothing can be written")
    assert spent(exporter) == 5
    assert 0.0 in exporter.scrape()["fal_source_up"].values()
    # A restart would not help, and would lose what is only in memory: the probe must not ask for one.
    status, text = health(exporter)
    assert (status, "ledger" in text) == (200, True)
    resource.prlimit(exporter.collector, resource.RLIMIT_FSIZE, before)
    wait_until(lambda: spent(exporter) == 7, "it goes on by itself")
    assert ledger_up(exporter) == 1
    assert health(exporter) == (200, "healthy\n")
    assert exporter.stop() == 0


@pytest.mark.long
def test_after_an_hour_of_suspension_polling_goes_on(fal: Fal, exporter: Exporter) -> None:
    clock = WrongClock(exporter)
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    charge(fal, 5)
    wait_until(lambda: spent(exporter) == 5, "a charge is counted")
    assert exporter.process is not None
    # Of a suspended machine all processes stand, and so does the clock that nobody can set; the other one goes on.
    os.killpg(exporter.process.pid, signal.SIGSTOP)
    charge(fal, 7)
    clock.set(timedelta(hours=1))
    os.killpg(exporter.process.pid, signal.SIGCONT)
    wait_until(lambda: steps(exporter) == 1, "the step of the clock is noticed")
    before = polls(exporter)
    wait_until(lambda: polls(exporter) > before, "polling goes on")
    wait_until(lambda: spent(exporter) == 7, "what came meanwhile is counted")
    assert health(exporter) == (200, "healthy\n")
    assert exporter.stop() == 0
