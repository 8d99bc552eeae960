import json
from dataclasses import replace
from decimal import Decimal

import pytest
from focus.conftest import base_rows, to_csv
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus import reports as module
from exporter.focus.reader import Reader
from exporter.focus.reports import (
    OTHERS,
    PartRead,
    SummaryRow,
    SummaryTexts,
    Totals,
    summary_json,
    summary_text,
)
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


@pytest.mark.parametrize(("charge_class", "is_correction"), [("Correction", True), ("None", False), (None, False)])
def test_only_the_class_that_focus_has_makes_a_correction(charge_class: str | None, is_correction: bool) -> None:  # noqa: FBT001  a case
    totals, first = Totals(), row(Decimal(1))
    totals.add([first._replace(texts=replace(first.texts, charge_class=charge_class))])
    assert [key.correction for key in totals.sums()] == [is_correction]


def test_the_order_of_sums_is_not_that_in_which_rows_came() -> None:
    rows, left_out = [row(Decimal(3)), row(Decimal(1), sku="veo")], row(Decimal(2), sku="tts")._asdict()
    before, after = Totals(), Totals()
    # With Polars, rows come later than those between them that cannot be read.
    before.leave_out(left_out)
    before.add(rows)
    after.add(rows)
    after.leave_out(left_out)
    assert list(before.sums().items()) == list(after.sums().items())
    assert [key.sku for key in after.sums()] == ["flux", "veo", "tts"]


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


def changed(**changes: str) -> bytes:
    """Return the base file with a change to its fifth row, which is line 6."""
    rows = base_rows()
    rows[4] = rows[4] | changes
    return to_csv(rows)


def summed(data: bytes) -> tuple[list[PartRead], Totals]:
    totals = Totals()
    return [read(data, totals)], totals


def read(data: bytes, totals: Totals) -> PartRead:
    reader = Reader(SummaryRow, unreadable=totals.leave_out)
    totals.add(reader.feed(data))
    totals.add(reader.finish())
    version = reader.header.version if reader.header else ""
    return PartRead("f.csv", version, reader.rows, reader.naive_dates, reader.problems)


def test_a_summary_of_nothing_is_one_line() -> None:
    assert summary_text("f.csv", *summed(to_csv([]))) == "f.csv: FOCUS 1.2, 0 rows"


def test_a_summary_tells_what_is_not_in_it() -> None:
    text = summary_text("f.csv", *summed(changed(BilledCost="$4")))
    assert text.startswith("f.csv: FOCUS 1.2, 31 rows, and 1 row left out (INCOMPLETE)\n")
    assert (
        "INCOMPLETE: 1 row is left out of these sums, because something in it cannot be read\n  their readable cost"
        in text
    )
    assert "\n  line 6, " in text
    naive = to_csv([row | {"ChargePeriodStart": "2025-10-01 00:00:00"} for row in base_rows()])
    assert summary_text("f.csv", *summed(naive)).endswith("assumed to be UTC because they have no time zone: 32 dates")
    assert json.loads(summary_json("f.csv", *summed(naive)))["naive_dates"] == 32


def test_a_long_summary_puts_the_smallest_together() -> None:
    rows = [
        row | {"SkuId": f"sku-{place:02}", "BilledCost": f"{30 - place}.5"} for place, row in enumerate(base_rows())
    ]
    rows[0]["BillingCurrency"] = rows[29]["BillingCurrency"] = "EUR"
    by_sku = summary_text("f.csv", *summed(to_csv(rows))).partition("by SKU\n")[2].partition("\n\n")[0].splitlines()
    assert len(by_sku) == 23
    assert by_sku[1].split()[:4] == ["EUR", "sku-00", "1", "30.5"]
    assert by_sku[-2].split()[:5] == ["USD", "(11", "more)", "11", "57.5"]
    assert by_sku[-1].split()[:5] == ["EUR", "(1", "more)", "1", "1.5"]


def test_a_summary_is_a_table_with_aligned_columns() -> None:
    rows = [row | {"EffectiveCost": "0.125"} for row in base_rows()[-2:]]
    text = summary_text("f.csv", *summed(to_csv(rows)))
    assert text.splitlines()[10:14] == [
        "by charge category",
        "              rows  billed  list  effective",
        "  USD Tax        1    2.13  2.13      0.125",
        "  USD Credit     1    -1.5  -1.5      0.125",
    ]
    totals = json.loads(summary_json("f.csv", *summed(to_csv(rows))))["totals"]
    assert {
        (total["category"], total["billed_cost"], total["list_cost"], total["effective_cost"]) for total in totals
    } == {
        ("Tax", "2.13", "2.13", "0.125"),
        ("Credit", "-1.5", "-1.5", "0.125"),
    }


def test_rows_that_cannot_be_read_are_shown_in_part() -> None:
    text = summary_text("f.csv", *summed(to_csv([row | {"BilledCost": "$4"} for row in base_rows()])))
    assert text.count(", BilledCost") == 10
    assert text.endswith("\n  ... and 22 more")
    assert "more" not in summary_text("f.csv", *summed(changed(BilledCost="$4")))
