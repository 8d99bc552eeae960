"""Live usage: windows that the ledger does not reach, asked of fal when somebody wants them.

Bounded: `exporter.inquiry` answers one question of an account at a time; a question takes so many calls and seconds at
the most, its calls are made one after the other, and an account is asked so many questions a minute. So at most one of
the requests that an account may have under way is not a poll's. Answers are kept for a while.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from exporter.calendar import bucket_start
from exporter.charges import Amounts, Clock, Dimensions, hour_of
from exporter.errors import LedgerError
from exporter.fal import Allowance, ApiError, Buckets, Reading
from exporter.inquiry import AnswerWriter, Inquiry, InquiryError
from exporter.polling.account import AccountPoller
from exporter.polling.usage_reader import MOST_UNREADABLE
from exporter.queries.live import LiveQuestion, body_of

LONGEST = timedelta(seconds=10)
"""Time of a question with all its calls."""

MOST_A_MINUTE = 12
"""Questions of an account that fal is asked within a minute; answers that are kept do not count."""

KEPT, KEPT_WHILE_PROVISIONAL = timedelta(hours=1), timedelta(minutes=5)
"""Ages until which an answer is given again: of a window that is long over, and of any other."""

SLOW = 2.0
"""Seconds; an account that has kept a question waiting for longer in vain is not asked again for REST_OF_SLOW."""

REST_OF_SLOW = 30.0

_PROVISIONAL = timedelta(hours=48)
_MINUTE = 60.0
_MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer as it was sent."""

    head: dict[str, object]
    body: bytes
    until: datetime


class LiveUsage:
    """Handler of the inquiry.

    Args:
        accounts: those that are polled.
        clock: the time.
        monotonic: seconds, for the pace.
    """

    def __init__(
        self, accounts: Sequence[AccountPoller], *, clock: Clock, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._monotonic = monotonic
        self._asked: dict[str, deque[float]] = {}
        self._silent_until: dict[str, float] = {}
        self._kept: OrderedDict[tuple[object, ...], _Kept] = OrderedDict()
        self._size = 0

    async def __call__(self, inquiry: Inquiry, answer: AnswerWriter) -> None:
        """Answer: in the head when fal was asked and how many rows could not be read, in the body the charges.

        Raises:
            InquiryError: the account is not polled or has no sources yet, or has been asked too often or in vain.
            UpstreamError, ConfigurationError: fal gave no answer.
        """
        account = next((one for one in self._accounts if one.name == inquiry.account), None)
        if account is None:
            raise InquiryError("unknown_account", "the account is not polled")
        if not account.sources:
            raise InquiryError("no_sources", account.problem or "the account's sources have not been chosen yet")
        question = LiveQuestion.read(inquiry)
        buckets = Buckets(question.window, question.every, question.zone)
        key = (account.name, account.sources, buckets.window, buckets.every, buckets.zone.key)
        found = self._kept.get(key)
        if found is None or found.until <= self._clock():
            found = await self._ask(account, buckets)
            self._keep(key, found)
        await answer.head(found.head)
        await answer.piece(found.body)

    async def _ask(self, account: AccountPoller, buckets: Buckets) -> _Kept:
        self._heed_pace(account.name)
        at, began = self._clock(), self._monotonic()
        try:
            async with asyncio.timeout(LONGEST.total_seconds()):
                readings = await account.ask_usage(buckets, account.deadline(LONGEST), Allowance())
        except TimeoutError:
            self._note_silence(account.name, began)
            raise InquiryError("late", f"fal has not answered within {LONGEST.total_seconds():g} s") from None
        except ApiError:
            self._note_silence(account.name, began)
            raise
        except LedgerError:
            raise InquiryError("ledger", "the ledger cannot be used at the moment") from None
        head: dict[str, object] = {"at": at.isoformat(), "unreadable": sum(map(_unreadable, readings))}
        is_over = buckets.window.end <= hour_of(at) - _PROVISIONAL
        return _Kept(head, _body(readings, buckets), at + (KEPT if is_over else KEPT_WHILE_PROVISIONAL))

    def _note_silence(self, account: str, began: float) -> None:
        now = self._monotonic()
        if now - began > SLOW:
            self._silent_until[account] = now + REST_OF_SLOW

    def _heed_pace(self, account: str) -> None:
        """Count a question.

        Raises:
            InquiryError: there have been too many in the last minute, or fal has just kept one waiting in vain.
        """
        now = self._monotonic()
        if now < self._silent_until.get(account, now):
            raise InquiryError("late", "fal has just failed to answer in time; it is asked again after a pause")
        asked = self._asked.setdefault(account, deque())
        while asked and now - asked[0] >= _MINUTE:
            asked.popleft()
        if len(asked) >= MOST_A_MINUTE:
            raise InquiryError(
                "busy",
                f"fal has been asked {MOST_A_MINUTE} questions about this account within a minute; try again later",
            )
        asked.append(now)

    def _keep(self, key: tuple[object, ...], found: _Kept) -> None:
        if (before := self._kept.pop(key, None)) is not None:
            self._size -= len(before.body)
        self._kept[key] = found
        self._size += len(found.body)
        while self._size > _MOST_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest.body)


def _unreadable(reading: Reading) -> int:
    """Return how many rows cannot be read.

    Raises:
        InquiryError: they are most of the answer.
    """
    left_out = sum(not row.is_counted for row in reading.rejected_rows)
    if left_out > MOST_UNREADABLE * (reading.rows + left_out):
        raise InquiryError(
            "unreadable",
            f"most rows that fal gives for {reading.window} cannot be read; fal's API may have changed: check for a "
            "newer version of the exporter",
        )
    return len(reading.rejected_rows)


def _body(readings: Iterable[Reading], buckets: Buckets) -> bytes:
    """Return charges as JSON, in the order of time: what answers do not distinguish is added up."""
    window, every, zone = buckets.window, buckets.every, buckets.zone
    sums: dict[tuple[datetime, Dimensions], Amounts] = {}
    for reading in readings:
        for hour, dimensions, amounts in reading.charges:
            at = window.start if every is None else max(bucket_start(hour, every, zone), window.start)
            key = at, dimensions._replace(environment="", api_key="", member="", surge="")
            known = sums.get(key)
            sums[key] = amounts if known is None else known.plus(amounts)
    return body_of(_rows(sums))


def _rows(sums: dict[tuple[datetime, Dimensions], Amounts]) -> Iterator[tuple[object, ...]]:
    for (hour, its), amounts in sorted(sums.items()):
        yield (hour.isoformat(), its.team, its.product, its.model, its.app, its.gpu_class, its.unit, *amounts)
