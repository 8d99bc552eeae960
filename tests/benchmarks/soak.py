"""Soak: an exporter at sixty times the speed of time, with scrapes, REST and agents; run by hand:

    python tests/benchmarks/soak.py [--minutes 60] [--speed 60]

An hour of it is two days and a half: hours, days and a month turn, charges come late and are revised. Both halves of
the exporter run in one process; memory, file descriptors, threads and the ledger's write-ahead log are noted every
few seconds, and their slopes over the second half of the time are printed. They are to be flat: what grows in a soak
grows for ever.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from pydantic import SecretStr

from exporter.app.single_process import in_one_process
from exporter.logs import configure_logging
from exporter.settings import Listen, Settings
from exporter.simulator import ADMIN_KEY, Simulator, World, WorldSize, serving

START = datetime(2026, 11, 28, 20, 30, tzinfo=UTC)
REST = (
    "/v1/billing/usage?group_by=model,day",
    "/v1/billing/usage?group_by=product,hour",
    "/v1/billing/balance",
    "/v1/billing/forecast",
    "/v1/billing/invoices",
    "/",
)
TOOLS = ("fal-get-balance", "fal-get-usage", "fal-get-forecast")


async def fal(speed: float) -> None:
    """Serve a simulated fal whose clock runs fast; print where."""
    clock = fast_clock(speed)
    simulator = Simulator(World(5, size=WorldSize(models=12, apps=4, teams=1)), clock)
    async with serving(simulator) as running:
        print(json.dumps({"url": running.url, "began": time.time()}), flush=True)
        await asyncio.Event().wait()


async def exporter(url: str, began: float, speed: float, ledger: Path) -> None:
    """Serve an exporter with the same clock; print where."""
    # Nobody reads more of stdout than where it is: a pipe that is full would stop the exporter.
    configure_logging(log_format="text", level="warning", stream=sys.stderr)
    settings = Settings(
        key=SecretStr(ADMIN_KEY),
        platform_url=f"{url}/v1",
        reporting_url=url,
        listen=Listen("127.0.0.1", 0),
        mcp_listen=Listen("127.0.0.1", 0),
        ledger_url=SecretStr(f"sqlite:///{ledger}"),
        history=timedelta(days=10),
        poll_interval=timedelta(seconds=10),
        balance_interval=timedelta(seconds=10),
    )
    async with in_one_process(settings, clock=fast_clock(speed, began)) as running:
        print(json.dumps({"url": running.url, "mcp": running.mcp_url}), flush=True)
        await running.collecting


def fast_clock(speed: float, began: float | None = None) -> Callable[[], datetime]:
    since = time.time() if began is None else began
    return lambda: START + timedelta(seconds=(time.time() - since) * speed)


@dataclass
class Notes:
    """Notes of a process: seconds, and figures by name."""

    pid: int
    wal: Path
    rows: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def take(self, at: float) -> None:
        status = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":" in line
        )
        self.rows.append(
            (
                at,
                {
                    "memory, MB": int(status["VmRSS"].split()[0]) / 1024,
                    "descriptors": len(list(Path(f"/proc/{self.pid}/fd").iterdir())),
                    "threads": int(status["Threads"]),
                    "WAL, MB": self.wal.stat().st_size / 2**20 if self.wal.exists() else 0,
                },
            )
        )

    def report(self) -> str:
        """Return first, median and last of each figure, and its slope over the second half, by hour."""
        lines = ["| figure | at half-time | at the end | most | slope an hour |", "|---|---|---|---|---|"]
        half = self.rows[len(self.rows) // 2 :]
        for name in half[0][1]:
            points = [(at, values[name]) for at, values in half]
            most = max(values[name] for _, values in self.rows)
            lines.append(
                f"| {name} | {points[0][1]:.1f} | {points[-1][1]:.1f} | {most:.1f} | {_slope(points) * 3600:+.2f} |"
            )
        return "\n".join(lines)


def _slope(points: list[tuple[float, float]]) -> float:
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def _client(stop: threading.Event, counts: Counter[str], name: str, pause: float, ask: Callable[[int], int]) -> None:
    number = 0
    while not stop.wait(pause):
        try:
            counts[f"{name} {ask(number)}"] += 1
        except httpx.TransportError as error:
            counts[f"{name} {type(error).__name__}"] += 1
        number += 1


def soak(minutes: float, speed: float) -> None:
    me = [sys.executable, __file__, "--speed", str(speed)]
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory()))

        def started(*arguments: str) -> tuple[int, dict[str, str]]:
            process = subprocess.Popen(
                [*me, *arguments], stdout=subprocess.PIPE, stderr=(folder / "log").open("ab"), text=True
            )
            held.callback(process.wait)
            held.callback(process.terminate)
            assert process.stdout is not None
            return process.pid, json.loads(process.stdout.readline())

        _, upstream = started("--role", "fal")
        ledger = folder / "ledger.sqlite"
        pid, ours = started(
            *(
                "--role",
                "exporter",
                "--url",
                upstream["url"],
                "--began",
                str(upstream["began"]),
                "--ledger",
                str(ledger),
            )
        )
        http = held.enter_context(httpx.Client(timeout=30))

        def call(number: int) -> int:
            question = {"name": TOOLS[number % len(TOOLS)], "arguments": {}}
            body = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": question}
            headers = {"accept": "application/json, text/event-stream"}
            return http.post(ours["mcp"], json=body, headers=headers).status_code

        stop, counts = threading.Event(), Counter[str]()
        clients = [
            ("scrape", 1.0, lambda _: http.get(ours["url"] + "/metrics").status_code),
            ("REST", 1.0, lambda number: http.get(ours["url"] + REST[number % len(REST)]).status_code),
            ("MCP", 2.0, call),
        ]
        threads = [
            threading.Thread(target=_client, args=(stop, counts, name, pause, ask)) for name, pause, ask in clients
        ]
        for thread in threads:
            thread.start()
        notes, began = Notes(pid, Path(f"{ledger}-wal")), time.monotonic()
        while (elapsed := time.monotonic() - began) < minutes * 60:
            notes.take(elapsed)
            time.sleep(2)
        stop.set()
        for thread in threads:
            thread.join()
        print(f"{minutes:g} minutes at {speed:g} times the speed of time, {minutes * speed / 60:.1f} hours of fal's")
        print(notes.report())
        print("answers: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())), flush=True)
        # Last, so that nothing that was measured is lost if it fails.
        text = http.get(ours["url"] + "/metrics").text
        polls = (line for line in text.splitlines() if line.startswith("fal_exporter_polls_total"))
        print("\n".join(polls))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--speed", type=float, default=60)
    parser.add_argument("--role", choices=["fal", "exporter"])
    parser.add_argument("--url")
    parser.add_argument("--began", type=float)
    parser.add_argument("--ledger", type=Path)
    given = parser.parse_args()
    if given.role == "fal":
        asyncio.run(fal(given.speed))
    elif given.role == "exporter":
        asyncio.run(exporter(given.url, given.began, given.speed, given.ledger))
    else:
        soak(given.minutes, given.speed)


if __name__ == "__main__":
    main()
