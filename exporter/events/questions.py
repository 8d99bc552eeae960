"""Questions about single requests, and the SQL that answers them in DuckDB and in ClickHouse."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from exporter.charges import BilledRequest

Sort = Literal["cost", "time"]
Value = str | int

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(at: datetime) -> int:
    """Return the microseconds from 1970 to an instant."""
    return (at - _EPOCH) // _MICROSECOND


def instant(number: int) -> datetime:
    """Return the instant so many microseconds after 1970."""
    return _EPOCH + number * _MICROSECOND


class StoredRequest(NamedTuple):
    """A request and the account that it was read for."""

    account: str
    request: BilledRequest


class Place(NamedTuple):
    """A place in a sorted answer: after the request with this value (nano-USD, or microseconds) and id."""

    value: int
    request_id: str


@dataclass(frozen=True, slots=True)
class RequestsQuestion:
    """A question about requests; a filter that is None takes all.

    Attributes:
        start, end: when they were charged for, `[start, end)`.
        where: the values wanted, by the column `model`, `team`, `api_key` or `member`.
        tags: the values wanted, by the name of a tag.
        cost_above: nano-USD, exclusive.
        sort: the dearest first, or the newest first.
        after: where an earlier answer ended.
    """

    start: datetime
    end: datetime
    accounts: frozenset[str] | None = None
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tags: Mapping[str, frozenset[str]] = field(default_factory=dict)
    cost_above: int | None = None
    sort: Sort = "cost"
    limit: int = 100
    after: Place | None = None

    def place_of(self, found: StoredRequest) -> Place:
        """Return the place of a request in the answer."""
        request = found.request
        return Place(request.cost if self.sort == "cost" else microseconds(request.at), request.request_id)


COLUMNS = (
    "request_id",
    "timestamp",
    "model",
    "team",
    "api_key",
    "member",
    "quantity_nano",
    "unit_price_nano_usd",
    "discount_nano_percent",
    "list_cost_nano_usd",
    "discount_nano_usd",
    "cost_nano_usd",
    "tags",
    "read_at",
)
"""Columns of the store's files and table, beside the account and the day, which partition it."""

Row = tuple[str, str, int, str, str, str, str, int | None, int | None, int | None, int, int, int, str]
"""A row of `Dialect.selected`."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Words in which two databases differ.

    Attributes:
        microseconds: of the column `timestamp`.
        tag: the text of the tag whose name follows as a value.
        tag_name: a tag's name as that value.
        at: an instant, given as ISO text in UTC.
    """

    microseconds: str
    tag: str
    tag_name: str
    at: str

    def selected(self) -> str:
        """Return what is selected of a request, in the order of `Row`."""
        return ", ".join(["account", *_SELECTED]).replace('"timestamp"', self.microseconds)


_SELECTED = ("request_id", '"timestamp"', *COLUMNS[2:-1])

DUCKDB = Dialect(
    microseconds='epoch_us("timestamp")',
    tag="json_extract_string(tags, {})",
    tag_name='$."{}"',
    at="TIMESTAMPTZ '{}+00:00'",
)
CLICKHOUSE = Dialect(
    microseconds="toUnixTimestamp64Micro(timestamp)",
    tag="JSONExtractString(tags, {})",
    tag_name="{}",
    at="toDateTime64('{}', 6, 'UTC')",
)


class Query(NamedTuple):
    """SQL with `{}` for every value."""

    sql: str
    values: tuple[Value, ...]


def query_of(question: RequestsQuestion, relation: str, dialect: Dialect) -> Query:
    """Return the query that answers a question from a relation with `account` and COLUMNS."""
    clauses: list[str] = [
        f'"timestamp" >= {_at(question.start, dialect)}',
        f'"timestamp" < {_at(question.end, dialect)}',
    ]
    values: list[Value] = []

    def take(clause: str, *given: Value) -> None:
        clauses.append(clause)
        values.extend(given)

    if question.accounts is not None:
        take(f"account IN ({_places(question.accounts)})", *sorted(question.accounts))
    for column, wanted in sorted(question.where.items()):
        if column not in COLUMNS:
            raise ValueError(f"{column} is not a column")
        take(f"{column} IN ({_places(wanted)})", *sorted(wanted))
    for name, wanted in sorted(question.tags.items()):
        take(f"{dialect.tag} IN ({_places(wanted)})", dialect.tag_name.format(name), *sorted(wanted))
    if question.cost_above is not None:
        take("cost_nano_usd > {}", question.cost_above)
    value = "cost_nano_usd" if question.sort == "cost" else dialect.microseconds
    if question.after is not None:
        place = question.after
        take(f"({value} < {{}} OR ({value} = {{}} AND request_id < {{}}))", place.value, place.value, place.request_id)
    order = "cost_nano_usd" if question.sort == "cost" else '"timestamp"'
    return Query(
        f"SELECT {dialect.selected()} FROM {relation} WHERE {' AND '.join(clauses)} "
        f"ORDER BY {order} DESC, request_id DESC LIMIT {int(question.limit)}",
        tuple(values),
    )


def query_of_id(request_id: str, relation: str, dialect: Dialect) -> Query:
    """Return the query for the request with an id."""
    sql = f"SELECT {dialect.selected()} FROM {relation} WHERE request_id = {{}}"
    return Query(sql, (request_id,))


def _at(instant_: datetime, dialect: Dialect) -> str:
    return dialect.at.format(instant_.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="microseconds"))


def _places(values: Collection[str]) -> str:
    return ", ".join("{}" for _ in values)


def stored(rows: Iterable[Row]) -> list[StoredRequest]:
    """Return the rows of an answer as requests."""
    return [StoredRequest(row[0], BilledRequest._make((row[1], instant(row[2]), *row[3:]))) for row in rows]
