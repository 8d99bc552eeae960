import asyncio
import socket

import httpx
import pytest
from app.conftest import MakeSettings
from local_http import NO_TLS
from mcp import Client

from exporter.app.mcp import listen_for_mcp
from exporter.app.single_process import joined
from exporter.errors import ConfigurationError
from exporter.settings import Listen, Settings


def with_default_address(settings: Settings, address: Listen) -> Settings:
    """Return settings in which an address counts as one that nobody has set."""
    return Settings.model_construct(
        settings.model_fields_set - {"mcp_listen"}, **{**dict(settings), "mcp_listen": address}
    )


async def test_agents_are_answered_beside_the_scrapes(settings: MakeSettings) -> None:
    async with (
        asyncio.timeout(60),
        joined(settings(mcp_listen=Listen("127.0.0.1", 0))) as running,
        Client(running.mcp_url) as client,
    ):
        while running.latest is None or not running.latest.ready:
            running.published.clear()
            await running.published.wait()
        assert not (await client.call_tool("fal-get-usage", {})).is_error
        balances = (await client.call_tool("fal-get-balance", {})).structured_content
        assert [it["account"] for it in balances["accounts"]] == ["default"]
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as stranger:
        with pytest.raises(httpx.ConnectError):
            await stranger.post(running.mcp_url)


async def test_switched_off_there_is_no_address(settings: MakeSettings) -> None:
    async with joined(settings(mcp_listen=None)) as running:
        assert not running.mcp_url


def test_an_address_that_was_set_and_is_taken_is_a_configuration_error(settings: MakeSettings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Listen("127.0.0.1", taken.getsockname()[1])
        with pytest.raises(ConfigurationError, match="FAL_EXPORTER_MCP_LISTEN"):
            listen_for_mcp(settings(mcp_listen=address))


def test_a_default_address_that_is_taken_is_warned_of(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Listen("127.0.0.1", taken.getsockname()[1])
        assert listen_for_mcp(with_default_address(settings(), address)) is None
    told = capsys.readouterr().out
    assert "going on without MCP" in told
    assert "FAL_EXPORTER_MCP_LISTEN" in told


async def test_that_everybody_may_ask_is_warned_of_unless_only_this_machine_can(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    warning = "FAL_EXPORTER_MCP_TOKENS_FILE"
    async with joined(settings(mcp_listen=Listen("127.0.0.1", 0))):
        assert warning not in capsys.readouterr().out
    async with joined(settings(mcp_listen=Listen("0.0.0.0", 0))):  # noqa: S104  what is warned of
        await asyncio.sleep(0)
        assert warning in capsys.readouterr().out
