from datetime import UTC, datetime

from exporter.ledger import Reconciliation
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.snapshot import CATEGORIES, reconciled

SEPTEMBER, OCTOBER, NOVEMBER = (datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11))
NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


def compared(against: str, month: datetime, usage: int, **categories: int) -> Reconciliation:
    return Reconciliation("prod", against, month, NOW, NOW, 1000, usage, {"Usage": usage, **categories})


def shown(*them: Reconciliation, at: datetime = NOW) -> dict[str, dict[tuple[str, ...], int | float]]:
    found = reconciled(them, at)
    assert all(len(sample.labels) == len(CATALOGUE[name].labels) for name, them in found.items() for sample in them)
    return {name: {sample.labels: sample.value for sample in samples} for name, samples in found.items()}


def test_a_difference_is_what_the_ledger_has_less_what_is_billed_by_period() -> None:
    tables = shown(
        compared("focus_invoice", OCTOBER, 990), compared("invoice", OCTOBER, 1001), compared("invoice", NOVEMBER, 1000)
    )
    assert tables["fal_reconciliation_difference_usd"] == {
        ("prod", "focus_invoice", "last_month"): 10,
        ("prod", "invoice", "last_month"): -1,
        ("prod", "invoice", "current_month"): 0,
    }
    assert tables["fal_reconciliation_timestamp_seconds"]["prod", "invoice", "last_month"] == NOW.timestamp()


def test_usage_credits_taxes_and_corrections_stand_apart_at_zero_where_there_are_none() -> None:
    tables = shown(compared("focus_invoice", OCTOBER, 990, Credit=-90, Tax=18, Correction=-5))
    assert tables["fal_focus_billed_usd"] == {
        ("prod", "Usage", "last_month"): 990,
        ("prod", "Purchase", "last_month"): 0,
        ("prod", "Credit", "last_month"): -90,
        ("prod", "Tax", "last_month"): 18,
        ("prod", "Adjustment", "last_month"): 0,
        ("prod", "Correction", "last_month"): -5,
    }


def test_estimate_and_invoice_of_one_month_are_never_added() -> None:
    both = (compared("focus_invoice", OCTOBER, 990), compared("focus_estimate", OCTOBER, 7))
    for them in (both, both[::-1]):
        tables = shown(*them, compared("focus_estimate", NOVEMBER, 40), compared("invoice", NOVEMBER, 3))
        billed = tables["fal_focus_billed_usd"]
        assert billed["prod", "Usage", "last_month"] == 990
        assert billed["prod", "Usage", "current_month"] == 40
        assert len(billed) == 2 * len(CATEGORIES)


def test_a_month_becomes_the_last_and_then_is_shown_no_more() -> None:
    then = compared("invoice", OCTOBER, 1)
    first = datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    periods = [
        [labels[2] for labels in shown(then, at=at)["fal_reconciliation_difference_usd"]]
        for at in (first, NOVEMBER, datetime(2026, 12, 1, tzinfo=UTC))
    ]
    assert periods == [["current_month"], ["last_month"], []]
    assert shown(compared("invoice", SEPTEMBER, 1))["fal_reconciliation_difference_usd"] == {}
