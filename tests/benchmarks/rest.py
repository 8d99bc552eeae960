"""Benchmark of REST on a ledger of a million charges, and of scrapes meanwhile; run by hand:

    python tests/benchmarks/rest.py [--charges 1000000] [--seconds 8]

`fal-exporter serve` polls a stand-in for fal every ten seconds, is scraped fifty times a second with gzip, and is asked
for a month by model by sixteen callers at once: always the same question, and a window never asked before with every
request, which no cache can answer. The percentiles of a scrape come from the same run, first without questions; their
ratio is what counts. Needs wrk from Debian.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
from ledger import charges_of
from scrape import free_port, program, running
from scrape_during_poll import SHARES, exporter, pages_sent, percentiles

from exporter.charges import HOUR, Dimensions, Window, hour_of, utc_now
from exporter.ledger import Ledger, Rules

CONNECTIONS = 16
DAYS = 30
TEAMS = 10
"""Each uses every model. Asked for by name, as the stand-in polled meanwhile has a thousand models, and no team."""

QUESTION = "/v1/billing/usage?group_by=model&team=" + ",".join(f"team-{number}" for number in range(TEAMS))

TARGET = 50.0
"""Milliseconds at the 99th percentile."""

_VARYING = """
local number = 0
request = function()
  number = number + 1
  local shift = number % {hours}
  local start = os.date("!%Y-%m-%dT%H:%M:%SZ", {start} + 3600 * shift)
  return wrk.format("GET", "{question}&start=" .. start .. "&limit=" .. (10000 - number % 9000))
end
"""


def fill(folder: str, charges: int) -> Window:
    """Write a ledger of so many charges that end with the current hour, as an exporter would find it."""
    end = hour_of(utc_now()) + HOUR
    whole = Window(end - DAYS * 24 * HOUR, end)
    dimensions = [
        Dimensions("default", f"team-{n % TEAMS}", "model_apis", f"fal-ai/model-{n // TEAMS}", unit="image")
        for n in range(charges // len(whole))
    ]
    ledger = Ledger(f"sqlite:///{folder}/ledger.sqlite", rules=Rules(), clock=utc_now)
    ledger.activate({"default": ("models",)})
    for number, piece in enumerate(whole.pieces(24)):
        ledger.restate("default", "models", piece, charges_of(piece, dimensions, number), at=utc_now())
    ledger.close()
    return whole


def asked(port: int, seconds: float, path: str = "/", script: str = "") -> dict[str, float]:
    """Return what wrk says of sixteen callers: requests a second, and percentiles in milliseconds."""
    command = [program("wrk"), "-t1", f"-c{CONNECTIONS}", f"-d{seconds:.0f}s", "--latency", "--timeout", "30s"]
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command += ["-s", file.name] if script else []
        done = subprocess.run(
            [*command, f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, check=True
        ).stdout
    if "Non-2xx" in done or re.search(r"Socket errors:.*(read|write) [1-9]", done):
        print(done)
    units = {"us": 0.001, "ms": 1.0, "s": 1000.0}
    if "50%" not in done:
        raise SystemExit(f"wrk could not count:\n{done}")
    found = {
        share: float(value) * units[unit] for share, value, unit in re.findall(r"(\d+)%\s+([\d.]+)(us|ms|s)\s*\n", done)
    }
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done)
    return {"rate": float(rate[1]) if rate else 0.0, "p50": found["50"], "p99": found["99"]}


def beside(port: int, seconds: float, name: str, idle: list[float], *, path: str = "/", script: str = "") -> None:
    """Ask while scraping, and print what both saw."""
    told: dict[str, float] = {}
    thread = threading.Thread(target=lambda: told.update(asked(port, seconds, path, script)))
    thread.start()
    scrapes = percentiles(port, seconds)
    thread.join()
    met = "met" if told["p99"] < TARGET else "MISSED"
    print(
        f"{name:34} {told['rate']:9,.0f} a second   p50 {told['p50']:7.2f} ms   p99 {told['p99']:7.2f} ms   "
        f"target {TARGET:.0f} ms {met}"
    )
    show("  a scrape meanwhile", scrapes, idle)


def rested(upstream: int) -> None:
    """Wait until the polls of the start are over, each of which makes all answers new."""
    before, now = -1, 0
    while before != now:
        before, now = now, pages_sent(upstream)
        time.sleep(4)


def show(name: str, took: list[float], idle: list[float] | None = None) -> None:
    """Print the percentiles of a scrape, and their ratios to those without questions."""
    line = f"{name:34}" + "".join(
        f" p{share * 100:.0f} {value:8.2f} ms" for share, value in zip(SHARES, took, strict=True)
    )
    ratios = "" if idle is None else "   ratios" + "".join(f" {a / b:.1f}" for a, b in zip(took, idle, strict=True))
    print(line + ratios, flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--charges", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each measurement takes")
    options = parser.parse_args()
    upstream = free_port()
    stand_in = [sys.executable, str(Path(__file__).parent / "scrape_during_poll.py"), "--serve", str(upstream)]
    with tempfile.TemporaryDirectory() as folder:
        window = fill(folder, options.charges)
        month = f"{QUESTION}&start={window.start:%Y-%m-%dT%H:%MZ}&end={window.end:%Y-%m-%dT%H:%MZ}"
        with running(stand_in, upstream), exporter(upstream, folder) as port:
            answer = httpx.get(f"http://127.0.0.1:{port}{month}", timeout=60).raise_for_status().json()
            print(f"{options.charges:,} charges of {DAYS} days, {len(answer['usage']):,} rows in an answer")
            rested(upstream)
            idle = percentiles(port, options.seconds)
            show("a scrape without questions", idle)
            beside(port, options.seconds, "a month by model", idle, path=month)
            start = int(window.start.timestamp())
            script = _VARYING.format(question=QUESTION, hours=len(window) - 24, start=start)
            beside(port, options.seconds, "never the same window", idle, script=script)
            url = f"http://127.0.0.1:{port}/v1/billing/focus?timeframe=hour&start={window.start:%Y-%m-%dT%H:%MZ}"
            with subprocess.Popen(["curl", "-s", "-o", "/dev/null", url]) as download:
                show("a scrape during a FOCUS download", percentiles(port, options.seconds), idle)
                download.terminate()


if __name__ == "__main__":
    main()
