import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime

import pytest
from ledger.conftest import OpenLedger
from sqlalchemy import create_engine, text

from exporter.ledger import LedgerInUseError, Rules, take_collector_lock
from exporter.ledger.collector_lock import as_collector
from exporter.ledger.maintenance.inspection import inspect_ledger
from exporter.ledger.store import Ledger
from exporter.ledger.tables.schema import SCHEMA_VERSION


def test_where_there_is_no_ledger_it_can_begin_and_nothing_is_made(address: str) -> None:
    for _ in range(2):
        found = inspect_ledger(address)
        assert (found.version, found.born_at, found.collector, found.problem) == (None, None, "", "")


def test_a_ledger_is_told_with_its_birth_and_its_collector(
    address: str, clock: Callable[[], datetime], open_ledger: OpenLedger
) -> None:
    open_ledger()
    found = inspect_ledger(address)
    assert (found.version, found.born_at, found.collector, found.problem) == (SCHEMA_VERSION, clock(), "", "")
    with closing(Ledger(address, rules=Rules(), clock=clock, lock=take_collector_lock(address))):
        found = inspect_ledger(address)
        with pytest.raises(LedgerInUseError) as caught:
            take_collector_lock(address)
        assert found.collector
        assert found.collector in str(caught.value), "who is asked to stop is who is told"
    take_collector_lock(address).release()


def test_to_look_takes_no_lock_away(sqlite_address: str) -> None:
    with as_collector(sqlite_address) as lock:
        assert inspect_ledger(sqlite_address).collector.startswith("process ")
        lock.check()
        with pytest.raises(LedgerInUseError):
            take_collector_lock(sqlite_address)


def test_a_user_who_may_not_create_tables_is_told_so(postgresql_address: str) -> None:
    engine = create_engine(postgresql_address)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader"))
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
        connection.execute(text("GRANT USAGE ON SCHEMA public TO reader"))
    found = inspect_ledger(postgresql_address.replace("ledger@", "reader@"))
    assert found.problem == "There is no ledger yet, and the user may not create tables; grant it CREATE on the schema."
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY reader"))
        connection.execute(text("DROP ROLE reader"))
    engine.dispose()


def test_a_user_who_may_not_create_temporary_tables_is_told_so(
    postgresql_address: str,
) -> None:
    engine = create_engine(postgresql_address)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS writer"))
        connection.execute(text("CREATE ROLE writer LOGIN"))
        connection.execute(text("GRANT CREATE, USAGE ON SCHEMA public TO writer"))
    address = postgresql_address.replace("ledger@", "writer@")
    assert inspect_ledger(address).problem == ""
    with engine.begin() as connection:
        connection.execute(text(f'REVOKE TEMPORARY ON DATABASE "{engine.url.database}" FROM PUBLIC'))
    try:
        needed = "through which many rows are written; grant it TEMPORARY on the database."
        assert inspect_ledger(address).problem.endswith(needed)
        assert inspect_ledger(postgresql_address).problem == "", "a superuser may do everything"
    finally:
        with engine.begin() as connection:
            connection.execute(text(f'GRANT TEMPORARY ON DATABASE "{engine.url.database}" TO PUBLIC'))
            connection.execute(text("DROP OWNED BY writer"))
            connection.execute(text("DROP ROLE writer"))
        engine.dispose()


def test_a_server_that_does_not_answer_is_a_problem() -> None:
    found = inspect_ledger("postgresql://ledger:secret@127.0.0.1:1/ledger")
    assert "cannot be used: connection failed" in found.problem
    assert "secret" not in found.problem + found.name


def test_a_ledger_of_the_future_is_a_problem(sqlite_address: str, open_sqlite: OpenLedger) -> None:
    open_sqlite().close()
    with closing(sqlite3.connect(sqlite_address.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE fact SET value = '99' WHERE name = 'schema'")
    assert "has schema 99" in inspect_ledger(sqlite_address).problem
