"""An encoded snapshot in pieces, and how to ship only the pieces a receiver lacks.

The collector process encodes, the web process serves. Between two expositions most pieces are the same objects; a
delta carries the numbers of all and the bytes of the new ones.
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole lines.

    Attributes:
        number: never used for other bytes by the same encoder.
        plain: the lines, UTF-8.
        deflated: the same, compressed by `exporter.metrics.compression.deflated`.
    """

    number: int
    plain: bytes
    deflated: bytes


@dataclass(frozen=True, slots=True)
class Rendering:
    """An exposition in one format, without its end.

    Attributes:
        length: plain bytes in all pieces.
        checksum: their CRC-32.
    """

    pieces: tuple[Piece, ...] = ()
    length: int = 0
    checksum: int = 0


def rendering(pieces: Iterable[Piece]) -> Rendering:
    """Join pieces."""
    joined = tuple(pieces)
    length = checksum = 0
    for piece in joined:
        length += len(piece.plain)
        checksum = zlib.crc32(piece.plain, checksum)
    return Rendering(joined, length, checksum)


@dataclass(frozen=True, slots=True)
class RenderingDelta:
    """A rendering whose pieces are named, not held."""

    numbers: tuple[int, ...]
    length: int
    checksum: int


@dataclass(frozen=True, slots=True)
class ExpositionDelta:
    """What a holder of an earlier exposition needs to have a later one."""

    text: RenderingDelta
    openmetrics: RenderingDelta
    new: tuple[Piece, ...]

    def apply(self, previous: "Exposition | None") -> "Exposition":
        """Return the exposition, with the previous one's pieces where they are the same.

        Raises:
            ValueError: the previous exposition is not the one the delta was made for.
        """
        held = {} if previous is None else previous.pieces()
        held.update((piece.number, piece) for piece in self.new)
        return Exposition(_assembled(self.text, held), _assembled(self.openmetrics, held))


@dataclass(frozen=True, slots=True)
class Exposition:
    """An encoded snapshot: text 0.0.4 and OpenMetrics 1.0 (without `# EOF`)."""

    text: Rendering = Rendering()
    openmetrics: Rendering = Rendering()

    def pieces(self) -> dict[int, Piece]:
        """Return all pieces by number."""
        return {piece.number: piece for piece in (*self.text.pieces, *self.openmetrics.pieces)}

    def delta_from(self, previous: "Exposition | None") -> ExpositionDelta:
        """Return what a holder of the previous exposition (None: of nothing) lacks."""
        known = {} if previous is None else previous.pieces()
        new = tuple(piece for number, piece in self.pieces().items() if number not in known)
        return ExpositionDelta(_named(self.text), _named(self.openmetrics), new)


def _named(whole: Rendering) -> RenderingDelta:
    return RenderingDelta(tuple(piece.number for piece in whole.pieces), whole.length, whole.checksum)


def _assembled(delta: RenderingDelta, held: dict[int, Piece]) -> Rendering:
    try:
        pieces = tuple(held[number] for number in delta.numbers)
    except KeyError as missing:
        raise ValueError(f"piece {missing} is in neither the delta nor the exposition it is applied to") from None
    return Rendering(pieces, delta.length, delta.checksum)
