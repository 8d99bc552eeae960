"""Calls to fal: what a call is, how patient the client is with it, and what it reports while it works."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote


class Host(StrEnum):
    """Host of fal that answers a call."""

    PLATFORM = "platform"
    REPORTING = "reporting"


class Scope(StrEnum):
    """Scope that a key needs for a call to succeed."""

    API = "api"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of fal's interfaces; all are read with GET.

    Attributes:
        path: below the host's base URL, parts that differ from call to call in braces; also the value of the `call`
            label.
        values: of the parts in braces, by name.
    """

    host: Host
    path: str
    scope: Scope = Scope.ADMIN
    values: tuple[tuple[str, str], ...] = ()

    def of(self, **values: str) -> "Endpoint":
        """Return the call for some values of the parts in braces."""
        return replace(self, values=tuple(values.items()))

    @property
    def url_path(self) -> str:
        """The path with all its parts, escaped."""
        filled = self.path
        for name, value in self.values:
            filled = filled.replace(f"{{{name}}}", quote(value, safe=""))
        return filled


Parameters = dict[str, str | list[str]]
"""A call's query; a list is sent as a repeated parameter."""

MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one account's traffic.

    Attributes:
        connect_timeout: for the connection with its TLS handshake.
        read_timeout: for the silence before and within an answer.
        deadline: for all requests of one poll together, waits between them included.
        requests_at_once: how many requests may be under way.
        attempts: how often one request is made at most, the first time included.
        first_backoff: the wait before the second attempt; it doubles from attempt to attempt.
        longest_backoff: where the doubling ends; a `Retry-After` of fal's may be longer.
        page_rows: the `limit` asked for a page.
        pages: how many pages one answer may have beyond those that its rows would fill.
        rows: how many rows one answer may have over all its pages; for reports of usage, how many of them are kept.
        rows_per_hour: how many rows one hour of usage may have on average.
        events_per_hour: how many billing events one hour may have.
        answer_bytes: how large a page may be, after decompression as well as before.
        report_bytes: how large a report may be, which is streamed and never held in memory.
        report_deadline: for a report and all attempts at it, where no poll sets a shorter one.
    """

    connect_timeout: timedelta = timedelta(seconds=10)
    read_timeout: timedelta = timedelta(seconds=60)
    deadline: timedelta = timedelta(minutes=4)
    requests_at_once: int = 4
    attempts: int = 5
    first_backoff: timedelta = timedelta(milliseconds=500)
    longest_backoff: timedelta = timedelta(seconds=30)
    page_rows: int = 1000
    pages: int = 250
    rows: int = 1_500_000
    rows_per_hour: int = 100_000
    events_per_hour: int = 20_000_000
    answer_bytes: int = 32 * MEBIBYTE
    report_bytes: int = 64 * 1024 * MEBIBYTE
    report_deadline: timedelta = timedelta(hours=2)


class Deadline:
    """An instant on the monotonic clock after which a poll makes no more requests."""

    def __init__(self, span: timedelta, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.span = span
        self._monotonic = monotonic
        self._at = monotonic() + span.total_seconds()

    def extend(self, seconds: float) -> None:
        """Move the instant: so long nothing could be done towards it."""
        self._at += seconds

    @property
    def remaining(self) -> float:
        """The seconds left; negative once it has passed."""
        return self._at - self._monotonic()


class Observer(Protocol):
    """Hears of every request; called on the event loop, so it must be quick and must not raise."""

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        """One request has ended: `code` is the HTTP status, or `error` when no whole answer came."""

    def clock_compared(self, ahead: float) -> None:
        """An answer has shown by how many seconds this system's clock is ahead of fal's; negative where behind."""

    def retried(self, account: str, call: str) -> None:
        """A request is about to be made again."""

    def locked(self, account: str, reason: str) -> None:
        """The account is locked for a reason (one of `LOCK_REASONS`) that was not known before."""

    def unlocked(self, account: str) -> None:
        """The account is no longer locked for the reasons told so far; one that still holds is told again at once."""


class Silent:
    """An observer that keeps everything to itself."""

    def answered(self, account: str, call: str, code: str, seconds: float) -> None:
        """Ignore it."""

    def clock_compared(self, ahead: float) -> None:
        """Ignore it."""

    def retried(self, account: str, call: str) -> None:
        """Ignore it."""

    def locked(self, account: str, reason: str) -> None:
        """Ignore it."""

    def unlocked(self, account: str) -> None:
        """Ignore it."""
