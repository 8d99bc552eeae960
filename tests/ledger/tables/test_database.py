import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Protocol

import programs
import pytest
from sqlalchemy import create_engine, make_url, text

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import DISK_FULL, Ledger, Rules
from exporter.ledger.reader import LedgerReader
from exporter.ledger.tables.database import (
    changing_tables,
    clear_errors,
    for_reading,
    open_database,
    reading,
    recorded_sources,
    shown,
)
from exporter.ledger.tables.migrations import bring_up_to_date


class Clock(Protocol):
    now: datetime

    def __call__(self) -> datetime: ...


def opened(address: str, clock: Clock) -> Ledger:
    return Ledger(address, rules=Rules(), clock=clock)


def filled(ledger: Ledger, clock: Clock, series: int = 1) -> None:
    """Restate an hour with so many charges."""
    ledger.activate({"main": ("models",)})
    hour = hour_of(clock.now)
    charges = [Charge(hour, Dimensions("main", model=f"m{n}" * 50), Amounts(cost=NANO)) for n in range(series)]
    ledger.restate("main", "models", Window(hour, hour + HOUR), charges, at=clock.now)


def refused(error: LedgerError) -> str:
    """A sentence for a user: one line, without a stack or a statement of SQL."""
    sentence = str(error)
    assert "\n" not in sentence
    assert "SELECT" not in sentence
    return sentence


def test_a_file_that_is_no_database_is_left_as_it_is(file: Path, clock: Clock) -> None:
    file.write_bytes(b"these are my holiday notes\n" * 100)
    with pytest.raises(LedgerError, match="is not a SQLite database") as caught:
        opened(f"sqlite:///{file}", clock)
    refused(caught.value)
    assert file.read_bytes().startswith(b"these are my holiday notes")


def test_a_missing_folder_is_named(tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(LedgerError, match="its directory must exist"):
        opened(f"sqlite:///{tmp_path}/missing/ledger.sqlite", clock)


def test_a_read_only_ledger_is_told(file: Path, clock: Clock) -> None:
    opened(f"sqlite:///{file}", clock).close()
    with pytest.raises(LedgerError, match="is read-only"):
        opened(f"sqlite:///file:{file}?mode=ro&uri=true", clock)


def test_a_damaged_file_is_told_and_stays_as_it_is(file: Path, clock: Clock) -> None:
    ledger = opened(f"sqlite:///{file}", clock)
    filled(ledger, clock, 500)
    ledger.close()
    damaged = bytearray(file.read_bytes())
    damaged[4096 : len(damaged) - 4096] = b"\xff" * (len(damaged) - 8192)
    file.write_bytes(damaged)
    with pytest.raises(LedgerError, match="is damaged; restore a backup"):
        filled(opened(f"sqlite:///{file}", clock), clock, 500)
    assert file.read_bytes()[8192:] == bytes(damaged[8192:])


def test_a_row_that_cannot_be_read_is_damage_too(file: Path, clock: Clock) -> None:
    ledger = opened(f"sqlite:///{file}", clock)
    filled(ledger, clock)
    ledger.close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE counter SET grown = 'much'")
    connection.close()
    with pytest.raises(LedgerError, match="is damaged, a row cannot be read"):
        opened(f"sqlite:///{file}", clock)


def test_a_locked_ledger_is_told_and_used_again_when_it_is_free(
    file: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.tables.database._BUSY_SECONDS", 0.05)
    address = f"sqlite:///{file}"
    ledger = opened(address, clock)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for use in (lambda: filled(ledger, clock), lambda: opened(address, clock)):
        with pytest.raises(LedgerError, match="is locked by another process"):
            use()
    other.execute("ROLLBACK")
    other.close()
    filled(ledger, clock)
    assert ledger.view().charges == 1
    ledger.close()


def test_a_full_disk_leaves_the_ledger_as_it_was(file: Path, clock: Clock) -> None:
    ledger = opened(f"sqlite:///{file}", clock)
    filled(ledger, clock, 3)
    with ledger._session.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match=f"the {DISK_FULL}"):
        filled(ledger, clock, 2000)
    view = ledger.view()
    assert (view.charges, view.label_sets) == (3, 3)
    with ledger._session.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    filled(ledger, clock, 2000)
    ledger.close()
    assert opened_charges(f"sqlite:///{file}", clock) == 2000


def opened_charges(address: str, clock: Clock) -> int:
    ledger = opened(address, clock)
    ledger.activate({"main": ("models",)})
    charges = ledger.view().charges
    ledger.close()
    return charges


def test_what_is_published_has_reached_the_disk(file: Path) -> None:
    engine = open_database(f"sqlite:///{file}")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    engine.dispose()


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nonsense", "is not a database address"),
        ("mysql://user:secret@host/x", "names a mysql database"),
        ("", "is not a database address"),
        ("postgresql://user:secret@host:54a/x", "is not a database address"),
        ("postgresql://user:secret@host:5432,other:54a/x", "is not a database address"),
        ("postgresql://user:secret@host,other/x?port=5433", "is not a database address"),
    ],
)
def test_an_address_that_is_no_ledger_s_is_refused_without_its_password(address: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        open_database(address)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown() -> None:
    programs.required_module("psycopg", "pip:psycopg[binary]")
    engine = open_database("postgresql://user:secret@host/x")
    assert engine.dialect.driver == "psycopg"
    assert "secret" not in shown(engine.url)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgres://fal:secret@db:5433/x", {"host": "db", "port": 5433, "user": "fal", "password": "secret"}),
        ("postgresql://fal@/x?host=/run/pg", {"host": "/run/pg", "user": "fal"}),
        ("postgres://fal@%2Frun%2Fpg/x", {"host": "/run/pg", "user": "fal"}),
        ("postgresql+psycopg://db/x", {"host": "db"}),
        ("postgresql://fal:a,b@db/x", {"host": "db", "user": "fal", "password": "a,b"}),
        (
            "postgresql://fal:se%40ret@a,b:5433,[::1]/x?target_session_attrs=read-write",
            {
                "host": "a,b,::1",
                "port": "5432,5433,5432",
                "user": "fal",
                "password": "se@ret",
                "target_session_attrs": "read-write",
            },
        ),
    ],
)
def test_a_postgresql_address_may_be_written_as_libpq_takes_it(address: str, expected: dict[str, object]) -> None:
    programs.required_module("psycopg", "pip:psycopg[binary]")
    engine = open_database(address)
    _, options = engine.dialect.create_connect_args(engine.url)
    assert {name: value for name, value in options.items() if name != "context"} == expected | {"dbname": "x"}


def test_every_part_of_a_ledger_takes_the_address_of_libpq(postgresql_address: str, clock: Clock) -> None:
    address = postgresql_address.replace("postgresql+psycopg:", "postgres:").replace("postgresql:", "postgres:")
    assert address.startswith("postgres://")
    with closing(opened(address, clock)), closing(LedgerReader(address)) as reader, reader.snapshot() as snapshot:
        assert snapshot.scopes() == ()
    assert recorded_sources(address) == {}


def test_a_server_that_cannot_be_reached_is_told_without_the_password(clock: Clock) -> None:
    programs.required_module("psycopg", "pip:psycopg[binary]")
    with pytest.raises(LedgerError, match=r"cannot be used: .*onnection") as caught:
        opened("postgresql://user:secret@127.0.0.1:1/x", clock)
    assert "secret" not in refused(caught.value)


def test_two_writers_on_postgresql_wait_for_each_other(
    postgresql_address: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.tables.database._BUSY_SECONDS", 0.05)
    ledger = opened(postgresql_address, clock)
    engine = open_database(postgresql_address)
    with engine.begin() as connection:
        connection.exec_driver_sql("SELECT 1")
        with pytest.raises(LedgerError, match="is locked by another process"):
            filled(ledger, clock)
    filled(ledger, clock)
    engine.dispose()
    ledger.close()


_LIMITS = "?options=-c%20statement_timeout%3D50ms%20-c%20idle_in_transaction_session_timeout%3D50ms"


def test_a_limit_of_the_server_for_questions_ends_no_write(postgresql_address: str) -> None:
    engine = open_database(postgresql_address + _LIMITS)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE written AS SELECT 1 FROM pg_sleep(0.1)")
        found = connection.exec_driver_sql(
            "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
        )
        assert tuple(found.one()) == ("10min", "5s")
    with (
        pytest.raises(LedgerError, match="took longer than its statement_timeout; raise that"),
        clear_errors(engine.url),
        for_reading(engine).begin() as connection,
    ):
        connection.exec_driver_sql("SELECT pg_sleep(5)")
    engine.dispose()


def test_a_server_without_a_connection_left_is_told_with_what_to_raise(postgresql_address: str, clock: Clock) -> None:
    server = create_engine(postgresql_address, isolation_level="AUTOCOMMIT")
    narrow = make_url(postgresql_address).set(username="narrow").render_as_string()
    with server.connect() as connection:
        connection.exec_driver_sql("DROP ROLE IF EXISTS narrow")
        connection.exec_driver_sql("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
        only = create_engine(narrow)
        with only.connect(), pytest.raises(LedgerError, match="has no connection left; raise max_connections"):
            opened(narrow, clock)
        only.dispose()
    server.dispose()


def test_an_exporter_that_starts_while_another_one_migrates_the_ledger_waits(
    postgresql_address: str, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.tables.database._BUSY_SECONDS", 0.05)
    engine = open_database(postgresql_address)
    watching = create_engine(postgresql_address, isolation_level="AUTOCOMMIT")
    with ThreadPoolExecutor(1) as pool:
        with changing_tables(engine) as connection, watching.connect() as watcher:
            assert bring_up_to_date(connection)
            opening = pool.submit(opened, postgresql_address, clock)
            waiting = text("SELECT extract(epoch FROM now() - waitstart) FROM pg_locks WHERE NOT granted")
            while (watcher.scalar(waiting) or 0) < 4 * 0.05:
                assert not opening.done(), opening.result()
        ledger = opening.result(30)
    filled(ledger, clock)
    ledger.close()
    for one in (engine, watching):
        one.dispose()


def test_a_read_only_postgresql_is_told(postgresql_address: str, clock: Clock) -> None:
    with pytest.raises(LedgerError, match="is read-only"):
        opened(f"{postgresql_address}?options=-c%20default_transaction_read_only%3Don", clock)


OpenLedger = Callable[..., Ledger]

REVISION = text("SELECT value FROM fact WHERE name = 'revision'")


def test_a_reader_neither_waits_for_a_writer_nor_keeps_it_waiting(open_ledger: OpenLedger, address: str) -> None:
    ledger = open_ledger()
    with ledger._session.writing(), reading(address) as connection:
        before = connection.scalar(REVISION)
    with reading(address) as connection:
        seen = connection.scalar(REVISION)
        ledger.activate({"studio": ["models"]})
        assert connection.scalar(REVISION) == seen, "all that is read is of one instant"
    with reading(address) as connection:
        assert connection.scalar(REVISION) == str(int(seen or 0) + 1)
    assert int(seen or 0) == int(before or 0) + 1


def test_a_reader_cannot_write(open_ledger: OpenLedger, address: str) -> None:
    open_ledger()
    with pytest.raises(LedgerError), reading(address) as connection:
        connection.execute(text("DELETE FROM fact"))


def test_where_there_is_no_ledger_none_is_made(address: str) -> None:
    with pytest.raises(LedgerError, match="no ledger"), reading(address):
        pass
    assert not Path(address.removeprefix("sqlite:///")).exists()


def test_a_database_of_something_else_is_no_ledger(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE other (a)")
    connection.close()
    with pytest.raises(LedgerError, match="no ledger in"), reading(f"sqlite:///{path}"):
        pass


def test_a_ledger_of_another_version_is_told_apart(
    open_sqlite: OpenLedger, sqlite_address: str, tmp_path: Path
) -> None:
    open_sqlite().close()
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    connection.execute("UPDATE fact SET value = '99' WHERE name = 'schema'")
    connection.commit()
    connection.close()
    with pytest.raises(LedgerError, match="has schema 99"), reading(sqlite_address):
        pass
