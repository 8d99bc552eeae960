import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine, inspect, text

from exporter.charges import Bill, Window, first_hour_from, hour_number, hour_of, hour_start
from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.tables.schema import SCHEMA_VERSION, metadata

OpenLedger = Callable[..., Ledger]
INSTANTS = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)).map(lambda item: item.replace(tzinfo=UTC))  # noqa: DTZ001  made aware here


@given(INSTANTS)
def test_an_hour_and_its_number_stand_for_each_other(instant: datetime) -> None:
    hour = hour_of(instant)
    assert hour_start(hour_number(hour)) == hour


@given(INSTANTS)
def test_the_first_hour_from_an_instant_begins_at_it_or_within_the_next_hour(instant: datetime) -> None:
    wait = hour_start(first_hour_from(instant)) - instant
    assert timedelta(0) <= wait < timedelta(hours=1)


def tamper(address: str, statement: str) -> None:
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


def test_a_ledger_of_a_newer_exporter_is_refused(open_ledger: OpenLedger, address: str) -> None:
    open_ledger().close()
    assert SCHEMA_VERSION < 1000
    tamper(address, "UPDATE fact SET value = '1000' WHERE name = 'schema'")
    with pytest.raises(LedgerError, match="run the newer exporter again"):
        open_ledger()


def of_version_1(path: Path) -> None:
    """Make a ledger as the exporter of version 1 of the schema left it: two hours, a counter, a balance, an invoice."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((Path(__file__).parent / "version-1.sql").read_text())


def test_a_ledger_of_version_1_goes_on_where_it_was(tmp_path: Path, open_sqlite: OpenLedger) -> None:
    of_version_1(tmp_path / "ledger.sqlite")
    ledger = open_sqlite(birth_hold=timedelta(0))
    ledger.activate({"prod": ["models"]})
    view = ledger.view()
    (spend,) = [sample for page in view.spend for sample in page.samples]
    assert (spend.labels[3], spend.value) == ("fal-ai/flux/dev", 80_000_000)
    assert (view.charges, view.balances[0].amount) == (2, 7_374_792_800)
    assert view.reconciliations == ()
    october = Window(datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC))
    assert ledger.reconcile(Bill("prod", "invoice", october, 0, {}), at=october.end).difference == 480_000_000
    ledger.close()
    again = open_sqlite()
    again.activate({"prod": ["models"]})
    assert [reconciliation.ledger for reconciliation in again.view().reconciliations] == [480_000_000]


def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path, open_sqlite: OpenLedger) -> None:
    of_version_1(tmp_path / "ledger.sqlite")
    open_sqlite().close()
    engine = create_engine("sqlite:///:memory:")
    metadata.create_all(engine)
    assert tables(create_engine(f"sqlite:///{tmp_path / 'ledger.sqlite'}")) == tables(engine)
    assert SCHEMA_VERSION == 6


def test_a_migration_that_fails_leaves_the_older_ledger_as_it_was(tmp_path: Path, open_sqlite: OpenLedger) -> None:
    path = tmp_path / "ledger.sqlite"
    of_version_1(path)
    tamper(f"sqlite:///{path}", "CREATE TABLE reconciliation (note TEXT)")
    with pytest.raises(LedgerError):
        open_sqlite()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT value FROM fact WHERE name = 'schema'").fetchall() == [("1",)]


def tables(engine: Engine) -> dict[str, list[str]]:
    found = inspect(engine)
    shown = {
        name: [f"{column['name']} {column['type']} {column['nullable']}" for column in found.get_columns(name)]
        for name in found.get_table_names()
    }
    engine.dispose()
    return shown


def test_another_program_s_table_is_left_alone(open_ledger: OpenLedger, address: str) -> None:
    tamper(address, "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT)")
    with pytest.raises(LedgerError, match="give it its own database"):
        open_ledger()


def test_a_ledger_is_born_once(open_ledger: OpenLedger, clock: object) -> None:
    born = open_ledger().view().born_at
    clock.forward(days=3)  # type: ignore[attr-defined]  # the fixture's clock
    assert open_ledger().view().born_at == born
