"""A log that nobody reads holds up neither of the two processes."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE = 30.0
RELOADED_AT = re.compile(r"^fal_exporter_config_last_reload_success_timestamp_seconds (\S+)$", re.MULTILINE)

DROPPED = re.compile(r"log lines were dropped, as nobody read them: (\d+)")


def wait_until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.01)


def test_scrapes_and_reloads_go_on_and_the_log_says_what_was_dropped(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def configure(level: str) -> None:
        (tmp_path / "fal-exporter.yaml").write_text(f"log_level: {level}\n")

    def scraped() -> str:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()
        except OSError:
            return ""
        finally:
            connection.close()

    configure("info")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FAL_")} | {
        "FAL_KEY": "identity:0123456789",
        "FAL_EXPORTER_CONFIG_FILE": "fal-exporter.yaml",
        "FAL_EXPORTER_LISTEN": f"127.0.0.1:{port}",
        "FAL_EXPORTER_MCP_LISTEN": "off",
        "FAL_EXPORTER_PLATFORM_URL": "http://127.0.0.1:9/v1",
        "FAL_EXPORTER_REPORTING_URL": "http://127.0.0.1:9",
        "FAL_EXPORTER_ACCESS_LOG": "true",
        "PYTHONPATH": str(Path.cwd()),
    }
    ours, theirs = os.pipe()
    command = [sys.executable, "-m", "exporter", "serve"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=theirs, start_new_session=True)
    try:
        wait_until(scraped, "it serves")
        # Some 150 bytes a line, where a pipe has room for 64 KiB.
        assert all(scraped() for _ in range(1000))
        # A new collector has much to say before it publishes for the first time.
        before = RELOADED_AT.findall(scraped())
        configure("debug")
        os.kill(process.pid, signal.SIGHUP)
        wait_until(lambda: before < RELOADED_AT.findall(scraped()), "the new collector works")
        arrived = os.read(ours, 2**20).decode()
        assert arrived.endswith("\n")
        assert arrived.count("path=/metrics") < 1000
        later = ""

        def is_told() -> bool:
            """Read on; each of the two processes says what it has dropped itself, with the next line that it writes."""
            nonlocal later
            scraped()
            later += os.read(ours, 2**20).decode()
            return arrived.count("\n") + sum(map(int, DROPPED.findall(later))) > 1000

        wait_until(is_told, "it is said what was dropped")
        # Full again, it ends as well.
        for _ in range(1000):
            scraped()
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(ours)
        os.close(theirs)
