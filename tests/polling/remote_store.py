"""A store that takes remote write: decodes each request byte by byte, and keeps samples as Prometheus does."""

import ssl
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cramjam import snappy

Labels = tuple[tuple[str, str], ...]
Series = dict[Labels, list[tuple[int, float]]]
V2 = "application/x-protobuf;proto=io.prometheus.write.v2.Request"
HOUR = 3_600_000


def varint(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def fields(body: bytes) -> dict[int, list[Any]]:
    """Return the fields of a message by number."""
    found: defaultdict[int, list[Any]] = defaultdict(list)
    at = 0
    while at < len(body):
        key, at = varint(body, at)
        if key & 7 == 0:
            value, at = varint(body, at)
            found[key >> 3].append(value)
        else:
            length, at = (8, at) if key & 7 == 1 else varint(body, at)
            found[key >> 3].append(body[at : at + length])
            at += length
    return found


def samples(series: dict[int, list[Any]]) -> list[tuple[int, float]]:
    found = [fields(sample) for sample in series[2]]
    return [(item[2][0], struct.unpack("<d", item[1][0])[0] if item[1] else 0.0) for item in found]


def version_1(body: bytes) -> Series:
    read: Series = {}
    for series in map(fields, fields(body)[1]):
        labels = [fields(label) for label in series[1]]
        read[tuple((label[1][0].decode(), label[2][0].decode()) for label in labels)] = samples(series)
    return read


def version_2(body: bytes) -> tuple[Series, dict[str, tuple[int, str, str]]]:
    request = fields(body)
    symbols = [symbol.decode() for symbol in request[4]]
    assert symbols[0] == ""
    read: Series = {}
    metadata = {}
    for series in map(fields, request[5]):
        refs, at = [], 0
        while at < len(series[1][0]):
            ref, at = varint(series[1][0], at)
            refs.append(symbols[ref])
        labels = tuple(zip(refs[::2], refs[1::2], strict=True))
        read[labels] = samples(series)
        kind = fields(series[5][0])
        text, unit = (symbols[kind[number][0]] if kind[number] else "" for number in (3, 4))
        metadata[dict(labels)["__name__"]] = (kind[1][0], text, unit)
    return read, metadata


class RemoteStore:
    """A store whose habits can be chosen.

    Attributes:
        knows_2: it knows version 2.0, and says how many samples it has written.
        refuses_2: it answers 415 to it; otherwise it takes what it cannot read for nothing.
        window: how many hours late a sample may be; None for any.
        answers: statuses of the next requests, each with headers, that are not taken.
        loses: requests that are taken, and whose answer is lost.
        trickles: its answer comes in byte by byte, and never ends.
        wants: the header Authorization without which it refuses.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.knows_2 = True
        self.refuses_2 = False
        self.window: int | None = None
        self.answers: list[tuple[int, dict[str, str], str]] = []
        self.loses = 0
        self.trickles = False
        self.wants = ""
        self.series: defaultdict[Labels, dict[int, float]] = defaultdict(dict)
        self.metadata: dict[str, tuple[int, str, str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}

    def take(self, content_type: str, body: bytes) -> tuple[int, dict[str, str], str]:
        """Take a request whole, or nothing of it."""
        if content_type == V2:
            if self.refuses_2:
                return 415, {}, "unsupported"
            if not self.knows_2:
                return 204, {}, ""
            read, self.metadata = version_2(body)
        else:
            read = version_1(body)
        newest = max((max(kept) for kept in self.series.values() if kept), default=0)
        for labels, told in read.items():
            assert list(labels) == sorted(labels)
            assert all(name and value for name, value in labels)
            assert [at for at, _ in told] == sorted(at for at, _ in told)
            reasons = [self._refusal(self.series.get(labels, {}), newest, *sample) for sample in told]
            if any(reasons):
                return 400, {}, next(filter(None, reasons))
        for labels, told in read.items():
            self.series[labels].update(told)
        headers = {"X-Prometheus-Remote-Write-Samples-Written": str(sum(map(len, read.values())))}
        return 204, headers if content_type == V2 else {}, ""

    def _refusal(self, kept: dict[int, float], newest: int, at: int, value: float) -> str:
        """Return why a sample is not taken; empty where it is."""
        if at in kept and (self.window is None or at == max(kept)):
            return "" if kept[at] == value else "duplicate sample for timestamp"
        if self.window is None:
            return ""
        if kept and at <= max(kept) - self.window * HOUR:
            return "out of order sample"
        return "out of bounds" if at < newest - (self.window + 2) * HOUR else ""

    def sums(self, name: str, label: str = "model") -> dict[str, float]:
        """Return the sum of a gauge by a label."""
        found: defaultdict[str, float] = defaultdict(float)
        for labels, kept in self.series.items():
            if dict(labels)["__name__"] == name:
                found[dict(labels).get(label, "")] += sum(kept.values())
        return {value: round(total, 9) for value, total in found.items()}


def _trickle(handler: BaseHTTPRequestHandler, ended: threading.Event) -> None:
    """Answer byte by byte until whoever asks has gone away."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    with suppress(OSError):
        while not ended.wait(0.01):
            handler.wfile.write(b".")


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], text: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name, value)
    if status != 204:
        handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    if status != 204:
        handler.wfile.write(text.encode())


@contextmanager
def remote_store(tls: ssl.SSLContext | None = None) -> Iterator[RemoteStore]:
    """Run a store on a free port, with TLS where there is a context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = bytes(snappy.decompress_raw(self.rfile.read(int(self.headers["Content-Length"]))))
            content_type = self.headers["Content-Type"]
            assert self.headers["Content-Encoding"] == "snappy"
            store.requests.append((self.headers["X-Prometheus-Remote-Write-Version"], content_type))
            store.headers = dict(self.headers)
            headers: dict[str, str]
            if store.wants and self.headers.get("Authorization") != store.wants:
                status, headers, text = 401, {}, f"not {self.headers.get('Authorization')}"
            elif store.answers:
                status, headers, text = store.answers.pop(0)
            else:
                status, headers, text = store.take(content_type, body)
                if store.loses:
                    store.loses -= 1
                    self.close_connection = True
                    return
            if store.trickles:
                self.close_connection = True
                _trickle(self, ended)
                return
            _answer(self, status, headers, text)

        def log_message(self, *_: object) -> None:
            pass

    ended = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "http" if tls is None else "https"
    store = RemoteStore(f"{scheme}://127.0.0.1:{server.server_port}/api/v1/write")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield store
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
