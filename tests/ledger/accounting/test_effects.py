"""Relabelling within an hour books no growth, leaves nothing pending, and is exact to the nano-dollar."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window
from exporter.ledger import Ledger, LedgerView
from exporter.ledger.accounting.effects import moves
from exporter.ledger.accounting.restatement import CellRow, difference
from exporter.ledger.accounting.totals import Place
from exporter.samples import Pages

OpenLedger = Callable[..., Ledger]
PAST = datetime(2026, 11, 20, 10, tzinfo=UTC)
FLUX = Dimensions("prod", product="model_apis", model="flux", unit="request")
SHOP = Dimensions("prod", product="serverless", app="shop", gpu_class="H100", unit="request")
KLING = FLUX._replace(model="kling")
BY_MODEL = Dimensions("prod", product="model_apis", unit="request")


def costs(amount: int) -> Amounts:
    return Amounts(list_cost=amount, cost=amount)


def cell(hour: int, series: int, cost: int, *, quantity: int = 0, gpu_seconds: int = 0) -> CellRow:
    return hour, series, quantity, gpu_seconds, cost, 0, cost


def moved(
    before: list[CellRow],
    after: list[CellRow],
    *,
    units: Mapping[int, str] = {},
    label_set_of: Callable[[int], int] = int,
    history: frozenset[int] = frozenset(),
) -> dict[tuple[int, int, str, str], int]:
    found = moves(
        difference(set(before), after).deltas,
        set(before),
        after,
        is_counted=lambda hour: hour not in history,
        place_of=lambda series: Place(label_set_of(series), units.get(series, "")),
    )
    return {(item.hour, *item.key): item.amount for item in found}


def test_what_vanishes_moves_to_what_appears_and_the_smaller_sum_is_moved() -> None:
    before = [cell(1, 1, 60), cell(1, 2, 40)]
    assert moved(before, [cell(1, 3, 130)]) == {
        (1, 1, "cost", ""): -60,
        (1, 2, "cost", ""): -40,
        (1, 3, "cost", ""): 100,
    }
    assert moved(before, [cell(1, 3, 25), cell(1, 4, 25)]) == {
        (1, 1, "cost", ""): -30,
        (1, 2, "cost", ""): -20,
        (1, 3, "cost", ""): 25,
        (1, 4, "cost", ""): 25,
    }


def test_shares_are_exact_as_what_is_cut_off_is_carried() -> None:
    before = [cell(1, series, 1) for series in (1, 2, 3)]
    shares = moved(before, [cell(1, 4, 2)])
    assert shares == {(1, 2, "cost", ""): -1, (1, 3, "cost", ""): -1, (1, 4, "cost", ""): 2}


def test_an_hour_does_not_pay_for_another() -> None:
    assert moved([cell(1, 1, 60)], [cell(2, 2, 60)]) == {}


def test_a_label_set_that_remains_and_is_lowered_has_not_moved() -> None:
    assert moved([cell(1, 1, 60)], [cell(1, 1, 20), cell(1, 2, 50)]) == {}


def test_a_label_set_that_grows_takes_nothing_from_one_that_vanishes() -> None:
    assert moved([cell(1, 1, 60), cell(1, 2, 10)], [cell(1, 2, 40)]) == {}


def test_label_sets_of_an_hour_whose_sum_stays_were_merged_or_split() -> None:
    split = [cell(1, 1, 5), cell(1, 2, 3)]
    merged = [cell(1, 1, 8)]
    assert moved(split, merged) == {(1, 1, "cost", ""): 3, (1, 2, "cost", ""): -3}
    assert moved(merged, split) == {(1, 1, "cost", ""): -3, (1, 2, "cost", ""): 3}


def test_amounts_that_change_places_between_label_sets_that_stay_have_not_moved() -> None:
    assert moved([cell(1, 1, 5), cell(1, 2, 3)], [cell(1, 1, 4), cell(1, 2, 4)]) == {}


def test_series_of_one_label_set_have_nothing_to_move() -> None:
    assert moved([cell(1, 1, 5)], [cell(1, 2, 5)], label_set_of=lambda _: 7) == {}


def test_quantities_move_within_their_unit_and_gpu_seconds_do() -> None:
    before = [cell(1, 1, 0, quantity=5), cell(1, 2, 0, quantity=7, gpu_seconds=7)]
    after = [cell(1, 3, 0, quantity=9), cell(1, 4, 0, quantity=6, gpu_seconds=9)]
    assert moved(before, after, units={1: "image", 3: "image", 2: "second", 4: "minute"}) == {
        (1, 1, "quantity", "image"): -5,
        (1, 3, "quantity", "image"): 5,
        (1, 2, "gpu_seconds", ""): -7,
        (1, 4, "gpu_seconds", ""): 7,
    }


def test_a_unit_vanishes_though_its_label_set_remains() -> None:
    before = [cell(1, 1, 0, quantity=5), cell(1, 2, 0, quantity=7)]
    after = [cell(1, 2, 0, quantity=7), cell(1, 3, 0, quantity=9)]
    units = {1: "image", 2: "second", 3: "image"}
    assert moved(before, after, units=units, label_set_of=lambda series: max(series, 2)) == {
        (1, 2, "quantity", "image"): -5,
        (1, 3, "quantity", "image"): 5,
    }


def test_costs_that_change_places_have_not_moved_because_a_unit_of_one_of_them_vanishes() -> None:
    before = [cell(1, 1, 60), cell(1, 2, 40), cell(1, 3, 0, quantity=5)]
    after = [cell(1, 1, 50), cell(1, 2, 50)]
    label_sets = {1: 1, 2: 2, 3: 1}
    assert moved(before, after, units={3: "image"}, label_set_of=label_sets.__getitem__) == {}


def test_history_is_no_growth_anyway() -> None:
    assert moved([cell(1, 1, 5)], [cell(1, 2, 5)], history=frozenset({1})) == {}


amounts = st.integers(-(2**62), 2**62)
states = st.dictionaries(st.tuples(st.integers(1, 2), st.integers(1, 6)), amounts.filter(bool), max_size=8)


@given(states, states)
def test_moves_of_an_hour_add_up_to_zero_and_are_a_part_of_the_changes(
    before: dict[tuple[int, int], int], after: dict[tuple[int, int], int]
) -> None:
    found = moved([cell(*at, cost) for at, cost in before.items()], [cell(*at, cost) for at, cost in after.items()])
    for hour in (1, 2):
        assert sum(amount for place, amount in found.items() if place[0] == hour) == 0
    for (hour, label_set, *_), amount in found.items():
        change = after.get((hour, label_set), 0) - before.get((hour, label_set), 0)
        assert 0 <= amount <= change or change <= amount <= 0


# --- In the ledger ----------------------------------------------------------------------------------------------------


def values(pages: Pages) -> dict[str, int | float]:
    return {sample.labels[3] + sample.labels[4]: sample.value for page in pages for sample in page.samples}


def stated(hour: datetime, of: Mapping[Dimensions, Amounts]) -> list[Charge]:
    return [Charge(hour, dimensions, item) for dimensions, item in of.items()]


@pytest.fixture
def ledger(open_ledger: OpenLedger, clock: Callable[[], datetime]) -> Ledger:
    """A ledger that has counted $4.70 of three label sets, all published."""
    made = open_ledger(birth_hold=timedelta(0))
    made.activate({"prod": ["reporting"]})
    made.restate("prod", "reporting", Window(PAST.replace(hour=0), PAST.replace(hour=13)), [], at=clock())
    whole = {
        FLUX: costs(2 * NANO),
        KLING: costs(NANO),
        SHOP: Amounts(NANO, 9 * NANO, 17 * NANO // 10, 0, 17 * NANO // 10),
    }
    state(made, whole)
    publish(made)
    return made


def state(ledger: Ledger, of: Mapping[Dimensions, Amounts], hour: datetime = PAST) -> int:
    window = Window(hour, hour + HOUR)
    return ledger.restate("prod", "reporting", window, stated(hour, of), at=PAST + 2 * HOUR).relabelled


def publish(ledger: Ledger) -> LedgerView:
    ledger.scraped(ledger.view().sequence)
    return ledger.view()


def test_a_source_that_tells_less_for_once_doubles_nothing_for_good(ledger: Ledger, open_ledger: OpenLedger) -> None:
    before = publish(ledger)
    assert sum(values(before.spend).values()) == 47 * NANO // 10
    assert state(ledger, {BY_MODEL: costs(47 * NANO // 10)}) == 47 * NANO // 10
    after = publish(ledger)
    assert values(after.spend) == values(before.spend) | {"": 0}
    assert values(after.gpu_seconds) == values(before.gpu_seconds)
    assert set(values(after.pending).values()) == {0}
    assert values(after.known_of_month) == {"": 47 * NANO // 10, "flux": 0, "kling": 0, "shop": 0}
    (scope,) = after.scopes
    assert (scope.restated_up, scope.restated_down) == (before.scopes[0].restated_up, 0)
    assert scope.relabelled == 47 * NANO // 10

    # It is kept, and what is new is counted from there, under the new labels and the old ones.
    ledger.close()
    again = open_ledger(birth_hold=timedelta(0))
    again.activate({"prod": ["reporting"]})
    assert again.scopes()[0].relabelled == 47 * NANO // 10
    assert values(publish(again).spend) == values(after.spend)
    state(again, {BY_MODEL: costs(NANO // 10)}, PAST + HOUR)
    assert sum(values(publish(again).spend).values()) == 48 * NANO // 10
    state(again, {FLUX: costs(2 * NANO), KLING: costs(NANO), SHOP: costs(17 * NANO // 10)})
    state(again, {FLUX: costs(NANO // 10)}, PAST + HOUR)
    end = publish(again)
    assert sum(values(end.spend).values()) == 48 * NANO // 10
    assert set(values(end.pending).values()) == {0}


def test_only_the_net_is_booked_and_only_the_net_is_restated(ledger: Ledger) -> None:
    before = publish(ledger).scopes[0].restated_up
    assert state(ledger, {BY_MODEL: costs(5 * NANO)}) == 47 * NANO // 10
    view = publish(ledger)
    assert values(view.spend)[""] == 3 * NANO // 10
    assert (view.scopes[0].restated_up - before, view.scopes[0].restated_down) == (3 * NANO // 10, 0)
    assert state(ledger, {KLING: costs(NANO)}) == NANO
    view = publish(ledger)
    assert values(view.pending) == {"": 4 * NANO, "flux": 0, "kling": 0, "shop": 0}
    assert (view.scopes[0].restated_up - before, view.scopes[0].restated_down) == (3 * NANO // 10, 4 * NANO)


def test_a_correction_beside_a_relabelling_is_pending(ledger: Ledger) -> None:
    state(ledger, {FLUX: costs(NANO), BY_MODEL: costs(27 * NANO // 10)})
    view = publish(ledger)
    assert values(view.pending) == {"flux": NANO, "kling": 0, "shop": 0, "": 0}
    assert values(view.spend)[""] == 0


def test_counters_of_quantities_stay_too(ledger: Ledger) -> None:
    before = values(publish(ledger).quantity)
    other = SHOP._replace(app="store")
    state(
        ledger,
        {
            FLUX: costs(2 * NANO),
            KLING: costs(NANO),
            other: Amounts(NANO, 9 * NANO, 17 * NANO // 10, 0, 17 * NANO // 10),
        },
    )
    view = publish(ledger)
    assert values(view.quantity) == before | {"store": 0}
    assert values(view.gpu_seconds) == {"shop": 9 * NANO, "store": 0}
