from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from exporter.charges import NANO, Amounts, Bill, Charge, Dimensions, Window
from exporter.ledger import Ledger, Reconciliation
from exporter.ledger.maintenance.renaming import rename_account

OpenLedger = Callable[..., Ledger]

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)
MONTH = Window(OCTOBER, NOVEMBER)
AT = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def charge(hour: datetime, cost: int, **dimensions: str) -> Charge:
    return Charge(hour, Dimensions("prod", unit="image", **dimensions), Amounts(NANO, 0, cost, 0, cost))


def bill(usage: int, against: str = "focus_invoice", window: Window = MONTH, account: str = "prod") -> Bill:
    return Bill(account, against, window, usage, {"Usage": usage, "Credit": -5, "Tax": 3})


def filled(ledger: Ledger) -> Ledger:
    ledger.activate({"prod": ["models", "serverless"], "other": ["models"]})
    hour = timedelta(hours=1)
    for source, window, charges in (
        ("models", Window(OCTOBER - hour, OCTOBER + hour), [charge(OCTOBER - hour, 1), charge(OCTOBER, 20)]),
        ("models", Window(NOVEMBER - hour, NOVEMBER + hour), [charge(NOVEMBER - hour, 300), charge(NOVEMBER, 4000)]),
        ("serverless", Window(OCTOBER, OCTOBER + hour), [charge(OCTOBER, 50_000, app="a")]),
    ):
        ledger.restate("prod", source, window, charges, at=AT)
    strange = Charge(OCTOBER, Dimensions("other"), Amounts(0, 0, 7, 0, 7))
    ledger.restate("other", "models", Window(OCTOBER, OCTOBER + hour), [strange], at=AT)
    return ledger


def test_the_difference_is_the_ledgers_sum_of_the_months_hours_less_the_usage_that_is_billed(
    open_ledger: OpenLedger,
) -> None:
    ledger = filled(open_ledger())
    compared = ledger.reconcile(bill(50_300), at=AT)
    assert compared == Reconciliation(
        "prod", "focus_invoice", OCTOBER, NOVEMBER, AT, 50_320, 50_300, {"Usage": 50_300, "Credit": -5, "Tax": 3}
    )
    assert compared.difference == 20
    assert ledger.view().reconciliations == (compared,)


def test_an_estimate_is_compared_with_the_hours_that_it_tells_of(open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger())
    window = Window(OCTOBER, NOVEMBER - timedelta(hours=1))
    compared = ledger.reconcile(bill(60_000, "focus_estimate", window), at=AT)
    assert (compared.month, compared.through, compared.difference) == (OCTOBER, window.end, 50_020 - 60_000)


def test_the_newest_comparison_takes_the_place_of_the_one_before_and_outlives_a_restart(
    open_ledger: OpenLedger,
) -> None:
    ledger = filled(open_ledger())
    ledger.reconcile(bill(1), at=AT)
    other_kind = ledger.reconcile(bill(1, "invoice"), at=AT)
    huge = ledger.reconcile(bill(10**20), at=AT + timedelta(hours=6))
    ledger.close()
    again = open_ledger()
    again.activate({"prod": ["models", "serverless"]})
    assert {reconciliation.key: reconciliation for reconciliation in again.view().reconciliations} == {
        other_kind.key: other_kind,
        huge.key: huge,
    }


def test_comparisons_of_accounts_that_are_not_configured_are_kept_and_not_shown(open_ledger: OpenLedger) -> None:
    ledger = filled(open_ledger())
    ledger.reconcile(bill(1), at=AT)
    ledger.reconcile(bill(7, account="other"), at=AT)
    ledger.activate({"prod": ["models", "serverless"]})
    assert [reconciliation.account for reconciliation in ledger.view().reconciliations] == ["prod"]
    ledger.activate({"prod": ["models", "serverless"], "other": ["models"]})
    assert [reconciliation.account for reconciliation in ledger.view().reconciliations] == ["prod", "other"]


def test_a_renamed_account_keeps_its_comparisons(open_ledger: OpenLedger, address: str) -> None:
    ledger = filled(open_ledger())
    ledger.reconcile(bill(1), at=AT)
    ledger.close()
    rename_account(address, "prod", "live", now=AT)
    renamed = open_ledger()
    renamed.activate({"live": ["models", "serverless"]})
    assert [reconciliation.account for reconciliation in renamed.view().reconciliations] == ["live"]
