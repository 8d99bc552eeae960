"""Benchmark of scrapes and polls while requests are read as fast as they ever are, and of the memory that takes.

    python tests/benchmarks/events_during_scrape.py [--pages 40] [--seconds 30]

`fal-exporter serve` reads requests from a stand-in for fal whose hours have no requests at first, then many pages of
10,000 each, then none again. The percentiles of a scrape with gzip at a gentle rate and the mean duration of a poll of
usage during the many come from the same run as those before and after; their ratio counts. Memory is the most that the
exporter's two processes have had resident.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from random import Random
from typing import NamedTuple

import uvicorn
from events import PAGE, START, events_of
from focus_during_scrape import peaks
from scrape import fetch, free_port, running
from scrape_during_poll import RATE, SHARES, Upstream, is_published, percentiles, wait_until

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
        "FAL_EXPORTER_HISTORY": "2d",
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


class Phase(NamedTuple):
    scrapes: list[float]
    poll: float

    @property
    def all(self) -> tuple[float, ...]:
        return *self.scrapes, self.poll


def sent(upstream: int, pages: int | None = None) -> int:
    return int(fetch(upstream, "identity", "/pages" + ("" if pages is None else f"?set={pages}")))


def polls(port: int) -> tuple[float, float]:
    found = {name: float(value) for name, value in _POLLS.findall(fetch(port, "identity"))}
    return found[b"sum"], found[b"count"]


def measured(port: int, seconds: float) -> Phase:
    before, scrapes = polls(port), percentiles(port, seconds)
    wait_until(lambda: polls(port)[1] > before[1], "usage has been polled")
    after = polls(port)
    return Phase(scrapes, 1000 * (after[0] - before[0]) / (after[1] - before[1]))


def main() -> None:
    """Measure, or serve as the stand-in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=40, help="of 10,000 requests in each hour")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each measurement takes")
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
        idle, memory = measured(port, options.seconds), peaks(first)
        before = sent(upstream, options.pages)
        wait_until(lambda: sent(upstream) > before + 2, "requests are read")
        began, before = time.perf_counter(), sent(upstream)
        busy = measured(port, options.seconds)
        rows, seconds = (sent(upstream) - before) * PAGE, time.perf_counter() - began
        at_most = peaks(first)
        sent(upstream, 0)
        again = measured(port, options.seconds)
    print(f"{'':22}" + "".join(f"{f'p{share * 100:.0f}':>12}" for share in SHARES) + f"{'a poll':>12}")
    for name, phase in (("no requests", idle), ("many requests", busy), ("no requests again", again)):
        print(f"{name:22}" + "".join(f"{value:9.2f} ms" for value in phase.all))
    usual = [(one + other) / 2 for one, other in zip(idle.all, again.all, strict=True)]
    print(f"{'many / none':22}" + "".join(f"{b / u:12.2f}" for b, u in zip(busy.all, usual, strict=True)))
    print(f"{rows:,} requests read meanwhile, {rows / seconds:,.0f} a second")
    for name, found in (("before", memory), ("at most", at_most)):
        print(f"resident {name}: " + ", ".join(f"{value:.0f}" for value in found.values()) + " MiB (web, collector)")


if __name__ == "__main__":
    main()
