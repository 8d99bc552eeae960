"""Parcels of hourly samples stay until they have arrived, whatever happens to the ledger meanwhile."""

from datetime import datetime, timedelta
from pathlib import Path

from ledger.conftest import NOON, Clock, OpenLedger

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_number, hour_of
from exporter.ledger import Ledger, Rules
from exporter.ledger.maintenance.moving import move_ledger
from exporter.ledger.tables.remote import Parcel

FLUX = Dimensions("prod", product="model_apis", model="flux", unit="image")
REACH = timedelta(days=31)
START = hour_of(NOON) - 6 * HOUR


def poll(ledger: Ledger, clock: Clock, cost: int = NANO, first: datetime = START) -> None:
    ledger.activate({"prod": ["models"]})
    window = Window(first, hour_of(clock.now) + HOUR)
    charges = [Charge(hour, FLUX, Amounts(0, 0, cost, 0, cost)) for hour in window.hours()]
    ledger.restate("prod", "models", window, charges, at=clock.now)


def sent(ledger: Ledger, reach: timedelta = REACH) -> list[Parcel]:
    found = []
    while parcels := ledger.remote.parcels(reach):
        for parcel in parcels:
            found.append(parcel)
            ledger.remote.arrived(parcel.number)
    return found


def amounts(parcels: list[Parcel]) -> dict[int, int]:
    """Return what gauges of spend say, by hours since the start."""
    sums: dict[int, int] = {}
    for parcel in parcels:
        for of in parcel.samples:
            hour = of.hour - hour_number(START)
            sums[hour] = sums.get(hour, 0) + sum(value for _, value in of.gauge)
    return {hour: amount for hour, amount in sums.items() if amount}


def test_a_parcel_is_the_same_until_it_has_arrived(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    first = ledger.remote.parcels(REACH)
    assert amounts([*first]) == dict.fromkeys(range(6), NANO)
    ledger.close()
    ledger = open_ledger()
    poll(ledger, clock, 2 * NANO)
    assert ledger.remote.parcels(REACH) == first, "it may have arrived as it was"
    assert (ledger.remote.standing().parcels, ledger.remote.standing().through) == (1, hour_of(NOON))
    assert amounts(sent(ledger)) == dict.fromkeys(range(6), 2 * NANO)
    assert sent(ledger) == []


def test_a_correction_is_found_after_a_restart(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    sent(ledger)
    poll(ledger, clock, 3 * NANO, first=hour_of(NOON) - HOUR)
    ledger.close()
    ledger = open_ledger()
    ledger.activate({"prod": ["models"]})
    assert amounts(sent(ledger)) == {5: 2 * NANO}


def test_other_labels_tell_no_hour_again(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    sent(ledger)
    ledger.close()
    ledger = open_ledger(labels=("account", "model"))
    poll(ledger, clock)
    assert amounts(sent(ledger)) == {}
    clock.forward(hours=1)
    poll(ledger, clock)
    (parcel,) = sent(ledger)
    assert parcel.labels == ("account", "model")
    assert amounts([parcel]) == {6: NANO}


def test_an_account_that_is_no_longer_configured_keeps_what_was_told_of_it(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    sent(ledger)
    ledger.activate({"other": ["models"]})
    clock.forward(hours=2)
    assert amounts(sent(ledger)) == {}


def test_sources_that_take_the_place_of_others_are_compared_where_they_have_been_read(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    sent(ledger)
    ledger.activate({"prod": ["organization"]})
    assert amounts(sent(ledger)) == {}, "nothing is known of these hours yet"
    window = Window(START + 4 * HOUR, hour_of(NOON) + HOUR)
    charges = [Charge(hour, FLUX, Amounts(0, 0, 5, 0, 5 * NANO)) for hour in window.hours()]
    ledger.restate("prod", "organization", window, charges, at=clock.now)
    assert amounts(sent(ledger)) == {4: 4 * NANO, 5: 4 * NANO}


def test_history_of_before_what_the_store_takes_is_not_told(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    assert amounts(sent(ledger, timedelta(hours=2))) == {4: NANO, 5: NANO}


def test_what_is_on_its_way_moves_along_to_another_database(
    open_ledger: OpenLedger, clock: Clock, address: str, tmp_path: Path
) -> None:
    ledger = open_ledger()
    poll(ledger, clock)
    sent(ledger)
    poll(ledger, clock, 3 * NANO)
    waiting = ledger.remote.parcels(REACH)
    ledger.close()
    target = f"sqlite:///{tmp_path / 'moved.sqlite'}"
    move_ledger(address, target, on_progress=lambda _: None)
    moved = Ledger(target, rules=Rules(), clock=clock)
    moved.activate({"prod": ["models"]})
    assert moved.remote.parcels(REACH) == waiting
    assert amounts(sent(moved)) == dict.fromkeys(range(6), 2 * NANO)
    assert sent(moved) == []
    moved.close()
