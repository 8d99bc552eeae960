"""MCP beside the scrapes on its own port, and over standard input and output.

MCP beside the scrapes: on a port of its own, in the process that serves, imported once that serves.

`fal-exporter mcp`: answers a desktop assistant that has started it, over standard input and output.
"""

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import structlog
from mcp.server import Server
from mcp.server.stdio import stdio_server
from pydantic import SecretStr

from exporter import __version__
from exporter.app.mcp_bridge import bridge
from exporter.calendar import periods_at
from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError
from exporter.forecasting.state import AccountOutlook, Outlook
from exporter.ledger.database import reading
from exporter.ledger.reader import LedgerReader
from exporter.ledger.rows import read_balances
from exporter.publication import Exposition, Overview, Publication
from exporter.settings import Listen, Settings
from exporter.settings.credentials import TokenFile
from exporter.settings.fields import environment_name
from exporter.web.mcp.server import mcp_server
from exporter.web.mcp.tool import Known
from exporter.web.mcp.tools import ledger_tools
from exporter.web.server import AccessLog, listen, serve_web

if TYPE_CHECKING:
    from starlette.types import ASGIApp

_SETTING = environment_name("mcp_listen")
_log = structlog.get_logger(__name__)


def listen_for_mcp(settings: Settings) -> socket.socket | None:
    """Open the socket for MCP; None where it is switched off, or where the default address is taken.

    Raises:
        ConfigurationError: the address was set, and cannot be listened on.
    """
    if settings.mcp_listen is None:
        return None
    try:
        return listen(settings.mcp_listen.host, settings.mcp_listen.port, setting=_SETTING)
    except ConfigurationError as error:
        if "mcp_listen" in settings.model_fields_set:
            raise
        _log.warning("going on without MCP", problem=f"{error}, or to off")
        return None


async def serve_mcp(
    settings: Settings,
    listener: socket.socket | None,
    latest: Callable[[], Publication | None],
    stop: asyncio.Event,
    *,
    clock: Clock = utc_now,
) -> None:
    """Answer agents until `stop` is set; whatever goes wrong is logged and is the end of MCP alone.

    Args:
        settings: those of `serve`.
        listener: what `listen_for_mcp` has opened; closed at the end. None to do nothing.
        latest: returns what has been published last; None before the first.
        stop: says when to end.
        clock: tells the present, which questions refer to.
    """
    if listener is None:
        return
    host, port = listener.getsockname()[:2]
    if settings.mcp_tokens_file is None and not ipaddress.ip_address(host).is_loopback:
        _log.warning(
            "everybody who reaches MCP may ask; set FAL_EXPORTER_MCP_TOKENS_FILE, or FAL_EXPORTER_MCP_LISTEN to an "
            "address of this machine alone, or to off"
        )
    try:
        application, reader = await asyncio.to_thread(_application, settings, latest, clock)
        _log.info("serving MCP", address=f"http://{Listen(host, port)}/mcp")
        try:
            await serve_web(application, listener, stop)
        finally:
            reader.close()
    except Exception:  # noqa: BLE001  scrapes go on without it
        _log.exception("MCP has ended; scrapes go on")
    finally:
        listener.close()


def _application(
    settings: Settings, latest: Callable[[], Publication | None], clock: Clock
) -> "tuple[ASGIApp, LedgerReader]":
    """Import what MCP needs, which takes most of a second, and put it together."""
    from exporter.ledger.reader import LedgerReader  # noqa: PLC0415  not before scrapes are answered
    from exporter.web.mcp.endpoint import endpoint  # noqa: PLC0415  as above
    from exporter.web.mcp.tool import Known  # noqa: PLC0415  as above
    from exporter.web.mcp.tools import tools  # noqa: PLC0415  as above

    reader = LedgerReader(settings.ledger_url.get_secret_value())
    application = endpoint(
        tools(Known(reader, latest, settings.timezone, clock)),
        hosts=settings.mcp_allowed_hosts,
        tokens=TokenFile(settings.mcp_tokens_file) if settings.mcp_tokens_file else None,
        access=AccessLog(logging.INFO if settings.access_log else logging.DEBUG),
    )
    return application, reader


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
