"""The real processes: `fal-exporter` as a user starts it, and the simulated fal it polls."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.simulator import RunningSimulator, Simulator

Result = TypeVar("Result")

PATIENCE = 45.0
"""Seconds a condition may take on a busy machine."""

Labels = frozenset[tuple[str, str]]


def wait_until(condition: Callable[[], Result | None], what: str) -> Result:
    """Return the condition's first true result."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.05)
    return pytest.fail(f"waited {PATIENCE:.0f} s in vain until {what}")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    """Return the samples of an exposition by name and labels."""
    samples: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


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
            )

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)

    def get(self, path: str) -> httpx.Response | None:
        assert self.process is not None
        assert self.process.poll() is None, self.output
        try:
            return httpx.get(self.url + path, timeout=10)
        except httpx.TransportError:
            return None

    def is_ready(self) -> bool:
        answer = self.get("/-/ready")
        return answer is not None and answer.is_success

    def scrape(self) -> dict[str, dict[Labels, float]]:
        answer = self.get("/metrics")
        assert answer is not None
        return parsed(answer.text)

    def polls(self, source: str) -> float:
        scraped = self.scrape().get("fal_exporter_polls_total", {})
        return sum(value for labels, value in scraped.items() if ("source", source) in labels)


@dataclass
class Fal:
    """The simulator, in a thread of its own; its clock stands at `now`, so that its truth holds still."""

    now: datetime
    running: RunningSimulator
    loop: asyncio.AbstractEventLoop

    @property
    def simulator(self) -> Simulator:
        return self.running.simulator

    def truth(self, start: datetime, end: datetime, *group_by: str) -> list[dict[str, str]]:
        """Return the simulator's statement of what models and serverless charge in a window."""
        rows: list[dict[str, str]] = []
        for source in ("models", "serverless"):
            answer = httpx.get(
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
