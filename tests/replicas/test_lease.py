import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest
from sqlalchemy import create_engine, text

from exporter.charges import Balance, nano, uptime, utc_now
from exporter.errors import ConfigurationError
from exporter.ledger import Ledger, LedgerInUseError, Rules, take_collector_lock
from exporter.replicas.lease import TERM, Candidate, Leader, Lease, Leases, LostLeaseError, is_newer

BALANCE = Balance("acme", nano(100), datetime(2026, 11, 20, 12, tzinfo=UTC))


class Asks(Protocol):
    """Returns what asks for the lease as the replica of a name."""

    def __call__(self, replica: str, *, term: float = TERM, monotonic: Callable[[], float] = uptime) -> Leases: ...


@pytest.fixture
def asks(postgresql_address: str) -> Iterator[Asks]:
    """Return what asks for the lease as the replica of a name; leases that were granted are released at the end."""
    made: list[Leases] = []

    def make(replica: str, *, term: float = TERM, monotonic: Callable[[], float] = uptime) -> Leases:
        candidate = Candidate(replica, "0.3.0", "abc")
        made.append(Leases(postgresql_address, candidate, term=term, monotonic=monotonic))
        return made[-1]

    yield make
    for leases in made:
        leases.close()


def granted(leases: Leases) -> Lease:
    lease = leases.ask()
    assert isinstance(lease, Lease)
    return lease


def is_held(lease: Lease) -> bool:
    return lease.is_held


def execute(address: str, statement: str) -> object:
    """Run a statement as another replica or a person would; return the first value of a question."""
    engine = create_engine(address)
    with engine.begin() as connection:
        result = connection.execute(text(statement))
        value = result.scalar() if result.returns_rows else None
    engine.dispose()
    return value


def opened(address: str, lease: Lease) -> Ledger:
    return Ledger(address, rules=Rules(), clock=utc_now, lock=lease, first_number=lease.first_number)


def test_one_replica_has_the_lease_and_the_others_are_told_who(asks: Asks) -> None:
    lease = granted(asks("a"))
    leader = asks("b").ask()
    assert isinstance(leader, Leader)
    assert (leader.replica, leader.version, leader.configuration) == ("a", "0.3.0", "abc")
    assert lease.is_held
    lease.release()


def test_a_lease_that_is_released_is_free_at_once_and_numbers_go_on(asks: Asks) -> None:
    first = granted(asks("a"))
    first.release()
    second = granted(asks("b"))
    assert second.token != first.token
    assert second.first_number > first.first_number
    second.go_on_from(before := second.first_number + 10)
    assert second.first_number == before
    second.release()


def test_a_lease_is_renewed_while_its_holder_lives(asks: Asks) -> None:
    lease, others = granted(asks("a", term=0.4)), asks("b", term=0.4)
    pause = threading.Event()
    for _ in range(10):
        pause.wait(0.1)
        assert isinstance(others.ask(), Leader)
    assert lease.is_held
    lease.release()


def test_a_holder_that_cannot_renew_counts_itself_out_by_its_own_clock(asks: Asks) -> None:
    seconds = 0.0
    lease = granted(asks("a", monotonic=lambda: seconds))
    lease.permit()
    seconds = 10.0
    assert not lease.is_held
    with pytest.raises(LostLeaseError, match="nothing more is written or polled"):
        lease.permit()
    lease.release()


def test_a_write_with_a_token_that_is_another_replicas_by_now_is_refused(asks: Asks, postgresql_address: str) -> None:
    zombie = granted(asks("a", monotonic=lambda: 0.0))
    ledger = opened(postgresql_address, zombie)
    ledger.record_balance(BALANCE)
    before = ledger.revision
    execute(postgresql_address, "UPDATE replica_lease SET token = 'of another replica'")
    assert is_held(zombie), "by its own clock"
    with pytest.raises(LostLeaseError):
        ledger.record_balance(replace(BALANCE, at=BALANCE.at + timedelta(hours=1)))
    assert not is_held(zombie)
    with pytest.raises(LostLeaseError):
        ledger.view()
    ledger.close()
    assert execute(postgresql_address, "SELECT value FROM fact WHERE name = 'revision'") == str(before)


def test_an_exporter_that_is_no_replica_is_refused_and_refuses(asks: Asks, postgresql_address: str) -> None:
    lease = granted(asks("a"))
    with pytest.raises(LedgerInUseError):
        take_collector_lock(postgresql_address)
    lease.release()
    alone = take_collector_lock(postgresql_address)
    with pytest.raises(LedgerInUseError):
        asks("a").ask()
    alone.release()
    granted(asks("b")).release()


def test_an_older_leader_is_asked_to_make_place_for_a_version_it_is_not_readable_for(
    asks: Asks, postgresql_address: str
) -> None:
    lease = granted(asks("a", term=0.4))
    asks("b").ask_to_yield()
    pause = threading.Event()
    while not lease.successor:
        pause.wait(0.05)
    assert lease.successor == "0.3.0"
    lease.release()
    granted(asks("b")).release()
    assert execute(postgresql_address, "SELECT successor FROM replica_lease") == ""


def test_versions_are_compared_by_their_numbers() -> None:
    assert is_newer("0.10.0", than="0.9.1")
    assert not is_newer("0.3.0", than="0.3.0")


def test_a_ledger_in_a_file_has_no_replicas() -> None:
    with pytest.raises(ConfigurationError, match="needs a ledger in PostgreSQL"):
        Leases("sqlite:///ledger.sqlite", Candidate("a", "0.3.0", "abc"))


ZOMBIE = """
import sys
from datetime import UTC, datetime
from exporter.charges import Balance, utc_now
from exporter.ledger import Ledger, Rules
from exporter.replicas.lease import Candidate, Leases

lease = Leases(sys.argv[1], Candidate("zombie", "0.3.0", "abc"), term=1.0).ask()
ledger = Ledger(sys.argv[1], rules=Rules(), clock=utc_now, lock=lease)
def stopped_within_a_write():
    with ledger._session.writing() as (connection, contents):
        connection.exec_driver_sql("UPDATE fact SET value = 'spoilt' WHERE name = 'born_at'")
        print("writing", flush=True)
        sys.stdin.readline()
try:
    stopped_within_a_write()
except Exception as error:
    print(type(error).__name__, flush=True)
try:
    ledger.record_balance(Balance("acme", 1, datetime(2026, 11, 20, tzinfo=UTC)))
except Exception as error:
    print(type(error).__name__, flush=True)
"""


@pytest.mark.long
def test_a_replica_that_was_stopped_within_a_write_is_succeeded_and_writes_nothing_when_it_goes_on(
    asks: Asks, postgresql_address: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", ZOMBIE, postgresql_address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as zombie:
        assert zombie.stdout is not None
        assert zombie.stdin is not None
        assert zombie.stdout.readline() == "writing\n"
        zombie.send_signal(signal.SIGSTOP)
        leases, pause = asks("b"), threading.Event()
        while not isinstance(lease := leases.ask(), Lease):
            pause.wait(0.2)
        ledger = opened(postgresql_address, lease)
        ledger.record_balance(BALANCE)
        zombie.send_signal(signal.SIGCONT)
        zombie.stdin.write("\n")
        zombie.stdin.flush()
        assert zombie.stdout.readline() == "LedgerError\n", "its session has been ended"
        assert zombie.stdout.readline() == "LostLeaseError\n"
        ledger.record_balance(replace(BALANCE, at=BALANCE.at + timedelta(hours=1)))
        assert ledger.condition.problem == ""
        ledger.close()
    assert execute(postgresql_address, "SELECT count(*) FROM balance WHERE amount = 1") == 0
    assert execute(postgresql_address, "SELECT count(*) FROM fact WHERE value = 'spoilt'") == 0
