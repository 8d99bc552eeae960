import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from ledger.conftest import OpenLedger
from sqlalchemy import create_engine, text

from exporter.errors import ConfigurationError, LedgerError
from exporter.ledger import LedgerInUseError, LedgerReader, Rules, take_collector_lock
from exporter.ledger.collector_lock import LedgerNote, as_collector, lock_path
from exporter.ledger.store import Ledger

HOLDER = """
import sys
from exporter.ledger import take_collector_lock

lock = take_collector_lock(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def holder(address: str) -> "subprocess.Popen[str]":
    """Return another process that is the ledger's collector."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert "held\n" in process.stdout
    return process


def test_a_second_collector_is_told_who_the_first_is(address: str) -> None:
    with holder(address) as first:
        with pytest.raises(LedgerInUseError) as caught:
            take_collector_lock(address)
        first.kill()
    sentence = str(caught.value)
    assert caught.value.exit_code == 2
    assert "\n" not in sentence
    assert str(first.pid) in sentence
    assert socket.gethostname()[:30] in sentence
    assert "since 20" in sentence


def test_a_killed_collector_leaves_no_lock(address: str) -> None:
    with holder(address) as first:
        first.send_signal(signal.SIGKILL)
    take_collector_lock(address, patience=5).release()


def test_the_next_collector_may_wait_for_the_first_to_end(address: str) -> None:
    with holder(address) as first:
        assert first.stdin is not None
        first.stdin.close()
        take_collector_lock(address, patience=10).release()


def test_a_released_lock_is_free(address: str) -> None:
    for _ in range(2):
        with as_collector(address):
            pass


def test_two_ledgers_in_one_postgresql_database_have_a_collector_each(postgresql_address: str) -> None:
    engine = create_engine(postgresql_address)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA IF EXISTS team_b CASCADE"))
        connection.execute(text("CREATE SCHEMA team_b"))
    engine.dispose()
    other = f"{postgresql_address}?options=-c%20search_path%3Dteam_b"
    with as_collector(postgresql_address), as_collector(other), pytest.raises(LedgerInUseError):
        take_collector_lock(other)


def test_a_ledger_that_is_open_by_its_collector_is_read_beside_it(
    address: str, clock: Callable[[], datetime], open_ledger: OpenLedger
) -> None:
    ledger = Ledger(address, rules=Rules(), clock=clock, lock=take_collector_lock(address))
    with closing(ledger):
        ledger.activate({"main": ("models",)})
        with closing(LedgerReader(address)) as reader:
            assert reader.revision() > 0
        # Whoever comes without the lock, as a migration by hand may, still neither doubles nor loses anything.
        open_ledger().activate({"main": ("models",)})
        ledger.activate({"main": ("models",)})
    take_collector_lock(address).release()


def test_a_lock_that_was_deleted_with_its_ledger_is_made_anew(sqlite_address: str, tmp_path: Path) -> None:
    file = lock_path(tmp_path / "ledger.sqlite")
    lock = take_collector_lock(sqlite_address)
    lock.note(LedgerNote("2026-11-20T12:00:00+00:00", 7))
    file.unlink()
    lock.check()
    assert json.loads(file.read_text())["ledger_revision"] == 7
    with pytest.raises(LedgerInUseError):
        take_collector_lock(sqlite_address)
    file.unlink()
    with as_collector(sqlite_address), pytest.raises(LedgerInUseError, match=f"process {os.getpid()} on host"):
        lock.check()
    lock.check()
    lock.release()


def test_what_the_ledger_was_stays_noted_for_the_next_collector(sqlite_address: str) -> None:
    with as_collector(sqlite_address) as lock:
        assert lock.before is None
        lock.note(LedgerNote("2026-11-20T12:00:00+00:00", 7))
    with as_collector(sqlite_address) as lock:
        assert lock.before == LedgerNote("2026-11-20T12:00:00+00:00", 7)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"ledger_born_at": 1, "ledger_revision": "x"}'])
def test_a_lock_file_that_cannot_be_read_is_a_lock_all_the_same(
    sqlite_address: str, tmp_path: Path, content: bytes
) -> None:
    lock_path(tmp_path / "ledger.sqlite").write_bytes(content)
    with as_collector(sqlite_address) as lock:
        assert lock.before is None
        with pytest.raises(LedgerInUseError):
            take_collector_lock(sqlite_address)


def test_a_session_that_was_lost_is_taken_up_again_unless_another_collector_came_first(postgresql_address: str) -> None:
    lock = take_collector_lock(postgresql_address)
    _end_sessions(postgresql_address)
    lock.check()
    with pytest.raises(LedgerInUseError):
        take_collector_lock(postgresql_address)
    _end_sessions(postgresql_address)
    with as_collector(postgresql_address), pytest.raises(LedgerInUseError, match="already has a collector"):
        lock.check()
    lock.check()
    lock.release()


def test_a_lock_outlives_the_limit_of_sessions_that_do_nothing(postgresql_address: str) -> None:
    """Another collector could take one that the server has ended, and the first would notice when it writes next."""
    address = postgresql_address + "?options=-c%20idle_session_timeout%3D50ms"
    lock = take_collector_lock(address)
    idle = create_engine(address, isolation_level="AUTOCOMMIT")
    with idle.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        watching = create_engine(postgresql_address, isolation_level="AUTOCOMMIT")
        with watching.connect() as watcher:
            alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            end = time.monotonic() + 20
            while watcher.scalar(alive, {"pid": pid}):
                assert time.monotonic() < end, "the server ends sessions that do nothing"
    with pytest.raises(LedgerInUseError, match="already has a collector"):
        take_collector_lock(address)
    lock.release()
    for engine in (idle, watching):
        engine.dispose()


def _end_sessions(address: str) -> None:
    """Do what a fail-over does."""
    engine = create_engine(address)
    with engine.begin() as connection:
        ended = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'fal-exporter %'"
        )
        assert connection.execute(ended).all()
    engine.dispose()


def test_a_collector_whose_place_was_taken_writes_nothing_more(
    postgresql_address: str, clock: Callable[[], datetime]
) -> None:
    ledger = Ledger(postgresql_address, rules=Rules(), clock=clock, lock=take_collector_lock(postgresql_address))
    _end_sessions(postgresql_address)
    with as_collector(postgresql_address):
        with pytest.raises(LedgerInUseError):
            ledger.activate({"main": ("models",)})
        with pytest.raises(LedgerInUseError):
            ledger.view()
    ledger.close()


def test_a_folder_that_cannot_be_written_is_named_as_by_the_database(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="its directory must exist"):
        take_collector_lock(f"sqlite:///{tmp_path}/missing/ledger.sqlite")
    with pytest.raises(ConfigurationError, match="is not a database address"):
        take_collector_lock("nonsense")


def test_a_database_in_memory_is_nobody_elses() -> None:
    locks = [take_collector_lock("sqlite://"), take_collector_lock("sqlite:///:memory:")]
    for lock in locks:
        lock.check()
        lock.note(LedgerNote("", 0))
        lock.release()
