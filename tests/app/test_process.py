import os
import queue
import signal
import time
from typing import TYPE_CHECKING

import pytest
from app.conftest import MakeSettings
from e2e.processes import SLACK, Fal, wait_until
from pydantic import SecretStr

from exporter.app.process import CollectorError, CollectorProcess
from exporter.simulator import ADMIN_KEY, Fault

if TYPE_CHECKING:
    from exporter.metrics.publication import Publication


class Heard:
    """What a collector process says."""

    def __init__(self) -> None:
        self.published: queue.SimpleQueue[Publication] = queue.SimpleQueue()
        self.ended: queue.SimpleQueue[CollectorError] = queue.SimpleQueue()


def test_it_publishes_hears_of_scrapes_and_stops_within_five_seconds_while_a_poll_hangs(
    settings: MakeSettings, fal: Fal, capfd: pytest.CaptureFixture[str]
) -> None:
    fal.simulator.faults.add(Fault("hang"))
    process, heard = CollectorProcess(), Heard()
    process.start(settings(), publish=heard.published.put, ended=heard.ended.put)
    calls = fal.simulator.seen.total()
    first = heard.published.get(timeout=40)
    process.scraped(first.sequence)
    assert heard.published.get(timeout=40).sequence > first.sequence
    wait_until(lambda: fal.simulator.seen.total() > calls, "a call hangs")
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 5 + SLACK
    assert heard.ended.empty()
    # To a collector that is gone nothing can be said any more, and that is no error.
    process.scraped(first.sequence)
    told = capfd.readouterr()
    assert ADMIN_KEY.partition(":")[2] not in told.err
    assert "Traceback" not in told.err


def test_why_it_gave_up_is_told_with_its_exit_code(settings: MakeSettings) -> None:
    process, heard = CollectorProcess(), Heard()
    nowhere = settings(ledger_url=SecretStr("sqlite:////nowhere/at/all/ledger.sqlite"))
    process.start(nowhere, publish=heard.published.put, ended=heard.ended.put)
    error = heard.ended.get(timeout=40)
    process.stop()
    assert "folder must exist" in str(error)
    assert error.exit_code == 1


def test_a_sudden_end_is_told(settings: MakeSettings) -> None:
    process, heard = CollectorProcess(), Heard()
    process.start(settings(), publish=heard.published.put, ended=heard.ended.put)
    os.kill(process.pid, signal.SIGKILL)
    error = heard.ended.get(timeout=40)
    process.stop()
    assert str(error) == "the collector process ended unexpectedly with code -9; start the exporter again"
