import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import httpx2
import pytest
from local_http import NO_TLS
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from exporter.settings.credentials import TokenFile, token_line
from exporter.web.callers import Hosts
from exporter.web.mcp.endpoint import LARGEST_REQUEST, MOST_EXCHANGES, Gate, endpoint
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import tools
from exporter.web.server import listen, serve_web


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = b""
    while (message := await receive()).get("more_body", False):
        body += message.get("body", b"")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(gate: Gate) -> AsyncIterator[int]:
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    task = asyncio.create_task(serve_web(gate, listener, stop))
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        await task


async def asked(headers: dict[str, str], *, method: str = "POST", path: str = "/mcp") -> httpx.Response:
    async with serving(Gate(answers, Hosts(()))) as port, httpx.AsyncClient(verify=NO_TLS, trust_env=False) as client:
        return await client.request(method, f"http://127.0.0.1:{port}{path}", headers=headers)


@pytest.mark.parametrize(
    "host",
    [
        "localhost:9090",
        "LOCALHOST",
        "localhost.:9090",
        "mcp.localhost",
        "127.0.0.1:9090",
        "10.1.2.3:9090",
        "[::1]:9090",
        "[fd00::2]",
    ],
)
def test_this_machine_and_addresses_in_digits_are_known(host: str) -> None:
    assert Hosts(()).knows_host(host)


@pytest.mark.parametrize("host", ["evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "a:b@c", "", "[::1"])
def test_a_name_that_could_be_rebound_is_not_known(host: str) -> None:
    assert not Hosts(()).knows_host(host)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("fal-exporter.monitoring.svc:9090", True),
        ("a.svc.cluster.local", True),
        ("svc.cluster.local", False),
        ("fal-exporter.monitoring.svc.evil.com", False),
        ("other.monitoring.svc", False),
    ],
)
def test_names_that_the_user_allows_are_known(host: str, *, known: bool) -> None:
    assert Hosts(("fal-exporter.monitoring.svc", "*.svc.cluster.local")).knows_host(host) is known


def test_a_star_allows_any_name() -> None:
    hosts = Hosts(("*",))
    assert hosts.knows_host("x.example.com")
    assert hosts.knows_origin("https://y.example.com", "x.example.com")


@pytest.mark.parametrize(
    "origin", ["http://localhost:6274", "http://127.0.0.1", "https://allowed.example.com", "http://10.1.2.3:9090"]
)
def test_pages_of_this_machine_of_allowed_hosts_and_of_the_endpoint_itself_may_ask(origin: str) -> None:
    assert Hosts(("allowed.example.com",)).knows_origin(origin, "10.1.2.3:9090")


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.com",
        "null",
        "http://203.0.113.7",
        "http://localhost:80@evil.com",
        "file://localhost",
        "http://[",
        "http://10.1.2.3:9091",
    ],
)
def test_other_pages_may_not_ask(origin: str) -> None:
    assert not Hosts(()).knows_origin(origin, "10.1.2.3:9090")


async def test_who_is_not_known_is_refused_with_the_setting() -> None:
    by_name = await asked({"host": "evil.example.com"})
    assert by_name.status_code == 421
    by_page = await asked({"origin": "https://evil.example.com"})
    assert by_page.status_code == 403
    for refused in (by_name, by_page):
        message = refused.json()["error"]["message"]
        assert "FAL_EXPORTER_MCP_ALLOWED_HOSTS" in message
        assert "evil.example.com" in message


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_is_nothing_but_post(method: str) -> None:
    refused = await asked({}, method=method)
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")


async def test_another_path_is_told_where_the_endpoint_is() -> None:
    refused = await asked({}, path="/")
    assert refused.status_code == 404
    assert "/mcp" in refused.json()["error"]["message"]


async def test_a_request_that_never_ends_is_ended() -> None:
    async with serving(Gate(answers, Hosts(()), longest=0.05)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n12345")
        async with asyncio.timeout(5):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_more_requests_than_it_can_hold_are_put_off() -> None:
    held, leave = 0, asyncio.Event()
    full = asyncio.Event()

    async def holds(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal held
        if scope["type"] == "http":
            held += 1
            if held == MOST_EXCHANGES:
                full.set()
            await leave.wait()
        await answers(scope, receive, send)

    async with (
        serving(Gate(holds, Hosts(()))) as port,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, timeout=10) as client,
    ):
        url = f"http://127.0.0.1:{port}/mcp"
        waiting = [asyncio.create_task(client.post(url)) for _ in range(MOST_EXCHANGES)]
        await full.wait()
        refused = await client.post(url)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        leave.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting)} == {200}
        assert (await client.post(url)).status_code == 200


CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "fal-get-usage", "arguments": {}}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def serving_of_endpoint(known: Known, tokens: TokenFile | None = None) -> AsyncIterator[str]:
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    task = asyncio.create_task(serve_web(endpoint(tools(known), tokens=tokens), listener, stop))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        stop.set()
        await task


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_is_answered_in_both_generations_of_the_protocol(mode: str, known: Known) -> None:
    async with serving_of_endpoint(known) as url, Client(url, mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "fal-exporter"
        assert client.instructions is not None
        assert [tool.name for tool in (await client.list_tools()).tools] == [tool.name for tool in tools(known)]
        result = await client.call_tool("fal-get-usage", {})
        assert not result.is_error


async def test_a_request_stands_by_itself_so_that_any_replica_can_answer(known: Known) -> None:
    async with (
        serving_of_endpoint(known) as url,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client,
    ):
        answered = await client.post(url, json=CALL)
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in answered.headers
    assert answered.json()["result"]["structuredContent"]["currency"] == "USD"


async def test_what_is_too_large_is_refused(known: Known) -> None:
    async with (
        serving_of_endpoint(known) as url,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client,
    ):
        refused = await client.post(
            url, content=b" " * (LARGEST_REQUEST + 1), headers={"content-type": "application/json"}
        )
    assert refused.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"jsonrpc": "2.0", "id": 1, "method": "no/such"}', b"\xff"])
async def test_what_is_no_message_is_an_error_and_no_failure(body: bytes, known: Known) -> None:
    async with (
        serving_of_endpoint(known) as url,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client,
    ):
        refused = await client.post(url, content=body, headers={"content-type": "application/json"})
        assert refused.status_code in {200, 400, 404}
        assert "error" in refused.json()
        assert (await client.post(url, json=CALL)).status_code == 200


async def test_only_who_has_a_token_is_answered(known: Known, tmp_path: Path) -> None:
    token = SecretStr("falx_a-token-of-the-test")
    file = tmp_path / "tokens"
    file.write_text(token_line("agent", token) + "\n", encoding="utf-8")
    async with (
        serving_of_endpoint(known, TokenFile(file)) as url,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client,
    ):
        for headers in ({}, {"authorization": "Bearer wrong"}):
            refused = await client.post(url, json=CALL, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer ")
        with_token = httpx2.AsyncClient(headers={"authorization": f"Bearer {token.get_secret_value()}"})
        async with with_token, Client(streamable_http_client(url, http_client=with_token)) as agent:
            assert not (await agent.call_tool("fal-get-balance", {})).is_error
