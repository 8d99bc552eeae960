import random
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledger.conftest import NOON, Clock
from ledger.conftest import OpenLedger as OpenLedgerOfRenaming
from sqlalchemy import create_engine, inspect, text

from exporter.charges import (
    HOUR,
    NANO,
    SURGE,
    Amounts,
    Balance,
    Charge,
    Dimensions,
    Invoice,
    UnitPrice,
    Window,
    hour_of,
)
from exporter.errors import LedgerError
from exporter.ledger import (
    NO_REJECTED_ROWS,
    KeyOwner,
    Ledger,
    LedgerInUseError,
    Rules,
    SourceProbe,
    take_collector_lock,
)
from exporter.ledger.export import open_statement
from exporter.ledger.maintenance import renaming as renaming_module
from exporter.ledger.maintenance.renaming import rename_account
from exporter.ledger.reader import LedgerReader
from exporter.ledger.store import Ledger as LedgerOfRenaming
from exporter.ledger.tables import schema
from exporter.ledger.tables.prices import Former
from exporter.samples import Pages

OpenLedger = Callable[..., Ledger]
SOURCES = {"prod": ("models", "serverless")}
APP = Dimensions("prod", product="serverless", app="shop", environment="prod", gpu_class="H100", unit="second")
FLUX = Dimensions("prod", product="model_apis", model="fal-ai/flux/dev", unit="image")


def at(day: int, hour: int) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


CHARGED = {
    "models": [
        Charge(at(18, 23), FLUX, Amounts(NANO, 0, 200_000_000, 40_000_000, 160_000_000)),
        Charge(at(19, 5), FLUX._replace(model="fal-ai/kling", unit="second"), Amounts(NANO, 0, 8, 1, 7)),
        Charge(at(20, 12), FLUX, Amounts(3 * NANO, 0, 2**62 + 2**60, 2**60, 2**62)),
    ],
    "serverless": [
        Charge(at(20, 5), APP, Amounts(50 * NANO, 50 * NANO, 625_000_006, 125_000_001, 500_000_005)),
        Charge(at(20, 11), APP, Amounts(50 * NANO, 50 * NANO, 625_000_013, 125_000_002, 500_000_011)),
    ],
}
"""The charges of version-2.sql, but for those of the hour that a test states anew."""

_FIRST_READ = datetime(2026, 9, 3, 10, tzinfo=UTC)
"""Start of the hours that version-2.sql has covered without a gap."""

NOVEMBER = Window(at(1, 0), datetime(2026, 12, 1, tzinfo=UTC))


def values(pages: Pages) -> dict[str, int | float]:
    return {sample.labels[3] or sample.labels[4]: sample.value for page in pages for sample in page.samples}


@pytest.fixture
def old_ledger(address: str) -> str:
    """A ledger as version 2 of the schema left it: three series, two of them with folded hours, six charges."""
    return made_of("version-2.sql", address)


def made_of(file: str, address: str) -> str:
    script = (Path(__file__).parent / file).read_text()
    engine = create_engine(address)
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            dialect = statement.replace(" WITHOUT ROWID", "") if engine.dialect.name == "postgresql" else statement
            if dialect.strip():
                connection.exec_driver_sql(dialect)
    engine.dispose()
    return address


@pytest.fixture
def migrated(old_ledger: str, open_ledger: OpenLedger) -> Ledger:
    del old_ledger
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate(SOURCES)
    return ledger


def test_counters_and_gauges_of_version_2_go_on_where_they_were(migrated: Ledger) -> None:
    view = migrated.view()
    assert values(view.spend) == {"fal-ai/flux/dev": 2**62 + 480_000_000, "shop": 2_500_000_016, "fal-ai/kling": 7}
    assert values(view.known_of_month) == {
        "fal-ai/flux/dev": 2**62 + 160_000_000,
        "shop": 1_500_000_016,
        "fal-ai/kling": 7,
    }
    assert (view.charges, view.balances[0].amount, values(view.pending)["shop"]) == (6, 7_374_792_800, 0)
    more = [Charge(at(20, 12), APP, Amounts(NANO, NANO, 4, 0, 4))]
    migrated.restate("prod", "serverless", Window(at(20, 12), at(20, 13)), more, at=at(20, 12))
    assert values(migrated.view().spend)["shop"] == 2_500_000_020


def test_counters_and_gauges_of_version_3_go_on_where_they_were(address: str, open_ledger: OpenLedger) -> None:
    made_of("version-3.sql", address)
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate(SOURCES)
    view = ledger.view()
    assert values(view.spend) == {"fal-ai/flux/dev": 2**62 + 480_000_000, "shop": 2_500_000_016, "fal-ai/kling": 7}
    assert (view.charges, view.born_at) == (6, at(20, 12) + timedelta(minutes=30))
    assert ledger.counted_sources("prod") == ("models", "serverless")
    assert ledger.names.probes("prod") == ()
    assert ledger.names.key_owners() == ()
    assert ledger.cost_by_product("prod", NOVEMBER) == {
        "model_apis": 2**62 + 160_000_007,
        "serverless": 1_500_000_016,
    }


def test_an_invoice_has_all_that_fal_sends_of_it_once_it_has_been_polled_again(
    address: str, open_ledger: OpenLedger
) -> None:
    made_of("version-3.sql", address)
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO invoice VALUES ('prod', 'inv_1', 'F-1', 'paid', 0, 3600000000, NULL, NULL, 'USD', 5, 0, 0, 5)"
        )
    engine.dispose()
    ledger = open_ledger()
    ledger.activate(SOURCES)
    (kept,) = ledger.invoices("prod")
    assert (kept.id, kept.total, kept.stated) == ("inv_1", 5, "")
    polled_again = replace(kept, stated='{"id":"inv_1"}')
    ledger.record_invoices("prod", [polled_again])
    assert ledger.invoices("prod") == (polled_again,)


def test_a_source_that_has_told_all_is_known_to(address: str, open_ledger: OpenLedger) -> None:
    made_of("version-3.sql", address)
    engine = create_engine(address)
    with engine.begin() as connection:
        for old, new in (("serverless", "reporting"), ("models", "focus")):
            connection.execute(text("UPDATE scope SET source = :new WHERE source = :old"), {"old": old, "new": new})
    engine.dispose()
    ledger = open_ledger()
    ledger.activate({"prod": ["reporting", "focus"]})
    details = {scope.source: (scope.detail, scope.detail_version, scope.relabelled) for scope in ledger.scopes()}
    assert details == {"reporting": ("full", "", 0), "focus": ("", "", 0)}
    assert list(ledger.rejected_rows("prod").values()) == [NO_REJECTED_ROWS] * 2


def test_telling_surge_apart_moves_no_counter_and_is_no_restatement(migrated: Ledger) -> None:
    before = migrated.view()
    apart = [
        Charge(at(20, 0), APP, Amounts(40 * NANO, 40 * NANO, 500_000_000, 100_000_000, 400_000_000)),
        Charge(
            at(20, 0), APP._replace(surge=SURGE), Amounts(10 * NANO, 10 * NANO, 125_000_000, 25_000_000, 100_000_000)
        ),
    ]
    change = migrated.restate("prod", "serverless", Window(at(20, 0), at(20, 1)), apart, at=at(20, 12))
    now = at(20, 12) + timedelta(minutes=30)
    # The month is shown once all of it is covered; what remains of it is read without a change.
    for source, stated in CHARGED.items():
        for hours in (Window(_FIRST_READ, at(20, 1 if source == "models" else 0)), Window(at(20, 1), at(20, 13))):
            its = [charge for charge in stated if charge.hour in hours]
            assert migrated.restate("prod", source, hours, its, at=now).is_empty
    after = migrated.view()
    assert values(after.month_to_date) == values(after.known_of_month)
    assert (change.added, change.changed, change.restated_up, change.restated_down) == (1, 1, 0, 0)
    assert values(after.spend) == values(before.spend)
    assert values(after.known_of_month) == values(before.known_of_month)
    assert values(after.surge_month_to_date) == {"shop": 100_000_000}
    assert values(after.gpu_time_surge_month_to_date) == {"shop": 10 * NANO}


def test_totals_of_the_days_are_made_of_the_charges(migrated: Ledger, address: str) -> None:
    reader = LedgerReader(address)
    with reader.snapshot() as snapshot:
        told = {
            found.group[0] or found.group[1]: found.amounts.cost for found in snapshot.usage(NOVEMBER, ["model", "app"])
        }
        days = {found.at: found.amounts.cost for found in snapshot.usage(NOVEMBER, [], "day")}
    assert told == values(migrated.view().known_of_month)
    assert days == {at(18, 0): 160_000_000, at(19, 0): 7, at(20, 0): 2**62 + 1_500_000_016}
    reader.close()


def test_what_was_folded_is_older_than_the_horizon(migrated: Ledger) -> None:
    first = {
        sample.labels[2] or sample.labels[3]: sample.value
        for page in migrated.view().first_seen
        for sample in page.samples
    }
    horizon = datetime(2026, 10, 1, tzinfo=UTC) - timedelta(hours=1)
    assert first == {
        "fal-ai/flux/dev": horizon.timestamp(),
        "shop": horizon.timestamp(),
        "fal-ai/kling": at(19, 5).timestamp(),
    }


def test_a_price_goes_on_with_its_changes(migrated: Ledger, address: str) -> None:
    assert values(migrated.view().discounts) == {"": 20 * NANO}
    seen = UnitPrice("prod", "model_apis", "fal-ai/flux/dev", "", "", "image", at(20, 12), 30_000_000, 20 * NANO)
    migrated.record_prices([seen])
    view = migrated.view()
    assert [sample.value for page in view.previous_prices for sample in page.samples] == [25_000_000]
    assert [sample.value for page in view.price_changes for sample in page.samples] == [at(20, 12).timestamp()]
    migrated.close()
    with open_statement(address) as statement:
        (record,) = statement.prices().values()
    assert record.former == (Former(at(20, 12), 25_000_000, None),)


def test_rows_still_refer_to_each_other(migrated: Ledger, address: str) -> None:
    migrated.close()
    engine = create_engine(address)
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
        referred = {key["referred_table"] for key in inspect(connection).get_foreign_keys("charge")}
        (unique,) = inspect(connection).get_unique_constraints("series")
        names = {column["name"] for column in inspect(connection).get_columns("observed_hour")}
    engine.dispose()
    assert referred == {"scope", "series"}
    assert {"surge", "member"} <= set(unique["column_names"])
    assert names == {"scope_id", "hour", "complete"}


def spent(ledger: LedgerOfRenaming) -> dict[tuple[str, ...], int]:
    return {sample.labels: int(sample.value) for page in ledger.view().spend for sample in page.samples}


def polled(ledger: LedgerOfRenaming, clock: Clock, account: str, cost: int) -> None:
    hour = hour_of(clock.now)
    charge = Charge(hour, Dimensions(account, model="fal-ai/flux/dev", unit="image"), Amounts(NANO, 0, cost, 0, cost))
    ledger.restate(account, "models", Window(hour, hour + HOUR), [charge], at=clock.now)


def test_counters_and_records_go_on_under_the_new_name(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",), "other": ("models",)})
    polled(ledger, clock, "studio", 5 * NANO)
    polled(ledger, clock, "other", 7 * NANO)
    ledger.scraped(ledger.view().sequence)
    clock.forward(minutes=5)
    polled(ledger, clock, "studio", 9 * NANO)
    ledger.record_balance(Balance("studio", 3 * NANO, clock.now))
    hour = hour_of(clock.now)
    ledger.record_prices([UnitPrice("studio", "model_apis", "fal-ai/flux/dev", "", "", "image", hour, 25, 0)])
    ledger.record_invoices(
        "studio", [Invoice("studio", "inv_1", "1", "paid", hour, hour + HOUR, None, None, "USD", 1, 0, 0, 1)]
    )
    before = spent(ledger)
    ledger.close()

    renaming = rename_account(address, "studio", "atelier", now=clock.now)

    assert renaming.joined_since is None
    again = open_ledger()
    again.activate({"atelier": ("models",), "other": ("models",)})
    renamed = {
        tuple("atelier" if label == "studio" else label for label in labels): item for labels, item in before.items()
    }
    assert spent(again) == renamed
    assert 4 * NANO in renamed.values()
    clock.forward(minutes=5)
    polled(again, clock, "atelier", 10 * NANO)
    assert sum(spent(again).values()) == sum(before.values()) + NANO
    view = again.view()
    assert (
        {balance.account for balance in view.balances} == {invoice.account for invoice in view.invoices} == {"atelier"}
    )
    assert [sample.labels[0] for page in view.unit_prices for sample in page.samples] == ["atelier"]


def by_hour(ledger: LedgerOfRenaming, window: Window) -> dict[datetime, int]:
    """Return what the hours of a window have cost, in nano-USD."""
    return {hour: sum(costs.values()) for hour, costs in ledger.hourly(window).items()}


def state(hours: Iterable[datetime], account: str, truth: dict[tuple[datetime, str], int]) -> list[Charge]:
    wanted = set(hours)
    return [
        Charge(hour, Dimensions(account, model=model, unit="image"), Amounts(cost, 0, cost, 0, cost))
        for (hour, model), cost in truth.items()
        if hour in wanted
    ]


@pytest.mark.parametrize("seed", range(6))
def test_after_joining_both_names_have_counted_everything_once(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """An account that is renamed after the exporter ran under the new name, beside one that never had another name."""
    chance = random.Random(seed)  # noqa: S311  reproducible, no secrets
    folder = tmp_path_factory.mktemp("renaming")
    clock = Clock()
    rules = Rules(birth_hold=timedelta(0))
    renamed = LedgerOfRenaming(f"sqlite:///{folder / 'renamed'}", rules=rules, clock=clock)
    control = LedgerOfRenaming(f"sqlite:///{folder / 'control'}", rules=rules, clock=clock)
    truth: dict[tuple[datetime, str], int] = {}

    def run(ledgers: dict[LedgerOfRenaming, str], polls: int) -> None:
        for ledger, name in ledgers.items():
            ledger.activate({name: ("models",)})
        for _ in range(polls):
            clock.forward(minutes=chance.randrange(5, 90))
            for _ in range(3):
                # Late charges and corrections up and down too, which a counter waits for.
                hour = hour_of(clock.now) - chance.randrange(5) * HOUR
                model = chance.choice("abcde")
                truth[hour, model] = max(0, truth.get((hour, model), 0) + chance.randrange(-400, 1000))
            window = Window(hour_of(clock.now) - chance.choice((1, 5, 30)) * HOUR, hour_of(clock.now) + HOUR)
            for ledger, name in ledgers.items():
                ledger.restate(name, "models", window, state(window.hours(), name, truth), at=clock.now)
                ledger.scraped(ledger.view().sequence)
                ledger.view()

    run({renamed: "studio", control: "studio"}, 6)
    told_as_studio = {labels[3]: value for labels, value in spent(renamed).items()}
    clock.forward(minutes=30)
    run({renamed: "atelier"}, 6)
    window = Window(hour_of(clock.now) - 40 * HOUR, hour_of(clock.now) + HOUR)
    renamed.restate("atelier", "models", window, state(window.hours(), "atelier", truth), at=clock.now)
    told_as_atelier = {labels[3]: value for labels, value in spent(renamed).items()}
    renamed.close()
    rename_account(f"sqlite:///{folder / 'renamed'}", "studio", "atelier", now=clock.now)
    again = LedgerOfRenaming(f"sqlite:///{folder / 'renamed'}", rules=rules, clock=clock)
    with closing(again), closing(control):
        again.activate({"atelier": ("models",)})
        control.restate("studio", "models", window, state(window.hours(), "studio", truth), at=clock.now)
        for ledger in (again, control):
            ledger.scraped(ledger.view().sequence)
        view, right = again.view(), control.view()
        now = {labels[3]: value for labels, value in spent(again).items()}
        wait = {sample.labels[3]: int(sample.value) for page in view.pending for sample in page.samples}
        exact = {sample.labels[3]: int(sample.value) for page in right.spend for sample in page.samples}
        ahead = {sample.labels[3]: int(sample.value) for page in right.pending for sample in page.samples}
        assert by_hour(again, window) == by_hour(control, window)
        assert view.totals["atelier"].last_hour == right.totals["studio"].last_hour
        for model, value in now.items():
            assert value >= told_as_atelier.get(model, 0), "no counter that has been seen falls"
            parts = (told_as_studio.get(model, 0) if model in told_as_atelier else 0) + value - wait[model]
            assert parts == exact[model] - ahead[model]
        assert now.keys() == exact.keys()
        assert view.charges == right.charges
        assert {sample.labels[0] for page in view.spend for sample in page.samples} == {"atelier"}


@pytest.fixture
def advised(open_ledger: OpenLedgerOfRenaming, clock: Clock) -> None:
    """The state in which the exporter advises to rename: it has run with the old name, and then with the new one."""
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate({"studio": ("models",)})
    clock.forward(hours=1)
    polled(ledger, clock, "studio", 5 * NANO)
    ledger.scraped(ledger.view().sequence)
    hour = hour_of(clock.now)
    item = ("model_apis", "fal-ai/flux/dev", "", "", "image")
    ledger.record_prices([UnitPrice("studio", *item, hour - 2 * HOUR, 25, 0)])
    ledger.record_prices([UnitPrice("studio", *item, hour - HOUR, 30, 0)])
    ledger.record_balance(Balance("studio", 3 * NANO, clock.now))
    invoice = Invoice("studio", "inv_1", "1", "open", hour, hour + HOUR, None, None, "USD", 1, 0, 0, 1)
    ledger.record_invoices("studio", [invoice, replace(invoice, id="inv_0")])
    ledger.names.record_probes([SourceProbe("studio", "models", clock.now, "1", reason_at_choice="")])
    ledger.names.record_key_owner(KeyOwner("studio", "hash", "artist"))
    clock.forward(minutes=10)
    ledger.activate({"atelier": ("models",)})
    clock.forward(hours=1)
    polled(ledger, clock, "atelier", 2 * NANO)
    ledger.record_prices([UnitPrice("atelier", *item, hour_of(clock.now) - HOUR, 33, 5)])
    ledger.record_prices([UnitPrice("atelier", *item, hour_of(clock.now), 35, 0)])
    ledger.record_balance(Balance("atelier", 1 * NANO, clock.now))
    ledger.record_invoices("atelier", [replace(invoice, account="atelier", status="paid")])
    ledger.names.record_probes([SourceProbe("atelier", "models", clock.now, "1")])
    ledger.close()


@pytest.mark.usefixtures("advised")
def test_the_newer_record_of_a_thing_stays_and_both_histories_are_one(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    renaming = rename_account(address, "studio", "atelier", now=clock.now)
    assert renaming.joined_since == NOON + timedelta(hours=1, minutes=10)
    assert renaming.shared == 2
    again = open_ledger()
    again.activate({"atelier": ("models",)})
    view = again.view()
    assert {invoice.id: invoice.status for invoice in view.invoices} == {"inv_0": "open", "inv_1": "paid"}
    assert {invoice.account for invoice in view.invoices} == {"atelier"}
    assert [item.amount for item in again.balance_history("atelier", NOON)] == [3 * NANO, NANO]
    (price,), (previous,) = (
        [sample.value for page in pages for sample in page.samples]
        for pages in (view.unit_prices, view.previous_prices)
    )
    assert (price, previous) == (35, 33)
    with open_statement(address) as statement:
        (record,) = statement.prices().values()
    assert [(item.price, item.discount) for item in record.former] == [(25, None), (30, 0), (33, 5)]
    (probe,) = again.names.probes("atelier")
    assert probe.reason_at_choice == "", "what the sources were chosen by is kept"
    assert again.names.key_owners() == (), "whose the key is, is asked anew"
    assert again.accounts() == {"atelier"}
    assert sum(by_hour(again, Window(hour_of(clock.now) - 24 * HOUR, hour_of(clock.now) + HOUR)).values()) == 7 * NANO


@pytest.mark.usefixtures("advised")
def test_every_table_is_joined(address: str, clock: Clock) -> None:
    """A table that is added is either of an account, of a source or of neither."""
    rename_account(address, "studio", "atelier", now=clock.now)
    ledger = LedgerOfRenaming(address, rules=Rules(), clock=clock)
    with closing(ledger), ledger._session.reading() as connection:
        for table in schema.metadata.sorted_tables:
            text = str(connection.execute(table.select()).all())
            assert "studio" not in text, table.name
            if "scope_id" in table.columns:
                assert {row.scope_id for row in connection.execute(table.select())} <= {1}, table.name


@pytest.mark.usefixtures("advised")
def test_a_renaming_that_fails_has_changed_nothing(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(renaming_module, "_rename_prices", broken)
    with pytest.raises(LedgerError, match="the disk is full"):
        rename_account(address, "studio", "atelier", now=clock.now)
    again = open_ledger()
    assert again.accounts() == {"studio", "atelier"}
    again.activate({"atelier": ("models",)})
    assert list(spent(again).values()) == [0]


def test_two_accounts_that_were_polled_at_the_same_time_are_not_joined(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",), "other": ("models",)})
    clock.forward(minutes=1)
    polled(ledger, clock, "studio", 5 * NANO)
    ledger.close()
    with pytest.raises(LedgerError, match='Keep the name "other", whose counters continue') as caught:
        rename_account(address, "studio", "other", now=clock.now)
    assert "polled at the same time are different accounts" in str(caught.value)
    again = open_ledger()
    again.activate({"studio": ("models",), "other": ("models",)})
    assert [labels[0] for labels in spent(again)] == ["studio"]


def test_an_account_that_has_changed_its_sources_since_cannot_be_joined(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",)})
    ledger.activate({"atelier": ("models",)})
    ledger.activate({"atelier": ("organization",)})
    ledger.close()
    with pytest.raises(LedgerError, match="from sources that it no longer polls"):
        rename_account(address, "studio", "atelier", now=clock.now)


def test_an_account_whose_first_hours_have_been_folded_cannot_be_joined(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",)})
    ledger.activate({"atelier": ("models",)})
    polled(ledger, clock, "atelier", 5 * NANO)
    clock.forward(days=100)
    assert ledger.fold_before(clock.now - timedelta(days=80)) == 1
    ledger.close()
    with pytest.raises(LedgerError, match="longer than it keeps single hours"):
        rename_account(address, "studio", "atelier", now=clock.now)


def test_other_sources_under_the_new_name_take_the_place_of_those_before(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger(birth_hold=timedelta(0))
    ledger.activate({"studio": ("models",)})
    clock.forward(hours=1)
    polled(ledger, clock, "studio", 5 * NANO)
    ledger.scraped(ledger.view().sequence)
    ledger.view()
    ledger.activate({"atelier": ("models", "serverless")})
    clock.forward(hours=1)
    polled(ledger, clock, "atelier", 2 * NANO)
    hour = hour_of(clock.now)
    machine = Charge(hour, Dimensions("atelier", app="painter"), Amounts(cost=NANO))
    ledger.restate("atelier", "serverless", Window(hour, hour + HOUR), [machine], at=clock.now)
    ledger.close()
    rename_account(address, "studio", "atelier", now=clock.now)
    again = open_ledger(birth_hold=timedelta(0))
    assert again.counted_sources("atelier") == ("models", "serverless")
    again.activate({"atelier": ("models", "serverless")})
    again.scraped(again.view().sequence)
    assert sum(spent(again).values()) == 3 * NANO
    assert sum(by_hour(again, Window(hour_of(clock.now) - 24 * HOUR, hour_of(clock.now) + HOUR)).values()) == 8 * NANO


def test_an_unknown_name_and_the_same_one_are_refused(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",), "other": ("models",)})
    ledger.close()
    with pytest.raises(LedgerError, match='has no account "nobody"; its accounts are: other, studio'):
        rename_account(address, "nobody", "atelier", now=clock.now)
    with pytest.raises(LedgerError, match='"studio" is already the name of the account'):
        rename_account(address, "studio", "studio", now=clock.now)


def test_while_an_exporter_is_running_nothing_is_renamed(
    address: str, open_ledger: OpenLedgerOfRenaming, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",)})
    ledger.close()
    lock = take_collector_lock(address)
    with pytest.raises(LedgerInUseError, match="already has a collector"):
        rename_account(address, "studio", "atelier", now=clock.now)
    lock.release()
    assert rename_account(address, "studio", "atelier", now=clock.now).joined_since is None


def test_an_empty_ledger_has_nothing_to_rename(address: str, clock: Clock) -> None:
    with pytest.raises(LedgerError, match="there is no account to rename"):
        rename_account(address, "studio", "atelier", now=clock.now)
