"""Charges and observed hours in the database; hours are numbers, amounts nano-units."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, select

from exporter.charges import NANO, Amounts
from exporter.ledger.books import Spent
from exporter.ledger.restatement import Cell, Difference
from exporter.ledger.schema import MEASURES, charges, observed_hours, series

_AMOUNTS = [charges.c[name] for name in MEASURES]


def read_cells(connection: Connection, scope: int, first: int, end: int) -> dict[Cell, Amounts]:
    """Return a scope's charges of the hours in [first, end)."""
    rows = connection.execute(
        select(charges.c.hour, charges.c.series_id, *_AMOUNTS).where(
            charges.c.scope_id == scope, charges.c.hour >= first, charges.c.hour < end
        )
    )
    return {Cell(row[0], row[1]): Amounts(*row[2:]) for row in rows}


def write_difference(connection: Connection, scope: int, difference: Difference) -> None:
    """Bring a scope's charges to the state after a restatement."""
    at_cell = and_(
        charges.c.scope_id == bindparam("at_scope"),
        charges.c.hour == bindparam("at_hour"),
        charges.c.series_id == bindparam("at_series"),
    )
    if difference.added:
        connection.execute(
            charges.insert(),
            [
                {"scope_id": scope, "hour": cell.hour, "series_id": cell.series, **amounts._asdict()}
                for cell, amounts in difference.added.items()
            ],
        )
    if difference.changed:
        connection.execute(
            charges.update().where(at_cell).values({name: bindparam(name) for name in MEASURES}),
            [
                {"at_scope": scope, "at_hour": cell.hour, "at_series": cell.series, **amounts._asdict()}
                for cell, amounts in difference.changed.items()
            ],
        )
    if difference.removed:
        connection.execute(
            charges.delete().where(at_cell),
            [{"at_scope": scope, "at_hour": cell.hour, "at_series": cell.series} for cell in difference.removed],
        )


def sum_by_series(connection: Connection, scopes: Collection[int], first: int, end: int) -> dict[int, Spent]:
    """Return what every series of some scopes spent in the hours in [first, end)."""
    rows = connection.execute(
        select(charges.c.series_id, *_halves(charges.c.cost), *_halves(charges.c.gpu_seconds))
        .where(charges.c.scope_id.in_(scopes), charges.c.hour >= first, charges.c.hour < end)
        .group_by(charges.c.series_id)
    )
    return {
        number: Spent(cost_high * NANO + cost_low, gpu_high * NANO + gpu_low)
        for number, cost_high, cost_low, gpu_high, gpu_low in rows
    }


def _halves(column: ColumnElement[int]) -> tuple[ColumnElement[int], ColumnElement[int]]:
    """Sum whole units and remainders apart: neither can leave 64 bits, and both databases cut towards zero."""
    return func.sum(column // NANO), func.sum(column % NANO)


def count(connection: Connection) -> int:
    """Return the number of charges that are kept one by one."""
    return connection.scalar(select(func.count()).select_from(charges)) or 0


def read_observed(connection: Connection, scope: int, first: int, end: int) -> dict[int, bool]:
    """Return the covered hours in [first, end), each with whether it was covered after its end."""
    rows = connection.execute(
        select(observed_hours.c.hour, observed_hours.c.complete).where(
            observed_hours.c.scope_id == scope, observed_hours.c.hour >= first, observed_hours.c.hour < end
        )
    )
    return {row[0]: row[1] for row in rows}


def write_observed(  # noqa: PLR0917  six plain facts of one poll
    connection: Connection,
    scope: int,
    before: Mapping[int, bool],
    after: Mapping[int, bool],
    changed: Collection[int],
    at: datetime,
) -> None:
    """Note that a poll at an instant has covered hours, and which of them it found changed."""
    new = [hour for hour in after if hour not in before]
    if new:
        connection.execute(
            observed_hours.insert(),
            [
                {
                    "scope_id": scope,
                    "hour": hour,
                    "complete": after[hour],
                    "changed_at": at if hour in changed else None,
                }
                for hour in new
            ],
        )
    known = [hour for hour in after if hour in before and (hour in changed or after[hour] != before[hour])]
    for hour in known:
        values: dict[str, bool | datetime] = {"complete": after[hour] or before[hour]}
        if hour in changed:
            values["changed_at"] = at
        connection.execute(
            observed_hours.update().where(observed_hours.c.scope_id == scope, observed_hours.c.hour == hour), values
        )


def forget_observed(connection: Connection, scope: int) -> None:
    """Forget which hours of a scope have been covered, so that what they hold counts as history."""
    connection.execute(delete(observed_hours).where(observed_hours.c.scope_id == scope))


def fold(connection: Connection, horizon: int) -> int:
    """Add the charges of the hours before the horizon to their series' folded sums; return how many there were."""
    halves = [half for name in MEASURES for half in _halves(charges.c[name])]
    sums = connection.execute(
        select(charges.c.series_id, *halves).where(charges.c.hour < horizon).group_by(charges.c.series_id)
    ).all()
    if sums:
        folded = [series.c[f"folded_{name}"] for name in MEASURES]
        known = {row[0]: row[1:] for row in connection.execute(select(series.c.id, *folded))}
        connection.execute(
            series.update()
            .where(series.c.id == bindparam("at_series"))
            .values({f"folded_{name}": bindparam(f"folded_{name}") for name in MEASURES}),
            [
                {
                    "at_series": row[0],
                    **{
                        f"folded_{name}": known[row[0]][place] + row[1 + 2 * place] * NANO + row[2 + 2 * place]
                        for place, name in enumerate(MEASURES)
                    },
                }
                for row in sums
            ],
        )
    removed = connection.execute(delete(charges).where(charges.c.hour < horizon)).rowcount
    connection.execute(delete(observed_hours).where(observed_hours.c.hour < horizon))
    return removed
