"""One gzip member put together from pieces that were compressed apart.

Each piece is raw deflate (RFC 1951) ended by a full flush: it stops on a byte's edge and nothing after it refers to
what came before. Pieces can therefore be kept and joined in any order; a finished last piece, the checksum and the
length make them one ordinary gzip member (RFC 1952) that every decoder reads.
"""

import struct
import zlib
from collections.abc import Iterable

LEVEL = 5
"""Of 100,000 series in pieces of a thousand lines, level 6 makes 7 % less in a third more time; 1 makes 23 % more."""

_RAW = -zlib.MAX_WBITS
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


def deflated(plain: bytes, level: int = LEVEL) -> bytes:
    """Compress a piece that others may follow."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    return compressor.compress(plain) + compressor.flush(zlib.Z_FULL_FLUSH)


def gzip_start(pieces: Iterable[bytes]) -> bytes:
    """Join a member's header and its deflated pieces."""
    return b"".join((_HEADER, *pieces))


def gzip_end(tail: bytes, *, checksum: int, length: int, level: int = LEVEL) -> bytes:
    """Compress the last piece and close the member.

    Args:
        tail: the plain bytes of the last piece; may be empty.
        checksum: CRC-32 of all plain bytes before the tail.
        length: how many there are.
        level: zlib's compression level.
    """
    compressor = zlib.compressobj(level, zlib.DEFLATED, _RAW)
    size = (length + len(tail)) & 0xFFFFFFFF
    return compressor.compress(tail) + compressor.flush() + struct.pack("<II", zlib.crc32(tail, checksum), size)
