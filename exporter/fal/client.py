"""The client: one account's way to fal."""

import asyncio
import random
import re
import ssl
import time
from collections.abc import Awaitable, Callable

import httpx
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from exporter import __version__
from exporter.charges import Clock, utc_now
from exporter.errors import ConfigurationError
from exporter.fal.answers import Scrub, refusal, scrubber
from exporter.fal.calls import Call, Host, Parameters
from exporter.fal.decoding import BrokenOffError, decoded
from exporter.fal.errors import (
    CallError,
    DeadlineError,
    LockedError,
    NotJsonError,
    ShapeError,
    SilenceError,
    TlsError,
    TooLargeError,
    TruncatedError,
    UnreachableError,
)
from exporter.fal.limits import Deadline, Limits
from exporter.fal.locks import Locks
from exporter.fal.observer import Observer
from exporter.fal.rejections import Rejections

PLATFORM_URL = "https://api.fal.ai/v1"
REPORTING_URL = "https://rest.alpha.fal.ai"

_KEY = re.compile(r"[\x21-\x7e]+")


class Client:
    """Makes one account's calls: with its key, patiently, and never more than its limits allow.

    Attributes:
        account: the account's name in the configuration.
        limits: the bounds of its traffic.
        locks: whether fal says that the account is locked.
        rejections: counts and shows the rows that are not understood.
        now: the wall clock.
        balance_call: the call that gave the credit balance last; kept here for `exporter.fal.balance`.
    """

    def __init__(
        self,
        *,
        account: str,
        key: Callable[[], SecretStr],
        observer: Observer,
        platform_url: str = PLATFORM_URL,
        reporting_url: str = REPORTING_URL,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Prepare the connections; none is made yet.

        Args:
            account: the account's name in the configuration.
            key: gives the key; asked before every request, so that a rotated key is used at once.
            observer: hears of every request.
            platform_url: base of the calls of `Host.PLATFORM`.
            reporting_url: base of the calls of `Host.REPORTING`.
            limits: the bounds of its traffic.
            tls: whom to trust; httpx's own by default, made anew for every client, which takes some 50 ms.
            transport: carries the requests; httpx's own by default.
            now: the wall clock, for a `Retry-After` that is a date.
            monotonic: the clock of the deadlines, in seconds.
            sleep: waits for so many seconds.
            jitter: gives numbers from 0 to 1 that spread the waits.

        Raises:
            ConfigurationError: a URL is none.
        """
        self.account = account
        self.limits = limits or Limits()
        self.locks = Locks(account, observer)
        self.rejections = Rejections(account, self.scrub)
        self.now = now
        self.balance_call: Call | None = None
        self._key = key
        self._observer = observer
        self._bases = {
            Host.PLATFORM: _base(account, Host.PLATFORM, platform_url),
            Host.REPORTING: _base(account, Host.REPORTING, reporting_url),
        }
        self._monotonic = monotonic
        self._sleep = sleep
        self._jitter = jitter
        self._slots = asyncio.Semaphore(self.limits.requests_at_once)
        read = self.limits.read_timeout.total_seconds()
        self._http = httpx.AsyncClient(
            verify=tls or True,
            transport=transport,
            headers={"User-Agent": f"fal-exporter/{__version__}", "Accept": "application/json"},
            timeout=httpx.Timeout(read, connect=self.limits.connect_timeout.total_seconds(), pool=None),
            limits=httpx.Limits(
                max_connections=self.limits.requests_at_once,
                max_keepalive_connections=self.limits.requests_at_once,
            ),
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def deadline(self) -> Deadline:
        """Start the time that all requests of one poll share."""
        return Deadline(self.limits.deadline, self._monotonic)

    def scrub(self, text: str) -> str:
        """Return a text of fal's as one line without the key."""
        return scrubber(self._secret())(text)

    async def get(self, call: Call, parameters: Parameters, deadline: Deadline, *, heed_lock: bool = True) -> object:
        """Make a call, again where that may help, and return the parsed answer.

        Args:
            call: which interface.
            parameters: its query.
            deadline: ends all attempts.
            heed_lock: whether a refusal for a lock counts for `locks`; not for calls that are made only once.

        Raises:
            CallError: every kind of failure; see `exporter.fal.errors`.
            ConfigurationError: the key cannot be one.
        """
        attempts = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, CallError) and error.transient),
            wait=self._backoff,
            stop=lambda state: self._enough(state, deadline),
            sleep=self._sleep,
            before_sleep=lambda _state: self._observer.retried(self.account, call.path),
            reraise=True,
        )
        try:
            answer: object = await attempts(self._attempt, call, parameters, deadline)
        except LockedError as error:
            if heed_lock:
                self.locks.refused(call.path, error.lock)
            raise
        self.locks.succeeded(call.path)
        return answer

    def failure(self, kind: type[CallError], call: Call, what: str) -> CallError:
        """Return the error of a call that failed without an error status of fal's."""
        return kind(what, account=self.account, call=call.path)

    def misshapen(self, call: Call, what: str) -> CallError:
        """Return the error for an answer that is JSON but not the promised one."""
        return self.failure(ShapeError, call, f"in fal's answer {what}")

    def _backoff(self, state: RetryCallState) -> float:
        """Return the seconds to wait: what fal asked for and a little more, else exponential with half of it random."""
        first = self.limits.first_backoff.total_seconds()
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, CallError) and error.retry_after is not None:
            return error.retry_after + first * self._jitter()
        # Beyond 32 doublings the longest wait has long been reached.
        doubled = first * (1 << min(state.attempt_number - 1, 32))
        return min(doubled, self.limits.longest_backoff.total_seconds()) * (1 + self._jitter()) / 2

    def _enough(self, state: RetryCallState, deadline: Deadline) -> bool:
        return state.attempt_number >= self.limits.attempts or state.upcoming_sleep >= deadline.remaining

    async def _attempt(self, call: Call, parameters: Parameters, deadline: Deadline) -> object:
        late = self.failure(DeadlineError, call, f"its poll was not done within {deadline.span.total_seconds():g} s")
        remaining = deadline.remaining
        if remaining <= 0:
            raise late
        try:
            async with asyncio.timeout(remaining), self._slots:
                return await self._exchange(call, parameters)
        except TimeoutError:
            raise late from None

    async def _exchange(self, call: Call, parameters: Parameters) -> object:
        key = self._secret()
        scrub = scrubber(key)
        started = self._monotonic()
        code = "error"
        response: httpx.Response | None = None
        try:
            request = self._http.build_request(
                "GET",
                self._bases[call.host] + call.path,
                params=parameters,
                headers={"Authorization": f"Key {key}"},
            )
            response = await self._http.send(request, stream=True)
            try:
                body = await self._body(response, call)
            finally:
                await response.aclose()
            code = str(response.status_code)
        except httpx.HTTPError as error:
            raise self._without_answer(call, error, scrub, answering=response is not None) from None
        finally:
            self._observer.answered(self.account, call.path, code, self._monotonic() - started)
        if not response.is_success:
            raise refusal(response, body, account=self.account, call=call.path, scrub=scrub, now=self.now)
        return self._parsed(call, body, scrub)

    async def _body(self, response: httpx.Response, call: Call) -> bytes:
        """Read the body, and stop as soon as it is too large on the wire or unpacked."""
        limit = self.limits.answer_bytes
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > limit or response.num_bytes_downloaded > limit:
                raise self.failure(TooLargeError, call, f"fal's answer is larger than {limit} bytes")
        return bytes(body)

    def _parsed(self, call: Call, body: bytes, scrub: Scrub) -> object:
        try:
            return decoded(body)
        except BrokenOffError as error:
            raise self.failure(TruncatedError, call, f"fal's answer is no whole JSON: {error}") from None
        except ValueError as error:
            begins = scrub(body.decode("utf-8", "replace"))[:60]
            what = f"fal's answer is no JSON: {error}; it begins {begins!r}" if body else "fal's answer is empty"
            raise self.failure(NotJsonError, call, what) from None

    def _without_answer(self, call: Call, error: httpx.HTTPError, scrub: Scrub, *, answering: bool) -> CallError:
        """Return our error for one of httpx's."""
        detail = scrub(str(error)) or type(error).__name__
        if isinstance(error, httpx.DecodingError):
            return self.failure(NotJsonError, call, f"fal's answer cannot be unpacked: {detail}")
        if isinstance(error, httpx.TimeoutException):
            return self.failure(SilenceError, call, f"no answer in time ({type(error).__name__})")
        if answering:
            return self.failure(TruncatedError, call, f"fal's answer broke off: {detail}")
        if _is_tls(error):
            return self.failure(TlsError, call, f"no trusted connection to the {call.host} URL: {detail}")
        return self.failure(UnreachableError, call, f"no connection to the {call.host} URL, or it broke: {detail}")

    def _secret(self) -> str:
        key = self._key().get_secret_value().strip()
        if not _KEY.fullmatch(key):
            raise ConfigurationError(
                f"the key of account {self.account!r} is empty or holds characters that no key has; "
                "copy it anew from fal.ai/dashboard/keys."
            )
        return key


def _base(account: str, host: Host, url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"the {host} URL of account {account!r} is none: {error}.") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError(f"the {host} URL of account {account!r} must begin with https:// and name a host.")
    return url.rstrip("/")


def _is_tls(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLError):
            return True
        error = error.__cause__ or error.__context__
    return False
