"""Query parameters, read and validated."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import crc32
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from starlette.datastructures import QueryParams

from exporter.simulator.calendar import TIMEFRAMES, automatic_timeframe, bucket_start, buckets, month_of, next_bucket
from exporter.simulator.errors import ApiError
from exporter.simulator.exact import microseconds

_MOST_VALUES = 50
_MONTH = re.compile(r"\d{4}-\d{2}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DEFAULT_SPAN = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Period:
    """The span that a call asks about, `[start, end)` in UTC, and how it is cut into buckets."""

    start: datetime
    end: datetime
    timeframe: str
    zone: tzinfo

    def buckets(self) -> Iterator[tuple[datetime, tuple[int, int]]]:
        """Yield each bucket's stamp in the period's time zone, and what of it lies in the span (microseconds)."""
        for start, end in buckets(self.start, self.end, self.timeframe, self.zone):
            yield start.astimezone(self.zone), (microseconds(max(start, self.start)), microseconds(min(end, self.end)))

    @property
    def span(self) -> tuple[int, int]:
        """The whole span in microseconds."""
        return microseconds(self.start), microseconds(self.end)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page begins.

    Attributes:
        as_of: the instant (microseconds) whose truth all pages of one sequence tell.
        at: the bucket or hour (microseconds) with the page's first row; row: its number there.
        query: a checksum of the query that the sequence belongs to.
        again: how often a fault has served the page again; it only makes the text differ.
    """

    as_of: int
    at: int
    row: int
    query: int
    again: int = 0

    def text(self) -> str:
        """Return the opaque text that a caller gets."""
        plain = f"{self.as_of}.{self.at}.{self.row}.{self.query}.{self.again}"
        return urlsafe_b64encode(plain.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, query: int) -> "Cursor":
        """Read the text of a cursor back.

        Raises:
            ApiError: 400: it is no cursor, or belongs to another query.
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
        """Return a single value; the last where it is repeated, None where it is absent or empty."""
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
        """Return the page size that is asked for, at most the largest that the call serves."""
        text = self.text("limit")
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or int(text) < 1:
            raise ApiError(400, f"limit: {text!r} is not a positive whole number.")
        return min(int(text), largest)

    def instant(self, name: str) -> datetime | None:
        """Return an ISO 8601 date (its midnight in UTC) or date-time (in UTC where it has no offset)."""
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
        """Return the time zone that decides bucket edges."""
        name = self.text("timezone") or "UTC"
        try:
            return UTC if name == "UTC" else ZoneInfo(name)
        except (ValueError, OSError, KeyError):
            raise ApiError(400, f"timezone: {name!r} is not an IANA time zone.") from None

    def period(self, now: datetime) -> Period:
        """Return the span with its buckets, widened to whole ones unless `bound_to_timeframe=false`."""
        start, end = self.span(now)
        zone = self.zone()
        timeframe = self.choice("timeframe", TIMEFRAMES, automatic_timeframe(start, end))
        if self.choice("bound_to_timeframe", ("true", "false"), "true") == "true":
            start = bucket_start(start, timeframe, zone)
            edge = bucket_start(end, timeframe, zone)
            end = edge if edge == end else next_bucket(edge, timeframe, zone)
        return Period(start, end, timeframe, zone)

    def cursor(self, now: datetime, start: int = 0) -> Cursor:
        """Return the cursor that the call continues from, or the one that begins a sequence at `start`."""
        items = sorted(item for item in self._params.multi_items() if item[0] not in {"cursor", "limit"})
        checksum = crc32(repr(items).encode())
        text = self.text("cursor")
        return Cursor.parse(text, checksum) if text else Cursor(microseconds(now), start, 0, checksum)
