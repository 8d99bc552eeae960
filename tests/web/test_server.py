import asyncio
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from e2e.processes import PATIENCE
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from exporter.errors import ConfigurationError
from exporter.publication import Publication
from exporter.web.application import Application
from exporter.web.callers import Hosts
from exporter.web.mcp.endpoint import Gate
from exporter.web.server import AccessLog, TakingTurns, listen, serve_web

Serve = Callable[[ASGIApp], Awaitable[httpx.AsyncClient]]
KEY = "3f1c:planted-secret"


@pytest.fixture(autouse=True)
def _structlog_as_it_comes() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


@pytest.fixture
def _info() -> Iterator[None]:
    logger = logging.getLogger("exporter.web.server")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


@pytest.mark.usefixtures("_info")
@pytest.mark.parametrize(
    ("path", "status"), [("/metrics", 200), ("/healthz", 200), ("/-/ready", 503), ("/nothing", 404)]
)
async def test_a_request_is_one_structured_line(serve: Serve, path: str, status: int) -> None:
    with capture_logs() as lines:
        client = await serve(Application(access_level=logging.INFO))
        await client.get(path)
    (line,) = lines
    seconds = line.pop("seconds")
    assert 0 < seconds < 10
    assert line == {
        "event": "request",
        "log_level": "info",
        "method": "GET",
        "path": path,
        "status": status,
        "client": "127.0.0.1",
    }


@pytest.mark.usefixtures("_info")
@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/mcp", 405), ("POST", "/mcp", 404), ("GET", "/", 404)])
async def test_what_agents_ask_is_logged_too_whether_it_is_answered_or_refused(
    serve: Serve, method: str, path: str, status: int
) -> None:
    with capture_logs() as lines:
        client = await serve(Gate(Application(), Hosts(()), access=AccessLog(logging.INFO)))
        await client.request(method, path)
    assert [(line["method"], line["path"], line["status"]) for line in lines] == [(method, path, status)]


@pytest.mark.usefixtures("_info")
async def test_keys_in_headers_and_queries_stay_out_of_the_log(serve: Serve) -> None:
    with capture_logs() as lines:
        client = await serve(Application(access_level=logging.INFO))
        for path in ("/metrics", "/", "/nothing"):
            await client.get(path, params={"key": KEY}, headers={"authorization": f"Key {KEY}", "referer": KEY})
    assert len(lines) == 3
    assert "planted-secret" not in str(lines)


@pytest.mark.usefixtures("_info")
async def test_an_endless_path_is_cut(serve: Serve) -> None:
    with capture_logs() as lines:
        await (await serve(Application(access_level=logging.INFO))).get("/" + "x" * 5000)
    assert len(lines[0]["path"]) == 200


@pytest.mark.usefixtures("_info")
async def test_below_the_level_of_the_logger_nothing_is_written(serve: Serve) -> None:
    with capture_logs() as lines:
        await (await serve(Application(access_level=logging.DEBUG))).get("/metrics")
    assert lines == []


Publish = Callable[..., Publication]

FIRST_FREE = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


async def get(port: int, host: str = "127.0.0.1") -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def test_an_address_in_use_is_one_sentence_that_names_the_setting() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(ConfigurationError) as caught:
            listen("127.0.0.1", port)
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use): set FAL_EXPORTER_LISTEN" in str(caught.value)


def bound_to_few_ports() -> None:
    """Give up the capability to listen on the first ports, which a superuser has."""
    pr_capbset_drop, cap_net_bind_service = 24, 10
    ctypes.CDLL(None).prctl(pr_capbset_drop, cap_net_bind_service, 0, 0, 0)


@pytest.mark.skipif(not FIRST_FREE.exists() or int(FIRST_FREE.read_text()) < 81, reason="port 80 is open to everybody")
@pytest.mark.parametrize(
    ("command", "setting"),
    [
        pytest.param(("simulate", "--listen"), "--listen", marks=pytest.mark.long),
        (("serve", "--listen"), "FAL_EXPORTER_LISTEN"),
    ],
)
def test_a_port_for_privileged_processes_is_said_to_be_one(
    command: tuple[str, ...], setting: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "exporter", *command, "127.0.0.1:80"],
        env=os.environ | {"FAL_KEY": "id:secret", "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{tmp_path / 'ledger.sqlite'}"},
        preexec_fn=bound_to_few_ports,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "127.0.0.1:80" in ended.stderr
    assert "(Permission denied)" in ended.stderr
    assert (
        f"ports below 1024 are reserved for privileged processes; set {setting} to a higher port, or grant the "
        "capability CAP_NET_BIND_SERVICE"
    ) in ended.stderr
    assert "unexpected" not in ended.stderr


@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:8080 "):
        listen(host, 8080)


async def test_all_interfaces_of_ipv6_are_those_of_ipv4_too() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6: sysctl net.ipv6.conf.lo.disable_ipv6=0")
    stop, listener = asyncio.Event(), listen("::", 0)
    serving = asyncio.create_task(serve_web(Application(), listener, stop))
    assert (await get(listener.getsockname()[1])).startswith(b"HTTP/1.1 200 OK")
    stop.set()
    await serving


async def test_signals_stay_with_the_application_and_the_socket_is_closed_at_the_end() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_web(Application(), listener, stop))
    await get(port)
    assert {number: signal.getsignal(number) for number in before} == before
    stop.set()
    await serving
    with pytest.raises(ConnectionRefusedError):
        await get(port)


async def test_the_end_does_not_wait_for_idle_connections() -> None:
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    serving = asyncio.create_task(serve_web(Application(), listener, stop, grace=3600))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readuntil(b"healthy\n")
    stop.set()
    await asyncio.wait_for(serving, PATIENCE)
    writer.close()


async def test_a_client_that_never_reads_holds_up_neither_others_nor_the_end(publication: Publish) -> None:
    application = Application()
    application.publish(publication(series=200_000))
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    serving = asyncio.create_task(serve_web(application, listener, stop))
    port = listener.getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    await reader.readline()
    async with asyncio.timeout(PATIENCE):
        assert (await get(port)).endswith(b"healthy\n")
        stop.set()
        await serving
    writer.close()


def test_small_answers_are_sent_at_once_on_every_event_loop() -> None:
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP, "asyncio turns Nagle's algorithm off for sockets that say so only"


@pytest.mark.parametrize("pieces", [1, 8, 4096])
async def test_long_answers_that_are_asked_for_at_once_hold_up_no_other(pieces: int) -> None:
    """Each part is written at once, as where the system takes all that it is given."""
    whole = os.urandom(2**20)
    size = len(whole) // pieces
    sent: list[int] = []

    async def long(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, len(whole), size):
            is_last = start + size >= len(whole)
            await send({"type": "http.response.body", "body": whole[start : start + size], "more_body": not is_last})

    async def ask(number: int) -> bytes:
        messages: list[Message] = []

        async def send(message: Message) -> None:
            messages.append(message)
            sent.append(number)

        await TakingTurns(long, part=2**16)({"type": "http"}, nothing_more, send)
        assert messages[0] == {"type": "http.response.start", "status": 200, "headers": []}
        assert [message.get("more_body", False) for message in messages[1:]] == [*[True] * (len(messages) - 2), False]
        assert max(len(message["body"]) for message in messages[1:]) <= 2**16
        return b"".join(message["body"] for message in messages[1:])

    async def probe() -> int:
        await asyncio.sleep(0)
        return len(sent)

    asking = [asyncio.create_task(ask(number)) for number in range(20)]
    waited = await asyncio.create_task(probe())
    assert await asyncio.gather(*asking) == [whole] * 20
    # Of 16 parts of each answer two are written before it is the probe's second turn.
    assert waited <= len(sent) / 5


async def nothing_more() -> Message:
    raise AssertionError
