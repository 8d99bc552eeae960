from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import create_engine, text

from exporter.charges import hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.schema import SCHEMA_VERSION, first_hour_from, hour_number, hour_start

OpenLedger = Callable[..., Ledger]
INSTANTS = st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)).map(lambda it: it.replace(tzinfo=UTC))  # noqa: DTZ001  made aware here


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


def test_another_program_s_table_is_left_alone(open_ledger: OpenLedger, address: str) -> None:
    tamper(address, "CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT)")
    with pytest.raises(LedgerError, match="give it an own database"):
        open_ledger()


def test_a_ledger_is_born_once(open_ledger: OpenLedger, clock: object) -> None:
    born = open_ledger().view().born_at
    clock.forward(days=3)  # type: ignore[attr-defined]  the fixture's clock
    assert open_ledger().view().born_at == born
