"""HTTP server: uvicorn on a socket opened early, and its access log."""

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.errors import ConfigurationError
from exporter.web.admission import FollowingContext, WebConfigFile, checked_by_name
from exporter.web.connections import Connections, end_late_ones, protocol_of

_LONGEST_PATH = 200
_LOGGER = "exporter.web.server"


class AccessLog:
    """Writes to the logger `exporter.web.server` at the level it was given."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._logger = logging.getLogger(_LOGGER)
        self._log = structlog.stdlib.get_logger(_LOGGER)

    async def watch(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Have an application answer a request and write its line, if lines of this level are written at all."""
        if not self._logger.isEnabledFor(self._level):
            await app(scope, receive, send)
            return
        began = time.perf_counter()
        watched = _Watched(send)
        try:
            await app(scope, receive, watched)
        finally:
            self._answered(scope, watched.status, time.perf_counter() - began)

    def _answered(self, scope: Scope, status: int, seconds: float) -> None:
        client = scope.get("client")
        self._log.log(
            self._level,
            "request",
            method=scope["method"],
            path=scope["path"][:_LONGEST_PATH],
            status=int(status),
            seconds=round(seconds, 6),
            client=client[0] if client else "",
        )


class _Watched:
    """Passes messages on and remembers the status of the answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int = HTTPStatus.INTERNAL_SERVER_ERROR

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


KEEP_ALIVE = 130
"""Seconds an idle connection is kept: longer than the usual scrape intervals, so that scrapes reuse theirs."""

GRACE = 2
"""Seconds that answers under way are given at the end."""

LISTEN_SETTING = "FAL_EXPORTER_LISTEN"

_BACKLOG = 128
_FIRST_FREE_FOR_ALL = 1024


class _Server(uvicorn.Server):
    """Leaves signals to the application, which has more to end than this server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install no handlers."""
        yield


def listen(host: str, port: int, *, setting: str = LISTEN_SETTING) -> socket.socket:
    """Open the listening socket; port 0 takes any free one. `::` listens on IPv4 too.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        # With the protocol named, asyncio sends small answers at once instead of waiting for an acknowledgement.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        reason = str(error.strerror).partition(" (")[0]
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({reason}): {listening_advice(error, port, setting)}"
        ) from error
    return listener


def listening_advice(error: OSError, port: int, setting: str) -> str:
    """Return what to do where an address cannot be listened on."""
    if error.errno == errno.EACCES and port < _FIRST_FREE_FOR_ALL:
        return (
            f"ports below {_FIRST_FREE_FOR_ALL} are reserved for privileged processes; set {setting} to a higher "
            "port, or grant the capability CAP_NET_BIND_SERVICE"
        )
    return f"set {setting} to an address of this machine and a free port"


def scheme_of(web_config: WebConfigFile | None) -> str:
    """Return the scheme of the addresses that are served."""
    return "http" if web_config is None or not web_config.has_tls else "https"


async def serve_web(
    app: ASGIApp,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    grace: int = GRACE,
    web_config: WebConfigFile | None = None,
    connections: Connections | None = None,
) -> None:
    """Serve until `stop` is set, then finish what is under way within `grace` seconds.

    Fast on uvloop's event loop; runs on any. The socket is closed at the end. With a web configuration that has TLS,
    connections are encrypted.
    """
    connections = Connections() if connections is None else connections
    protocol = protocol_of(connections)
    config = uvicorn.Config(
        app,
        http=protocol if web_config is None else checked_by_name(protocol, web_config),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=grace,
    )
    if web_config is not None and web_config.has_tls:
        config.load()
        config.ssl = FollowingContext.of(web_config)
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    sweeping = asyncio.create_task(end_late_ones(connections))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
        sweeping.cancel()
        server.should_exit = True
        await serving
        listener.close()
