import pytest
from ledger.conftest import Clock, OpenLedger

from exporter.charges import HOUR, NANO, Amounts, Balance, Charge, Dimensions, Invoice, UnitPrice, Window, hour_of
from exporter.errors import LedgerError
from exporter.ledger import Ledger
from exporter.ledger.migrations import rename_account


def spent(ledger: Ledger) -> dict[tuple[str, ...], int]:
    return {sample.labels: sample.value for page in ledger.view().spend for sample in page.samples}


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

    rename_account(address, "studio", "atelier")

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


def test_an_unknown_name_and_one_in_use_are_refused_and_nothing_changes(
    address: str, open_ledger: OpenLedger, clock: Clock
) -> None:
    ledger = open_ledger()
    ledger.activate({"studio": ("models",), "other": ("models",)})
    polled(ledger, clock, "studio", 5 * NANO)
    ledger.close()
    with pytest.raises(LedgerError, match='has no account "nobody"; its accounts are: other, studio'):
        rename_account(address, "nobody", "atelier")
    with pytest.raises(LedgerError, match='already counts for an account "other"'):
        rename_account(address, "studio", "other")
    again = open_ledger()
    again.activate({"studio": ("models",), "other": ("models",)})
    assert [labels[0] for labels in spent(again)] == ["studio"]


def test_an_empty_ledger_has_nothing_to_rename(address: str) -> None:
    with pytest.raises(LedgerError, match="there is no account to rename"):
        rename_account(address, "studio", "atelier")
