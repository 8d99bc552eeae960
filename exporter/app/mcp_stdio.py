"""`fal-exporter mcp`: answers a desktop assistant that has started it, over standard input and output.

It answers from a ledger by itself, or has a running exporter answer over HTTP, message by message.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar
from zoneinfo import ZoneInfo

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server import Server, ServerRequestContext
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    CallToolRequestParams,
    CallToolResult,
    GetPromptRequestParams,
    GetPromptResult,
    ListPromptsResult,
    ListResourcesResult,
    ListToolsResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    TextContent,
)
from pydantic import SecretStr

from exporter import __version__
from exporter.calendar import periods_at
from exporter.charges import Clock, utc_now
from exporter.errors import FalExporterError
from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.ledger.reader import LedgerReader
from exporter.ledger.tables.database import reading
from exporter.ledger.tables.rows import read_balances
from exporter.network import Proxy, named_authorities, proxy_for
from exporter.overview import Overview
from exporter.publication import Exposition, Publication
from exporter.web.mcp.server import INSTRUCTIONS, TITLE, mcp_server
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import ledger_tools

Result = TypeVar("Result")
Context = ServerRequestContext[dict[str, object], object]

_LONGEST_CONNECT = 10.0
_LONGEST_READ = 60.0


class UnreachableError(FalExporterError):
    """The exporter does not answer, or does not admit the token."""


class _Bridge:
    """Hands on what is asked, each time anew, so that an exporter may go away and come back."""

    def __init__(self, http_client: httpx2.AsyncClient, url: str) -> None:
        self._http_client = http_client
        self._url = url

    async def list_tools(self, _: Context, page: PaginatedRequestParams | None) -> ListToolsResult:
        return await self.asked(lambda client: client.list_tools(cursor=page.cursor if page else None))

    async def call_tool(self, _: Context, call: CallToolRequestParams) -> CallToolResult:
        try:
            return await self.asked(lambda client: client.call_tool(call.name, call.arguments))
        except MCPError as error:
            return CallToolResult(content=[TextContent(text=str(error))], is_error=True)

    async def list_resources(self, _: Context, page: PaginatedRequestParams | None) -> ListResourcesResult:
        return await self.asked(lambda client: client.list_resources(cursor=page.cursor if page else None))

    async def read_resource(self, _: Context, asked: ReadResourceRequestParams) -> ReadResourceResult:
        return await self.asked(lambda client: client.read_resource(str(asked.uri)))

    async def list_prompts(self, _: Context, page: PaginatedRequestParams | None) -> ListPromptsResult:
        return await self.asked(lambda client: client.list_prompts(cursor=page.cursor if page else None))

    async def get_prompt(self, _: Context, asked: GetPromptRequestParams) -> GetPromptResult:
        return await self.asked(lambda client: client.get_prompt(asked.name, asked.arguments))

    async def asked(self, ask: Callable[[Client], Awaitable[Result]]) -> Result:
        """Return the exporter's answer.

        Raises:
            MCPError: it answers with an error, or not at all.
        """
        try:
            async with Client(streamable_http_client(self._url, http_client=self._http_client)) as client:
                try:
                    return await ask(client)
                except MCPError as error:
                    # Raised below: on its way out of here it would become one of a group.
                    refusal = error
        except (ExceptionGroup, httpx2.HTTPError):
            raise MCPError(INTERNAL_ERROR, f"{self._url} does not answer; is the exporter running?") from None
        raise refusal


@asynccontextmanager
async def bridge(url: str, token: SecretStr | None) -> AsyncIterator[Server[dict[str, object]]]:
    """Make sure that an exporter answers, and yield a server that has it answer.

    Args:
        url: of its MCP endpoint.
        token: what admits to it; None where none is needed.

    Raises:
        UnreachableError: it does not answer, or does not admit the token.
        ConfigurationError: a variable for proxies or certificate authorities is wrong.
    """
    headers = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}
    timeout = httpx2.Timeout(_LONGEST_CONNECT, read=_LONGEST_READ)
    proxy = proxy_for(url)
    # Without TLS nobody need be trusted, and a wrong SSL_CERT_FILE does not matter.
    needs_tls = url.startswith("https:") or bool(proxy and proxy.is_tls)
    trusted = named_authorities() if needs_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    async with httpx2.AsyncClient(
        headers=headers,
        timeout=timeout,
        trust_env=False,
        verify=trusted or True,
        proxy=httpx2.Proxy(proxy.url, ssl_context=trusted if proxy.is_tls else None) if proxy else None,
    ) as http_client:
        await _try(http_client, url, proxy)
        to = _Bridge(http_client, url)
        yield Server(
            "fal-exporter",
            version=__version__,
            title=TITLE,
            instructions=INSTRUCTIONS,
            on_list_tools=to.list_tools,
            on_call_tool=to.call_tool,
            on_list_resources=to.list_resources,
            on_read_resource=to.read_resource,
            on_list_prompts=to.list_prompts,
            on_get_prompt=to.get_prompt,
        )


async def _try(http_client: httpx2.AsyncClient, url: str, proxy: Proxy | None) -> None:
    """Send a ping, whose refusal can be told in a sentence.

    Raises:
        UnreachableError: it is not answered.
    """
    ping = {"jsonrpc": "2.0", "id": 0, "method": "ping"}
    try:
        answer = await http_client.post(url, json=ping, headers={"accept": "application/json, text/event-stream"})
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        if proxy:
            raise UnreachableError(
                f"--url: {url} does not answer through {proxy} ({str(error) or type(error).__name__}); check "
                f"{proxy.variable}, or list the host in NO_PROXY"
            ) from None
        raise UnreachableError(
            f"--url: {url} does not answer ({str(error) or type(error).__name__}); is the exporter running, and is "
            "FAL_EXPORTER_MCP_LISTEN not off?"
        ) from None
    if answer.status_code == httpx2.codes.UNAUTHORIZED:
        raise UnreachableError(f"--url: {url} needs a valid token; set it with --token-file or FAL_MCP_TOKEN")
    if proxy and answer.status_code == httpx2.codes.PROXY_AUTHENTICATION_REQUIRED:
        raise UnreachableError(
            f"--url: {proxy} refuses the connection to {url}: 407; put its user and password into {proxy.variable}, or "
            "list the host in NO_PROXY"
        )
    if not answer.is_success:
        raise UnreachableError(f"--url: {url} answers {answer.status_code}: {_reason(answer)}")


def _reason(answer: httpx2.Response) -> str:
    try:
        return str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "it is not an MCP endpoint of fal-exporter, whose path is /mcp"


def run_over_ledger(address: str, zone: ZoneInfo, *, clock: Clock = utc_now) -> int:
    """Answer from a ledger until standard input ends; return the exit code.

    What only a running exporter knows, runway, budgets and forecasts, is not told.

    Args:
        address: of the ledger.
        zone: of days and months where a question names none.
        clock: returns the present.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
    """
    reader = LedgerReader(address)
    try:
        reader.revision()
        known = Known(reader, lambda: _balances(address, reader, zone, clock), zone, clock)
        asyncio.run(_serve(mcp_server(ledger_tools(known))))
    finally:
        reader.close()
    return 0


def run_over_http(url: str, token: SecretStr | None) -> int:
    """Have a running exporter answer until standard input ends; return the exit code.

    Args:
        url: of its MCP endpoint.
        token: what admits to it; None where none is needed.

    Raises:
        UnreachableError: it does not answer, or does not admit the token.
    """

    async def run() -> None:
        async with bridge(url, token) as server:
            await _serve(server)

    asyncio.run(run())
    return 0


async def _serve(server: Server[dict[str, object]]) -> None:
    async with stdio_server() as (incoming, outgoing):
        await server.run(incoming, outgoing, server.create_initialization_options())


def _balances(address: str, reader: LedgerReader, zone: ZoneInfo, clock: Clock) -> Publication:
    """Return what the ledger knows of what an exporter publishes: the balances."""
    now = clock()
    month = periods_at(now, zone).month
    with reading(address) as connection:
        balances = read_balances(connection)
    with reader.snapshot() as snapshot:
        names = sorted({scope.account for scope in snapshot.scopes()})
    accounts = tuple(
        AccountOutlook(name, month, balance=found.amount, balance_at=found.at)
        if (found := balances.get(name))
        else AccountOutlook(name, month)
        for name in names
    )
    return Publication(0, now, Exposition(), Overview(__version__), ready=True, outlook=Outlook(accounts))
