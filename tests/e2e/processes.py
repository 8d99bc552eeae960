"""The real processes: `fal-exporter` as a user starts it, and the simulated fal it polls."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from local_http import HTTP

from exporter.simulator import ADMIN_KEY, IdleSpan, Pace, RunningSimulator, Simulator, World, WorldSize, serving
from exporter.simulator.app import system_clock

Result = TypeVar("Result")

PATIENCE = 45.0
"""Seconds a condition may take on a busy machine."""

Labels = frozenset[tuple[str, str]]


def wait_until(condition: Callable[[], Result | None], what: str, patience: float = PATIENCE) -> Result:
    """Return the condition's first true result."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.1)
    return pytest.fail(f"waited {patience:.0f} s in vain until {what}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)')
_ESCAPED = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    """Return the samples of an exposition by name and labels.

    An exporter that is waited for is scraped again and again, where prometheus_client's parser would take most of the
    time; the tests of the encoding have every line read by it.
    """
    samples: dict[str, dict[Labels, float]] = {}
    for line in text.split("\n"):
        if line and not line.startswith("#"):
            found = _SAMPLE.fullmatch(line)
            assert found, line
            samples.setdefault(found[1], {})[_labels(found[2] or "")] = float(found[3])
    return samples


@lru_cache(maxsize=10_000)
def _labels(text: str) -> Labels:
    """Read the labels of a sample, to the last character."""
    labels, end = dict[str, str](), 0
    while end < len(text):
        found = _LABEL.match(text, end)
        assert found, text
        assert found[1] not in labels, text
        labels[found[1]] = re.sub(r"\\.", lambda escaped: _ESCAPED[escaped[0]], found[2])
        end = found.end()
    return frozenset(labels.items())


def _content(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""  # its thread has ended


@dataclass
class Exporter:
    """A `fal-exporter` process; its output is kept for a look at the end."""

    environment: dict[str, str]
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("output-*.txt")))

    def start(self, *arguments: str, command: str = "serve") -> None:
        number = len(list(self.folder.glob("output-*.txt")))
        with (self.folder / f"output-{number}.txt").open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "exporter", command, *arguments],
                env=self.environment | {"FAL_EXPORTER_LISTEN": f"127.0.0.1:{self.port}"},
                cwd=self.folder,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """End all its processes in the middle of whatever they do."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)

    @property
    def collector(self) -> int | None:
        """The process id of the collector, once it has been started."""
        assert self.process is not None
        pid = self.process.pid
        # Each thread has the children that it has started.
        children = [child for file in Path(f"/proc/{pid}/task").glob("*/children") for child in _content(file).split()]
        return int(children[0]) if children else None

    @property
    def handles_sigterm(self) -> bool:
        """True once the process is far enough to act on being told to end."""
        assert self.process is not None
        status = _content(Path(f"/proc/{self.process.pid}/status"))
        (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def get(self, path: str) -> httpx.Response | None:
        assert self.process is not None
        assert self.process.poll() is None, self.output
        try:
            return HTTP.get(self.url + path, timeout=10)
        except httpx.TransportError:
            return None

    def is_ready(self) -> bool:
        answer = self.get("/-/ready")
        return answer is not None and answer.is_success

    def scrape(self) -> dict[str, dict[Labels, float]]:
        answer = self.get("/metrics")
        assert answer is not None
        return parsed(answer.text)


@dataclass
class Fal:
    """The simulator, in a thread of its own; its clock stands at `now`, so that its truth holds still."""

    now: datetime
    running: RunningSimulator

    @property
    def simulator(self) -> Simulator:
        return self.running.simulator

    def truth(self, start: datetime, end: datetime, *group_by: str) -> list[dict[str, str]]:
        """Return the simulator's statement of what models and serverless charge in a window."""
        rows: list[dict[str, str]] = []
        for source in ("models", "serverless"):
            answer = HTTP.get(
                f"{self.running.url}/_simulator/statement",
                params={
                    "start": start.isoformat(),
                    "end": end.isoformat(),
                    "group_by": ",".join(group_by),
                    "source": source,
                },
                timeout=30,
            )
            rows += answer.raise_for_status().json()["charges"]
        return rows


@contextmanager
def fal_in_a_thread(idle: tuple[IdleSpan, ...] = (), *, busy: int = 1) -> Iterator[Fal]:
    """Serve a small fal, so that months are loaded within seconds; runners are idle as told.

    At night and on Sundays it has few requests: who needs many whenever the tests run makes it busier.
    """
    now = datetime.now(UTC)
    size = WorldSize(models=4, callers=1, apps=3, compute=0, teams=1)
    world = World(seed=7, size=size, pace=Pace(busy=busy), invoiced_months=1, idle=idle)
    simulator = Simulator(world, lambda: now)
    simulator.date_clock = system_clock
    began: list[tuple[RunningSimulator, asyncio.AbstractEventLoop]] = []
    listening = threading.Event()
    ended = asyncio.Event()

    async def serve() -> None:
        async with serving(simulator) as running:
            began.append((running, asyncio.get_running_loop()))
            listening.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert listening.wait(20)
    ((running, loop),) = began
    try:
        yield Fal(now, running)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)


@contextmanager
def exporter_of(fal: Fal, folder: Path, **settings: str) -> Iterator[Exporter]:
    """Yield an exporter that is about to poll the simulator; whatever it prints must hold neither key nor traceback."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")}
    chosen = {
        "PLATFORM_URL": fal.running.platform_url,
        "REPORTING_URL": fal.running.reporting_url,
        "POLL_INTERVAL": "10s",
        "BALANCE_INTERVAL": "10s",
        "SERIES_BIRTH_HOLD": "0s",
        "HISTORY": "1d",
        "MCP_LISTEN": "off",
        "LEDGER_URL": f"sqlite:///{folder / 'ledger.sqlite'}",
    } | settings
    made = Exporter(
        inherited | {"FAL_KEY": ADMIN_KEY} | {f"FAL_EXPORTER_{name}": value for name, value in chosen.items()}, folder
    )
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()
    assert ADMIN_KEY.partition(":")[2] not in made.output
    assert "Traceback" not in made.output, made.output


@contextmanager
def running(command: list[str], url: str, ready: str, folder: Path) -> Iterator[None]:
    """Run a server until the block ends; it is ready when a path answers well."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def is_ready() -> bool:
        try:
            return HTTP.get(f"{url}{ready}").is_success
        except httpx.TransportError:
            return False

    try:
        wait_until(is_ready, f"{command[0]} is ready")
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
