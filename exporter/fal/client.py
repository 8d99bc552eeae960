"""The client: one account's way to fal, call by call; see `exporter.fal.paging` for answers of several pages."""

import asyncio
import random
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import TypeVar

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from exporter.charges import Clock, utc_now
from exporter.fal.answers import Locks
from exporter.fal.carriage import Answer, Carrier, Errand
from exporter.fal.endpoints import Deadline, Endpoint, Host, Limits, Observer, Parameters
from exporter.fal.errors import ApiError, DeadlineError, LockedError, ShapeError
from exporter.fal.pacing import Pacing
from exporter.fal.rows import Rejections
from exporter.fal.transport import Parse, Transport
from exporter.logs import Secret

PLATFORM_URL = "https://api.fal.ai/v1"
REPORTING_URL = "https://rest.alpha.fal.ai"
REPORTING_FALLBACK_URL = "https://rest.fal.ai"
"""Name that fal's own clients use for the same host."""

Outcome = TypeVar("Outcome")


class Client:
    """Makes one account's calls: with its key, patiently, and never more than its limits allow.

    Attributes:
        account: the account's name in the configuration.
        limits: the bounds of its traffic.
        locks: whether fal says that the account is locked.
        rejections: counts and shows the rows that are not understood.
        now: the wall clock.
        balance_call: the call that gave the credit balance last; kept here for `exporter.fal.account`.
    """

    def __init__(
        self,
        *,
        account: str,
        key: Callable[[], Secret],
        observer: Observer,
        platform_url: str = PLATFORM_URL,
        reporting_url: str = REPORTING_URL,
        reporting_fallback_url: str | None = None,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        pacing: Pacing | None = None,
        carrier: Carrier | None = None,
    ) -> None:
        """Prepare the connections; none is made yet.

        Args:
            account: the account's name in the configuration.
            key: gives the key; asked before every request, so that a rotated key is used at once.
            observer: hears of every request.
            platform_url: base of the calls of `Host.PLATFORM`.
            reporting_url: base of the calls of `Host.REPORTING`.
            reporting_fallback_url: another base of them, for when the first cannot be reached or lacks a call.
            limits: the bounds of its traffic.
            tls: whom to trust; httpx's own by default, made anew for every client, which takes some 50 ms.
            transport: carries the requests; httpx's own by default.
            now: the wall clock, for a `Retry-After` that is a date.
            monotonic: the clock of the deadlines, in seconds.
            sleep: waits for so many seconds.
            jitter: gives numbers from 0 to 1 that spread the waits.
            pacing: shared with the clients of other accounts; None for one of its own.
            carrier: decides by which exporter calls are made; all are made here by default.

        Raises:
            ConfigurationError: a URL is not valid.
        """
        self.account = account
        self.limits = limits or Limits()
        self.locks = Locks(account, observer)
        self.rejections = Rejections(account, self.scrub)
        self.now = now
        self.balance_call: Endpoint | None = None
        self._observer = observer
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._slots = asyncio.Semaphore(self.limits.requests_at_once)
        self._pacing = pacing or Pacing()
        self._exchange = Transport(
            account=account,
            key=key,
            observer=observer,
            platform_url=platform_url,
            reporting_url=reporting_url,
            reporting_fallback_url=reporting_fallback_url,
            limits=self.limits,
            tls=tls,
            transport=transport,
            now=now,
            monotonic=monotonic,
            carrier=carrier,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._exchange.aclose()

    @property
    def reporting_url(self) -> str:
        """Base at which the calls of `Host.REPORTING` are made now."""
        return self._exchange.base_url(Host.REPORTING)

    def deadline(self, span: timedelta | None = None) -> Deadline:
        """Start the time that all requests of one poll share: the limits' own, unless given."""
        return Deadline(self.limits.deadline if span is None else span, self._monotonic)

    def scrub(self, text: str) -> str:
        """Return a text of fal's as one line without the key."""
        return self._exchange.scrub(text)

    def key_hash(self) -> str:
        """Return a hash of the key as it is now, from which the key cannot be recovered.

        Raises:
            ConfigurationError: the key cannot be one.
        """
        return self._exchange.key_hash()

    async def fetch(self, errand: Errand) -> Answer:
        """Make a call once for another exporter, which has waited for the account's turn.

        Raises:
            ConfigurationError: the key cannot be one.
        """
        return await self._exchange.fetch(errand)

    async def pause(self, span: timedelta) -> None:
        """Wait before a call that the caller makes once more."""
        await self._sleep(span.total_seconds())

    async def get(
        self,
        call: Endpoint,
        parameters: Parameters,
        deadline: Deadline,
        *,
        track_lock: bool = True,
        parse: Parse | None = None,
    ) -> object:
        """Make a call, again where that may help, and return the parsed answer.

        Args:
            call: which interface.
            parameters: its query.
            deadline: ends all attempts.
            track_lock: whether a refusal for a lock counts for `locks`; not for calls that are made only once, or so
                seldom that they would take it back hours after the others.
            parse: parses a body whose JSON may be large, and bounds the memory that this takes; None for what any JSON
                says.

        Raises:
            ApiError: every kind of failure; see `exporter.fal.errors`.
            ConfigurationError: the key cannot be one.
        """

        async def attempt() -> object:
            async with self._within(deadline, call):
                await self._slots.acquire()
            try:
                asked_at = self._monotonic()
                async with self._pacing.turn(self.account):
                    # That other accounts ask fal, too, is no reason for a poll to fail.
                    deadline.extend(self._monotonic() - asked_at)
                    async with self._within(deadline, call):
                        return await self._exchange.json(call, parameters, parse)
            finally:
                self._slots.release()

        return await self._patiently(attempt, call, deadline, track_lock=track_lock)

    async def stream(
        self, call: Endpoint, parameters: Parameters, deadline: Deadline, *, track_lock: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Make a call whose answer is a CSV of any length, and yield its body as it comes in.

        Until the first bytes are there, it is tried again where that may help. What has been yielded cannot be taken
        back: after that every failure is final. One of the account's requests is under way until the end; whoever
        stops before that closes the generator (`contextlib.aclosing`).

        Args:
            call: which interface.
            parameters: its query.
            deadline: ends all attempts and the body; the time that the caller takes over the pieces counts.
            track_lock: as for `get`.

        Raises:
            ApiError: every kind of failure; see `exporter.fal.errors`. A body that breaks off is a TruncatedError.
            ConfigurationError: the key cannot be one.
        """

        async def attempt() -> tuple[AsyncGenerator[bytes, None], bytes]:
            pieces = self._pieces(call, parameters, deadline)
            return pieces, await anext(pieces)

        pieces, piece = await self._patiently(attempt, call, deadline, track_lock=track_lock)
        async with aclosing(pieces):
            yield piece
            async for piece in pieces:
                yield piece

    def failure(self, kind: type[ApiError], call: Endpoint, what: str, advice: str = "") -> ApiError:
        """Return the error of a call that failed without an error status of fal's; its advice is the kind's own."""
        return self._exchange.failure(kind, call, what, advice)

    def misshapen(self, call: Endpoint, what: str) -> ApiError:
        """Return the error for JSON that was not promised, which "is not ...", or of which "`part` is not ..."."""
        is_whole = what.startswith("is ")
        return self.failure(ShapeError, call, f"{'' if is_whole else 'in '}fal's answer {what}")

    async def _pieces(self, call: Endpoint, parameters: Parameters, deadline: Deadline) -> AsyncGenerator[bytes, None]:
        within = partial(self._within, deadline, call)
        async with within():
            await self._slots.acquire()
        try:
            asked_at = self._monotonic()
            # A report takes hours, and would keep the turn of another.
            await self._pacing.begin(self.account)
            deadline.extend(self._monotonic() - asked_at)
            async with aclosing(self._exchange.csv(call, parameters, within)) as pieces:
                async for piece in pieces:
                    yield piece
        finally:
            self._slots.release()

    async def _patiently(
        self, attempt: Callable[[], Awaitable[Outcome]], call: Endpoint, deadline: Deadline, *, track_lock: bool
    ) -> Outcome:
        attempts = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, ApiError) and error.transient),
            wait=self._backoff,
            stop=lambda state: self._enough(state, deadline),
            sleep=self._sleep,
            before_sleep=lambda _state: self._observer.retried(self.account, call.path),
            reraise=True,
        )
        try:
            outcome: Outcome = await attempts(attempt)
        except LockedError as error:
            if track_lock:
                self.locks.refused(call.path, error.lock)
            raise
        self.locks.succeeded(call.path)
        return outcome

    def _backoff(self, state: RetryCallState) -> float:
        """Return the seconds to wait: what fal asked for and a little more, else exponential with half of it random."""
        first = self.limits.first_backoff.total_seconds()
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, ApiError) and error.retry_after is not None:
            return error.retry_after + first * self._jitter()
        # Beyond 32 doublings the longest wait has long been reached.
        doubled = first * (1 << min(state.attempt_number - 1, 32))
        return min(doubled, self.limits.longest_backoff.total_seconds()) * (1 + self._jitter()) / 2

    def _enough(self, state: RetryCallState, deadline: Deadline) -> bool:
        return state.attempt_number >= self.limits.attempts or state.upcoming_sleep >= deadline.remaining

    @asynccontextmanager
    async def _within(self, deadline: Deadline, call: Endpoint) -> AsyncIterator[None]:
        """End what is done inside when the deadline has passed."""
        late = self.failure(DeadlineError, call, f"its poll did not finish within {deadline.span.total_seconds():g} s")
        remaining = deadline.remaining
        if remaining <= 0:
            raise late
        try:
            async with asyncio.timeout(remaining):
                yield
        except TimeoutError:
            raise late from None
