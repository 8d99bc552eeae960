"""Live usage: what the ledger does not have of a window, asked of fal through the collector.

The contract between who asks, REST and MCP, and who answers, `exporter.polling.inquiries.live_usage`. The ledger does
not have hours before its history, hours that it has folded, and those of an account that has not been read yet.
"""

import asyncio
import json
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, get_args
from zoneinfo import ZoneInfo

from exporter.calendar import Every
from exporter.charges import HOUR, Amounts, Dimensions, Window, hour_of
from exporter.errors import FalExporterError
from exporter.inquiry import Inquirer, Inquiry, InquiryError
from exporter.queries import parameters

if TYPE_CHECKING:
    from exporter.ledger.accounting.coverage import ScopeState

NAME = "usage"
"""Name of the inquiry."""

PATIENCE = 12.0
"""Seconds that an answer may take; callers of MCP wait for 20."""

_LARGEST = 32 * 2**20
_ROWS_AT_ONCE = 100
"""Rows that are read at once: about half a millisecond, in which no other thread runs."""

_NAMES = 6
"""Texts in a row, between its stamp and its amounts."""

Mode = Literal["auto", "true", "false"]

LIVE = parameters.choice(
    "live",
    "Whether to ask fal: `auto` for hours that the ledger does not have (before its history, or of an account that "
    "has not been read yet), `true` for the whole window, `false` never. `live` in the answer lists what came from "
    "fal. Default: auto.",
    get_args(Mode),
)


class LiveError(FalExporterError):
    """Fal was to be asked, and has not answered.

    Attributes:
        reason: as of `InquiryError`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class LiveQuestion:
    """A window of an account, in buckets of a zone; `every` is None for the window as one."""

    account: str
    window: Window
    every: Every | None
    zone: ZoneInfo

    @property
    def inquiry(self) -> Inquiry:
        """The question as it is sent."""
        window = {"start": self.window.start.isoformat(), "end": self.window.end.isoformat()}
        return Inquiry(NAME, self.account, {**window, "every": self.every or "", "timezone": self.zone.key})

    @classmethod
    def read(cls, inquiry: Inquiry) -> Self:
        """Return a question that was sent."""
        fields = inquiry.fields
        start, end = (datetime.fromisoformat(fields[edge]).astimezone(UTC) for edge in ("start", "end"))
        every = next((one for one in get_args(Every) if one == fields["every"]), None)
        return cls(inquiry.account, Window(start, end), every, ZoneInfo(fields["timezone"]))


class LiveRow(NamedTuple):
    """Charges of one group in the bucket that begins at an hour."""

    at: datetime
    dimensions: Dimensions
    amounts: Amounts


_at = attrgetter("at")


@dataclass(frozen=True, slots=True)
class LivePart:
    """Part of a window that fal was asked for.

    Attributes:
        as_of: when fal answered; None where it has not.
        rows: what was charged, in the order of time.
        unreadable: rows of fal's answer that cannot be read, or only in part.
        problem: why there is no answer; empty where there is one.
        reason: the same as a word.
    """

    account: str
    window: Window
    as_of: datetime | None = None
    rows: tuple[LiveRow, ...] = ()
    unreadable: int = 0
    problem: str = ""
    reason: str = ""

    @property
    def start(self) -> datetime:
        """Start of the part."""
        return self.window.start

    @property
    def end(self) -> datetime:
        """End of the part, exclusive."""
        return self.window.end

    def of(self, window: Window) -> Sequence[LiveRow]:
        """Return the rows of buckets that begin in a window."""
        first, end = (bisect_left(self.rows, edge, key=_at) for edge in (window.start, window.end))
        return self.rows[first:end]

    @property
    def is_whole(self) -> bool:
        """True if fal has answered with every row of hours that are all over."""
        return self.as_of is not None and not self.unreadable and self.end <= hour_of(self.as_of)

    @property
    def notes(self) -> Iterator[str]:
        """Sentences on the part."""
        if self.problem:
            yield f"{self.account}: fal was asked for {self.window} but did not answer: {self.problem}"
            return
        as_of = self.as_of or self.end
        yield f"{self.account}: {self.window} is not from the ledger but from fal, as of {as_of:%Y-%m-%dT%H:%MZ}."
        if self.unreadable:
            yield f"{self.account}: {self.unreadable} rows of fal's response cannot be read, or only partly."
        if self.end > hour_of(as_of):
            yield f"{self.account}: hours after {hour_of(as_of):%Y-%m-%dT%H:%MZ} are not over."


def live_questions(
    mode: str,
    window: Window,
    every: Every | None,
    zone: ZoneInfo,
    *,
    accounts: Collection[str] | None,
    scopes: Iterable["ScopeState"],
    kept_from: datetime | None,
    now: datetime,
) -> tuple[LiveQuestion, ...]:
    """Return what is to be asked of fal for a window: at most one part for each account, from the window's start on.

    Args:
        mode: of Mode.
        window: what is asked for; hours to come are not.
        every: the buckets that are wanted.
        zone: whose days and months they are.
        accounts: those that are asked for; None for all.
        scopes: how far the ledger knows each account's sources.
        kept_from: the first hour that has not been folded; None where none has.
        now: an aware instant.
    """
    end = min(window.end, hour_of(now) + HOUR)
    if mode == "false" or window.start >= end:
        return ()
    by_account: dict[str, list[ScopeState]] = {}
    for scope in scopes:
        if accounts is None or scope.account in accounts:
            by_account.setdefault(scope.account, []).append(scope)
    questions = []
    for account, its in sorted(by_account.items()):
        until = end if mode == "true" else min(end, _known_from(its, kept_from) or end)
        if until > window.start:
            questions.append(LiveQuestion(account, Window(window.start, until), every, zone))
    return tuple(questions)


def _known_from(scopes: Iterable["ScopeState"], kept_from: datetime | None) -> datetime | None:
    """Return the first hour from which on every source is known; None where one has not been read."""
    known = [kept_from] if kept_from is not None else []
    for scope in scopes:
        if scope.history_from is None or scope.data_through is None:
            return None
        known.append(scope.history_from)
    return max(known)


async def ask_live(inquirer: Inquirer | None, questions: Sequence[LiveQuestion], *, must: bool) -> tuple[LivePart, ...]:
    """Ask fal; what it does not answer is a part with a problem.

    Args:
        inquirer: asks the collector; None where there is none.
        questions: the parts.
        must: whether a part without an answer is an error.

    Raises:
        LiveError: a part that must be answered has not been.
    """
    if inquirer is None:
        if must and questions:
            raise LiveError("gone", "fal can only be asked through a running exporter; omit live")
        return ()
    parts = await asyncio.gather(*(_ask(inquirer, question) for question in questions))
    for part in parts:
        if part.problem and must:
            raise LiveError(part.reason, part.problem)
    return tuple(parts)


async def _ask(inquirer: Inquirer, question: LiveQuestion) -> LivePart:
    try:
        async with asyncio.timeout(PATIENCE), inquirer.ask(question.inquiry, patience=PATIENCE) as answer:
            body = await answer.body(_LARGEST)
            # In a thread, so that no scrape waits for a large answer to be read.
            return await asyncio.to_thread(_part, question, answer.head, body)
    except InquiryError as error:
        return LivePart(question.account, question.window, problem=str(error), reason=error.reason)
    except TimeoutError:
        problem = f"the answer takes longer than {PATIENCE:.0f} s; try again later"
        return LivePart(question.account, question.window, problem=problem, reason="late")


def _part(question: LiveQuestion, head: Mapping[str, object], body: bytes) -> LivePart:
    # Stamps and names occur by the thousand.
    stamps: dict[str, datetime] = {}
    known: dict[tuple[str, ...], Dimensions] = {}
    read = []
    for some in body.splitlines():
        for at, *row in json.loads(some):
            names = tuple(row[:_NAMES])
            if at not in stamps:
                stamps[at] = datetime.fromisoformat(at)
            if names not in known:
                team, product, model, app, gpu_class, unit = names
                known[names] = Dimensions(
                    question.account, team=team, product=product, model=model, app=app, gpu_class=gpu_class, unit=unit
                )
            read.append(LiveRow(stamps[at], known[names], Amounts._make(row[_NAMES:])))
        # The thread that answers scrapes would have to ask for its turn first, and to wait for it.
        time.sleep(0)
    as_of = datetime.fromisoformat(str(head["at"]))
    return LivePart(question.account, question.window, as_of, tuple(read), int(str(head["unreadable"])))


def body_of(rows: Iterable[Sequence[object]]) -> bytes:
    """Return rows as the body of an answer: lines with some rows each, so that whoever reads them can give way."""
    return b"".join([json.dumps(some).encode() + b"\n" for some in _some_at_once(rows)])


def _some_at_once(rows: Iterable[Sequence[object]]) -> Iterator[list[Sequence[object]]]:
    remaining = iter(rows)
    while some := list(islice(remaining, _ROWS_AT_ONCE)):
        yield some
