"""Carriage of calls by another exporter: what it needs to know of a call, and what it brings back.

Replicas may divide who asks fal for which account (`exporter.app.division`). A call of an account that another replica
owns is laid down as an errand; that one makes it with its own key and its own way to fal, and brings back status,
headers and body as they were on the wire, or how it failed. Whoever has made the call reads that as if fal had answered
itself: decompression, limits, refusals and retries are where they always are. No key is ever part of an errand.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

import httpx

from exporter.fal.answers import scrubber
from exporter.fal.bodies import beginning, on_the_wire

_CARRIED = frozenset(
    {
        *("content-type", "content-encoding", "content-length", "date", "age", "location"),
        *("retry-after", "x-request-id", "x-fal-request-id"),
    }
)
_CARRIED_BEGINNINGS = ("ratelimit", "x-ratelimit", "x-fal-")

_OF_THE_WIRE = frozenset({"content-encoding", "content-length"})
_DIGITS = 19
"""Digits of a length that are looked at; 2**64 has one more."""

NO_CONTACT = frozenset({"ConnectError", "ConnectTimeout", "ProxyError"})
"""Failures of calls that have not reached fal."""

_LONGEST_TEXT = 1000
"""Characters of a header or of an error's words that are brought back."""


@dataclass(frozen=True, slots=True)
class Errand:
    """A call that another exporter makes; always a GET.

    Attributes:
        account: whose it is.
        place: which of fal's addresses, by its name; each exporter may have its own way there.
        target: path below that address, with the query.
        accept: the media type to ask for.
        key_hash: hash of the key with which it is to be made.
    """

    account: str
    place: str
    target: str
    accept: str
    key_hash: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Outcome of an errand.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        headers: those that matter, by names in small letters.
        body: as it was on the wire; not whole where it was too large or broke off.
        failure: name of the exception of httpx that ended it; empty where none did.
        detail: its words.
        is_tls: whether the failure was one of TLS.
    """

    status: int = 0
    headers: Mapping[str, str] | None = None
    body: bytes = b""
    failure: str = ""
    detail: str = ""
    is_tls: bool = False

    @property
    def lacks_contact(self) -> bool:
        """True if fal was not reached, which may be this exporter's own network or proxy."""
        return self.failure in NO_CONTACT

    def response(self, request: httpx.Request) -> httpx.Response:
        """Return the response of a request, as if it had come from fal.

        Raises:
            httpx.TransportError: there was no answer.
        """
        if not self.status:
            raise self._error(request)
        error = self._error(request) if self.failure else None
        return httpx.Response(
            self.status, headers=dict(self.headers or {}), stream=_Body(self.body, error), request=request
        )

    def _error(self, request: httpx.Request) -> httpx.TransportError:
        kind = getattr(httpx, self.failure, None)
        if not (isinstance(kind, type) and issubclass(kind, httpx.TransportError)):
            kind = httpx.ReadError
        error = kind(self.detail, request=request)
        if self.is_tls:
            error.__cause__ = ssl.SSLError(self.detail)
        return error


class _Body(httpx.AsyncByteStream):
    """A body that is there, and how it broke off."""

    def __init__(self, body: bytes, error: httpx.TransportError | None) -> None:
        self._body = body
        self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._body:
            yield self._body
        if self._error is not None:
            raise self._error


Send = Callable[[httpx.Request], Awaitable[httpx.Response]]
"""Asks fal; the response is streamed, and its reader closes it."""


class Carrier(Protocol):
    """Decides by whom a call is made."""

    async def send(self, request: httpx.Request, errand: Errand, direct: Send) -> httpx.Response:
        """Make a call, here or elsewhere.

        Args:
            request: with the key.
            errand: the same without it.
            direct: makes the call here.

        Raises:
            httpx.TransportError: there is no answer.
        """


async def brought(send: Callable[[], Awaitable[httpx.Response]], limit: int, key: str) -> Answer:
    """Make a call and return what comes of it, with no more of its body than its reader would take.

    Args:
        send: makes it.
        limit: bytes of a body on the wire.
        key: is taken out of what may repeat it: headers, words of errors, and the bodies of refusals.
    """
    scrub = scrubber(key)
    status, headers, body = 0, dict[str, str](), bytearray()
    try:
        response = await send()
        try:
            status = response.status_code
            headers = {name: scrub(value)[:_LONGEST_TEXT] for name, value in response.headers.items() if _matters(name)}
            if response.is_success:
                await _read(response, limit, body)
            else:
                body += _without(key, await beginning(response))
                # It is unpacked, and may be shorter.
                headers = {name: value for name, value in headers.items() if name not in _OF_THE_WIRE}
        finally:
            await response.aclose()
    except httpx.TransportError as error:
        return Answer(
            status,
            headers,
            bytes(body),
            failure=type(error).__name__,
            detail=scrub(str(error))[:_LONGEST_TEXT],
            is_tls=is_tls(error),
        )
    return Answer(status, headers, bytes(body))


async def _read(response: httpx.Response, limit: int, body: bytearray) -> None:
    """Add the body of a response, until it is too large for its reader."""
    promised = response.headers.get("content-length", "")
    if promised.isdecimal() and int(promised[:_DIGITS]) > limit:
        return
    async with aclosing(on_the_wire(response)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > limit:
                return


def _without(key: str, body: bytes) -> bytes:
    for part in (key, key.partition(":")[2]):
        body = body.replace(part.encode(), b"***") if part else body
    return body


def is_tls(error: BaseException | None) -> bool:
    """Return whether an error came of TLS."""
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _matters(name: str) -> bool:
    return name in _CARRIED or name.startswith(_CARRIED_BEGINNINGS)
