"""Contact with fal: whether a replica reaches it, so that one leads that does.

A node may lose fal and keep the database: its egress, DNS or proxy is broken. As leader its replica would hold the
lease for ever, while every poll fails and others could poll. The leader therefore says on the board that it does not
reach fal, the followers then try, and it makes place once fal answers one of them.

A try is a request without a key to the base URL, through the same proxy and with the same authorities as polls. A
refusal is an answer, too: it shows that polls would get one. A leader whose polls fail, but whom fal answers such a
request, keeps the lease: what is wrong is fal's, and is the same for all.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

_log = structlog.get_logger(__name__)

TRY_SECONDS = 5.0
"""Time that a try may take, and after which it is made again."""

LONGEST_PATIENCE = timedelta(minutes=2)
_LONGEST_OF_ALL = timedelta(hours=1)

Reach = Callable[[str, float], Awaitable[str]]
"""Asks fal without a key, and returns why it cannot be reached, or nothing; as `exporter.fal.transport.reach`."""


class Contact:
    """Knows whether this replica reaches fal. To be used on one event loop.

    Args:
        url: base of fal's calls.
        interval: between two polls of an account.
        reach: asks fal.
        monotonic: the time in seconds.

    Attributes:
        problem: why fal could not be reached at the last try; empty where it was, or none has been made.
    """

    def __init__(
        self, url: str, *, interval: timedelta, reach: Reach, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.problem = ""
        self._url = url
        # In two intervals each account has been polled, in one its polls may just have been in a gap of the network.
        # More than two minutes would be more than fal's figures lag.
        self._patience = min(2 * interval, LONGEST_PATIENCE)
        self._reach = reach
        self._monotonic = monotonic
        self._reaches: bool | None = None
        self._tried_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._handed_over = 0

    @property
    def reaches(self) -> bool | None:
        """True if fal answered the last try; None where none is made."""
        return self._reaches

    def is_to_be_tried(self, unanswered_since: float | None) -> bool:
        """Return whether a leader should try: so long fal has answered none of its polls."""
        return unanswered_since is not None and self._monotonic() - unanswered_since >= self.patience / 2

    def is_lost(self, unanswered_since: float | None) -> bool:
        """Return whether a leader should make place as soon as fal answers another replica."""
        return (
            self._reaches is False
            and unanswered_since is not None
            and self._monotonic() - unanswered_since >= self.patience
        )

    @property
    def patience(self) -> float:
        """Seconds for which a leader gets no answer before it makes place.

        They double each time that it did and had no answer when it led again: where tries are answered and polls are
        not, anywhere, the lease must not go round in circles.
        """
        doubled: timedelta = self._patience * (1 << min(self._handed_over, 16))
        return min(doubled, _LONGEST_OF_ALL).total_seconds()

    def hand_over(self) -> None:
        """Note that this replica makes place for one that reaches fal."""
        self._handed_over += 1

    def answered(self) -> None:
        """Note that fal answers polls of this replica."""
        self._handed_over = 0
        self.forget()

    def forget(self) -> None:
        """Know nothing any more, where there is no reason to try."""
        if self._task is not None:
            self._task.cancel()
        self._reaches, self.problem, self._task = None, "", None

    def try_again(self) -> None:
        """Begin a try, unless one is under way or was made just now."""
        now = self._monotonic()
        if now - self._tried_at >= TRY_SECONDS and (self._task is None or self._task.done()):
            self._tried_at = now
            self._task = asyncio.create_task(self._try())

    async def close(self) -> None:
        """End a try that is under way."""
        task = self._task
        self.forget()
        if task is not None:
            await asyncio.gather(task, return_exceptions=True)

    async def _try(self) -> None:
        problem = await self._reach(self._url, TRY_SECONDS)
        if problem and self._reaches is not False:
            _log.warning("this replica does not reach fal", url=self._url, problem=problem)
        elif not problem and self._reaches is False:
            _log.info("this replica reaches fal again", url=self._url)
        self.problem, self._reaches = problem, not problem
