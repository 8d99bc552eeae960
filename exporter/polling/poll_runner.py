"""Poll runner: one poll after another for each thing that is polled, every outcome reported once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from exporter.charges import Clock
from exporter.errors import ConfigurationError, LedgerError, UpstreamError
from exporter.metrics.health import Health
from exporter.publication import State

_log = structlog.get_logger(__name__)

OWN_REASONS = ("configuration", "ledger", "unreadable", "unexpected")
"""Reasons beside those of calls: the key cannot be used, the ledger cannot, no row of an answer can be read, and what
nobody has foreseen.
"""

Work = Callable[[datetime], Awaitable[Mapping[str, int]]]
"""Work of a poll: takes the instant at which the poll began and returns the rejected rows by reason."""


@dataclass(slots=True)
class Polled:
    """One thing that is polled for an account: a source, the balance, the invoices.

    Attributes:
        state: waiting until the first poll has ended, then by the last poll.
        problem: the last error's sentence; empty while polls succeed.
        cause: the last error's reason; empty while polls succeed.
        turn: polls of the same thing never overlap, so that an older answer cannot replace a newer one.
    """

    account: str
    name: str
    state: State = "waiting"
    problem: str = ""
    cause: str = ""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class PollRunner:
    """Carries out polls: keeps their turns, counts them, and logs a cause when it is first met."""

    def __init__(self, *, health: Health, clock: Clock, changed: Callable[[], None]) -> None:
        self._health = health
        self._clock = clock
        self._changed = changed

    def expect(self, account: str, name: str) -> Polled:
        """Show a thing as about to be polled."""
        self._health.expect_source(account, name)
        return Polled(account, name)

    def publish_soon(self) -> None:
        """Have published what has changed beside the outcome of a poll."""
        self._changed()

    async def poll(self, polled: Polled, work: Work) -> bool:
        """Poll once; return whether it succeeded. Only cancellation goes through."""
        async with polled.turn:
            at = self._clock()
            started = time.monotonic()
            self._health.poll_began(polled.account, polled.name, at)
            try:
                rejected = await work(at)
            except UpstreamError as error:
                self._failed(polled, error.reason, str(error), started)
            except LedgerError as error:
                self._failed(polled, "ledger", str(error), started)
            except ConfigurationError as error:
                self._failed(polled, "configuration", str(error), started)
            except Exception as error:  # noqa: BLE001  a poll must never end the schedule
                _log.debug("the unexpected error in full", exc_info=error)
                sentence = f"an unexpected {type(error).__name__} ended the poll; please report it with the debug log"
                self._failed(polled, "unexpected", sentence, started)
            else:
                self._health.poll_succeeded(
                    polled.account,
                    polled.name,
                    began_at=at,
                    seconds=time.monotonic() - started,
                    rejected=rejected,
                )
                if polled.cause:
                    _log.info("polls succeed again", account=polled.account, source=polled.name, after=polled.cause)
                polled.state, polled.problem, polled.cause = "up", "", ""
            self._changed()
        return polled.state == "up"

    def _failed(self, polled: Polled, cause: str, sentence: str, started: float) -> None:
        self._health.poll_failed(polled.account, polled.name, reason=cause, seconds=time.monotonic() - started)
        if cause != polled.cause:
            _log.warning("a poll failed", account=polled.account, source=polled.name, reason=cause, problem=sentence)
        polled.state, polled.problem, polled.cause = "failing", sentence, cause
