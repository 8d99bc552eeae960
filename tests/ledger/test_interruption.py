"""Statements that end within the database once nobody waits for them."""

import threading
from collections.abc import Callable

import pytest
from queries.conftest import LONG_STATEMENTS

from exporter.charges import utc_now
from exporter.errors import LedgerError
from exporter.ledger import Ledger, Rules
from exporter.ledger.reader import LedgerReader


class LeftError(Exception):
    """Nobody waits any more."""


def leaving_after(looks: int) -> Callable[[], None]:
    """Return a check that raises from its call of that number on, in whatever thread."""
    numbers = iter(range(looks))

    def check() -> None:
        if next(numbers, None) is None:
            raise LeftError

    return check


def ask(reader: LedgerReader, statement: str, check: Callable[[], None] | None) -> object:
    with reader.snapshot(check) as ledger:
        return ledger._connection.exec_driver_sql(statement).scalar()


@pytest.fixture
def reader(address: str) -> LedgerReader:
    Ledger(address, rules=Rules(), clock=utc_now).close()
    return LedgerReader(address)


def test_a_long_statement_ends_when_its_caller_leaves_and_the_next_is_answered(
    address: str, reader: LedgerReader
) -> None:
    with pytest.raises(LeftError):
        ask(reader, LONG_STATEMENTS[address.partition(":")[0].partition("+")[0]], leaving_after(3))
    for check in (None, leaving_after(10**6)):
        assert ask(reader, "SELECT 7", check) == 7
    reader.close()


def test_another_error_stays_what_it_is_while_somebody_waits(reader: LedgerReader) -> None:
    with pytest.raises(LedgerError, match="nothing_of_that_name"):
        ask(reader, "SELECT * FROM nothing_of_that_name", leaving_after(10**6))
    reader.close()


def test_nothing_watches_when_nothing_is_read(reader: LedgerReader) -> None:
    ask(reader, "SELECT 7", leaving_after(10**6))
    watching = [thread for thread in threading.enumerate() if thread.name == "interruption"]
    for thread in watching:
        thread.join(10)
    assert not any(thread.is_alive() for thread in watching)
    reader.close()
