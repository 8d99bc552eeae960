"""`fal-exporter demo` as a user starts it, for tests that ask it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from e2e.processes import PATIENCE, free_port, wait_until
from local_http import HTTP


@dataclass(frozen=True)
class Demo:
    url: str
    mcp_url: str


@contextmanager
def demo(folder: Path) -> Iterator[Demo]:
    """Start a demo and wait until it knows yesterday and the balance."""
    url = f"http://127.0.0.1:{free_port()}"
    output = folder / "demo.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "exporter", "demo", "--listen", url.removeprefix("http://"), "--days", "2"],
            env={name: value for name, value in os.environ.items() if not name.startswith("FAL_")},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        printed = wait_until(lambda: re.search(r"MCP +(http\S+)", output.read_text()), "the demo has started")
        wait_until(lambda: _knows_yesterday(url), "the demo has loaded yesterday and the balance")
        yield Demo(url, printed[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)
    assert "Traceback" not in output.read_text(), output.read_text()


def _knows_yesterday(url: str) -> bool:
    today = datetime.now(UTC).date()
    window = {"start": str(today - timedelta(days=1)), "end": str(today)}
    try:
        usage = HTTP.get(f"{url}/v1/billing/usage", params=window, timeout=10)
        balance = HTTP.get(f"{url}/v1/billing/balance", timeout=10)
    except httpx.TransportError:
        return False
    return (
        usage.is_success
        and usage.json()["complete"]
        and balance.is_success
        and balance.json()["accounts"][0]["balance"] is not None
    )
