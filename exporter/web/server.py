"""HTTP server: uvicorn on a socket opened early, and its access log."""

import asyncio
import errno
import logging
import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import cast

import structlog
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.errors import ConfigurationError
from exporter.web.admission import FollowingContext, WebConfigFile, checked_by_name
from exporter.web.connections import Connection, Connections, Handshake, end_late_ones, protocol_of

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


class Seldom(logging.Filter):
    """Lets a warning of the libraries that serve through once a minute: whoever reaches the port can cause it at will.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is written; errors always are."""
        if record.levelno != logging.WARNING:
            return True
        now, message = self._clock(), str(record.msg)
        if now - self._told.get(message, -math.inf) < _QUIET:
            return False
        self._told[message] = now
        return True


_QUIET = 60.0
"""Seconds between two lines of one warning."""

_SELDOM = Seldom()

_SERVING = "uvicorn.error"
"""Logger of what goes wrong in serving."""


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


class TakingTurns:
    """Lets others have their turn between the parts of a long answer.

    What many clients ask for at once would else be written, and encrypted, in one go: a hundred scrapes of a megabyte
    held up a probe for two seconds.

    Args:
        app: answers.
        part: bytes that are written without a pause.
    """

    def __init__(self, app: ASGIApp, *, part: int = 2**17) -> None:
        self._app = app
        self._part = part

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or take part in the server's start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        written = 0

        async def in_turn(message: Message) -> None:
            nonlocal written
            body = message.get("body", b"")
            for start in range(0, len(body) - self._part, self._part):
                await send({"type": message["type"], "body": body[start : start + self._part], "more_body": True})
                await asyncio.sleep(0)
                written, message = 0, {**message, "body": body[start + self._part :]}
            await send(message)
            written += len(message.get("body", b""))
            if written >= self._part:
                written = 0
                await asyncio.sleep(0)

        await self._app(scope, receive, in_turn)


KEEP_ALIVE = 130
"""Seconds an idle connection is kept: longer than the usual scrape intervals, so that scrapes reuse theirs."""

GRACE = 2
"""Seconds that answers under way are given at the end."""

LISTEN_SETTING = "FAL_EXPORTER_LISTEN"

_BACKLOG = 128

_SENT_AHEAD = 2**15
"""Bytes that a client may send before they are read: they, and copies of them, are multiplied by all connections."""

_FIRST_FREE_FOR_ALL = 1024


_PAUSE = 0.1
"""Seconds to the next try where no connection can be taken, because the process has too many files open."""


class _TlsListener:
    """Takes connections and agrees on their encryption, so that those that never do have a place and an end, too.

    asyncio's own servers hand over a connection only once that is done, and keep others for a minute, in any number.

    Args:
        listener: listens.
        context: of TLS.
        connections: those of the server.
        make: makes the protocol of a connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        connections: Connections,
        make: Callable[[], Connection],
    ) -> None:
        self._listener = listener
        self._context = context
        self._connections = connections
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._shaking: set[asyncio.Task[None]] = set()
        listener.settimeout(0)
        self._taking = self._loop.create_task(self._take())

    def close(self) -> None:
        """Take no more connections, and end those that are not encrypted yet."""
        for task in (self._taking, *self._shaking):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until all have ended."""
        await asyncio.gather(self._taking, *self._shaking, return_exceptions=True)

    async def _take(self) -> None:
        while True:
            try:
                client, address = await self._loop.sock_accept(self._listener)
            except OSError as error:
                logging.getLogger(_SERVING).warning("No connection can be taken: %s.", error.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            task = self._loop.create_task(self._shake(client, address[0]))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, client: socket.socket, address: str) -> None:
        me = cast("asyncio.Task[None]", asyncio.current_task())
        protocol = self._make()
        handshake = protocol.handshake = Handshake(address, me.cancel)
        self._connections.opened(handshake)
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, client, ssl=self._context)
        except OSError:
            # It has gone, or does not speak TLS as it should.
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise
        finally:
            self._connections.closed(handshake)


class _Server(uvicorn.Server):
    """Leaves signals to the application, which has more to end than this server.

    Args:
        config: without TLS.
        connections: those of the server.
        context: of TLS, where connections are encrypted.
    """

    def __init__(self, config: uvicorn.Config, connections: Connections, context: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._connections = connections
        self._context = context

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        if self._context is None or not sockets:
            await super().startup(sockets)
            return
        await super().startup([])

        def make() -> Connection:
            kind = cast("type[Connection]", self.config.http_protocol_class)
            return kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

        for listener in sockets:
            taking = _TlsListener(listener, self._context, self._connections, make)
            self.servers.append(cast("asyncio.Server", taking))

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
            # Connections have it from here.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SENT_AHEAD)
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
    for name in (_SERVING, "asyncio"):
        logging.getLogger(name).addFilter(_SELDOM)
    connections = Connections() if connections is None else connections
    protocol = protocol_of(connections)
    config = uvicorn.Config(
        TakingTurns(app),
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
    context = None if web_config is None or not web_config.has_tls else FollowingContext.of(web_config)
    server = _Server(config, connections, context)
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
