"""MCP as its users meet it: `serve` beside its scrapes, and the protocol's own inspector as an independent client."""

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest
from e2e.processes import PATIENCE, Exporter, Fal, exporter_of, fal_in_a_thread, free_port, wait_until
from local_http import HTTP
from mcp import Client

from exporter.simulator import ADMIN_KEY

INSPECTOR = "@modelcontextprotocol/inspector@0.15.0"
TOOLS: dict[str, dict[str, object]] = {
    "fal-get-usage": {"group_by": ["model", "day"], "limit": 5},
    "fal-explain-spend": {"window": "last_24_hours"},
    "fal-get-idle-cost": {},
    "fal-list-invoices": {"status": ["paid"]},
    "fal-get-balance": {},
    "fal-get-budgets": {},
    "fal-get-forecast": {},
    "fal-get-focus": {"source": "invoice", "limit": 2},
    "fal-check-focus": {"csv": "BilledCost,BillingCurrency"},
}


OF_REQUESTS: dict[str, dict[str, object]] = {
    "fal-get-request-cost": {"request_id": "nobody"},
    "fal-top-requests": {},
    "fal-compare-requests": {},
}
"""Tools that this exporter has no answer for, as it does not read single requests."""


class Serving(NamedTuple):
    """An exporter that answers agents, and where; it polls the last day of a simulated fal."""

    exporter: Exporter
    url: str
    fal: Fal


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    address, folder = f"127.0.0.1:{free_port()}", tmp_path_factory.mktemp("exporter")
    with fal_in_a_thread() as fal, exporter_of(fal, folder, MCP_LISTEN=address) as exporter:
        exporter.start()
        wait_until(exporter.is_ready, "the exporter is ready")
        wait_until(lambda: "serving MCP" in exporter.output, "agents are answered")
        yield Serving(exporter, f"http://{address}/mcp", fal)
        assert exporter.stop() == 0


@pytest.fixture(scope="module")
def inspect(program: Callable[[str, str], str]) -> Callable[..., dict[str, object]]:
    """Ask by the inspector's command line."""
    where = [program("npx", "npm"), "--yes", "--package", INSPECTOR, "--call", "command -v mcp-inspector"]
    found = subprocess.run(where, capture_output=True, text=True, timeout=120, check=True)
    inspector = found.stdout.strip()

    def ask(server: list[str], method: str, *options: str) -> dict[str, object]:
        done = subprocess.run(
            [inspector, "--cli", *server, "--method", method, *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    return ask


def call(tool: str) -> list[str]:
    given = (f"{name}={json.dumps(value) if isinstance(value, list) else value}" for name, value in TOOLS[tool].items())
    return ["--tool-name", tool, *(part for text in given for part in ("--tool-arg", text))]


def names(answer: dict[str, object]) -> set[str]:
    tools = answer["tools"]
    assert isinstance(tools, list)
    return {tool["name"] for tool in tools}


@pytest.mark.long
def test_the_inspector_lists_and_calls_every_tool_over_http(
    running: Serving, inspect: Callable[..., dict[str, object]]
) -> None:
    server = [running.url, "--transport", "http"]
    assert names(inspect(server, "tools/list")) == {*TOOLS, *OF_REQUESTS}
    for tool in TOOLS:
        answer = inspect(server, "tools/call", *call(tool))
        assert not answer.get("isError"), answer
        assert answer["structuredContent"]
    assert len(inspect(server, "resources/list")["resources"]) == 2  # type: ignore[arg-type]


@pytest.mark.long
def test_the_inspector_lists_and_calls_tools_over_stdio(
    running: Serving, inspect: Callable[..., dict[str, object]]
) -> None:
    server = [sys.executable, "-m", "exporter", "mcp", "--url", running.url]
    assert names(inspect(server, "tools/list")) == {*TOOLS, *OF_REQUESTS}
    for tool in ("fal-get-usage", "fal-get-forecast"):
        answer = inspect(server, "tools/call", *call(tool))
        assert not answer.get("isError"), answer
        assert answer["structuredContent"]


async def test_serve_answers_agents_beside_its_scrapes(running: Serving) -> None:
    async with Client(running.url) as client:
        assert {tool.name for tool in (await client.list_tools()).tools} == {*TOOLS, *OF_REQUESTS}
        for tool, given in OF_REQUESTS.items():
            refused = await client.call_tool(tool, given)
            assert refused.is_error
            assert "set FAL_EXPORTER_EVENTS=true" in refused.content[0].text
        for tool, given in TOOLS.items():
            result = await client.call_tool(tool, given)
            assert not result.is_error, result.content
            if tool == "fal-get-focus":
                # The collector, another process, has asked fal for it.
                assert result.structured_content["answered_by"] == "fal"
    assert running.exporter.is_ready()


async def test_an_agent_is_told_of_days_before_the_ledger_through_the_process_that_holds_the_keys(
    running: Serving,
) -> None:
    end = running.fal.now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=2)
    window = {"start": (end - timedelta(days=2)).isoformat(), "end": end.isoformat()}
    stated = running.fal.simulator.statement(**window)
    async with Client(running.url) as client:
        result = await client.call_tool("fal-get-usage", window)
        assert not result.is_error, result.content
        never = await client.call_tool("fal-get-usage", window | {"live": "false"})
    told = result.structured_content
    assert Decimal(told["total"]["spend"]) == Decimal(str(stated["cost"])) > 0
    assert told["complete"] is True
    assert [part["account"] for part in told["live"]] == ["default"]
    assert "Asked of fal, not from the ledger: default" in result.content[0].text
    assert (never.structured_content["total"]["spend"], never.structured_content["live"]) == ("0", [])


async def test_invoices_have_every_field_that_fal_sends_by_rest_and_mcp(running: Serving) -> None:
    stated = HTTP.get(
        f"{running.fal.running.reporting_url}/billing/invoices", headers={"authorization": f"Key {ADMIN_KEY}"}
    )
    sent = json.loads(stated.text, parse_float=Decimal)
    assert any(str(invoice["invoice_pdf"]).startswith("https://") for invoice in sent)

    def told() -> list[dict[str, object]]:
        text = HTTP.get(f"{running.exporter.url}/v1/billing/invoices").text
        invoices: list[dict[str, object]] = json.loads(text, parse_float=Decimal)
        return invoices

    wait_until(lambda: len(told()) == len(sent), "the invoices have been polled")
    by_rest = {str(invoice["id"]): invoice for invoice in told()}
    async with Client(running.url) as client:
        answer = (await client.call_tool("fal-list-invoices", {})).structured_content
    by_mcp = {invoice["id"]: invoice for invoice in answer["invoices"]}
    for invoice in sent:
        ours = {"x_fal_exporter_account": "default", "account": "default"}
        assert by_rest[invoice["id"]] == invoice | ours
        agents = by_mcp[invoice["id"]]
        assert agents.keys() == invoice.keys() | ours.keys()
        assert Decimal(agents["total"]) == invoice["total"]
        assert (agents["invoice_pdf"], agents["status"]) == (invoice["invoice_pdf"], invoice["status"])
        assert Decimal(agents["lines"][0]["amount"]) == invoice["lines"][0]["amount"]


def test_an_address_that_was_set_and_is_taken_ends_serve_with_code_2(exporter: Exporter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        exporter.environment["FAL_EXPORTER_MCP_LISTEN"] = f"127.0.0.1:{taken.getsockname()[1]}"
        exporter.start()
        assert exporter.process is not None
        assert exporter.process.wait(PATIENCE) == 2
    assert len(exporter.output.splitlines()) == 1
    assert "FAL_EXPORTER_MCP_LISTEN" in exporter.output
