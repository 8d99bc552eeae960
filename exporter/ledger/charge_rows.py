"""Charges in the database; hours are numbers, amounts nano-units."""

from collections.abc import Collection, Iterable, Mapping

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, select

from exporter.charges import NANO
from exporter.ledger import span_totals
from exporter.ledger.books import Spent
from exporter.ledger.database import write_many
from exporter.ledger.restatement import Difference
from exporter.ledger.schema import MEASURES, charges, series
from exporter.ledger.sums import CellRow, HourKind, SumsBySeries

_AMOUNTS = [charges.c[name] for name in MEASURES]
_CELL = and_(
    charges.c.scope_id == bindparam("at_scope"),
    charges.c.hour == bindparam("at_hour"),
    charges.c.series_id == bindparam("at_series"),
)
_INSERT = charges.insert()
_UPDATE = charges.update().where(_CELL).values({name: bindparam(f"to_{name}") for name in MEASURES})
_DELETE = charges.delete().where(_CELL)
_CELLS = select(charges.c.hour, charges.c.series_id, *_AMOUNTS).where(
    charges.c.scope_id == bindparam("scope"), charges.c.hour >= bindparam("first"), charges.c.hour < bindparam("end")
)


def read_cells(connection: Connection, scope: int, first: int, end: int) -> set[CellRow]:
    """Return a scope's charges of the hours in [first, end)."""
    rows = connection.execute(_CELLS, {"scope": scope, "first": first, "end": end})
    return set(map(tuple, rows.all()))


def write_difference(
    connection: Connection, scope: int, difference: Difference, sums: Mapping[HourKind, SumsBySeries]
) -> None:
    """Bring a scope's charges, and their totals, to the state after a restatement whose changes add up to `sums`."""
    write_many(connection, _INSERT, [(scope, *row) for row in difference.added])
    write_many(connection, _UPDATE, [(*row[2:], scope, *row[:2]) for row in difference.changed])
    write_many(connection, _DELETE, [(scope, *cell) for cell in difference.removed])
    span_totals.add(connection, scope, difference, sums)


def sum_by_series(connection: Connection, scopes: Collection[int], first: int, end: int) -> dict[int, Spent]:
    """Return what every series of some scopes spent in the hours in [first, end)."""
    rows = connection.execute(
        select(charges.c.series_id, *_halves(charges.c.cost), *_halves(charges.c.gpu_seconds))
        .where(charges.c.scope_id.in_(scopes), charges.c.hour >= first, charges.c.hour < end)
        .group_by(charges.c.series_id)
    )
    return {row[0]: Spent(*_whole(row[1:])) for row in rows.all()}


def count(connection: Connection) -> int:
    """Return the number of charges that are kept one by one."""
    return connection.scalar(select(func.count()).select_from(charges)) or 0


def fold(connection: Connection, horizon: int) -> int:
    """Put the charges of the hours before the horizon into their series' folded sums; return how many there were."""
    halves = [half for name in MEASURES for half in _halves(charges.c[name])]
    sums = connection.execute(
        select(charges.c.series_id, *halves).where(charges.c.hour < horizon).group_by(charges.c.series_id)
    ).all()
    if not sums:
        return 0
    folded = [f"folded_{name}" for name in MEASURES]
    known = {row[0]: row[1:] for row in connection.execute(select(series.c.id, *(series.c[name] for name in folded)))}
    connection.execute(
        series.update()
        .where(series.c.id == bindparam("at_series"))
        .values({name: bindparam(f"to_{name}") for name in folded}),
        [
            {
                "at_series": row[0],
                **{
                    f"to_{name}": before + more
                    for name, before, more in zip(folded, known[row[0]], _whole(row[1:]), strict=True)
                },
            }
            for row in sums
        ],
    )
    folded_charges = connection.execute(delete(charges).where(charges.c.hour < horizon)).rowcount
    span_totals.rebuild(connection, until=horizon)
    return folded_charges


def _halves(column: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Sum whole units and remainders apart: neither can leave 64 bits, and both databases cut towards zero."""
    return func.sum(column // NANO), func.sum(column % NANO)


def _whole(halves: Iterable[int]) -> list[int]:
    """Put sums of `_halves` together again; PostgreSQL gives them as decimals."""
    rest = iter(halves)
    return [int(high) * NANO + int(low) for high, low in zip(rest, rest, strict=True)]
