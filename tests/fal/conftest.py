"""A stand-in for fal that plays scripted answers over real HTTP, and clients that talk to it without ever waiting."""

import asyncio
import gzip
import json
import socket
import ssl
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import pytest
import structlog
import uvicorn
from pydantic import SecretStr

from exporter.charges import Window
from exporter.fal.client import Client
from exporter.fal.endpoints import Limits

KEY = "5e1f-key-id:9a8b7c6d5e4f-key-secret"

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(frozen=True)
class Answer:
    body: bytes = b"null"
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    promised: int | None = None  # the Content-Length, where it is to differ
    chunk: int = 0  # bytes a chunk, each sent after `pause`
    pause: float = 0
    hangs: bool = False


def as_json(value: object, status: int = 200, **headers: str) -> Answer:
    text = json.dumps(value, default=lambda number: f"\0{number}\0").replace('"\\u0000', "").replace('\\u0000"', "")
    named = tuple((name.replace("_", "-"), text_) for name, text_ in headers.items())
    return Answer(text.encode(), status, (("content-type", "application/json"), *named))


def refused(status: int, fal_type: str = "", message: str = "", request_id: str = "", **headers: str) -> Answer:
    error = {"type": fal_type, "message": message, "request_id": request_id}
    return as_json({"error": error}, status, **headers)


def gzipped(body: bytes) -> Answer:
    return Answer(gzip.compress(body), headers=(("content-encoding", "gzip"),))


@dataclass(frozen=True)
class Request:
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]


@dataclass
class Fal:
    """Answers of the stand-in, path by path: the scripted ones one after the other, the last one for ever."""

    url: str = ""
    scripts: dict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(deque))
    requests: list[Request] = field(default_factory=list)
    under_way: int = 0
    most_at_once: int = 0

    def plays(self, path: str, *answers: Answer) -> None:
        self.scripts[path] = deque(answers)

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = str(scope["path"])
        self.requests.append(Request(path, parse_qs(scope["query_string"].decode()), headers))
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self._answer(path, receive, send)
        finally:
            self.under_way -= 1

    async def _answer(self, path: str, receive: Receive, send: Send) -> None:
        script = self.scripts[path]
        answer = Answer(b'{"detail":"Not Found"}', 404) if not script else script[0]
        if len(script) > 1:
            script.popleft()
        if answer.hangs:
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        named = [(name.encode(), value.encode()) for name, value in answer.headers]
        length = len(answer.body) if answer.promised is None else answer.promised
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [*named, (b"content-length", str(length).encode())],
            }
        )
        step = answer.chunk or max(len(answer.body), 1)
        for at in range(0, len(answer.body), step):
            await asyncio.sleep(answer.pause)
            await send({"type": "http.response.body", "body": answer.body[at : at + step], "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Server(uvicorn.Server):
    """uvicorn in a thread of its own, which ends with it."""

    def start(self) -> int:
        self.thread = threading.Thread(target=self.run)
        self.up = threading.Event()
        self.thread.start()
        assert self.up.wait(10)
        return int(self.servers[0].sockets[0].getsockname()[1])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    def stop(self) -> None:
        self.should_exit = True
        self.force_exit = True
        self.thread.join(10)


class Stage:
    """The one application of the session's server; every test puts its own `Fal` on it."""

    def __init__(self) -> None:
        self.fal = Fal()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self.fal(scope, receive, send)


def server(app: Any, **options: Any) -> Server:  # noqa: ANN401  what uvicorn takes
    return Server(
        uvicorn.Config(
            app,
            host="127.0.0.1",
            port=0,
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            **options,
        )
    )


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[Stage, str]]:
    stage = Stage()
    running = server(stage)
    port = running.start()
    yield stage, f"http://127.0.0.1:{port}"
    running.stop()


@pytest.fixture
def fal(stage: tuple[Stage, str]) -> Fal:
    stage[0].fal = Fal(url=stage[1])
    return stage[0].fal


@dataclass
class Heard:
    """An observer that remembers what it heard."""

    answers: list[tuple[str, str, str, float]] = field(default_factory=list)
    retries: list[tuple[str, str]] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)
    skews: list[float] = field(default_factory=list)

    def clock_compared(self, ahead: float) -> None:
        self.skews.append(ahead)

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        self.answers.append((account, call, code, seconds))

    def retried(self, account: str, call: str) -> None:
        self.retries.append((account, call))

    def locked(self, account: str, reason: str) -> None:
        self.locks.append(f"{account} locked: {reason}")

    def unlocked(self, account: str) -> None:
        self.locks.append(f"{account} unlocked")

    @property
    def codes(self) -> list[str]:
        return [code for _, _, code, _ in self.answers]


@dataclass
class Time:
    """A clock that only sleeping moves."""

    instant: datetime = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
    elapsed: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.instant + timedelta(seconds=self.elapsed - 1000)

    def monotonic(self) -> float:
        return self.elapsed

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed += seconds


@dataclass
class Bench:
    """Makes clients that talk to the stand-in."""

    fal: Fal
    heard: Heard
    time: Time
    limits: Limits = field(
        default_factory=lambda: Limits(connect_timeout=timedelta(seconds=5), read_timeout=timedelta(seconds=5))
    )
    tls: ssl.SSLContext | None = None
    clients: list[Client] = field(default_factory=list)

    def client(
        self,
        *,
        url: str = "",
        reporting: tuple[str, str] | None = None,
        key: str | Callable[[], SecretStr] = KEY,
        **limits: object,
    ) -> Client:
        client = Client(
            account="prod",
            key=(lambda: SecretStr(key)) if isinstance(key, str) else key,
            platform_url=url or f"{self.fal.url}/v1",
            reporting_url=reporting[0] if reporting else url or self.fal.url,
            reporting_fallback_url=reporting[1] if reporting else None,
            limits=replace(self.limits, **limits),  # type: ignore[arg-type]  # a mapping has one type for all its values
            observer=self.heard,
            tls=self.tls,
            now=self.time.now,
            monotonic=self.time.monotonic,
            sleep=self.time.sleep,
            jitter=lambda: 0.0,
        )
        self.clients.append(client)
        return client


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@pytest.fixture
async def bench(fal: Fal, tls: ssl.SSLContext) -> AsyncIterator[Bench]:
    bench = Bench(fal, Heard(), Time(), tls=tls)
    yield bench
    for client in bench.clients:
        await client.aclose()


@pytest.fixture(autouse=True)
def _structlog_as_shipped() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def hour() -> datetime:
    return datetime(2026, 11, 21, 10, tzinfo=UTC)


@pytest.fixture
def window(hour: datetime) -> Window:
    return Window(hour, hour + timedelta(hours=2))


def model_row(**changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "endpoint_id": "fal-ai/flux/dev",
        "unit": "image",
        "quantity": 4,
        "unit_price": Decimal("0.1"),
        "percent_discount": 20,
        "cost_subtotal": Decimal("0.4"),
        "cost_discount": Decimal("0.08"),
        "cost_total": Decimal("0.32"),
        "cost": Decimal("0.32"),
        "currency": "USD",
    }
    return {name: value for name, value in (row | changes).items() if value is not ...}


def bucket(stamp: str, *rows: object) -> dict[str, object]:
    return {"bucket": stamp, "results": list(rows)}


def page(*buckets: object, cursor: str | None = None) -> dict[str, object]:
    return {"time_series": list(buckets), "next_cursor": cursor, "has_more": cursor is not None}
