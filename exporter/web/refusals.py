"""How a request is refused: one JSON shape, fal's own, for every interface.

{"error": {"type": "validation_error", "message": "start is not a date ...", "docs_url": "/docs#usage"}}
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.types import Send

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
        error = {"type": TYPES.get(self.status, "server_error"), "message": self.message}
        return json.dumps({"error": error | ({"docs_url": self.docs_url} if self.docs_url else {})}).encode()

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
