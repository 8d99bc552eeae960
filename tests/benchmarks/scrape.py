"""Benchmark of scrapes beside its peers, each server in a process of its own; run by hand:

    python tests/benchmarks/scrape.py [--series 1000 10000 100000] [--seconds 2]

The peers hold the same series: prometheus_client's own server, Debian's Pushgateway, and nginx serving the same bytes
from a file by one worker, as ours is one process. Needs wrk, nginx-light and prometheus-pushgateway from Debian. Only
the ratios travel between machines, and only from one that does nothing else: where processes wait for a processor, a
server that needs more of it loses more than its share.
"""

import argparse
import asyncio
import gzip
import http.client
import random
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import uvloop
from prometheus_client import CollectorRegistry, Metric, start_http_server

from exporter.charges import NANO
from exporter.metrics.catalogue import CHARGES, DEFAULT_CHARGE_LABELS
from exporter.metrics.encoding import Encoder
from exporter.metrics.snapshot import Snapshot, Table
from exporter.overview import Overview
from exporter.publication import Publication
from exporter.samples import Sample, paged
from exporter.web.application import Application
from exporter.web.server import listen, serve_web

AT = datetime(2026, 11, 1, tzinfo=UTC)
PRICES = (25_000_000, 3_000_000, 39_800_000, 70_000_000, 400_000_000, 1_250_000)
"""In nano-USD: amounts in real ledgers are a count times a price."""

CONNECTIONS = (1, 8, 64)
ENCODINGS = ("identity", "gzip")
TARGETS = {"prometheus_client": 500.0, "pushgateway": 100.0, "nginx": 0.5}
SLOW = 0.25
"""Seconds a request: a server that needs more is measured one request after another."""

FAST = 0.01
"""Seconds a request: servers that need less are measured in turns."""

ROUNDS = 3


def snapshot(series: int) -> Snapshot:
    """Make about so many series that look like an account's: few distinct values, repeated in every family."""
    chance = random.Random(1)  # noqa: S311  the same series in every process
    families = [family for family in CHARGES if family.charge_labels]
    sets = [
        (
            f"account-{number % 3}",
            f"team-{chance.randrange(40)}",
            chance.choice(("model_apis", "serverless")),
            f"fal-ai/model-{chance.randrange(300)}/v{chance.randrange(5)}",
            f"app-{number}",
            chance.choice(("H100", "A100", "", "B200")),
        )
        for number in range(series // len(families))
    ]
    tables = []
    for family in families:
        own = ("image",) if family.labels else ()
        samples = [Sample((*labels, *own), chance.randrange(200_000) * chance.choice(PRICES), AT) for labels in sets]
        tables.append(Table(family, family.labels_with(DEFAULT_CHARGE_LABELS), paged(samples)))
    return Snapshot(1, AT, tuple(tables))


def publication(series: int) -> Publication:
    """Encode the series as the collector process does."""
    return Publication(1, AT, Encoder().encode(snapshot(series)), Overview("benchmark"), ready=True)


class Prepared:
    """The same families for prometheus_client, ready to be encoded: its best case."""

    def __init__(self, whole: Snapshot) -> None:
        self._families = []
        for table in whole.tables:
            metric = Metric(table.family.base_name, table.family.help, table.family.kind)
            for page in table.pages:
                for values, value, _ in page.samples:
                    labels = dict(zip(table.labels, values, strict=True))
                    metric.add_sample(table.family.name, labels, value / NANO)
            self._families.append(metric)

    def collect(self) -> list[Metric]:
        return self._families


def serve_ours(series: int, port: int) -> None:
    application = Application()
    application.publish(publication(series))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_web(application, listen("127.0.0.1", port), asyncio.Event()))


def serve_prometheus_client(series: int, port: int) -> None:
    registry = CollectorRegistry()
    registry.register(Prepared(snapshot(series)))
    _, thread = start_http_server(port, "127.0.0.1", registry)
    thread.join()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} did not start: {' '.join(command)}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def fetch(port: int, encoding: str, path: str = "/metrics") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("GET", path, headers={"Accept-Encoding": encoding})
    body = connection.getresponse().read()
    connection.close()
    return body


@contextmanager
def own_server(name: str, series: int) -> Iterator[int]:
    port = free_port()
    with running([sys.executable, __file__, "--serve", name, "--series", str(series), "--port", str(port)], port):
        yield port


@contextmanager
def pushgateway(plain: bytes) -> Iterator[int]:
    port = free_port()
    with running([program("prometheus-pushgateway"), f"--web.listen-address=127.0.0.1:{port}"], port):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
        connection.request("PUT", "/metrics/job/benchmark", body=plain)
        answer = connection.getresponse()
        if answer.status not in {200, 202}:
            raise SystemExit(f"the Pushgateway refused the series: {answer.status} {answer.read()[:200]!r}")
        yield port


@contextmanager
def nginx(plain: bytes, packed: bytes) -> Iterator[int]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        (root / "metrics").write_bytes(plain)
        (root / "metrics.gz").write_bytes(packed)
        (root / "nginx.conf").write_text(
            f"daemon off; pid {root}/pid; error_log /dev/null; worker_processes 1;\n"
            "events { worker_connections 1024; }\n"
            "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000; gzip_static on;\n"
            f"client_body_temp_path {root}/body; proxy_temp_path {root}/proxy; fastcgi_temp_path {root}/fastcgi;\n"
            f"uwsgi_temp_path {root}/uwsgi; scgi_temp_path {root}/scgi; default_type text/plain;\n"
            f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
        )
        with running([program("nginx"), "-c", str(root / "nginx.conf")], port):
            if fetch(port, "gzip") != packed:
                raise SystemExit("nginx does not serve the compressed file")
            yield port


def program(name: str) -> str:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing: apt-get install wrk nginx-light prometheus-pushgateway")
    return found


def first_byte(port: int, encoding: str, times: int) -> float:
    """Return the median seconds from the request's last byte to the answer's first, on one kept connection."""
    request = f"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {encoding}\r\n\r\n".encode()
    seconds = []
    for _ in range(times):
        with socket.create_connection(("127.0.0.1", port), 120) as connection:
            began = time.perf_counter()
            connection.sendall(request)
            connection.recv(1)
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def requests_a_second(port: int, encoding: str, connections: int, seconds: float) -> float:
    """Ask wrk."""
    done = subprocess.run(
        [
            *(program("wrk"), "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "60s"),
            *("-H", f"Accept-Encoding: {encoding}", f"http://127.0.0.1:{port}/metrics"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if "Non-2xx" in done or re.search(r"Socket errors:.*(read|write) [1-9]", done):
        print(done)
    found = re.search(r"Requests/sec:\s+([\d.]+)", done)
    return float(found[1]) if found else 0.0


def one_after_another(port: int, encoding: str, seconds: float) -> float:
    """Return requests a second of a server too slow for wrk's short runs."""
    began, answers = time.perf_counter(), 0
    while answers < 2 or time.perf_counter() - began < seconds:
        fetch(port, encoding)
        answers += 1
    return answers / (time.perf_counter() - began)


def percentiles_at_rate(port: int, *, rate: float, seconds: float, shares: tuple[float, ...]) -> list[float]:
    """Return percentiles of whole scrapes, in seconds; see `scrapes_at_rate`."""
    return percentiles_of(scrapes_at_rate(port, rate=rate, seconds=seconds), shares)


def percentiles_of(took: list[float], shares: tuple[float, ...]) -> list[float]:
    steps = statistics.quantiles(took, n=1000, method="inclusive")
    return [steps[int(share * 1000) - 1] for share in shares]


def scrapes_at_rate(port: int, *, rate: float, seconds: float) -> list[float]:
    """Return the seconds of whole scrapes, asked for at a gentle fixed rate on one kept connection.

    A scrape that is late does not delay the ones after it on paper: each is timed from when it was due.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    took = []
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        time.sleep(max(0.0, due - time.perf_counter()))
        connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
        connection.getresponse().read()
        took.append(time.perf_counter() - due)
    connection.close()
    return took


def typical_first_byte(port: int, encoding: str) -> float:
    """Ask a fast server more often than a slow one."""
    waited = first_byte(port, encoding, 3)
    return waited if waited > SLOW else first_byte(port, encoding, 100 if waited < FAST else 10)


def side_by_side(
    servers: dict[str, int], waits: dict[str, float], encoding: str, connections: int, seconds: float
) -> dict[str, float]:
    """Return each server's requests a second: the fast ones take turns, so that other load falls on all of them."""
    rates: dict[str, float] = {}
    turns: dict[str, list[float]] = {name: [] for name, waited in waits.items() if waited < FAST}
    for _ in range(ROUNDS):
        for name, taken in turns.items():
            taken.append(requests_a_second(servers[name], encoding, connections, seconds))
    for name, port in servers.items():
        if name in turns:
            rates[name] = statistics.median(turns[name])
        elif waits[name] > SLOW:
            rates[name] = one_after_another(port, encoding, seconds)
        else:
            rates[name] = requests_a_second(port, encoding, connections, max(seconds, 4 * waits[name] * connections))
    return rates


def measure(series: int, seconds: float) -> dict[tuple[str, str, int], float]:
    """Measure every server at one size and print the table."""
    whole = publication(series).exposition.text
    plain = b"".join(piece.plain for piece in whole.pieces)
    rates: dict[tuple[str, str, int], float] = {}
    with ExitStack() as stack:
        ours = stack.enter_context(own_server("ours", series))
        exposed, packed = fetch(ours, "identity"), fetch(ours, "gzip")
        lines = sum(1 for line in gzip.decompress(packed).splitlines() if not line.startswith(b"#"))
        print(f"\n{lines:,} series, {len(exposed):,} bytes, {len(packed):,} compressed")
        servers = {
            "ours": ours,
            "nginx": stack.enter_context(nginx(exposed, packed)),
            "pushgateway": stack.enter_context(pushgateway(plain)),
            "prometheus_client": stack.enter_context(own_server("prometheus_client", series)),
        }
        print(f"{'server':18} {'encoding':9} {'first byte':>11}" + "".join(f"{c:>7} conn." for c in CONNECTIONS))
        for encoding in ENCODINGS:
            waits = {name: typical_first_byte(port, encoding) for name, port in servers.items()}
            for connections in CONNECTIONS:
                for name, rate in side_by_side(servers, waits, encoding, connections, seconds).items():
                    rates[name, encoding, connections] = rate
            for name, waited in waits.items():
                shown = "".join(f"{rates[name, encoding, connections]:13,.1f}" for connections in CONNECTIONS)
                print(f"{name:18} {encoding:9} {waited * 1000:8.2f} ms{shown}", flush=True)
        (slowest,) = percentiles_at_rate(ours, rate=20, seconds=seconds, shares=(0.99,))
        print(f"p99 of a scrape at 20 a second: {slowest * 1000:.2f} ms")
    for encoding in ENCODINGS:
        for peer, target in TARGETS.items():
            ratios = [rates["ours", encoding, c] / max(rates[peer, encoding, c], 1e-9) for c in CONNECTIONS]
            print(f"ours / {peer:18} {encoding:9}" + "".join(f"{ratio:13,.2f}" for ratio in ratios), end="")
            met = [c for c, ratio in zip(CONNECTIONS, ratios, strict=True) if ratio >= target]
            judged = encoding == "gzip" and 9_000 <= series <= 11_000
            print(f"   target {target:g} met at {met} connections" if judged else "")
    return rates


def main() -> None:
    """Serve as told, or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--seconds", type=float, default=2.0, help="how long each wrk run takes")
    parser.add_argument("--serve", choices=("ours", "prometheus_client"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve == "ours":
        serve_ours(options.series[0], options.port)
    elif options.serve:
        serve_prometheus_client(options.series[0], options.port)
    else:
        for series in options.series:
            measure(series, options.seconds)


if __name__ == "__main__":
    main()
