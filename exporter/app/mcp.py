"""MCP beside the scrapes: on a port of its own, in the process that serves, imported when the first agent connects.

Its libraries take 30 MB and most of a second, which an exporter without agents is spared.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from exporter.app.access import Access
from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError
from exporter.events.store import EventReader
from exporter.inquiry import Inquirer
from exporter.publication import Publication
from exporter.settings.parsing import Listen, environment_name
from exporter.web.server import AccessLog, listen, scheme_of, serve_web

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from exporter.ledger.reader import LedgerReader
    from exporter.settings import Settings

_SETTING = environment_name("mcp_listen")
_log = structlog.get_logger(__name__)


def listen_for_mcp(settings: "Settings") -> socket.socket | None:
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
        _log.warning("continuing without MCP", problem=f"{error}, or to off")
        return None


async def serve_mcp(
    settings: "Settings",
    listener: socket.socket | None,
    latest: Callable[[], Publication | None],
    stop: asyncio.Event,
    *,
    inquirer: Inquirer | None = None,
    clock: Clock = utc_now,
    access: Access | None = None,
    requests: Callable[[], EventReader] | None = None,
) -> None:
    """Answer agents until `stop` is set; whatever goes wrong is logged and is the end of MCP alone.

    Args:
        settings: those of `serve`.
        listener: what `listen_for_mcp` has opened; closed at the end. None to do nothing.
        latest: returns what has been published last; None before the first.
        stop: says when to end.
        inquirer: asks the collector; None where there is none.
        clock: returns the present, which questions refer to.
        access: who may ask; read from the settings unless given.
        requests: returns the store of single requests; None where they are not read.
    """
    if listener is None:
        return
    host, port = listener.getsockname()[:2]
    access = access or Access.of(settings)
    web_config = access.web_config
    try:
        _log.info("serving MCP", address=f"{scheme_of(web_config)}://{Listen(host, port)}/mcp")
        if not await _is_wanted(listener, stop):
            return
        application, reader = await asyncio.to_thread(_application, settings, latest, inquirer, clock, access, requests)
        try:
            await serve_web(application, listener, stop, web_config=web_config)
        finally:
            reader.close()
    except Exception:  # noqa: BLE001  scrapes go on without it
        _log.exception("MCP has stopped; scrapes are not affected")
    finally:
        listener.close()


async def _is_wanted(listener: socket.socket, stop: asyncio.Event) -> bool:
    """Wait for the first connection, which stays in the queue of the socket; False if `stop` is set before."""
    loop = asyncio.get_running_loop()
    connected = asyncio.Event()
    loop.add_reader(listener.fileno(), connected.set)
    waiting = [asyncio.ensure_future(event.wait()) for event in (connected, stop)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_reader(listener.fileno())
        for task in waiting:
            task.cancel()
    return not stop.is_set()


def _application(  # noqa: PLR0917  called in one place
    settings: "Settings",
    latest: Callable[[], Publication | None],
    inquirer: Inquirer | None,
    clock: Clock,
    access: Access,
    requests: Callable[[], EventReader] | None,
) -> "tuple[ASGIApp, LedgerReader]":
    """Import what MCP needs, which takes most of a second, and put it together."""
    from exporter.ledger.reader import LedgerReader  # noqa: PLC0415  not before scrapes are answered
    from exporter.web.mcp.endpoint import endpoint  # noqa: PLC0415  as above
    from exporter.web.mcp.tool import Known  # noqa: PLC0415  as above
    from exporter.web.mcp.tools import tools  # noqa: PLC0415  as above

    standby = settings.ledger_read_url
    reader = LedgerReader(
        settings.ledger_url.get_secret_value(), standby=None if standby is None else standby.get_secret_value()
    )
    accounts = tuple(account.name for account in settings.accounts)
    application = endpoint(
        tools(Known(reader, latest, settings.timezone, clock, inquirer, accounts, requests)),
        hosts=settings.mcp_allowed_hosts,
        tokens=access.mcp,
        access=AccessLog(logging.INFO if settings.access_log else logging.DEBUG),
        web_config=access.web_config,
        callers=access.callers_of_mcp(),
    )
    return application, reader
