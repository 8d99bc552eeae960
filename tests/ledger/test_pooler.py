"""PostgreSQL behind PgBouncer, which lends its server connections for one transaction at a time."""

import signal
from collections.abc import Callable
from contextlib import closing
from datetime import datetime

import pytest
from ledger.test_collector_lock import holder
from sqlalchemy import NullPool, make_url, text
from structlog.testing import capture_logs

from exporter.errors import LedgerError
from exporter.ledger import LedgerInUseError, LedgerReader, Rules, take_collector_lock
from exporter.ledger.collector_lock import as_collector
from exporter.ledger.store import Ledger
from exporter.ledger.tables.database import postgresql_engine

Now = Callable[[], datetime]


def test_a_ledger_is_opened_again_and_again(pooled_address: str, clock: Now) -> None:
    born = set()
    for _ in range(3):
        lock = take_collector_lock(pooled_address)
        with closing(Ledger(pooled_address, rules=Rules(), clock=clock, lock=lock)) as ledger:
            for _ in range(7):  # the driver would prepare a statement that comes so often
                ledger.activate({"main": ("models",)})
            born.add(ledger.view().scopes[0].born_at)
            with closing(LedgerReader(pooled_address)) as reader:
                assert reader.revision() > 0
    assert len(born) == 1


@pytest.mark.long
def test_a_second_collector_is_told_who_the_first_is(pooled_address: str) -> None:
    with holder(pooled_address) as first:
        for _ in range(3):  # a session that is lent would give its lock to whoever gets it next
            with pytest.raises(LedgerInUseError, match=f"fal-exporter pid {first.pid} on .*since 20"):
                take_collector_lock(pooled_address)
        first.kill()


def test_a_collector_behind_the_pooler_is_seen_from_beside_it(pooled_address: str, postgresql_server: str) -> None:
    with as_collector(pooled_address), pytest.raises(LedgerInUseError):
        take_collector_lock(postgresql_server)
    with as_collector(postgresql_server), pytest.raises(LedgerInUseError):
        take_collector_lock(pooled_address)


def test_a_killed_collector_leaves_no_lock(pooled_address: str, postgresql_server: str) -> None:
    with holder(pooled_address) as first:
        first.send_signal(signal.SIGKILL)
    take_collector_lock(pooled_address, patience=5).release()
    take_collector_lock(postgresql_server, patience=5).release()


def test_a_lock_that_the_pooler_lost_is_taken_again(pooled_address: str, postgresql_server: str) -> None:
    lock = take_collector_lock(pooled_address)
    engine = postgresql_engine(make_url(postgresql_server), poolclass=NullPool)
    with engine.begin() as connection:
        ended = text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid != pg_backend_pid()")
        assert connection.scalar(ended)
    lock.check()
    with pytest.raises(LedgerInUseError):
        take_collector_lock(pooled_address)
    lock.release()


def test_what_the_lock_costs_the_pooler_is_logged_once(pooled_address: str, postgresql_address: str) -> None:
    with capture_logs() as logs, as_collector(pooled_address) as lock:
        lock.check()
    (told,) = logs
    assert told["event"] == (
        "PostgreSQL is reached through a pooler: one of its server connections stays with the collector, in an open "
        "transaction that holds the lock"
    )
    with capture_logs() as logs, as_collector(postgresql_address):
        pass
    assert logs == []


def test_statements_are_prepared_only_where_no_pooler_is_between(pooled_address: str, postgresql_server: str) -> None:
    found = []
    for address in (pooled_address, postgresql_server):
        engine = postgresql_engine(make_url(address), poolclass=NullPool)
        with engine.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            found.append(driver.prepare_threshold)
    assert found == [None, 5]


def test_a_search_path_in_the_address_is_refused_with_the_reason(pooled_address: str) -> None:
    with pytest.raises(LedgerError, match=r"pooler that refuses the options in its address.*ALTER ROLE"):
        take_collector_lock(f"{pooled_address}?options=-c%20search_path%3Dteam_b")
