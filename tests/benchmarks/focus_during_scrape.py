"""Benchmark of scrapes while a FOCUS report of some gigabytes comes in, and of the memory that it takes:

    python tests/benchmarks/focus_during_scrape.py [--gigabytes 3] [--seconds 15]

`fal-exporter serve` polls a stand-in for fal that streams a report made beforehand, whose rows are all of the hours
that were asked for. The percentiles of a scrape with gzip at a gentle rate during the large report, and before and
after it, when there is next to nothing to do, come from one run; their ratio counts, beside that of after to before.
The memory is the most that both processes of the exporter, its collector and its web server, have had resident, each by
itself and summed, up to the report's end.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
from focus import HEADER, START, lines
from scrape import fetch, free_port, running
from scrape_during_poll import RATE, SHARES, is_published, percentiles, wait_until

Message = dict[str, object]


class Upstream:
    """Answers `/account/focus` with a report of as many bytes as it is told, by `/size?set=`."""

    def __init__(self) -> None:
        self.size = 0
        self.sent = 0
        hour = f"{START + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ},{START:%Y-%m-%dT%H:%M:%SZ}"
        self._rows = "".join(self._in_hour(line, hour) for line in lines(20_000))

    @staticmethod
    def _in_hour(line: str, hour: str) -> str:
        fields = line.split(",", 12)
        return ",".join([*fields[:10], hour, fields[12]])

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        del receive
        query = {name: values[0] for name, values in parse_qs(bytes(scope["query_string"]).decode()).items()}  # type: ignore[arg-type]
        path = str(scope["path"])
        if path.endswith("/account/focus"):
            await self._report(query, send)
            return
        if path == "/size" and "set" in query:
            self.size, self.sent = int(query["set"]), 0
        body = str(self.sent).encode() if path == "/size" else b"12.5"
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _report(self, query: dict[str, str], send: Callable[[Message], Awaitable[None]]) -> None:
        size, self.size = self.size, 0
        hour = datetime.fromisoformat(query["start"])
        old = [f"{item:%Y-%m-%dT%H:%M:%SZ}" for item in (START + timedelta(hours=1), START)]
        new = [f"{item:%Y-%m-%dT%H:%M:%SZ}" for item in (hour + timedelta(hours=1), hour)]
        block = self._rows.replace(",".join(old), ",".join(new)).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/csv")]})
        await send({"type": "http.response.body", "body": (",".join(HEADER) + "\n").encode(), "more_body": True})
        sent = 0
        while sent <= size:
            await send({"type": "http.response.body", "body": block, "more_body": True})
            sent += len(block)
            self.sent = max(self.sent, sent if size else 0)
        await send({"type": "http.response.body", "body": b""})


@contextmanager
def exporter(upstream: int, folder: str) -> Iterator[tuple[int, int]]:
    """Run it; yield its port and the number of its first process."""
    port = free_port()
    command = [sys.executable, "-m", "exporter", "serve", "--history", "1h", "--sources", "focus"]
    environment = os.environ | {
        "FAL_KEY": "benchmark:0123456789",
        "FAL_EXPORTER_PLATFORM_URL": f"http://127.0.0.1:{upstream}/v1",
        "FAL_EXPORTER_REPORTING_URL": f"http://127.0.0.1:{upstream}",
        "FAL_EXPORTER_LISTEN": f"127.0.0.1:{port}",
        "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite",
        "FAL_EXPORTER_POLL_INTERVAL": "10s",
        "FAL_EXPORTER_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen(command, env=environment)
    try:
        wait_until(lambda: is_published(port), "the first charges show")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


def sent(upstream: int, size: int | None = None) -> int:
    return int(fetch(upstream, "identity", "/size" + ("" if size is None else f"?set={size}")))


def peaks(first: int) -> dict[int, float]:
    """Return the most mebibytes that a process and its children have had resident."""
    found = {}
    for number in (first, *children(first)):
        status = Path(f"/proc/{number}/status").read_text(encoding="utf-8")
        (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
        found[number] = int(line.split()[1]) / 1024
    return found


def children(number: int) -> list[int]:
    tasks = Path(f"/proc/{number}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text(encoding="utf-8").split()]


def main() -> None:
    """Measure, or serve as the stand-in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each measurement takes")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvicorn.run(Upstream(), host="127.0.0.1", port=options.serve, log_level="warning", lifespan="off")
        return
    upstream = free_port()
    stand_in = [sys.executable, __file__, "--serve", str(upstream)]
    with tempfile.TemporaryDirectory() as folder, running(stand_in, upstream):
        with exporter(upstream, folder) as (port, first):
            series = sum(not line.startswith(b"#") for line in fetch(port, "identity").splitlines())
            print(f"{series:,} series, {RATE:.0f} scrapes a second with gzip for {options.seconds:.0f} s each")
            idle, before = percentiles(port, options.seconds), peaks(first)
            size = int(options.gigabytes * 1e9)
            sent(upstream, size)
            wait_until(lambda: sent(upstream) > 0, "the large report is under way")
            began = time.perf_counter()
            busy = percentiles(port, options.seconds)
            done = sent(upstream)
            while sent(upstream) < size:
                time.sleep(0.5)
            seconds, after = time.perf_counter() - began, peaks(first)
            idle_again = percentiles(port, options.seconds)
        print(f"{'':22}" + "".join(f"{f'p{share * 100:.0f}':>12}" for share in SHARES))
        for name, values in (("before", idle), ("during the large one", busy), ("after", idle_again)):
            print(f"{name:22}" + "".join(f"{value:9.2f} ms" for value in values))
        usual = [(one + other) / 2 for one, other in zip(idle, idle_again, strict=True)]
        print(f"{'during / usual':22}" + "".join(f"{b / u:12.2f}" for b, u in zip(busy, usual, strict=True)))
        print(f"{'after / before':22}" + "".join(f"{a / b:12.2f}" for a, b in zip(idle_again, idle, strict=True)))
        print(f"{size / 1e9:.1f} GB in {seconds:.0f} s, {done / 1e9:.1f} GB of it while scrapes were timed")
        for name, memory in (("before", before), ("at most", after)):
            each = ", ".join(f"{value:.0f}" for value in memory.values())
            print(f"resident {name}: {sum(memory.values()):.0f} MiB ({each})")


if __name__ == "__main__":
    main()
