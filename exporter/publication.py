"""Publications: an encoded exposition and the overview, as the collector hands them to the web process.

The collector process encodes, the web process serves. Between two expositions most pieces are the same objects; a
delta carries the numbers of all and the bytes of the new ones.

The collector sends publications, and a sentence when it has to give up; the web process sends the settings to start
with, which publications have been scraped, and the word to stop. A closed pipe means that the other side is gone.
"""

import signal
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from exporter.forecasting.state import Outlook
from exporter.overview import Overview

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from exporter.settings import Settings


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of whole lines.

    Attributes:
        number: never used for other bytes by the same encoder.
        plain: the lines, UTF-8.
        deflated: the same, compressed by `exporter.metrics.encoding.deflated`.
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
    """Difference that turns an earlier exposition into a later one."""

    text: RenderingDelta
    openmetrics: RenderingDelta
    protobuf: RenderingDelta
    new: tuple[Piece, ...]

    def apply(self, previous: "Exposition | None") -> "Exposition":
        """Return the exposition, with the previous one's pieces where they are the same.

        Raises:
            ValueError: the previous exposition is not the one the delta was made for.
        """
        held = {} if previous is None else previous.pieces()
        held.update((piece.number, piece) for piece in self.new)
        return Exposition(
            _assembled(self.text, held), _assembled(self.openmetrics, held), _assembled(self.protobuf, held)
        )


@dataclass(frozen=True, slots=True)
class Exposition:
    """An encoded snapshot: text 0.0.4, OpenMetrics 1.0 (without `# EOF`), and protobuf once somebody asked for it."""

    text: Rendering = Rendering()
    openmetrics: Rendering = Rendering()
    protobuf: Rendering = Rendering()

    def pieces(self) -> dict[int, Piece]:
        """Return all pieces by number."""
        formats = (self.text, self.openmetrics, self.protobuf)
        return {piece.number: piece for whole in formats for piece in whole.pieces}

    def delta_from(self, previous: "Exposition | None") -> ExpositionDelta:
        """Return what a holder of the previous exposition (None: of nothing) lacks."""
        known = {} if previous is None else previous.pieces()
        # By identity: where another replica has become the leader, its numbers are of other bytes.
        new = tuple(piece for number, piece in self.pieces().items() if known.get(number) is not piece)
        return ExpositionDelta(_named(self.text), _named(self.openmetrics), _named(self.protobuf), new)


def _named(whole: Rendering) -> RenderingDelta:
    return RenderingDelta(tuple(piece.number for piece in whole.pieces), whole.length, whole.checksum)


def _assembled(delta: RenderingDelta, held: dict[int, Piece]) -> Rendering:
    try:
        pieces = tuple(held[number] for number in delta.numbers)
    except KeyError as missing:
        raise ValueError(f"piece {missing} is in neither the delta nor the exposition it is applied to") from None
    return Rendering(pieces, delta.length, delta.checksum)


NO_OUTLOOK = Outlook()

Role = Literal["alone", "leader", "follower"]


@dataclass(frozen=True, slots=True)
class PublicationDelta:
    """A publication on its way to a process that holds the one before."""

    sequence: int
    at: datetime
    delta: ExpositionDelta
    overview: Overview
    ready: bool
    outlook: Outlook = NO_OUTLOOK
    role: Role = "alone"

    def unpack(self, previous: Exposition | None) -> "Publication":
        """Return the publication.

        Raises:
            ValueError: the previous exposition is not the one this was packed for.
        """
        return Publication(
            self.sequence, self.at, self.delta.apply(previous), self.overview, self.ready, self.outlook, self.role
        )


@dataclass(frozen=True, slots=True)
class Publication:
    """An immutable state of everything that is served.

    Attributes:
        sequence: the snapshot's number.
        at: the snapshot's instant, aware and in UTC.
        ready: whether the current month has been loaded once.
        role: of the exporter that serves it, among the replicas of a ledger.
    """

    sequence: int
    at: datetime
    exposition: Exposition
    overview: Overview
    ready: bool
    outlook: Outlook = NO_OUTLOOK
    role: Role = "alone"

    def pack(self, previous: Exposition | None) -> PublicationDelta:
        """Return it without the pieces that a holder of the previous exposition (None: of nothing) has."""
        return PublicationDelta(
            self.sequence,
            self.at,
            self.exposition.delta_from(previous),
            self.overview,
            self.ready,
            self.outlook,
            self.role,
        )


LEFT_TO_THE_WEB_PROCESS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that reach the collector with the whole process group, and are the web process's to act on."""


@dataclass(frozen=True, slots=True)
class Begin:
    """The web process's first message."""

    settings: "Settings"


@dataclass(frozen=True, slots=True)
class Scraped:
    """A scrape has been answered from the publication with this number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class WriteProtobuf:
    """Somebody scrapes protobuf: publications are to have it from now on."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The collector is to finish what it is writing and end."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The collector ends because of an error that is shown as this sentence."""

    sentence: str
    exit_code: int


ToCollector = Begin | Scraped | WriteProtobuf | Stop
FromCollector = PublicationDelta | GaveUp


class Sending:
    """The collector's end for publications: sends what the web process does not have yet."""

    def __init__(self, connection: "Connection[FromCollector, ToCollector]") -> None:
        self._connection = connection
        self._sent: Exposition | None = None

    def __call__(self, publication: Publication) -> None:
        """Send a publication; waits until the web process has taken it."""
        delta = publication.pack(self._sent)
        self._connection.send(delta)
        self._sent = publication.exposition


class Receiving:
    """The web process's end."""

    def __init__(self, connection: "Connection[ToCollector, FromCollector]") -> None:
        self._connection = connection
        self._held: Exposition | None = None

    def __call__(self) -> Publication | GaveUp:
        """Wait for the next publication, or for the collector to give up.

        Raises:
            EOFError: the collector is gone.
        """
        message = self._connection.recv()
        if isinstance(message, GaveUp):
            return message
        publication = message.unpack(self._held)
        self._held = publication.exposition
        return publication
