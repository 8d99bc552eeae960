"""What the two processes tell each other.

The collector sends publications, and a sentence when it has to give up; the web process sends the settings to start
with, which publications have been scraped, and the word to stop. A closed pipe means that the other side is gone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.metrics.publication import Parcel, Publication
from exporter.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from exporter.metrics.exposition import Exposition


@dataclass(frozen=True, slots=True)
class Begin:
    """The web process's first message."""

    settings: Settings


@dataclass(frozen=True, slots=True)
class Scraped:
    """A scrape has been answered from the publication with this number."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Stop:
    """The collector is to finish what it is writing and end."""


@dataclass(frozen=True, slots=True)
class GaveUp:
    """The collector ends because of an error that is shown as this sentence."""

    sentence: str
    exit_code: int


ToCollector = Begin | Scraped | Stop
FromCollector = Parcel | GaveUp


class Sending:
    """The collector's end for publications: sends what the web process does not have yet."""

    def __init__(self, connection: "Connection[FromCollector, ToCollector]") -> None:
        self._connection = connection
        self._sent: Exposition | None = None

    def __call__(self, publication: Publication) -> None:
        """Send a publication; waits until the web process has taken it."""
        parcel = publication.pack(self._sent)
        self._connection.send(parcel)
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
