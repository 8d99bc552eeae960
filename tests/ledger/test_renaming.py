import random
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from ledger.conftest import NOON, Clock, OpenLedger

from exporter.charges import HOUR, NANO, Amounts, Balance, Charge, Dimensions, Invoice, UnitPrice, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import KeyOwner, LedgerInUseError, Rules, SourceProbe, schema, take_collector_lock
from exporter.ledger import renaming as renaming_module
from exporter.ledger.renaming import rename_account
from exporter.ledger.store import Ledger


def spent(ledger: Ledger) -> dict[tuple[str, ...], int]:
    return {sample.labels: int(sample.value) for page in ledger.view().spend for sample in page.samples}


def polled(ledger: Ledger, clock: Clock, account: str, cost: int) -> None:
    hour = hour_of(clock.now)
    charge = Charge(hour, Dimensions(account, model="fal-ai/flux/dev", unit="image"), Amounts(NANO, 0, cost, 0, cost))
    ledger.restate(account, "models", Window(hour, hour + HOUR), [charge], at=clock.now)


def test_counters_and_records_go_on_under_the_new_name(address: str, open_ledger: OpenLedger, clock: Clock) -> None:
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
    renamed = {tuple("atelier" if it == "studio" else it for it in labels): it for labels, it in before.items()}
    assert spent(again) == renamed
    assert 4 * NANO in renamed.values()
    clock.forward(minutes=5)
    polled(again, clock, "atelier", 10 * NANO)
    assert sum(spent(again).values()) == sum(before.values()) + NANO
    view = again.view()
    assert {it.account for it in view.balances} == {it.account for it in view.invoices} == {"atelier"}
    assert [sample.labels[0] for page in view.unit_prices for sample in page.samples] == ["atelier"]


def by_hour(ledger: Ledger, window: Window) -> dict[datetime, int]:
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
    renamed = Ledger(f"sqlite:///{folder / 'renamed'}", rules=rules, clock=clock)
    control = Ledger(f"sqlite:///{folder / 'control'}", rules=rules, clock=clock)
    truth: dict[tuple[datetime, str], int] = {}

    def run(ledgers: dict[Ledger, str], polls: int) -> None:
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
    again = Ledger(f"sqlite:///{folder / 'renamed'}", rules=rules, clock=clock)
    with closing(again), closing(control):
        again.activate({"atelier": ("models",)})
        control.restate("studio", "models", window, state(window.hours(), "studio", truth), at=clock.now)
        for ledger in (again, control):
            ledger.scraped(ledger.view().sequence)
        view, right = again.view(), control.view()
        now = {labels[3]: value for labels, value in spent(again).items()}
        wait = {it.labels[3]: int(it.value) for page in view.pending for it in page.samples}
        exact = {it.labels[3]: int(it.value) for page in right.spend for it in page.samples}
        ahead = {it.labels[3]: int(it.value) for page in right.pending for it in page.samples}
        assert by_hour(again, window) == by_hour(control, window)
        assert view.totals["atelier"].last_hour == right.totals["studio"].last_hour
        for model, value in now.items():
            assert value >= told_as_atelier.get(model, 0), "no counter that has been seen falls"
            parts = (told_as_studio.get(model, 0) if model in told_as_atelier else 0) + value - wait[model]
            assert parts == exact[model] - ahead[model]
        assert now.keys() == exact.keys()
        assert view.charges == right.charges
        assert {it.labels[0] for page in view.spend for it in page.samples} == {"atelier"}


@pytest.fixture
def advised(open_ledger: OpenLedger, clock: Clock) -> None:
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
    ledger.record_probes([SourceProbe("studio", "models", clock.now, "1", reason_at_choice="")])
    ledger.record_key_owner(KeyOwner("studio", "hash", "artist"))
    clock.forward(minutes=10)
    ledger.activate({"atelier": ("models",)})
    clock.forward(hours=1)
    polled(ledger, clock, "atelier", 2 * NANO)
    ledger.record_prices([UnitPrice("atelier", *item, hour_of(clock.now), 35, 0)])
    ledger.record_balance(Balance("atelier", 1 * NANO, clock.now))
    ledger.record_invoices("atelier", [replace(invoice, account="atelier", status="paid")])
    ledger.record_probes([SourceProbe("atelier", "models", clock.now, "1")])
    ledger.close()


@pytest.mark.usefixtures("advised")
def test_the_newer_record_of_a_thing_stays_and_both_histories_are_one(
    address: str, open_ledger: OpenLedger, clock: Clock
) -> None:
    renaming = rename_account(address, "studio", "atelier", now=clock.now)
    assert renaming.joined_since == NOON + timedelta(hours=1, minutes=10)
    assert renaming.shared == 2
    again = open_ledger()
    again.activate({"atelier": ("models",)})
    view = again.view()
    assert {it.id: it.status for it in view.invoices} == {"inv_0": "open", "inv_1": "paid"}
    assert {it.account for it in view.invoices} == {"atelier"}
    assert [it.amount for it in again.balance_history("atelier", NOON)] == [3 * NANO, NANO]
    (price,), (previous,) = (
        [it.value for page in pages for it in page.samples] for pages in (view.unit_prices, view.previous_prices)
    )
    assert (price, previous) == (35, 30)
    (probe,) = again.probes("atelier")
    assert probe.reason_at_choice == "", "what the sources were chosen by is kept"
    assert again.key_owners() == (KeyOwner("atelier", "hash", "artist"),)
    assert again.accounts() == {"atelier"}
    assert sum(by_hour(again, Window(hour_of(clock.now) - 24 * HOUR, hour_of(clock.now) + HOUR)).values()) == 7 * NANO


@pytest.mark.usefixtures("advised")
def test_every_table_is_joined(address: str, clock: Clock) -> None:
    """A table that is added is either of an account, of a source or of neither."""
    rename_account(address, "studio", "atelier", now=clock.now)
    ledger = Ledger(address, rules=Rules(), clock=clock)
    with closing(ledger), ledger._session.reading() as connection:
        for table in schema.metadata.sorted_tables:
            text = str(connection.execute(table.select()).all())
            assert "studio" not in text, table.name
            if "scope_id" in table.columns:
                assert {row.scope_id for row in connection.execute(table.select())} <= {1}, table.name


@pytest.mark.usefixtures("advised")
def test_a_renaming_that_fails_has_changed_nothing(
    address: str, open_ledger: OpenLedger, clock: Clock, monkeypatch: pytest.MonkeyPatch
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
    address: str, open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",), "other": ("models",)})
    clock.forward(minutes=1)
    polled(ledger, clock, "studio", 5 * NANO)
    ledger.close()
    with pytest.raises(LedgerError, match='Keep the name "other", whose counters go on') as caught:
        rename_account(address, "studio", "other", now=clock.now)
    assert "polled at the same time are two" in str(caught.value)
    again = open_ledger()
    again.activate({"studio": ("models",), "other": ("models",)})
    assert [labels[0] for labels in spent(again)] == ["studio"]


def test_an_account_that_has_changed_its_sources_since_cannot_be_joined(
    address: str, open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",)})
    ledger.activate({"atelier": ("models",)})
    ledger.activate({"atelier": ("organization",)})
    ledger.close()
    with pytest.raises(LedgerError, match="from sources that it no longer polls"):
        rename_account(address, "studio", "atelier", now=clock.now)


def test_an_account_whose_first_hours_have_been_folded_cannot_be_joined(
    address: str, open_ledger: OpenLedger, clock: Clock
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
    address: str, open_ledger: OpenLedger, clock: Clock
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


def test_an_unknown_name_and_the_same_one_are_refused(address: str, open_ledger: OpenLedger, clock: Clock) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",), "other": ("models",)})
    ledger.close()
    with pytest.raises(LedgerError, match='has no account "nobody"; its accounts are: other, studio'):
        rename_account(address, "nobody", "atelier", now=clock.now)
    with pytest.raises(LedgerError, match='"studio" is the name that the account has'):
        rename_account(address, "studio", "studio", now=clock.now)


def test_while_an_exporter_is_running_nothing_is_renamed(address: str, open_ledger: OpenLedger, clock: Clock) -> None:
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
