"""`/v1/billing/focus`: a file streamed from a process of its own."""

import asyncio
from http import HTTPStatus

import structlog
from starlette.types import Receive, Send

from exporter.queries.focus import WRITER, FocusQuestion, Head, Order
from exporter.queries.worker import Worker, WorkerError, worker
from exporter.web.auth import RETRY, Refusal
from exporter.web.rest.calls import Request

MISSING_HOURS = "fal-exporter-missing-hours"
"""The header that counts hours of the window that have not been read to their end of every source."""

MOST_AT_ONCE = 2
"""Files that are written at a time."""

_PATIENCE = 60.0
"""Seconds that a caller may take for a piece, and the process for the next."""

_log = structlog.get_logger(__name__)


class FocusFiles:
    """Streams files.

    Args:
        address: of the ledger.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._under_way = 0

    async def answer(self, question: FocusQuestion, request: Request, receive: Receive, send: Send) -> Refusal | None:
        """Send a file, or return why there is none.

        One that cannot be finished is broken off, so that the caller sees that it is not whole.
        """
        if self._under_way >= MOST_AT_ONCE:
            message = f"{MOST_AT_ONCE} files are being written already; ask again when one is done"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, headers=RETRY)
        self._under_way += 1
        try:
            return await self._write(question, request, receive, send)
        finally:
            self._under_way -= 1

    async def _write(self, question: FocusQuestion, request: Request, receive: Receive, send: Send) -> Refusal | None:
        order = Order(self._address, question, request.gzipped)
        async with worker(WRITER, order.written) as process:
            head = await _head(process)
            if head.status != HTTPStatus.OK:
                return Refusal(
                    head.status, head.message, headers=RETRY if head.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
                )
            await send(
                {
                    "type": "http.response.start",
                    "status": int(HTTPStatus.OK),
                    "headers": _headers(question, head, gzipped=request.gzipped),
                }
            )
            if request.is_head:
                await send({"type": "http.response.body", "body": b""})
                return None
            try:
                await _stream(process, receive, send)
            except TimeoutError:
                # Without its end, the server breaks the answer off.
                _log.warning("a FOCUS file was broken off: its reader, or the ledger, stood still", path=request.path)
            except WorkerError:
                _log.warning("a FOCUS file was broken off: the ledger could not be read to the end", path=request.path)
            return None


async def _head(process: Worker) -> Head:
    try:
        async with asyncio.timeout(_PATIENCE):
            return Head.read(await process.head())
    except (TimeoutError, ValueError, WorkerError):
        _log.warning("the process that writes FOCUS files ended or stood still before it could tell why")
        return Head(status=HTTPStatus.INTERNAL_SERVER_ERROR, message="the file could not be written")


async def _stream(process: Worker, receive: Receive, send: Send) -> None:
    """Pass the file on, unless the caller goes away.

    Raises:
        TimeoutError: the process or the caller stands still.
        WorkerError: the file is cut off.
    """
    gone = asyncio.ensure_future(_gone(receive))
    try:
        while not gone.done():
            async with asyncio.timeout(_PATIENCE):
                piece = await process.piece()
                await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
            if not piece:
                return
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    """Wait until the caller has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _headers(question: FocusQuestion, head: Head, *, gzipped: bool) -> list[tuple[bytes, bytes]]:
    window = question.window
    name = f"focus-{window.start:%Y%m%dT%HZ}-{window.end:%Y%m%dT%HZ}.csv"
    headers = [
        (b"content-type", b"text/csv; charset=utf-8"),
        (b"content-disposition", f'attachment; filename="{name}"'.encode()),
        (MISSING_HOURS.encode(), str(head.missing).encode()),
        (b"cache-control", b"private, no-store"),
        (b"vary", b"Accept, Accept-Encoding, Authorization"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return [*headers, (b"content-encoding", b"gzip")] if gzipped else headers
