"""Tags of an account: its spend on model endpoints by the tags that callers sent, polled beside the primary source.

It is an extra. Where fal does not report by tags, nothing fails: all spend is untagged, and fal is asked again once a
day, and by every start.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial

import structlog

from exporter.charges import Clock, Window
from exporter.fal import BadRequestError, Client, FeatureError, NotFoundError, ScopeError, read_tagged
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.poll_runner import Polled, PollRunner, Work
from exporter.polling.scheduler import Reach, history_pieces, history_start, months_window, trailing_window
from exporter.tags import TagValues

_log = structlog.get_logger(__name__)

_REFUSED_FOR = timedelta(days=1)
"""Time after which fal is asked again whether it reports by tags."""

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
        """Read a window; that fal does not report by tags is no failure, as an alert on it would never be quiet."""
        try:
            reading = await read_tagged(self._client, window, self._keys)
        except (BadRequestError, FeatureError, NotFoundError, ScopeError) as error:
            if self._refused is None:
                _log.info("fal does not report by tags", account=self._client.account, problem=str(error))
            self._refused = (self._clock(), str(error))
            return {}
        if self._refused is not None:
            _log.info("fal reports by tags", account=self._client.account)
            self._refused = None
        await self._ledger.run(lambda ledger: ledger.tags.record(reading, at=at))
        return reading.rejected
