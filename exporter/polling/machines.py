"""Machines of an account: settings of its apps, their runners, requests and queues, read beside what it is charged.

All of it is an extra. It is read one call after the other, with a pause between them, so that usage never waits for it.
Where fal refuses it to the key, nothing fails unless the user has asked for it; it is asked for again once a day.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Literal

import structlog

from exporter.charges import HOUR, Clock, Window, hour_of, hour_start
from exporter.errors import UpstreamError
from exporter.fal import (
    Client,
    FeatureError,
    ListedApp,
    NotFoundError,
    ScopeError,
    read_apps,
    read_idle_runners,
    read_queue,
    read_requests,
    read_runners,
)
from exporter.ledger import Ledger
from exporter.machines import RequestHour, RunnerHour
from exporter.metrics.health import Health
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.poll_runner import Polled, PollRunner, Work
from exporter.polling.scheduler import Reach, history_start

_log = structlog.get_logger(__name__)

Mode = Literal["auto", "true", "false"]
"""Choice of when machines are polled: where the key may read them, in any case, or not at all."""

TELL_APPS = frozenset({"serverless", "organization", "reporting", "focus"})
"""The sources that report charges of apps."""

_REFUSED_FOR = timedelta(days=1)
"""Time after which what fal refuses is asked for again: the key's scope may have changed."""

_DEEP_EVERY = timedelta(days=1)
_PAUSE = timedelta(milliseconds=200)
_PIECE_HOURS = 30 * 24
_LONGEST_HISTORY = timedelta(days=89)
_CHARGED_WITHIN = timedelta(days=30)
_MOST_QUEUES = 200
"""Apps whose queues are read at a turn, a call each."""

App = tuple[str, str]
"""Owner and name: fal states runners and queues of all environments of an app together."""


class MachinePolls:
    """Polls the machines of one account.

    Args:
        client: the account's own.
        ledger: where they are kept.
        runner: carries the polls out.
        health: shows queues.
        reach: how far back usage is read again.
        clock: the time.
        confirmed: does the work of a poll, unless the account must not be polled.
        mode: whether they are polled.
    """

    def __init__(
        self,
        *,
        client: Client,
        ledger: AsyncLedger,
        runner: PollRunner,
        health: Health,
        reach: Reach,
        clock: Clock,
        confirmed: Callable[[Work, datetime], Awaitable[Mapping[str, int]]],
        mode: Mode = "auto",
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._runner = runner
        self._health = health
        self._reach = reach
        self._clock = clock
        self._confirmed = confirmed
        self._mode = mode
        self._polled = (
            {} if mode == "false" else {name: self._expect(name) for name in ("apps", "runners", "analytics")}
        )
        self._queues = None if mode == "false" else self._expect("queues")
        self._refused: dict[str, tuple[datetime, str]] = {}
        self._listed: tuple[ListedApp, ...] = ()
        self._deep_at: dict[str, datetime] = {}
        self._turn = asyncio.Lock()

    @property
    def polled(self) -> tuple[Polled, ...]:
        """The things that are polled."""
        return (*self._polled.values(), *(() if self._queues is None else (self._queues,)))

    def remark(self) -> str:
        """Return a sentence on what cannot be read; empty where there is nothing to say."""
        refused = next((self._refused[name] for name in ("apps", "runners") if name in self._refused), None)
        if refused is None:
            return ""
        return f"What idle runners cost is not known, because fal does not show them to the key: {refused[1]}"

    async def poll(self, sources: Collection[str]) -> None:
        """Poll settings, then runners and requests of the hours that may have changed.

        Args:
            sources: those that are polled; only some report charges of apps.
        """
        if not self._polled or TELL_APPS.isdisjoint(sources):
            return
        async with self._turn:
            await self._poll("apps", self._read_apps)
            if "apps" not in self._refused and self._polled["apps"].state not in {"waiting", "failing"}:
                await self._poll("runners", self._read_runners)
                await self._poll("analytics", self._read_requests)

    async def poll_queues(self) -> None:
        """Poll how many requests wait for each app, and of apps with a queue how many runners are idle."""
        if self._queues is not None and self._listed:
            await self._poll("queues", self._read_queues)

    def _expect(self, name: str) -> Polled:
        return self._runner.expect(self._client.account, name)

    async def _poll(self, name: str, work: Work) -> None:
        polled = self._queues if name == "queues" else self._polled[name]
        refused_at, _ = self._refused.get(name, (None, ""))
        if polled is not None and (refused_at is None or self._clock() - refused_at >= _REFUSED_FOR):
            await self._runner.poll(polled, partial(self._confirmed, partial(self._unless_refused, name, work)))

    async def _unless_refused(self, name: str, work: Work, at: datetime) -> Mapping[str, int]:
        """Do the work; that fal refuses it to the key is a failure only where the user has asked for it."""
        try:
            rejected = await work(at)
        except (FeatureError, NotFoundError, ScopeError) as error:
            if self._mode == "true":
                raise
            if name not in self._refused:
                _log.info(f"{name} of the account cannot be read", account=self._client.account, problem=str(error))
            self._refused[name] = (self._clock(), str(error))
            if name == "runners":
                # What is not shown stays unknown; waiting for it would keep counters of states from growing.
                window = Window(hour_of(at) - HOUR, hour_of(at) + HOUR)
                await self._record_runners(await self._window(name, at) or window, {}, is_whole=True)
            return {}
        if self._refused.pop(name, None) is not None:
            _log.info(f"{name} of the account can be read again", account=self._client.account)
        return rejected

    async def _read_apps(self, at: datetime) -> Mapping[str, int]:
        del at
        listed = await read_apps(self._client)
        settings, is_whole = [app.settings for app in listed], not listed.rejected
        await self._ledger.run(
            lambda ledger: ledger.machines.record_settings(self._client.account, settings, is_whole=is_whole)
        )
        read = {_place(app) for app in listed}
        # What cannot be read may be any app that has been listed before: it is asked for as before.
        others = () if is_whole else [app for app in self._listed if _place(app) not in read]
        self._listed = (*listed, *others)
        return listed.rejected

    async def _read_runners(self, at: datetime) -> Mapping[str, int]:
        rejected: dict[str, int] = {}
        for window in await self._pieces("runners", at):
            found: dict[str, Sequence[RunnerHour]] = {}
            failure: UpstreamError | None = None
            for owner, name in self._apps():
                try:
                    hours = await read_runners(self._client, owner, name, window, self._client.deadline())
                except NotFoundError:
                    # It was deleted after it had been listed.
                    hours = None
                except (FeatureError, ScopeError):
                    raise
                except UpstreamError as error:
                    failure = error
                    continue
                if hours is not None:
                    found[name] = _joined(found.get(name, ()), hours)
                    _add(rejected, hours.rejected)
                await self._client.pause(_PAUSE)
            await self._record_runners(window, found, is_whole=failure is None)
            if failure is not None:
                raise failure
        self._deepened("runners", at)
        return rejected

    async def _record_runners(
        self, window: Window, runners: Mapping[str, Sequence[RunnerHour]], *, is_whole: bool
    ) -> None:
        account = self._client.account
        await self._ledger.run(
            lambda ledger: ledger.machines.record_runners(account, window, runners, is_whole=is_whole)
        )
        self._runner.publish_soon()

    async def _read_requests(self, at: datetime) -> Mapping[str, int]:
        rejected: dict[str, int] = {}
        account = self._client.account
        own = {endpoint: app.settings.app for app in self._listed for endpoint in app.endpoints}
        for window in await self._pieces("analytics", at):
            charged = Window(window.end - max(len(window) * HOUR, _CHARGED_WITHIN), window.end)
            models = await self._ledger.run(partial(_models, account, charged))
            asked: list[RequestHour] = []
            names: list[tuple[str, str]] = []
            for product, endpoints in (("serverless", own), ("model_apis", {model: model for model in models})):
                if endpoints:
                    found = await read_requests(self._client, product, endpoints, window, self._client.deadline())
                    asked += found
                    names += [(product, name) for name in dict.fromkeys(endpoints.values())]
                    _add(rejected, found.rejected)
                    await self._client.pause(_PAUSE)
            await self._ledger.run(
                lambda ledger, window=window, names=names, asked=asked: ledger.machines.record_requests(  # type: ignore[misc]  # a lambda's defaults have no types
                    account, window, names, asked
                )
            )
        self._deepened("analytics", at)
        return rejected

    async def _read_queues(self, at: datetime) -> Mapping[str, int]:
        del at
        deadline = self._client.deadline()
        sizes: dict[str, int] = {}
        idle: dict[str, int] = {}
        for owner, name in self._apps()[:_MOST_QUEUES]:
            try:
                size = await read_queue(self._client, owner, name, deadline)
                waiting = await read_idle_runners(self._client, owner, name, deadline) if size else None
            except NotFoundError:
                continue
            sizes[name] = sizes.get(name, 0) + size
            if waiting is not None:
                idle[name] = idle.get(name, 0) + waiting
            await self._client.pause(_PAUSE)
        self._health.queues(self._client.account, sizes, idle)
        return {}

    def _apps(self) -> tuple[App, ...]:
        return tuple(dict.fromkeys((app.settings.owner, app.settings.app) for app in self._listed))

    async def _pieces(self, name: str, at: datetime) -> Iterator[Window]:
        window = await self._window(name, at)
        return iter(()) if window is None else window.pieces(_PIECE_HOURS)

    async def _window(self, name: str, at: datetime) -> Window | None:
        """Return the hours to read: the history at first, then what usage is read again for."""
        account = self._client.account
        known = await self._ledger.run(lambda ledger: ledger.machines.account(account))
        if known is None:
            return None
        through = known.runners_through if name == "runners" else known.requests_through
        earliest = hour_of(at - _LONGEST_HISTORY)
        if through is None:
            return Window(max(earliest, history_start(at, self._reach)), hour_of(at) + HOUR)
        deep_at = self._deep_at.get(name)
        is_deep = deep_at is None or at - deep_at >= _DEEP_EVERY
        again = hour_of(at - (self._reach.deep if is_deep else self._reach.recent))
        start = min(again, hour_start(through), hour_of(at))
        return Window(max(earliest, start), hour_of(at) + HOUR)

    def _deepened(self, name: str, at: datetime) -> None:
        deep_at = self._deep_at.get(name)
        if deep_at is None or at - deep_at >= _DEEP_EVERY:
            self._deep_at[name] = at


def _models(account: str, window: Window, ledger: Ledger) -> tuple[str, ...]:
    return ledger.machines.models(account, window)


def _place(app: ListedApp) -> tuple[str, str]:
    return app.settings.endpoint, app.settings.environment


def _joined(known: Sequence[RunnerHour], more: Iterable[RunnerHour]) -> Sequence[RunnerHour]:
    """Add up the runners of apps of one name: charges do not say whose they are."""
    hours = {item.hour: item for item in known}
    for item in more:
        before = hours.get(item.hour)
        hours[item.hour] = item if before is None else item._replace(runners=item.runners.plus(before.runners))
    return tuple(hours.values())


def _add(counts: dict[str, int], more: Mapping[str, int]) -> None:
    for reason, count in more.items():
        counts[reason] = counts.get(reason, 0) + count
