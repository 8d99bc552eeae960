"""Remote writer: sends the ledger's parcels of hourly samples to a store of time series until they have arrived.

A parcel is sent until the store has acknowledged it, and none after it goes before. What a store will never take is
found by halving the request, and its amounts are told with the next hour. A store that takes no late samples at all is
asked again only every hour.
"""

import asyncio
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from itertools import groupby
from pathlib import Path

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt

from exporter.charges import Clock
from exporter.errors import ConfigurationError, FalExporterError
from exporter.fal.answers import retry_after
from exporter.ledger.tables.remote import Parcel
from exporter.logs import Secret, redact
from exporter.metrics.health import Health
from exporter.metrics.jobs import RemoteWriteMetrics
from exporter.metrics.remote_write import V1, V2, Protocol, check_libraries, encoded
from exporter.network import named_authorities, proxy_for
from exporter.polling.async_ledger import AsyncLedger

_log = structlog.get_logger(__name__)

_TIMEOUT = 30.0
"""Seconds for which a store may say nothing."""

_LONGEST_EXCHANGE = 60.0
"""Seconds after which a request is given up whose answer comes in byte by byte."""

_LONGEST_REST = 3600.0
"""Seconds for which a store is left alone at most, whatever it asks: one that is well again is written to again."""

_ATTEMPTS = 5
_LONGEST_PAUSE = 30.0
_SHOWN = 200
_SECRET = 8

_ASKED_AGAIN = timedelta(hours=1)
"""Time after which a store that has refused late samples is given some again."""

_STORED = re.compile(r"out.of.order|duplicate", re.IGNORECASE)
_TOO_OLD = re.compile(r"out.of.bounds|too.old|too.far.in.the.past", re.IGNORECASE)
_WRITTEN = "X-Prometheus-Remote-Write-Samples-Written"


class RemoteWriteError(FalExporterError):
    """Samples could not be sent; the message says why."""


@dataclass(frozen=True, slots=True)
class Store:
    """A store of time series, and how it is spoken to.

    Attributes:
        url: of remote write.
        labels: that every series is given.
        headers: of every request.
        user, password: for basic authentication.
        token: a bearer token.
        ca_file: certificate authorities that are trusted; None for the system's.
        cert_file, key_file: certificate of the exporter, and its key.
        reach: how far back it takes samples.
    """

    url: str
    reach: timedelta
    labels: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    user: str | None = None
    password: Secret | None = None
    token: Secret | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def secrets(self) -> list[str]:
        """Return what must be in no message; the value of a header that is short is the name of a tenant."""
        kept = [secret.get_secret_value() for secret in (self.password, self.token) if secret is not None]
        return [*kept, *(value for value in self.headers.values() if len(value) >= _SECRET)]

    def client(self) -> httpx.AsyncClient:
        """Return a client.

        Raises:
            ConfigurationError: a certificate cannot be used.
        """
        headers = {**self.headers, "User-Agent": "fal-exporter"}
        if self.token is not None:
            headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        auth = None
        if self.user is not None and self.password is not None:
            auth = httpx.BasicAuth(self.user, self.password.get_secret_value())
        proxy = proxy_for(self.url)
        return httpx.AsyncClient(
            headers=headers,
            auth=auth,
            timeout=_TIMEOUT,
            verify=self._verification(),
            proxy=None if proxy is None else proxy.url,
            trust_env=False,
            follow_redirects=False,
        )

    def _verification(self) -> ssl.SSLContext:
        if not self.url.startswith("https:"):
            # The authorities of the whole world take time and memory to be read.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca_file is not None:
                context = ssl.create_default_context(cafile=self.ca_file)
            else:
                context = named_authorities() or ssl.create_default_context()
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"FAL_EXPORTER_REMOTE_WRITE_CA_FILE: {self.ca_file} has no certificates that can be read: "
                f"{error.strerror or 'not in PEM format'}; name a file of certificate authorities"
            ) from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"FAL_EXPORTER_REMOTE_WRITE_CERT_FILE: {self.cert_file} and its key cannot be used: "
                    f"{error.strerror or 'not in PEM format, or not of each other'}; name a certificate and its key"
                ) from None
        return context


@dataclass(frozen=True, slots=True)
class _Answer:
    """Answer of a store about samples: taken (no reason), or the reason why it will never take all of them."""

    reason: str = ""
    is_too_large: bool = False


class _TryAgainError(RemoteWriteError):
    """The store may take the same request later.

    Attributes:
        after: seconds that it asks to be left alone for; None where it does not say.
    """

    def __init__(self, sentence: str, after: float | None = None) -> None:
        super().__init__(sentence)
        self.after = after


class RemoteWriter:
    """Sends what the ledger has to tell to one store.

    Args:
        store: where to.
        ledger: makes the parcels.
        metrics: shows how it goes.
        health: keeps what is wrong for the landing page.
        changed: is told when there is something new to show.
        clock: the time.
        sleep: waits for some seconds.

    Raises:
        ConfigurationError: from the initialiser: a library is missing, or a certificate cannot be used.
    """

    def __init__(
        self,
        store: Store,
        *,
        ledger: AsyncLedger,
        metrics: RemoteWriteMetrics,
        health: Health,
        changed: Callable[[], None],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        check_libraries()
        self._store = store
        self._client = store.client()
        self._ledger = ledger
        self._metrics = metrics
        self._health = health
        self._changed = changed
        self._clock = clock
        self._sleep = sleep
        self._protocol: Protocol = V2
        self._is_agreed = False
        self._not_before: datetime | None = None
        self._no_late_until: datetime | None = None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def has_begun(self) -> bool:
        """Return whether anything has been told yet: what the first hour is, is decided once."""
        return (await self._ledger.run(lambda ledger: ledger.remote.standing())).through is not None

    async def write(self) -> None:
        """Send all that there is to tell.

        Raises:
            RemoteWriteError: the store cannot be reached or refuses; the next run goes on where this one ended.
        """
        if self._not_before is not None and self._clock() < self._not_before:
            return
        self._not_before = None
        try:
            while parcels := await self._ledger.run(lambda ledger: ledger.remote.parcels(self._reach())):
                for parcel in parcels:
                    await self._deliver(parcel)
        except RemoteWriteError as error:
            if isinstance(error, _TryAgainError) and error.after is not None:
                self._not_before = self._clock() + timedelta(seconds=error.after)
            await self._ended(str(error))
            raise
        await self._ended("")

    async def _ended(self, problem: str) -> None:
        self._health.remote_write_problem = problem
        standing = await self._ledger.run(lambda ledger: ledger.remote.standing())
        self._metrics.ended(self._clock(), is_success=not problem, standing=standing)
        self._changed()

    def _reach(self) -> timedelta:
        """Return how far back the store takes samples as far as is known: not at all, once it has refused late ones."""
        if self._no_late_until is None or self._clock() >= self._no_late_until:
            return self._store.reach
        return timedelta(0)

    async def _deliver(self, parcel: Parcel) -> None:
        refused = await self._send(parcel, range(len(parcel.samples)))
        carried = await self._ledger.run(lambda ledger: ledger.remote.arrived(parcel.number, refused))
        if not refused:
            return
        self._metrics.refused(carried=carried, dropped=len(refused) - carried)
        late = [place for place, samples in enumerate(parcel.samples) if samples.is_correction]
        if late and set(late) <= set(refused):
            self._no_late_until = self._clock() + _ASKED_AGAIN
        _log.warning(
            "the store of remote write does not take some samples",
            refused=len(refused),
            told_with_the_next_hour=carried,
            advice="let it take samples out of order (see Remote write), or lower FAL_EXPORTER_REMOTE_WRITE_REACH",
        )

    async def _send(self, parcel: Parcel, places: Sequence[int]) -> list[int]:
        """Send samples; return the places of those that the store will never take."""
        answer = await self._exchange(parcel, places)
        if not answer.reason:
            return []
        if len(places) == 1:
            if answer.is_too_large:
                raise RemoteWriteError(answer.reason)
            # First samples are later than all that has been sent of their series: what is out of order is there.
            is_there = _STORED.search(answer.reason) and not parcel.samples[places[0]].is_correction
            return [] if is_there else list(places)
        if _TOO_OLD.search(answer.reason):
            # All of an hour are of the same age. A newer one must not be tried before an older one, which a store
            # without late samples would then refuse.
            hours = [list(of) for _, of in groupby(places, key=lambda place: parcel.samples[place].hour)]
            if len(hours) == 1:
                return list(places)
            return [place for of in hours for place in await self._send(parcel, of)]
        middle = len(places) // 2
        return [*await self._send(parcel, places[:middle]), *await self._send(parcel, places[middle:])]

    async def _exchange(self, parcel: Parcel, places: Sequence[int]) -> _Answer:
        attempts = AsyncRetrying(
            stop=stop_after_attempt(_ATTEMPTS),
            retry=retry_if_exception_type(_TryAgainError),
            wait=_pause,
            sleep=self._sleep,
            reraise=True,
        )
        async for attempt in attempts:
            with attempt:
                return await self._agreed_exchange(parcel, places)
        raise AssertionError

    async def _agreed_exchange(self, parcel: Parcel, places: Sequence[int]) -> _Answer:
        """Send in the version that the store takes: 2.0 until it is seen not to know that."""
        body, samples = encoded(self._protocol, parcel, places, self._store.labels)
        response, said = await self._post(body)
        status = response.status_code
        written = response.headers.get(_WRITTEN, "")
        is_read = self._protocol is V1 or self._is_agreed or written.isdecimal()
        if self._protocol is V2 and (
            status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
            or ((response.is_success or status == HTTPStatus.BAD_REQUEST) and not is_read)
        ):
            # A store that knows only 1.0 may take a message of 2.0 for an empty one. One that knows 2.0 says how many
            # samples it has written.
            self._protocol = V1
            return await self._agreed_exchange(parcel, places)
        if response.is_success:
            self._is_agreed = True
            if self._protocol is V2 and written.isdecimal() and int(written) < samples:
                return _Answer(f"only {written} of {samples} samples were written")
            self._metrics.sent(samples)
            return _Answer()
        sentence = self._sentence(status, said)
        if status == HTTPStatus.TOO_MANY_REQUESTS or response.is_server_error:
            asked = retry_after(response.headers, self._clock)
            raise _TryAgainError(sentence, None if asked is None else min(asked, _LONGEST_REST))
        if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY}:
            return _Answer(sentence)
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _Answer(sentence, is_too_large=True)
        raise RemoteWriteError(f"{sentence}; check the URL, the credentials and their rights")

    async def _post(self, body: bytes) -> tuple[httpx.Response, str]:
        """Return an answer and the beginning of what it says, which counts where samples are refused."""
        try:
            async with (
                asyncio.timeout(_LONGEST_EXCHANGE),
                self._client.stream("POST", self._store.url, content=body, headers=self._protocol.headers) as response,
            ):
                try:
                    return response, await _beginning(response)
                except httpx.HTTPError:
                    if response.is_success:
                        return response, ""
                    raise
        except TimeoutError:
            reason = f"its answer did not end within {_LONGEST_EXCHANGE:.0f} s"
        except (httpx.HTTPError, OSError) as error:  # a certificate that is refused late is no error of httpx
            reason = redact(str(error), self._store.secrets()) or type(error).__name__
        raise _TryAgainError(
            f"REMOTE_WRITE_URL: {self._store.url} cannot be reached: {reason}; check the address and the network"
        )

    def _sentence(self, status: int, text: str) -> str:
        said = " ".join(redact(text, self._store.secrets()).split())[:_SHOWN]
        answered = f"REMOTE_WRITE_URL: {self._store.url} answered {status}"
        return f"{answered}: {said}" if said else answered


async def _beginning(response: httpx.Response) -> str:
    """Return the beginning of what an answer says.

    Raises:
        httpx.HTTPError: it breaks off, or is not what its content coding promises.
    """
    found = b""
    async for piece in response.aiter_bytes():
        found += piece
        if len(found) >= 4 * _SHOWN:
            break
    return found[: 4 * _SHOWN].decode(errors="replace")


def _pause(state: RetryCallState) -> float:
    """Return the seconds before the next attempt: as the store asks, else twice as many each time."""
    error = state.outcome.exception() if state.outcome is not None else None
    if isinstance(error, _TryAgainError) and error.after is not None:
        if error.after > _LONGEST_PAUSE:
            raise error
        return error.after
    return min(2.0 ** (state.attempt_number - 1), _LONGEST_PAUSE) * random.uniform(0.8, 1.2)  # noqa: S311  no secret
