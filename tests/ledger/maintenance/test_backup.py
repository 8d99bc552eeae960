"""Backup, restoration and verification, of real files while others write them."""

import os
import shutil
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from ledger.conftest import Clock, OpenLedger, counted, opened, published

from exporter.charges import HOUR, NANO, Window, hour_of
from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import LedgerInUseError, Rules, take_collector_lock
from exporter.ledger.maintenance.backup import back_up, restore, verify_ledger
from exporter.ledger.store import Ledger

VERSIONS = Path(__file__).parents[1] / "tables"


@pytest.fixture
def ledger(open_sqlite: OpenLedger, clock: Clock) -> Ledger:
    """A ledger that has read $4 of history, and has counted $5 of one model since."""
    ledger = open_sqlite(birth_hold=timedelta(0))
    ledger.activate({"main": ("models",)})
    published(ledger, clock, flux=4)
    clock.forward(hours=1)
    published(ledger, clock, flux=5)
    assert counted(ledger) == {"flux": 5}
    return ledger


def test_a_backup_of_a_ledger_in_use_is_one_whole_sound_file(
    ledger: Ledger, sqlite_address: str, tmp_path: Path, clock: Clock
) -> None:
    target = tmp_path / "elsewhere" / "backup.sqlite"
    target.parent.mkdir()
    verified = back_up(sqlite_address, target)
    assert (verified.charges, verified.counters, verified.problems) == (2, 1, ())
    assert verified.born_at == ledger.view().born_at
    assert [path.name for path in target.parent.iterdir()] == ["backup.sqlite"]
    published(ledger, clock, flux=6)
    with closing(opened(f"sqlite:///{target}", clock)) as copy:
        assert counted(copy) == {"flux": 5}
        assert copy.condition.events == ()


def test_a_backup_made_while_polls_are_worked_in_is_of_one_instant(
    ledger: Ledger, sqlite_address: str, tmp_path: Path
) -> None:
    """Two series always cost the same; a copy of two instants would tell."""
    clock = Clock()
    clock.forward(hours=3)
    made: list[Path] = []
    failed: list[LedgerError] = []

    def copy() -> None:
        try:
            for number in range(4):
                made.append(tmp_path / f"copy-{number}")
                back_up(sqlite_address, made[-1])
        except LedgerError as error:
            failed.append(error)

    copying = threading.Thread(target=copy)
    copying.start()
    step = 0
    while copying.is_alive():
        step += 1
        published(ledger, clock, flux=step, veo=step)
    copying.join()
    assert not failed
    for path in made:
        with closing(sqlite3.connect(path)) as connection:
            found = connection.execute("SELECT hour, cost FROM charge ORDER BY hour DESC LIMIT 2").fetchall()
        assert found[0][0] != found[1][0] or found[0] == found[1]


def test_an_existing_file_and_a_missing_folder_are_refused(ledger: Ledger, sqlite_address: str, tmp_path: Path) -> None:
    del ledger
    notes = tmp_path / "notes"
    notes.write_text("my holiday notes")
    with pytest.raises(LedgerError, match="exists; name a new file"):
        back_up(sqlite_address, notes)
    assert notes.read_text() == "my holiday notes"
    with pytest.raises(LedgerError, match="missing cannot be written: No such file"):
        back_up(sqlite_address, tmp_path / "missing" / "backup")
    with pytest.raises(LedgerError, match="there is no ledger"):
        back_up(f"sqlite:///{tmp_path / 'none.sqlite'}", tmp_path / "backup")
    assert not list(tmp_path.glob(".backup*"))


def test_postgresql_has_its_own_programs(postgresql_address: str, tmp_path: Path, clock: Clock) -> None:
    with pytest.raises(ConfigurationError, match="pg_dump --format=custom"):
        back_up(postgresql_address, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="pg_restore"):
        restore(postgresql_address, tmp_path / "backup", now=clock.now)


def test_a_ledger_that_is_not_sound_is_not_backed_up(
    ledger: Ledger, sqlite_address: str, file: Path, tmp_path: Path
) -> None:
    ledger.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE charge SET cost = cost + 1")
    with pytest.raises(LedgerError, match="is not sound: account main, source models: sums of series"):
        back_up(sqlite_address, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def test_a_restored_ledger_goes_on_and_the_one_before_is_kept(
    ledger: Ledger, sqlite_address: str, file: Path, tmp_path: Path, clock: Clock
) -> None:
    back_up(sqlite_address, tmp_path / "backup")
    clock.forward(hours=1)
    published(ledger, clock, flux=7, veo=2)
    assert counted(ledger) == {"flux": 12, "veo": 2}
    ledger.close()
    restored = restore(sqlite_address, tmp_path / "backup", now=clock.now)
    assert restored.kept is not None
    assert restored.kept.parent == file.parent
    assert (restored.raised, restored.is_seen_by_scrapes) == (2, True)
    assert restored.verified.charges == 2
    lock = take_collector_lock(sqlite_address)
    again = Ledger(sqlite_address, rules=Rules(birth_hold=timedelta(0)), clock=clock, lock=lock)
    with closing(again):
        again.activate({"main": ("models",)})
        assert again.condition.events == (), "it is no surprise that another ledger is there"
        assert counted(again) == {"flux": 12, "veo": 2}, "what scrapes have seen"
        published(again, clock, flux=7, veo=2)
        assert counted(again) == {"flux": 12, "veo": 2}, "read again, and counted once"
        published(again, clock, flux=8, veo=2)
        assert counted(again) == {"flux": 13, "veo": 2}
        hours = again.hourly(Window(hour_of(clock.now) - 24 * HOUR, hour_of(clock.now) + HOUR)).values()
        assert sum(sum(costs.values()) for costs in hours) == 19 * NANO
    assert verify_ledger(sqlite_address).problems == ()
    with closing(opened(f"sqlite:///{restored.kept}", clock)) as before:
        assert counted(before) == {"flux": 12, "veo": 2}


def test_after_a_crash_the_log_of_the_ledger_before_is_not_played_into_the_restored_one(
    ledger: Ledger, sqlite_address: str, file: Path, tmp_path: Path, clock: Clock
) -> None:
    back_up(sqlite_address, tmp_path / "backup")
    published(ledger, clock, flux=9)
    # As a killed exporter leaves it: the file and its log.
    crashed = tmp_path / "crashed" / "ledger.sqlite"
    crashed.parent.mkdir()
    for copied in (file, file.with_name("ledger.sqlite-wal")):
        shutil.copyfile(copied, crashed.with_name(copied.name))
    address = f"sqlite:///{crashed}"
    for is_there in (True, False):
        restored = restore(address, tmp_path / "backup", now=clock.now)
        assert (restored.kept is not None) == is_there
        with closing(opened(address, clock)) as again:
            assert again.view().charges == 2
            assert counted(again) == {"flux": 9 if is_there else 5}
        # And as one leaves it whose file was deleted by hand.
        crashed.unlink()
        shutil.copyfile(file.with_name("ledger.sqlite-wal"), crashed.with_name("ledger.sqlite-wal"))
    assert restored.is_seen_by_scrapes is False


@pytest.mark.usefixtures("ledger")
def test_what_root_restores_belongs_to_the_user_of_the_exporter(
    sqlite_address: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(sqlite_address, tmp_path / "backup")
    folder = tmp_path / "volume"
    folder.mkdir()
    given: dict[str, tuple[int, int]] = {}
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.update({path.name: (user, group)}))
    restore(f"sqlite:///{folder / 'ledger.sqlite'}", tmp_path / "backup", now=clock.now)
    owner = (folder.stat().st_uid, folder.stat().st_gid)
    assert given == {"ledger.sqlite": owner, "ledger.sqlite.lock": owner}


def test_a_backup_that_is_none_changes_nothing(
    ledger: Ledger, sqlite_address: str, file: Path, tmp_path: Path, clock: Clock
) -> None:
    ledger.close()
    before = file.read_bytes()
    notes, empty, broken = tmp_path / "notes", tmp_path / "empty", tmp_path / "broken"
    notes.write_bytes(b"these are my holiday notes\n" * 1000)
    with closing(sqlite3.connect(empty)) as connection:
        connection.execute("PRAGMA user_version = 1")
    back_up(sqlite_address, broken)
    with closing(sqlite3.connect(broken)) as connection, connection:
        connection.execute("UPDATE counter SET published = '-1'")
    for path, reason in (
        (notes, "file is not a database"),
        (empty, "contains no ledger"),
        (broken, "is not sound: the counter of cost of .main, flux. is behind"),
        (tmp_path / "missing", "there is no file"),
    ):
        with pytest.raises(LedgerError, match=reason):
            restore(sqlite_address, path, now=clock.now)
        assert file.read_bytes() == before
    assert not list(tmp_path.glob("*before-restore*"))
    assert not list(tmp_path.glob(".ledger*"))


def test_under_a_running_exporter_nothing_is_restored(
    ledger: Ledger, sqlite_address: str, tmp_path: Path, clock: Clock
) -> None:
    back_up(sqlite_address, tmp_path / "backup")
    ledger.close()
    lock = take_collector_lock(sqlite_address)
    with pytest.raises(LedgerInUseError):
        restore(sqlite_address, tmp_path / "backup", now=clock.now)
    lock.release()


def test_a_backup_of_an_older_version_is_migrated_as_it_is_restored(tmp_path: Path, clock: Clock) -> None:
    old = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(old)) as connection, connection:
        connection.executescript((VERSIONS / "version-2.sql").read_text())
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    kept = back_up(f"sqlite:///{old}", tmp_path / "backup")
    assert "the ledger has schema 2" in kept.notes[0]
    restored = restore(address, tmp_path / "backup", now=clock.now)
    assert restored.verified.notes == ()
    assert restored.verified.charges == kept.charges > 0
    assert verify_ledger(address).problems == ()


def test_a_ledger_that_was_used_is_sound(open_ledger: OpenLedger, address: str, clock: Clock) -> None:
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate({"main": ("models",), "other": ("models", "serverless")})
    for step in range(30):
        clock.forward(hours=5)
        published(ledger, clock, flux=step % 7, veo=step)
    ledger.activate({"main": ("organization",)})
    clock.forward(days=90)
    ledger.fold_before(clock.now - timedelta(days=80))
    verified = verify_ledger(address)
    assert verified.problems == verified.notes == ()
    assert verified.counters == 2
    with closing(opened(address, clock)):
        pass
    relabelled = open_ledger(labels=("account", "product"))
    assert relabelled.relabelled
    assert verify_ledger(address).problems == ()


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        ("UPDATE charge SET cost = cost + 1", "over 24 hours from 2026-11-20 are not those of its charges"),
        ("UPDATE span_total SET cost_nanos = cost_nanos + 1 WHERE length = 192", "over 192 hours"),
        ("DELETE FROM span_total", "sums of series"),
        ("UPDATE span_total SET charges = charges + 1", "sums of series"),
        ("UPDATE series SET first_hour = first_hour + 1", "from before the hour that is kept as its first"),
        ("UPDATE counter SET published = '4'", "the counter of cost of (main, flux) is behind what it has counted"),
        ("UPDATE counter SET published = '-1', released = 0", "is behind what it has counted"),
        (
            "UPDATE counter SET grown = '10000000000', published = '10000000000'",
            "the counters of account main have counted 10.00 USD, and only 9.00 USD were ever charged",
        ),
        ("DELETE FROM label_set", "refers to one of label_set that is missing"),
    ],
)
def test_verification_finds(ledger: Ledger, sqlite_address: str, file: Path, harm: str, problem: str) -> None:
    ledger.close()
    assert verify_ledger(sqlite_address).problems == ()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(harm)
    problems = verify_ledger(sqlite_address).problems
    assert any(problem in item for item in problems), problems


def test_verification_finds_damage_of_the_file(ledger: Ledger, sqlite_address: str, file: Path, clock: Clock) -> None:
    clock.forward(hours=1)
    published(ledger, clock, **{f"m{number}": 1 for number in range(500)})
    ledger.close()
    damaged = bytearray(file.read_bytes())
    damaged[8192 : len(damaged) - 8192] = b"\xff" * (len(damaged) - 16384)
    file.write_bytes(damaged)
    try:
        found = "; ".join(verify_ledger(sqlite_address).problems)
    except LedgerError as error:
        found = str(error)
    assert "damaged" in found or "SQLite: " in found


def test_many_problems_of_one_kind_are_counted(ledger: Ledger, sqlite_address: str, file: Path, clock: Clock) -> None:
    published(ledger, clock, **{f"m{number}": 1 for number in range(30)})
    ledger.close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DELETE FROM span_total")
    problems = verify_ledger(sqlite_address).problems
    assert len(problems) == 6
    assert problems[-1].endswith("more wrong sums of spans")


def test_counters_of_a_ledger_that_was_written_from_memory_are_not_compared(
    ledger: Ledger, sqlite_address: str, file: Path
) -> None:
    file.open("wb").close()
    ledger.view()
    ledger.close()
    verified = verify_ledger(sqlite_address)
    assert verified.problems == ()
    assert "written from memory" in verified.notes[0]
