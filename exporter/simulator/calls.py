"""What a call gets and what it answers with."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from exporter.simulator.account import Account
from exporter.simulator.keys import Key
from exporter.simulator.queries import Cursor, Query
from exporter.simulator.world import Charge

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """How the simulated fal behaves.

    Attributes:
        page_rows: rows of a page where a call does not say; a call may ask for at most ten times as many.
        cost_only: usage rows carry `cost` alone, as older answers did.
        single_dimension: the older host's usage takes one `group_by` dimension only.
        enterprise: the organization and FOCUS calls are switched on.
        requests_per_minute: calls that a key may make; None for any number.
    """

    page_rows: int = 2_000
    cost_only: bool = False
    single_dimension: bool = False
    enterprise: bool = True
    requests_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated call.

    Attributes:
        now: the instant of the call, or of its sequence's first page where it continues one.
        cursor: where the answer begins, if it has pages.
        balance: a balance in nano-USD that stands in for the account's, if one is planted.
    """

    account: Account
    query: Query
    key: Key
    options: Options
    now: datetime
    cursor: Cursor
    balance: int | None = None

    @property
    def as_of(self) -> int:
        """The instant whose truth the answer tells, in microseconds."""
        return self.cursor.as_of

    async def charges(self, span: tuple[int, int], wanted: Callable[[Charge], bool]) -> AsyncIterator[list[Charge]]:
        """Yield the charges of a span that the caller may see and wants, hour by hour, giving way to other calls."""
        for charges in self.account.charges(span, self.as_of, self.key.team):
            yield [charge for charge in charges if wanted(charge)]
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON answer; `following` is the cursor of the next page, None on the last and where there are no pages."""

    body: object
    cursor: Cursor | None = None
    following: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """A CSV answer, streamed."""

    chunks: AsyncIterator[str]


Endpoint = Callable[[Call], Awaitable[Answer | Download]]


class Sums:
    """Charges added up by a key, in order of first appearance."""

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[tuple[object, ...], list[int]] = {}

    def add(self, key: Callable[[Charge], tuple[object, ...]], charges: Iterable[Charge]) -> None:
        """Add charges: requests, quantity, GPU-seconds, subtotal and discount of each group."""
        groups = self.groups
        for charge in charges:
            group = key(charge)
            _, _, requests, quantity, subtotal, discount = charge
            known = groups.get(group)
            if known is None:
                groups[group] = [requests, quantity, quantity * charge.line.gpus, subtotal, discount]
            else:
                known[0] += requests
                known[1] += quantity
                known[2] += quantity * charge.line.gpus
                known[3] += subtotal
                known[4] += discount
