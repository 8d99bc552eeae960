import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.database import reading

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
