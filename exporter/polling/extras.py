"""Extras of an account beside its charges: names of its API keys and teams, and its spend by the tags of callers.

Where fal refuses one to the key, nothing fails, and fal is asked again once a day, and by every start. Without names,
charges of keys are published under the keys' ids; without tags, all spend is untagged.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial

import structlog

from exporter.charges import Clock, Window
from exporter.fal import (
    BadRequestError,
    Client,
    FeatureError,
    NotFoundError,
    ScopeError,
    read_api_keys,
    read_tagged,
    read_teams,
)
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.poll_runner import Polled, PollRunner, Work
from exporter.polling.scheduler import Reach, history_pieces, history_start, months_window, trailing_window
from exporter.tags import TagValues

_log = structlog.get_logger(__name__)

_REFUSED_FOR = timedelta(days=1)
"""Time after which what fal refuses is asked for again: the key's scope may have changed."""

_UNKNOWN_KEY_EVERY = timedelta(minutes=10)
"""Least time between questions for the sake of a key that has been used and is not listed."""

_PATIENCE = timedelta(seconds=30)
"""Longest time for which charges wait for the names of their keys."""

TELL_TEAMS = frozenset({"organization", "focus"})
"""The sources that report charges by team."""


class AccountNames:
    """Polls the names of one account.

    Args:
        client: the account's own.
        ledger: where names are kept.
        runner: carries the polls out.
        clock: the time.
        confirmed: does the work of a poll, unless the account must not be polled.
        with_callers: whether charges are wanted by API key or member.
    """

    def __init__(
        self,
        *,
        client: Client,
        ledger: AsyncLedger,
        runner: PollRunner,
        clock: Clock,
        confirmed: Callable[[Work, datetime], Awaitable[Mapping[str, int]]],
        with_callers: bool,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._runner = runner
        self._clock = clock
        self._confirmed = confirmed
        self._with_callers = with_callers
        self._keys = runner.expect(client.account, "keys")
        self._teams = runner.expect(client.account, "teams")
        self._refused: dict[str, tuple[datetime, str]] = {}
        self._asked_at: datetime | None = None
        self._known: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()

    @property
    def polled(self) -> tuple[Polled, ...]:
        """The two things that are polled."""
        return self._keys, self._teams

    def remark(self) -> str:
        """Return a sentence on keys that cannot be named; empty where there is nothing to say."""
        if not self._with_callers or self._keys.name not in self._refused:
            return ""
        problem = self._refused[self._keys.name][1]
        return f"API keys are shown by their ids, because their aliases cannot be read: {problem}"

    async def poll(self, sources: Collection[str], *, history_loaded: bool) -> None:
        """Poll API keys, and teams where some of the sources report charges by team.

        Args:
            sources: those that are polled.
            history_loaded: whether the ledger has all that it will have of the past, so that a team without charges has
                spent nothing.
        """
        async with self._turn:
            await self._poll_keys()
        if TELL_TEAMS.intersection(sources):
            await self._poll(self._teams, partial(self._read_teams, show_idle=history_loaded))

    async def poll_before_usage(self) -> None:
        """Poll API keys once before the first charges of the process, which then have their names from the start."""
        if not self._with_callers:
            return
        async with self._turn:
            if self._asked_at is None:
                await self._poll_keys()

    async def meet(self, ids: Collection[str]) -> None:
        """Poll API keys again if some of these are not known: a key that is new is named before it is counted."""
        if self._known.issuperset(ids) or not self._known:
            return
        async with self._turn:
            now = self._clock()
            if self._asked_at is None or now - self._asked_at >= _UNKNOWN_KEY_EVERY:
                await self._poll_keys()

    async def _poll_keys(self) -> None:
        self._asked_at = self._clock()
        await self._poll(self._keys, self._read_keys)

    async def _poll(self, polled: Polled, work: Work) -> None:
        refused_at, _ = self._refused.get(polled.name, (None, ""))
        if refused_at is None or self._clock() - refused_at >= _REFUSED_FOR:
            await self._runner.poll(polled, partial(self._confirmed, partial(self._unless_refused, polled, work)))

    async def _unless_refused(self, polled: Polled, work: Work, at: datetime) -> Mapping[str, int]:
        """Do the work; that fal refuses it to the key is no failure, as an alert on it would never be quiet."""
        try:
            rejected = await work(at)
        except (FeatureError, NotFoundError, ScopeError) as error:
            if polled.name not in self._refused:
                _log.info(
                    f"{polled.name} of the account cannot be listed", account=self._client.account, problem=str(error)
                )
            self._refused[polled.name] = (self._clock(), str(error))
            return {}
        if self._refused.pop(polled.name, None) is not None:
            _log.info(f"{polled.name} of the account can be listed again", account=self._client.account)
        return rejected

    async def _read_keys(self, at: datetime) -> Mapping[str, int]:
        del at
        listed = await read_api_keys(self._client, self._client.deadline(_PATIENCE))
        await self._ledger.record_api_keys(self._client.account, listed, is_whole=not listed.rejected)
        self._known = frozenset(key.id for key in listed)
        return listed.rejected

    async def _read_teams(self, at: datetime, *, show_idle: bool) -> Mapping[str, int]:
        del at
        listed = await read_teams(self._client)
        await self._ledger.record_teams(self._client.account, listed, show_idle=show_idle, is_whole=not listed.rejected)
        return listed.rejected


_MONTHS_EVERY = timedelta(days=1)
"""Time after which the months are read again for corrections."""


class TagPoller:
    """Polls the tags of one account.

    Args:
        client: the account's own.
        keys: of the tags that are wanted, sorted.
        ledger: where readings are kept.
        runner: carries the polls out.
        reach: how far back is read.
        clock: the time.
        confirmed: does the work of a poll, unless the account must not be polled.
    """

    def __init__(
        self,
        *,
        client: Client,
        keys: TagValues,
        ledger: AsyncLedger,
        runner: PollRunner,
        reach: Reach,
        clock: Clock,
        confirmed: Callable[[Work, datetime], Awaitable[Mapping[str, int]]],
    ) -> None:
        self._client = client
        self._keys = keys
        self._ledger = ledger
        self._runner = runner
        self._reach = reach
        self._clock = clock
        self._confirmed = confirmed
        self.polled: Polled = runner.expect(client.account, "tags")
        self._refused: tuple[datetime, str] | None = None
        self._months_at: datetime | None = None
        self._is_answered = False

    def remark(self) -> str:
        """Return a sentence where fal does not report by tags; empty where there is nothing to say."""
        if self._refused is None:
            return ""
        return (
            f"Spend is not known by tags, because fal does not report it by tags for this key: {self._refused[1]} "
            "Have fal switch reporting by tags on, and activate it for the keys; see Tags in the documentation."
        )

    async def poll(self) -> None:
        """Poll the last days, once a day the months too; newest first, and none more after a failure."""
        now = self._clock()
        if self._refused is not None and now - self._refused[0] < _REFUSED_FOR:
            return
        with_months = self._months_at is None or now - self._months_at >= _MONTHS_EVERY
        self._is_answered = False
        for window in self._windows(now, with_months=with_months):
            work = partial(self._confirmed, partial(self._unless_refused, window))
            if not await self._runner.poll(self.polled, work) or self._refused is not None:
                return
        if with_months:
            self._months_at = now

    def _windows(self, now: datetime, *, with_months: bool) -> Iterator[Window]:
        recent = trailing_window(now, self._reach.recent)
        start = min(recent.start, max(months_window(now, self._reach.zone).start, history_start(now, self._reach)))
        yield from history_pieces(start if with_months else recent.start, recent.end)

    async def _unless_refused(self, window: Window, at: datetime) -> Mapping[str, int]:
        """Read a window; that fal does not report by tags is no failure, as an alert on it would never be quiet.

        That it refuses one window after it has answered for another is one: tags are on, and hours are missing.
        """
        try:
            reading = await read_tagged(self._client, window, self._keys)
        except (BadRequestError, FeatureError, NotFoundError, ScopeError) as error:
            if self._is_answered:
                raise
            if self._refused is None:
                _log.info("fal does not report by tags", account=self._client.account, problem=str(error))
            self._refused = (self._clock(), str(error))
            return {}
        self._is_answered = True
        if self._refused is not None:
            _log.info("fal reports by tags", account=self._client.account)
            self._refused = None
        await self._ledger.run(lambda ledger: ledger.tags.record(reading, at=at))
        return reading.rejected
