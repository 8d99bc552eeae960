"""Usage reader: the charges of one source, from fal into the ledger, as whole as fal tells them.

An answer is not whole where rows of it cannot be read, or where fal refuses a detail that it has told before. The
ledger then keeps what it has: rows that cannot be read lower no hour, an answer of which most rows cannot be read is
none, and how much a source tells is never lowered by a refusal.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import datetime, timedelta

import structlog

from exporter import __version__
from exporter.charges import HOUR, Clock, Window, dollar_text, hour_of
from exporter.errors import UpstreamError
from exporter.fal import ApiError, Detail, Reading, UsageSource
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.poll_runner import Polled

_log = structlog.get_logger(__name__)

MOST_UNREADABLE = 0.5
"""Share of the rows of an answer; if more of them cannot be read, the poll fails and nothing is counted."""

_DAILY = timedelta(days=1)


class UnreadableAnswerError(UpstreamError):
    """Most rows of an answer cannot be read; nothing of it was counted."""

    reason = "unreadable"

    def __init__(self, reading: Reading, unreadable: int) -> None:
        reasons = ", ".join(f"{rows} {reason}" for reason, rows in sorted(reading.rejected.items()))
        rows = "no row" if not reading.rows else f"only {reading.rows} of {reading.rows + unreadable} rows"
        super().__init__(
            f"{rows} that the source {reading.source} gives for {reading.window} can be read ({reasons}); the ledger "
            "keeps what it has. fal's API may have changed: check for a newer version of the exporter."
        )


class UsageReader:
    """Reads one source of one account into the ledger.

    Args:
        upstream: the source.
        account: the account's name.
        ledger: where readings are kept.
        with_api_key: whether charges are wanted by API key.
        clock: the time.
        meet_keys: called with the keys of a reading before the ledger has it, so that they have their names.

    Attributes:
        upstream: the source.
    """

    def __init__(
        self,
        upstream: UsageSource,
        *,
        account: str,
        ledger: AsyncLedger,
        with_api_key: bool,
        clock: Clock,
        meet_keys: Callable[[Collection[str]], Awaitable[None]],
    ) -> None:
        self.upstream = self._upstream = upstream
        self._account = account
        self._ledger = ledger
        self._with_api_key = with_api_key
        self._clock = clock
        self._meet_keys = meet_keys
        self._kept: Detail | None = None

    async def read(self, window: Window, polled: Polled, at: datetime) -> Mapping[str, int]:
        """Read a window into the ledger; return how many rows were rejected, by reason.

        Args:
            window: whole UTC hours.
            polled: is told which rows of the source cannot be read now.
            at: when the poll began.

        Raises:
            ApiError, UnreadableAnswerError: fal gave no answer that can be counted.
            LedgerError: the ledger cannot be read or written.
        """
        source = self._upstream.name
        await self._recall_detail()
        reading = await self._upstream.read(window, with_api_key=self._with_api_key)
        unreadable = sum(not row.is_counted for row in reading.rejected_rows)
        if unreadable > MOST_UNREADABLE * (reading.rows + unreadable):
            raise UnreadableAnswerError(reading, unreadable)
        await self._keep_detail()
        if self._with_api_key:
            await self._meet_keys({charge.dimensions.api_key for charge in reading.charges} - {""})
        restatement = await self._ledger.restate(self._account, source, reading, at=at)
        polled.rejected = restatement.rejected
        if restatement.relabelled:
            _log.info(
                "fal reported charges again under other labels; they are not counted again",
                account=self._account,
                source=source,
                window=str(window),
                amount=dollar_text(restatement.relabelled),
            )
        _log.debug("polled", account=self._account, source=source, window=str(window), changed=not restatement.is_empty)
        return reading.rejected

    async def ask_for_detail_if_due(self) -> None:
        """Ask for what fal has refused to tell, where that was a day ago, or by another version.

        Raises:
            LedgerError: the answer cannot be kept.
            ConfigurationError: the key cannot be used.
        """
        upstream, now = self._upstream, self._clock()
        await self._recall_detail()
        before = upstream.detail
        if before is not Detail.REDUCED:
            return
        asked_at, version = await self._asked()
        if version == __version__ and asked_at is not None and now - asked_at < _DAILY:
            return
        hour = hour_of(now) - HOUR
        try:
            await upstream.ask_for_detail(Window(hour, hour + HOUR))
        except ApiError as error:
            _log.info(
                "more detail could not be requested", account=self._account, source=upstream.name, problem=str(error)
            )
            return
        self._kept = None
        await self._keep_detail()
        if upstream.detail is not before:
            _log.info(
                "fal reports more detail for each charge from now on; charges that it reports again under other "
                "labels are not counted again",
                account=self._account,
                source=upstream.name,
            )

    async def _recall_detail(self) -> None:
        """Take up what the ledger knows of the source's detail, once."""
        if self._upstream.detail is not Detail.UNKNOWN:
            return
        for scope in await self._ledger.scopes():
            if (scope.account, scope.source) == (self._account, self._upstream.name) and scope.detail:
                self._upstream.detail = self._kept = Detail(scope.detail)

    async def _keep_detail(self) -> None:
        """Keep how much the source tells where that has been found out or has changed."""
        detail = self._upstream.detail
        if detail and detail is not self._kept:
            await self._ledger.record_detail(
                self._account, self._upstream.name, detail.value, at=self._clock(), version=__version__
            )
            self._kept = detail

    async def _asked(self) -> tuple[datetime | None, str]:
        for scope in await self._ledger.scopes():
            if (scope.account, scope.source) == (self._account, self._upstream.name):
                return scope.detail_asked_at, scope.detail_version
        return None, ""
