"""`/v1/billing/focus`: a file streamed from a process of its own, or fal's own report from the collector."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus

import structlog
from starlette.types import Receive, Send

from exporter.inquiry import Answer as FalAnswer
from exporter.inquiry import Inquirer, InquiryError
from exporter.queries.focus import LACKING, UNAVAILABLE, WRITER, FocusQuestion, Head, Order
from exporter.queries.worker import Worker, WorkerError, worker
from exporter.web.auth import RETRY, Refusal
from exporter.web.rest.calls import Request

MISSING_HOURS = "fal-exporter-missing-hours"
"""Header that counts hours of the window that have not been read to their end of every source."""

ANSWERED_BY = "fal-exporter-answered-by"
"""Header that names who has made the file: `ledger`, or `fal`."""

READ_AT = "fal-exporter-read-at"
"""Header that says when a report of fal's own was read from fal."""

NOTE = "fal-exporter-note"
"""Header with a sentence on what the file is made of, where that does not go without saying."""

HEADERS = (MISSING_HOURS, ANSWERED_BY, READ_AT, NOTE)

MOST_AT_ONCE = 2
"""Files that are written at a time."""

_PATIENCE = 60.0
"""Seconds that a caller may take for a piece, and the process for the next."""

_log = structlog.get_logger(__name__)


class FocusFiles:
    """Streams files.

    Args:
        address: of the ledger.
        inquirer: asks the collector; None where there is none.
        accounts: those that are polled.
    """

    def __init__(self, address: str, inquirer: Inquirer | None = None, accounts: Collection[str] = ()) -> None:
        self._address = address
        self._inquirer = inquirer
        self._accounts = accounts
        self._under_way = 0

    async def answer(self, question: FocusQuestion, request: Request, receive: Receive, send: Send) -> Refusal | None:
        """Send a file, or return why there is none.

        One that cannot be finished is broken off, so that the caller sees that it is not whole.

        Raises:
            QuestionError: it is not clear whose report is asked for.
        """
        if self._under_way >= MOST_AT_ONCE:
            message = f"{MOST_AT_ONCE} files are already being written; try again when one is done"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, message, headers=RETRY)
        self._under_way += 1
        try:
            if not question.asks_fal:
                return await self._write(question, request, receive, send)
            try:
                return await self._pass_on(question, request, receive, send)
            except InquiryError as error:
                if error.reason == UNAVAILABLE and question.may_ask_ledger:
                    return await self._write(question, request, receive, send)
                return _refusal(question, error)
        finally:
            self._under_way -= 1

    async def _pass_on(self, question: FocusQuestion, request: Request, receive: Receive, send: Send) -> Refusal | None:
        """Send fal's own report, untouched.

        Raises:
            InquiryError: there is none, and nothing has been sent.
        """
        if self._inquirer is None:
            raise InquiryError(UNAVAILABLE, "only a running exporter asks fal")
        inquiry = question.inquiry(self._accounts)
        async with self._inquirer.ask(inquiry, patience=_PATIENCE) as answer:
            fields = inquiry.fields
            words = [fields.get(name, "") for name in ("source", "charge_month", "billing_month", "start", "end")]
            name = "-".join(["focus-fal", inquiry.account, *map(_stamp, filter(None, words))])
            await _begin(send, {ANSWERED_BY: "fal", READ_AT: str(answer.head["read_at"])}, name, gzipped=False)
            if request.is_head:
                await send({"type": "http.response.body", "body": b""})
                return None
            try:
                await _stream(_pieces_of(answer), receive, send)
            except TimeoutError:
                _log.warning("a FOCUS file was broken off: its reader, or fal, stood still", path=request.path)
            except InquiryError as error:
                # Without its end, the server breaks the answer off.
                _log.warning("a FOCUS file was broken off", path=request.path, problem=str(error))
            return None

    async def _write(self, question: FocusQuestion, request: Request, receive: Receive, send: Send) -> Refusal | None:
        order = Order(self._address, question, request.gzipped)
        async with worker(WRITER, order.written) as process:
            head = await _head(process)
            if head.status != HTTPStatus.OK:
                return Refusal(
                    head.status, head.message, headers=RETRY if head.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
                )
            said = {ANSWERED_BY: "ledger", MISSING_HOURS: str(head.missing)} | ({NOTE: head.note} if head.note else {})
            await _begin(send, said, f"focus-{_stamp(head.start)}-{_stamp(head.end)}", gzipped=request.gzipped)
            if request.is_head:
                await send({"type": "http.response.body", "body": b""})
                return None
            try:
                await _stream(process.piece, receive, send)
            except TimeoutError:
                # Without its end, the server breaks the answer off.
                _log.warning("a FOCUS file was cut off: its reader or the ledger stalled", path=request.path)
            except WorkerError:
                _log.warning("a FOCUS file was cut off: the ledger could not be read to the end", path=request.path)
            return None


def _refusal(question: FocusQuestion, error: InquiryError) -> Refusal:
    instead = "; live=false asks the ledger" if question.may_ask_ledger else ""
    if error.reason == "busy":
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, str(error), headers=RETRY)
    if error.reason in {LACKING, UNAVAILABLE}:
        if question.live == "true" or not question.may_ask_ledger:
            instead = "; source=estimate without live=true asks the ledger"
        return Refusal(HTTPStatus.NOT_FOUND, f"{str(error).rstrip('.')}{instead}")
    if error.reason == "late":
        message = "fal has not begun its report in time; ask again later, it is kept when it has come"
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, message + instead, headers=RETRY)
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, f"{str(error).rstrip('.')}{instead}", headers=RETRY)


def _pieces_of(answer: FalAnswer) -> Callable[[], Awaitable[bytes]]:
    pieces = answer.pieces()

    async def piece() -> bytes:
        return await anext(pieces, b"")

    return piece


async def _head(process: Worker) -> Head:
    try:
        async with asyncio.timeout(_PATIENCE):
            return Head.read(await process.head())
    except (TimeoutError, ValueError, WorkerError):
        _log.warning("the process that writes FOCUS files ended or stalled without giving a reason")
        return Head(status=HTTPStatus.INTERNAL_SERVER_ERROR, message="the file could not be written")


async def _stream(piece_of: Callable[[], Awaitable[bytes]], receive: Receive, send: Send) -> None:
    """Pass the file on, unless the caller goes away.

    Args:
        piece_of: returns the next piece, nothing at the end.
        receive: of the request.
        send: of the request.

    Raises:
        TimeoutError: where the pieces come from, or the caller, stands still.
        InquiryError, WorkerError: the file is cut off.
    """
    gone = asyncio.ensure_future(_gone(receive))
    try:
        while not gone.done():
            async with asyncio.timeout(_PATIENCE):
                piece = await piece_of()
                await send({"type": "http.response.body", "body": piece, "more_body": bool(piece)})
            if not piece:
                return
    finally:
        gone.cancel()


async def _gone(receive: Receive) -> None:
    """Wait until the caller has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _stamp(text: str) -> str:
    """Return an instant without what file names do not take; other words as they are."""
    return text.replace("-", "").replace(":", "").replace("+0000", "Z") if "T" in text else text


async def _begin(send: Send, said: dict[str, str], name: str, *, gzipped: bool) -> None:
    plain = "".join(char for char in name if char.isascii() and (char.isalnum() or char in "-_."))
    headers = [
        (b"content-type", b"text/csv; charset=utf-8"),
        (b"content-disposition", f'attachment; filename="{plain}.csv"'.encode()),
        *((header.encode(), text.encode("latin-1", "replace")) for header, text in said.items()),
        (b"cache-control", b"private, no-store"),
        (b"vary", b"Accept, Accept-Encoding, Authorization"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if gzipped:
        headers.append((b"content-encoding", b"gzip"))
    await send({"type": "http.response.start", "status": int(HTTPStatus.OK), "headers": headers})
