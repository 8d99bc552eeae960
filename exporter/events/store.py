"""Doors of the store: one for the process that reads fal and writes, one for everybody who asks about requests."""

from collections.abc import Collection
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Protocol
from urllib.parse import unquote, urlsplit

from exporter.charges import Requests, Window
from exporter.errors import ConfigurationError
from exporter.events.objects import MISSING_EXTRA, REQUESTS, Folder, Objects, Use
from exporter.events.questions import RequestsQuestion, StoredRequest
from exporter.events.summaries import HourSummary

_MEBIBYTE = 2**20
_READERS_MEMORY = 128 * _MEBIBYTE
_READERS_THREADS = 2
_WRITERS_MEMORY = 96 * _MEBIBYTE


class EventReader(Protocol):
    """Requests that have been read from fal; may be asked from any thread, beside the process that writes.

    Raises:
        EventsError: from every method: the store cannot be read.
    """

    def close(self) -> None:
        """Let go of the store."""

    def find(
        self, request_id: str, *, days: Collection[date] | None = None, damaged: list[str] | None = None
    ) -> StoredRequest | None:
        """Return the request with an id; None where there is none.

        Args:
            request_id: fal's.
            days: of UTC, in which to look; None for all.
            damaged: takes a sentence about each damaged file, which is then left out; None if one is an error.
        """

    def select(self, question: RequestsQuestion, *, damaged: list[str] | None = None) -> list[StoredRequest]:
        """Return the requests that a question asks for, at most as many as its limit.

        Args:
            question: what is asked.
            damaged: takes a sentence about each damaged file, which is then left out; None if one is an error.
        """

    def costs_of(self, request_ids: Collection[str]) -> dict[str, StoredRequest]:
        """Return the requests with these ids, by id."""

    def sums(self, window: Window) -> dict[tuple[str, datetime, str], int]:
        """Return what the requests of a window cost in nano-USD, by account, hour and model."""

    def summaries(self, account: str, window: Window) -> tuple[HourSummary, ...]:
        """Return the sums of the hours of a window that have been read to their end, oldest first."""

    def read_hours(self, account: str, window: Window) -> dict[datetime, int]:
        """Return the hours of a window that have been read to their end, with how many rows of each were rejected."""

    def document(self, name: str) -> bytes | None:
        """Return a small document that is kept beside the requests; None where there is none."""

    def accounts(self) -> tuple[str, ...]:
        """Return the accounts of which there are requests."""

    def export(self, question: RequestsQuestion, path: Path, *, in_order: bool = True) -> int:
        """Write all requests that a question asks for, whatever its limit, as a Parquet file; return their count.

        Args:
            question: its order is the file's where that is wanted; sorting takes half of the time.
            path: of the file.
            in_order: whether it is wanted.
        """


class EventStore(EventReader, Protocol):
    """The same for the one process that writes, from one thread.

    Raises:
        EventsError: from every method: the store cannot be written; what was there before is still there.
    """

    def clean(self) -> None:
        """Delete what an earlier process has left unfinished."""

    def keep_document(self, name: str, content: bytes) -> None:
        """Write a small document, whole."""

    def keep_part(self, account: str, hour: datetime, read_at: datetime, number: int, requests: Requests) -> None:
        """Keep a part of a reading that is under way; the same part may be kept again."""

    def keep_hour(
        self,
        account: str,
        hour: datetime,
        read_at: datetime,
        parts: int,
        requests: Requests,
        *,
        rejected: int = 0,
    ) -> HourSummary:
        """Keep an hour that has been read to its end in place of what was known of it, and return its sums.

        Args:
            account: whose.
            hour: read.
            read_at: when the reading began.
            parts: so many have been kept of it.
            requests: what was read after them.
            rejected: rows of the reading that could not be read.
        """

    def check(self, account: str) -> tuple[str, ...]:
        """Set damaged files aside, and forget the sums of hours whose files are gone: they are to be read again.

        Return a sentence about each damaged file.
        """

    def drop_stale(self, account: str, day: date) -> int:
        """Delete what no longer counts of a day; return how much that was."""

    def compact(self, account: str, day: date) -> bool:
        """Join a day that is over; return whether there was something to do."""

    def days(self, account: str) -> tuple[date, ...]:
        """Return the days of which there are requests, oldest first."""

    def expire(self, account: str, before: date) -> int:
        """Delete the days before a day; return how much that was."""


def open_reader(url: str) -> EventReader:
    """Open a store for questions.

    Args:
        url: `file:///folder`, `s3://bucket/prefix`, `gs://...`, `az://...` or `clickhouse://user:password@host/db`.

    Raises:
        ConfigurationError: the libraries are missing, or the address cannot be used.
    """
    return _opened(url, memory=_READERS_MEMORY, threads=_READERS_THREADS)


class SharedReader:
    """A store that is opened when it is asked for first, and once, for all who ask in this process."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._lock = Lock()
        self._opened: EventReader | None = None

    def __call__(self) -> EventReader:
        """Return the store.

        Raises:
            ConfigurationError, EventsError: as `open_reader`; the next one who asks tries again.
        """
        with self._lock:
            if self._opened is None:
                self._opened = open_reader(self._url)
            return self._opened

    def close(self) -> None:
        """Let go of the store."""
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None


def open_store(url: str) -> EventStore:
    """Open a store for the process that writes; its memory is small, as polls and scrapes go first.

    Nothing is asked of it yet: what is not there now may be there when the first requests are read.

    Raises:
        ConfigurationError: as `open_reader`.
    """
    if find_spec("msgspec") is None:
        # fal's pages could not be read; better said now than at the first poll.
        raise ConfigurationError(MISSING_EXTRA)
    return _opened(url, memory=_WRITERS_MEMORY, threads=1)


def _opened(url: str, *, memory: int, threads: int) -> EventStore:
    if url.startswith(("clickhouse://", "clickhouses://")):
        from exporter.events.clickhouse_store import ClickHouseStore

        return ClickHouseStore(url)
    from exporter.events.parquet_store import ParquetStore

    return ParquetStore(open_objects(url), memory=memory, threads=threads)


def open_objects(url: str, use: Use = REQUESTS) -> Objects:
    """Open the place with an address.

    Raises:
        ConfigurationError: the address is not valid, or its libraries are missing.
    """
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Folder(Path(unquote(parts.path)), use)
    try:
        from exporter.events.bucket import Bucket
    except ImportError:
        raise ConfigurationError(use.missing) from None
    return Bucket(url, use)
