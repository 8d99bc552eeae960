"""Who may ask: tokens in the header `Authorization` (RFC 6750), or as a browser's password (RFC 7617)."""

import base64
import binascii
from collections.abc import Collection
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.settings.tokens import TokenFile
from exporter.web.refusals import Refusal

_REALM = 'realm="fal-exporter"'
_MISSING = "this needs a token: send it as Authorization: Bearer TOKEN, or as the password of Basic authentication"
_UNKNOWN = "the token that was sent is not admitted here; fal-exporter token makes new ones"


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
        refused = refusal(scope["headers"], self._tokens) if scope["type"] == "http" else None
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
