"""`/v1/billing/focus`: a file streamed from a process of its own."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import structlog
from starlette.types import Receive, Send

from exporter.queries.focus import COMMAND, FocusQuestion, Head, Order
from exporter.web.auth import RETRY, Refusal
from exporter.web.rest.calls import Request

MISSING_HOURS = "fal-exporter-missing-hours"
"""The header that counts hours of the window that have not been read to their end of every source."""

MOST_AT_ONCE = 2
"""Files that are written at a time."""

_PIECE = 2**16
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
        async with _process() as process:
            head = await _ordered(process, Order(self._address, question, request.gzipped))
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
            return None


@asynccontextmanager
async def _process() -> AsyncIterator[Process]:
    """Start a process that waits for its order; at the end of the block it is gone."""
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        # Ctrl-C is for the web process, which ends this one.
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _ordered(process: Process, order: Order) -> Head:
    """Send an order and return the head of its file."""
    if process.stdin is None or process.stdout is None:
        raise TypeError("the process was started without pipes")
    process.stdin.write(order.written)
    process.stdin.close()
    try:
        async with asyncio.timeout(_PATIENCE):
            return Head.read(await process.stdout.readline())
    except (TimeoutError, ValueError):
        _log.warning("the process that writes FOCUS files ended or stood still before it could tell why")
        return Head(status=HTTPStatus.INTERNAL_SERVER_ERROR, message="the file could not be written")


async def _stream(process: Process, receive: Receive, send: Send) -> None:
    """Pass the file on, unless the caller goes away.

    Raises:
        TimeoutError: the process or the caller stands still.
    """
    gone = asyncio.ensure_future(_gone(receive))
    try:
        while not gone.done() and process.stdout is not None:
            async with asyncio.timeout(_PATIENCE):
                piece = await process.stdout.read(_PIECE)
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    continue
                if await process.wait() == 0:
                    await send({"type": "http.response.body", "body": b""})
                else:
                    _log.warning("a FOCUS file was broken off: the ledger could not be read to the end")
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
