"""Bodies of fal's answers, taken in within bounds: bytes on the wire, bytes unpacked, and memory of parsed JSON.

httpx unpacks what one read of a socket gives in one go; 64 KiB of a gzip bomb become 64 MiB in that moment, and a body
that is compressed twice becomes any size. Here a body is unpacked in pieces of 64 KiB, only gzip and deflate are taken,
each only once, and whoever reads it is told when it has grown too large, before there is more of it.

JSON is larger in memory than as text: `0.1,` takes four bytes there and 112 here. `parsed_size` estimates that from
the text, so that a text within the limit that would take gigabytes is never parsed.
"""

import zlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import httpx

PIECE = 1 << 16
"""Bytes that are unpacked at once at most."""

ACCEPTED = "gzip, deflate"
"""Content codings to ask for."""

_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}

BOMB_RATIO = 500
"""Unpacked bytes for each on the wire above which a body is a decompression bomb: deflate reaches 1,032, and lines of
1,000 characters that differ in nothing but a number reach 200."""

_PARSED_PER_BYTE = 7
"""Estimated bytes in memory for each of the limit of an answer; rows of usage take 6."""

_OF_OBJECT, _OF_LIST, _OF_VALUE, _OF_NAME = 64, 64, 100, 30


class EncodingError(ValueError):
    """A body is not what its content coding promises; the message says why."""


class CutOffError(ValueError):
    """A compressed body ends before its last byte."""


class OversizeError(ValueError):
    """A body is larger than its limit, on the wire, unpacked or parsed; the message says how large it may be."""


def decoder_of(response: httpx.Response) -> "_Unpacked | None":
    """Return what unpacks the body of a response; None where it is not compressed.

    Raises:
        EncodingError: the content coding is unknown, or there are several.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding in {"", "identity"}:
        return None
    if coding not in _WINDOW_BITS:
        raise EncodingError(f"its Content-Encoding is {coding[:40]!r}, which was not asked for")
    return _Unpacked(coding)


_HEADER = 2
"""Bytes by which a header is told from what has none."""


class _Unpacked:
    """A compressed body, unpacked as it comes in."""

    def __init__(self, coding: str) -> None:
        self._bits = _WINDOW_BITS[coding]
        self._has_members = self._bits > zlib.MAX_WBITS
        self._inflate = zlib.decompressobj(self._bits)
        self._begun = False
        self._held = b""

    def pieces(self, raw: bytes) -> Iterator[bytes]:
        """Yield what some bytes of the wire become, never more than PIECE at once.

        Raises:
            EncodingError: they are not what was promised.
        """
        if not self._begun:
            # What comes in single bytes is unpacked once its header of two bytes can be told from raw deflate.
            raw, self._held = self._held + raw, b""
            if len(raw) < _HEADER:
                self._held = raw
                return
        while raw:
            if self._inflate.eof:
                if not self._has_members:
                    return
                # A gzip file may be several, one after the other.
                self._inflate = zlib.decompressobj(self._bits)
            try:
                piece = self._inflate.decompress(raw, PIECE)
            except zlib.error as error:
                if self._begun or self._has_members:
                    raise EncodingError(f"it cannot be decompressed: {error}") from None
                # Some servers call raw deflate what should have a header.
                self._inflate, self._begun = zlib.decompressobj(-zlib.MAX_WBITS), True
                continue
            self._begun = True
            if piece:
                yield piece
            raw = self._inflate.unused_data if self._inflate.eof else self._inflate.unconsumed_tail
        while not self._inflate.eof and (piece := self._inflate.decompress(b"", PIECE)):
            yield piece

    def finish(self) -> None:
        """Take note that there is no more.

        Raises:
            CutOffError: there should be.
        """
        if not self._inflate.eof:
            raise CutOffError("its compressed body ends too early")


async def unpacked(response: httpx.Response, limit: int, *, may_be_a_bomb: bool = True) -> AsyncGenerator[bytes, None]:
    """Yield the body of a response as it comes in, unpacked; no piece is empty.

    Args:
        response: its body has not been read.
        limit: bytes, on the wire as well as unpacked.
        may_be_a_bomb: whether any ratio of the two is taken, as the limit is small enough.

    Raises:
        OversizeError: the body passes the limit; nothing beyond it is unpacked.
        EncodingError, CutOffError: it cannot be unpacked.
        httpx.HTTPError: it breaks off.
    """
    promised = response.headers.get("content-length", "")
    if promised.isdecimal() and len(promised) < 20 and int(promised) > limit:  # noqa: PLR2004  digits of 2**64
        raise OversizeError(f"it is {promised} bytes long, and may be {limit}")
    decoder = decoder_of(response)
    size = wire = 0
    async with aclosing(on_the_wire(response)) as chunks:
        async for raw in chunks:
            wire += len(raw)
            for piece in (raw,) if decoder is None else decoder.pieces(raw):
                size += len(piece)
                if max(size, wire) > limit:
                    raise OversizeError(f"it is larger than {limit} bytes")
                if not may_be_a_bomb and size > BOMB_RATIO * (wire + PIECE):
                    raise OversizeError(
                        f"it unpacks to more than {BOMB_RATIO} times its size on the wire: a decompression bomb"
                    )
                yield piece
            if wire > limit:
                raise OversizeError(f"it is larger than {limit} bytes")
    if decoder is not None and wire:
        decoder.finish()


async def on_the_wire(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """Yield a body as it is on the wire."""
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the response must come from an asynchronous client")
    async for chunk in response.stream:
        if chunk:
            yield chunk


def parsed_size(body: bytes | bytearray) -> int:
    """Return about how many bytes a JSON text takes once it is parsed, at most."""
    return (
        _OF_OBJECT * body.count(b"{")
        + _OF_LIST * body.count(b"[")
        + _OF_VALUE * body.count(b",")
        + _OF_NAME * body.count(b":")
    )


def check_parsed_size(body: bytes | bytearray, limit: int) -> None:
    """Refuse a JSON text that is short and would still take too much memory.

    Raises:
        OversizeError: it would take more than `limit` allows.
    """
    if parsed_size(body) > _PARSED_PER_BYTE * limit:
        raise OversizeError(f"its JSON would take more than {_PARSED_PER_BYTE * limit} bytes of memory")


MOST_OF_A_REFUSAL = 1 << 16
"""Bytes of an error's body that are read; what fal says of an error is at its beginning."""


async def beginning(response: httpx.Response) -> bytes:
    """Return the first bytes of a body, which need not be complete or well compressed.

    Raises:
        httpx.HTTPError: it breaks off.
    """
    found = bytearray()
    try:
        decoder = decoder_of(response)
    except EncodingError:
        return b""
    async with aclosing(on_the_wire(response)) as chunks:
        async for raw in chunks:
            try:
                for piece in (raw,) if decoder is None else decoder.pieces(raw):
                    found += piece
                    if len(found) >= MOST_OF_A_REFUSAL:
                        return bytes(found[:MOST_OF_A_REFUSAL])
            except EncodingError:
                break
    return bytes(found)
