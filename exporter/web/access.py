"""The access log: one structured line a request, without query strings, headers or bodies, where keys could be."""

import logging
import time
from http import HTTPStatus

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LONGEST_PATH = 200
_LOGGER = "exporter.web.access"


class AccessLog:
    """Writes to the logger `exporter.web.access` at the level it was given."""

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
