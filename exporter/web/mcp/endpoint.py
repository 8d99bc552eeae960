"""MCP over streamable HTTP, behind a check of path, method, host and origin."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from http import HTTPStatus

from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exporter.settings.credentials import TokenFile
from exporter.web.admission import Admission, WebConfigFile
from exporter.web.auth import Guard, Refusal
from exporter.web.callers import Callers, Hosts, host_of
from exporter.web.mcp.server import mcp_server
from exporter.web.mcp.tool import Tool
from exporter.web.server import AccessLog

PATH = "/mcp"

LONGEST_EXCHANGE = 30.0
"""Seconds from the head of a request to the end of its answer."""

MOST_EXCHANGES = 32
"""Requests under way at once, so that large ones cannot fill the memory."""

MOST_HELD = 32 * 2**20
"""Bytes of requests that are still being sent, in all."""

_LONGEST_SHOWN = 100


class Gate:
    """Passes on what may be answered, refuses the rest with a sentence.

    Args:
        app: answers at `PATH`.
        hosts: by which the endpoint may be called.
        longest: seconds that an exchange may take.
        access: where requests are logged; None for nowhere.
        admit: puts what admits requests before an application; None for everybody.
        callers: refuses those without credentials; None where all that come have them, or none are needed.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        *,
        longest: float = LONGEST_EXCHANGE,
        access: AccessLog | None = None,
        admit: Callable[[ASGIApp], ASGIApp] | None = None,
        callers: Callers | None = None,
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._longest = longest
        self._access = access
        self._callers = callers
        self._under_way = 0
        self._held = 0
        self._admitted: ASGIApp = self._answer if admit is None else admit(self._answer)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's start and end."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif self._access is None:
            await self._admitted(scope, receive, send)
        else:
            await self._access.watch(self._admitted, scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal.send(send)
            return
        # Whole before it takes a place among the exchanges, so that half-sent requests do not take them all.
        try:
            async with asyncio.timeout(self._longest):
                body = await self._body(receive)
        except TimeoutError:
            await self._too_late.send(send)
            return
        if isinstance(body, Refusal):
            await body.send(send)
        elif body is not None and self._under_way >= MOST_EXCHANGES:
            sentence = f"{MOST_EXCHANGES} requests are already being answered; try again in a moment"
            await Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, headers={"retry-after": "1"}).send(send)
        elif body is not None:
            await self._timed(scope, _replayed(body, receive), send)

    @property
    def _too_late(self) -> Refusal:
        sentence = f"the request and its answer took longer than {self._longest:.0f} s"
        return Refusal(HTTPStatus.REQUEST_TIMEOUT, sentence, headers={"connection": "close"})

    async def _body(self, receive: Receive) -> bytes | Refusal | None:
        """Return a request's body; None where the client has gone."""
        parts: list[bytes] = []
        size = 0
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                part = message.get("body", b"")
                size += len(part)
                self._held += len(part)
                parts.append(part)
                if size > LARGEST_REQUEST:
                    sentence = f"the request is larger than {LARGEST_REQUEST} bytes"
                    return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, sentence, headers={"connection": "close"})
                if self._held > MOST_HELD:
                    sentence = "too many large requests are being sent; try again in a moment"
                    headers = {"connection": "close", "retry-after": "1"}
                    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, sentence, headers=headers)
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self._held -= size

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = host_of(scope)
        origin = headers.get(b"origin")
        if not self._hosts.knows_host(host):
            return Refusal(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"the host {_shown(host)} is not allowed; add it to FAL_EXPORTER_MCP_ALLOWED_HOSTS",
            )
        if origin is not None and not self._hosts.knows_origin(origin, host):
            return Refusal(
                HTTPStatus.FORBIDDEN,
                f"the origin {_shown(origin)} is not allowed; add its host to FAL_EXPORTER_MCP_ALLOWED_HOSTS",
            )
        refused = None if self._callers is None else self._callers.refusal(scope)
        if refused is not None:
            return refused
        return self._refused_call(scope)

    def _refused_call(self, scope: Scope) -> Refusal | None:
        if scope["path"] != PATH:
            return Refusal(HTTPStatus.NOT_FOUND, f"there is nothing at this path; the MCP endpoint is {PATH}")
        if scope["method"] != "POST":
            # No stream for messages of the server's own, no session to end: nothing but POST has a meaning.
            return Refusal(
                HTTPStatus.METHOD_NOT_ALLOWED, "the MCP endpoint accepts only POST", headers={"allow": "POST"}
            )
        return None

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._under_way += 1
        try:
            async with asyncio.timeout(self._longest):
                await self._app(scope, receive, watched)
        except TimeoutError:
            if not started:
                await self._too_late.send(send)
        finally:
            self._under_way -= 1


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return what receives a body that has been read, and then what the client does."""
    is_read = False

    async def receive_again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _shown(text: str) -> str:
    return repr(text[:_LONGEST_SHOWN])


LARGEST_REQUEST = 2 * 2**20
"""Bytes; a FOCUS file to check is the largest there is."""


def endpoint(
    tools: Sequence[Tool],
    *,
    hosts: Iterable[str] = (),
    tokens: TokenFile | None = None,
    access: AccessLog | None = None,
    web_config: WebConfigFile | None = None,
    callers: Callers | None = None,
) -> ASGIApp:
    """Return an application that answers with these tools at `PATH`.

    Args:
        tools: what can be called.
        hosts: names by which it may be called, beside this machine's own and addresses; see `Hosts`.
        tokens: who may ask; None for everybody.
        access: where requests are logged; None for nowhere.
        web_config: users, headers and the rate limit; None for none.
        callers: refuses those without credentials; None for none.
    """
    application: ASGIApp = mcp_server(tools).streamable_http_app(
        streamable_http_path=PATH,
        json_response=True,
        stateless_http=True,
        max_request_body_size=LARGEST_REQUEST,
        # The gate knows more: addresses, and names below a name.
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    has_tokens = tokens is not None
    return Gate(
        application if tokens is None else Guard(application, tokens),
        Hosts(hosts),
        access=access,
        callers=callers,
        admit=None if web_config is None else partial(Admission, file=web_config, has_tokens=lambda _: has_tokens),
    )
