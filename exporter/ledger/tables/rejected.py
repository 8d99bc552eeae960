"""Rows of fal's answers that could not be read: what they guard, and how many there are now.

A row that cannot be read says nothing against what the ledger has: an hour with rejected rows keeps, for what was
rejected, at least what it had, and takes what is readable and more. It is provisional until it has been read without
them. Rejected rows are kept by hour, each reading of an hour in place of the one before; so a row that is read a
hundred times is one row, and is gone once it can be read.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from sqlalchemy import Connection, and_, bindparam, delete, func, inspect, select

from exporter.charges import Dimensions, RejectedRow, Window, hour_number, hour_start
from exporter.ledger.accounting.restatement import NO_REJECTED_ROWS, CellRow, RejectedRows
from exporter.ledger.tables.database import NoLedgerError, reading
from exporter.ledger.tables.schema import rejected_rows, scopes


def guarded(
    before: AbstractSet[CellRow],
    stated: Sequence[CellRow],
    rejected: Iterable[RejectedRow],
    series_of: Mapping[Dimensions, int],
) -> Sequence[CellRow]:
    """Return the cells of a window as they are to be: what was stated, but no guarded cell lower than it was.

    A rejected row guards the cell that it is of; all cells of its hour where its dimensions cannot be read, and those
    of all hours where its hour cannot be read either. A row that is counted guards quantities alone.

    Args:
        before: the cells of the window as they were.
        stated: the cells that the readable rows make, each once.
        rejected: the rows of the answer that were not read, or only in part.
        series_of: the numbers of the source's series.
    """
    costs, quantities = _Guard(), _Guard()
    for row in rejected:
        guard = quantities if row.is_counted else costs
        guard.add(row, series_of)
    if not before or not (costs or quantities):
        return stated
    cells = {row[:2]: row for row in stated}
    for known in before:
        keeps_cost = costs.holds(known)
        if keeps_cost or quantities.holds(known):
            nothing = (*known[:2], 0, 0, 0, 0, 0)
            cells[known[:2]] = _at_least(cells.get(known[:2], nothing), known, keeps_cost=keeps_cost)
    return [row for row in cells.values() if any(row[2:])]


def _at_least(row: CellRow, known: CellRow, *, keeps_cost: bool) -> CellRow:
    hour, series, quantity, gpu_seconds, list_cost, discount, cost = row
    if keeps_cost and cost < known[6]:
        # List cost, discount and cost belong together.
        list_cost, discount, cost = known[4:]
    return hour, series, max(quantity, known[2]), max(gpu_seconds, known[3]), list_cost, discount, cost


class _Guard:
    """Cells that rejected rows may be of."""

    def __init__(self) -> None:
        self._hours: set[int | None] = set()
        self._cells: set[tuple[int | None, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._hours or self._cells)

    def add(self, row: RejectedRow, series_of: Mapping[Dimensions, int]) -> None:
        """Guard what a row may be of; what the ledger has never had needs no guard."""
        hour = None if row.hour is None else hour_number(row.hour)
        series = None if row.dimensions is None else series_of.get(row.dimensions)
        if row.dimensions is None:
            self._hours.add(hour)
        elif series is not None:
            self._cells.add((hour, series))

    def holds(self, row: CellRow) -> bool:
        """Return True if a rejected row may be of this cell."""
        hour, series = row[:2]
        return not self._hours.isdisjoint((hour, None)) or not self._cells.isdisjoint(((hour, series), (None, series)))


class _Key(NamedTuple):
    hour: int
    end_hour: int
    reason: str


_FORGET = delete(rejected_rows).where(
    rejected_rows.c.scope_id == bindparam("scope"),
    rejected_rows.c.hour >= bindparam("first"),
    rejected_rows.c.end_hour <= bindparam("end"),
)


def write_rejected(connection: Connection, scope: int, first: int, end: int, rejected: Iterable[RejectedRow]) -> None:
    """Keep the rows of the hours in [first, end) that could not be read, in place of what was kept of these hours.

    Of a row whose hour cannot be read it is not known whether another answer had it, too: rows of overlapping answers
    and the same reason are taken for the same. In hours that have been read without it, it is not.
    """
    table = rejected_rows.c
    rows: Counter[_Key] = Counter()
    costs: Counter[_Key] = Counter()
    for row in rejected:
        hour = first if row.hour is None else hour_number(row.hour)
        key = _Key(hour, end if row.hour is None else hour + 1, row.reason)
        if first <= hour < end:
            rows[key] += 1
            costs[key] += row.cost
    connection.execute(_FORGET, {"scope": scope, "first": first, "end": end})
    for key in rows:
        if key.end_hour > key.hour + 1:
            connection.execute(
                delete(rejected_rows).where(
                    and_(table.scope_id == scope, table.reason == key.reason, table.end_hour > table.hour + 1),
                    and_(table.hour < key.end_hour, table.end_hour > key.hour),
                )
            )
    _narrow(connection, scope, first, end)
    if rows:
        connection.execute(
            rejected_rows.insert(),
            [{"scope_id": scope, **key._asdict(), "rows": rows[key], "cost": costs[key]} for key in rows],
        )


_OVERLAPPING = select(rejected_rows).where(
    rejected_rows.c.scope_id == bindparam("scope"),
    rejected_rows.c.hour < bindparam("end"),
    rejected_rows.c.end_hour > bindparam("first"),
)


def _narrow(connection: Connection, scope: int, first: int, end: int) -> None:
    """Take the hours in [first, end) from those that a row of an unknown hour may be of, where others are left.

    Hours in the midst of its hours stay: what is left of them is no span.
    """
    table = rejected_rows.c
    for row in connection.execute(_OVERLAPPING, {"scope": scope, "first": first, "end": end}).all():
        hour, end_hour = (end, row.end_hour) if first <= row.hour else (row.hour, first)
        if row.hour < first and end < row.end_hour:
            continue
        same = and_(table.scope_id == scope, table.reason == row.reason)
        connection.execute(delete(rejected_rows).where(same, table.hour == row.hour, table.end_hour == row.end_hour))
        # Of a single hour there may be others already.
        known = connection.execute(
            select(table.rows, table.cost).where(same, table.hour == hour, table.end_hour == end_hour)
        ).one_or_none()
        connection.execute(delete(rejected_rows).where(same, table.hour == hour, table.end_hour == end_hour))
        rows, cost = (row.rows, row.cost) if known is None else (row.rows + known.rows, row.cost + known.cost)
        connection.execute(
            rejected_rows.insert(),
            {"scope_id": scope, "hour": hour, "end_hour": end_hour, "reason": row.reason, "rows": rows, "cost": cost},
        )


_OF_SCOPE = select(rejected_rows).where(rejected_rows.c.scope_id == bindparam("scope"))
_IN_SPAN = _OF_SCOPE.where(rejected_rows.c.hour < bindparam("end"), rejected_rows.c.end_hour > bindparam("first"))


def read_rejected(connection: Connection, scope: int, window: Window | None = None) -> RejectedRows:
    """Return the rows of a scope that cannot be read now; with a window those that may be of its hours."""
    if window is None:
        found = connection.execute(_OF_SCOPE, {"scope": scope}).all()
    else:
        span = {"first": hour_number(window.start), "end": hour_number(window.end)}
        found = connection.execute(_IN_SPAN, {"scope": scope, **span}).all()
    if not found:
        return NO_REJECTED_ROWS
    by_reason: Counter[str] = Counter()
    for row in found:
        by_reason[row.reason] += row.rows
    return RejectedRows(
        dict(sorted(by_reason.items())),
        sum(row.cost for row in found),
        hour_start(min(row.hour for row in found)),
        hour_start(max(row.end_hour for row in found)),
    )


def scopes_with_rejected(connection: Connection) -> frozenset[int]:
    """Return the scopes of which some row cannot be read now."""
    return frozenset(connection.scalars(select(rejected_rows.c.scope_id).distinct()))


def rejected_hours(connection: Connection, scopes: Collection[int], first: int, end: int) -> set[int]:
    """Return the hours in [first, end) that rejected rows of some scopes may be of."""
    found = connection.execute(
        select(rejected_rows.c.hour, rejected_rows.c.end_hour).where(
            rejected_rows.c.scope_id.in_(scopes), rejected_rows.c.hour < end, rejected_rows.c.end_hour > first
        )
    )
    return {hour for row in found for hour in range(max(row.hour, first), min(row.end_hour, end))}


_FIRST = select(func.min(rejected_rows.c.hour)).where(
    rejected_rows.c.scope_id == bindparam("scope"), rejected_rows.c.end_hour > bindparam("since")
)


def first_rejected(connection: Connection, scope: int, since: int) -> int | None:
    """Return the first hour, from one on, that rejected rows may be of; None where there is none."""
    hour = connection.scalar(_FIRST, {"scope": scope, "since": since})
    return None if hour is None else max(hour, since)


def forget_rejected(connection: Connection, scopes: Collection[int], before: int | None = None) -> None:
    """Forget the rejected rows of some scopes, or of their hours before one."""
    statement = delete(rejected_rows).where(rejected_rows.c.scope_id.in_(scopes))
    if before is not None:
        statement = statement.where(rejected_rows.c.hour < before)
    connection.execute(statement)


def recorded_rejected_rows(address: str) -> dict[tuple[str, str], RejectedRows]:
    """Return the rows that cannot be read, by account and source, in a ledger that an exporter may be using.

    There are none where there is no ledger yet, or one of an older version.

    Raises:
        LedgerError: the database cannot be read.
    """
    active = select(scopes.c.id, scopes.c.account, scopes.c.source).where(scopes.c.active).order_by(scopes.c.id)
    try:
        with reading(address, of_any_version=True) as connection:
            if not inspect(connection).has_table(rejected_rows.name):
                return {}
            found = {(row.account, row.source): read_rejected(connection, row.id) for row in connection.execute(active)}
    except NoLedgerError:
        return {}
    return {key: rows for key, rows in found.items() if rows.by_reason}
