"""A ledger that was written while the clock was wrong, and is written again once it is right."""

from datetime import datetime, timedelta

import pytest
from ledger.conftest import Clock, OpenLedger
from ledger.test_store import activated, charge, hours_ago, last, release, restate, spend, values

from exporter.charges import Balance, hour_of
from exporter.ledger import Ledger

AHEAD = 3


@pytest.fixture
def ahead(open_ledger: OpenLedger, clock: Clock) -> Ledger:
    """A ledger that has polled for a while, last by a clock that was three hours ahead, and is right again."""
    ledger = activated(open_ledger(labels=("account", "model")))
    restate(ledger, clock, [charge(hours_ago(clock, 1), 10)], back=72)
    clock.forward(hours=AHEAD)
    restate(ledger, clock, [], back=2)
    ledger.record_balance(Balance("main", 900, clock.now))
    clock.forward(hours=-AHEAD)
    return ledger


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return activated(open_ledger(labels=("account", "model")))


def stamps(ledger: Ledger) -> tuple[datetime | None, ...]:
    [state] = ledger.scopes()
    return state.data_through, state.settled_through, state.last_success_at, state.running_hour_read_at


def test_no_stamp_of_the_future_is_shown(ahead: Ledger, clock: Clock) -> None:
    hour = hour_of(clock.now)
    assert stamps(ahead) == (hour, hour - timedelta(hours=48), clock.now, clock.now)
    [balance] = ahead.view().balances
    assert balance.at == clock.now


def test_the_next_poll_puts_the_stamps_right_for_good(ahead: Ledger, clock: Clock, open_ledger: OpenLedger) -> None:
    polled_at = clock.now
    restate(ahead, clock, [])
    ahead.close()
    clock.forward(hours=AHEAD)  # as if the clamp were all there is, the wrong stamps would be back
    [state] = activated(open_ledger(labels=("account", "model"))).scopes()
    assert (state.data_through, state.last_success_at) == (hour_of(polled_at), polled_at)
    assert state.running_hour_read_at == polled_at


def test_a_restart_keeps_no_stamp_of_the_future(ahead: Ledger, clock: Clock, open_ledger: OpenLedger) -> None:
    ahead.close()
    assert stamps(activated(open_ledger(labels=("account", "model"))))[0] == hour_of(clock.now)


def test_hours_that_were_taken_for_complete_are_filled_without_a_restatement(ahead: Ledger, clock: Clock) -> None:
    restate(ahead, clock, [charge(hours_ago(clock, 1), 10), charge(hours_ago(clock, 0), 7)])
    clock.forward(hours=1)
    restate(ahead, clock, [charge(hours_ago(clock, 2), 10), charge(hours_ago(clock, 1), 20)])
    view = release(ahead, clock)
    assert spend(view) == {"flux": 20}
    assert values(view.today) == {"flux": 30}
    assert (view.scopes[0].restated_up, view.scopes[0].restated_hours) == (0, 0)


def test_a_ledger_that_was_born_in_the_future_counts_from_when_the_clock_is_right(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    clock.forward(hours=AHEAD)
    ledger = activated(open_ledger(labels=("account", "model")))
    restate(ledger, clock, [])
    clock.forward(hours=-AHEAD)
    restate(ledger, clock, [])
    clock.forward(hours=1, minutes=5)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    assert spend(release(ledger, clock)) == {"flux": 5}


def test_a_counter_that_was_created_in_the_future_is_released_once_a_scrape_has_seen_it(
    ledger: Ledger, clock: Clock
) -> None:
    clock.forward(hours=AHEAD)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    clock.forward(hours=-AHEAD)
    view = ledger.view()
    assert spend(view) == {"flux": 0}
    ledger.scraped(view.sequence)
    assert spend(ledger.view()) == {"flux": 5}


def test_a_balance_of_the_future_is_replaced_by_the_next(ahead: Ledger, clock: Clock, open_ledger: OpenLedger) -> None:
    ahead.record_balance(Balance("main", 700, clock.now))
    assert [(balance.amount, balance.at) for balance in ahead.view().balances] == [(700, clock.now)]
    history = ahead.balance_history("main", clock.now - timedelta(days=1))
    assert [balance.amount for balance in history] == [700]
    ahead.close()
    again = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=2 * AHEAD)
    assert [balance.amount for balance in again.view().balances] == [700]


def test_a_poll_that_was_under_way_when_the_clock_was_set_back_is_put_right_by_the_next(
    ledger: Ledger, clock: Clock
) -> None:
    began_at = clock.forward(hours=AHEAD)
    window = last(clock, 3)
    clock.forward(hours=-AHEAD)
    polled_at = clock.now
    ledger.restate("main", "models", window, [], at=began_at)
    assert stamps(ledger)[2] == polled_at
    restate(ledger, clock, [])
    clock.forward(hours=2 * AHEAD)
    assert stamps(ledger)[0::2] == (hour_of(polled_at), polled_at)
