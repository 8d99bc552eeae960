"""The system's clock of a running exporter is set three hours ahead, and back; its monotonic clock goes on."""

import os
import time
from datetime import timedelta

import pytest
from e2e.processes import Exporter, wait_until

AHEAD = timedelta(hours=3)


SHIFTED = """
import datetime, pathlib, threading, time

import time_machine

file, clock = pathlib.Path({file!r}), time.monotonic


def follow():
    traveller = coordinates = None
    before = 0.0
    while True:
        ahead = float(file.read_text() or before)
        if coordinates is None:
            traveller = time_machine.travel(datetime.datetime.now(datetime.UTC), tick=True)
            coordinates = traveller.start()
            started.set()
        if ahead != before:
            coordinates.shift(ahead - before)
            before = ahead
        time.sleep(0.05)


started = threading.Event()
threading.Thread(target=follow, daemon=True).start()
started.wait()
"""
"""Module that Python imports first in the exporter's processes: it shifts the clock by the seconds that a file says."""


class WrongClock:
    """The clock of an exporter's processes."""

    def __init__(self, exporter: Exporter) -> None:
        self._file = exporter.folder / "ahead"
        self.set(timedelta(0))
        hook = exporter.folder / "hook" / "sitecustomize.py"
        hook.parent.mkdir()
        hook.write_text(SHIFTED.format(file=str(self._file)))
        path = exporter.environment.get("PYTHONPATH", "")
        exporter.environment["PYTHONPATH"] = f"{hook.parent}{os.pathsep}{path}"

    def set(self, ahead: timedelta) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(str(ahead.total_seconds()))
        new.replace(self._file)


def stamps(exporter: Exporter) -> dict[str, float]:
    """Return how far the newest stamps are in the past, in seconds; those of the future are negative."""
    names = {
        "data": "fal_data_through_timestamp_seconds",
        "poll": "fal_exporter_last_poll_success_timestamp_seconds",
        "publication": "fal_exporter_snapshot_timestamp_seconds",
    }
    found = exporter.scrape()
    return {short: time.time() - max(found[name].values()) for short, name in names.items() if name in found}


def steps(exporter: Exporter) -> float:
    return sum(exporter.scrape()["fal_exporter_clock_steps_total"].values())


def polls(exporter: Exporter) -> float:
    return sum(exporter.scrape()["fal_exporter_polls_total"].values())


@pytest.mark.long
def test_a_step_of_the_clock_ahead_and_back_stops_nothing_and_leaves_no_stamp_of_the_future(exporter: Exporter) -> None:
    clock = WrongClock(exporter)
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert steps(exporter) == 0

    clock.set(AHEAD)
    wait_until(lambda: steps(exporter) == 1, "the step is noticed")
    wait_until(lambda: stamps(exporter)["poll"] < -3600, "polls are stamped by the wrong clock")
    before = polls(exporter)
    wait_until(lambda: polls(exporter) > before, "polling goes on")

    clock.set(timedelta(0))
    wait_until(lambda: steps(exporter) == 2, "the step back is noticed")
    before = polls(exporter)
    wait_until(lambda: polls(exporter) > before, "polling goes on")
    wait_until(lambda: min(stamps(exporter).values()) >= 0, "no stamp is of the future")
    assert stamps(exporter)["poll"] < 60
    assert exporter.output.count("the system clock has been set") == 2
    assert 1.0 in exporter.scrape()["fal_source_up"].values()
    assert exporter.stop() == 0


@pytest.mark.long
def test_a_restart_puts_right_what_a_wrong_clock_has_left_in_the_ledger(exporter: Exporter) -> None:
    clock = WrongClock(exporter)
    clock.set(AHEAD)
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert stamps(exporter)["data"] < 0
    assert exporter.stop() == 0
    clock.set(timedelta(0))
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready again")
    assert min(stamps(exporter).values()) >= 0
    wait_until(lambda: "poll" in stamps(exporter), "it has polled")
    assert min(stamps(exporter).values()) >= 0
    assert steps(exporter) == 0
