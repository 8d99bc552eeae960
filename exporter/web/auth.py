"""Authentication by token, and the one shape in which every interface refuses a request.

{"error": {"type": "validation_error", "message": "start is not a date ...", "docs_url": "/docs#usage"}}

Who may ask: tokens in the header `Authorization` (RFC 6750), or as a browser's password (RFC 7617).
"""

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.settings.credentials import TokenFile

JSON = "application/json"

RETRY: Mapping[str, str] = {"retry-after": "10"}
"""The header of what may be answered in a while."""

TYPES: Mapping[int, str] = {
    HTTPStatus.BAD_REQUEST: "validation_error",
    HTTPStatus.UNAUTHORIZED: "authorization_error",
    HTTPStatus.FORBIDDEN: "authorization_error",
    HTTPStatus.NOT_FOUND: "not_found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method_not_allowed",
    HTTPStatus.NOT_ACCEPTABLE: "not_acceptable",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.REQUEST_URI_TOO_LONG: "request_too_large",
    HTTPStatus.MISDIRECTED_REQUEST: "validation_error",
    HTTPStatus.TOO_MANY_REQUESTS: "rate_limited",
    HTTPStatus.INTERNAL_SERVER_ERROR: "server_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}
"""The `type` of each status that is answered."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered.

    Attributes:
        message: a sentence for people; repeats nothing that could be a key.
        docs_url: where it is explained; empty for nowhere.
        headers: beside those of the body, in lower case.
    """

    status: int
    message: str
    docs_url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The JSON document."""
        detail = {"type": TYPES.get(self.status, "server_error"), "message": self.message}
        if self.docs_url:
            detail["docs_url"] = self.docs_url
        return json.dumps({"error": detail}).encode()

    async def send(self, send: Send) -> None:
        """Answer with it; where only the headers are wanted, the server leaves out the body."""
        body = self.body
        headers = {
            "content-type": JSON,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            **self.headers,
        }
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": int(self.status), "headers": encoded})
        await send({"type": "http.response.body", "body": body})


ADMITTED = "fal_exporter.admitted"
"""Key of a request's scope under which the user stands whom the web configuration has admitted."""

_REALM = 'realm="fal-exporter"'
_MISSING = "a token is required: send it as Authorization: Bearer TOKEN, or as the password of Basic authentication"
_UNKNOWN = "the token is not valid here; create one with fal-exporter token"


class Guard:
    """Passes on the requests of callers that have a token of a file, and refuses the others.

    Args:
        app: what is guarded.
        tokens: who is admitted.
    """

    def __init__(self, app: ASGIApp, tokens: TokenFile) -> None:
        self._app = app
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or take part in the server's start and end."""
        is_asked = scope["type"] == "http" and ADMITTED not in scope
        refused = refusal(scope["headers"], self._tokens) if is_asked else None
        if refused is None:
            await self._app(scope, receive, send)
        else:
            await refused.send(send)


def guarded(app: ASGIApp, tokens: TokenFile | None) -> ASGIApp:
    """Return an application that admits by tokens; without a file of tokens it admits everybody."""
    return app if tokens is None else Guard(app, tokens)


def refusal(headers: Collection[tuple[bytes, bytes]], tokens: TokenFile) -> Refusal | None:
    """Return why a request with these headers is refused, or None where it is admitted."""
    sent = [value for name, value in headers if name == b"authorization"]
    is_browser = any(name == b"accept" and b"text/html" in value for name, value in headers)
    if not sent:
        return _refused(_MISSING, "", is_browser=is_browser)
    token = _token(sent[0].decode("latin-1")) if len(sent) == 1 else None
    if token is None or tokens.name_of(token) is None:
        return _refused(_UNKNOWN, ', error="invalid_token"', is_browser=is_browser)
    return None


def _refused(message: str, error: str, *, is_browser: bool) -> Refusal:
    # Browsers ask for a password if told of Basic alone: Chromium does not look behind a scheme that it does not know.
    challenge = f'Basic {_REALM}, charset="UTF-8"' if is_browser else f"Bearer {_REALM}{error}"
    return Refusal(HTTPStatus.UNAUTHORIZED, message, headers={"www-authenticate": challenge, "vary": "Authorization"})


def _token(authorization: str) -> str | None:
    scheme, _, credentials = authorization.strip().partition(" ")
    match scheme.lower():
        case "bearer":
            return credentials.strip() or None
        case "basic":
            try:
                pair = base64.b64decode(credentials.strip(), validate=True).decode()
            except (binascii.Error, ValueError):
                return None
            return pair.partition(":")[2] or None
    return None
