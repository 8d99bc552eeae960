"""The ledgers of these tests are born at 12:30: hour 12 was running, hour 11 is the last that was complete."""

import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Protocol

import pytest

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.database import reading
from exporter.ledger.export import History, Past
from exporter.ledger.schema import hour_number

OpenLedger = Callable[..., Ledger]

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
def ledger(open_ledger: OpenLedger) -> Ledger:
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
    open_ledger: OpenLedger, address: str, clock: Clock, noon: datetime
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
    ledger: Ledger, open_ledger: OpenLedger, address: str, clock: Clock, noon: datetime
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
    open_sqlite: OpenLedger, sqlite_address: str, clock: Clock, seed: int
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
        ledger.restate("studio", "models", window, [it for it in charges if it.hour in window], at=clock.now)
        clock.forward(minutes=choose.randrange(1, 90))
    with reading(sqlite_address) as connection:
        told = {past.labels[3]: past.total for past in History(connection, ["studio"]).pasts("cost")}
    contents = ledger._session.contents()
    for key, counter in contents.books.counters.items():
        if key.measure == "cost":
            model = contents.books.label_values[key.label_set][3]
            truth = sum(dollars for (_, it), dollars in stated.items() if it == model)
            assert told.get(model, 0) + counter.grown == truth * NANO
