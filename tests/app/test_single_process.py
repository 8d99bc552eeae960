import asyncio
import socket
from collections.abc import Callable

import httpx
import pytest
from app.conftest import MakeSettings
from local_http import NO_TLS
from mcp import Client
from pydantic import SecretStr

from exporter.app.single_process import in_one_process
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import Ledger
from exporter.settings import Listen
from exporter.simulator import API_KEY


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(40):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.01)


async def test_what_is_polled_is_served(settings: MakeSettings) -> None:
    async with in_one_process(settings(), notes=("A note.",)) as running:
        await until(lambda: running.latest is not None and running.latest.ready)
        async with httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False) as client:
            assert (await client.get("/-/ready")).status_code == 200
            assert "fal_spend_last_hour_usd{" in (await client.get("/metrics")).text
            assert "A note." in (await client.get("/")).text
    async with httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get("/metrics")


async def test_whoever_asks_for_usage_that_a_key_cannot_read_is_told_so(settings: MakeSettings) -> None:
    served = settings(key=SecretStr(API_KEY), mcp_listen=Listen("127.0.0.1", 0))
    async with (
        asyncio.timeout(30),
        in_one_process(served) as running,
        Client(running.mcp_url) as agent,
        httpx.AsyncClient(verify=NO_TLS, trust_env=False, base_url=running.url) as client,
    ):
        await until(lambda: running.latest is not None and bool(running.latest.overview.accounts[0].problems))
        answer = await client.get("/v1/billing/usage")
        assert answer.status_code == 503
        told = await agent.call_tool("fal-get-usage", {})
        for text in (answer.json()["error"]["message"], told.content[0].text):
            assert text.startswith("nothing has been read from fal yet; account default: this key cannot read usage")


async def test_an_address_in_use_is_a_configuration_error(settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = Listen("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="cannot listen on"):
            async with in_one_process(settings(listen=listen)):
                pass


async def test_a_ledger_that_cannot_be_opened_leaves_the_address_free(settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(LedgerError, match="directory must exist"):
        async with in_one_process(
            settings(listen=Listen("127.0.0.1", port), ledger_url=SecretStr("sqlite:////nowhere/at/all/ledger.sqlite"))
        ):
            pass
    socket.create_server(("127.0.0.1", port)).close()


async def test_a_collector_that_ends_by_itself_is_seen_and_its_error_told(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(Ledger, "activate", broken)

    async def run() -> None:
        async with in_one_process(settings()) as running:
            await until(running.collecting.done)

    with pytest.raises(LedgerError, match="the disk is full"):
        await run()
