"""Requests poller: an account's billing events, from fal into the store of requests, and beside the ledger.

It asks for one page at a time, with a pause after each, and waits while usage is polled: so it never starves the polls
that figures and alerts depend on. Everything else about it is optional, too: a refusal switches it off for a day.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog

from exporter.charges import HOUR, Clock, RequestColumns, Window, hour_of
from exporter.errors import LedgerError
from exporter.events import progress as progresses
from exporter.events import summaries
from exporter.events.objects import DamagedFileError
from exporter.events.progress import RETRY, Progress, Reading, first_progress, next_reading
from exporter.events.store import EventStore
from exporter.events.summaries import DEAREST, HourSummary, ModelCosts, SummaryError, quantile, totals
from exporter.fal import ApiError, BadRequestError, Client, FeatureError, NotFoundError, ScopeError
from exporter.fal.billing_events import MODELS_EVENTS, ORGANIZATION_EVENTS, EventPage, PageSequence, read_event_page
from exporter.fal.endpoints import Endpoint
from exporter.fal.errors import KeyRejectedError, PagingError, ServerError
from exporter.fal.rows import OUTSIDE_WINDOW
from exporter.ledger import LedgerReader
from exporter.metrics.requests import RequestMetrics
from exporter.overview import DearestRequest, RecentRequests, RequestsOfModel
from exporter.polling.account import AccountPoller
from exporter.polling.poll_runner import Polled, PollRunner
from exporter.polling.scheduler import Reach, history_start, trailing_window
from exporter.queries.requests import ChargedHours, charged_by_hour

_log = structlog.get_logger(__name__)

_PART = 50_000
"""Requests that are held in memory before they are kept as a part of a reading."""

_PAUSES = {MODELS_EVENTS: timedelta(milliseconds=500), ORGANIZATION_EVENTS: timedelta(milliseconds=100)}
"""After a page; those of an organization have 100 requests each."""

_WAIT = timedelta(seconds=1)
_LONGEST_WAIT = 60
"""Waits for usage polls, of _WAIT each, before a page is asked for all the same."""

_LONGEST_RUN = timedelta(minutes=4)
"""Time after which a run leaves what is left to the next one."""

_REFUSALS = (ScopeError, FeatureError, NotFoundError, ServerError, KeyRejectedError)
_UNTAGGED = (BadRequestError, ScopeError, FeatureError, NotFoundError)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """Settings of reading requests.

    Attributes:
        reach: how far back the jobs read.
        settle: age from which an hour is not expected to change.
        retention: age at which requests are deleted.
        tail_every: time between two looks at the running hour.
    """

    reach: Reach
    settle: timedelta
    retention: timedelta
    tail_every: timedelta


class RequestStore:
    """The store of all accounts, on a thread of its own.

    Args:
        store: opened for writing.
        ledger: read beside it, for comparison.
    """

    def __init__(self, store: EventStore, ledger: LedgerReader) -> None:
        self.store = store
        self.ledger = ledger
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="requests")
        self._is_clean = False

    async def run(self, work: Callable[[], Result]) -> Result:
        """Do work on the store's thread, once it has been cleaned there: a store that is away is tried again.

        Raises:
            EventsError: the store cannot be used now.
        """
        return await self._do(partial(self._clean_and, work))

    def _clean_and(self, work: Callable[[], Result]) -> Result:
        if not self._is_clean:
            self.store.clean()
            self._is_clean = True
        return work()

    async def _do(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """Finish what was begun, and let go of the store."""
        await self._do(self.store.close)
        await self._do(self.ledger.close)
        self._thread.shutdown(wait=True)


class RequestsPoller:
    """An account's requests.

    Args:
        client: the account's own.
        requests: where they are kept.
        runner: carries the polls out.
        metrics: shows what is known of them.
        rules: the settings.
        usage: polls the account's usage.
        confirm: makes sure that no other account is the same fal account.
        clock: the time.
    """

    def __init__(
        self,
        *,
        client: Client,
        requests: RequestStore,
        runner: PollRunner,
        metrics: RequestMetrics,
        rules: RequestRules,
        usage: AccountPoller,
        confirm: Callable[[str], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self.name = client.account
        self._client = client
        self._requests = requests
        self._runner = runner
        self._metrics = metrics
        self._rules = rules
        self._usage = usage
        self._confirm = confirm
        self._clock = clock
        self._progress: Progress | None = None
        self._hours: dict[datetime, HourSummary] = {}
        self._counts = _Counts(None)
        self._differing: frozenset[datetime] = frozenset()
        self._missing: set[datetime] = set()
        self._tidied: date | None = None
        self.polled: Polled = runner.expect(self.name, "requests")
        metrics.expect(self.name)

    async def poll(self) -> None:
        """Read what is to be read now."""
        await self._runner.poll(self.polled, self._work)

    @property
    def hours(self) -> tuple[HourSummary, ...]:
        """The sums of the hours of the deep window that have been read, oldest first."""
        return tuple(self._hours[hour] for hour in sorted(self._hours))

    async def _work(self, at: datetime) -> Mapping[str, int]:
        rejected: Counter[str] = Counter()
        await self._confirm(self.name)
        progress = await self._recall(at)
        await self._check(progress)
        deadline = self._client.deadline(_LONGEST_RUN)
        while (progress.off_until is None or at >= progress.off_until) and deadline.remaining > 0:
            await self._compare()
            reading = self._next(progress)
            if reading is None:
                break
            try:
                progress = await self._read(progress, reading, rejected)
            except _REFUSALS as error:
                progress = await self._switch_off(progress, error)
        await self._tidy(progress)
        self._metrics.read(self.name, through=progress.through, is_up=progress.off_until is None)
        return rejected

    def _next(self, progress: Progress) -> Reading | None:
        now = self._clock()
        rules = self._rules
        return next_reading(
            progress,
            now,
            history_from=max(history_start(now, rules.reach), hour_of(now - rules.retention) + HOUR),
            tail_every=rules.tail_every,
            settle=rules.settle,
            read={hour: summary.read_at for hour, summary in self._hours.items()},
            differing=self._differing,
            missing=self._missing,
        )

    async def _recall(self, now: datetime) -> Progress:
        """Return the state, read from the store at the first run."""
        if self._progress is None:
            store, window = self._requests.store, trailing_window(now, self._rules.reach.deep)
            document = await self._requests.run(lambda: store.document(self._document("progress")))
            try:
                progress = first_progress(now) if document is None else progresses.read_progress(document)
            except ValueError:
                _log.warning("how far requests had been read is not known; reading starts anew", account=self.name)
                progress = first_progress(now)
            known = await self._requests.run(lambda: store.summaries(self.name, window))
            self._hours = {summary.hour: summary for summary in known}
            counts = await self._requests.run(lambda: store.document(self._document("counts")))
            self._counts = _Counts(counts)
            self._metrics.counted(self.name, self._counts.totals())
            self._progress = progress
        return self._progress

    async def _keep(self, progress: Progress) -> Progress:
        store, document = self._requests.store, progresses.written(progress)
        await self._requests.run(lambda: store.keep_document(self._document("progress"), document))
        self._progress = progress
        return progress

    def _document(self, kind: str) -> str:
        return f"{kind}/{self.name}"

    async def _read(self, progress: Progress, reading: Reading, rejected: Counter[str]) -> Progress:
        """Read a window to its end, page by page; where it stops, the next run goes on."""
        call = self._call()
        held, odd = RequestColumns(), reading.rejected
        cursor = first = reading.cursor
        sequence = PageSequence(self._client, call, reading.parts * _PART)
        progress = progress.begin(reading)
        while True:
            if cursor != first:
                await self._client.pause(_PAUSES[call])
            await self._give_way()
            try:
                page, progress = await self._page(progress, call, reading, cursor)
                sequence.take(page)
            except (BadRequestError, PagingError):
                # A cursor that fal no longer knows, or that leads nowhere: the pages before it are read again.
                if cursor is not None:
                    await self._keep(progress.begin(reading.from_start()))
                raise
            rejected.update(page.rejected)
            # A row of another window is no request of this hour.
            odd += sum(count for reason, count in page.rejected.items() if reason != OUTSIDE_WINDOW)
            held.extend(page.requests)
            if page.cursor is None:
                break
            cursor = page.cursor
            if len(held) >= _PART:
                reading = await self._keep_part(reading, held, cursor, odd)
                progress = await self._keep(progress.begin(reading))
                held = RequestColumns()
        if reading.is_whole:
            try:
                await self._keep_hour(reading, held, odd)
            except DamagedFileError:
                await self._keep(progress.begin(reading.from_start()))
                raise
        elif held:
            await self._keep_part(reading, held, cursor, odd)
        progress = await self._keep(progress.done(reading))
        store, day = self._requests.store, reading.hour.date()
        await self._requests.run(lambda: store.drop_stale(self.name, day))
        return progress

    async def _page(
        self, progress: Progress, call: Endpoint, reading: Reading, cursor: str | None
    ) -> tuple[EventPage, Progress]:
        """Ask for a page; with tags where fal gives them, which is found out at the first one and again once a day."""
        window = (reading.start, reading.end)
        asks = cursor is None and (progress.tagged is None or (reading.is_whole and reading.hour.hour == 0))
        tagged = call is MODELS_EVENTS and (bool(progress.tagged) or asks)
        try:
            page = await read_event_page(
                self._client, call, window, self._client.deadline(), cursor=cursor, tagged=tagged
            )
        except _UNTAGGED:
            if not tagged or not asks:
                raise
            page = await read_event_page(self._client, call, window, self._client.deadline(), cursor=cursor)
            tagged = False
        return page, replace(progress, tagged=tagged) if asks else progress

    def _call(self) -> Endpoint:
        """Return the call that reports the requests of what the ledger counts."""
        return ORGANIZATION_EVENTS if "organization" in self._usage.sources else MODELS_EVENTS

    async def _give_way(self) -> None:
        """Wait while usage is polled."""
        for _ in range(_LONGEST_WAIT):
            if not any(polled.turn.locked() for polled in self._usage.polled if polled.is_usage):
                return
            await self._client.pause(_WAIT)

    async def _keep_part(self, reading: Reading, held: RequestColumns, cursor: str | None, rejected: int) -> Reading:
        store, number = self._requests.store, reading.parts
        await self._requests.run(
            lambda: store.keep_part(self.name, reading.hour, reading.read_at, number, held),
        )
        return reading.after(cursor, number + 1, rejected)

    async def _keep_hour(self, reading: Reading, held: RequestColumns, rejected: int) -> None:
        store = self._requests.store
        summary = await self._requests.run(
            lambda: store.keep_hour(self.name, reading.hour, reading.read_at, reading.parts, held, rejected=rejected)
        )
        start = trailing_window(self._clock(), self._rules.reach.deep).start
        self._missing.discard(summary.hour)
        self._hours[summary.hour] = summary
        self._hours = {hour: known for hour, known in self._hours.items() if hour >= start}
        is_counted = self._counts.count(summary, start)
        document = self._counts.document()
        await self._requests.run(lambda: store.keep_document(self._document("counts"), document))
        self._metrics.counted(self.name, self._counts.totals(), summary.samples if is_counted else ())
        self._runner.publish_soon()

    async def _switch_off(self, progress: Progress, error: ApiError) -> Progress:
        until = self._clock() + RETRY
        if progress.off_reason != str(error):
            _log.info(
                "requests cannot be read, and are tried again in a day; nothing else is affected",
                account=self.name,
                until=until.isoformat(timespec="minutes"),
                problem=str(error),
            )
        # What was read of the reading is in the state that was kept last.
        return await self._keep((self._progress or progress).switched_off(str(error), until))

    async def _compare(self) -> None:
        """Compare the hours that have been read with the ledger; what the ledger cannot tell now stays as it was."""
        if not self._hours:
            return
        window = Window(min(self._hours), max(self._hours) + HOUR)
        try:
            charged = await self._requests.run(lambda: self._charged(window))
        except LedgerError:
            return
        if charged.through is None:
            return
        every = charged.compare(self.hours, charged.through, with_rejected=True)
        self._differing = frozenset(difference.hour for difference in every.differences)
        self._metrics.compared(self.name, charged.compare(self.hours, charged.settled))

    def _charged(self, window: Window) -> ChargedHours:
        with self._requests.ledger.snapshot() as ledger:
            return charged_by_hour(ledger, self.name, window)

    async def _check(self, progress: Progress) -> None:
        """Find hours whose requests have been lost since they were read, at the start and once a day."""
        today = self._clock().astimezone(UTC).date()
        if self._tidied == today:
            return
        store = self._requests.store
        for damage in await self._requests.run(lambda: store.check(self.name)):
            _log.warning("a file of requests was set aside", account=self.name, problem=damage)
        start = max(progress.since, hour_of(self._clock() - self._rules.retention) + HOUR)
        if start >= progress.through:
            return
        window = Window(start, progress.through)
        read = await self._requests.run(lambda: store.read_hours(self.name, window))
        self._missing = {hour for hour in window.hours() if hour not in read}
        self._hours = {hour: one for hour, one in self._hours.items() if hour not in self._missing}
        if self._missing:
            _log.warning(
                "requests of some hours are missing, and are read again", account=self.name, hours=len(self._missing)
            )

    async def _tidy(self, progress: Progress) -> None:
        """Compact the days that are over, and delete those that are too old, once a day."""
        today = self._clock().astimezone(UTC).date()
        if self._tidied == today:
            return
        store, under_way = self._requests.store, progress.reading.hour.date() if progress.reading else None
        oldest = (self._clock() - self._rules.retention).astimezone(UTC).date()
        await self._requests.run(lambda: store.expire(self.name, oldest))
        for day in await self._requests.run(lambda: store.days(self.name)):
            if day < progress.through.date() and day != under_way:
                await self._requests.run(lambda day=day: store.compact(self.name, day))  # type: ignore[misc]
        self._tidied = today


class _Counts:
    """Costs by model since requests were first read: of every hour the most that any of its readings has found.

    So counts never fall, whatever fal takes back, and requests that come late are added.
    """

    def __init__(self, document: bytes | None) -> None:
        self._base: dict[str, ModelCosts] = {}
        self._hours: dict[datetime, HourSummary] = {}
        self._born: datetime | None = None
        if document:
            try:
                base, *hours = summaries.read(document)
            except (SummaryError, ValueError):
                return
            self._born, self._base = base.read_at, dict(base.models)
            self._hours = {summary.hour: summary for summary in hours}

    def count(self, summary: HourSummary, start: datetime) -> bool:
        """Count an hour, unless it is of the time before; hours before a start are folded. Return whether it counts."""
        if self._born is None:
            self._born = summary.hour
        if summary.hour < max(self._born, start):
            return False
        before = self._hours.get(summary.hour)
        models = {model: costs.copy() for model, costs in (before.models if before else {}).items()}
        for model, costs in summary.models.items():
            models.setdefault(model, ModelCosts()).raise_to(costs)
        self._hours[summary.hour] = HourSummary(summary.hour, summary.read_at, models)
        for hour in [hour for hour in self._hours if hour < start]:
            for model, costs in self._hours.pop(hour).models.items():
                self._base.setdefault(model, ModelCosts()).add(costs)
        return True

    def totals(self) -> dict[str, ModelCosts]:
        """Return the costs by model."""
        found = {model: costs.copy() for model, costs in self._base.items()}
        for summary in self._hours.values():
            for model, costs in summary.models.items():
                found.setdefault(model, ModelCosts()).add(costs)
        return found

    def document(self) -> bytes:
        """Return the state as a document."""
        born = self._born or datetime.min.replace(tzinfo=UTC)
        base = HourSummary(datetime.min.replace(tzinfo=UTC), born, self._base)
        return summaries.written([base, *(self._hours[hour] for hour in sorted(self._hours))])


_RECENT = timedelta(hours=24)
_MOST_MODELS = 8

RecentHours = tuple[tuple[str, HourSummary], ...]
"""Hours that have been read to their end, with their accounts."""


class ReadsRequests(Protocol):
    """Reads the requests of an account, as `RequestsPoller` does."""

    name: str

    @property
    def hours(self) -> Sequence[HourSummary]:
        """The sums of the hours that have been read to their end."""


class RecentRequestsMaker:
    """Sums up the hours of the last day, of all accounts together; anew only where another hour has been read.

    Args:
        pollers: read the requests of each account; may be filled later.
    """

    def __init__(self, pollers: Sequence[ReadsRequests]) -> None:
        self._pollers = pollers
        self._key: tuple[tuple[str, datetime, datetime], ...] = ()
        self._made: RecentRequests | None = None

    def __call__(self) -> RecentRequests | None:
        """Return the sums; None before an hour has been read."""
        hours = [(poller.name, summary) for poller in self._pollers for summary in poller.hours]
        newest = max((summary.hour for _, summary in hours), default=None)
        if newest is None:
            return None
        recent = tuple((name, summary) for name, summary in hours if summary.hour > newest - _RECENT)
        key = tuple((name, summary.hour, summary.read_at) for name, summary in recent)
        if key != self._key:
            self._key, self._made = key, recent_requests(recent, [poller.name for poller in self._pollers])
        return self._made


def recent_requests(hours: RecentHours, accounts: Sequence[str] = ()) -> RecentRequests:
    """Return what the requests of some hours cost by model, the most expensive models and requests first.

    Args:
        hours: of all accounts.
        accounts: all accounts whose requests are read; their hours that are missing are named.
    """
    by_model = sorted(totals(summary for _, summary in hours).items(), key=lambda item: (-item[1].cost, item[0]))
    rest = ModelCosts()
    for _, costs in by_model[_MOST_MODELS:]:
        rest.add(costs)
    dearest = sorted(
        (
            DearestRequest(name, dear.request_id, dear.model, dear.at, dear.cost)
            for name, summary in hours
            for dear in summary.dearest
        ),
        key=lambda dear: (-dear.cost, dear.request_id),
    )
    since = min(summary.hour for _, summary in hours)
    through = max(summary.hour for _, summary in hours) + HOUR
    return RecentRequests(
        since=since,
        through=through,
        models=tuple(_of_model(model, costs) for model, costs in by_model[:_MOST_MODELS]),
        others=len(by_model[_MOST_MODELS:]),
        rest=_of_model("", rest) if rest.requests else None,
        dearest=tuple(dearest[:DEAREST]),
        notes=tuple(_recent_notes(hours, accounts, (through - since) // HOUR)),
    )


def _recent_notes(hours: RecentHours, accounts: Sequence[str], expected: int) -> Iterator[str]:
    """Yield what is missing of a number of hours of each account."""
    for account in accounts:
        read = [summary for name, summary in hours if name == account]
        if len(read) < expected:
            missing = "1 hour" if expected - len(read) == 1 else f"{expected - len(read)} hours"
            yield f"{missing} of account {account} not read yet, and not in these figures."
        rejected = sum(summary.rejected for summary in read)
        if rejected:
            rows = "1 row" if rejected == 1 else f"{rejected} rows"
            yield f"{rows} of account {account} cannot be read, and not in these figures."


def _of_model(model: str, costs: ModelCosts) -> RequestsOfModel:
    return RequestsOfModel(
        model, costs.requests, costs.cost, *(quantile(costs, share) or 0.0 for share in (0.5, 0.95, 0.99))
    )
