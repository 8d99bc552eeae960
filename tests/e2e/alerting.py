"""A real Alertmanager, and a receiver that keeps what it is sent."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
from e2e.processes import free_port, wait_until
from local_http import HTTP

Program = Callable[[str, str], str]
Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Post:
    """Body sent to a path; `at` is by the monotonic clock."""

    path: str
    authorization: str
    body: str
    at: float

    @property
    def document(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.body)
        return document

    def alerts(self, status: str) -> set[str]:
        """Return the names of the alerts of a webhook's message that have a status."""
        alerts = self.document["alerts"]
        assert isinstance(alerts, list)
        return {alert["labels"]["alertname"] for alert in alerts if alert["status"] == status}


@dataclass
class Receiver:
    """Takes every POST; answers as PagerDuty does, which nobody else minds."""

    url: str
    posts: list[Post] = field(default_factory=list)

    def sent_to(self, path: str) -> list[Post]:
        return [post for post in list(self.posts) if post.path == path]


@contextmanager
def receiver() -> Iterator[Receiver]:
    received: list[Post] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            received.append(Post(self.path, self.headers.get("authorization", ""), body, time.monotonic()))
            self.send_response(202)
            self.end_headers()
            self.wfile.write(b'{"status": "success"}')

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  the name is http.server's
            del format, arguments

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield Receiver(f"http://127.0.0.1:{server.server_port}", received)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass(frozen=True)
class Alertmanager:
    url: str

    def post(self, *alerts: Mapping[str, object]) -> None:
        HTTP.post(f"{self.url}/api/v2/alerts", json=list(alerts), timeout=10).raise_for_status()

    def is_inhibited(self) -> dict[Labels, bool]:
        """Return of every alert, by its labels, whether others silence it."""
        alerts = HTTP.get(f"{self.url}/api/v2/alerts", timeout=10).raise_for_status().json()
        return {frozenset(alert["labels"].items()): bool(alert["status"]["inhibitedBy"]) for alert in alerts}


@contextmanager
def alertmanager_on(configuration: Path, folder: Path, program: Program) -> Iterator[Alertmanager]:
    made = Alertmanager(f"http://127.0.0.1:{free_port()}")
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program("prometheus-alertmanager", "prometheus-alertmanager"),
                f"--config.file={configuration}",
                f"--storage.path={folder / 'alertmanager'}",
                "--cluster.listen-address=",
                f"--web.listen-address={made.url.removeprefix('http://')}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(lambda: _is_ready(made, process, folder), "Alertmanager is ready")
        yield made
    finally:
        process.terminate()
        process.wait(20)


def _is_ready(alertmanager: Alertmanager, process: "subprocess.Popen[bytes]", folder: Path) -> bool:
    assert process.poll() is None, (folder / "alertmanager.log").read_text()
    try:
        return HTTP.get(f"{alertmanager.url}/-/ready").is_success
    except httpx.TransportError:
        return False
