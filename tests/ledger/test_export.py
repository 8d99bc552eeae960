"""The ledgers of these tests are born at 12:30: hour 12 was running, hour 11 is the last that was complete."""

import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pytest

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Invoice, UnitPrice, Window, hour_number, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.export import History, Past, open_statement
from exporter.ledger.tables.database import reading

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
    assert [(item.hour, item.dimensions, item.amounts.cost) for item in found] == [
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
        assert [charge.amounts.cost for charge in statement.charges(WINDOW)] == [100]
    with open_statement(address, "nobody") as statement:
        assert statement.accounts == ()
        assert list(statement.charges(WINDOW)) == []


def test_a_source_that_others_have_taken_the_place_of_is_not_counted(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    ledger.activate({"main": ("organization",), "other": ("models",)})
    with open_statement(address) as statement:
        assert [charge.amounts.cost for charge in statement.charges(WINDOW)] == [100]


def test_one_state_is_read_while_the_exporter_goes_on_writing(address: str, open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger)
    with open_statement(address) as statement:
        charges = statement.charges(WINDOW)
        first = next(charges)
        ledger.restate("main", "models", WINDOW, [], at=NOON + 2 * HOUR)
        assert sum(item.amounts.cost for item in (first, *charges)) == 10 + 10 + 100
    with open_statement(address) as statement:
        assert sum(charge.amounts.cost for charge in statement.charges(WINDOW)) == 10 + 100


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
        assert [record.newest for record in statement.prices().values()] == [price]


def test_invoices_are_those_of_the_accounts_and_an_empty_window_is_known_for_one(
    address: str, open_ledger: OpenLedger
) -> None:
    ledger = filled(open_ledger)
    dates = (datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC), None, None)
    for account in ("main", "other"):
        invoice = Invoice(account, f"in_{account}", "1", "open", *dates, "USD", NANO, 0, 0, NANO)
        ledger.record_invoices(account, [invoice])
    with open_statement(address) as statement:
        assert {item.id for item in statement.invoices()} == {"in_main", "in_other"}
        assert statement.has_charges(WINDOW)
        assert not statement.has_charges(Window(WINDOW.end, WINDOW.end + HOUR))
    with open_statement(address, "other") as statement:
        assert [item.id for item in statement.invoices()] == ["in_other"]
        assert not statement.has_charges(Window(WINDOW.start + HOUR, WINDOW.end)), "of the other account only"


def test_where_there_is_no_ledger_an_error_says_so(sqlite_address: str) -> None:
    with pytest.raises(LedgerError, match="there is no ledger"), open_statement(sqlite_address):
        pass


OpenLedgerOfHistory = Callable[..., Ledger]

MODEL = Dimensions("studio", product="model_apis", model="flux", unit="image")


class Clock(Protocol):
    now: datetime

    def forward(self, **by: float) -> datetime: ...


def charge(hour: datetime, dollars: int, dimensions: Dimensions = MODEL) -> Charge:
    return Charge(hour, dimensions, Amounts(quantity=3 * dollars * NANO, list_cost=dollars * NANO, cost=dollars * NANO))


def restate(
    ledger: Ledger, clock: Clock, charges: Iterable[Charge], *, source: str = "models", hours: int = 48
) -> None:
    hour = hour_of(clock.now)
    ledger.restate("studio", source, Window(hour - hours * HOUR, hour + HOUR), charges, at=clock.now)


def pasts(address: str, measure: str = "cost") -> list[Past]:
    with reading(address) as connection:
        return list(History(connection, ["studio"]).pasts(measure))


@pytest.fixture
def noon(clock: Clock) -> datetime:
    return hour_of(clock.now)


@pytest.fixture
def ledger(open_ledger: OpenLedgerOfHistory) -> Ledger:
    made = open_ledger(birth_hold=timedelta(0))
    made.activate({"studio": ["models"]})
    return made


def test_what_was_charged_before_the_birth_is_history(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    born = clock.now
    restate(ledger, clock, [charge(noon - 5 * HOUR, 4), charge(noon - HOUR, 2), charge(noon, 1)])
    (past,) = pasts(address)
    hour = hour_number(noon)
    assert past.labels == ("studio", "", "model_apis", "flux", "", "")
    assert past.birth == born
    assert past.known_from == hour - 48
    assert past.hours == {hour - 5: 4 * NANO, hour - 1: 2 * NANO, hour: NANO}
    assert past.total == 7 * NANO


def test_a_quantity_is_told_by_unit(ledger: Ledger, address: str, clock: Clock, noon: datetime) -> None:
    second = MODEL._replace(unit="second")
    restate(ledger, clock, [charge(noon - HOUR, 2), charge(noon - HOUR, 5, second)])
    assert [(past.labels[-1], past.total) for past in pasts(address, "quantity")] == [
        ("image", 6 * NANO),
        ("second", 15 * NANO),
    ]


def test_what_comes_late_for_an_earlier_hour_is_counted_live_and_is_no_history(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    restate(ledger, clock, [charge(noon - HOUR, 2), charge(noon, 1)])
    clock.forward(hours=3)
    restate(ledger, clock, [charge(noon - HOUR, 12), charge(noon, 101), charge(noon + HOUR, 1000)])
    (past,) = pasts(address)
    assert past.total == 3 * NANO
    assert sum(past.hours.values()) == 113 * NANO


def test_what_is_taken_back_after_the_birth_stays_in_the_history_and_the_live_counter_waits(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    restate(ledger, clock, [charge(noon - HOUR, 9)])
    clock.forward(hours=3)
    restate(ledger, clock, [charge(noon - HOUR, 4)])
    (past,) = pasts(address)
    assert past.total == 9 * NANO


def test_a_series_that_began_after_the_birth_has_no_history(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    clock.forward(hours=3)
    restate(ledger, clock, [charge(noon + HOUR, 9)])
    assert pasts(address) == []


def test_other_accounts_are_left_out(ledger: Ledger, address: str, clock: Clock, noon: datetime) -> None:
    ledger.activate({"studio": ["models"], "research": ["models"]})
    restate(ledger, clock, [charge(noon - HOUR, 9)])
    research = charge(noon - HOUR, 5, MODEL._replace(account="research"))
    ledger.restate("research", "models", Window(noon - HOUR, noon), [research], at=clock.now)
    assert [past.labels[0] for past in pasts(address)] == ["studio"]
    with reading(address) as connection, pytest.raises(LedgerError, match="nothing of nobody"):
        History(connection, ["nobody"])


def test_folded_label_sets_are_those_that_the_ledger_has_admitted(
    open_ledger: OpenLedgerOfHistory, address: str, clock: Clock, noon: datetime
) -> None:
    ledger = open_ledger(max_series=1)
    ledger.activate({"studio": ["models"]})
    restate(ledger, clock, [charge(noon - HOUR, 1, MODEL._replace(model=f"model-{number}")) for number in range(5)])
    assert {past.labels[3]: past.total for past in pasts(address)} == {"model-0": NANO, "__other__": 4 * NANO}


def test_hours_before_the_retention_are_the_counters_beginning(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    old = noon - 24 * 80 * HOUR
    restate(ledger, clock, [charge(old, 50), charge(noon - HOUR, 2)], hours=24 * 81)
    assert ledger.fold_before(old + HOUR) == 1
    (past,) = pasts(address)
    assert (past.folded, past.total) == (50 * NANO, 52 * NANO)
    assert past.known_from == hour_number(old + HOUR)


def test_after_a_change_of_labels_all_that_was_known_then_is_history(
    ledger: Ledger, open_ledger: OpenLedgerOfHistory, address: str, clock: Clock, noon: datetime
) -> None:
    restate(ledger, clock, [charge(noon - HOUR, 2)])
    clock.forward(hours=5)
    restate(ledger, clock, [charge(noon - HOUR, 2), charge(noon + 3 * HOUR, 10)])
    ledger.close()
    changed = clock.forward(minutes=1)
    other = open_ledger(labels=("account", "model"))
    other.activate({"studio": ["models"]})
    clock.forward(hours=2)
    restate(other, clock, [charge(noon - HOUR, 3), charge(noon + 3 * HOUR, 10), charge(noon + 7 * HOUR, 100)])
    (past,) = pasts(address)
    assert (past.labels, past.birth, past.total) == (("studio", "flux"), changed, 12 * NANO)


def test_a_source_beside_another_has_a_birth_of_its_own(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    restate(ledger, clock, [charge(noon - HOUR, 2)])
    later = clock.forward(hours=6)
    ledger.activate({"studio": ["models", "serverless"]})
    app = Dimensions("studio", product="serverless", app="mine", unit="second")
    restate(ledger, clock, [charge(noon + HOUR, 7, app)], source="serverless")
    assert {past.labels[2]: (past.birth, past.total) for past in pasts(address)} == {
        "model_apis": (later - timedelta(hours=6), 2 * NANO),
        "serverless": (later, 7 * NANO),
    }


def test_a_source_in_place_of_another_tells_no_hour_that_the_other_has_counted_live(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    born = clock.now
    restate(ledger, clock, [charge(noon - HOUR, 2)])
    clock.forward(hours=6)
    restate(ledger, clock, [charge(noon - HOUR, 2), charge(noon + 2 * HOUR, 20)])
    ledger.activate({"studio": ["organization"]})
    both = [charge(noon - HOUR, 2), charge(noon + 2 * HOUR, 20)]
    restate(ledger, clock, both, source="organization")
    (past,) = pasts(address)
    assert (past.birth, past.total) == (born, 2 * NANO)


def test_a_source_that_came_back_tells_its_hours_before_the_birth(
    ledger: Ledger, address: str, clock: Clock, noon: datetime
) -> None:
    for sources in (["models"], ["organization"], ["models"]):
        ledger.activate({"studio": sources})
        restate(ledger, clock, [charge(noon - HOUR, 2)], source=sources[0])
        clock.forward(hours=6)
    (past,) = pasts(address)
    assert past.total == 2 * NANO


@pytest.mark.parametrize("seed", range(5))
def test_whatever_fal_states_when_history_and_live_counters_add_up_to_the_truth(
    open_sqlite: OpenLedgerOfHistory, sqlite_address: str, clock: Clock, seed: int
) -> None:
    choose = random.Random(seed)  # noqa: S311  no secret
    ledger = open_sqlite(birth_hold=timedelta(0))
    ledger.activate({"studio": ["models"]})
    stated: dict[tuple[datetime, str], int] = {}
    for _ in range(30):
        hour = hour_of(clock.now)
        for _ in range(6):
            stated[hour - choose.randrange(40) * HOUR, choose.choice("abc")] = choose.randrange(100)
        charges = [charge(at, dollars, MODEL._replace(model=model)) for (at, model), dollars in stated.items()]
        window = Window(hour - 45 * HOUR, hour + HOUR)
        ledger.restate("studio", "models", window, [item for item in charges if item.hour in window], at=clock.now)
        clock.forward(minutes=choose.randrange(1, 90))
    with reading(sqlite_address) as connection:
        told = {past.labels[3]: past.total for past in History(connection, ["studio"]).pasts("cost")}
    contents = ledger._session.contents()
    for key, counter in contents.totals.counters.items():
        if key.measure == "cost":
            model = contents.totals.label_values[key.label_set][3]
            truth = sum(dollars for (_, item), dollars in stated.items() if item == model)
            assert told.get(model, 0) + counter.grown == truth * NANO
