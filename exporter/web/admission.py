"""Admission by the web configuration: TLS contexts, users, headers and the rate limit, followed as the file changes.

The file and the certificates it names are looked at with every connection and request, and read again when one of them
has changed: certificates and users rotate without a restart, and connections that are open stay. A certificate that
cannot be used leaves the last good one in place; a file that cannot be used admits nobody, as nobody can tell whom it
no longer names.
"""

import asyncio
import base64
import binascii
import hashlib
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from http import HTTPStatus
from pathlib import Path
from secrets import token_bytes
from typing import cast

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.settings.credentials import FileStamp, stamp_of
from exporter.settings.web_config import RateLimit, WebConfig, names_of, read_web_config, tls_context
from exporter.web.auth import ADMITTED, Refusal
from exporter.web.connections import Connection

_log = structlog.get_logger(__name__)

PROBES = frozenset({"/-/healthy", "/healthz", "/-/ready", "/readyz"})
"""Paths that need no user and know no limit: whoever asks them has no password, and a refusal would end the process."""

_Stamp = tuple[FileStamp | None, ...]

_BROKEN = "the web configuration cannot be used, so every request is refused; see the log"
_MISSING = "a user and a password are required (Basic authentication)"
_UNKNOWN = "the user or the password is not valid"


class WebConfigFile:
    """A web configuration, read again when its file or one that it names has changed.

    Args:
        path: the file.

    Raises:
        ValueError: it cannot be used; a predicate on the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Looked at before it is read: what is written meanwhile is another stamp, not one that is known already.
        self._watched: tuple[Path, ...] = ()
        self._stamp = self._look()
        self._config = read_web_config(path)
        self._watch(self._config)
        self._context = None if self._config.tls is None else tls_context(self._config.tls)
        self.problem = ""
        """Why the file as it is now cannot be used; empty while it can."""
        self.is_broken = False
        """True while it is unknown whom the file admits."""

    @property
    def has_tls(self) -> bool:
        """True if connections are encrypted."""
        return self._context is not None

    @property
    def asks_for_credentials(self) -> bool:
        """True if all callers have a user or a verified certificate, or none is admitted."""
        config = self.config
        return self.is_broken or _asks_for_credentials(config)

    @property
    def config(self) -> WebConfig:
        """The configuration as it is now; the last good one while the file is broken."""
        self._refresh()
        return self._config

    @property
    def context(self) -> ssl.SSLContext:
        """The context for a new connection."""
        self._refresh()
        return cast("ssl.SSLContext", self._context)

    def _refresh(self) -> None:
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            config = read_web_config(self.path)
        except ValueError as error:
            self.is_broken = True
            self._fail(error)
            return
        self._watch(config)
        has_turned = (config.tls is None) is self.has_tls
        with_tls_as_it_is = WebConfig(self._config.tls, config.users, config.headers, config.rate_limit)
        found = with_tls_as_it_is if has_turned else config
        self.is_broken = _asks_for_credentials(self._config) and not _asks_for_credentials(found)
        if self.is_broken:
            # As a file is that has been written by half.
            self._fail("asks nobody for credentials any more, so nobody is admitted until it does or after a restart")
            return
        if has_turned:
            self._fail("has turned TLS on or off, which takes effect after a restart; connections stay as they are")
            self._config = with_tls_as_it_is
            return
        try:
            context = None if config.tls is None else tls_context(config.tls)
        except ValueError as error:
            self._fail(f"{error}; the last good certificates stay in use")
            self._config = with_tls_as_it_is
            return
        self._config, self._context, self.problem = config, context, ""
        _log.info("the web configuration was reloaded", file=str(self.path))

    def _fail(self, problem: object) -> None:
        self.problem = str(problem)
        _log.error("the web configuration cannot be used", file=str(self.path), problem=self.problem)

    def _watch(self, config: WebConfig) -> None:
        self._watched = _files(config)
        self._stamp = (self._stamp[0], *self._look()[1:])

    def _look(self) -> _Stamp:
        return tuple(stamp_of(path) for path in (self.path, *self._watched))


def _asks_for_credentials(config: WebConfig) -> bool:
    is_mutual = config.tls is not None and config.tls.client_authentication == ssl.CERT_REQUIRED
    return bool(config.users) or is_mutual


def _files(config: WebConfig) -> tuple[Path, ...]:
    return () if config.tls is None else config.tls.files


class FollowingContext(ssl.SSLContext):
    """A context that begins each connection with the configuration as it is then."""

    _file: WebConfigFile

    @classmethod
    def of(cls, file: WebConfigFile) -> "FollowingContext":
        """Return the context of a configuration that has TLS."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._file = file
        return context

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,  # noqa: FBT001, FBT002  the library's signature
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection."""
        return self._file.context.wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def checked_by_name(base: type[Connection], file: WebConfigFile) -> type[Connection]:
    """Return an HTTP protocol that ends connections whose client certificate has none of the allowed names."""

    class Protocol(base):  # type: ignore[valid-type, misc]  # made for one server
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            tls = file.config.tls
            certificate = transport.get_extra_info("peercert")
            if tls is None or not tls.allowed_sans or not certificate:
                return
            names = names_of(certificate)
            if tls.allowed_sans.isdisjoint(names):
                _log.warning("a client's certificate has no allowed name", names=names)
                transport.abort()

    return Protocol


class Users:
    """Verifies passwords against bcrypt hashes.

    What has been verified is remembered by a hash with a key of this process, so that a scrape costs no bcrypt. A user
    who is not known takes as long as one who is: the password is compared with a hash of the same cost.
    """

    def __init__(self, *, most: int = 100, at_once: int = 2) -> None:
        self._salt = token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._most = most
        self._free = asyncio.Semaphore(at_once)
        self._decoys: dict[int, bytes] = {}

    async def verify(self, config: WebConfig, user: str, password: bytes) -> bool:
        """Return whether a user has this password; at most some are being found out at once."""
        secret = config.users.get(user)
        hashed = self._decoy(config) if secret is None else secret.get_secret_value().encode()
        digest = hashlib.blake2b(
            b"\0".join((user.encode(), hashed, hashlib.sha256(password).digest())), key=self._salt
        ).digest()
        if digest in self._known:
            self._known.move_to_end(digest)
            return True
        async with self._free:
            matches = await asyncio.to_thread(_matches, password, hashed)
        if not matches or secret is None:
            return False
        self._known[digest] = None
        if len(self._known) > self._most:
            self._known.popitem(last=False)
        return True

    def _decoy(self, config: WebConfig) -> bytes:
        cost = max(int(secret.get_secret_value().split("$")[2]) for secret in config.users.values())
        if cost not in self._decoys:
            # Any text of the right shape takes as long; that nothing hashes to it does not matter.
            self._decoys[cost] = b"$2b$%02d$" % cost + b"." * 22 + b"a" * 31
        return self._decoys[cost]


_LONGEST_PASSWORD = 72
"""Bytes that bcrypt looks at; a longer password is compared by them alone, as other implementations do."""


def _matches(password: bytes, hashed: bytes) -> bool:
    import bcrypt  # noqa: PLC0415  only where there are users

    try:
        return bcrypt.checkpw(password[:_LONGEST_PASSWORD], hashed)
    except ValueError:
        return False


class Bucket:
    """Admits a request in each interval, and a burst after a pause.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, limit: RateLimit, clock: Callable[[], float]) -> None:
        self.limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._at = clock()

    def take(self) -> float:
        """Return 0 if a request is admitted, else the seconds after which the next one is."""
        now, interval = self._clock(), self.limit.interval.total_seconds()
        self._tokens = min(float(self.limit.burst), self._tokens + (now - self._at) / interval)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) * interval
        self._tokens -= 1
        return 0.0


class Admission:
    """Passes on requests that the web configuration admits, and sets its headers on every answer.

    A request with a bearer token is passed on where tokens guard what it asks for; they decide then. A user who is
    admitted here needs no token.

    Args:
        app: what is guarded.
        file: the web configuration.
        has_tokens: whether a path is guarded by tokens.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        app: ASGIApp,
        file: WebConfigFile,
        *,
        has_tokens: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._file = file
        self._has_tokens = has_tokens
        self._clock = clock
        self._users = Users()
        self._bucket: Bucket | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or take part in the server's start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        config = self._file.config
        headers = [(name.lower().encode(), value.encode()) for name, value in config.headers.items()]

        async def with_headers(message: Message) -> None:
            if headers and message["type"] == "http.response.start":
                names = {name for name, _ in headers}
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                message = {**message, "headers": [*kept, *headers]}
            await send(message)

        refusal = None if scope["path"] in PROBES else await self._refusal(scope, config)
        if refusal is None:
            await self._app(scope, receive, with_headers)
        else:
            await refusal.send(with_headers)

    async def _refusal(self, scope: Scope, config: WebConfig) -> Refusal | None:
        if self._file.is_broken:
            return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR, _BROKEN)
        wait = self._wait(config.rate_limit)
        if wait:
            sentence = "too many requests: the rate limit of the web configuration is reached"
            return Refusal(HTTPStatus.TOO_MANY_REQUESTS, sentence, headers={"retry-after": str(int(wait) + 1)})
        if not config.users or _is_preflight(scope):
            return None
        return await self._refused_user(scope, config)

    async def _refused_user(self, scope: Scope, config: WebConfig) -> Refusal | None:
        sent = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(sent) == 1 and sent[0][:7].lower() == b"bearer " and self._has_tokens(scope["path"]):
            return None
        if not sent:
            return _unauthorized(_MISSING)
        pair = _basic(sent[0]) if len(sent) == 1 else None
        if pair is None or not await self._users.verify(config, *pair):
            return _unauthorized(_UNKNOWN)
        scope[ADMITTED] = pair[0]
        return None

    def _wait(self, limit: RateLimit | None) -> float:
        if limit is None:
            self._bucket = None
            return 0.0
        if self._bucket is None or self._bucket.limit != limit:
            self._bucket = Bucket(limit, self._clock)
        return self._bucket.take()


def _unauthorized(sentence: str) -> Refusal:
    challenge = 'Basic realm="fal-exporter", charset="UTF-8"'
    return Refusal(HTTPStatus.UNAUTHORIZED, sentence, headers={"www-authenticate": challenge, "vary": "Authorization"})


def _is_preflight(scope: Scope) -> bool:
    """Return whether a browser asks if a page may ask, which it does without a password."""
    names: Collection[bytes] = {name for name, _ in scope["headers"]}
    return scope["method"] == "OPTIONS" and {b"origin", b"access-control-request-method"} <= set(names)


def _basic(header: bytes) -> tuple[str, bytes] | None:
    scheme, _, credentials = header.strip().partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):
        return None
