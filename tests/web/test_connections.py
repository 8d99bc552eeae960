"""Connections by the hundred, half-sent requests and huge headers: scrapes and probes get through all the same."""

import asyncio
import gc
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import httpx
import pytest
from local_http import NO_TLS
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from web.conftest import Publish

from exporter.web import connections
from exporter.web.application import Application
from exporter.web.connections import Connection, Connections, Limits
from exporter.web.mcp.endpoint import MOST_EXCHANGES, PATH, endpoint
from exporter.web.server import Seldom, listen, serve_web


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Raw:
    """A client that sends what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self) -> bytes:
        """Return what the server sends until it ends the connection."""
        received = b""
        with suppress(ConnectionError):
            async with asyncio.timeout(10):
                while part := await self.reader.read(65536):
                    received += part
        return received


class Served:
    """A server under test."""

    def __init__(self, port: int, connections: Connections, stack: AsyncExitStack) -> None:
        self.port, self.connections, self._stack = port, connections, stack

    async def connect(self, data: bytes = b"") -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port))
        self._stack.callback(raw.writer.close)
        await raw.send(data)
        return raw

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=5) as client:
            return await client.get(f"http://127.0.0.1:{self.port}{path}")

    async def until(self, condition: Callable[[Connections], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition(self.connections):  # noqa: ASYNC110  what is waited for has no event
                await asyncio.sleep(0.005)


@asynccontextmanager
async def served(app: ASGIApp, connections: Connections) -> AsyncIterator[Served]:
    stop = asyncio.Event()
    listener = listen("127.0.0.1", 0)
    serving = asyncio.create_task(serve_web(app, listener, stop, connections=connections))
    async with AsyncExitStack() as stack:
        try:
            yield Served(listener.getsockname()[1], connections, stack)
        finally:
            stop.set()
            await serving


FEW = Limits(most=20, most_of_address=20)
HALF = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_A_BODY = b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhal"


@pytest.mark.parametrize("sent", [b"", HALF, HALF_A_BODY], ids=["nothing", "half a head", "half a body"])
async def test_connections_that_wait_make_room_for_scrapes_and_probes(sent: bytes, publication: Publish) -> None:
    app = Application()
    app.publish(publication())
    async with served(app, Connections(FEW)) as server:
        for _ in range(60):
            await server.connect(sent)
        await server.until(lambda connections: connections.ended >= 40)
        for _ in range(5):
            assert "fal_credit_balance_usd" in (await server.get("/metrics")).text
            assert (await server.get("/-/healthy")).status_code == 200
        assert len(server.connections) <= 20


async def test_the_one_that_waited_longest_goes_first(clock: Clock) -> None:
    async with served(Application(), Connections(Limits(most=2, most_of_address=2), clock=clock)) as server:
        first = await server.connect()
        await server.until(lambda connections: len(connections) == 1)
        clock.now += 1
        second = await server.connect(HALF)
        await server.until(lambda connections: len(connections) == 2)
        clock.now += 1
        assert (await server.get("/healthz")).status_code == 200
        assert await first.rest() == b""
        await second.send(b"over\r\nConnection: close\r\n\r\n")
        assert (await second.rest()).startswith(b"HTTP/1.1 200")


async def test_a_request_that_takes_too_long_to_arrive_is_ended_and_an_idle_connection_is_not(clock: Clock) -> None:
    async with served(Application(), Connections(clock=clock)) as server:
        idle = await server.connect(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await idle.reader.readuntil(b"healthy\n")).startswith(b"HTTP/1.1 200")
        slow_head = await server.connect(HALF)
        await server.until(lambda connections: len(connections) == 2)
        clock.now += 9
        server.connections.end_late()
        assert len(server.connections) == 2
        clock.now += 2
        server.connections.end_late()
        assert await slow_head.rest() == b""
        await idle.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await idle.rest()).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 100_000,
        b"GET /?" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % number for number in range(101)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
    ids=["endless", "long path", "many", "large"],
)
async def test_large_headers_are_refused_while_they_come_in(head: bytes) -> None:
    async with served(Application(), Connections()) as server:
        raw = await server.connect(head)
        answer = await raw.rest()
        # The system may throw an answer away where the client has gone on sending.
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")
        await server.until(lambda connections: len(connections) == 0)
        assert (await server.get("/healthz")).status_code == 200


async def test_as_many_headers_are_taken_as_are_allowed_and_not_one_more() -> None:
    async with served(Application(), Connections(Limits(headers=5))) as server:
        answers = []
        for others in (3, 4):
            names = b"".join(b"X-%d: 1\r\n" % number for number in range(others))
            raw = await server.connect(
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + names + b"\r\n"
            )
            answers.append((await raw.rest()).split(b"\r\n")[0])
    assert answers == [b"HTTP/1.1 200 OK", b"HTTP/1.1 431 Request Header Fields Too Large"]


async def test_as_many_connections_are_open_as_are_allowed_and_not_one_more(clock: Clock) -> None:
    """No address has more than its share here, so that it is the bound of all that counts."""
    connections = Connections(Limits(most=3, most_of_address=10), clock=clock)
    async with served(Application(), connections) as server:
        first = await server.connect()
        await server.until(lambda found: len(found) == 1)
        clock.now += 1
        for number in (2, 3):
            await server.connect()
            await server.until(lambda found, number=number: len(found) == number)
        assert connections.ended == 0
        await server.connect()
        assert await first.rest() == b""
        assert (len(connections), connections.ended) == (3, 1)


async def test_one_address_cannot_take_every_place(clock: Clock) -> None:
    connections = Connections(Limits(most=20, most_of_address=5), clock=clock)
    async with served(Application(), connections) as server:
        for _ in range(12):
            await server.connect()
        await server.until(lambda found: found.ended == 7)
        assert len(connections) == 5


HELLO = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
).encode()
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}


async def test_half_sent_bodies_do_not_keep_agents_from_mcp(caplog: pytest.LogCaptureFixture) -> None:
    async with served(endpoint(()), Connections()) as server:
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % PATH.encode()
        half = head + b"Accept: application/json, text/event-stream\r\nContent-Length: 500\r\n\r\n{"
        waiting = [await server.connect(half) for _ in range(2 * MOST_EXCHANGES)]
        await server.until(lambda connections: len(connections) == 2 * MOST_EXCHANGES)
        async with httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=10) as client:
            answer = await client.post(f"http://127.0.0.1:{server.port}{PATH}", content=HELLO, headers=HEADERS)
        assert answer.status_code == 200
        for raw in waiting:
            raw.writer.close()
        await server.until(lambda connections: len(connections) == 0)
    assert "Traceback" not in caplog.text


async def test_a_body_that_is_too_large_is_refused_while_it_comes_in() -> None:
    async with served(endpoint(()), Connections()) as server:
        head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n" % PATH.encode()
        raw = await server.connect(head + b"x" * 3_000_000)
        answer = await raw.rest()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")


async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path, the host and the size of the body."""
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    hosts = b",".join(value for name, value in scope["headers"] if name == b"host")
    body = b"%b %b %d\n" % (scope["path"].encode(), hosts, size)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def with_lifespan(app: ASGIApp) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Application()(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer


MIXED = b"".join(
    [
        b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % number
        + b"POST /%d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000\r\n\r\n" % number
        + b"\r\n\r\nGET /no HTTP/1.1\r\n\r\n".ljust(6000, b"x")
        + b"POST /%d HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % number
        + b"5\r\nGET /\r\n4\r\n\r\n\r\n\r\n0\r\n\r\n"
        for number in range(20)
    ]
)


@pytest.mark.parametrize("size", [1, 7, 41, 4096, len(MIXED)])
async def test_requests_that_come_at_once_or_in_pieces_are_answered_one_after_the_other(size: int) -> None:
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect()
        for start in range(0, len(MIXED), size):
            await raw.send(MIXED[start : start + size])
        await raw.send(b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        bodies = [line for line in (await raw.rest()).splitlines() if line.startswith(b"/")]
    assert bodies == [
        *(b"/%d localhost %d" % (number, size) for number in range(20) for size in (0, 6000, 9)),
        b"/last localhost 0",
    ]


ASKS_FOR_HTTP_2 = (
    b"POST /a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAEAAEAA\r\n"
)
"""As Java's client sends its first request on a connection."""

LAST = b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("size", [1, 150, 10_000])
async def test_a_request_that_asks_for_another_protocol_is_answered_with_its_body(size: int) -> None:
    body = b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n"
    sent = (ASKS_FOR_HTTP_2 + b"Content-Length: %d\r\n\r\n" % len(body) + body) * 2 + LAST
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect()
        for start in range(0, len(sent), size):
            await raw.send(sent[start : start + size])
        bodies = [line for line in (await raw.rest()).splitlines() if line.startswith(b"/")]
    assert bodies == [b"/a localhost %d" % len(body)] * 2 + [b"/last localhost 0"]


async def test_of_a_request_that_asks_for_another_protocol_a_body_without_a_length_is_refused() -> None:
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect(ASKS_FOR_HTTP_2 + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + LAST)
        answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 501 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"leave Upgrade out" in answer


ASKS_WITHOUT_A_BODY = b"GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
CHUNKED = (
    b"POST /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    b"5;signed=yes\r\nGET /\r\n1388\r\n" + b"\r\n0\r\n\r\n".ljust(5000, b"x") + b"\r\n000\r\nX-Sum: 1\r\n\r\n"
)
LONG = b"POST /d HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000\r\n\r\n" + b"y" * 5000
WITH_A_BODY = ASKS_FOR_HTTP_2 + b"Content-Length: 5\r\n\r\nhello"
ALL_KINDS = (CHUNKED, WITH_A_BODY, CHUNKED, ASKS_WITHOUT_A_BODY, LONG, ASKS_WITHOUT_A_BODY, WITH_A_BODY, CHUNKED, LONG)
ANSWERS_TO_ALL = [
    b"/%b localhost %d" % (path, size)
    for path, size in zip(b"c a c b d b a c d".split(), (5005, 5, 5005, 0, 5000, 0, 5, 5005, 5000), strict=True)
]


@pytest.mark.parametrize("size", [1, 3, 150, 4096, 100_000])
async def test_whatever_a_request_is_like_the_ones_behind_it_are_answered(size: int) -> None:
    sent = b"".join((*ALL_KINDS, LAST))
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect()
        for start in range(0, len(sent), size):
            await raw.send(sent[start : start + size])
        bodies = [line for line in (await raw.rest()).splitlines() if line.startswith(b"/")]
    assert bodies == [*ANSWERS_TO_ALL, b"/last localhost 0"]


CHUNKED_HEAD = b"POST /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


async def tells_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the names and values of a request's headers, once its body has come."""
    while (await receive()).get("more_body"):
        pass
    content = b"".join(b"/%b=%b\n" % header for header in scope["headers"])
    length = str(len(content)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": content})


@pytest.mark.parametrize("size", [1, 10_000])
async def test_what_stands_behind_a_body_is_no_header(size: int) -> None:
    sent = CHUNKED_HEAD + b"3\r\nabc\r\n0\r\nHost: evil.example\r\nAuthorization: Bearer a\r\n\r\n" + LAST
    async with served(with_lifespan(tells_headers), Connections()) as server:
        raw = await server.connect()
        for start in range(0, len(sent), size):
            await raw.send(sent[start : start + size])
        lines = [line for line in (await raw.rest()).splitlines() if line.startswith(b"/")]
    assert lines == [b"/host=localhost", b"/transfer-encoding=chunked", b"/host=localhost", b"/connection=close"]


@pytest.mark.parametrize("size", [50, 10_000])
@pytest.mark.parametrize(
    "body",
    [
        b"3;" + b"a" * 10_000 + b"\r\nabc\r\n0\r\n\r\n",
        b"0" * 10_000 + b"3\r\nabc\r\n0\r\n\r\n",
        b"0\r\nX: " + b"a" * 10_000 + b"\r\n\r\n",
        b"0\r\n" + b"X: a\r\n" * 11_000 + b"\r\n",
    ],
    ids=["extension", "zeros", "trailer", "trailers"],
)
async def test_chunk_lines_and_trailers_without_end_are_refused(body: bytes, size: int) -> None:
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect(CHUNKED_HEAD)
        sent = body + LAST
        for start in range(0, len(sent), size):
            await raw.send(sent[start : start + size])
        answer = await raw.rest()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert answer.count(b"HTTP/1.1") == 1


async def test_a_body_that_is_wrong_behind_its_answer_gets_no_second_one() -> None:
    async def answers_at_once(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": b"end"})

    async with served(with_lifespan(answers_at_once), Connections()) as server:
        raw = await server.connect(CHUNKED_HEAD)
        answer = await raw.reader.readuntil(b"end")
        await raw.send(b"0\r\nX: " + b"a" * 10_000 + b"\r\n\r\n" + LAST)
        assert await raw.rest() == b""
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", [ALL_KINDS, ALL_KINDS[:1], ALL_KINDS[:2], ALL_KINDS[:4], (*ALL_KINDS, LAST[:-3])])
async def test_who_has_sent_all_and_says_so_gets_all_answers(sent: tuple[bytes, ...]) -> None:
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect(b"".join(sent))
        raw.writer.write_eof()
        bodies = [line for line in (await raw.rest()).splitlines() if line.startswith(b"/")]
        await server.until(lambda connections: not len(connections))
    assert bodies == ANSWERS_TO_ALL[: len(sent)]


async def test_who_ends_a_connection_without_a_whole_request_is_not_waited_for() -> None:
    async with served(with_lifespan(told), Connections()) as server:
        for half in (b"", HALF, HALF_A_BODY, CHUNKED[:-4]):
            raw = await server.connect(half)
            raw.writer.write_eof()
            assert await raw.rest() == b""
        await server.until(lambda connections: not len(connections))


async def test_a_question_that_takes_long_is_given_up_once_nobody_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_LINGER", 0.05)
    is_given_up = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
            await is_given_up.wait()
            await send({"type": "http.response.body", "body": b"end"})
            return
        while (await receive())["type"] != "http.disconnect":
            pass
        is_given_up.set()

    async with served(with_lifespan(slow), Connections()) as server:
        begun = await server.connect(b"GET /begun HTTP/1.1\r\nHost: localhost\r\n\r\n")
        begun.writer.write_eof()
        gone = await server.connect(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gone.writer.close()
        async with asyncio.timeout(10):
            await is_given_up.wait()
        # What has been begun is not cut off.
        assert (await begun.rest()).endswith(b"end")
        await server.until(lambda connections: not len(connections))


async def test_where_the_parser_ends_a_body_elsewhere_nothing_behind_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a request could be smuggled in by that."""
    monkeypatch.setattr(connections, "_CHUNK_SIZE", re.compile(b"never"))
    async with served(with_lifespan(told), Connections()) as server:
        raw = await server.connect(CHUNKED + LAST)
        answer = await raw.rest()
    assert b"HTTP/1.1 400 " in answer
    assert b"/last" not in answer


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r", b"\n"),
        (b"", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6000\r\n\r\n" + b"x" * 6000),
    ],
    ids=["at once", "a head in two pieces", "a body"],
)
async def test_of_requests_that_come_at_once_only_the_one_that_is_answered_is_in_memory(
    start: bytes, end: bytes
) -> None:
    begun, go = 0, asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal begun
        begun += 1
        await go.wait()
        await told(scope, receive, send)

    def cycles() -> int:
        return sum(isinstance(found, RequestResponseCycle) for found in gc.get_objects())

    def have_read(connections: Connections, size: int) -> int:
        return sum(isinstance(found, Connection) and found._head == size for found in connections._open)

    async with served(with_lifespan(slow), Connections()) as server:
        before = cycles()
        flood = end + b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 299
        clients = [await server.connect(start) for _ in range(5)]
        await server.until(lambda connections: have_read(connections, len(start)) == 5)
        for client in clients:
            await client.send(flood)
        await server.until(lambda _: begun == 5)
        assert cycles() - before <= 5
        go.set()
        for client in clients:
            await client.send(b"GET /last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert (await client.rest()).count(b"HTTP/1.1 200") == 301


@pytest.mark.parametrize(
    ("asked", "hosts", "heard"),
    [
        (b"http://evil.example/a", [b"localhost"], b"/a evil.example 0"),
        (b"http://user@localhost:8080/a?http://b", [b"evil.example"], b"/a localhost:8080 0"),
        (b"http://localhost", [b"evil.example"], b"/ localhost 0"),
        (b"http://localhost?a=/b", [b"evil.example"], b"/ localhost 0"),
        (b"HTTP://[::1]/a", [b"evil.example"], b"/a [::1] 0"),
        (b"/http://evil.example/a", [b"localhost"], b"/http://evil.example/a localhost 0"),
        (b"/a?b=http://evil.example/a", [b"localhost"], b"/a localhost 0"),
    ],
)
async def test_the_host_of_a_url_that_is_asked_for_as_a_whole_counts(
    asked: bytes, hosts: list[bytes], heard: bytes
) -> None:
    async with served(with_lifespan(told), Connections()) as server:
        lines = b"".join(b"Host: %b\r\n" % host for host in hosts)
        raw = await server.connect(b"GET %b HTTP/1.1\r\n%bConnection: close\r\n\r\n" % (asked, lines))
        assert (await raw.rest()).splitlines()[-1] == heard


@pytest.mark.parametrize(
    ("request_line", "hosts", "status"),
    [
        (b"GET /-/healthy HTTP/1.1", [], b"400 Bad Request"),
        (b"GET /-/healthy HTTP/1.1", [b"localhost", b"localhost"], b"400 Bad Request"),
        (b"GET http://localhost/metrics HTTP/1.1", [b"evil.example", b"localhost"], b"400 Bad Request"),
        (b"GET /-/healthy HTTP/1.0", [b"localhost", b"localhost"], b"400 Bad Request"),
        (b"GET /-/healthy HTTP/1.1", [b""], b"200 OK"),
        (b"GET /-/healthy HTTP/1.0", [], b"200 OK"),
    ],
)
async def test_a_request_names_one_host_unless_it_is_of_a_time_before_that(
    request_line: bytes, hosts: list[bytes], status: bytes
) -> None:
    async with served(with_lifespan(told), Connections()) as server:
        lines = b"".join(b"Host: %b\r\n" % host for host in hosts)
        raw = await server.connect(b"%b\r\n%bConnection: close\r\n\r\n" % (request_line, lines))
        assert (await raw.rest()).startswith(b"HTTP/1.1 %b\r\n" % status)


async def test_whoever_reaches_the_port_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    async with served(Application(), Connections()) as server:
        for _ in range(5):
            garbage = await server.connect(b"\x16\x03\x01\r\n\r\n")
            assert (await garbage.rest()).startswith(b"HTTP/1.1 400 ")
            asks_for_more = await server.connect(upgrade)
            async with asyncio.timeout(10):
                assert (await asks_for_more.reader.readuntil(b"healthy\n")).startswith(b"HTTP/1.1 200")
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) <= 1


def test_a_warning_is_written_once_a_minute_and_an_error_always(clock: Clock) -> None:
    seldom = Seldom(clock)

    def passes(message: str, level: int = logging.WARNING) -> bool:
        return bool(seldom.filter(logging.LogRecord("uvicorn.error", level, __file__, 1, message, None, None)))

    assert [passes("one"), passes("one"), passes("two"), passes("two")] == [True, False, True, False]
    assert [passes("one", logging.ERROR), passes("one", logging.ERROR)] == [True, True]
    clock.now += 61
    assert [passes("one"), passes("one")] == [True, False]
