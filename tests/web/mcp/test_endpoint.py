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

from exporter.settings.credentials import TokenFile, token_line
from exporter.web.mcp.endpoint import LARGEST_REQUEST, endpoint
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import tools
from exporter.web.server import listen, serve_web

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "fal-get-usage", "arguments": {}}}
ACCEPT = {"accept": "application/json, text/event-stream"}


@asynccontextmanager
async def serving(known: Known, tokens: TokenFile | None = None) -> AsyncIterator[str]:
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    task = asyncio.create_task(serve_web(endpoint(tools(known), tokens=tokens), listener, stop))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        stop.set()
        await task


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_official_client_is_answered_in_both_generations_of_the_protocol(mode: str, known: Known) -> None:
    async with serving(known) as url, Client(url, mode=mode) as client:
        assert client.server_info is not None
        assert client.server_info.name == "fal-exporter"
        assert client.instructions is not None
        assert len((await client.list_tools()).tools) == 6
        result = await client.call_tool("fal-get-usage", {})
        assert not result.is_error


async def test_a_request_stands_by_itself_so_that_any_replica_can_answer(known: Known) -> None:
    async with serving(known) as url, httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client:
        answered = await client.post(url, json=CALL)
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "application/json"
    assert "mcp-session-id" not in answered.headers
    assert answered.json()["result"]["structuredContent"]["currency"] == "USD"


async def test_what_is_too_large_is_refused(known: Known) -> None:
    async with serving(known) as url, httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client:
        refused = await client.post(
            url, content=b" " * (LARGEST_REQUEST + 1), headers={"content-type": "application/json"}
        )
    assert refused.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"jsonrpc": "2.0", "id": 1, "method": "no/such"}', b"\xff"])
async def test_what_is_no_message_is_an_error_and_no_failure(body: bytes, known: Known) -> None:
    async with serving(known) as url, httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client:
        refused = await client.post(url, content=body, headers={"content-type": "application/json"})
        assert refused.status_code in {200, 400, 404}
        assert "error" in refused.json()
        assert (await client.post(url, json=CALL)).status_code == 200


async def test_only_who_has_a_token_is_answered(known: Known, tmp_path: Path) -> None:
    token = SecretStr("falx_a-token-of-the-test")
    file = tmp_path / "tokens"
    file.write_text(token_line("agent", token) + "\n", encoding="utf-8")
    async with (
        serving(known, TokenFile(file)) as url,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, headers=ACCEPT) as client,
    ):
        for headers in ({}, {"authorization": "Bearer wrong"}):
            refused = await client.post(url, json=CALL, headers=headers)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"].startswith("Bearer ")
        with_token = httpx2.AsyncClient(headers={"authorization": f"Bearer {token.get_secret_value()}"})
        async with with_token, Client(streamable_http_client(url, http_client=with_token)) as agent:
            assert not (await agent.call_tool("fal-get-balance", {})).is_error
