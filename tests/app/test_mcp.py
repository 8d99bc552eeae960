"""`fal-exporter mcp` as an assistant starts it: a process at the other end of two pipes."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from app.conftest import MakeSettings
from local_http import NO_TLS
from mcp import Client, StdioServerParameters
from pydantic import SecretStr

from exporter.app.access import Access
from exporter.app.mcp import listen_for_mcp
from exporter.app.single_process import SingleProcess, in_one_process
from exporter.charges import HOUR, NANO, Amounts, Balance, Charge, Dimensions, Window, hour_of, utc_now
from exporter.cli import main
from exporter.errors import ConfigurationError
from exporter.ledger import Ledger, Rules
from exporter.settings import Listen, Settings
from exporter.settings.credentials import token_line


def with_default_address(settings: Settings, address: Listen) -> Settings:
    """Return settings in which an address counts as one that nobody has set."""
    return Settings.model_construct(
        settings.model_fields_set - {"mcp_listen"}, **{**dict(settings), "mcp_listen": address}
    )


async def test_agents_are_answered_beside_the_scrapes(settings: MakeSettings) -> None:
    async with (
        asyncio.timeout(60),
        in_one_process(settings(mcp_listen=Listen("127.0.0.1", 0))) as running,
        Client(running.mcp_url) as client,
    ):
        while running.latest is None or not running.latest.ready:
            running.published.clear()
            await running.published.wait()
        assert not (await client.call_tool("fal-get-usage", {})).is_error
        balances = (await client.call_tool("fal-get-balance", {})).structured_content
        assert [balance["account"] for balance in balances["accounts"]] == ["default"]
    async with httpx.AsyncClient(verify=NO_TLS, trust_env=False) as stranger:
        with pytest.raises(httpx.ConnectError):
            await stranger.post(running.mcp_url)


async def test_switched_off_there_is_no_address(settings: MakeSettings) -> None:
    async with in_one_process(settings(mcp_listen=None)) as running:
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
    assert "continuing without MCP" in told
    assert "FAL_EXPORTER_MCP_LISTEN" in told


@pytest.mark.parametrize(("host", "is_warned"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])  # noqa: S104
async def test_that_everybody_may_ask_is_warned_of_unless_only_this_machine_can(
    settings: MakeSettings, capsys: pytest.CaptureFixture[str], host: str, is_warned: bool  # noqa: FBT001  a case
) -> None:  # fmt: skip
    Access.of(settings(mcp_listen=Listen(host, 0), open=True))
    assert ("MCP: open to anyone" in capsys.readouterr().out) is is_warned
    Access.of(settings(mcp_listen=Listen(host, 0)))
    assert "open to anyone" not in capsys.readouterr().out


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}

UNUSABLE = {"HTTP_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "nonsense://", "SSL_CERT_FILE": "/missing"}
"""Variables that must not matter on the way to this machine."""


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    address = f"sqlite:///{tmp_path / 'kept.sqlite'}"
    now = utc_now()
    hour = hour_of(now) - HOUR
    ledger = Ledger(address, rules=Rules(), clock=lambda: now)
    ledger.activate({"default": ("models",)})
    window = Window(hour, hour + HOUR)
    dimensions = Dimensions("default", product="model_apis", model="fal-ai/veo3", unit="second")
    ledger.restate("default", "models", window, [Charge(hour, dimensions, Amounts(NANO, 0, 5, 0, 5))], at=now)
    ledger.record_balance(Balance("default", 7 * NANO, now))
    ledger.close()
    return address


def parameters(*arguments: str, **environment: str) -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable, args=["-m", "exporter", "mcp", *arguments], env=dict(os.environ) | environment
    )


def told_at_once(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail, in this process, and return its code and its one sentence."""
    code = main(["mcp", *arguments])
    stdout, stderr = capfd.readouterr()
    assert stdout == ""
    assert len(stderr.splitlines()) == 1
    return f"{code}: {stderr}"


def run(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "exporter", "mcp", *arguments],
        input=said,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@asynccontextmanager
async def loaded(settings: MakeSettings, **changed: object) -> AsyncIterator[SingleProcess]:
    async with in_one_process(settings(**({"mcp_listen": Listen("127.0.0.1", 0)} | changed))) as running:
        while running.latest is None or not running.latest.ready:
            running.published.clear()
            await running.published.wait()
        yield running


@pytest.mark.parametrize("mode", ["auto", pytest.param("legacy", marks=pytest.mark.long)])
async def test_a_ledger_is_asked_without_an_exporter(ledger: str, mode: str) -> None:
    async with asyncio.timeout(60), Client(parameters(FAL_EXPORTER_LEDGER_URL=ledger), mode=mode) as client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {
            *("fal-get-usage", "fal-explain-spend", "fal-get-idle-cost", "fal-list-invoices", "fal-get-balance"),
            *("fal-get-focus", "fal-check-focus", "fal-get-request-cost", "fal-top-requests", "fal-compare-requests"),
        }
        usage = (await client.call_tool("fal-get-usage", {"group_by": ["model"]})).structured_content
        assert [(row["model"], row["spend"]) for row in usage["usage"]] == [("fal-ai/veo3", "0.000000005")]
        (balance,) = (await client.call_tool("fal-get-balance", {})).structured_content["accounts"]
        assert (balance["balance"], balance["runway_seconds"]) == ("7", None)
        assert (await client.call_tool("fal-list-invoices", {})).content[0].text == "No invoices match."
        assert (await client.read_resource("fal-exporter://guide")).contents


@pytest.mark.long
def test_standard_output_holds_the_protocol_and_nothing_else(ledger: str) -> None:
    done = run("--ledger-url", ledger, said=f"{json.dumps(HELLO)}\nnonsense\n")
    assert done.returncode == 0
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert messages
    assert all(message["jsonrpc"] == "2.0" for message in messages)
    assert messages[0]["result"]["serverInfo"]["name"] == "fal-exporter"
    assert "Traceback" not in done.stderr


@pytest.mark.long
async def test_a_running_exporter_is_asked_with_a_token(settings: MakeSettings, tmp_path: Path) -> None:
    token, admitted, kept = SecretStr("falx_a-token-of-the-test"), tmp_path / "tokens", tmp_path / "token"
    admitted.write_text(token_line("agent", token) + "\n", encoding="utf-8")
    kept.write_text(token.get_secret_value() + "\n", encoding="utf-8")
    async with asyncio.timeout(90), loaded(settings, mcp_tokens_file=admitted) as running:
        refused = await asyncio.to_thread(run, "--url", running.mcp_url)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "--token-file or FAL_MCP_TOKEN" in refused.stderr
        for server in (
            parameters("--url", running.mcp_url, "--token-file", str(kept)),
            parameters("--url", running.mcp_url, FAL_MCP_TOKEN=token.get_secret_value(), **UNUSABLE),
        ):
            async with Client(server) as client:
                tools = {tool.name for tool in (await client.list_tools()).tools}
                assert {"fal-get-budgets", "fal-get-forecast"} < tools
                of_requests = {"fal-get-request-cost", "fal-top-requests", "fal-compare-requests"}
                for name in tools - {"fal-check-focus"} - of_requests:
                    arguments = {"source": "estimate"} if name == "fal-get-focus" else {}
                    assert not (await client.call_tool(name, arguments)).is_error
                wrong = await client.call_tool("fal-get-usage", {"stat": "now"})
                assert (wrong.is_error, wrong.content[0].text) == (True, "stat is not a parameter; did you mean start?")
                assert len((await client.list_resources()).resources) == 2
                assert (await client.read_resource("fal-exporter://metrics")).contents
                (prompt,) = (await client.list_prompts()).prompts
                assert (await client.get_prompt(prompt.name)).messages


@pytest.mark.long
async def test_an_exporter_that_goes_away_is_told_and_one_that_comes_back_is_asked_again(
    settings: MakeSettings,
) -> None:
    async with asyncio.timeout(90), AsyncExitStack() as stack:
        async with loaded(settings) as running:
            port = int(running.mcp_url.removesuffix("/mcp").rpartition(":")[2])
            client = await stack.enter_async_context(Client(parameters("--url", running.mcp_url)))
        gone = await client.call_tool("fal-get-balance", {})
        assert gone.is_error
        assert "is the exporter running?" in gone.content[0].text
        async with loaded(settings, mcp_listen=Listen("127.0.0.1", port)):
            assert not (await client.call_tool("fal-get-balance", {})).is_error


@pytest.mark.parametrize(
    ("proxy", "told"),
    [
        (
            "http://127.0.0.1:1",
            "1: fal-exporter: --url: http://exporter.invalid/mcp does not answer through the proxy of ",
        ),
        (
            "socks4://x:1",
            "2: fal-exporter: http_proxy: names a proxy with the unsupported scheme socks4; write it like ",
        ),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(
    proxy: str, told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    sentence = told_at_once(capfd, "--url", "http://exporter.invalid/mcp")
    assert sentence.startswith(told)
    assert "http_proxy" in sentence


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--url", "http://127.0.0.1:1/mcp"], "does not answer"),
        (["--url", "nonsense"], "does not answer"),
        (["--ledger-url", "sqlite:////nowhere/ledger.sqlite"], "there is no ledger"),
    ],
)
def test_what_cannot_be_reached_is_told_in_one_sentence(
    arguments: list[str], told: str, capfd: pytest.CaptureFixture[str]
) -> None:
    sentence = told_at_once(capfd, *arguments)
    assert sentence.startswith("1: fal-exporter: ")
    assert told in sentence


@pytest.mark.parametrize(
    "arguments",
    [["--ledger-url", "postgresql:x"], ["--timezone", "Mars"], ["--url", "http://x/mcp", "--token-file", "/no/such"]],
)
def test_a_wrong_option_is_told_in_one_sentence(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert told_at_once(capfd, *arguments).startswith("2: fal-exporter: ")
