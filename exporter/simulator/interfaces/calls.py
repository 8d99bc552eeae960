"""One call of fal: its parameters, its key, its answer and its refusals."""

import asyncio
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import crc32
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from fnmatch import fnmatchcase
from typing import Literal
from zoneinfo import ZoneInfo

from starlette.datastructures import QueryParams

from exporter.simulator.world.account import Account
from exporter.simulator.world.exact import (
    TIMEFRAMES,
    automatic_timeframe,
    bucket_start,
    buckets,
    microseconds,
    month_of,
    next_bucket,
)
from exporter.simulator.world.world import Charge

JSON = "application/json"
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
    """Refusal of a call.

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
    """Return True for a path of the platform host (`api.fal.ai/v1`), False for one of the older host."""
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


ADMIN_KEY = "simulator-admin:00000000000000000000000000000001"
"""An admin-scope key of the organization's root, accepted unless other keys are given."""

API_KEY = "simulator-api:00000000000000000000000000000002"
"""An API-scope key of the organization's root, accepted unless other keys are given."""

Scope = Literal["admin", "api"]
SCOPES: tuple[Scope, ...] = ("admin", "api")


@dataclass(frozen=True, slots=True)
class Key:
    """An accepted key.

    Attributes:
        text: `id:secret`, as the Authorization header carries it after `Key `.
        scope: `admin` for everything, `api` for the calls that need no admin key.
        team: the only team whose charges the key sees; empty for a key of the root team.
        own_only: the root team's key sees all teams only in the calls of the organization and in `/billing/usage`, and
            its own charges in the others; without, it sees all teams in every call.
        refused: shell patterns of paths that the key may not call, each with the status of the refusal.
    """

    text: str = field(repr=False)
    scope: Scope = "admin"
    team: str = ""
    own_only: bool = False
    refused: tuple[tuple[str, int], ...] = ()

    @property
    def id(self) -> str:
        """Public part of the key."""
        return self.text.partition(":")[0]

    def refusal(self, path: str) -> int | None:
        """Return the status of a refusal of a path that the key may not call, else None."""
        return next((status for pattern, status in self.refused if fnmatchcase(path, pattern)), None)


DEFAULT_KEYS = (Key(ADMIN_KEY), Key(API_KEY, "api"))


def by_text(keys: Iterable[Key]) -> dict[str, Key]:
    """Index keys by their text."""
    return {key.text: key for key in keys}


def key_id_of(authorization: str | None) -> str:
    """Return the public part of the key of an Authorization header, accepted or not; empty without one."""
    return (authorization or "").partition(" ")[2].strip().partition(":")[0]


def authenticate(keys: Mapping[str, Key], authorization: str | None) -> Key:
    """Return the key of an Authorization header.

    Raises:
        ApiError: 401: the header is missing, not of the `Key` scheme, or its key is invalid.
    """
    scheme, _, text = (authorization or "").partition(" ")
    if not text:
        raise ApiError(401, "Authentication is required: send the header 'Authorization: Key <key_id>:<key_secret>'.")
    if scheme.lower() != "key":
        raise ApiError(401, f"Authorization scheme {scheme!r} is not supported, use 'Key'.")
    key = keys.get(text.strip())
    if key is None:
        raise ApiError(401, "Invalid API key.")
    return key


def need_admin(key: Key) -> None:
    """Refuse a key without admin scope.

    Raises:
        ApiError: 403.
    """
    if key.scope != "admin":
        raise ApiError(403, "This endpoint requires an admin-scope API key.")


def need_root(key: Key) -> None:
    """Refuse a key that is not an admin key of the organization's root team.

    Raises:
        ApiError: 403.
    """
    need_admin(key)
    if key.team:
        raise ApiError(403, "This endpoint requires an admin-scope API key of the organization's root team.")


_MOST_VALUES = 50
_MONTH = re.compile(r"\d{4}-\d{2}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DEFAULT_SPAN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Period:
    """Requested span, `[start, end)` in UTC, with its timeframe and time zone."""

    start: datetime
    end: datetime
    timeframe: str
    zone: tzinfo

    def buckets(self) -> Iterator[tuple[datetime, tuple[int, int]]]:
        """Yield each bucket's stamp in the period's time zone, and its part inside the span (microseconds)."""
        for start, end in buckets(self.start, self.end, self.timeframe, self.zone):
            yield start.astimezone(self.zone), (microseconds(max(start, self.start)), microseconds(min(end, self.end)))

    @property
    def span(self) -> tuple[int, int]:
        """The whole span in microseconds."""
        return microseconds(self.start), microseconds(self.end)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Position at which a page begins.

    Attributes:
        as_of: the instant (microseconds) as of which all pages of one sequence answer.
        at: the bucket or hour (microseconds) of the page's first row; row: the index of that row in it.
        query: a checksum of the query that the sequence belongs to.
        again: how often a fault has served the page again; only makes the texts differ.
    """

    as_of: int
    at: int
    row: int
    query: int
    again: int = 0

    def text(self) -> str:
        """Return the opaque text sent to the caller."""
        plain = f"{self.as_of}.{self.at}.{self.row}.{self.query}.{self.again}"
        return urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, query: int) -> "Cursor":
        """Parse the text of a cursor.

        Raises:
            ApiError: 400: the text is no cursor, or belongs to another query.
        """
        try:
            plain = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            as_of, at, row, of_query, again = (int(part) for part in plain.split("."))
        except ValueError:
            raise ApiError(400, "cursor: this is not a cursor of this interface.") from None
        if of_query != query:
            raise ApiError(400, "cursor: this cursor belongs to a query with other parameters.")
        return cls(as_of, at, row, query, again)


class Query:
    """The parameters of one call; every method raises ApiError (400) with a sentence that names the parameter."""

    def __init__(self, params: QueryParams) -> None:
        self._params = params

    def text(self, name: str) -> str | None:
        """Return a single value: the last of a repeated parameter, None for an absent or empty one."""
        return self._params.get(name) or None

    def values(self, name: str) -> tuple[str, ...]:
        """Return a list parameter's values: a comma list, repeats or both; at most 50."""
        parts = [part.strip() for text in self._params.getlist(name) for part in text.split(",")]
        values = tuple(dict.fromkeys(part for part in parts if part))
        if name in self._params and not values:
            raise ApiError(400, f"{name}: at least one value is needed where it is given.")
        if len(values) > _MOST_VALUES:
            raise ApiError(400, f"{name}: at most {_MOST_VALUES} values are accepted, not {len(values)}.")
        return values

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """Return one of the allowed values."""
        value = self.text(name) or default
        if value not in allowed:
            raise ApiError(400, f"{name}: {value!r} is not one of {', '.join(allowed)}.")
        return value

    def choices(self, name: str, allowed: Sequence[str], default: Sequence[str]) -> tuple[str, ...]:
        """Return a list parameter of which every value is allowed."""
        values = self.values(name) or tuple(default)
        for value in values:
            if value not in allowed:
                raise ApiError(400, f"{name}: {value!r} is not one of {', '.join(allowed)}.")
        return values

    def limit(self, default: int, largest: int) -> int:
        """Return the requested page size, at most the largest that the call serves."""
        text = self.text("limit")
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ApiError(400, f"limit: {text!r} is not a positive whole number.")
        return min(int(text), largest)

    def instant(self, name: str) -> datetime | None:
        """Return the instant of an ISO 8601 date (midnight UTC) or date-time (UTC where no offset is given)."""
        text = self.text(name)
        if text is None:
            return None
        try:
            if _DATE.fullmatch(text):
                day = date.fromisoformat(text)
                return datetime(day.year, day.month, day.day, tzinfo=UTC)
            # A '+' of an offset that was not percent-encoded arrives as a space.
            instant = datetime.fromisoformat(re.sub(r" (?=\d{2}:?\d{2}$)", "+", text))
            return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise ApiError(400, f"{name}: {text!r} is not an ISO 8601 date or date-time.") from None

    def month(self, name: str) -> datetime | None:
        """Return the UTC month of a `YYYY-MM` parameter."""
        text = self.text(name)
        if text is None:
            return None
        try:
            if _MONTH.fullmatch(text):
                return month_of(datetime.fromisoformat(f"{text}-01T00:00:00Z"))
        except ValueError:
            pass
        raise ApiError(400, f"{name}: {text!r} is not a month such as 2026-10.")

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """Return `start` (default 24 h before the end) and `end` (default now), unwidened."""
        end = self.instant("end") or now
        start = self.instant("start") or end - _DEFAULT_SPAN
        if start >= end:
            raise ApiError(400, f"start: {start.isoformat()} is not before end {end.isoformat()}.")
        return start, end

    def zone(self) -> tzinfo:
        """Return the time zone of the bucket edges."""
        name = self.text("timezone") or "UTC"
        try:
            return UTC if name == "UTC" else ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ApiError(400, f"timezone: {name!r} is not an IANA time zone.") from None

    def period(self, now: datetime) -> Period:
        """Return the requested period, widened to whole buckets unless `bound_to_timeframe=false`."""
        start, end = self.span(now)
        zone = self.zone()
        timeframe = self.choice("timeframe", TIMEFRAMES, automatic_timeframe(start, end))
        if self.choice("bound_to_timeframe", ("true", "false"), "true") == "true":
            start = bucket_start(start, timeframe, zone)
            edge = bucket_start(end, timeframe, zone)
            end = edge if edge == end else next_bucket(edge, timeframe, zone)
        return Period(start, end, timeframe, zone)

    def cursor(self, now: datetime, start: int = 0) -> Cursor:
        """Return the cursor of the call, or one that begins a new sequence at `start`."""
        items = sorted(item for item in self._params.multi_items() if item[0] not in {"cursor", "limit"})
        checksum = crc32(repr(items).encode())
        text = self.text("cursor")
        return Cursor.parse(text, checksum) if text else Cursor(microseconds(now), start, 0, checksum)


Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Options:
    """Behaviour of the simulated fal.

    Attributes:
        page_rows: default rows of a page; a call may request at most ten times as many.
        cost_only: usage rows carry only `cost`, as older answers did.
        single_dimension: `/billing/usage` accepts a single `group_by` dimension.
        enterprise: the organization and FOCUS calls are enabled.
        requests_per_minute: rate limit of a key; None for none.
        soft_budget, hard_budget: the account's own monthly budgets in US dollars; the account is locked above the hard
            one; is_paying: as fal reports of the account.
    """

    page_rows: int = 2_000
    cost_only: bool = False
    single_dimension: bool = False
    enterprise: bool = True
    requests_per_minute: int | None = None
    soft_budget: int | None = None
    hard_budget: int | None = None
    is_paying: bool = True


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated call.

    Attributes:
        now: the instant of the call, or of the first page where the call continues a sequence.
        cursor: position at which a paged answer begins.
        balance: a balance in nano-USD that a fault puts in place of the account's.
        locked: the reason for which a fault has locked the account, if so.
        alias: the id of a listed key that a fault has renamed, and its new alias.
        path: the parameters in the path.
    """

    account: Account
    query: Query
    key: Key
    options: Options
    now: datetime
    cursor: Cursor
    balance: int | None = None
    locked: str | None = None
    alias: tuple[str, str] | None = None
    path: Mapping[str, str] = field(default_factory=dict)

    @property
    def as_of(self) -> int:
        """The instant as of which the call is answered, in microseconds."""
        return self.cursor.as_of

    @property
    def own_team(self) -> str:
        """Team whose charges the calls of an account show; empty for all."""
        return self.key.team or (self.account.world.teams[0] if self.key.own_only else "")

    async def charges(
        self, span: tuple[int, int], wanted: Callable[[Charge], bool], *, organization: bool = False, lag: int = 0
    ) -> AsyncIterator[list[Charge]]:
        """Yield the wanted charges of a span that the key may see, hour by hour, yielding to other calls between.

        Args:
            span: half-open, in microseconds.
            wanted: returns True for the charges of the answer.
            organization: of all teams that the key sees, even where the key sees `own_only` elsewhere.
            lag: microseconds by which charges are visible later than usual.
        """
        team = self.key.team if organization else self.own_team
        for charges in self.account.charges(span, self.as_of - lag, team):
            yield [charge for charge in charges if wanted(charge)]
            await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON answer; `following` is the cursor of the next page, None on the last page and without paging."""

    body: object
    cursor: Cursor | None = None
    following: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Download:
    """Streamed CSV answer."""

    chunks: AsyncIterator[str]


Endpoint = Callable[[Call], Awaitable[Answer | Download]]


def need_enterprise(call: Call) -> None:
    """Refuse a call that is not enabled for the account.

    Raises:
        ApiError: 403.
    """
    if not call.options.enterprise:
        raise ApiError(403, "This feature is not enabled for your account. Contact sales to enable it.")


def paged(call: Call, name: str, rows: list[Row]) -> Answer:
    """Return a page of a list that is known whole."""
    first, limit = call.cursor.row, call.query.limit(call.options.page_rows, call.options.page_rows)
    cursor = call.cursor
    more = first + limit < len(rows)
    following = Cursor(cursor.as_of, cursor.at, first + limit, cursor.query) if more else None
    return Answer({"next_cursor": None, "has_more": False, name: rows[first : first + limit]}, cursor, following)


class Sums:
    """Sums of charges by group, in order of first appearance."""

    __slots__ = ("groups",)

    def __init__(self) -> None:
        self.groups: dict[tuple[object, ...], list[int]] = {}

    def add(self, key: Callable[[Charge], tuple[object, ...]], charges: Iterable[Charge]) -> None:
        """Add charges: requests, quantity, GPU-seconds, subtotal and discount of each group."""
        groups = self.groups
        for charge in charges:
            group = key(charge)
            _, _, requests, quantity, subtotal, discount = charge
            known = groups.get(group)
            if known is None:
                groups[group] = [requests, quantity, quantity * charge.line.gpus, subtotal, discount]
            else:
                known[0] += requests
                known[1] += quantity
                known[2] += quantity * charge.line.gpus
                known[3] += subtotal
                known[4] += discount
