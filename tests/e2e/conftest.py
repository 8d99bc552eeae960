"""An exporter and the fal that it polls, for every test of the whole."""

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from e2e.processes import Exporter, Fal

from exporter.simulator import ADMIN_KEY, Simulator, World, serving


@pytest.fixture
def fal() -> Iterator[Fal]:
    now = datetime.now(UTC)
    simulator = Simulator(World(seed=7), lambda: now)
    began: list[Fal] = []
    listening = threading.Event()
    ended = asyncio.Event()

    async def serve() -> None:
        async with serving(simulator) as running:
            began.append(Fal(now, running, asyncio.get_running_loop()))
            listening.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(20)
    yield began[0]
    began[0].loop.call_soon_threadsafe(ended.set)
    thread.join(10)


@pytest.fixture
def exporter(fal: Fal, tmp_path: Path) -> Iterator[Exporter]:
    """An exporter that is about to poll the simulator; whatever it prints must not hold the key."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    made = Exporter(
        inherited
        | {
            "FAL_KEY": ADMIN_KEY,
            "FAL_EXPORTER_PLATFORM_URL": fal.running.platform_url,
            "FAL_EXPORTER_REPORTING_URL": fal.running.reporting_url,
            "FAL_EXPORTER_POLL_INTERVAL": "10s",
            "FAL_EXPORTER_BALANCE_INTERVAL": "10s",
            "FAL_EXPORTER_SERIES_BIRTH_HOLD": "0s",
            # This month and no more: the less is loaded, the quicker the test.
            "FAL_EXPORTER_HISTORY": f"{fal.now.day}d",
            "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite'}",
        },
        tmp_path,
    )
    yield made
    if made.process is not None:
        made.stop(signal.SIGKILL if made.process.poll() is None else signal.SIGTERM)
        secret = ADMIN_KEY.partition(":")[2]
        assert secret not in made.output
        assert "Traceback" not in made.output, made.output
