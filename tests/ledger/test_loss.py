"""Ledgers that disappear or change under the process that has them open."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from ledger.conftest import Clock, OpenLedger, counted, polled
from sqlalchemy import Connection, create_engine, text

from exporter.charges import HOUR, NANO, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import LedgerReader, Rules, take_collector_lock
from exporter.ledger.loss import LostLedgerError
from exporter.ledger.store import Ledger


@pytest.fixture
def ledger(open_sqlite: OpenLedger, clock: Clock) -> Ledger:
    """A ledger that has counted $5 of one model."""
    return _counting(open_sqlite, clock)


def _counting(open_ledger: OpenLedger, clock: Clock) -> Ledger:
    ledger = open_ledger(birth_hold=0 * HOUR)
    ledger.activate({"main": ("models",)})
    clock.forward(hours=1)
    polled(ledger, clock, flux=3)
    ledger.scraped(ledger.view().sequence)
    polled(ledger, clock, flux=5)
    assert counted(ledger) == {"flux": 5}
    return ledger


def reopened(open_it: OpenLedger) -> Ledger:
    again = open_it(birth_hold=0 * HOUR)
    again.activate({"main": ("models",)})
    return again


@pytest.mark.parametrize("gone", ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite*"])
def test_a_deleted_file_is_written_anew_with_all_that_it_held(
    ledger: Ledger, clock: Clock, file: Path, open_sqlite: OpenLedger, gone: str
) -> None:
    for path in file.parent.glob(gone):
        path.unlink()
    assert counted(ledger) == {"flux": 5}
    assert not ledger.condition.problem
    (event,) = ledger.condition.events
    assert "was deleted" in event
    assert "nothing is lost" in event
    polled(ledger, clock, flux=6)
    assert ledger.view().charges == 1
    with closing(LedgerReader(f"sqlite:///{file}")) as reader, reader.snapshot() as snapshot:
        (usage,) = snapshot.usage(Window(hour_of(clock.now), hour_of(clock.now) + HOUR), ())
    assert usage.amounts.cost == 6 * NANO
    ledger.close()
    assert counted(reopened(open_sqlite)) == {"flux": 6}
    assert not list(file.parent.glob("*.rescued*"))


def test_a_file_that_is_deleted_just_before_the_end_is_written_anew_too(
    ledger: Ledger, file: Path, open_sqlite: OpenLedger
) -> None:
    file.unlink()
    ledger.close()
    assert counted(reopened(open_sqlite)) == {"flux": 5}


def test_while_it_cannot_be_written_anew_counting_goes_on_in_the_open_file(clock: Clock, tmp_path: Path) -> None:
    folder = tmp_path / "volume"
    folder.mkdir()
    ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", rules=Rules(birth_hold=0 * HOUR), clock=clock)
    with closing(ledger):
        ledger.activate({"main": ("models",)})
        clock.forward(hours=1)
        polled(ledger, clock, flux=3)
        ledger.scraped(ledger.view().sequence)
        shutil.rmtree(folder)
        polled(ledger, clock, flux=4)
        assert counted(ledger) == {"flux": 4}
        assert "is lost and cannot be rewritten" in ledger.condition.problem
        assert "do not stop it" in ledger.condition.problem
        assert not ledger.condition.restart_helps
        folder.mkdir()
        assert ledger.condition.problem, "it is tried again after a pause"
        clock.forward(seconds=31)
        polled(ledger, clock, flux=5)
        assert not ledger.condition.problem
    again = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", rules=Rules(), clock=clock)
    with closing(again):
        again.activate({"main": ("models",)})
        assert counted(again) == {"flux": 5}


def test_a_file_in_its_place_is_left_alone_and_the_ledger_is_kept_beside_it(
    ledger: Ledger, clock: Clock, file: Path, open_sqlite: OpenLedger
) -> None:
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(file.parent / "older")) as older:
        source.backup(older)
    polled(ledger, clock, flux=7)
    (file.parent / "older").replace(file)
    put_there = file.read_bytes()
    for _ in range(2):
        with pytest.raises(LostLedgerError, match="has been replaced by another file"):
            ledger.view()
        with pytest.raises(LostLedgerError):
            polled(ledger, clock, flux=8)
    assert ledger.condition.restart_helps
    assert "restart the exporter to continue with that file" in ledger.condition.problem
    assert file.read_bytes() == put_there
    (kept,) = file.parent.glob("ledger.sqlite.replaced-*")
    (event,) = ledger.condition.events
    assert kept.name in event
    with closing(Ledger(f"sqlite:///{kept}", rules=Rules(), clock=clock)) as copy:
        copy.activate({"main": ("models",)})
        assert counted(copy) == {"flux": 7}
    file.unlink()
    polled(ledger, clock, flux=8)
    assert counted(ledger) == {"flux": 8}
    assert not ledger.condition.problem
    ledger.close()
    assert counted(reopened(open_sqlite)) == {"flux": 8}


def test_a_file_that_is_no_ledger_would_not_be_taken_up_by_a_restart(ledger: Ledger, file: Path) -> None:
    notes = file.parent / "notes"
    notes.write_bytes(b"these are my holiday notes\n" * 100)
    notes.replace(file)
    with pytest.raises(LostLedgerError, match="move that file away"):
        ledger.view()
    assert not ledger.condition.restart_helps
    ledger.close()
    assert file.read_bytes().startswith(b"these are my holiday notes")


def _touch(path: Path) -> None:
    path.touch()


def _database_without_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")


@pytest.mark.parametrize("make", [_touch, _database_without_tables])
def test_an_empty_file_in_its_place_is_no_reason_to_stop(
    ledger: Ledger, clock: Clock, file: Path, make: Callable[[Path], None]
) -> None:
    make(file.parent / "new")
    (file.parent / "new").replace(file)
    polled(ledger, clock, flux=6)
    assert counted(ledger) == {"flux": 6}
    assert "nothing is lost" in ledger.condition.events[0]


def _emptied(file: Path) -> None:
    file.open("wb").close()


def _cut_in_half(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def _overwritten_by_an_older_copy(file: Path) -> None:
    shutil.copyfile(file.parent / "older", file)


def _overwritten_by_something_else(file: Path) -> None:
    file.write_bytes(b"these are my holiday notes\n" * 1000)


@pytest.mark.parametrize(
    "harm", [_emptied, _cut_in_half, _overwritten_by_an_older_copy, _overwritten_by_something_else]
)
def test_a_file_that_is_overwritten_is_written_anew_from_memory_and_no_counter_falls(
    ledger: Ledger, clock: Clock, file: Path, open_sqlite: OpenLedger, harm: Callable[[Path], None]
) -> None:
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(file.parent / "older")) as older:
        source.execute("PRAGMA wal_checkpoint")
        source.backup(older)
    polled(ledger, clock, flux=7, veo=2)
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint")
    ledger.view()
    harm(file)
    harmed = file.read_bytes()
    ledger.scraped(ledger.view().sequence)
    assert counted(ledger) == {"flux": 7, "veo": 2}
    assert not ledger.condition.problem
    (event,) = ledger.condition.events
    assert "overwritten or truncated" in event
    (kept,) = file.parent.glob("ledger.sqlite.damaged-*")
    assert kept.name in event
    assert kept.read_bytes() == harmed
    (scope,) = ledger.scopes()
    assert ledger.view().charges == 0
    assert scope.history_from is None, "so that the history is loaded again"
    # What fal says again of hours that have been counted is not counted twice.
    polled(ledger, clock, flux=7, veo=2)
    assert counted(ledger) == {"flux": 7, "veo": 2}
    clock.forward(hours=1)
    polled(ledger, clock, flux=1)
    assert counted(ledger) == {"flux": 8, "veo": 2}
    ledger.close()
    again = reopened(open_sqlite)
    assert counted(again) == {"flux": 8, "veo": 2}
    assert again.view().charges == 3


def test_a_file_that_is_truncated_while_it_is_written_is_noticed_all_the_same(
    ledger: Ledger, clock: Clock, file: Path
) -> None:
    polled(ledger, clock, flux=7)
    with closing(sqlite3.connect(file)) as other:
        other.execute("PRAGMA wal_checkpoint")
    ledger.view()
    with ledger._session.writing():
        _emptied(file)
    ledger.view()
    assert "overwritten or truncated" in ledger.condition.events[0]
    assert counted(ledger) == {"flux": 7}


def _checkpoint(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA wal_checkpoint")


def _vacuum(connection: sqlite3.Connection) -> None:
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint")


@pytest.mark.parametrize("work", [_checkpoint, _vacuum])
def test_another_program_that_does_no_harm_is_no_loss(
    ledger: Ledger, clock: Clock, file: Path, work: Callable[[sqlite3.Connection], None]
) -> None:
    before = file.stat().st_mtime_ns
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        work(other)
    assert file.stat().st_mtime_ns != before
    polled(ledger, clock, flux=6)
    assert counted(ledger) == {"flux": 6}
    assert ledger.condition == ("", False, ())


@pytest.fixture
def beside(postgresql_address: str) -> Iterator[Callable[[str], None]]:
    """Do something to the tables beside the exporter."""
    engine = create_engine(postgresql_address)

    def run(statement: str) -> None:
        with engine.begin() as connection:
            connection.execute(text(statement))

    yield run
    engine.dispose()


def _tables(connection: Connection) -> str:
    rows = connection.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
    return ", ".join(row[0] for row in rows)


@pytest.mark.parametrize("harm", ["DROP TABLE {} CASCADE", "TRUNCATE {} CASCADE"])
def test_postgresql_tables_that_are_gone_are_written_anew_from_memory(
    postgresql_address: str, clock: Clock, beside: Callable[[str], None], harm: str
) -> None:
    def open_it(**rules: Any) -> Ledger:  # noqa: ANN401  as `Rules` takes them
        return Ledger(postgresql_address, rules=Rules(**rules), clock=clock)

    with closing(_counting(open_it, clock)) as ledger:
        engine = create_engine(postgresql_address)
        with engine.begin() as connection:
            tables = _tables(connection)
        engine.dispose()
        beside(harm.format(tables))
        polled(ledger, clock, flux=5)
        assert counted(ledger) == {"flux": 5}
        (event,) = ledger.condition.events
        assert "were gone" in event
        clock.forward(hours=1)
        polled(ledger, clock, flux=1)
        assert counted(ledger) == {"flux": 6}
    with closing(reopened(open_it)) as again:
        assert counted(again) == {"flux": 6}


@pytest.mark.parametrize(
    ("harm", "restart_helps"),
    [
        ("UPDATE fact SET value = '1' WHERE name = 'revision'", True),
        ("UPDATE fact SET value = '2020-01-01T00:00:00+00:00' WHERE name = 'born_at'", True),
        ("DROP TABLE fact", False),
    ],
)
def test_a_postgresql_ledger_in_another_state_is_left_as_it_is(
    postgresql_address: str, clock: Clock, beside: Callable[[str], None], harm: str, *, restart_helps: bool
) -> None:
    def open_it(**rules: Any) -> Ledger:  # noqa: ANN401  as `Rules` takes them
        return Ledger(postgresql_address, rules=Rules(**rules), clock=clock)

    with closing(_counting(open_it, clock)) as ledger:
        beside(harm)
        for _ in range(2):
            with pytest.raises(LostLedgerError, match="contains a different state than before"):
                polled(ledger, clock, flux=1)
        assert ledger.condition.restart_helps is restart_helps
        assert counted(ledger) == {"flux": 5}


def test_errors_of_the_database_are_its_condition_until_a_write_succeeds(
    open_ledger: OpenLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.tables.database._BUSY_SECONDS", 0.05)
    ledger, other = _counting(open_ledger, clock), open_ledger()
    with other._session.writing(), pytest.raises(LedgerError, match="is locked"):
        polled(ledger, clock, flux=6)
    assert "is locked by another process" in ledger.condition.problem
    polled(ledger, clock, flux=6)
    assert not ledger.condition.problem


def test_what_only_reads_waits_for_no_writer(
    open_ledger: OpenLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.ledger.tables.database._BUSY_SECONDS", 0.05)
    ledger, other = _counting(open_ledger, clock), open_ledger()
    with other._session.writing() as (connection, _):
        connection.exec_driver_sql("DELETE FROM balance")
        assert ledger.balance_history("main", clock.now) == ()
        assert len(ledger.hourly(Window(hour_of(clock.now), hour_of(clock.now) + HOUR))) == 1


def test_after_a_stop_the_file_alone_holds_everything_though_a_reader_has_it_open(
    ledger: Ledger, clock: Clock, file: Path
) -> None:
    with closing(LedgerReader(f"sqlite:///{file}")) as reader:
        reader.revision()
        ledger.close()
        copy = file.parent / "elsewhere" / "copy.sqlite"
        copy.parent.mkdir()
        shutil.copyfile(file, copy)
    with closing(Ledger(f"sqlite:///{copy}", rules=Rules(), clock=clock)) as again:
        again.activate({"main": ("models",)})
        assert counted(again) == {"flux": 5}
        assert again.condition == ("", False, ())


def test_a_stop_in_the_middle_of_a_question_says_that_the_file_is_not_whole(
    ledger: Ledger, file: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with closing(LedgerReader(f"sqlite:///{file}")) as reader, reader.snapshot():
        ledger.close()
    assert "a part of it stays in its write-ahead log" in caplog.text + capsys.readouterr().out


def collected(address: str, clock: Clock) -> Ledger:
    ledger = Ledger(address, rules=Rules(), clock=clock, lock=take_collector_lock(address))
    ledger.activate({"main": ("models",)})
    return ledger


def test_a_first_start_and_a_second_find_nothing_odd(sqlite_address: str, clock: Clock) -> None:
    for _ in range(2):
        with closing(collected(sqlite_address, clock)) as ledger:
            assert ledger.condition == ("", False, ())


def _remove(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("harm", [_remove, _emptied, _database_without_tables])
def test_a_new_ledger_in_the_place_of_one_that_was_used_is_told(
    sqlite_address: str, clock: Clock, file: Path, harm: Callable[[Path], None]
) -> None:
    with closing(collected(sqlite_address, clock)):
        pass
    if harm is not _emptied:
        file.unlink()
    if harm is not _remove:
        harm(file)
    with closing(collected(sqlite_address, clock)) as ledger:
        (event,) = ledger.condition.events
    assert "has disappeared since it was last used" in event
    assert "ledger restore FILE" in event


def test_a_database_without_a_ledger_is_told_as_it_may_be_a_copy_of_half_of_one(
    sqlite_address: str, clock: Clock, file: Path
) -> None:
    _database_without_tables(file)
    with closing(collected(sqlite_address, clock)) as ledger:
        (event,) = ledger.condition.events
    assert "made without the file ending in -wal" in event


@pytest.mark.usefixtures("ledger")
def test_a_log_without_its_database_is_kept(clock: Clock, file: Path, tmp_path: Path) -> None:
    log = file.with_name("ledger.sqlite-wal").read_bytes()
    assert log
    other = tmp_path / "elsewhere" / "ledger.sqlite"
    other.parent.mkdir()
    other.with_name("ledger.sqlite-wal").write_bytes(log)
    with closing(collected(f"sqlite:///{other}", clock)) as new:
        (event,) = new.condition.events
    (kept,) = other.parent.glob("ledger.sqlite-wal.orphaned-*")
    assert kept.name in event
    assert kept.read_bytes() == log


def test_an_older_state_and_another_ledger_are_told(
    sqlite_address: str, clock: Clock, file: Path, tmp_path: Path
) -> None:
    with closing(collected(sqlite_address, clock)):
        pass
    shutil.copyfile(file, tmp_path / "older")
    with closing(collected(sqlite_address, clock)) as ledger:
        polled(ledger, clock, flux=1)
    shutil.copyfile(tmp_path / "older", file)
    with closing(collected(sqlite_address, clock)) as ledger:
        (event,) = ledger.condition.events
    assert "is an older state" in event
    clock.forward(hours=1)
    with closing(collected(f"sqlite:///{tmp_path / 'other.sqlite'}", clock)):
        pass
    shutil.copyfile(tmp_path / "other.sqlite", file)
    with closing(collected(sqlite_address, clock)) as ledger:
        (event,) = ledger.condition.events
    assert "is not the one that was last used here" in event
