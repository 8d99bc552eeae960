"""Benchmark of scrapes and polls while requests are read as fast as they ever are, and of the memory that takes.

    python tests/benchmarks/events_during_scrape.py [--pages 10] [--seconds 15] [--rounds 5]

`fal-exporter serve` reads requests from a stand-in for fal that lets it wait, and has many pages of 10,000 requests for
each hour, in turns, so that other work of the machine falls on both. The percentiles are those of all scrapes of a
kind, with gzip at a gentle rate; beside them are the median and the longest mean duration of a round's polls of usage.
Their ratio counts. Memory is the most that the exporter's two processes have had resident. It takes about four minutes.
"""

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from statistics import median

import uvicorn
from events import PAGE, START, events_of
from focus_during_scrape import peaks
from scrape import fetch, free_port, percentiles_of, running, scrapes_at_rate
from scrape_during_poll import RATE, SHARES, Message, Upstream, is_published, wait_until

MODELS = 1_300
_POLLS = re.compile(
    rb'^fal_exporter_poll_duration_seconds_(sum|count)\{[^}]*source="models"[^}]*\} (\S+)', re.MULTILINE
)
_PLACE = "@@@@"


class Busy(Upstream):
    """Answers `/models/billing-events` too, with as many pages an hour as `/pages?set=` says."""

    def __init__(self) -> None:
        super().__init__(MODELS)
        self.pages = 0
        self.sent = 0
        hour = f"{START:%Y-%m-%dT%H}"
        # Ids begin with the number of their page.
        events = events_of(START, PAGE, Random(1))  # noqa: S311  reproducible
        rows = (re.sub('"request_id":"....', f'"request_id":"{_PLACE}', event) for event in events)
        self._template = ",".join(rows).replace(hour, "%HOUR%")

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        """Answer, but let who asks for requests wait while there are none, so that no hour is read meanwhile."""
        for _ in range(200):
            if self.pages or scope["path"] != "/v1/models/billing-events":
                break
            await asyncio.sleep(0.1)
        await super().__call__(scope, receive, send)

    def answer(self, path: str, query: dict[str, str]) -> bytes:
        if path == "/pages":
            self.pages = int(query.get("set", self.pages))
            return str(self.sent).encode()
        if path != "/v1/models/billing-events":
            return super().answer(path, query)
        start, end = (datetime.fromisoformat(query[name]) for name in ("start", "end"))
        number = int(query.get("cursor", "0"))
        if not self.pages or end - start < timedelta(hours=1):
            return b'{"next_cursor":null,"has_more":false,"billing_events":[]}'
        self.sent += 1
        more = number + 1 < self.pages
        rows = self._template.replace("%HOUR%", f"{start:%Y-%m-%dT%H}").replace(_PLACE, f"{number:04x}")
        cursor = f'"{number + 1}"' if more else "null"
        return f'{{"next_cursor":{cursor},"has_more":{str(more).lower()},"billing_events":[{rows}]}}'.encode()


@contextmanager
def exporter(upstream: int, folder: str) -> Iterator[tuple[int, int]]:
    """Run it; yield its port and the number of its first process."""
    port = free_port()
    environment = os.environ | {
        "FAL_KEY": "benchmark:0123456789",
        "FAL_EXPORTER_PLATFORM_URL": f"http://127.0.0.1:{upstream}/v1",
        "FAL_EXPORTER_REPORTING_URL": f"http://127.0.0.1:{upstream}",
        "FAL_EXPORTER_LISTEN": f"127.0.0.1:{port}",
        "FAL_EXPORTER_MCP_LISTEN": "off",
        "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite",
        "FAL_EXPORTER_POLL_INTERVAL": "10s",
        "FAL_EXPORTER_SOURCES": "models",
        "FAL_EXPORTER_HISTORY": "20d",
        "FAL_EXPORTER_EVENTS": "true",
        "FAL_EXPORTER_LOG_LEVEL": "warning",
    }
    process = subprocess.Popen([sys.executable, "-m", "exporter", "serve"], env=environment)
    try:
        wait_until(lambda: is_published(port), "the first charges show")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(20)


@dataclass
class Phase:
    """Seconds of scrapes and mean seconds of polls, of all rounds."""

    scrapes: list[float] = field(default_factory=list)
    polls: list[float] = field(default_factory=list)

    def measure(self, port: int, seconds: float) -> None:
        before = polls(port)
        self.scrapes += scrapes_at_rate(port, rate=RATE, seconds=seconds)
        wait_until(lambda: polls(port)[1] > before[1], "usage has been polled")
        after = polls(port)
        self.polls.append((after[0] - before[0]) / (after[1] - before[1]))

    @property
    def figures(self) -> list[float]:
        """Milliseconds: the percentiles of scrapes, the median poll and the longest."""
        seconds = [*percentiles_of(self.scrapes, SHARES), median(self.polls), max(self.polls)]
        return [1000 * value for value in seconds]


def sent(upstream: int, pages: int | None = None) -> int:
    return int(fetch(upstream, "identity", "/pages" + ("" if pages is None else f"?set={pages}")))


def polls(port: int) -> tuple[float, float]:
    found = {name: float(value) for name, value in _POLLS.findall(fetch(port, "identity"))}
    return found[b"sum"], found[b"count"]


def is_quiet(upstream: int) -> bool:
    """Return whether no page has been sent for some seconds."""
    before = sent(upstream)
    time.sleep(4)
    return sent(upstream) == before


def main() -> None:
    """Measure, or serve as the stand-in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=10, help="of 10,000 requests in each hour")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each measurement takes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvicorn.run(Busy(), host="127.0.0.1", port=options.serve, log_level="warning", lifespan="off")
        return
    upstream = free_port()
    stand_in = [sys.executable, __file__, "--serve", str(upstream)]
    with (
        tempfile.TemporaryDirectory() as folder,
        running(stand_in, upstream),
        exporter(upstream, folder) as (port, first),
    ):
        series = sum(not line.startswith(b"#") for line in fetch(port, "identity").splitlines())
        print(f"{series:,} series, {RATE:.0f} scrapes a second with gzip for {options.seconds:.0f} s each", flush=True)
        none, many, memory, rows, seconds = Phase(), Phase(), peaks(first), 0, 0.0
        for _ in range(options.rounds):
            none.measure(port, options.seconds)
            before = sent(upstream, options.pages)
            wait_until(lambda before=before: sent(upstream) > before + 2, "requests are read")
            began, before = time.perf_counter(), sent(upstream)
            many.measure(port, options.seconds)
            rows, seconds = rows + (sent(upstream) - before) * PAGE, seconds + time.perf_counter() - began
            sent(upstream, 0)
            wait_until(lambda: is_quiet(upstream), "no requests are read")
        at_most = peaks(first)
    print(f"{'':22}" + "".join(f"{f'p{share * 100:.0f}':>12}" for share in SHARES) + f"{'a poll':>12}{'at most':>12}")
    for name, phase in (("no requests", none), ("many requests", many)):
        print(f"{name:22}" + "".join(f"{value:9.2f} ms" for value in phase.figures))
    print(f"{'many / none':22}" + "".join(f"{b / u:12.2f}" for b, u in zip(many.figures, none.figures, strict=True)))
    print(
        f"{rows:,} requests read meanwhile, {rows / seconds:,.0f} a second; {len(many.scrapes):,} scrapes of each kind"
    )
    for name, found in (("before", memory), ("at most", at_most)):
        print(f"resident {name}: " + ", ".join(f"{value:.0f}" for value in found.values()) + " MiB (web, collector)")


if __name__ == "__main__":
    main()
