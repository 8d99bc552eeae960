"""What an answer of fal's says: its body, and the error it stands for.

Two hosts, two shapes of error: `{"error": {"type", "message", "request_id"}}` on the platform, `{"detail": ...}` on
the older one; proxies in between answer with anything. Whatever text fal sends is cut to a line and cleaned of the
key before it goes into an error.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from exporter.charges import Clock
from exporter.fal.decoding import decoded
from exporter.fal.errors import (
    BadRequestError,
    FeatureError,
    KeyRejectedError,
    LockedError,
    NotFoundError,
    RateLimitedError,
    RedirectError,
    RefusalError,
    ScopeError,
    ServerError,
)
from exporter.fal.locks import lock_reason

_LONGEST_MESSAGE = 300
_LONGEST_LOOK = 4096
_SHORTEST_SECRET = 6

_FEATURE = re.compile(r"\bnot (?:been )?(?:enabled|available|activated)\b|\bfeature\b|\benterprise\b", re.IGNORECASE)
_BY_STATUS: dict[int, type[RefusalError]] = {
    HTTPStatus.UNAUTHORIZED: KeyRejectedError,
    HTTPStatus.FORBIDDEN: ScopeError,
    HTTPStatus.NOT_FOUND: NotFoundError,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimitedError,
}

Scrub = Callable[[str], str]
"""Removes the key from a text and makes one line of it."""


def scrubber(key: str) -> Scrub:
    """Return what removes a key, and its secret half alone, from texts of others."""
    secrets = [part for part in (key, key.partition(":")[2]) if len(part) >= _SHORTEST_SECRET]

    def scrub(text: str) -> str:
        # The key first, then the cut: half a key would not be found.
        for secret in secrets:
            text = text.replace(secret, "***")
        text = " ".join("".join(char if char.isprintable() else " " for char in text[:_LONGEST_LOOK]).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"

    return scrub


@dataclass(frozen=True, slots=True)
class Complaint:
    """What fal said about a call it refused; empty where it said nothing."""

    fal_type: str = ""
    message: str = ""
    request_id: str = ""


def complaint(headers: httpx.Headers, body: bytes, scrub: Scrub) -> Complaint:
    """Read an error's body in either of the two shapes, or as plain text."""
    request_id = headers.get("x-request-id") or headers.get("x-fal-request-id") or ""
    try:
        said = decoded(body)
    except ValueError:
        said = None
    fal_type = ""
    message: object = ""
    if isinstance(said, dict):
        inner = said.get("error", said)
        if isinstance(inner, dict):
            fal_type = _word(inner.get("type"))
            message = inner.get("message") or inner.get("detail") or said.get("detail") or ""
            request_id = _word(inner.get("request_id")) or request_id
        else:
            message = inner
    elif "html" not in headers.get("content-type", ""):
        message = body.decode("utf-8", "replace")
    text = message if isinstance(message, str) else str(message)
    return Complaint(scrub(fal_type), scrub(text), scrub(request_id))


def refusal(
    response: httpx.Response, body: bytes, *, account: str, call: str, scrub: Scrub, now: Clock
) -> RefusalError:
    """Return the error that an answer other than 2xx stands for."""
    said = complaint(response.headers, body, scrub)
    status = response.status_code
    lock = lock_reason(said.message) if status == HTTPStatus.FORBIDDEN else None
    kind = LockedError if lock else _kind(status, said)
    words = ": ".join(filter(None, (said.fal_type, said.message)))
    what = f"fal answered {status}" + (f", {words!r}" if words else "")
    if kind is RedirectError:
        what += f", pointing to {scrub(response.headers.get('location', 'nowhere'))!r}"
    error = kind(
        what,
        account=account,
        call=call,
        status=status,
        fal_type=said.fal_type,
        fal_message=said.message,
        request_id=said.request_id,
        retry_after=retry_after(response.headers, now),
    )
    if isinstance(error, LockedError) and lock:
        error.lock = lock
    return error


def _kind(status: int, said: Complaint) -> type[RefusalError]:
    if said.fal_type == "not_implemented" or status == HTTPStatus.NOT_IMPLEMENTED:
        return FeatureError
    if status == HTTPStatus.FORBIDDEN and _FEATURE.search(said.message):
        return FeatureError
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ServerError
    if status < HTTPStatus.BAD_REQUEST:
        return RedirectError
    return _BY_STATUS.get(status, BadRequestError)


def retry_after(headers: httpx.Headers, now: Clock) -> float | None:
    """Return the seconds that `Retry-After` asks to wait (RFC 9110, 10.2.3), or None if it asks for none.

    A date is counted from the answer's own `Date`, so that a clock that is off does not matter.
    """
    text = headers.get("retry-after", "").strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{1,9})?", text):
        return float(text)
    until = _instant(text)
    if until is None:
        return None
    since = _instant(headers.get("date", "")) or now()
    return max(0.0, (until - since).total_seconds())


def _instant(text: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""
