"""Answers of fal: exact JSON, the error an answer stands for, and what it says of a lock.

A JSON fraction becomes a `Decimal` straight from its text, and an integer an `int`; no float is ever made. `NaN` and
`Infinity`, which Python's parser takes by default, are no JSON and refused.

The lock of an account has two witnesses. fal states it where it is asked (`exporter.fal.account.read_standing`), which
alone shows the lock of an account whose reading calls go on answering. And a call of a locked account may be refused
with 403 `User is locked. Reason: ...`; users report calls that stay locked after a top-up while others work again, so
refusals are kept per call, until each of these calls has succeeded once more. Any other failure leaves the state as it
is.

Two hosts, two shapes of error: `{"error": {"type", "message", "request_id"}}` on the platform, `{"detail": ...}` on
the older one; proxies in between answer with anything. Whatever text fal sends is cut to a line and cleaned of the
key before it goes into an error.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType

import httpx

from exporter.charges import Clock
from exporter.fal.endpoints import Observer
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
from exporter.logs import hidden_secrets, without_secrets


class BrokenOffError(ValueError):
    """The text ends before its JSON does."""


def decoded(body: bytes | bytearray) -> object:
    """Parse a JSON text.

    Raises:
        BrokenOffError: the text ends before its JSON does.
        ValueError: the text is no JSON, or not UTF-8, or nested too deeply.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise BrokenOffError(f"it ends after {len(body)} bytes") from None
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        if _broken_off(text, error):
            raise BrokenOffError(f"it ends after {len(body)} bytes") from None
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parsed(text: str) -> object:
    try:
        return _EXACT.decode(text)
    except (json.JSONDecodeError, _ConstantError):
        raise
    except (InvalidOperation, ValueError):
        return _EXACT_OR_INFINITE.decode(text)


def _broken_off(text: str, error: json.JSONDecodeError) -> bool:
    """Return whether a text was cut off rather than never JSON: nothing is wrong with it but its end."""
    body = text.strip()
    if not body.startswith(("{", "[")) or error.msg == "Extra data":
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()) or body[-1] not in "}]"


class _ConstantError(ValueError):
    """The text holds `NaN` or `Infinity`."""


def _refused(word: str) -> object:
    raise _ConstantError(f"it contains {word}")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def _integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal("Infinity")


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_refused)
# Numbers beyond what Decimal and int take at all (exponents of 19 digits, integers of 4,300) come as infinite, so that
# one absurd row is rejected as a row; looking for them costs a Python call a number, hence only at the second try.
_EXACT_OR_INFINITE = json.JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=_refused)

_TOP_UP = "top up the balance at fal.ai/dashboard/billing; if the account stays locked, contact fal's support"

LOCK_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "exhausted_balance": _TOP_UP,
        "top_up": _TOP_UP,
        "admin_lock": "contact fal's support, which locked the account manually; a top-up does not unlock it",
        "budget_exceeded": "raise the account's monthly budget in fal's dashboard or wait for the next month; "
        "a top-up does not unlock it",
        "payment_method": "add a payment method at fal.ai/dashboard/billing",
        "archived": "ask fal's support to restore the account, or use the key of another one",
        "unknown": "ask fal's support for the reason, and compare the balance with the one at which fal locks the "
        "account",
    }
)
"""Advice about a lock, by its reason."""

LOCK_REASONS = tuple(LOCK_ADVICE)
"""Why an account can be locked: a closed set, fit for a label."""

_LOCKED = re.compile(r"\bis locked\b\.?(?:\s*Reason:\s*(?P<reason>.*))?", re.IGNORECASE | re.DOTALL)
_WORDS = (
    ("exhausted_balance", "exhausted balance"),
    ("admin_lock", "admin lock"),
    ("budget_exceeded", "budget is exceeded"),
    ("payment_method", "payment method"),
    ("archived", "archived"),
    ("top_up", "top up"),
)


def lock_reason(message: str) -> str | None:
    """Return why the account is locked by fal's message of a refusal, or None if it does not speak of a lock."""
    locked = _LOCKED.search(message)
    return None if locked is None else stated_reason(locked["reason"] or "")


def stated_reason(text: str) -> str:
    """Return the reason (one of `LOCK_REASONS`) that a sentence of fal's gives for a lock."""
    # Advice follows in sentences of its own and may hold the words of another reason.
    first = re.sub(r"[\s_-]+", " ", text.partition(".")[0]).lower()
    return next((reason for reason, words in _WORDS if words in first), "unknown")


class Locks:
    """Lock of one account and its reasons: as fal reports it, and by the calls that were refused for a lock."""

    def __init__(self, account: str, observer: Observer) -> None:
        self._account = account
        self._observer = observer
        self._calls: dict[str, str] = {}

    @property
    def reasons(self) -> frozenset[str]:
        """The reasons the account is locked for; empty when it is not locked."""
        reasons = frozenset(self._calls.values())
        return reasons - {"unknown"} or reasons

    def refused(self, call: str, reason: str) -> None:
        """Remember that a call was refused for a lock."""
        self._change(self._calls | {call: reason})

    def succeeded(self, call: str) -> None:
        """Remember that a call works."""
        if call in self._calls:
            self._change({other: reason for other, reason in self._calls.items() if other != call})

    def stated(self, reason: str | None) -> None:
        """Remember that fal states the account to be locked for a reason, or, with None, not to be."""
        others = {call: why for call, why in self._calls.items() if call != _STATED}
        self._change(others if reason is None else others | {_STATED: reason})

    def _change(self, calls: dict[str, str]) -> None:
        told = self.reasons
        self._calls = calls
        now = self.reasons
        if told - now:
            self._observer.unlocked(self._account)
            told = frozenset()
        for reason in sorted(now - told):
            self._observer.locked(self._account, reason)


_STATED = ""
"""Place of fal's own statement among the calls, each of which has a path."""

_LONGEST_MESSAGE = 300
_LONGEST_LOOK = 4096

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
    secrets = [part for part in (key, key.partition(":")[2]) if part]

    def scrub(text: str) -> str:
        # The key first, then the cut: half a key would not be found.
        text = without_secrets(text, (*secrets, *hidden_secrets()), "***")
        text = " ".join("".join(char if char.isprintable() else " " for char in text[:_LONGEST_LOOK]).split())
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"

    return scrub


@dataclass(frozen=True, slots=True)
class Complaint:
    """Reason that fal gave for refusing a call; empty where it gave none."""

    fal_type: str = ""
    message: str = ""
    request_id: str = ""


def complaint(headers: httpx.Headers, body: bytes | bytearray, scrub: Scrub) -> Complaint:
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
    response: httpx.Response, body: bytes | bytearray, *, account: str, call: str, scrub: Scrub, now: Clock
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
        advice=LOCK_ADVICE[lock] if lock else "",
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
