"""Charges divided by the states of runners, in a ledger: they follow corrections of either, and add up to the spend."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger.conftest import NOON, Clock
from profiles import examples
from sqlalchemy import create_engine, text

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, UnitPrice, Window, hour_number, hour_of
from exporter.ledger import Ledger, LedgerReader, LedgerView, Rules
from exporter.ledger.accounting.machines import UNKNOWN_AFTER
from exporter.ledger.export import History
from exporter.ledger.maintenance.renaming import rename_account
from exporter.ledger.maintenance.verification import verify
from exporter.ledger.tables.database import reading
from exporter.machines import STATES, AppSettings, RequestHour, RunnerHour, Runners
from exporter.samples import Pages

OpenLedger = Callable[..., Ledger]
HERE = hour_of(NOON)
SHOP = Dimensions("prod", product="serverless", app="shop", environment="prod", gpu_class="H100", unit="second")
SHOP_SETTINGS = AppSettings("prod", "studio", "shop", "prod", "GPU-H100", 60, 1, 4)
FLUX = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", unit="image")


def charge(hour: datetime, cost: int, dimensions: Dimensions = SHOP) -> Charge:
    return Charge(hour, dimensions, Amounts(cost, cost // 2, cost, 0, cost))


def runners(hour: datetime, *states: int, app: str = "shop", complete: bool = True) -> RunnerHour:
    return RunnerHour("prod", app, hour_number(hour), Runners(*states), complete)


def by_state(pages: Pages, app: str = "shop") -> dict[str, int | float]:
    return {sample.labels[-1]: sample.value for page in pages for sample in page.samples if sample.labels[1] == app}


class Bench:
    """A ledger with one account, whose apps have been listed an hour before the first charge that counts."""

    def __init__(self, ledger: Ledger, clock: Clock, days: int = 40) -> None:
        self.ledger = ledger
        self.clock = clock
        clock.now = NOON - 3 * HOUR
        ledger.activate({"prod": ["serverless", "models"]})
        self._known: dict[str, list[Charge]] = {"serverless": [], "models": []}
        self._cover(HERE - days * 24 * HOUR)
        ledger.machines.record_settings("prod", [SHOP_SETTINGS])
        clock.now = NOON

    def restate(self, charges: list[Charge], source: str = "serverless", window: Window | None = None) -> None:
        """State the hours of some charges, or those of a window, anew."""
        hours = set((window or Window(charges[0].hour, charges[0].hour + HOUR)).hours())
        self._known[source] = [item for item in self._known[source] if item.hour not in hours] + charges
        self._cover(min(*hours, HERE - 3 * HOUR))

    def _cover(self, start: datetime) -> None:
        window = Window(start, hour_of(self.clock.now) + HOUR)
        for source, known in self._known.items():
            its = [item for item in known if item.hour in window]
            self.ledger.restate("prod", source, window, its, at=self.clock.now)

    def read(self, *hours: RunnerHour, window: Window | None = None) -> None:
        known = window or Window(HERE - 3 * HOUR, HERE + HOUR)
        self.ledger.machines.record_runners("prod", known, {"shop": hours})

    def view(self) -> LedgerView:
        """Return the figures once every new counter has been seen at 0."""
        self._cover(HERE - 3 * HOUR)
        self.ledger.scraped(self.ledger.view().sequence)
        return self.ledger.view()


@pytest.fixture
def bench(open_ledger: OpenLedger, clock: Clock) -> Bench:
    return Bench(open_ledger(birth_hold=timedelta(0)), clock)


LAST = HERE - HOUR


def test_an_hour_is_divided_by_its_runners_and_counts_once_they_are_read_after_its_end(bench: Bench) -> None:
    bench.restate([charge(LAST, 101)])
    view = bench.view()
    assert by_state(view.machines.spend_of["today"]) == {"unknown": 101}
    assert by_state(view.machines.spend) == {}
    bench.read(runners(LAST, 1, 2, 0, 1))
    view = bench.view()
    assert by_state(view.machines.spend) == {"running": 25, "idle": 50, "draining": 26}
    assert by_state(view.machines.gpu_seconds) == {"running": 12, "idle": 25, "draining": 13}
    assert by_state(view.machines.spend_of["today"]) == {"running": 25, "idle": 50, "draining": 26}
    assert by_state(view.machines.gpu_time_of["month"]) == {"running": 12, "idle": 25, "draining": 13}


def test_late_and_corrected_charges_move_the_states(bench: Bench) -> None:
    bench.restate([charge(LAST, 100)])
    bench.read(runners(LAST, 1, 3))
    bench.restate([charge(LAST, 200)])
    assert by_state(bench.view().machines.spend) == {"running": 50, "idle": 150}
    bench.restate([], window=Window(LAST, HERE))
    view = bench.view()
    assert by_state(view.machines.spend) == {"running": 50, "idle": 150}
    assert by_state(view.machines.spend_of["today"]) == {}
    bench.restate([charge(LAST, 240)])
    assert by_state(bench.view().machines.spend) == {"running": 60, "idle": 180}


def test_corrected_runners_move_the_states_and_no_counter_falls(bench: Bench) -> None:
    bench.restate([charge(LAST, 100)])
    bench.read(runners(LAST, 1, 3))
    bench.view()
    bench.read(runners(LAST, 3, 1))
    view = bench.view()
    assert by_state(view.machines.spend_of["today"]) == {"running": 75, "idle": 25}
    # What has been published as idle waits until as much more is.
    assert by_state(view.machines.spend) == {"running": 75, "idle": 75}
    bench.restate([charge(LAST, 400)])
    assert by_state(bench.view().machines.spend) == {"running": 300, "idle": 100}


def test_an_hour_without_history_counts_as_unknown_when_it_has_been_waited_for(bench: Bench) -> None:
    bench.restate([charge(LAST, 70)])
    bench.read()
    bench.clock.forward(hours=UNKNOWN_AFTER - 1)
    bench.read(window=Window(HERE, hour_of(bench.clock.now)))
    assert by_state(bench.view().machines.spend) == {}
    bench.clock.forward(hours=1)
    bench.read(window=Window(HERE, hour_of(bench.clock.now)))
    assert by_state(bench.view().machines.spend) == {"unknown": 70}


def test_an_hour_is_not_unknown_while_fal_cannot_be_asked(bench: Bench) -> None:
    bench.restate([charge(LAST, 70)])
    bench.clock.forward(hours=5 * UNKNOWN_AFTER)
    assert by_state(bench.view().machines.spend) == {}
    bench.read(runners(LAST, 1), window=Window(LAST, hour_of(bench.clock.now)))
    assert by_state(bench.view().machines.spend) == {"running": 70}


def test_a_clock_that_was_ahead_keeps_no_hour_from_counting(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger(birth_hold=timedelta(0))
    bench = Bench(ledger, clock)
    clock.forward(days=9)
    bench.read()
    clock.forward(days=-9)
    bench.read(runners(LAST, 0, 1))
    bench.restate([charge(LAST, 10)])
    assert by_state(bench.view().machines.spend) == {"idle": 10}
    clock.forward(hours=2)
    bench.read(runners(HERE + HOUR, 0, 1), window=Window(HERE, HERE + 3 * HOUR))
    known = ledger.machines.account("prod")
    assert known is not None
    assert known.runners_through == hour_number(HERE + 2 * HOUR)


def test_the_running_hour_is_shown_by_what_is_known_of_it_and_does_not_count_yet(bench: Bench) -> None:
    bench.restate([charge(HERE, 90)])
    bench.read(runners(HERE, 1, 2, complete=False))
    view = bench.view()
    assert by_state(view.machines.spend_of["today"]) == {"running": 30, "idle": 60}
    assert by_state(view.machines.spend) == {}


def test_what_was_spent_before_the_account_was_divided_is_history(open_ledger: OpenLedger, clock: Clock) -> None:
    bench = Bench(open_ledger(birth_hold=timedelta(0)), clock)
    early = HERE - 30 * HOUR
    bench.restate([charge(early, 1000)])
    bench.read(runners(early, 0, 1), window=Window(early, HERE + HOUR))
    view = bench.view()
    assert by_state(view.machines.spend_of["month"]) == {"idle": 1000}
    assert by_state(view.machines.spend) == {}


def test_a_charge_without_an_app_is_unknown_and_models_are_left_out(bench: Bench) -> None:
    nameless = SHOP._replace(app="", environment="")
    bench.restate([charge(LAST, 8, nameless), charge(LAST, 4)])
    bench.restate([charge(LAST, 1000, FLUX)], source="models")
    bench.read(runners(LAST, 0, 1))
    today = bench.view().machines.spend_of["today"]
    assert (by_state(today, app=""), by_state(today)) == ({"unknown": 8}, {"idle": 4})
    assert sum(sample.value for page in today for sample in page.samples) == 12


def test_charges_may_name_the_owner_of_an_app(bench: Bench) -> None:
    owned = SHOP._replace(app="studio/shop")
    bench.restate([charge(LAST, 40, owned)])
    whole = Window(HERE - 48 * HOUR, HERE + HOUR)
    bench.read(runners(LAST, 1, 3), window=whole)
    asked = RequestHour("prod", "serverless", "shop", hour_number(LAST), 10, 5, 1, 4, 2, 0)
    bench.ledger.machines.record_requests("prod", whole, [("serverless", "shop")], [asked])
    figures = bench.view().machines
    assert by_state(figures.spend_of["today"], app="studio/shop") == {"running": 10, "idle": 30}
    assert [(item.app, item.owner) for item in figures.settings] == [("studio/shop", "studio")]
    assert [item.cost for item in figures.efficiency] == [40]


def test_a_new_counter_is_seen_at_0_first(bench: Bench) -> None:
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    assert by_state(bench.ledger.view().machines.spend) == {"idle": 0}
    assert by_state(bench.view().machines.spend) == {"idle": 10}


def test_counters_go_on_after_a_restart(bench: Bench, open_ledger: OpenLedger) -> None:
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    bench.view()
    bench.ledger.close()
    bench.ledger = open_ledger(birth_hold=timedelta(0))
    bench.ledger.activate({"prod": ["serverless", "models"]})
    assert by_state(bench.view().machines.spend) == {"idle": 10}
    bench.restate([charge(LAST, 30)])
    assert by_state(bench.view().machines.spend) == {"idle": 30}


def test_the_retention_forgets_hours_and_no_counter(bench: Bench) -> None:
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    bench.view()
    bench.clock.forward(days=80)
    assert bench.ledger.fold_before(HERE + 24 * HOUR) == 1
    view = bench.view()
    assert by_state(view.machines.spend) == {"idle": 10}
    bench.restate([], window=Window(LAST, HERE))
    assert by_state(bench.view().machines.spend) == {"idle": 10}


def test_ceilings_are_the_runners_that_an_app_may_have_at_their_price(bench: Bench) -> None:
    price = UnitPrice("prod", "serverless", "", "shop", "H100", "second", LAST, 1_250_000, 20 * NANO)
    bench.ledger.record_prices([price])
    (ceiling,) = bench.view().machines.ceilings
    assert (ceiling.app, ceiling.environment, ceiling.gpu_class) == ("shop", "prod", "H100")
    assert ceiling.amount == 4 * 3600 * 1_000_000
    unbounded = AppSettings("prod", "studio", "shop", "prod", "GPU-H100", 60, 1, None)
    bench.ledger.machines.record_settings("prod", [unbounded])
    assert bench.view().machines.ceilings == ()


def test_a_ceiling_counts_the_gpus_of_a_runner_by_what_is_billed(bench: Bench) -> None:
    price = UnitPrice("prod", "serverless", "", "shop", "H100", "second", LAST, 1_250_000, 0)
    bench.ledger.record_prices([price])

    def ceiling(gpu_seconds: int) -> int:
        """Return what an app can burn of which so many GPU-seconds were billed in an hour in which one runner lived."""
        bench.restate([Charge(LAST, SHOP, Amounts(gpu_seconds * NANO, gpu_seconds * NANO, NANO, 0, NANO))])
        (found,) = bench.view().machines.ceilings
        return found.amount

    usual = 4 * 3600 * 1_250_000
    assert ceiling(8 * 3600) == usual, "runners are not known yet"
    bench.read(runners(LAST, NANO // 4, NANO * 3 // 4))
    bench.ledger.machines.record_requests("prod", Window(LAST, HERE), [("serverless", "shop")], [])
    assert ceiling(8 * 3600) == 8 * usual
    assert ceiling(7 * 3600 + 3000) == 8 * usual, "a few seconds are billed late"
    assert ceiling(5400) == usual
    assert ceiling(0) == usual
    bench.read(runners(LAST, NANO // 2))
    assert ceiling(8 * 3600) == usual, "too little ran to tell"


def test_requests_are_priced_over_the_last_day_that_is_known(bench: Bench) -> None:
    bench.restate([charge(LAST, 1000)])
    bench.restate([charge(LAST, 300, FLUX)], source="models")
    whole = Window(HERE - 48 * HOUR, HERE + HOUR)
    bench.read(runners(LAST, 6, 2, 2), window=whole)
    assert bench.view().machines.efficiency == ()
    asked = [
        RequestHour("prod", "serverless", "shop", hour_number(LAST), 12, 9, 1, 2, 3, 0),
        RequestHour("prod", "model_apis", FLUX.model, hour_number(LAST), 20, 12, 3, 5, 0, 0),
    ]
    names = [(item.product, item.name) for item in asked]
    bench.ledger.machines.record_requests("prod", whole, names, asked)
    model, app = bench.view().machines.efficiency
    assert (app.cost, app.cost_per_success, app.failed, app.failed_cost) == (1000, 111, 3, 150)
    assert (app.cold_starts, app.start_cost, app.start_seconds) == (3, 200, 100)
    assert (model.cost, model.cost_per_success, model.failed, model.failed_cost) == (300, 25, 8, 60)


def test_a_verification_finds_parts_that_are_not_their_charge(bench: Bench, address: str) -> None:
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    engine = create_engine(address)
    with engine.connect() as connection:
        assert verify(connection).problems == ()
    with engine.begin() as connection:
        connection.execute(text("UPDATE state_hour SET cost_idle = 9"))
    with engine.connect() as connection:
        assert verify(connection).problems == (
            f"the parts by state of series 1 in {LAST:%Y-%m-%d %H:00} UTC are not its charge",
        )
    engine.dispose()


def test_a_ledger_that_is_lost_is_written_anew_with_its_counters(
    open_sqlite: OpenLedger, sqlite_address: str, clock: Clock
) -> None:
    bench = Bench(open_sqlite(birth_hold=timedelta(0)), clock)
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    bench.view()
    Path(sqlite_address.removeprefix("sqlite:///")).unlink()
    # What is read again of hours before is history: counters have counted it.
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    view = bench.view()
    assert by_state(view.machines.spend) == {"idle": 10}
    assert [item.app for item in view.machines.settings] == ["shop"]
    clock.forward(hours=2)
    bench.restate([charge(HERE + HOUR, 5)])
    bench.read(runners(HERE + HOUR, 0, 1), window=Window(HERE, HERE + 3 * HOUR))
    assert by_state(bench.view().machines.spend) == {"idle": 15}


def test_a_renamed_account_goes_on(bench: Bench, address: str, open_ledger: OpenLedger) -> None:
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    bench.view()
    bench.ledger.close()
    rename_account(address, "prod", "main", now=bench.clock.now)
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate({"main": ["serverless", "models"]})
    (page,) = ledger.view().machines.spend
    assert [(sample.labels, sample.value) for sample in page.samples] == [
        (("main", "shop", "prod", "H100", "idle"), 10)
    ]
    assert [item.account for item in ledger.machines.settings("main")] == ["main"]


def test_a_renamed_account_that_was_polled_under_its_new_name_before_is_joined(
    bench: Bench, address: str, open_ledger: OpenLedger
) -> None:
    bench.restate([charge(LAST, 10)])
    bench.read(runners(LAST, 0, 1))
    bench.view()
    bench.ledger.close()
    bench.clock.forward(minutes=5)
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate({"main": ["serverless", "models"]})
    ledger.machines.record_settings("main", [replace(SHOP_SETTINGS, account="main")])
    bench.clock.forward(hours=2)
    window = Window(HERE, HERE + 3 * HOUR)
    for source, charges in (("models", []), ("serverless", [charge(HERE + HOUR, 7, SHOP._replace(account="main"))])):
        ledger.restate("main", source, window, charges, at=bench.clock.now)
    worked = runners(HERE + HOUR, 1)._replace(account="main")
    ledger.machines.record_runners("main", window, {"shop": [worked]})
    ledger.scraped(ledger.view().sequence)
    assert by_state(ledger.view().machines.spend) == {"running": 7}
    ledger.close()
    rename_account(address, "prod", "main", now=bench.clock.now)
    joined = open_ledger(birth_hold=timedelta(0))
    joined.activate({"main": ["serverless", "models"]})
    view = joined.view()
    # The counters of the new name go on; what the old one has counted stays with its series in Prometheus.
    assert by_state(view.machines.spend) == {"running": 7}
    joined.close()
    reader = LedgerReader(address)
    with reader.snapshot() as snapshot:
        (shop,) = snapshot.state_sums(Window(LAST, HERE + 2 * HOUR))
    assert (shop.account, shop.cost.total, shop.cost.idle) == ("main", 17, 10)
    reader.close()
    engine = create_engine(address)
    with engine.connect() as connection:
        assert verify(connection).problems == ()
    engine.dispose()


def test_a_reader_beside_the_exporter_sees_the_same(bench: Bench, address: str) -> None:
    bench.restate([charge(LAST, 40)])
    bench.read(runners(LAST, 1, 3))
    reader = LedgerReader(address)
    with reader.snapshot() as snapshot:
        (shop,) = snapshot.state_sums(Window(LAST, HERE))
        assert (shop.account, shop.app, shop.environment, shop.gpu_class) == ("prod", "shop", "prod", "H100")
        assert (shop.cost.running, shop.cost.idle, shop.gpu_seconds.total) == (10, 30, 20)
        assert snapshot.app_settings() == (SHOP_SETTINGS,)
        assert snapshot.app_weeks(Window(LAST, HERE)) == (), "how many requests there were is not known"
        assert snapshot.state_sums(Window(HERE, HERE + HOUR)) == ()
    reader.close()


def test_the_history_before_the_counters_is_told_by_state(bench: Bench, address: str) -> None:
    def told() -> dict[str, dict[int, int]]:
        with reading(address) as connection:
            return {past.labels[-1]: {**past.hours} for past in History(connection, ["prod"]).states()}

    before, hour = HERE - 5 * HOUR, hour_number(HERE) - 5
    bench.restate([charge(before, 101)])
    bench.restate([charge(LAST, 40)])
    assert told() == {}, "for what runners did fal has not been asked"
    bench.read(runners(before, 1, 2, 0, 1), runners(LAST, 1), window=Window(before, HERE + HOUR))
    assert told() == {"running": {hour: 25}, "idle": {hour: 50}, "draining": {hour: 26}}, "the last hour counts live"
    with reading(address) as connection:
        (running, *_) = History(connection, ["prod"]).states()
    assert running.labels == ("prod", "shop", "prod", "H100", "running")


def test_what_lower_settings_would_have_saved_follows_corrections(bench: Bench) -> None:
    def saved() -> list[tuple[tuple[str, str], int, int, int]]:
        return [(item.changed, item.least, item.likely, item.most) for item in bench.ledger.view().machines.what_ifs]

    window = Window(LAST, HERE)
    bench.restate([charge(LAST, 40)])
    bench.read(runners(LAST, 0, NANO))
    assert saved() == [], "how many requests there were is not known"
    bench.ledger.machines.record_requests("prod", window, [("serverless", "shop")], [])
    # Nobody asked for the runner that was idle all the hour; as it was idle before, the least lacks a keep-alive.
    assert saved() == [(("min_concurrency", "0"), 39, 40, 40)]
    bench.restate([charge(LAST, 100)])
    assert saved() == [(("min_concurrency", "0"), 98, 100, 100)]
    bench.ledger.machines.record_settings("prod", [replace(SHOP_SETTINGS, min_concurrency=0, keep_alive=20)])
    assert saved() == [(("keep_alive", "10"), 50, 50, 50)], "a spell loses no more than its share of the keep-alive"


HOURS = [HERE - back * HOUR for back in range(3)]
STEPS = st.one_of(
    st.tuples(st.just("charge"), st.sampled_from(HOURS), st.integers(0, 10**12), st.sampled_from(["", "surge"])),
    st.tuples(st.just("runners"), st.sampled_from(HOURS), st.lists(st.integers(0, 5), min_size=4, max_size=4)),
)


@settings(max_examples=examples(8, long=300))
@given(st.lists(STEPS, min_size=1, max_size=8))
def test_states_add_up_to_the_spend_whatever_is_corrected(steps: list[tuple[object, ...]]) -> None:
    """The sum over states is the spend of the app in every window, and no counter ever falls."""
    clock = Clock()
    bench = Bench(Ledger("sqlite:///:memory:", rules=Rules(birth_hold=timedelta(0)), clock=clock), clock, days=1)
    known: dict[tuple[datetime, str], int] = {}
    shown: dict[str, int | float] = {}
    for step in steps:
        hour = step[1]
        assert isinstance(hour, datetime)
        if step[0] == "charge":
            assert isinstance(step[2], int)
            known[hour, str(step[3])] = step[2]
            its = [charge(hour, cost, SHOP._replace(surge=surge)) for (at, surge), cost in known.items() if at == hour]
            bench.restate(its)
        else:
            assert isinstance(step[2], list)
            states = runners(hour, *step[2], complete=hour < HERE)
            bench.ledger.machines.record_runners("prod", Window(hour, hour + HOUR), {"shop": [states]})
        view = bench.view()
        for name, pages in (("today", view.today), ("last_day", view.last_day)):
            spend = sum(sample.value for page in pages for sample in page.samples)
            assert sum(by_state(view.machines.spend_of[name]).values()) == spend == sum(known.values())
        counted = by_state(view.machines.spend)
        assert all(counted[state] >= value for state, value in shown.items())
        assert set(counted) <= set(STATES)
        shown = counted
    bench.ledger.close()
