from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, UnitPrice, Window
from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.export import open_statement

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
WINDOW = Window(NOON - 4 * HOUR, NOON)
FLUX = Dimensions("main", product="model_apis", model="fal-ai/flux", unit="image")
APP = Dimensions("main", product="serverless", app="shop", gpu_class="H100", unit="second")


class OpenLedger(Protocol):
    def __call__(self, **rules: object) -> Ledger: ...


def amounts(cost: int) -> Amounts:
    return Amounts(3 * NANO, 0, cost + 1, 1, cost)


def filled(open_ledger: OpenLedger) -> Ledger:
    ledger = open_ledger()
    ledger.activate({"main": ("models", "serverless"), "other": ("models",)})
    for source, dimensions in (("models", FLUX), ("serverless", APP)):
        charges = [Charge(hour, dimensions, amounts(place + 1)) for place, hour in enumerate(WINDOW.hours())]
        ledger.restate("main", source, WINDOW, charges[::-1], at=NOON + HOUR)
    elsewhere = FLUX._replace(account="other")
    ledger.restate("other", "models", WINDOW, [Charge(WINDOW.start, elsewhere, amounts(100))], at=NOON + HOUR)
    return ledger


def test_charges_come_by_the_hour_from_all_sources(address: str, open_ledger: OpenLedger) -> None:
    filled(open_ledger)
    with open_statement(address) as statement:
        found = list(statement.charges(Window(WINDOW.start, WINDOW.start + 2 * HOUR)))
        assert statement.accounts == ("main", "other")
    assert [(it.hour, it.dimensions, it.amounts.cost) for it in found] == [
        (WINDOW.start, FLUX, 1),
        (WINDOW.start, APP, 1),
        (WINDOW.start, FLUX._replace(account="other"), 100),
        (WINDOW.start + HOUR, FLUX, 2),
        (WINDOW.start + HOUR, APP, 2),
    ]
    assert found[0].amounts == amounts(1)


def test_one_account_can_be_asked_for(address: str, open_ledger: OpenLedger) -> None:
    filled(open_ledger)
    with open_statement(address, "other") as statement:
        assert [it.amounts.cost for it in statement.charges(WINDOW)] == [100]
    with open_statement(address, "nobody") as statement:
        assert statement.accounts == ()
        assert list(statement.charges(WINDOW)) == []


def test_a_source_that_others_have_taken_the_place_of_is_not_counted(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    ledger.activate({"main": ("organization",), "other": ("models",)})
    with open_statement(address) as statement:
        assert [it.amounts.cost for it in statement.charges(WINDOW)] == [100]


def test_one_state_is_read_while_the_exporter_goes_on_writing(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    with open_statement(address) as statement:
        charges = statement.charges(WINDOW)
        first = next(charges)
        ledger.restate("main", "models", WINDOW, [], at=NOON + 2 * HOUR)
        assert sum(it.amounts.cost for it in (first, *charges)) == 10 + 10 + 100
    with open_statement(address) as statement:
        assert sum(it.amounts.cost for it in statement.charges(WINDOW)) == 10 + 100


def test_hours_that_no_poll_has_covered_to_their_end_are_missing(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    with open_statement(address) as statement:
        assert statement.coverage(WINDOW).missing == 0
        assert statement.coverage(Window(WINDOW.start, NOON + 2 * HOUR)).missing == 2, "hours, however many sources"
        assert statement.coverage(WINDOW).kept_from is None
    ledger.restate("main", "models", Window(NOON, NOON + HOUR), [], at=NOON + timedelta(minutes=30))
    with open_statement(address) as statement:
        assert statement.coverage(Window(WINDOW.start, NOON + HOUR)).missing == 1


def test_hours_whose_charges_have_been_folded_are_told(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    horizon = NOON - timedelta(days=60)
    ledger.fold_before(horizon)
    with open_statement(address) as statement:
        assert statement.coverage(WINDOW).kept_from == horizon


def test_prices_are_the_newest(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    price = UnitPrice("main", "model_apis", "fal-ai/flux", "", "", "image", NOON, 25_000_000, 10 * NANO)
    ledger.record_prices([price])
    with open_statement(address) as statement:
        assert list(statement.prices().values()) == [price]


def test_where_there_is_no_ledger_an_error_says_so(sqlite_address: str) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"), open_statement(sqlite_address):
        pass
