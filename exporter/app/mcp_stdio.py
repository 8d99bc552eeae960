"""`fal-exporter mcp`: answers a desktop assistant that has started it, over standard input and output."""

import asyncio
from zoneinfo import ZoneInfo

from mcp.server import Server
from mcp.server.stdio import stdio_server
from pydantic import SecretStr

from exporter import __version__
from exporter.app.mcp_bridge import bridge
from exporter.charges import Clock, utc_now
from exporter.ledger.calendar import periods_at
from exporter.ledger.reader import LedgerReader
from exporter.ledger.reading import reading
from exporter.ledger.records import read_balances
from exporter.metrics.exposition import Exposition
from exporter.metrics.publication import Overview, Publication
from exporter.outlook.state import AccountOutlook, Outlook
from exporter.web.mcp.server import mcp_server
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import ledger_tools


def run_over_ledger(address: str, zone: ZoneInfo, *, clock: Clock = utc_now) -> int:
    """Answer from a ledger until standard input ends; return the exit code.

    What only a running exporter knows, runway, budgets and forecasts, is not told.

    Args:
        address: of the ledger.
        zone: of days and months where a question names none.
        clock: tells the present.

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
    names = sorted(balances.keys() | {scope.account for scope in reader.scopes()})
    accounts = tuple(
        AccountOutlook(name, month, balance=it.amount, balance_at=it.at)
        if (it := balances.get(name))
        else AccountOutlook(name, month)
        for name in names
    )
    return Publication(0, now, Exposition(), Overview(__version__), ready=True, outlook=Outlook(accounts))
