"""Move of a ledger between databases: everything arrives, counters go on, and an interrupted move is continued."""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from ledger.conftest import Clock, OpenLedger, counted, opened, published
from sqlalchemy import select

from exporter.charges import NANO, Balance
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import LedgerInUseError, take_collector_lock
from exporter.ledger.maintenance import moving
from exporter.ledger.maintenance.backup import verify_ledger
from exporter.ledger.maintenance.moving import Moved, Progress, move_ledger
from exporter.ledger.reader import LedgerReader
from exporter.ledger.tables.database import reading
from exporter.ledger.tables.schema import facts, metadata

OLD = Path(__file__).parents[1] / "tables" / "version-4.sql"
"""A ledger with rows in every table of its version."""


def moved(source: str, target: str) -> tuple[Moved, list[Progress]]:
    told: list[Progress] = []
    return move_ledger(source, target, on_progress=told.append), told


def contents(address: str) -> dict[str, list[tuple[object, ...]]]:
    """Return every row of every table, as the exporter reads it."""
    with reading(address) as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
        }


@pytest.fixture
def source(tmp_path: Path) -> str:
    """A ledger that has grown since version 4; no exporter is using it."""
    file = tmp_path / "source.sqlite"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD.read_text())
    address = f"sqlite:///{file}"
    opened(address, Clock()).close()
    return address


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'target.sqlite'}"


def test_every_row_arrives(source: str, target: str) -> None:
    found, told = moved(source, target)
    assert contents(target) == contents(source)
    assert found.verified.problems == ()
    assert found.continued == 0
    assert found.rows == sum(len(rows) for name, rows in contents(source).items() if name != facts.name)
    assert told[-1].rows == told[-1].of == found.rows


@pytest.mark.long
def test_a_ledger_moves_to_postgresql_and_back(source: str, target: str, postgresql_address: str) -> None:
    moved(source, postgresql_address)
    assert contents(postgresql_address) == contents(source)
    moved(postgresql_address, target)
    assert contents(target) == contents(source)
    assert verify_ledger(target).problems == ()


@pytest.mark.parametrize("to", ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def test_counters_go_on_where_they_were(
    to: str, request: pytest.FixtureRequest, open_sqlite: OpenLedger, sqlite_address: str, clock: Clock
) -> None:
    ledger = open_sqlite(birth_hold=timedelta(0))
    ledger.activate({"main": ("models",)})
    published(ledger, clock, flux=4)
    clock.forward(hours=1)
    published(ledger, clock, flux=5)
    ledger.record_balance(Balance("main", 70 * NANO, clock.now))
    ledger.close()
    target: str = request.getfixturevalue("target" if to == "sqlite" else "postgresql_address")
    moved(sqlite_address, target)
    with closing(opened(target, clock)) as new:
        assert counted(new) == {"flux": 5}
        clock.forward(hours=1)
        published(new, clock, flux=2, kling=3)  # rows of every kind get numbers that are free
        assert counted(new) == {"flux": 7, "kling": 3}
        assert new.balance_history("main", clock.now - timedelta(days=1)) == (
            Balance("main", 70 * NANO, clock.now - timedelta(hours=1)),
        )


class Interrupted(Exception):  # noqa: N818  no error of the exporter
    """The process was killed."""


@pytest.fixture
def half(source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Rows that a move had copied when it was interrupted."""
    monkeypatch.setattr(moving, "_ROWS", 2)
    left = 7

    def kill(progress: Progress) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise Interrupted(progress.rows)

    with pytest.raises(Interrupted) as interrupted:
        move_ledger(source, target, on_progress=kill)
    return interrupted.value.args[0]


def test_an_interrupted_move_is_continued(source: str, target: str, half: int) -> None:
    found, told = moved(source, target)
    assert found.continued == half > 0
    assert told[0].rows <= half + 2
    assert contents(target) == contents(source)


def test_half_a_ledger_is_none_for_anybody_else(target: str, half: int, clock: Clock) -> None:
    del half
    for use in (
        lambda: opened(target, clock),
        lambda: LedgerReader(target).snapshot().__enter__(),
        lambda: verify_ledger(target),
    ):
        with pytest.raises(LedgerError, match="is being moved here and is not complete; run `fal-exporter ledger mig"):
            use()


def test_a_move_of_a_ledger_that_was_written_since_begins_anew(
    source: str, target: str, half: int, clock: Clock
) -> None:
    del half
    with closing(opened(source, clock)) as ledger:
        published(ledger, clock, sora=6)
    found, _ = moved(source, target)
    assert found.continued == 0
    assert contents(target) == contents(source)


def test_rows_that_somebody_else_has_written_are_noticed(source: str, target: str, half: int) -> None:
    del half
    with closing(sqlite3.connect(target.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("DELETE FROM label_set")
        connection.execute("DELETE FROM api_key")
    with pytest.raises(LedgerError, match="not every row of table"):
        moved(source, target)


def test_a_place_that_is_taken_is_refused_and_left_alone(source: str, target: str, clock: Clock) -> None:
    with closing(opened(target, clock)) as ledger:
        published(ledger, clock, flux=1)
    before = contents(target)
    with pytest.raises(LedgerError, match=r"there is a ledger in .*target.sqlite already"):
        moved(source, target)
    assert contents(target) == before
    with pytest.raises(ConfigurationError, match="cannot be moved to itself"):
        moved(source, source)


def test_another_program_s_database_is_refused(source: str, target: str) -> None:
    with closing(sqlite3.connect(target.removeprefix("sqlite:///"))) as connection, connection:
        connection.execute("CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    with pytest.raises(LedgerError, match="is not fal-exporter's"):
        moved(source, target)


@pytest.mark.parametrize("which", ["source", "target"])
def test_a_ledger_that_an_exporter_is_using_is_not_moved(source: str, target: str, which: str) -> None:
    lock = take_collector_lock({"source": source, "target": target}[which])
    try:
        with pytest.raises(LedgerInUseError):
            moved(source, target)
    finally:
        lock.release()


def test_a_damaged_ledger_is_not_moved(source: str, target: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sqlite"
    shutil.copy(source.removeprefix("sqlite:///"), damaged)
    with closing(sqlite3.connect(damaged)) as connection, connection:
        connection.execute("UPDATE counter SET grown = '1' || grown")
    with pytest.raises(LedgerError, match=r"the ledger .*damaged.sqlite is not sound: .*; restore a backup"):
        moved(f"sqlite:///{damaged}", target)
    assert not Path(target.removeprefix("sqlite:///")).exists()


def test_a_ledger_that_is_not_there_cannot_be_moved(tmp_path: Path, target: str) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"):
        moved(f"sqlite:///{tmp_path / 'missing.sqlite'}", target)
    assert not [*tmp_path.glob("missing*")]
