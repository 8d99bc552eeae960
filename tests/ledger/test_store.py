import sqlite3
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

import pytest
from sqlalchemy import select

from exporter.charges import HOUR, NANO, Amounts, Balance, Charge, Dimensions, Invoice, UnitPrice, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger, LedgerView
from exporter.ledger.tables.database import open_database
from exporter.ledger.tables.rows import read_scopes, write_scope
from exporter.ledger.tables.schema import series
from exporter.samples import Pages


class Clock(Protocol):
    now: datetime

    def forward(self, **by: float) -> datetime: ...


OpenLedger = Callable[..., Ledger]
TODAY, THIS_MONTH, BOTH_MONTHS = 14, 500, 1300
"""Hours back from noon of 20 November."""

FLUX = Dimensions("main", model="flux", gpu_class="H100", unit="image")
VEO = Dimensions("main", model="veo", unit="second")


def hours_ago(clock: Clock, count: int) -> datetime:
    return hour_of(clock.now) - count * HOUR


def last(clock: Clock, count: int) -> Window:
    """The current hour and so many before it."""
    return Window(hours_ago(clock, count), hours_ago(clock, -1))


def charge(hour: datetime, cost: int, dimensions: Dimensions = FLUX) -> Charge:
    return Charge(hour, dimensions, Amounts(quantity=NANO, list_cost=cost, cost=cost))


def values(pages: Pages, place: int = 1) -> dict[str, float]:
    """The samples by the value of one label, the model's unless told otherwise."""
    return {sample.labels[place]: sample.value for page in pages for sample in page.samples}


def spend(view: LedgerView) -> dict[str, float]:
    return values(view.spend)


def activated(ledger: Ledger, *sources: str) -> Ledger:
    ledger.activate({"main": sources or ("models",)})
    return ledger


def release(ledger: Ledger, clock: Clock) -> LedgerView:
    """Let a scrape see what there is, and the hold pass."""
    ledger.scraped(ledger.view().sequence)
    clock.forward(minutes=2)
    return ledger.view()


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return activated(open_ledger(labels=("account", "model")))


def restate(ledger: Ledger, clock: Clock, charges: Iterable[Charge], back: int = 3, source: str = "models") -> None:
    ledger.restate("main", source, last(clock, back), charges, at=clock.now)


def test_history_is_no_spike_and_the_month_is_right_at_once(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [charge(hours_ago(clock, 2), 700), charge(hours_ago(clock, 0), 5)], back=THIS_MONTH)
    view = release(ledger, clock)
    assert spend(view) == {"flux": 0}
    assert values(view.month_to_date) == {"flux": 705}
    assert view.totals["main"].month_to_date == 705


def test_an_hour_that_was_running_at_the_birth_is_counted_from_where_it_stood(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    release(ledger, clock)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 12)])
    assert spend(ledger.view()) == {"flux": 7}


def test_a_counter_made_by_history_that_grows_before_its_first_scrape_is_held_at_zero(
    ledger: Ledger, clock: Clock
) -> None:
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    restate(ledger, clock, [charge(hours_ago(clock, 0), 9)])
    clock.forward(minutes=10)
    assert spend(ledger.view()) == {"flux": 0}
    assert spend(release(ledger, clock)) == {"flux": 4}


def test_where_nobody_scrapes_a_push_shows_the_zero_of_a_new_series(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    restate(ledger, clock, [charge(hours_ago(clock, 0), 9)])
    clock.forward(minutes=2)
    pushed = ledger.view().sequence
    assert spend(ledger.view()) == {"flux": 0}
    ledger.scraped(pushed, is_push=True)
    assert spend(ledger.view()) == {"flux": 4}


def test_where_somebody_scrapes_no_push_shows_the_zero_of_a_new_series(ledger: Ledger, clock: Clock) -> None:
    clock.forward(minutes=30)
    ledger.scraped(ledger.view().sequence)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    clock.forward(minutes=1)
    ledger.scraped(ledger.view().sequence, is_push=True)
    clock.forward(seconds=59)
    assert not any(spend(ledger.view()).values())
    clock.forward(minutes=1)
    assert not any(spend(ledger.view()).values()), "a scrape is due, and the push was before it"
    ledger.scraped(ledger.view().sequence)
    assert spend(ledger.view()) == {"flux": 5}


def test_a_new_series_is_held_again_after_a_restart_inside_its_hold(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=2)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5), charge(hours_ago(clock, 0), 6, VEO)])
    ledger.scraped(ledger.view().sequence)
    ledger.close()
    clock.forward(minutes=5)
    ledger = activated(open_ledger(labels=("account", "model")))
    ledger.scraped(99)
    assert spend(ledger.view()) == {"flux": 0, "veo": 0}
    assert spend(release(ledger, clock)) == {"flux": 5, "veo": 6}


def test_the_hours_of_an_outage_are_counted_when_they_are_caught_up(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [])
    clock.forward(days=3)
    restate(ledger, clock, [charge(hours_ago(clock, n), 1) for n in range(72)], back=73)
    assert spend(release(ledger, clock)) == {"flux": 72}


def test_a_take_back_makes_the_counter_wait_and_the_wait_is_told(ledger: Ledger, clock: Clock) -> None:
    clock.forward(hours=1)
    hour = hours_ago(clock, 0)
    restate(ledger, clock, [charge(hour, 100)])
    release(ledger, clock)
    restate(ledger, clock, [charge(hour, 60)])
    view = ledger.view()
    assert (spend(view), values(view.pending), values(view.current_hour)) == ({"flux": 100}, {"flux": 40}, {"flux": 60})
    restate(ledger, clock, [charge(hour, 130)])
    view = ledger.view()
    assert (spend(view), values(view.pending)) == ({"flux": 130}, {"flux": 0})


def test_what_moves_between_series_of_one_label_set_does_not_move_their_counter(ledger: Ledger, clock: Clock) -> None:
    clock.forward(hours=1)
    hour = hours_ago(clock, 0)
    restate(ledger, clock, [charge(hour, 100, FLUX._replace(api_key="old"))])
    release(ledger, clock)
    restate(ledger, clock, [charge(hour, 100, FLUX._replace(api_key="new"))])
    view = ledger.view()
    assert (spend(view), values(view.pending)) == ({"flux": 100}, {"flux": 0})


def test_two_sources_of_one_account_move_the_counter_of_their_common_label_set(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = activated(open_ledger(labels=("account", "model")), "models", "serverless")
    clock.forward(hours=1)
    for source, cost in (("models", 3), ("serverless", 4)):
        restate(ledger, clock, [charge(hours_ago(clock, 0), cost)], source=source)
    assert spend(release(ledger, clock)) == {"flux": 7}


def test_what_changes_in_a_complete_hour_is_a_restatement_in_a_running_one_is_not(ledger: Ledger, clock: Clock) -> None:
    clock.forward(hours=1)
    hour = hours_ago(clock, 0)
    restate(ledger, clock, [charge(hour, 10)])
    restate(ledger, clock, [charge(hour, 20)])
    clock.forward(hours=1)
    restate(ledger, clock, [charge(hour, 30)])
    restate(ledger, clock, [charge(hour, 25), charge(hour, 1, VEO)])
    [state] = ledger.view().scopes
    assert (state.restated_up, state.restated_down, state.restated_hours) == (1, 5, 1)


def test_polling_twice_changes_nothing_and_says_so(ledger: Ledger, clock: Clock) -> None:
    charges = [charge(hours_ago(clock, n), n + 1) for n in range(3)]
    first = ledger.restate("main", "models", last(clock, 3), charges, at=clock.now)
    before = ledger.view()
    again = ledger.restate("main", "models", last(clock, 3), reversed(charges), at=clock.now)
    after = ledger.view()
    assert (first.added, again.is_empty) == (3, True)
    assert (after.spend, after.month_to_date) == (before.spend, before.month_to_date), (
        "pages that say the same are kept"
    )


def test_charges_of_the_same_cell_are_added_up(ledger: Ledger, clock: Clock) -> None:
    hour = hours_ago(clock, 1)
    restate(ledger, clock, [charge(hour, 5), charge(hour, 6), charge(hour, 1, VEO), charge(hour, -1, VEO)])
    view = ledger.view()
    assert values(view.last_hour) == {"flux": 11, "veo": 0}


@pytest.mark.parametrize("wrong", [{"hour": 9}, {"account": "other"}])
def test_a_charge_that_is_not_of_the_window_or_the_account_is_refused_and_nothing_written(
    ledger: Ledger, clock: Clock, wrong: dict[str, object]
) -> None:
    bad = charge(
        hours_ago(clock, int(str(wrong.get("hour", 1)))), 1, FLUX._replace(account=str(wrong.get("account", "main")))
    )
    with pytest.raises(ValueError, match=r"window|account"):
        restate(ledger, clock, [charge(hours_ago(clock, 1), 5), bad])
    assert ledger.view().charges == 0
    restate(ledger, clock, [charge(hours_ago(clock, 1), 5)])
    assert ledger.view().charges == 1


def test_a_poll_whose_charges_fail_on_the_way_changes_nothing(ledger: Ledger, clock: Clock) -> None:
    def breaking() -> Iterable[Charge]:
        yield charge(hours_ago(clock, 1), 5)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        restate(ledger, clock, breaking())
    view = ledger.view()
    assert (view.charges, view.label_sets, view.scopes[0].data_through) == (0, 0, None)


def test_an_amount_beyond_64_bits_is_refused_with_a_sentence(ledger: Ledger, clock: Clock) -> None:
    with pytest.raises(LedgerError, match=r"9\.2 billion|out of range"):
        restate(ledger, clock, [charge(hours_ago(clock, 1), 2**63)])
    assert ledger.view().charges == 0


def test_sums_beyond_64_bits_are_exact(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=1)
    largest = 2**63 - 1
    restate(ledger, clock, [charge(hours_ago(clock, 0), largest), charge(hours_ago(clock, 0), largest, VEO)])
    clock.forward(hours=1)
    charges = [charge(hours_ago(clock, n), largest, item) for n in (0, 1) for item in (FLUX, VEO)]
    restate(ledger, clock, charges, back=THIS_MONTH)
    release(ledger, clock)
    ledger.close()
    view = activated(open_ledger(labels=("account", "model"))).view()
    assert spend(view) == values(view.month_to_date) == {"flux": 2 * largest, "veo": 2 * largest}
    assert view.totals["main"].month_to_date == 4 * largest


def test_negative_charges_beyond_64_bits_are_summed_exactly(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger(labels=("account", "model")))
    restate(ledger, clock, [charge(hours_ago(clock, n), -(2**63) + n) for n in range(3)], back=THIS_MONTH)
    ledger.close()
    view = activated(open_ledger(labels=("account", "model"))).view()
    assert values(view.month_to_date) == {"flux": -3 * 2**63 + 3}


def test_an_empty_answer_moves_the_stamps(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [], back=72)
    [state] = ledger.scopes()
    hour = hour_of(clock.now)
    assert (state.data_through, state.settled_through) == (hour, hour - timedelta(hours=48))


def test_hours_beyond_a_gap_count_as_covered_once_the_gap_is_filled(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [])
    clock.forward(hours=10)
    restate(ledger, clock, [], back=3)
    assert ledger.scopes()[0].data_through == hours_ago(clock, 10)
    gap = Window(hours_ago(clock, 10), hours_ago(clock, 3))
    ledger.restate("main", "models", gap, [], at=clock.now)
    assert ledger.scopes()[0].data_through == hours_ago(clock, 0)


def test_folded_hours_leave_no_counter_and_no_gauge_changed_and_are_kept_exactly(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=1)
    old = last(clock, 0)
    restate(ledger, clock, [charge(old.start, 2**62), charge(old.start, -7, VEO)])
    release(ledger, clock)
    clock.forward(days=90)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    before = release(ledger, clock)
    assert ledger.fold_before(clock.now) == 2
    assert ledger.fold_before(clock.now) == 0
    ledger.restate("main", "models", old, [charge(old.start, 1)], at=clock.now)
    after = ledger.view()
    assert (after.spend, after.month_to_date, after.charges) == (before.spend, before.month_to_date, 1)
    ledger.close()
    ledger = activated(open_ledger(labels=("account", "model")))
    assert (spend(ledger.view()), ledger.view().charges) == (spend(before), 1)
    with ledger._session.reading() as connection:
        assert sorted(connection.scalars(select(series.c.folded_cost))) == [-7, 2**62]


def test_the_hours_of_this_month_and_the_last_are_never_folded(ledger: Ledger, clock: Clock) -> None:
    restate(ledger, clock, [charge(datetime(2026, 10, 1, tzinfo=UTC), 5)], back=2000)
    assert ledger.fold_before(clock.now) == 0
    assert values(ledger.view().last_month) == {"flux": 5}


def test_a_restatement_that_overlaps_the_horizon_changes_the_hours_behind_it_alone(
    ledger: Ledger, clock: Clock
) -> None:
    horizon = datetime(2026, 10, 1, tzinfo=UTC)
    window = Window(horizon - HOUR, horizon + HOUR)
    ledger.restate("main", "models", window, [charge(hour, 5) for hour in window.hours()], at=clock.now)
    assert ledger.fold_before(horizon) == 1
    change = ledger.restate("main", "models", window, [charge(hour, 8) for hour in window.hours()], at=clock.now)
    assert (change.added, change.changed, change.removed) == (0, 1, 0)
    ledger.restate("main", "models", Window(window.end, hours_ago(clock, -1)), [], at=clock.now)
    assert values(ledger.view().last_month) == {"flux": 8}


def test_an_account_that_leaves_and_comes_back_goes_on_where_it_was(ledger: Ledger, clock: Clock) -> None:
    clock.forward(hours=1)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    before = spend(release(ledger, clock))
    ledger.activate({"other": ("models",)})
    view = ledger.view()
    assert (spend(view), set(view.totals), len(view.scopes)) == ({}, {"other"}, 1)
    with pytest.raises(LedgerError, match="not active"):
        restate(ledger, clock, [])
    clock.forward(hours=5)
    ledger.activate({"main": ("models",)})
    assert spend(ledger.view()) == before
    restate(ledger, clock, [charge(hours_ago(clock, n), 5) for n in range(6)], back=6)
    assert spend(ledger.view()) == {"flux": 30}


def test_sources_that_are_switched_and_switched_back_count_no_hour_twice(ledger: Ledger, clock: Clock) -> None:
    clock.forward(hours=1)
    for source, costs in (("models", (5,)), ("organization", (5, 8)), ("models", (8, 8))):
        activated(ledger, source)
        for cost in costs:
            restate(ledger, clock, [charge(hours_ago(clock, 0), cost)], back=TODAY, source=source)
            view = release(ledger, clock)
            assert (spend(view), values(view.today)) == ({"flux": cost}, {"flux": cost}), source


def test_a_source_that_takes_another_s_place_counts_the_hours_that_the_other_had_not_covered(
    ledger: Ledger, clock: Clock
) -> None:
    restate(ledger, clock, [])
    clock.forward(hours=5)
    activated(ledger, "organization")
    restate(ledger, clock, [charge(hours_ago(clock, n), 1) for n in range(8)], back=8, source="organization")
    assert spend(release(ledger, clock)) == {"flux": 5}


def test_other_labels_start_all_counters_at_zero_and_the_gauges_stay(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger(labels=("account", "model", "unit")))
    clock.forward(hours=1)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)], back=TODAY)
    release(ledger, clock)
    ledger.close()
    ledger = activated(open_ledger(labels=("account", "model")))
    assert ledger.relabelled
    view = release(ledger, clock)
    assert (spend(view), values(view.today)) == ({"flux": 0}, {"flux": 5})
    restate(ledger, clock, [charge(hours_ago(clock, 0), 6)])
    assert spend(ledger.view()) == {"flux": 1}


def test_the_same_labels_in_another_order_move_no_counter(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=1)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    release(ledger, clock)
    ledger.close()
    ledger = activated(open_ledger(labels=("model", "account")))
    assert not ledger.relabelled
    assert values(ledger.view().spend, 0) == {"flux": 5}


def test_folded_series_stay_folded_and_admitted_ones_admitted_over_restarts(
    open_ledger: OpenLedger, clock: Clock
) -> None:
    clock.forward(hours=1)
    for limit in (2, 1, 2):
        ledger = activated(open_ledger(labels=("account", "model"), max_series=limit))
        charges = [charge(hours_ago(clock, 0), 1, FLUX._replace(model=f"m{n}")) for n in range(4)]
        restate(ledger, clock, charges, back=TODAY)
        view = ledger.view()
        assert values(view.today) == {"m0": 1, "m1": 1, "__other__": 2}
        assert (view.overflowed_series, view.label_sets) == (2, 3)
        ledger.close()


def test_a_second_writer_neither_doubles_nor_loses_anything(open_ledger: OpenLedger, clock: Clock) -> None:
    first = activated(open_ledger(labels=("account", "model")))
    second = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=1)
    hour = hours_ago(clock, 0)
    restate(first, clock, [charge(hour, 5)])
    restate(second, clock, [charge(hour, 5), charge(hour, 6, VEO)])
    restate(first, clock, [charge(hour, 7), charge(hour, 6, VEO)])
    for ledger in (second, first):
        restate(ledger, clock, [charge(hour, 7), charge(hour, 6, VEO)])
        release(ledger, clock)
    assert spend(first.view()) == spend(second.view()) == {"flux": 7, "veo": 6}


def test_a_counter_released_by_a_second_writer_is_released_for_the_first(open_ledger: OpenLedger, clock: Clock) -> None:
    first = activated(open_ledger(labels=("account", "model")))
    clock.forward(hours=1)
    restate(first, clock, [charge(hours_ago(clock, 0), 5)])
    first.scraped(first.view().sequence)
    second = activated(open_ledger(labels=("account", "model")))
    release(second, clock)
    assert spend(first.view()) == {"flux": 5}


def test_a_second_writer_with_other_labels_is_told_apart(open_ledger: OpenLedger, clock: Clock) -> None:
    first = activated(open_ledger(labels=("account", "model")))
    activated(open_ledger(labels=("account", "unit")))
    with pytest.raises(LedgerError, match="FAL_EXPORTER_LABELS"):
        restate(first, clock, [])


def test_created_is_the_same_after_a_restart(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger())
    born = clock.now
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)])
    clock.forward(days=2)
    ledger.close()
    view = activated(open_ledger()).view()
    assert {sample.created for page in view.spend for sample in page.samples} == {born}
    assert view.born_at == born


def test_hours_days_and_months_turn_without_a_poll(ledger: Ledger, clock: Clock) -> None:
    clock.now = datetime(2026, 11, 30, 23, 55, tzinfo=UTC)
    restate(ledger, clock, [charge(hours_ago(clock, 0), 5)], back=BOTH_MONTHS)
    clock.forward(minutes=10)
    view = ledger.view()
    assert (values(view.current_hour), values(view.last_hour)) == ({"flux": 0}, {"flux": 5})
    assert (values(view.today), values(view.last_day)) == ({"flux": 0}, {"flux": 5})
    assert (values(view.month_to_date), values(view.last_month)) == ({"flux": 0}, {"flux": 5})


def test_only_the_pages_that_changed_are_made_anew(ledger: Ledger, clock: Clock) -> None:
    kinds = [FLUX._replace(model=f"m{n:04}") for n in range(1000)]
    hour = hours_ago(clock, 0)
    restate(ledger, clock, [charge(hour, 1, kind) for kind in kinds], back=TODAY)
    before = ledger.view().today
    restate(ledger, clock, [charge(hour, 2 if kind == kinds[0] else 1, kind) for kind in kinds], back=TODAY)
    after = ledger.view().today
    assert [old is new for old, new in zip(before, after, strict=True)] == [False, True, True, True]


def test_prices_balances_invoices_and_choices_are_kept(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = activated(open_ledger())
    price = UnitPrice("main", "model_apis", "flux", "", "", "image", hours_ago(clock, 0), 25_000_000, 0)
    invoice = Invoice(
        *("main", "inv_1", "1", "open", hours_ago(clock, 9), hours_ago(clock, 1), None, None, "USD", 9, 0, 0, 9),
        stated='{"id":"inv_1","pdf":"https://fal.example/\\u0000"}',
    )
    balance = Balance("main", -int(Decimal("0.18") * NANO), clock.now)
    ledger.record_prices([price])
    ledger.record_invoices("main", [invoice])
    ledger.record_balance(balance)
    ledger.record_balance(balance)
    ledger.record_balance(Balance("main", 7, balance.at - HOUR))
    for item in (ledger, activated(open_ledger())):
        view = item.view()
        assert values(view.unit_prices, 2) == {"flux": 25_000_000}
        assert (view.invoices, view.balances) == ((invoice,), (balance,))


def test_the_sources_counted_for_an_account_are_known_though_it_is_not_configured(open_ledger: OpenLedger) -> None:
    ledger = open_ledger()
    assert ledger.counted_sources("main") == ()
    ledger.activate({"main": ("models", "serverless")})
    ledger.activate({"main": ("organization",)})
    ledger.close()
    again = open_ledger()
    assert again.counted_sources("main") == ("organization",)
    assert again.accounts() == {"main"}


def test_saving_how_far_a_source_is_known_does_not_go_through_its_charges(
    open_sqlite: OpenLedger, sqlite_address: str, clock: Clock
) -> None:
    ledger = open_sqlite()
    ledger.activate({"main": ("models",)})
    window = Window(hour_of(clock()) - 100 * HOUR, hour_of(clock()))
    dimensions = [Dimensions("main", model=f"model-{number}") for number in range(50)]
    charges = [Charge(hour, dimension, Amounts(1, 0, 1, 0, 1)) for dimension in dimensions for hour in window.hours()]
    ledger.restate("main", "models", window, charges, at=clock())
    ledger.close()
    steps = 0

    def stepped() -> int:
        nonlocal steps
        steps += 100
        return 0

    engine = open_database(sqlite_address)
    with engine.begin() as connection:
        (scope,) = read_scopes(connection)
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(stepped, 100)
        write_scope(connection, scope)
    engine.dispose()
    assert steps < len(charges)
