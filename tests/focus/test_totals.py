from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus import reports as module
from exporter.focus.reports import OTHERS, SummaryRow, SummaryTexts, Totals
from exporter.focus.row_schema import Count
from exporter.focus.values import Month

OCTOBER, NOVEMBER = Month(2025, 10), Month(2025, 11)


def row(cost: Decimal, sku: str = "flux", month: Month = OCTOBER, currency: str = "USD", lines: int = 1) -> SummaryRow:
    texts = SummaryTexts(currency, "Usage", None, "fal Model APIs", sku, None)
    return SummaryRow(texts, month, cost, cost, None, Count(lines))


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=30, min_value=-(10**25), max_value=10**25)))
def test_sums_are_exact_whatever_the_digits(costs: list[Decimal]) -> None:
    totals = Totals()
    totals.add(map(row, costs))
    scaled = sum(int(cost.scaleb(30)) if cost == 0 else int(f"{cost:.30f}".replace(".", "")) for cost in costs)
    found = totals.by("currency").get(("USD",))
    assert (
        (found is None) if not costs else (found is not None and int(f"{found.billed:.30f}".replace(".", "")) == scaled)
    )


def test_currencies_and_months_are_kept_apart() -> None:
    totals = Totals()
    totals.add([row(Decimal(1)), row(Decimal(2), month=NOVEMBER), row(Decimal(4), currency="EUR")])
    assert {key: total.billed for key, total in totals.by("currency", "month").items()} == {
        ("USD", "2025-10"): Decimal(1),
        ("USD", "2025-11"): Decimal(2),
        ("EUR", "2025-10"): Decimal(4),
    }


def test_a_cost_that_the_file_lacks_counts_as_nothing() -> None:
    totals = Totals()
    totals.add([row(Decimal(1))])
    (total,) = totals.sums().values()
    assert (total.listed, total.effective, total.rows) == (Decimal(1), Decimal(0), 1)


def test_a_row_may_stand_for_several_lines() -> None:
    totals = Totals()
    totals.add([row(Decimal(1)), row(Decimal(2), lines=41)])
    (total,) = totals.sums().values()
    assert (total.billed, total.rows) == (Decimal(3), 42)


def test_memory_is_bounded_and_nothing_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_SKUS", 10)
    totals = Totals()
    totals.add(row(Decimal(1), sku=f"sku-{number}") for number in range(100))
    by_sku = totals.by("sku")
    assert len(by_sku) == 11
    assert by_sku[OTHERS,].billed == 90
    assert totals.by("currency")["USD",].rows == 100
