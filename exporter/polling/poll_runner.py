"""Poll runner: one poll after another for each thing that is polled, every outcome reported once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from exporter.charges import Clock, dollar_text
from exporter.errors import ConfigurationError, EventsError, LedgerError, UpstreamError
from exporter.fal import OUTSIDE_WINDOW
from exporter.ledger import NO_REJECTED_ROWS, RejectedRows
from exporter.metrics.health import Health
from exporter.overview import State

_log = structlog.get_logger(__name__)

OWN_REASONS = ("configuration", "ledger", "requests", "unreadable", "unexpected")
"""Reasons beside those of calls: the key cannot be used, the ledger or the store of requests cannot, no row of an
answer can be read, and what nobody has foreseen.
"""

Work = Callable[[datetime], Awaitable[Mapping[str, int]]]
"""Work of a poll: takes the instant at which the poll began and returns the rejected rows by reason."""


def unreadable_sentence(rejected: RejectedRows) -> str:
    """Return a sentence on rows that cannot be read now; empty where there are none."""
    if rejected.first is None or rejected.end is None:
        return ""
    count = sum(rejected.by_reason.values())
    hours = f" of {rejected.first:%Y-%m-%dT%HZ} to {rejected.end:%Y-%m-%dT%HZ}" if rejected.end > rejected.first else ""
    reasons = ", ".join(f"{rows} {reason}" for reason, rows in rejected.by_reason.items())
    kept = " Their hours keep their previous values." if hours else ""
    missing = f" {dollar_text(rejected.cost)} in these rows is not counted." if rejected.cost else ""
    return (
        f"{count} {'row' if count == 1 else 'rows'}{hours} cannot be read, or only partly ({reasons}).{kept}{missing} "
        "fal's API may have changed: check for a newer version of the exporter."
    )


@dataclass(slots=True)
class Polled:
    """One thing that is polled for an account: a source, the balance, the invoices.

    Attributes:
        is_usage: whether the rows that cannot be read are kept in the ledger; else they are those of the last poll.
        state: waiting until the first poll has ended, then by the last poll: partial while rows cannot be read.
        problem: the last error's sentence, or one on the rows that cannot be read; empty while all is well.
        cause: the last error's reason; empty while polls succeed.
        rejected: the rows that cannot be read now.
        turn: polls of the same thing never overlap, so that an older answer cannot replace a newer one.
    """

    account: str
    name: str
    is_usage: bool = False
    state: State = "waiting"
    problem: str = ""
    cause: str = ""
    rejected: RejectedRows = NO_REJECTED_ROWS
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class PollRunner:
    """Carries out polls: keeps their turns, counts them, and logs a cause when it is first met."""

    def __init__(self, *, health: Health, clock: Clock, changed: Callable[[], None]) -> None:
        self._health = health
        self._clock = clock
        self._changed = changed

    def expect(self, account: str, name: str, *, is_usage: bool = False) -> Polled:
        """Show a thing as about to be polled."""
        self._health.expect_source(account, name)
        return Polled(account, name, is_usage)

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
            except EventsError as error:
                self._failed(polled, "requests", str(error), started)
            except ConfigurationError as error:
                self._failed(polled, "configuration", str(error), started)
            except Exception as error:  # noqa: BLE001  a poll must never end the schedule
                _log.debug("traceback of the unexpected error", exc_info=error)
                sentence = f"an unexpected {type(error).__name__} ended the poll; please report it with the debug log"
                self._failed(polled, "unexpected", sentence, started)
            else:
                self._health.poll_succeeded(
                    polled.account,
                    polled.name,
                    began_at=at,
                    seconds=time.monotonic() - started,
                )
                if polled.cause:
                    _log.info("polls succeed again", account=polled.account, source=polled.name, after=polled.cause)
                self._succeeded(polled, rejected, at)
            self._changed()
        return polled.state != "failing"

    def _succeeded(self, polled: Polled, rejected: Mapping[str, int], at: datetime) -> None:
        if not polled.is_usage:
            left_out = {reason: rows for reason, rows in rejected.items() if reason != OUTSIDE_WINDOW}
            polled.rejected = RejectedRows(left_out, first=at, end=at) if left_out else NO_REJECTED_ROWS
        self._health.rows_rejected(polled.account, polled.name, polled.rejected.by_reason, cost=polled.rejected.cost)
        problem = unreadable_sentence(polled.rejected)
        if problem and problem != polled.problem and polled.state != "partial":
            _log.warning("rows cannot be read", account=polled.account, source=polled.name, problem=problem)
        elif not problem and polled.state == "partial":
            _log.info("all rows can be read again", account=polled.account, source=polled.name)
        polled.state, polled.problem, polled.cause = "partial" if problem else "up", problem, ""

    def _failed(self, polled: Polled, cause: str, sentence: str, started: float) -> None:
        self._health.poll_failed(polled.account, polled.name, reason=cause, seconds=time.monotonic() - started)
        if cause != polled.cause:
            _log.warning("a poll failed", account=polled.account, source=polled.name, reason=cause, problem=sentence)
        polled.state, polled.problem, polled.cause = "failing", sentence, cause
