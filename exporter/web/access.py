"""The access log: one structured line a request, without query strings, headers or bodies, where keys could be."""

import logging
import time
from http import HTTPStatus

import structlog
from starlette.types import Message, Scope, Send

_LONGEST_PATH = 200
_LOGGER = "exporter.web.access"


class AccessLog:
    """Writes to the logger `exporter.web.access` at the level it was given."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._logger = logging.getLogger(_LOGGER)
        self._log = structlog.stdlib.get_logger(_LOGGER)

    @property
    def wanted(self) -> bool:
        """Whether lines of this level are written at all."""
        return self._logger.isEnabledFor(self._level)

    def answered(self, scope: Scope, status: int, began: float) -> None:
        """Write the line for a request that began at this reading of `time.perf_counter()`."""
        client = scope.get("client")
        self._log.log(
            self._level,
            "request",
            method=scope["method"],
            path=scope["path"][:_LONGEST_PATH],
            status=int(status),
            seconds=round(time.perf_counter() - began, 6),
            client=client[0] if client else "",
        )


class Watched:
    """Passes messages on and remembers the status of the answer."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int = HTTPStatus.INTERNAL_SERVER_ERROR

    async def __call__(self, message: Message) -> None:
        """Pass one message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
