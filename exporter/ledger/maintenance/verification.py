"""Verification of a ledger: the file is sound, sums agree with charges, and counters with what was charged."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, Integer, func, literal, select

from exporter.charges import NANO, hour_start
from exporter.ledger.accounting.counters import Counter, CounterKey
from exporter.ledger.tables import machines, rows, schema
from exporter.ledger.tables.schema import MEASURES, charges, series, span_totals
from exporter.ledger.tables.span_totals import PARTS, SPANS

_TOLD = 5
"""Problems of one kind that are named one by one."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Result of a verification.

    Attributes:
        born_at: when the ledger began to count.
        through: end of the last hour that every source has covered; None before the first poll.
        charges: hourly charges that are kept one by one.
        counters: counters of all accounts.
        problems: what is wrong, in sentences.
        notes: what could not be compared, in sentences.
    """

    born_at: datetime
    through: datetime | None
    charges: int
    counters: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Findings:
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, found: Iterator[str]) -> None:
        """Name the first problems of a kind, and count the others."""
        told = list(found)
        self.problems += told[:_TOLD]
        if told[_TOLD:]:
            self.problems.append(f"{len(told) - _TOLD:,} more {kind}")


def verify(connection: Connection) -> Verified:
    """Compare all that a ledger keeps twice, as of one instant.

    Raises:
        ValueError, DBAPIError: a row cannot be read, or the file is damaged so much that it cannot be compared.
    """
    findings = _Findings()
    version = schema.read(connection, "schema")
    if connection.dialect.name == "sqlite":
        findings.add("findings of SQLite", _unsound(connection))
    through: list[datetime | None] = []
    if version != str(schema.SCHEMA_VERSION):
        findings.notes.append(
            f"sums and counters were not compared: the ledger has schema {version}, which the exporter changes when it "
            "opens the ledger"
        )
    elif not findings.problems:
        through = [scope.data_through for scope in rows.read_scopes(connection) if scope.active]
        findings.add("wrong sums of spans", _wrong_sums(connection))
        findings.add("wrong first hours", _wrong_first_hours(connection))
        findings.add("wrong parts by state", _wrong_parts(connection))
        counters = rows.read_counters(connection)
        findings.add("wrong counters", _wrong_counters(connection, counters))
        rebuilt_at = schema.read(connection, schema.REBUILT_AT)
        if rebuilt_at is None:
            findings.add("accounts with wrong counters", _unfounded_counters(connection, counters))
        else:
            findings.notes.append(
                f"counters were not compared with charges: the ledger was written from memory at {rebuilt_at[:16]} UTC"
            )
    known = [item for item in through if item is not None]
    return Verified(
        born_at=datetime.fromisoformat(schema.read(connection, schema.BORN_AT) or ""),
        through=min(known) if known and len(known) == len(through) else None,
        charges=rows.count(connection),
        counters=connection.scalar(select(func.count()).select_from(schema.counters)) or 0,
        problems=tuple(findings.problems),
        notes=tuple(findings.notes),
    )


def _unsound(connection: Connection) -> Iterator[str]:
    for row in connection.exec_driver_sql("PRAGMA integrity_check(100)"):
        if row[0] != "ok":
            yield f"SQLite: {row[0]}"
    for row in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield f"a row of the table {row[0]} refers to one of {row[2]} that is missing"


def _wrong_sums(connection: Connection) -> Iterator[str]:
    """Compare the totals of spans with the charges they are made of."""
    halves = [func.sum(part) for name in MEASURES for part in (charges.c[name] // NANO, charges.c[name] % NANO)]
    for scope in rows.read_scopes(connection):
        for length in SPANS:
            span = charges.c.hour // literal(length, Integer, literal_execute=True)
            sums = connection.execute(
                select(span, charges.c.series_id, func.count(), *halves)
                .where(charges.c.scope_id == scope.id)
                .group_by(span, charges.c.series_id)
            )
            charged = {(row[0], row[1]): (row[2], _whole(row[3:])) for row in sums}
            totals = connection.execute(
                select(span_totals.c.span, span_totals.c.series_id, span_totals.c.charges, *PARTS).where(
                    span_totals.c.scope_id == scope.id, span_totals.c.length == length
                )
            )
            kept = {(row[0], row[1]): (row[2], _whole(row[3:])) for row in totals}
            for key in sorted(charged.keys() | kept.keys()):
                if charged.get(key) != kept.get(key):
                    yield (
                        f"account {scope.account}, source {scope.source}: sums of series {key[1]} over {length} hours "
                        f"from {hour_start(key[0] * length):%Y-%m-%d} are not those of its charges"
                    )


def _whole(halves: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(units) * NANO + int(nanos) for units, nanos in zip(halves[::2], halves[1::2], strict=True))


def _wrong_first_hours(connection: Connection) -> Iterator[str]:
    first = dict(
        connection.execute(select(charges.c.series_id, func.min(charges.c.hour)).group_by(charges.c.series_id)).all()
    )
    known = select(series.c.id, series.c.first_hour).where(*(series.c[f"folded_{name}"] == 0 for name in MEASURES))
    for number, hour in connection.execute(known.order_by(series.c.id)):
        if number in first and (hour is None or hour > first[number]):
            yield f"series {number} has charges from before the hour that is kept as its first"


def _wrong_parts(connection: Connection) -> Iterator[str]:
    """Compare the parts of charges by the states of runners with the charges."""
    for series_id, hour in machines.wrong_splits(connection):
        yield f"the parts by state of series {series_id} in {hour_start(hour):%Y-%m-%d %H:00} UTC are not its charge"


def _wrong_counters(connection: Connection, counters: dict[CounterKey, Counter]) -> Iterator[str]:
    known = rows.read_label_sets(connection)
    for key, counter in counters.items():
        labels = ", ".join(filter(None, known.get(key.label_set, ())))
        name = f"the counter of {key.measure} of ({labels})"
        if counter.shown < 0 or (counter.released and counter.published < counter.grown):
            yield f"{name} is behind what it has counted"
    used = set(connection.scalars(select(series.c.label_set_id).distinct()))
    for number in sorted(used - known.keys()):
        yield f"label set {number} is missing"


def _unfounded_counters(connection: Connection, counters: dict[CounterKey, Counter]) -> Iterator[str]:
    """Compare what counters have counted with all that was charged: the rest is their base, which is not below zero."""
    labels = rows.read_label_sets(connection)
    scopes = {scope.id: scope.account for scope in rows.read_scopes(connection)}
    place = json.loads(schema.read(connection, schema.LABELS) or "[]").index("account")
    charged: defaultdict[str, int] = defaultdict(int)
    sums = {
        row[0]: _whole(row[1:])[0]
        for row in connection.execute(
            select(charges.c.series_id, func.sum(charges.c.cost // NANO), func.sum(charges.c.cost % NANO)).group_by(
                charges.c.series_id
            )
        )
    }
    for number, scope, folded in connection.execute(select(series.c.id, series.c.scope_id, series.c.folded_cost)):
        charged[scopes[scope]] += sums.get(number, 0) + folded
    grown: defaultdict[str, int] = defaultdict(int)
    for key, counter in counters.items():
        if key.measure == "cost":
            grown[labels[key.label_set][place]] += counter.grown
    for account in sorted(grown):
        if grown[account] > charged[account]:
            yield (
                f"the counters of account {account} have counted {grown[account] / NANO:,.2f} USD, and only "
                f"{charged[account] / NANO:,.2f} USD were ever charged"
            )
