"""Inquiries: questions of the web process that the collector has fal answer.

Only the collector holds keys and talks to fal. Where an answer needs more than ledger and publications have, the web
process asks the collector: `Inquirer.ask` at its end, `Responder` with one handler for each name at the other.

Every inquiry has a socket of its own, so that the kernel holds back a writer whose reader is slow, and whoever closes
its end ends the inquiry. The inquiry is a line of JSON. The answer is a head (JSON), the pieces of a body of any
length, and an end; or a failure, with its reason and a sentence for the caller.
"""

import asyncio
import json
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import Self

import structlog

from exporter.errors import ConfigurationError, FalExporterError, UpstreamError

_log = structlog.get_logger(__name__)

MOST_WAITING = 4
"""Inquiries of one name and account that wait for the one that is being answered."""

_FRAME = struct.Struct("!cI")
_HEAD, _PIECE, _END, _FAILURE = b"H", b"P", b"E", b"F"
_LONGEST_PIECE = 2**16


class InquiryError(FalExporterError):
    """An inquiry has no answer, or none that is whole.

    Attributes:
        reason: a word for programs: `busy`, `late`, `gone`, `configuration`, `unexpected`, or the `reason` of the
            `UpstreamError` that ended it, such as `feature` or `rate_limited`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Inquiry:
    """A question.

    Attributes:
        name: of its handler.
        account: the configured account it is about.
        fields: what the handler needs to know, as texts.
    """

    name: str
    account: str
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def written(self) -> bytes:
        """The line that is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, sent: bytes) -> Self:
        """Return an inquiry that was sent."""
        return cls(**json.loads(sent))


class Answer:
    """An answer whose body is under way.

    Attributes:
        head: what the handler says before the body.
    """

    def __init__(self, head: Mapping[str, object], reader: asyncio.StreamReader) -> None:
        self.head = head
        self._reader = reader

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes in; the caller sets the time that a piece may take.

        Raises:
            InquiryError: the body is cut off.
        """
        while True:
            kind, payload = await _read_frame(self._reader)
            if kind == _END:
                return
            yield payload

    async def body(self, most: int) -> bytes:
        """Return the whole body.

        Args:
            most: bytes that it may have.

        Raises:
            InquiryError: the body is cut off, or longer.
        """
        body = bytearray()
        async for piece in self.pieces():
            body += piece
            if len(body) > most:
                raise InquiryError("too_large", f"the collector's answer is longer than {most:,} bytes; request less")
        return bytes(body)


class Inquirer:
    """The web process's end.

    Args:
        connect: returns one end of a stream whose other end a `Responder` serves; called in any thread.
    """

    def __init__(self, connect: Callable[[], socket.socket]) -> None:
        self._connect = connect

    @asynccontextmanager
    async def ask(self, inquiry: Inquiry, *, patience: float) -> AsyncIterator[Answer]:
        """Ask and wait for the head; leaving the block ends the inquiry. Works on any event loop.

        Args:
            inquiry: the question.
            patience: seconds until the head.

        Raises:
            InquiryError: there is no answer.
        """
        try:
            reader, writer = await asyncio.open_unix_connection(sock=self._connect())
        except OSError:
            raise InquiryError("gone", "the collector is not available at the moment; try again shortly") from None
        try:
            writer.write(inquiry.written)
            try:
                async with asyncio.timeout(patience):
                    _, head = await _read_frame(reader)
            except TimeoutError:
                raise InquiryError("late", f"fal has not answered within {patience:g} s; try again later") from None
            yield Answer(json.loads(head), reader)
        finally:
            writer.close()


class Channel:
    """Hands the ends of new streams over to another process, through a socket that both have.

    Args:
        control: a stream of the family AF_UNIX.
    """

    def __init__(self, control: socket.socket) -> None:
        control.settimeout(0)
        self._control = control
        self._lock = Lock()

    def connect(self) -> socket.socket:
        """Return one end of a new stream whose other end the other process gets.

        Raises:
            OSError: the other process is gone, or does not take what it gets.
        """
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                socket.send_fds(self._control, [b"?"], [theirs.fileno()])
            except BaseException:
                ours.close()
                raise
        return ours

    def accept(self, serve: Callable[[socket.socket], None]) -> Callable[[], None]:
        """Have the running event loop serve the streams that come; return what stops it."""
        loop = asyncio.get_running_loop()

        def take() -> None:
            with suppress(BlockingIOError):
                while True:
                    sent, descriptors, _, _ = socket.recv_fds(self._control, 1, 1)
                    if not sent:
                        loop.remove_reader(self._control)
                        return
                    for descriptor in descriptors:
                        serve(socket.socket(fileno=descriptor))

        def stop() -> None:
            loop.remove_reader(self._control)

        loop.add_reader(self._control, take)
        return stop


class AnswerWriter:
    """Takes an answer from its handler: the head once, then the pieces."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, head: Mapping[str, object]) -> None:
        """Send the head."""
        await self.send(_HEAD, json.dumps(head).encode())

    async def piece(self, piece: bytes) -> None:
        """Send a piece of the body; waits while the reader is slower."""
        for start in range(0, len(piece), _LONGEST_PIECE):
            await self.send(_PIECE, piece[start : start + _LONGEST_PIECE])

    async def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Send a frame."""
        self._writer.write(_FRAME.pack(kind, len(payload)) + payload)
        await self._writer.drain()


Handler = Callable[[Inquiry, AnswerWriter], Awaitable[None]]
"""Answers an inquiry; what it raises is told to the caller where it is an error with a sentence."""


class Responder:
    """The collector's end: answers one inquiry of a name and account at a time, a few more wait for their turn.

    Made and closed on the event loop that answers.

    Args:
        handlers: by the name of the inquiry.
        most_waiting: inquiries of one name and account that wait; more are refused as busy.
    """

    def __init__(self, handlers: Mapping[str, Handler], *, most_waiting: int = MOST_WAITING) -> None:
        self._handlers = handlers
        self._most_waiting = most_waiting
        self._loop = asyncio.get_running_loop()
        self._turns: dict[tuple[str, str], asyncio.Lock] = {}
        self._open: Counter[tuple[str, str]] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def connect(self) -> socket.socket:
        """Return one end of a stream that is served: for a web application in the same process, in any thread."""
        ours, theirs = socket.socketpair()
        self._loop.call_soon_threadsafe(self.serve, theirs)
        return ours

    def serve(self, end: socket.socket) -> None:
        """Answer the inquiry that comes through a stream, in a task."""
        self._tasks.add(task := self._loop.create_task(self._serve(end)))
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """End all inquiries."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, end: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=end)
        try:
            inquiry = Inquiry.read(await reader.readline())
            answering = asyncio.ensure_future(self._answer(inquiry, AnswerWriter(writer)))
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait((answering, gone), return_when=asyncio.FIRST_COMPLETED)
            finally:
                answering.cancel()
                gone.cancel()
                await asyncio.gather(answering, gone, return_exceptions=True)
        except (ConnectionError, ValueError):
            return  # the caller has gone before it had asked
        finally:
            writer.close()

    async def _answer(self, inquiry: Inquiry, answer: AnswerWriter) -> None:
        try:
            await self._in_turn(inquiry, answer)
            await answer.send(_END)
        except ConnectionError:
            return  # the caller has gone
        except Exception as error:  # noqa: BLE001  whatever happens, the caller is told so, and polls go on
            failure = _failure_of(inquiry, error)
            with suppress(ConnectionError):
                await answer.send(_FAILURE, json.dumps([failure.reason, str(failure)]).encode())

    async def _in_turn(self, inquiry: Inquiry, answer: AnswerWriter) -> None:
        handler = self._handlers[inquiry.name]
        key = (inquiry.name, inquiry.account)
        if self._open[key] > self._most_waiting:
            raise InquiryError("busy", "too many requests to fal are waiting for this account; try again shortly")
        self._open[key] += 1
        try:
            async with self._turns.setdefault(key, asyncio.Lock()):
                await handler(inquiry, answer)
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key], self._turns[key]


def _failure_of(inquiry: Inquiry, error: Exception) -> InquiryError:
    match error:
        case InquiryError():
            return error
        case UpstreamError():
            return InquiryError(error.reason, str(error))
        case ConfigurationError():
            return InquiryError("configuration", str(error))
        case _:
            _log.error("an inquiry failed", inquiry=inquiry.name, error=type(error).__name__)
            _log.debug("traceback of the unexpected error", exc_info=error)
            return InquiryError("unexpected", "the collector failed to answer; see the exporter's log")


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Return the kind of the next frame and what it holds.

    Raises:
        InquiryError: it is a failure, or the collector is gone.
    """
    try:
        kind, length = _FRAME.unpack(await reader.readexactly(_FRAME.size))
        payload = await reader.readexactly(length)
    except (asyncio.IncompleteReadError, ConnectionError):
        raise InquiryError("gone", "the collector ended before its answer was complete; try again shortly") from None
    if kind == _FAILURE:
        reason, message = json.loads(payload)
        raise InquiryError(reason, message)
    return kind, payload
