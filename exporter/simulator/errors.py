"""Refusals, in the shape of the host that gives them."""

from collections.abc import Mapping

DOCS_URL = "https://docs.fal.ai/platform-apis"

_TYPES = {
    400: "validation_error",
    401: "authorization_error",
    403: "authorization_error",
    404: "not_found",
    405: "validation_error",
    422: "validation_error",
    429: "rate_limited",
    501: "not_implemented",
}


class ApiError(Exception):
    """A call is refused.

    Attributes:
        status: the HTTP status; headers: further headers of the answer.
        message: a sentence for the caller.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


def is_platform(path: str) -> bool:
    """Tell whether a path belongs to the platform host (`api.fal.ai/v1`), else to the older one."""
    return path == "/v1" or path.startswith("/v1/")


def error_body(path: str, error: ApiError, request_id: str) -> dict[str, object]:
    """Return the JSON body of a refusal: `{"error": {...}}` of the platform, `{"detail": ...}` of the older host."""
    if not is_platform(path):
        return {"detail": error.message}
    return {
        "error": {
            "type": _TYPES.get(error.status, "server_error"),
            "message": error.message,
            "docs_url": DOCS_URL,
            "request_id": request_id,
        }
    }
