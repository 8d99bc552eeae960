"""HTTP transport: one request and its answer."""

import asyncio
import hashlib
import importlib.util
import os
import re
import ssl
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus

import httpx
import structlog

from exporter import __version__
from exporter.charges import Clock
from exporter.errors import ConfigurationError
from exporter.fal.answers import BrokenOffError, Scrub, decoded, refusal, scrubber
from exporter.fal.bodies import (
    ACCEPTED,
    CutOffError,
    EncodingError,
    OversizeError,
    beginning,
    check_parsed_size,
    unpacked,
)
from exporter.fal.carriage import Answer, Carrier, Errand, brought, is_tls
from exporter.fal.endpoints import Endpoint, Host, Limits, Observer, Parameters
from exporter.fal.errors import (
    ApiError,
    NotCsvError,
    NotJsonError,
    ProxyError,
    ReadTimeoutError,
    RefusalError,
    TlsError,
    TooLargeError,
    TruncatedError,
    UnreachableError,
)
from exporter.logs import Secret, hide
from exporter.network import Proxy, named_authorities, proxy_for

if importlib.util.find_spec("sniffio") is None:
    # httpcore looks for it several times a request, and would search all folders each time.
    sys.modules["sniffio"] = None  # type: ignore[assignment]

_JSON = "application/json"
_CSV = "text/csv"
_MOVED = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE, HTTPStatus.MISDIRECTED_REQUEST})
"""Statuses of a host that no longer answers a call."""
_FALLBACK = "reporting-fallback"
"""Name of the second address of reports, beside those of hosts."""

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_KEY = re.compile(r"[\x21-\x7e]+")
_TOLERANCE_SECONDS = 60
"""Clocks that differ by less are taken to agree."""

_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no authority: for clients that make no TLS connection."""

Parse = Callable[[bytearray], object]
"""Parses the body of an answer.

Raises:
    OversizeError: what it says would take too much memory.
    ValueError: it is not what was expected.
"""

Bounded = Callable[[], AbstractAsyncContextManager[None]]
"""Makes what ends the wait inside it when the time is over; entered anew for every wait."""


class Transport:
    """Makes single requests with an account's key, and notifies the observer of each."""

    def __init__(
        self,
        *,
        account: str,
        key: Callable[[], Secret],
        observer: Observer,
        platform_url: str,
        reporting_url: str,
        reporting_fallback_url: str | None = None,
        limits: Limits,
        tls: ssl.SSLContext | None,
        transport: httpx.AsyncBaseTransport | None,
        now: Clock,
        monotonic: Callable[[], float],
        carrier: Carrier | None = None,
    ) -> None:
        """Prepare the connections; see `Client` for the arguments.

        Raises:
            ConfigurationError: a URL is not one, or a variable for proxies or certificate authorities is wrong.
        """
        self._account = account
        self._key = key
        self._hidden_key = ""
        self._observer = observer
        self._limits = limits
        self._now = now
        self._monotonic = monotonic
        self._clock_is_wrong = False
        self._carrier = carrier
        self._bases = {
            Host.PLATFORM: _base(account, Host.PLATFORM, platform_url),
            Host.REPORTING: _base(account, Host.REPORTING, reporting_url),
        }
        self._others: dict[Host, str] = {}
        if reporting_fallback_url is not None:
            self._others[Host.REPORTING] = _base(account, Host.REPORTING, reporting_fallback_url)
        bases = [*self._bases.values(), *self._others.values()]
        self._places: dict[str, str] = {str(host): base for host, base in self._bases.items()}
        self._places[_FALLBACK] = self._others.get(Host.REPORTING, self._bases[Host.REPORTING])
        self._proxies = {} if transport else _proxies(bases)
        connections = httpx.Limits(
            max_connections=limits.requests_at_once,
            max_keepalive_connections=limits.requests_at_once,
        )
        trusted = tls or _trusted([*bases, *(proxy.url for proxy in self._proxies.values())])
        self._http = httpx.AsyncClient(
            verify=trusted,
            transport=transport,
            trust_env=False,
            mounts={
                _origin(base): httpx.AsyncHTTPTransport(
                    verify=trusted,
                    trust_env=False,
                    limits=connections,
                    proxy=httpx.Proxy(proxy.url, ssl_context=trusted if proxy.is_tls else None),
                )
                for base, proxy in self._proxies.items()
            },
            headers={"User-Agent": f"fal-exporter/{__version__}", "Accept-Encoding": ACCEPTED},
            timeout=httpx.Timeout(
                limits.read_timeout.total_seconds(), connect=limits.connect_timeout.total_seconds(), pool=None
            ),
            limits=connections,
            follow_redirects=False,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def scrub(self, text: str) -> str:
        """Return a text of fal's as one line without the key."""
        return scrubber(self._secret())(text)

    def failure(self, kind: type[ApiError], call: Endpoint, what: str, advice: str = "") -> ApiError:
        """Return the error of a call that failed without an error status of fal's."""
        return kind(what, account=self._account, call=call.path, advice=advice)

    def base_url(self, host: Host) -> str:
        """Return the base URL at which a host is asked now."""
        return self._bases[host]

    async def json(self, call: Endpoint, parameters: Parameters, parse: Parse | None = None) -> object:
        """Make a request and return its answer, parsed.

        Where a host has two base URLs, the other is tried when the one in use cannot be reached or lacks the call. It
        is used from then on if it answers.

        Raises:
            ApiError: every kind of failure; see `exporter.fal.errors`.
            ConfigurationError: the key cannot be one.
        """
        base = self._bases[call.host]
        try:
            return await self._json(call, parameters, base, parse)
        except (UnreachableError, RefusalError) as error:
            # Another call that was under way may have changed over already.
            current = self._bases[call.host]
            other = current if current != base else self._others.get(call.host)
            if other is None or not (isinstance(error, UnreachableError) or error.status in _MOVED):
                raise
            try:
                answer = await self._json(call, parameters, other, parse)
            except ApiError:
                raise error from None
        if self._bases[call.host] == base:
            self._bases[call.host], self._others[call.host] = other, base
            _log.info("switching to fal's other address", account=self._account, url=other, instead_of=base)
        return answer

    async def _json(self, call: Endpoint, parameters: Parameters, base: str, parse: Parse | None) -> object:
        key = self._secret()
        scrub = scrubber(key)
        started = self._monotonic()
        code = "error"
        response: httpx.Response | None = None
        try:
            response = await self._send(self._request(call, parameters, key, _JSON, base), base)
            try:
                body = await self._body(response, call) if response.is_success else bytearray(await beginning(response))
            finally:
                await response.aclose()
            code = str(response.status_code)
        except httpx.HTTPError as error:
            raise self._without_answer(call, error, scrub, answering=response is not None) from None
        finally:
            self._observer.answered(self._account, call.path, code, self._monotonic() - started)
        if not response.is_success:
            raise self._refusal(response, body, call, scrub)
        return self._parsed(call, body, scrub, parse)

    async def csv(self, call: Endpoint, parameters: Parameters, bounded: Bounded) -> AsyncGenerator[bytes, None]:
        """Make a request and yield the body of its answer, which is CSV, as it comes in.

        At least one piece is yielded, and none is empty.

        Raises:
            ApiError: as `json`; a body that breaks off is a TruncatedError.
            ConfigurationError: the key cannot be one.
        """
        key = self._secret()
        scrub = scrubber(key)
        started = self._monotonic()
        code = "error"
        response: httpx.Response | None = None
        async with AsyncExitStack() as held:
            try:
                async with bounded():
                    base = self._bases[call.host]
                    response = await self._send(self._request(call, parameters, key, _CSV, base), base)
                    held.push_async_callback(response.aclose)
                    if not response.is_success:
                        body = await beginning(response)
                        code = str(response.status_code)
                        raise self._refusal(response, body, call, scrub)
                chunks = unpacked(response, self._limits.report_bytes, may_be_a_bomb=False)
                held.push_async_callback(chunks.aclose)
                is_first = True
                while True:
                    with self._own_errors(call, TooLargeError.advice_on_reports):
                        async with bounded():
                            piece = await anext(chunks, b"")
                    if is_first:
                        self._check_is_csv(call, response, piece, scrub)
                        is_first = False
                    if not piece:
                        break
                    yield piece
                code = str(response.status_code)
            except GeneratorExit:
                # The answer was one; it is the caller who has seen enough.
                code = str(response.status_code) if response else code
                raise
            except httpx.HTTPError as error:
                raise self._without_answer(call, error, scrub, answering=response is not None) from None
            finally:
                self._observer.answered(self._account, call.path, code, self._monotonic() - started)

    async def fetch(self, errand: Errand) -> Answer:
        """Make a call for another exporter.

        Raises:
            ConfigurationError: the key cannot be one.
        """
        base = self._places.get(errand.place, self._bases[Host.PLATFORM])
        key = self._secret()
        request = self._http.build_request(
            "GET", base + errand.target, headers={"Authorization": f"Key {key}", "Accept": errand.accept}
        )

        async def send() -> httpx.Response:
            response = await self._http.send(request, stream=True)
            if base in self._proxies and response.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
                await response.aclose()
                raise httpx.ProxyError(f"{response.status_code} {response.reason_phrase}", request=request)
            return response

        return await brought(send, self._limits.answer_bytes, key)

    async def _send(self, request: httpx.Request, base: str) -> httpx.Response:
        """Send a request to a base URL, and compare the clocks by the answer's `Date`."""
        sent_at = self._now()
        if self._carrier is None:
            response = await self._direct(request)
        else:
            response = await self._carrier.send(request, self._errand(request, base), self._direct)
        # An answer that a cache has kept is dated when it was made.
        if (stated := _date(response)) is not None and "age" not in response.headers:
            self._compare_clocks(clock_ahead(stated, sent_at=sent_at, received_at=self._now()))
        return response

    async def _direct(self, request: httpx.Request) -> httpx.Response:
        return await self._http.send(request, stream=True)

    def _errand(self, request: httpx.Request, base: str) -> Errand:
        place = next(place for place, url in self._places.items() if url == base)
        target = str(request.url).removeprefix(str(httpx.URL(base)).rstrip("/"))
        key = request.headers["Authorization"].removeprefix("Key ")
        return Errand(self._account, place, target, request.headers["Accept"], _hash(key))

    def _compare_clocks(self, ahead: float) -> None:
        self._observer.clock_compared(ahead)
        is_wrong = abs(ahead) > _TOLERANCE_SECONDS
        if is_wrong and not self._clock_is_wrong:
            _log.warning(
                "this system's clock differs from fal's; check that it is synchronized (NTP), because it determines "
                "the hours that are read",
                account=self._account,
                ahead_seconds=round(ahead),
            )
        elif self._clock_is_wrong and not is_wrong:
            _log.info("this system's clock agrees with fal's again", account=self._account)
        self._clock_is_wrong = is_wrong

    def _request(self, call: Endpoint, parameters: Parameters, key: str, accept: str, base: str) -> httpx.Request:
        return self._http.build_request(
            "GET",
            base + call.url_path,
            params=parameters,
            headers={"Authorization": f"Key {key}", "Accept": accept},
        )

    async def _body(self, response: httpx.Response, call: Endpoint) -> bytearray:
        """Read the body, and stop as soon as it is too large on the wire or unpacked."""
        body = bytearray()
        try:
            with self._own_errors(call):
                async with aclosing(unpacked(response, self._limits.answer_bytes)) as pieces:
                    async for piece in pieces:
                        body += piece
        except BaseException:
            # The error's traceback holds it for longer than anybody needs it.
            body.clear()
            raise
        return body

    @contextmanager
    def _own_errors(self, call: Endpoint, advice: str = "") -> Iterator[None]:
        """Raise our error for what is wrong with a body; `advice` is about one that is too large."""
        try:
            yield
        except OversizeError as error:
            raise self.failure(TooLargeError, call, f"fal's response is too large: {error}", advice) from None
        except EncodingError as error:
            raise self.failure(NotJsonError, call, f"fal's response cannot be decoded: {error}") from None
        except CutOffError as error:
            raise self.failure(TruncatedError, call, f"fal's response was cut off: {error}") from None

    def _check_is_csv(self, call: Endpoint, response: httpx.Response, first: bytes, scrub: Scrub) -> None:
        """Refuse the page of a proxy, and an error that came with status 200."""
        if not first:
            raise self.failure(NotCsvError, call, "fal's response is empty")
        kind = response.headers.get("content-type", "")
        if "html" in kind or "json" in kind or first.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in {b"<", b"{", b"["}:
            begins = scrub(first[:300].decode("utf-8", "replace"))[:60]
            raise self.failure(NotCsvError, call, f"fal's response is not CSV; it begins with {begins!r}")

    def _parsed(self, call: Endpoint, body: bytearray, scrub: Scrub, parse: Parse | None) -> object:
        """Parse a body, unless its JSON would take too much memory."""
        try:
            with self._own_errors(call):
                if parse is not None:
                    return parse(body)
                check_parsed_size(body, self._limits.answer_bytes)
                return decoded(body)
        except TooLargeError:
            # The error's traceback holds it for longer than anybody needs it.
            body.clear()
            raise
        except BrokenOffError as error:
            raise self.failure(TruncatedError, call, f"fal's response is not complete JSON: {error}") from None
        except ValueError as error:
            begins = scrub(body.decode("utf-8", "replace"))[:60]
            what = (
                f"fal's response is not JSON: {error}; it begins with {begins!r}" if body else "fal's response is empty"
            )
            raise self.failure(NotJsonError, call, what) from None

    def _refusal(self, response: httpx.Response, body: bytes | bytearray, call: Endpoint, scrub: Scrub) -> ApiError:
        """Return the error for an answer other than 2xx, which may be the proxy's own."""
        proxy = self._proxies.get(self._bases[call.host])
        if proxy and response.status_code == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return self._proxy_refusal(call, proxy, f"{response.status_code} {response.reason_phrase}")
        return refusal(response, body, account=self._account, call=call.path, scrub=scrub, now=self._now)

    def _proxy_refusal(self, call: Endpoint, proxy: Proxy, detail: str) -> ProxyError:
        wants_password = detail.startswith(str(int(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)))
        error = ProxyError(
            f"{proxy} refuses the connection: {detail}",
            account=self._account,
            call=call.path,
            advice=f"put its user and password into {proxy.variable}, as in http://user:password@proxy.example:3128"
            if wants_password
            else f"check {proxy.variable}, and that the proxy allows connections to the {call.host} URL",
        )
        error.transient = not wants_password
        return error

    def _without_answer(self, call: Endpoint, error: httpx.HTTPError, scrub: Scrub, *, answering: bool) -> ApiError:
        """Return our error for one of httpx's."""
        detail = scrub(str(error)) or type(error).__name__
        proxy = self._proxies.get(self._bases[call.host])
        if proxy and isinstance(error, httpx.ProxyError):
            return self._proxy_refusal(call, proxy, detail)
        if isinstance(error, httpx.TimeoutException):
            return self.failure(ReadTimeoutError, call, f"no response in time ({type(error).__name__})")
        if answering:
            return self.failure(TruncatedError, call, f"fal's response was cut off: {detail}")
        if is_tls(error):
            return self.failure(TlsError, call, f"no trusted TLS connection to the {call.host} URL: {detail}")
        return self._unreachable(call, proxy, detail)

    def _unreachable(self, call: Endpoint, proxy: Proxy | None, detail: str) -> ApiError:
        if proxy:
            return UnreachableError(
                f"the connection to the {call.host} URL through {proxy} failed: {detail}",
                account=self._account,
                call=call.path,
                advice=f"check {proxy.variable}, and list hosts to connect to directly in NO_PROXY",
            )
        return self.failure(UnreachableError, call, f"the connection to the {call.host} URL failed: {detail}")

    def key_hash(self) -> str:
        """Return a hash of the key as it is now.

        Raises:
            ConfigurationError: the key cannot be one.
        """
        return _hash(self._secret())

    def _secret(self) -> str:
        given = self._key()
        key = given.get_secret_value().strip()
        if not _KEY.fullmatch(key):
            raise ConfigurationError(
                f"the key of account {self._account!r} is empty or contains characters that are not allowed in a key; "
                "copy it again from fal.ai/dashboard/keys."
            )
        if key != self._hidden_key:
            # Logs know the key that the process began with; this one may have taken its place.
            hide([given])
            self._hidden_key = key
        return key


async def reach(url: str, seconds: float) -> str:
    """Ask fal without a key; return why it cannot be reached, or nothing where it answers.

    A refusal is an answer. What a proxy says in fal's place is not one, and neither is a server error. Where a variable
    for proxies or authorities is wrong, polls would fail on it as well.

    Args:
        url: base of its calls.
        seconds: how long to wait for the answer.
    """
    try:
        proxy = proxy_for(url)
        trusted = _trusted([url, *([proxy.url] if proxy else [])])
    except ConfigurationError as error:
        return str(error)
    try:
        async with (
            asyncio.timeout(seconds),
            httpx.AsyncClient(
                verify=trusted,
                trust_env=False,
                proxy=httpx.Proxy(proxy.url, ssl_context=trusted if proxy.is_tls else None) if proxy else None,
                headers={"User-Agent": f"fal-exporter/{__version__}"},
                timeout=seconds,
            ) as client,
            client.stream("GET", url) as response,
        ):
            status = response.status_code
    except TimeoutError:
        return f"no response within {seconds:g} s"
    except httpx.HTTPError as error:
        return f"{proxy} refuses the connection: {error}" if proxy else str(error) or type(error).__name__
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"the response is {status} {response.reason_phrase}"
    return ""


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _date(response: httpx.Response) -> datetime | None:
    """Return the instant at which an answer was made, as its maker's clock stated it; None where it does not say."""
    try:
        stated = parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return None
    return stated if stated.tzinfo else None


def clock_ahead(stated: datetime, *, sent_at: datetime, received_at: datetime) -> float:
    """Return the seconds by which our clock is ahead of another's at least; 0 where they may agree.

    Args:
        stated: the other's, in whole seconds, at an unknown instant between the other two.
        sent_at: ours when the question was sent.
        received_at: ours when the answer came.
    """
    if stated > received_at:
        return (received_at - stated).total_seconds()
    return max((sent_at - stated).total_seconds() - 1, 0.0)


def _base(account: str, host: Host, url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigurationError(f"the {host} URL of account {account!r} is not valid: {error}.") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host:
        raise ConfigurationError(
            f"the {host} URL of account {account!r} must start with https:// and contain a host name."
        )
    return url.rstrip("/")


def _proxies(bases: Iterable[str]) -> dict[str, Proxy]:
    """Return the proxy of each URL that has one."""
    return {base: proxy for base in bases if (proxy := proxy_for(base))}


def _trusted(urls: Iterable[str]) -> ssl.SSLContext:
    """Return whom to trust: the authorities of the environment, else httpx's own."""
    if not any(url.startswith("https:") for url in urls):
        return _NOBODY
    return _authorities(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=1)
def _authorities(file: str | None, folders: str | None) -> ssl.SSLContext:
    """Read the authorities once for all accounts: they take a megabyte or so, and 50 ms."""
    del file, folders
    return named_authorities() or httpx.create_ssl_context(trust_env=False)


def _origin(base: str) -> str:
    url = httpx.URL(base)
    return f"{url.scheme}://{url.netloc.decode()}"
