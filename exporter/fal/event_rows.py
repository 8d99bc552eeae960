"""Rows of billing events: read column by column where all of a page is as expected, else carefully, row by row.

A page has up to 10,000 rows, and most of their values occur a thousand times. So the fields of a row are taken out as
the JSON texts that fal sent, and each distinct text is read once, by the same functions that read a single row: to the
nano-dollar, from its digits. What is different for every row, its id and instant, is checked in bulk. A page in which
anything is not as expected gives no columns; it is then read row by row, so that its odd rows are rejected, counted and
shown one by one, as everywhere.
"""

import json
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

from exporter.charges import HOUR, BilledRequest, RequestColumns, fits_a_label, label_text
from exporter.fal.answers import decoded
from exporter.fal.bodies import check_parsed_size
from exporter.fal.platform_usage import caller
from exporter.fal.rows import RejectedError, Rejection, Row, amount, instant, optional_text, text

_LONGEST_ID = 200
_LARGEST = 2**63 - 1

_PLAIN_STAMP = r"\d{4}-\d\d-\d\dT\d\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z"
_TO_THE_HOUR = len("2026-11-27T13")
_PLAIN_STAMPS = re.compile(rf"(?:{_PLAIN_STAMP}\n)*", re.ASCII)
"""Of all ways to write an instant the one that fal uses, and that a store can take over as it is."""

_REMEMBERED = 4_096
"""Distinct values that are remembered from page to page; most occur on all of them."""

_LONGEST_REMEMBERED = 1_024
"""Bytes."""

_NULL = Raw(b"null")


class _Event(msgspec.Struct, gc=False):
    """A row; amounts, callers and tags as they were sent, null where they are missing."""

    request_id: str
    timestamp: str
    endpoint_id: str
    output_units: Raw = _NULL
    unit_price: Raw = _NULL
    percent_discount: Raw = _NULL
    cost_subtotal: Raw = _NULL
    cost_discount: Raw = _NULL
    cost_total: Raw = _NULL
    cost_estimate_nano_usd: Raw = _NULL
    auth_method_structured: Raw = _NULL
    auth_method: Raw = _NULL
    username: str | None = None
    tags: Raw = _NULL


class _Page(msgspec.Struct, gc=False):
    billing_events: list[_Event]
    has_more: bool
    next_cursor: Raw = _NULL


Sent = TypeVar("Sent", bound=Hashable)
Value = TypeVar("Value")

_PAGES = msgspec.json.Decoder(_Page)
_AMOUNTS = (
    "output_units",
    "unit_price",
    "percent_discount",
    "cost_subtotal",
    "cost_discount",
    "cost_total",
    "cost_estimate_nano_usd",
)


_CALLER = ("auth_method_structured", "auth_method")
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode


@dataclass(frozen=True, slots=True)
class ColumnPage:
    """A page, all rows of which are as expected.

    Attributes:
        more, following: `has_more` and `next_cursor`.
    """

    requests: RequestColumns
    more: bool
    following: object


def parsed(body: bytes | bytearray, window: tuple[datetime, datetime], limit: int) -> object:
    """Parse an answer: to a ColumnPage if it can be, else to what its JSON says.

    Args:
        body: of the answer.
        window: of all the requests, from an instant until another, exclusive.
        limit: bytes that an answer may have.

    Raises:
        OversizeError: its JSON would take too much memory.
        ValueError: as `decoded`.
    """
    page = _columns(body, window)
    if page is not None:
        return page
    check_parsed_size(body, limit)
    return decoded(body)


def _columns(body: bytes | bytearray, window: tuple[datetime, datetime]) -> ColumnPage | None:
    try:
        body.decode()  # what is not read of a row is JSON as well
        page = _PAGES.decode(body)
        events = page.billing_events
        ids, stamps = [event.request_id for event in events], [event.timestamp for event in events]
        if not (_are_plain_ids(ids) and _are_plain_stamps(stamps, window)):
            return None
        following = decoded(bytes(page.next_cursor))
        models = _read_once([event.endpoint_id for event in events], text)
        teams = _read_once([event.username for event in events], optional_text)
        callers = _read_once(
            [b",".join((event.auth_method_structured, event.auth_method)) for event in events],
            _caller_sent,
        )
        amounts = _read_once(
            [
                b",".join(
                    (
                        event.output_units,
                        event.unit_price,
                        event.percent_discount,
                        event.cost_subtotal,
                        event.cost_discount,
                        event.cost_total,
                        event.cost_estimate_nano_usd,
                    )
                )
                for event in events
            ],
            _amounts_sent,
        )
        tags = _read_once([bytes(event.tags) for event in events], _tags_sent)
    except (msgspec.MsgspecError, RecursionError, RejectedError, ValueError):
        return None
    columns = RequestColumns(
        ids,
        stamps,
        models,
        teams,
        [api_key for api_key, _ in callers],
        [member for _, member in callers],
        [one.quantity for one in amounts],
        [one.unit_price for one in amounts],
        [one.discount_percent for one in amounts],
        [one.list_cost for one in amounts],
        [one.discount for one in amounts],
        [one.cost for one in amounts],
        tags,
    )
    return ColumnPage(columns, page.has_more, following)


def _read_once(column: list[Sent], read: Callable[[Sent], Value]) -> list[Value]:
    """Return what is read of a column, each distinct value of which is read once."""
    values = {sent: read(sent) for sent in set(column)}
    return list(map(values.__getitem__, column))


def _remembered(read: Callable[[bytes], Value]) -> Callable[[bytes], Value]:
    """Return a function that remembers what it has read of short texts."""
    remembering = lru_cache(_REMEMBERED)(read)
    return lambda sent: remembering(sent) if len(sent) <= _LONGEST_REMEMBERED else read(sent)


@_remembered
def _caller_sent(sent: bytes) -> tuple[str, str]:
    return _caller(_row(_CALLER, sent))


@_remembered
def _amounts_sent(sent: bytes) -> "_Amounts":
    return _amounts(_row(_AMOUNTS, sent))


@_remembered
def _tags_sent(sent: bytes) -> str:
    return _tags(decoded(sent))


def _row(names: tuple[str, ...], sent: bytes) -> Row:
    """Return JSON texts with commas between them as a row."""
    values = decoded(b"[" + sent + b"]")
    return dict(zip(names, values if isinstance(values, list) else (), strict=True))


def _are_plain_ids(ids: list[str]) -> bool:
    """Return whether all ids are kept as they were sent."""
    return all(ids) and max(map(len, ids), default=1) <= _LONGEST_ID and fits_a_label("".join(ids))


def _are_plain_stamps(stamps: list[str], window: tuple[datetime, datetime]) -> bool:
    """Return whether all instants are of a window, and written as fal writes them.

    Raises:
        ValueError: one is no instant.
    """
    if not _PLAIN_STAMPS.fullmatch("\n".join([*stamps, ""])):
        return False
    start, end = window
    hours = [datetime.fromisoformat(f"{hour}:00Z") for hour in {stamp[:_TO_THE_HOUR] for stamp in stamps}]
    if all(start <= hour <= end - HOUR for hour in hours):
        return True  # as nearly always: of hours that lie in the window as a whole
    instants = list(map(datetime.fromisoformat, stamps))
    return start <= min(instants) and max(instants) < end


def request_of(row: Row, window: tuple[datetime, datetime]) -> BilledRequest:
    """Return a row as a request.

    Raises:
        RejectedError: a field that is needed is missing or is not what it should be, or the request is of another
            window.
    """
    at = instant(row.get("timestamp"))
    if not window[0] <= at < window[1]:
        raise RejectedError(Rejection.OUTSIDE_WINDOW)
    request_id = text(row.get("request_id"))
    if not request_id or len(request_id) > _LONGEST_ID:
        raise RejectedError(Rejection.OUT_OF_RANGE)
    model, team = text(row.get("endpoint_id")), optional_text(row.get("username"))
    api_key, member = _caller(row)
    tags = _tags(row.get("tags"))
    return BilledRequest(request_id, at, model, team, api_key, member, **_amounts(row)._asdict(), tags=tags)


def _caller(row: Row) -> tuple[str, str]:
    """Return a row's key and member."""
    api_key, member = caller(row)
    return label_text(api_key), label_text(member)


class _Amounts(NamedTuple):
    """Amounts of a row, as in `BilledRequest`."""

    quantity: int | None
    unit_price: int | None
    discount_percent: int | None
    list_cost: int
    discount: int
    cost: int


def _amounts(row: Row) -> _Amounts:
    get = row.get
    nanos, total = get("cost_estimate_nano_usd"), get("cost_total")
    # fal counts in nano-USD itself; the integer needs no rounding.
    cost = nanos if type(nanos) is int and 0 <= nanos <= _LARGEST else amount(total)
    discount = _optional(get("cost_discount")) or 0
    subtotal = _optional(get("cost_subtotal"))
    list_cost = cost + discount if subtotal is None else subtotal
    if list_cost > _LARGEST:
        raise RejectedError(Rejection.OUT_OF_RANGE)
    return _Amounts(
        _optional(get("output_units")),
        _optional(get("unit_price")),
        _optional(get("percent_discount")),
        list_cost,
        discount,
        cost,
    )


def _optional(value: object) -> int | None:
    return None if value is None else amount(value)


def _tags(value: object) -> str:
    """Return tags as canonical JSON; a tag whose value is no text is left out."""
    if not isinstance(value, dict) or not value:
        return "{}"
    kept = {label_text(str(name)): label_text(tag) for name, tag in value.items() if isinstance(tag, str)}
    return _canonical(kept)
