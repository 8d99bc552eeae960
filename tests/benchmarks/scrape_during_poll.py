"""Benchmark of scrapes while a poll of a million rows is being worked in; run by hand:

    python tests/benchmarks/scrape_during_poll.py [--rows 1000000] [--seconds 20]

`fal-exporter serve` polls a stand-in for fal that answers with pages made beforehand. The percentiles of a scrape with
gzip at a gentle rate, first with next to nothing to poll, then during the large poll, come from the same run; their
ratio is what counts.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from urllib.parse import parse_qs

import uvicorn
from scrape import fetch, free_port, percentiles_at_rate, running

MODELS = 1_300
"""Each is published in about eight families: some ten thousand series in all."""

PAGE_ROWS = 1_000
RATE = 50.0
SHARES = (0.5, 0.9, 0.99)

Message = dict[str, object]


class Upstream:
    """Answers `/v1/models/usage` with as many rows as it is told, in two buckets; every row is a part of a charge."""

    def __init__(self, models: int = MODELS) -> None:
        self.rows = 2 * models
        self.pages_sent = 0
        # So many pages that every model has its rows in them.
        self._pages = [_rows(page, models) for page in range(max(-(-2 * models // PAGE_ROWS), 2))]

    async def __call__(
        self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        del receive
        query = {name: values[0] for name, values in parse_qs(bytes(scope["query_string"]).decode()).items()}  # type: ignore[arg-type]
        path = str(scope["path"])
        body = self.answer(path, query)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def answer(self, path: str, query: dict[str, str]) -> bytes:
        if path == "/rows":
            self.rows = int(query.get("set", self.rows))
            return str(self.pages_sent).encode()
        return self._page(query) if path == "/v1/models/usage" else b"12.5"

    def _page(self, query: dict[str, str]) -> bytes:
        number = int(query.get("cursor", "0"))
        self.pages_sent += 1
        more = (number + 1) * PAGE_ROWS < self.rows
        bucket = datetime.fromisoformat(query["start"]) + timedelta(hours=number % 2)
        head = {"next_cursor": str(number + 1) if more else None, "has_more": more}
        rows = self._pages[number % len(self._pages)]
        return (
            json.dumps(head)[:-1] + f', "time_series": [{{"bucket": "{bucket.isoformat()}", "results": {rows}}}]}}'
        ).encode()


def _rows(page: int, models: int) -> str:
    return json.dumps(
        [
            {
                "endpoint_id": f"fal-ai/model-{(page * PAGE_ROWS + number) // 2 % models}/text-to-image",
                "unit": "image",
                "quantity": 3,
                "unit_price": 0.025,
                "percent_discount": None,
                "cost_subtotal": 0.075,
                "cost_discount": 0,
                "cost_total": 0.075,
                "currency": "USD",
            }
            for number in range(PAGE_ROWS)
        ]
    )


@contextmanager
def exporter(upstream: int, folder: str) -> Iterator[int]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "exporter",
        "serve",
        "--history",
        "1h",
        "--sources",
        "models",
        "--log-level",
        "warning",
    ]
    environment = os.environ | {
        "FAL_KEY": "benchmark:0123456789",
        "FAL_EXPORTER_PLATFORM_URL": f"http://127.0.0.1:{upstream}/v1",
        "FAL_EXPORTER_REPORTING_URL": f"http://127.0.0.1:{upstream}",
        "FAL_EXPORTER_LISTEN": f"127.0.0.1:{port}",
        "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite",
        "FAL_EXPORTER_POLL_INTERVAL": "10s",
    }
    process = subprocess.Popen(command, env=environment)
    try:
        wait_until(lambda: is_published(port), "the first charges show")
        yield port
    finally:
        process.terminate()
        process.wait(20)


def is_published(port: int) -> bool:
    try:
        return b"fal_spend_usd_total{" in fetch(port, "identity")
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited in vain until {what}")
        time.sleep(0.1)


def pages_sent(upstream: int, rows: int | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", upstream, timeout=60)
    connection.request("GET", "/rows" + ("" if rows is None else f"?set={rows}"))
    return int(connection.getresponse().read())


def percentiles(port: int, seconds: float) -> list[float]:
    took = percentiles_at_rate(port, rate=RATE, seconds=seconds, shares=SHARES)
    return [value * 1000 for value in took]


def main() -> None:
    """Measure, or serve as the stand-in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long each measurement takes")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=int, default=MODELS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvicorn.run(Upstream(options.models), host="127.0.0.1", port=options.serve, log_level="warning", lifespan="off")
        return
    upstream = free_port()
    stand_in = [sys.executable, __file__, "--serve", str(upstream)]
    with tempfile.TemporaryDirectory() as folder, running(stand_in, upstream), exporter(upstream, folder) as port:
        series = sum(not line.startswith(b"#") for line in fetch(port, "identity").splitlines())
        print(f"{series:,} series, {RATE:.0f} scrapes a second with gzip for {options.seconds:.0f} s each")
        idle = percentiles(port, options.seconds)
        before = pages_sent(upstream, rows=options.rows)
        wait_until(lambda: pages_sent(upstream) > before + 20, "the large poll is under way")
        began, first = time.perf_counter(), pages_sent(upstream)
        busy = percentiles(port, options.seconds)
        rows = (pages_sent(upstream) - first) * PAGE_ROWS
        print(f"{'':22}" + "".join(f"{f'p{share * 100:.0f}':>12}" for share in SHARES))
        print(f"{'next to nothing to do':22}" + "".join(f"{value:9.2f} ms" for value in idle))
        print(f"{'during the large poll':22}" + "".join(f"{value:9.2f} ms" for value in busy))
        print(f"{'ratio':22}" + "".join(f"{b / i:12.2f}" for b, i in zip(busy, idle, strict=True)))
        print(f"rows worked in meanwhile: {rows:,} ({rows / (time.perf_counter() - began):,.0f} a second)")


if __name__ == "__main__":
    main()
