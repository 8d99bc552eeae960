"""Comparison of what was booked with what fal charged, request by request, in DuckDB with bounded memory."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from exporter.booked.sources import BookingsError, Columns, booked_relation, quoted
from exporter.charges import HOUR, Window
from exporter.errors import ConfigurationError
from exporter.events.questions import RequestsQuestion
from exporter.events.store import EventReader
from exporter.logs import redact
from exporter.unfinished import ScratchFolder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MARGIN = timedelta(days=1)
"""Time around the window in which the charge of a booking is looked for: a gateway's clock is not fal's."""

_AROUND = HOUR
"""Time around the window in which the booking of a charge is looked for."""

_EARLIER, _LATER = timedelta(minutes=1), timedelta(minutes=5)
"""Time by which a charge may lie before and after its booking; all hours between must have been read to miss it."""

_MEMORY = "224MiB"
_THREADS = 2
_LOOKED_UP = 50_000
"""Request ids that are looked up in the whole store at once."""

EXAMPLES = 20
"""Requests that are named of each kind of finding, those of the largest amounts."""

NOT_CHARGED = "not charged"
"""Name in the place of model and key of bookings that fal has not charged for."""


class Sums(NamedTuple):
    """Amounts booked and charged, in nano-USD, and numbers of requests."""

    booked: int = 0
    charged: int = 0
    booked_requests: int = 0
    charged_requests: int = 0

    @property
    def difference(self) -> int:
        """Booked less charged."""
        return self.booked - self.charged


class Example(NamedTuple):
    """A request of a finding."""

    request_id: str
    booked: int
    charged: int
    model: str


class Finding(NamedTuple):
    """Requests that something is wrong with: how many, booked less charged, and some of them."""

    requests: int
    amount: int
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Outcome of a comparison; amounts in nano-USD.

    Attributes:
        window: of the requests that are compared.
        by_model, by_key: by name; what fal has not charged for stands under NOT_CHARGED.
        by_tag: by key and value of the tags that fal knows, those that were asked for.
        never_booked, booked_twice, never_charged, differing: every request that is not as it should be is in one of
            them, so that their amounts, booked less charged, add up to the difference of the total.
        never_booked: charged, and not booked; the amount is below zero.
        booked_twice: charged, and booked more than once.
        never_charged: booked, and not charged in hours that have been read.
        differing: booked once and charged, by another amount.
        not_read: booked for hours that have not been read whole, so that nothing can be said of them; not among the
            sums. Bookings without a time are for any hour of the window.
        unreadable: rows of the bookings without a request id or amount.
        unread_hours: hours of the window that the store of requests does not have whole, of all accounts: they have not
            been read to their end, or some of their rows cannot be read.
    """

    window: Window
    total: Sums
    by_model: Mapping[str, Sums]
    by_key: Mapping[str, Sums]
    by_tag: Mapping[tuple[str, str], Sums]
    never_booked: Finding
    booked_twice: Finding
    never_charged: Finding
    differing: Finding
    not_read: Finding
    unreadable: int
    unread_hours: int


def compare(
    source: str,
    reader: EventReader,
    window: Window,
    *,
    columns: Columns,
    accounts: Collection[str] = (),
    configured: Collection[str] = (),
    tags: Collection[str] = (),
) -> Comparison:
    """Compare bookings with the requests that fal charged for in a window.

    Args:
        source: of the bookings; see `exporter.booked.sources.booked_relation`.
        reader: of the requests.
        window: whole hours; bookings with a time outside it are left out.
        columns: names in the bookings.
        accounts: whose requests; none for all. The store has some of each.
        configured: those whose requests are meant to be read, where no accounts are named; none for all of the store.
            Of one of which there are none yet nothing has been read.
        tags: keys of tags to group the sums by.

    Raises:
        BookingsError: the bookings cannot be read, or no requests have been.
        ConfigurationError: a library is missing.
        EventsError: the requests cannot be read.
    """
    import duckdb

    with ScratchFolder() as folder:
        charged = folder / "charged.parquet"
        known = frozenset(reader.accounts())
        if not known:
            raise BookingsError(
                "the store of requests (EVENTS_URL, --events-url) has none yet, so that every booking would look like "
                "never charged; wait until serve has read some, or correct the address"
            )
        unknown = sorted(set(accounts) - known)
        if unknown:
            raise BookingsError(
                f"--account {unknown[0]} has no requests in the store (--events-url); it has those of "
                f"{', '.join(sorted(known))}"
            )
        wanted = frozenset(accounts) or frozenset(configured) or known
        around = RequestsQuestion(window.start - _MARGIN, window.end + _MARGIN, accounts=wanted, sort="time")
        reader.export(around, charged, in_order=False)
        with _connected(folder) as connection:
            try:
                bookings = booked_relation(
                    connection, source, columns, Window(window.start - _AROUND, window.end + _AROUND), folder
                )
                read = _read_hours(reader, wanted, Window(window.start - HOUR, window.end + HOUR))
                unread = sum(hour not in its for its in read.values() for hour in window.hours())
                _join(connection, bookings, charged, window)
                _forget_others(connection, reader, with_time=not known <= wanted)
                _part(connection, charged, read, is_whole=not unread)
                return _compared(connection, window, tags, unread=unread)
            except duckdb.Error as error:
                said = redact(" ".join(" ".join(str(error).splitlines()[:2]).split())[:300])
                raise BookingsError(f"{redact(source)} cannot be read: {said}") from None


@contextmanager
def _connected(folder: Path) -> Iterator["DuckDBPyConnection"]:
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(
            "reconcile needs libraries that are not installed; install fal-exporter[events]"
        ) from None
    connection = duckdb.connect(
        str(folder / "work.duckdb"),
        config={
            "memory_limit": _MEMORY,
            "threads": str(_THREADS),
            "temp_directory": str(folder / "spill"),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
        },
    )
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def _read_hours(reader: EventReader, accounts: Collection[str], window: Window) -> dict[str, frozenset[datetime]]:
    """Return the hours that the store has whole, by account."""
    return {
        account: frozenset(hour for hour, rejected in reader.read_hours(account, window).items() if not rejected)
        for account in accounts
    }


def _join(connection: "DuckDBPyConnection", bookings: str, charged: Path, window: Window) -> None:
    """Join bookings and requests by id in the table `joined`: those of which either lies in the window."""
    # An amount is text here, so that no float stands between what was written and the nano-dollar.
    connection.execute(
        "CREATE TABLE bookings AS SELECT trim(request_id) AS request_id, "
        "TRY_CAST(TRY_CAST(round(TRY_CAST(amount AS DECIMAL(38, 18)), 9) AS DECIMAL(28, 9)) * 1000000000 AS BIGINT) "
        f"AS amount, {_TIME} AS booked_at FROM {bookings}"
    )
    around = Window(window.start - _AROUND, window.end + _AROUND)
    connection.execute(f"DELETE FROM bookings WHERE NOT {_within('booked_at', around)}")
    connection.execute(
        "CREATE TABLE joined AS WITH booked AS ("
        "SELECT request_id, sum(amount)::HUGEINT AS amount, count(*) AS rows, min(booked_at) AS booked_at "
        "FROM bookings WHERE coalesce(request_id, '') <> '' AND amount IS NOT NULL GROUP BY request_id), "
        # After an account has got another name, its requests are in the store under both.
        "of_account AS (SELECT request_id, sum(cost_nano_usd)::HUGEINT AS cost, any_value(model) AS model, "
        'any_value(api_key) AS api_key, min("timestamp") AS charged_at '
        f"FROM read_parquet({quoted(str(charged))}) GROUP BY account, request_id), "
        "charged AS (SELECT request_id, max(cost) AS cost, any_value(model) AS model, any_value(api_key) AS api_key, "
        "min(charged_at) AS charged_at FROM of_account GROUP BY request_id) "
        "SELECT request_id, amount, rows, booked_at, cost, model, api_key "
        "FROM booked FULL JOIN charged USING (request_id) "
        f"WHERE {_within('charged_at', window)} OR (amount IS NOT NULL AND "
        f"(booked_at IS NULL OR {_within('booked_at', window)}))"
    )


_EPOCH = r"^\d{10}(\d{3})?(\.\d+)?$"
_TIME = (
    f"CASE WHEN regexp_matches(trim(booked_at), '{_EPOCH}') "
    "THEN to_timestamp(TRY_CAST(booked_at AS DOUBLE) / if(TRY_CAST(booked_at AS DOUBLE) < 1e11, 1, 1000)) "
    "ELSE TRY_CAST(booked_at AS TIMESTAMPTZ) END"
)
"""When something was booked: ISO 8601, or seconds or milliseconds since 1970."""


def _within(column: str, window: Window) -> str:
    return f"({column} >= {_stamp(window.start)} AND {column} < {_stamp(window.end)})"


def _forget_others(connection: "DuckDBPyConnection", reader: EventReader, *, with_time: bool) -> None:
    """Leave out bookings that fal charged another account for, or without a time and at another time.

    They belong to another comparison.

    Args:
        connection: with the table `joined`.
        reader: of the requests.
        with_time: whether the store has other accounts, so that bookings with a time may be theirs.
    """
    condition = "cost IS NULL" if with_time else "cost IS NULL AND booked_at IS NULL"
    cursor = connection.execute(f"SELECT request_id FROM joined WHERE {condition} ORDER BY request_id")
    others: list[tuple[str]] = []
    while found := cursor.fetchmany(_LOOKED_UP):
        others += [(one,) for one in reader.costs_of([row[0] for row in found])]
    if others:
        connection.execute("CREATE TEMP TABLE others(request_id VARCHAR)")
        connection.executemany("INSERT INTO others VALUES (?)", others)
        connection.execute(f"DELETE FROM joined WHERE {condition} AND request_id IN (SELECT request_id FROM others)")


def _part(
    connection: "DuckDBPyConnection", charged: Path, read: Mapping[str, frozenset[datetime]], *, is_whole: bool
) -> None:
    """Part what can be compared from what cannot, as hours have not been read."""
    of_all = set.intersection(*map(set, read.values())) if read else set()
    hours = ", ".join(f"({_stamp(hour)})" for hour in sorted(of_all))
    connection.execute(f"CREATE TABLE read_hours AS SELECT * FROM (VALUES {hours or '(NULL::TIMESTAMPTZ)'}) AS t(hour)")
    unread = " OR ".join(
        f"time_bucket(INTERVAL '1 hour', booked_at + INTERVAL '{offset // timedelta(seconds=1)} seconds') NOT IN "
        "(SELECT hour FROM read_hours WHERE hour IS NOT NULL)"
        for offset in (-_EARLIER, _LATER)
    )
    timeless = "false" if is_whole else "true"
    is_not_read = f"(cost IS NULL AND CASE WHEN booked_at IS NULL THEN {timeless} ELSE {unread} END)"
    connection.execute(f"CREATE VIEW not_read AS SELECT * FROM joined WHERE {is_not_read}")
    connection.execute(f"CREATE VIEW compared AS SELECT * FROM joined WHERE NOT {is_not_read}")
    connection.execute(f"CREATE VIEW charged AS SELECT * FROM read_parquet({quoted(str(charged))})")


def _stamp(instant: datetime) -> str:
    return f"TIMESTAMPTZ '{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S}+00:00'"


_SUMS = "coalesce(sum(amount), 0)::HUGEINT, coalesce(sum(cost), 0)::HUGEINT, count(amount)::BIGINT, count(cost)::BIGINT"


def _compared(connection: "DuckDBPyConnection", window: Window, tags: Collection[str], *, unread: int) -> Comparison:
    def sums(name: str, relation: str = "compared") -> dict[str, Sums]:
        found = connection.execute(f"SELECT {name}, {_SUMS} FROM {relation} GROUP BY ALL").fetchall()
        return {str(row[0]): Sums(*row[1:]) for row in sorted(found, key=lambda row: (-abs(row[1] - row[2]), row[0]))}

    def finding(condition: str, amount: str, relation: str = "compared") -> Finding:
        where = f"FROM {relation} WHERE {condition}"
        (count, total) = connection.execute(f"SELECT count(*), coalesce(sum({amount}), 0)::HUGEINT {where}").fetchall()[
            0
        ]
        rows = connection.execute(
            f"SELECT request_id, coalesce(amount, 0), coalesce(cost, 0), coalesce(model, '') {where} "
            f"ORDER BY abs({amount}) DESC, request_id LIMIT {EXAMPLES}"
        ).fetchall()
        return Finding(count, total, tuple(Example(*row) for row in rows))

    by_tag: dict[tuple[str, str], Sums] = {}
    for key in tags:
        path = quoted(f'$."{key}"')
        tagged = (
            "(SELECT compared.*, tags FROM compared LEFT JOIN (SELECT request_id, any_value(tags) AS tags FROM charged "
            "GROUP BY request_id) USING (request_id))"
        )
        value = f"CASE WHEN cost IS NULL THEN {quoted(NOT_CHARGED)} ELSE "
        value += f"coalesce(json_extract_string(tags, {path}), 'untagged') END"
        by_tag.update({(key, name): found for name, found in sums(value, tagged).items()})
    (total,) = connection.execute(f"SELECT {_SUMS} FROM compared").fetchall()
    (unreadable,) = connection.execute(
        "SELECT count(*) FROM bookings WHERE coalesce(request_id, '') = '' OR amount IS NULL"
    ).fetchall()
    named = f"CASE WHEN cost IS NULL THEN {quoted(NOT_CHARGED)} ELSE coalesce({{}}, '') END"
    return Comparison(
        window=window,
        total=Sums(*total),
        by_model=sums(named.format("model")),
        by_key=sums(named.format("api_key")),
        by_tag=by_tag,
        never_booked=finding("amount IS NULL", "-cost"),
        booked_twice=finding("rows > 1 AND cost IS NOT NULL", "amount - cost"),
        never_charged=finding("cost IS NULL", "amount"),
        differing=finding("rows = 1 AND cost IS NOT NULL AND amount <> cost", "amount - cost"),
        not_read=finding("true", "amount", "not_read"),
        unreadable=int(unreadable[0]),
        unread_hours=unread,
    )


def default_window(now: datetime) -> Window:
    """Return the hours that are over of this month and the last, of UTC."""
    end = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    first = end.replace(day=1, hour=0)
    start = (first - timedelta(days=1)).replace(day=1)
    return Window(start, max(end, start + HOUR))
