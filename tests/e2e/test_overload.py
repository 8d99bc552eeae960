"""A flood from one machine against the real processes: scrapes and probes are answered within a second all the same."""

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import trustme
from e2e.processes import Exporter, wait_until

CONNECTIONS = 100
ROUNDS = 25
BOUND = 1.0
"""Seconds."""

GROWTH = 60
"""Mebibytes that the web process may have more than when it is quiet; it was above 1,000 once."""


class Flood:
    """Connections that send requests without end, and read answers or do not."""

    def __init__(self, port: int, path: str, *, reads: bool, trust: ssl.SSLContext | None = None) -> None:
        self.answers = 0
        self.connections = 0
        self._trust = trust
        self._port = port
        self._requests = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path.encode() * 500
        self._reads = reads
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=lambda: asyncio.run(self._all()))
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    async def _all(self) -> None:
        clients = [asyncio.create_task(self._connect()) for _ in range(CONNECTIONS)]
        await asyncio.to_thread(self._stop.wait)
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    async def _connect(self) -> None:
        while not self._stop.is_set():
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust)
                self.connections += 1
                reading = asyncio.create_task(self._read(reader)) if self._reads else None
                try:
                    while not writer.is_closing():
                        writer.write(self._requests)
                        await writer.drain()
                finally:
                    if reading is not None:
                        reading.cancel()
                    writer.transport.abort()
                    with suppress(OSError):
                        await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while part := await reader.read(2**18):
                self.answers += part.count(b"HTTP/1.1 200")


def mebibytes(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


@pytest.mark.long
@pytest.mark.parametrize(("path", "reads"), [("/-/healthy", True), ("/metrics", True), ("/metrics", False)])
def test_requests_sent_without_end_hold_up_neither_scrapes_nor_probes(
    exporter: Exporter,
    path: str,
    *,
    reads: bool,
) -> None:
    exporter.start()
    wait_until(exporter.is_ready, "the exporter is ready")
    assert exporter.process is not None
    quiet = mebibytes(exporter.process.pid)
    flood = Flood(exporter.port, path, reads=reads)
    slowest = dict.fromkeys(("/metrics", "/-/healthy", "/-/ready"), 0.0)
    with flood.running():
        wait_until(lambda: flood.answers > 0 or not reads, "the flood has begun")
        for _ in range(ROUNDS):
            for asked in slowest:
                began = time.monotonic()
                answer = exporter.get(asked)
                slowest[asked] = max(slowest[asked], time.monotonic() - began)
                assert answer is not None
                assert answer.status_code == 200
    growth = mebibytes(exporter.process.pid) - quiet
    print(
        f"{path}, {CONNECTIONS} connections, {flood.answers:,} answers read: slowest {slowest}, {growth:.0f} MiB more"
    )
    assert max(slowest.values()) < BOUND
    assert growth < GROWTH
    assert exporter.stop() == 0
    assert "Traceback" not in exporter.output


@pytest.mark.long
@pytest.mark.parametrize("path", ["/-/healthy", "/metrics"])
def test_encrypted_requests_that_fetch_nothing_hold_up_neither_scrapes_nor_probes(
    exporter: Exporter, path: str
) -> None:
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    issued.private_key_and_cert_chain_pem.write_to_path(str(exporter.folder / "server.pem"))
    (exporter.folder / "web.yaml").write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n", encoding="utf-8"
    )
    exporter.environment["FAL_EXPORTER_WEB_CONFIG_FILE"] = str(exporter.folder / "web.yaml")
    exporter.start()
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    slowest = dict.fromkeys(("/metrics", "/-/healthy", "/-/ready"), 0.0)
    with httpx.Client(base_url=f"https://127.0.0.1:{exporter.port}", verify=trust, trust_env=False) as probe:

        def is_ready() -> bool:
            try:
                return probe.get("/-/ready").is_success
            except httpx.TransportError:
                return False

        wait_until(is_ready, "the exporter is ready")
        assert exporter.process is not None
        quiet = mebibytes(exporter.process.pid)
        flood = Flood(exporter.port, path, reads=False, trust=trust)
        with flood.running():
            wait_until(lambda: flood.connections > CONNECTIONS // 4, "the flood has begun")
            for _ in range(ROUNDS):
                for asked in slowest:
                    began = time.monotonic()
                    # As a kubelet asks: by a connection of its own.
                    answer = probe.get(asked, headers={"connection": "close"})
                    slowest[asked] = max(slowest[asked], time.monotonic() - began)
                    assert answer.status_code == 200
        growth = mebibytes(exporter.process.pid) - quiet
    print(f"TLS, {path}, {flood.connections} connections: slowest {slowest}, {growth:.0f} MiB more")
    assert max(slowest.values()) < BOUND
    assert growth < GROWTH
    assert exporter.stop() == 0
    assert "Traceback" not in exporter.output
