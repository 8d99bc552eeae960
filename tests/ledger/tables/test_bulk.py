"""Rows that are written in bulk are those that single statements write, and as whole."""

import random
from collections.abc import Iterator

import pytest
from ledger.conftest import NOON, Clock
from sqlalchemy import create_engine, select, text

from exporter.charges import HOUR, Amounts, Charge, Dimensions, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger, Rules
from exporter.ledger.tables import bulk
from exporter.ledger.tables.schema import charges, span_totals

DAY = Window(hour_of(NOON) - 40 * HOUR, hour_of(NOON))


@pytest.fixture(params=["postgresql", "pooled"])
def in_bulk(request: pytest.FixtureRequest, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger in PostgreSQL that writes all rows in bulk."""
    monkeypatch.setattr(bulk, "LEAST_ROWS", 1)
    name = "pooled_address" if request.param == "pooled" else "postgresql_address"
    yield from opened(request.getfixturevalue(name), clock)


def opened(address: str, clock: Clock) -> Iterator[Ledger]:
    ledger = Ledger(address, rules=Rules(), clock=clock)
    ledger.activate({"main": ("models",)})
    yield ledger
    ledger.close()


def stated(seed: int, share: float) -> list[Charge]:
    """Return charges of some of the hours and models, all of another amount for another seed."""
    rng = random.Random(seed)  # noqa: S311  load, not secrets
    return [
        Charge(hour, Dimensions("main", model=f"m{model}", unit="image"), Amounts(3, 0, cost + 1, 1, cost))
        for hour in DAY.hours()
        for model in range(20)
        if rng.random() < share and (cost := rng.randrange(1, 10**10))
    ]


def written(address: str) -> list[list[tuple[object, ...]]]:
    engine = create_engine(address)
    with engine.connect() as connection:
        found = [
            [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for table in (charges, span_totals)
        ]
    engine.dispose()
    return found


def test_what_is_written_in_bulk_is_what_single_statements_write(
    in_bulk: Ledger, postgresql_server: str, sqlite_address: str, clock: Clock
) -> None:
    one_by_one = Ledger(sqlite_address, rules=Rules(), clock=clock)
    one_by_one.activate({"main": ("models",)})
    first = stated(1, 0.8)
    for charged in (first, stated(2, 0.5), [*first[:100], *stated(2, 0.5)[300:]], []):
        changes = [ledger.restate("main", "models", DAY, charged, at=NOON) for ledger in (in_bulk, one_by_one)]
        assert changes[0] == changes[1]
        assert written(postgresql_server) == written(sqlite_address)
    one_by_one.close()


def test_a_bulk_that_fails_writes_nothing_and_the_next_one_works(in_bulk: Ledger, postgresql_server: str) -> None:
    in_bulk.restate("main", "models", DAY, stated(1, 0.8), at=NOON)
    before = written(postgresql_server)
    too_much = [Charge(DAY.start, Dimensions("main", model="m1", unit="image"), Amounts(2**70, 0, 0, 0, 0))]
    with pytest.raises(LedgerError):
        in_bulk.restate("main", "models", DAY, too_much, at=NOON)
    assert written(postgresql_server) == before
    in_bulk.restate("main", "models", DAY, stated(2, 0.8), at=NOON)
    assert written(postgresql_server) != before


def test_a_connection_that_ends_before_a_copy_is_told_and_taken_up_again(
    in_bulk: Ledger, postgresql_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_bulk.restate("main", "models", DAY, stated(1, 0.8), at=NOON)
    before = written(postgresql_server)
    engine = create_engine(postgresql_server)

    def ended(rows: object) -> bool:
        with engine.connect() as connection:
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        return bool(rows)

    with monkeypatch.context() as patched:
        patched.setattr(bulk, "is_worth_it", lambda _, rows: ended(rows))
        with pytest.raises(LedgerError):
            in_bulk.restate("main", "models", DAY, stated(2, 0.8), at=NOON)
    engine.dispose()
    assert written(postgresql_server) == before
    in_bulk.restate("main", "models", DAY, stated(2, 0.8), at=NOON)
    assert written(postgresql_server) != before
