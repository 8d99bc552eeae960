"""Spend by tags in a ledger: it adds up to the spend hour by hour, and counters follow corrections and never fall."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger.conftest import NOON, Clock
from profiles import examples

from exporter.charges import HOUR, Amounts, Charge, Dimensions, Window, hour_of
from exporter.ledger import Ledger, Rules
from exporter.ledger.accounting.tags import READ_AFTER
from exporter.ledger.maintenance.renaming import rename_account
from exporter.ledger.reader import LedgerReader
from exporter.samples import Pages
from exporter.tags import TaggedCharge, TaggedReading

OpenLedger = Callable[..., Ledger]
HERE = hour_of(NOON)
U = "untagged"
KEYS = ("customer", "feature")
FLUX = Dimensions("prod", product="model_apis", model="flux", unit="image")
APP = Dimensions("prod", product="serverless", app="shop", gpu_class="H100", unit="second")
Tagged = Mapping[tuple[datetime, tuple[str, str]], int]


def charge(hour: datetime, cost: int, dimensions: Dimensions = FLUX) -> Charge:
    return Charge(hour, dimensions, Amounts(cost, 0, cost, 0, cost))


class Bench:
    """A ledger with one account, counted by tags since long before the hours of a test."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock
        clock.now = NOON - timedelta(days=25)
        ledger.activate({"prod": ["models", "serverless"]})
        self.tag({}, Window(hour_of(clock.now) - HOUR, hour_of(clock.now)))
        clock.now = NOON

    def restate(self, *charges: Charge, source: str = "models", start: datetime = HERE - 3 * HOUR) -> None:
        window = Window(start, hour_of(self.clock.now) + HOUR)
        self.ledger.restate("prod", source, window, charges, at=self.clock.now)

    def tag(self, tagged: Tagged, window: Window | None = None, untagged: int = 0) -> None:
        """Have fal state the hours up to now by tags; `untagged` is what it states in each hour without tags."""
        window = window or Window(HERE - 3 * HOUR, hour_of(self.clock.now) + HOUR)
        charges = tuple(
            TaggedCharge(hour, "flux", "image", values, Amounts(cost, 0, cost, 0, cost))
            for (hour, values), cost in tagged.items()
        )
        stated = dict.fromkeys(window.hours(), untagged)
        for item in charges:
            stated[item.hour] += item.amounts.cost
        self.ledger.tags.record(TaggedReading("prod", window, KEYS, charges, stated, {}), at=self.clock.now)

    def counters(self) -> dict[tuple[str, ...], int | float]:
        """Return the counters, after scrapes have seen them at 0 where they are new."""
        for _ in range(2):
            self.ledger.scraped(self.ledger.view().sequence)
            self.clock.forward(minutes=3)
        return samples(self.ledger.view().tags.spend)

    def month(self) -> dict[tuple[str, ...], int | float]:
        return samples(self.ledger.view().tags.month)


def samples(pages: Pages) -> dict[tuple[str, ...], int | float]:
    return {sample.labels[1:]: sample.value for page in pages for sample in page.samples}


@pytest.fixture
def bench(open_ledger: OpenLedger, clock: Clock) -> Bench:
    return Bench(open_ledger(tags=KEYS), clock)


def test_what_tags_do_not_explain_is_untagged_and_all_of_it_adds_up_to_the_spend(bench: Bench) -> None:
    hour = HERE - READ_AFTER * HOUR - HOUR
    bench.restate(charge(hour, 100))
    bench.restate(charge(hour, 7, APP), source="serverless")
    bench.tag({(hour, ("acme", "search")): 60, (hour, ("acme", U)): 15})
    assert bench.counters() == {
        ("flux", "acme", "search"): 60,
        ("flux", "acme", U): 15,
        ("flux", U, U): 25,
        ("", U, U): 7,
    }
    assert bench.ledger.tags.hourly(Window(hour, hour + HOUR)) == {
        hour: {
            ("prod", "flux", ("acme", "search")): 60,
            ("prod", "flux", ("acme", U)): 15,
            ("prod", "flux", (U, U)): 25,
            ("prod", "", (U, U)): 7,
        }
    }


def test_counters_follow_a_correction_of_the_charge_and_one_of_the_tags(bench: Bench) -> None:
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", U)): 60})
    assert bench.counters() == {("flux", "acme", U): 60, ("flux", U, U): 40}
    bench.restate(charge(hour, 130))
    assert bench.counters() == {("flux", "acme", U): 60, ("flux", U, U): 70}
    bench.tag({(hour, ("acme", U)): 90, (hour, ("bolt", U)): 10})
    # Untagged has become 30 and waits at 70 until it is more again.
    assert bench.counters() == {("flux", "acme", U): 90, ("flux", "bolt", U): 10, ("flux", U, U): 70}
    assert samples(bench.ledger.view().tags.pending) == {("flux", U, U): 40}
    assert sum(bench.ledger.tags.hourly(Window(hour, hour + HOUR))[hour].values()) == 130


def test_reading_an_hour_again_changes_nothing(bench: Bench) -> None:
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    for _ in range(3):
        bench.tag({(hour, ("acme", U)): 60})
        assert bench.counters() == {("flux", "acme", U): 60, ("flux", U, U): 40}


def test_counters_wait_for_an_hour_until_its_tags_can_have_come(bench: Bench) -> None:
    bench.restate(charge(HERE - HOUR, 100))
    bench.tag({})
    assert bench.counters() == {}
    assert bench.ledger.tags.hourly(Window(HERE - HOUR, HERE)) == {HERE - HOUR: {("prod", "flux", (U, U)): 100}}
    bench.clock.forward(hours=READ_AFTER)
    bench.tag({(HERE - HOUR, ("acme", U)): 100})
    assert bench.counters() == {("flux", "acme", U): 100}


def test_hours_before_the_beginning_are_history(open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger(tags=KEYS)
    ledger.activate({"prod": ["models"]})
    hour = HERE - 10 * HOUR
    window = Window(hour, HERE + HOUR)
    ledger.restate("prod", "models", window, [charge(hour, 100)], at=clock.now)
    stated = TaggedCharge(hour, "flux", "image", ("acme", U), Amounts(60, 0, 60, 0, 60))
    ledger.tags.record(TaggedReading("prod", window, KEYS, (stated,), {hour: 60}, {}), at=clock.now)
    view = ledger.view()
    assert samples(view.tags.spend) == {}
    assert ledger.tags.hourly(Window(hour, hour + HOUR))[hour] == {
        ("prod", "flux", ("acme", U)): 60,
        ("prod", "flux", (U, U)): 40,
    }


def test_counters_and_what_they_have_counted_survive_a_restart(
    bench: Bench, open_ledger: OpenLedger, clock: Clock
) -> None:
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", U)): 60})
    before = bench.counters()
    bench.ledger.close()
    bench.ledger = open_ledger(tags=KEYS)
    bench.ledger.activate({"prod": ["models", "serverless"]})
    assert bench.counters() == before
    bench.tag({(hour, ("acme", U)): 60})
    assert bench.counters() == before
    clock.forward(hours=1)
    bench.restate(charge(hour, 101))
    assert bench.counters() == {**before, ("flux", U, U): 41}


def test_other_keys_begin_anew_and_keep_what_fal_has_stated(
    bench: Bench, open_ledger: OpenLedger, clock: Clock
) -> None:
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", "search")): 60})
    bench.counters()
    bench.ledger.close()
    ledger = open_ledger(tags=("feature",))
    ledger.activate({"prod": ["models", "serverless"]})
    assert samples(ledger.view().tags.spend) == {}
    reading = TaggedReading("prod", Window(HERE, HERE + HOUR), ("feature",), (), {}, {})
    ledger.tags.record(reading, at=clock.now)
    assert ledger.tags.hourly(Window(hour, hour + HOUR))[hour] == {
        ("prod", "flux", ("search",)): 60,
        ("prod", "flux", (U,)): 40,
    }
    ledger.close()
    assert open_ledger().view().tags.keys == ("feature",)
    assert open_ledger(tags=()).view().tags.keys == ()


def test_the_month_is_told_once_it_has_been_read_and_adds_up_to_the_ledger(bench: Bench) -> None:
    month = datetime(2026, 11, 1, tzinfo=NOON.tzinfo)
    start = Window(month, HERE + HOUR)
    bench.restate(charge(month, 1000), charge(HERE, 30), start=month)
    bench.restate(charge(month, 5, APP), source="serverless", start=month)
    bench.tag({(HERE, ("acme", U)): 20}, Window(HERE, HERE + HOUR))
    assert bench.month() == {}
    bench.tag({(month, ("acme", U)): 400, (HERE, ("acme", U)): 20}, start, untagged=1)
    assert bench.month() == {("flux", "acme", U): 420, ("flux", U, U): 610, ("", U, U): 5}
    figures = bench.ledger.view().tags
    first, second = figures.keys
    assert samples(figures.by_key) == {(first, "acme"): 420, (first, U): 615, (second, U): 1035}
    assert figures.through == {"prod": HERE - READ_AFTER * HOUR}
    # Of the hours that are read for good: 400 and 1 in each hour, less 1000.
    hours = (HERE - READ_AFTER * HOUR - month) // HOUR
    assert figures.difference == {"prod": 400 + hours - 1000}
    assert sum(bench.month().values()) == sum(
        sample.value for page in bench.ledger.view().known_of_month for sample in page.samples
    )


def test_hours_that_the_ledger_does_not_have_are_in_no_figure_by_tags(bench: Bench, address: str) -> None:
    hours = Window(HERE - 30 * HOUR, HERE + HOUR)
    old, new = HERE - 20 * HOUR, HERE - 8 * HOUR
    bench.tag({(old, ("acme", U)): 5000, (new, ("acme", U)): 400}, hours, untagged=1)
    assert bench.ledger.view().tags.difference == {}, "nothing has been charged that is known"
    bench.restate(charge(new, 1000), start=HERE - 10 * HOUR)
    both = (HERE - READ_AFTER * HOUR) - (HERE - 10 * HOUR)
    assert bench.ledger.view().tags.difference == {"prod": 400 + both // HOUR - 1000}
    assert bench.ledger.tags.hourly(Window(old, old + HOUR)) == {old: {}}
    reader = LedgerReader(address)
    with reader.snapshot() as snapshot:
        found = snapshot.tagged_usage(hours, ("tag:customer",))
    reader.close()
    assert {item.group: item.amounts.cost for item in found} == {("acme",): 400, (U,): 600}


def test_more_combinations_than_are_admitted_are_folded_with_their_sum(open_ledger: OpenLedger, clock: Clock) -> None:
    bench = Bench(open_ledger(tags=KEYS, max_series=3), clock)
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, (f"customer-{number}", U)): 10 for number in range(9)})
    found = bench.counters()
    assert ("flux", "__other__", U) in found
    assert len(found) <= 5
    assert sum(found.values()) == 100
    bench.tag({(hour, (f"customer-{number}", U)): 10 for number in range(9)})
    assert bench.counters() == found


def test_folded_hours_are_forgotten_and_counters_stay(bench: Bench) -> None:
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", U)): 60})
    before = bench.counters()
    bench.clock.forward(days=80)
    bench.ledger.fold_before(bench.clock.now)
    assert bench.ledger.tags.hourly(Window(hour, hour + HOUR)) == {hour: {}}
    bench.tag({}, Window(hour, hour + HOUR))
    assert bench.counters() == before


def test_a_renamed_account_goes_on(bench: Bench, address: str, open_ledger: OpenLedger) -> None:
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", U)): 60})
    before = bench.counters()
    bench.ledger.close()
    rename_account(address, "prod", "shop", now=bench.clock.now)
    ledger = open_ledger(tags=KEYS)
    ledger.activate({"shop": ["models", "serverless"]})
    assert samples(ledger.view().tags.spend) == before
    assert ledger.tags.hourly(Window(hour, hour + HOUR))[hour] == {
        ("shop", "flux", ("acme", U)): 60,
        ("shop", "flux", (U, U)): 40,
    }
    ledger.close()


_HOURS = [HERE - back * HOUR for back in range(4)]
_STEP: st.SearchStrategy[tuple[str, list[int]]] = st.one_of(
    st.tuples(st.just("charge"), st.lists(st.integers(0, 50), min_size=4, max_size=4)),
    st.tuples(st.just("tag"), st.lists(st.integers(0, 60), min_size=4, max_size=4)),
    st.tuples(st.just("wait"), st.lists(st.just(1), min_size=1, max_size=1)),
    st.tuples(st.just("restart"), st.just([])),
)


@settings(max_examples=examples(4, long=60), deadline=None)
@given(steps=st.lists(_STEP, max_size=12))
def test_whatever_happens_hours_add_up_and_counters_never_fall(
    steps: list[tuple[str, list[int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    address = f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.sqlite'}"
    clock = Clock()
    bench = Bench(Ledger(address, rules=Rules(tags=KEYS), clock=clock), clock)
    costs, tags, seen = [0] * 4, [0] * 4, dict[tuple[str, ...], int | float]()
    for kind, amounts in steps:
        if kind == "charge":
            costs = amounts
            bench.restate(*(charge(hour, cost) for hour, cost in zip(_HOURS, costs, strict=True) if cost))
        elif kind == "tag":
            tags = amounts
            names = ("acme", "bolt", "crow", "dove")
            places = zip(_HOURS, names, tags, strict=True)
            bench.tag({(hour, (name, U)): cost for hour, name, cost in places if cost})
        elif kind == "wait":
            clock.forward(hours=1)
        else:
            bench.ledger.close()
            bench.ledger = Ledger(address, rules=Rules(tags=KEYS), clock=clock)
            bench.ledger.activate({"prod": ["models", "serverless"]})
        hourly = bench.ledger.tags.hourly(Window(_HOURS[-1], HERE + HOUR))
        assert [sum(hourly[hour].values()) for hour in _HOURS] == costs
        now = bench.counters()
        assert all(now.get(key, 0) >= value for key, value in seen.items())
        seen = now
    # What counters are ahead of is told, and the rest is what the hours have that were read for good.
    pending = samples(bench.ledger.view().tags.pending)
    through = bench.ledger.tags.read_through("prod", Window(_HOURS[-1], HERE + HOUR))
    counted = sum(cost for hour, cost in zip(_HOURS, costs, strict=True) if hour in through)
    assert sum(seen.values()) - sum(pending.values()) == counted
    bench.ledger.close()


def test_counters_go_on_where_a_ledger_is_lost_and_written_anew(
    open_sqlite: OpenLedger, clock: Clock, sqlite_address: str
) -> None:
    bench = Bench(open_sqlite(tags=KEYS), clock)
    hour = HERE - 3 * HOUR
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", U)): 60})
    before = bench.counters()
    path = Path(sqlite_address.removeprefix("sqlite:///"))
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        path.with_name(name).unlink(missing_ok=True)
    assert bench.counters() == before
    # What is read again has been counted, and is history.
    bench.restate(charge(hour, 100))
    bench.tag({(hour, ("acme", U)): 60})
    assert bench.counters() == before
    clock.forward(hours=READ_AFTER + 2)
    bench.restate(charge(hour, 100), charge(HERE + HOUR, 5))
    bench.tag({(HERE + HOUR, ("acme", U)): 5}, Window(HERE + HOUR, hour_of(clock.now)))
    assert bench.counters() == {**before, ("flux", "acme", U): 65}
