"""Processes leave in the temporary folder nothing after an end, and nothing for long after a kill."""

import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from e2e.processes import Exporter, Fal, exporter_of, wait_until


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    made = tmp_path / "scratch"
    made.mkdir()
    return made


@pytest.fixture
def exporter(fal: Fal, scratch: Path, tmp_path: Path) -> Iterator[Exporter]:
    with exporter_of(fal, tmp_path, EVENTS="true", HISTORY="6h") as made:
        made.environment["TMPDIR"] = str(scratch)
        yield made


def ask_for_requests(exporter: Exporter, fal: Fal) -> None:
    """Let both processes open the store of requests: the collector reads some, and the web process is asked."""

    def is_answered() -> bool:
        since = (fal.now - timedelta(hours=5)).strftime("%Y-%m-%dT%H:00:00Z")
        answer = exporter.get(f"/v1/billing/requests?start={since}")
        return answer is not None and answer.status_code == 200 and bool(answer.json()["requests"])

    wait_until(is_answered, "requests are answered")


def folders(scratch: Path) -> set[Path]:
    return set(scratch.iterdir())


def test_an_end_leaves_nothing_and_a_kill_nothing_that_the_next_start_does_not_remove(
    exporter: Exporter, fal: Fal, scratch: Path
) -> None:
    exporter.start()
    ask_for_requests(exporter, fal)
    made = folders(scratch)
    assert len(made) >= 2, "of the collector and of the web process"
    collector = exporter.collector
    assert collector is not None
    os.kill(collector, signal.SIGKILL)
    wait_until(lambda: exporter.collector not in {collector, None}, "the collector is started again")
    wait_until(lambda: len(made & folders(scratch)) == len(made) - 1, "its predecessor's folder is gone")
    assert exporter.process is not None
    exporter.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "reloading]" in exporter.output, "the configuration is read again")
    exporter.kill()
    left = folders(scratch)
    assert left
    exporter.start()
    ask_for_requests(exporter, fal)
    assert not left & folders(scratch)
    assert exporter.stop() == 0
    assert not folders(scratch)
