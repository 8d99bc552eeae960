"""Connections of a server: bounded in number, in time and in memory, so that scrapes and probes always get through.

A client can open connections and send nothing, or send the half of a request, for as long as it likes. So a server has
room for so many connections, in all and of one address. When there is none, a new one takes the place of the one that
has waited longest: idle ones first, and half-sent requests; then answers that nobody has fetched for a while. A scrape
and a probe are over within milliseconds, and so are never the oldest.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, cast

import structlog
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_log = structlog.get_logger(__name__)

Stage = Literal["head", "body", "answer"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the connections of one server.

    Attributes:
        most: connections in all; below the 1,024 files that a process may have open on many systems, for two servers.
        most_of_address: connections of one address; a proxy is one.
        head: seconds from a connection's begin, or a request's first byte, to the end of its headers.
        body: seconds from there to the end of its body.
        unfetched: seconds after which an answer may be given up for a new connection.
        head_size: bytes of a request's line and headers.
        headers: number of headers.
    """

    most: int = 400
    most_of_address: int = 200
    head: float = 10.0
    body: float = 20.0
    unfetched: float = 30.0
    head_size: int = 64 * 2**10
    headers: int = 100


class Connections:
    """Connections of one server, by what they wait for.

    Args:
        limits: their bounds.
        clock: seconds that never go back.
    """

    def __init__(self, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits = limits or Limits()
        self.ended = 0
        """Connections that were ended to make room, or for taking too long."""
        self._clock = clock
        self._open: dict[Connection | Handshake, _State] = {}
        self._of_address: Counter[str] = Counter()
        self._told_at: float | None = None

    def __len__(self) -> int:
        """Return how many are open."""
        return len(self._open)

    def opened(self, connection: "Connection | Handshake") -> None:
        """Take in a new connection, in the place of another one where there is no room."""
        address = connection.address
        if self._of_address[address] >= self.limits.most_of_address:
            self._make_room(lambda other: other.address == address)
        elif len(self._open) >= self.limits.most:
            self._make_room(lambda _: True)
        self._open[connection] = _State("head", self._clock(), is_idle=False)
        self._of_address[address] += 1
        if len(self._open) > self.limits.most + _RESERVE:
            self._end([connection], "there are too many connections with answers under way; a new one was ended")

    def closed(self, connection: "Connection | Handshake") -> None:
        """Forget a connection."""
        if self._open.pop(connection, None) is not None:
            self._of_address[connection.address] -= 1
            if not self._of_address[connection.address]:
                del self._of_address[connection.address]

    def waits_for(self, connection: "Connection", stage: Stage, *, is_idle: bool = False) -> None:
        """Note what a connection waits for from now on; an idle one has no request begun."""
        if connection in self._open:
            self._open[connection] = _State(stage, self._clock(), is_idle=is_idle)

    def end_late(self) -> None:
        """End connections that take longer than allowed for a request's head or body."""
        now = self._clock()
        allowed = {"head": self.limits.head, "body": self.limits.body}
        late = [
            connection
            for connection, state in self._open.items()
            if not state.is_idle and state.stage in allowed and now - state.since > allowed[state.stage]
        ]
        self._end(late, "connections were ended because a request took too long to arrive")

    def _make_room(self, is_candidate: Callable[["Connection | Handshake"], bool]) -> None:
        now = self._clock()
        waiting = [
            (state.stage == "answer", state.since, number, connection)
            for number, (connection, state) in enumerate(self._open.items())
            if is_candidate(connection) and (state.stage != "answer" or now - state.since > self.limits.unfetched)
        ]
        if waiting:
            *_, oldest = min(waiting)
            self._end([oldest], "there are too many connections; the one that waited longest was ended for a new one")

    def _end(self, connections: list["Connection | Handshake"], why: str) -> None:
        for connection in connections:
            self.closed(connection)
            connection.transport.abort()
        self.ended += len(connections)
        now = self._clock()
        if connections and (self._told_at is None or now - self._told_at > _QUIET):
            self._told_at = now
            _log.warning(why, open=len(self._open), ended=self.ended, client=connections[0].address)


_RESERVE = 100
"""Connections beyond the most while all others have answers under way."""

_QUIET = 60.0
"""Seconds between two lines of the log about ended connections."""


@dataclass(slots=True)
class _State:
    stage: Stage
    since: float
    is_idle: bool


class Handshake:
    """A connection whose encryption is being agreed upon; it has a place, and is bounded in time, as any other.

    Args:
        address: of the client.
        abort: ends it.
    """

    def __init__(self, address: str, abort: Callable[[], object]) -> None:
        self.address = address
        self._abort = abort

    @property
    def transport(self) -> "Handshake":
        """The handshake itself: it is ended as a connection's transport is."""
        return self

    def abort(self) -> None:
        """End it at once."""
        self._abort()


class _Chunks:
    """The end of a body that comes in chunks (RFC 9112, section 7.1), of which a part has been seen.

    The parser finds it too, and takes what follows for the next request at once; here it is found beforehand.

    Args:
        most: bytes of trailers, which the parser keeps until the end of the body.
    """

    def __init__(self, most: int) -> None:
        self.is_over = False
        self.is_too_large = False
        """True once a line is longer than anybody needs, or the trailers are; the end is not looked for any more."""
        self._left = 0
        self._line = b""
        self._is_trailer = False
        self._trailers_left = most

    def end(self, data: bytes, start: int, stop: int) -> int:
        """Return up to where bytes between two places belong to the body."""
        while start < stop and not self.is_over and not self.is_too_large:
            if self._left:
                skipped = min(self._left, stop - start)
                start, self._left = start + skipped, self._left - skipped
                continue
            end = data.find(b"\n", start, stop) + 1 or stop
            if self._is_trailer:
                self._trailers_left -= end - start
            self._line, start = self._line + data[start:end], end
            self.is_too_large = len(self._line) > _PART or self._trailers_left < 0
            if self._line.endswith(b"\n"):
                self._take(self._line.rstrip(b"\r\n"))
                self._line = b""
        return start

    def _take(self, line: bytes) -> None:
        if self._is_trailer:
            self.is_over = not line
            return
        size = _CHUNK_SIZE.match(line)
        # Of anything else the parser says that it is wrong.
        length = int(size[0], 16) if size else 0
        self._is_trailer = not length
        self._left = length + len(b"\r\n") if length else 0


class _TlsTransport(Protocol):
    """A transport that encrypts, as asyncio and uvloop have it."""

    def set_read_buffer_limits(self, high: int) -> None:
        """Take no more from the client once so many bytes have not been decrypted."""


class _Flow(FlowControl):
    """Takes nothing more from a connection while something waits to be read that it has sent before."""

    def __init__(self, transport: asyncio.Transport, has_unread: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._has_unread = has_unread

    def resume_reading(self) -> None:
        """Take more, unless something waits."""
        if not self._has_unread():
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection, whose requests must arrive within bounds; made by `protocol_of`.

    A client may send the next requests without waiting for answers. Each is read when the one before is answered: what
    has arrived at once could hold thousands, which take a hundred times their size in memory, and the time of others.
    """

    all: Connections
    handshake: Handshake | None = None
    """Where there was one; its place is this connection's."""
    address = ""
    _head = 0
    _stage: Stage = "head"
    _is_refused = False
    _has_begun = False
    _unread = b""
    _last = b""
    _missing = 0
    _chunks: _Chunks | None = None
    _is_unparsed = False
    _has_ended = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        super().connection_made(transport)
        self.flow = _Flow(transport, lambda: bool(self._unread))
        self.address = self.client[0] if self.client else ""
        if self.handshake is not None:
            self.all.closed(self.handshake)
            # As without TLS, where it is eight times as much, and four times as much that is read ahead.
            transport.set_write_buffer_limits(_UNFETCHED)
            cast("_TlsTransport", transport).set_read_buffer_limits(_UNFETCHED)
        self.all.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.all.closed(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the next bytes; those behind a request that is not answered yet wait."""
        if self._unread:
            self._unread += data
            self.flow.pause_reading()
        else:
            self._read(data)

    def _read(self, data: bytes) -> None:
        start = 0
        while start < len(data) and not self._is_refused and not self.transport.is_closing():
            if self._is_answering:
                self._unread = data[start:]
                self.flow.pause_reading()
                return
            part = self._first_part(data, start)
            if self._chunks is not None and self._chunks.is_too_large:
                self._refuse(_TOO_LARGE)
                return
            self._read_part(part)
            start += len(part)
            if self._chunks is not None and self._chunks.is_over is (self._stage == "body"):
                # The parser has it that the body ends elsewhere: what follows could be taken for anything.
                self._refuse(_MALFORMED)

    def _first_part(self, data: bytes, start: int) -> bytes:
        """Return the bytes from there on that belong to one request."""
        if self._chunks is not None:
            return data[start : self._chunks.end(data, start, min(start + _PART, len(data)))]
        if self._stage == "body":
            part = data[start : start + (self._missing or _PART)]
            self._missing = max(self._missing - len(part), 0)
            return part
        part = data[start : start + _PART]
        # The end of a head may have come in two pieces.
        end = (self._last + part).find(_END_OF_HEAD)
        if end >= 0:
            part = part[: end + len(_END_OF_HEAD) - len(self._last)]
        self._last = (self._last + part)[-len(_END_OF_HEAD) + 1 :] if end < 0 else b""
        return part

    def _read_on(self) -> None:
        if not self._is_answering:
            unread, self._unread = self._unread, b""
            self._read(unread)
            if self._has_ended:
                self._end_if_answered()
            else:
                self.flow.resume_reading()

    @property
    def _is_answering(self) -> bool:
        """True if a request has arrived as a whole whose answer is not complete."""
        return self._has_begun and self._stage == "head" and not self.cycle.response_complete

    def _read_part(self, data: bytes) -> None:
        """Read some bytes; refuse a head that grows too large before its end."""
        if self._is_unparsed:
            self._unset_keepalive_if_required()
            self.on_body(data)
            self.on_message_complete()
            return
        if self._stage == "head":
            if not self._head:
                self.all.waits_for(self, "head")
            self._head += len(data)
        super().data_received(data)
        if self._stage == "head" and self._head > self.all.limits.head_size:
            self._refuse(_TOO_LARGE)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a field behind the body is none.

        No application reads such trailers, and whoever stands before this server and looks at headers has not seen them
        (RFC 9110, section 6.5.1).
        """
        if self._stage != "body":
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begin a request; one with too many or too large headers is refused."""
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > self.all.limits.head_size or len(self.headers) > self.all.limits.headers:
            self._refuse(_TOO_LARGE)
            return
        if self.parser.should_upgrade() and any(name == b"transfer-encoding" for name, _ in self.headers):
            self._refuse(_UNREADABLE)
            return
        # RFC 9112, section 3.2. HTTP/1.0, which some probes speak, may go without.
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            self._refuse(_NO_HOST)
            return
        self._take_host()
        self._has_begun = True
        self._stage, self._head, self._last = "body", 0, b""
        length = next((value for name, value in self.headers if name == b"content-length"), b"0")
        self._missing = int(length)
        self._chunks = (
            _Chunks(self.all.limits.head_size)
            if any(name == b"transfer-encoding" for name, _ in self.headers)
            else None
        )
        # The parser takes a request that asks for another protocol to end with its head, and its body for the next.
        self._is_unparsed = self.parser.should_upgrade() and self._missing > 0
        self.all.waits_for(self, "body")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Pass on a part of a body."""
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to wait for the answer to be made and fetched."""
        if self._is_refused or (self._is_unparsed and self._missing):
            return
        self._stage, self._is_unparsed = "head", False
        if self._chunks is not None and self._chunks.is_over:
            self._chunks = None
        if self.cycle.response_complete:
            self.all.waits_for(self, "head", is_idle=True)
        else:
            self.all.waits_for(self, "answer")
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        is_idle = self._stage == "head" and not self._head and not self._unread
        self.all.waits_for(self, self._stage, is_idle=is_idle)
        super().on_response_complete()
        if self._unread:
            # In the loop's next turn: others come first.
            self.loop.call_soon(self._read_on)
        elif self._has_ended:
            self._end_if_answered()

    def eof_received(self) -> bool:  # type: ignore[override]  # None is False
        """Have a client that sends nothing more get the answers to what it has sent as a whole; return whether it may.

        Who has closed the connection altogether looks the same. So a question that takes long is given up after a
        while, as nobody may wait for it. By TLS nothing can be sent to a client that has ended its side.
        """
        if self.transport.get_extra_info("ssl_object") is not None or not (self._is_answering or self._unread):
            return False
        if not self._has_ended:
            self._has_ended = True
            self.loop.call_later(_LINGER, self._give_up)
        return True

    def _give_up(self) -> None:
        if not (self._is_answering and self.cycle.response_started):
            self.transport.close()

    def _end_if_answered(self) -> None:
        if not (self._is_answering or self._unread):
            self.transport.close()

    def _take_host(self) -> None:
        """Put the host of a URL that is asked for as a whole, as proxies are asked, in the place of `Host`.

        So RFC 9112 says it in section 3.2.2; whoever looks at the name would be deceived otherwise.
        """
        scheme, separator, rest = self.url.partition(b"://")
        if not separator or b"/" in scheme or b"?" in scheme:
            return
        authority = re.split(rb"[/?#]", rest, maxsplit=1)[0]
        path = rest[len(authority) :]
        self.url = path if path.startswith(b"/") else b"/" + path
        host = authority.rpartition(b"@")[2]
        # Several remain several, which are none.
        self.headers[:] = [(name, host if name == b"host" else value) for name, value in self.headers]

    def _should_upgrade(self) -> bool:
        """Return False: no other protocol is spoken, and HTTP lets a server go on as if nobody had asked."""
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """Do not advise to install a library for it."""

    def _refuse(self, why: tuple[bytes, bytes]) -> None:
        self._is_refused = True
        if self._stage == "body" and self.cycle.response_started:
            # A second answer to one request would be taken for that to the next.
            self.transport.close()
            return
        status, sentence = why
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (status, len(sentence), sentence)
        )
        self.transport.close()


def protocol_of(connections: Connections) -> type[Connection]:
    """Return the HTTP protocol of a server."""
    return type("ServerConnection", (Connection,), {"all": connections})


_TOO_LARGE = (b"431 Request Header Fields Too Large", b"the request has too many or too large headers\n")
_UNREADABLE = (
    b"501 Not Implemented",
    b"the body of a request with the header Upgrade can be read only with Content-Length; leave Upgrade out\n",
)
_NO_HOST = (b"400 Bad Request", b"a request must have one Host header (RFC 9112, section 3.2)\n")
"""Refusals: status and sentence."""

_UNFETCHED = 2**16
"""Bytes of answers that are made ahead of being fetched; an answer that has been begun is made to its end."""

_MALFORMED = (b"400 Bad Request", b"the chunks of the body are malformed\n")

_LINGER = 2.0
"""Seconds after which an answer that has not begun is not made any more for a client that has ended its side."""

_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")

_PART = 4096
"""Bytes that are read at once of a head, and of a body whose length is not announced."""

_END_OF_HEAD = b"\r\n\r\n"

_SWEEP = 1.0


async def end_late_ones(connections: Connections) -> None:
    """End late connections every second, until cancelled."""
    while True:
        await asyncio.sleep(_SWEEP)
        connections.end_late()
