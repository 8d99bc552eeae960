"""How patient the client is, and how much it takes in."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

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
        pages: how many pages one answer may have.
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
    pages: int = 10_000
    answer_bytes: int = 64 * MEBIBYTE
    report_bytes: int = 64 * 1024 * MEBIBYTE
    report_deadline: timedelta = timedelta(hours=2)


class Deadline:
    """An instant on the monotonic clock after which a poll makes no more requests."""

    def __init__(self, span: timedelta, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.span = span
        self._monotonic = monotonic
        self._at = monotonic() + span.total_seconds()

    @property
    def remaining(self) -> float:
        """The seconds left; negative once it has passed."""
        return self._at - self._monotonic()
