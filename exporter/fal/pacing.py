"""Pacing: one way to fal that all accounts share, in turns.

However many accounts there are, so many requests are under way at once, and so many begin in a second, of all accounts
and of each. Who has to wait waits in the line of its account, and the lines are served in turns: an account that loads
a month of history in a thousand pages holds up no other that asks for its balance.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

BURST_SECONDS = 5
"""Seconds whose requests may begin at once after a rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Bounds of the traffic of all accounts.

    Attributes:
        at_once: how many requests may be under way.
        in_a_second: how many may begin in a second, in the long run.
        of_account: how many of one account.
    """

    at_once: int = 32
    in_a_second: int = 100
    of_account: int = 50


class _Allowance:
    """Count of requests that may begin now: it grows by a rate up to a burst, and each request takes one."""

    def __init__(self, rate: int, now: float) -> None:
        self._rate = rate
        self._left = self._most = float(rate * BURST_SECONDS)
        self._at = now

    def wait(self, now: float) -> float:
        """Return the seconds until a request may begin; 0 if it may now."""
        self._left = min(self._most, self._left + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (1 - self._left) / self._rate)

    def take(self) -> None:
        """Count a request that begins."""
        self._left -= 1


class Pacing:
    """Lets requests begin in turns of their accounts. For one event loop.

    Args:
        rates: the bounds.
        monotonic: returns seconds.
    """

    def __init__(self, rates: Rates | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._rates = rates or Rates()
        self._monotonic = monotonic
        self._under_way = 0
        self._all = _Allowance(self._rates.in_a_second, monotonic())
        self._of: dict[str, _Allowance] = {}
        self._lines: dict[str, deque[asyncio.Future[None]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, account: str) -> AsyncIterator[None]:
        """Wait for the account's turn; the request is under way until the end of the block."""
        await self._wait(account)
        try:
            yield
        finally:
            self._end()

    async def begin(self, account: str) -> None:
        """Wait for the account's turn to begin something that takes as long as it takes, and counts no longer then."""
        await self._wait(account)
        self._end()

    async def _wait(self, account: str) -> None:
        may_begin: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(account, deque()).append(may_begin)
        self._serve()
        try:
            await may_begin
        except asyncio.CancelledError:
            if may_begin.done() and not may_begin.cancelled():
                self._end()
            raise

    def _end(self) -> None:
        self._under_way -= 1
        self._serve()

    def _serve(self) -> None:
        """Let begin what may, one of each line in turn."""
        now = self._monotonic()
        while self._lines and self._under_way < self._rates.at_once:
            wait = self._all.wait(now)
            account = None
            if not wait:
                account, wait = self._next(now)
            if account is None:
                if wait:
                    self._serve_after(wait)
                return
            line = self._lines.pop(account)
            line.popleft().set_result(None)
            if line:
                # Last in the order of lines: every other comes first now.
                self._lines[account] = line
            self._all.take()
            self._of[account].take()
            self._under_way += 1

    def _next(self, now: float) -> tuple[str | None, float]:
        """Return the account whose turn it is; where none may begin, the seconds until one may."""
        soonest = 0.0
        for account, line in list(self._lines.items()):
            while line and line[0].done():
                line.popleft()
            if not line:
                del self._lines[account]
                continue
            wait = self._of.setdefault(account, _Allowance(self._rates.of_account, now)).wait(now)
            if not wait:
                return account, 0.0
            soonest = min(soonest or wait, wait)
        return None, soonest

    def _serve_after(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._serve)
