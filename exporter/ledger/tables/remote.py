"""Remote write in the database: the position in the telling, what has been told of each hour, and parcels on their way.

All of it since version 6. It is written in the transaction that makes parcels, so that after a crash a parcel is either
there to be sent again, as it was, or has not been made. Contents are JSON, compressed: only this module reads them.
"""

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, LargeBinary, Table, delete, func, select

from exporter.ledger.accounting.counters import COUNTED, CounterKey, LabelValues
from exporter.ledger.accounting.remote import HourSamples, Position, Sample, ToldSeries
from exporter.ledger.tables.schema import charges, metadata, series

positions = Table(
    "remote_position",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)
"""The position, in one row."""

told_hours = Table(
    "remote_hour",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Amounts that have been told of each hour, by series."""

parcels = Table(
    "remote_parcel",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Samples that no store has acknowledged yet, in the order in which they are sent."""

TABLES = (positions, told_hours, parcels)

_ONLY = 1
Amounts = dict[CounterKey, int]


class Parcel(NamedTuple):
    """Samples that are sent in one request.

    Attributes:
        number: its place in the order.
        labels: names of the labels.
        label_sets: their values, by number.
        samples: by series and hour.
    """

    number: int
    labels: LabelValues
    label_sets: Mapping[int, LabelValues]
    samples: tuple[HourSamples, ...]


def read_amounts(connection: Connection, scopes: Collection[int], first: int, end: int) -> dict[int, Amounts]:
    """Return what the hours in [first, end) were charged by series, of some scopes; hours without charges are empty."""
    found: dict[int, Amounts] = {hour: {} for hour in range(first, end)}
    sums = [func.sum(charges.c[measure]) for measure in COUNTED]
    rows = connection.execute(
        select(charges.c.hour, series.c.label_set_id, series.c.unit, *sums)
        .join(series, series.c.id == charges.c.series_id)
        .where(charges.c.scope_id.in_(scopes), charges.c.hour >= first, charges.c.hour < end)
        .group_by(charges.c.hour, series.c.label_set_id, series.c.unit)
    )
    for hour, label_set, unit, *amounts in rows:
        of_hour = found[hour]
        for measure, amount in zip(COUNTED, amounts, strict=True):
            if amount:
                key = CounterKey(label_set, measure, unit if measure == "quantity" else "")
                of_hour[key] = of_hour.get(key, 0) + int(amount)
    return found


def read_position(connection: Connection) -> Position | None:
    """Return the position; None before the first."""
    content = connection.scalar(select(positions.c.content))
    if content is None:
        return None
    stated = json.loads(zlib.decompress(content))
    told = {CounterKey(*key): ToldSeries(*state) for key, state in stated.pop("series")}
    days = {int(day): mark for day, mark in stated.pop("days").items()}
    return Position(**stated, series=told, days=days)


def write_position(connection: Connection, position: Position) -> None:
    """Save the position."""
    stated = asdict(position)
    stated["series"] = [
        [key, [told.first, told.last, told.debt, told.amount, told.growth]] for key, told in position.series.items()
    ]
    connection.execute(delete(positions))
    connection.execute(positions.insert(), {"id": _ONLY, "content": _packed(stated)})


def begin_labels_anew(connection: Connection) -> None:
    """Have what the ledger says now taken as told: label sets have other numbers, and are of the same charges."""
    position = read_position(connection)
    if position is not None:
        position.labels = ""
        write_position(connection, position)


def read_told(connection: Connection, first: int, end: int) -> dict[int, Amounts]:
    """Return what has been told of the hours in [first, end); hours of which nothing is kept are absent."""
    rows = connection.execute(
        select(told_hours.c.hour, told_hours.c.content).where(told_hours.c.hour >= first, told_hours.c.hour < end)
    )
    return {
        hour: {
            CounterKey(label_set, measure, unit): amount
            for label_set, measure, unit, amount in json.loads(zlib.decompress(content))
        }
        for hour, content in rows
    }


def write_told(connection: Connection, told: Mapping[int, Mapping[CounterKey, int]]) -> None:
    """Save what has been told of some hours."""
    if told:
        connection.execute(delete(told_hours).where(told_hours.c.hour.in_(told)))
        connection.execute(
            told_hours.insert(),
            [
                {"hour": hour, "content": _packed([[*key, amount] for key, amount in amounts.items() if amount])}
                for hour, amounts in told.items()
            ],
        )


def forget_told_before(connection: Connection, hour: int) -> None:
    """Forget what has been told of the hours before one."""
    connection.execute(delete(told_hours).where(told_hours.c.hour < hour))


def read_parcels(connection: Connection, most: int) -> tuple[Parcel, ...]:
    """Return the first parcels that are on their way."""
    rows = connection.execute(select(parcels).order_by(parcels.c.number).limit(most))
    return tuple(_parcel(number, content) for number, content in rows)


def read_parcel(connection: Connection, number: int) -> Parcel | None:
    """Return a parcel that is on its way."""
    content = connection.scalar(select(parcels.c.content).where(parcels.c.number == number))
    return None if content is None else _parcel(number, content)


def count_parcels(connection: Connection) -> int:
    """Return how many parcels are on their way."""
    return connection.scalar(select(func.count()).select_from(parcels)) or 0


def write_parcels(connection: Connection, made: Iterable[Parcel]) -> None:
    """Save parcels."""
    rows = [
        {
            "number": parcel.number,
            "content": _packed(
                {
                    "labels": parcel.labels,
                    "label_sets": list(parcel.label_sets.items()),
                    "samples": parcel.samples,
                }
            ),
        }
        for parcel in made
    ]
    if rows:
        connection.execute(parcels.insert(), rows)


def remove_parcel(connection: Connection, number: int) -> None:
    """Remove a parcel that has arrived."""
    connection.execute(delete(parcels).where(parcels.c.number == number))


def _parcel(number: int, content: bytes) -> Parcel:
    stated = json.loads(zlib.decompress(content))
    return Parcel(
        number,
        tuple(stated["labels"]),
        {label_set: tuple(values) for label_set, values in stated["label_sets"]},
        tuple(
            HourSamples(CounterKey(*key), hour, is_correction, _samples(gauge), _samples(counter), amount, growth)
            for key, hour, is_correction, gauge, counter, amount, growth in stated["samples"]
        ),
    )


def _samples(stated: Sequence[Sequence[int]]) -> tuple[Sample, ...]:
    return tuple((at, value) for at, value in stated)


def _packed(content: object) -> bytes:
    return zlib.compress(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode(), 3)
