"""Memory of `fal-exporter serve`: both processes together, by series and with and without MCP; run by hand:

    python tests/benchmarks/memory.py [--series 1200 10000 50000] [--minutes 1]

The exporter loads 90 days from a stand-in for fal, is scraped in both formats, plain and with gzip, and goes on polling
every ten seconds. Shown are the resident memory of each process (RSS, which counts pages of shared libraries in both),
what both take of the machine (PSS, which counts such pages once), and by how much RSS has grown in the last minutes.
Bytecode is compiled beforehand, as an installed package has it.
"""

import argparse
import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from scrape import fetch, free_port, running
from scrape_during_poll import pages_sent, wait_until

DAYS = 90
SERIES_OF_A_MODEL = 17
TARGETS = {1_200: (120, 90), 10_000: (200, None), 50_000: (400, None)}
"""MB of both processes: with MCP, and without."""


class Memory(NamedTuple):
    """Memory of a process in MiB."""

    rss: float
    pss: float


def memory(pid: int) -> Memory:
    """Return the memory of a process."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    found = {name: int(kib) / 1024 for name, kib in re.findall(r"^(Rss|Pss):\s+(\d+) kB", rollup, re.MULTILINE)}
    return Memory(found["Rss"], found["Pss"])


def collector_of(pid: int) -> int:
    """Return the process id of the collector that a web process has started."""
    children = [file.read_text(encoding="utf-8") for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return int("".join(children).split()[0])


@contextmanager
def serving(upstream: int, folder: str, *, mcp: bool) -> Iterator[tuple[int, int]]:
    """Run the exporter; yield its port and the web process's id."""
    port, mcp_port = free_port(), free_port()
    command = [sys.executable, "-m", "exporter", "serve", "--history", f"{DAYS}d", "--sources", "models"]
    environment = os.environ | {
        "FAL_KEY": "benchmark:0123456789",
        "FAL_EXPORTER_PLATFORM_URL": f"http://127.0.0.1:{upstream}/v1",
        "FAL_EXPORTER_REPORTING_URL": f"http://127.0.0.1:{upstream}",
        "FAL_EXPORTER_LISTEN": f"127.0.0.1:{port}",
        "FAL_EXPORTER_MCP_LISTEN": f"127.0.0.1:{mcp_port}" if mcp else "off",
        "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite",
        "FAL_EXPORTER_LOG_LEVEL": "error",
        "FAL_EXPORTER_POLL_INTERVAL": "10s",
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "fal-exporter-bytecode"),
    }
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    compiling = [sys.executable, "-m", "compileall", "-q", "exporter"]
    subprocess.run(compiling, env=environment, check=False, capture_output=True)
    process = subprocess.Popen(command, env=environment)
    try:
        wait_until(lambda: is_loaded(port), "the history is loaded")
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def is_loaded(port: int) -> bool:
    """Return whether the whole history has been read."""
    try:
        body = fetch(port, "identity")
    except (OSError, http.client.HTTPException):
        return False
    found = re.search(rb"^fal_exporter_history_progress_ratio\{.*\} (\S+)$", body, re.MULTILINE)
    return found is not None and float(found[1]) >= 1


def measured(series: int, *, mcp: bool, minutes: float) -> None:
    """Print what one configuration takes."""
    models = max(series // SERIES_OF_A_MODEL, 1)
    upstream = free_port()
    stand_in = [sys.executable, str(Path(__file__).parent / "scrape_during_poll.py"), "--serve", str(upstream)]
    with (
        tempfile.TemporaryDirectory() as folder,
        running([*stand_in, "--models", str(models)], upstream),
        serving(upstream, folder, mcp=mcp) as (port, web),
    ):
        lines = sum(not line.startswith(b"#") for line in fetch(port, "identity").splitlines())
        collector = collector_of(web)
        for _ in range(3):
            scrape_after_poll(port, upstream)
        first = memory(web).rss + memory(collector).rss
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            scrape_after_poll(port, upstream)
        of_web, of_collector = memory(web), memory(collector)
        rss = of_web.rss + of_collector.rss
        target = TARGETS.get(series, (None, None))[not mcp]
        is_met = target is None or rss * 2**20 <= target * 10**6
        verdict = "" if target is None else f"   target {target} MB {'met' if is_met else 'MISSED'}"
        print(
            f"{lines:7,} series, MCP {'on ' if mcp else 'off'}   web {of_web.rss:6.1f}   collector "
            f"{of_collector.rss:6.1f}   both {rss:6.1f} MiB RSS, {of_web.pss + of_collector.pss:6.1f} PSS   "
            f"{rss - first:+.1f} in {minutes:g} min{verdict}",
            flush=True,
        )


def scrape_after_poll(port: int, upstream: int) -> None:
    """Wait for a poll and scrape, plain and with gzip."""
    seen = pages_sent(upstream)
    wait_until(lambda: pages_sent(upstream) > seen, "there is another poll")
    for encoding in ("identity", "gzip"):
        fetch(port, encoding)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, nargs="+", default=list(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="how long growth is watched")
    options = parser.parse_args()
    for series in options.series:
        for mcp in (True, False):
            measured(series, mcp=mcp, minutes=options.minutes)


if __name__ == "__main__":
    main()
