import json
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest
from focus.conftest import FileRow, base_rows, to_csv
from focus.test_checks import check
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus import reports as module
from exporter.focus.checks import RULES
from exporter.focus.findings import LONGEST_VALUE
from exporter.focus.reader import Reader
from exporter.focus.reports import (
    OTHERS,
    SummaryRow,
    SummaryTexts,
    Totals,
    check_json,
    check_junit,
    check_text,
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


def billed(rows: list[FileRow]) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0)).normalize()


def summed(data: bytes) -> tuple[Reader[SummaryRow], Totals]:
    reader, totals = Reader(SummaryRow), Totals()
    totals.add(reader.feed(data))
    totals.add(reader.finish())
    return reader, totals


def test_a_clean_file_is_told_in_one_sentence_and_its_invoices() -> None:
    first, *_, invoice = check_text("f.csv", check(to_csv(base_rows()), "1.2")).splitlines()
    rules = sum(rule.since <= "1.2" <= rule.until for rule in RULES)
    assert first == f"f.csv: FOCUS 1.2, 59 columns, 32 rows: no findings, {rules} rules checked."
    assert invoice == f"  in-202511  {billed(base_rows())} USD"


def test_one_is_told_as_one() -> None:
    text = check_text("f.csv", check(changed(BilledCost="$4")))
    assert "59 columns, 32 rows: 1 finding of 1 rule." in text
    assert "number-format (must, once): a number consists only of digits" in text
    assert "  line 6, BilledCost: '$4'\n" in text
    assert "1 column, 1 row: " in check_text("f.csv", check(b"BilledCost\n1.0\n"))


def test_several_are_counted_and_those_that_are_not_shown_too() -> None:
    text = check_text("f.csv", check(to_csv([row | {"Tags": "app"} for row in base_rows()])))
    assert "32 findings of 1 rule." in text
    assert "json-format (must, 32 times)" in text
    assert text.count("Tags: 'app'; is not JSON") == 20
    assert "  ... and 12 more\n" in text


def test_a_product_that_is_not_the_cost_is_told() -> None:
    text = check_text("f.csv", check(changed(ContractedCost="0.5")))
    assert "ContractedCost: '0.5'; ContractedUnitPrice 0.0225 x PricingQuantity 7.25 is 0.163125" in text


def test_json_and_junit_tell_the_same() -> None:
    report = check(changed(BilledCost="$4", SkuId=""))
    told = json.loads(check_json("f.csv", report))
    others = [row for place, row in enumerate(base_rows()) if place != 4]
    assert (told["file"], told["rows"], told["columns"], told["clean"]) == ("f.csv", 32, 59, False)
    assert told["counts"] == {"number-format": 1, "sku-needed": 1, "null-together": 1}
    assert told["findings"][0] == {
        "rule": "number-format",
        "level": "must",
        "section": "Attributes: Numeric Format",
        "line": 6,
        "column": "BilledCost",
        "value": "$4",
        "message": report.findings.kept[0].rule.says,
    }
    assert told["findings"][1]["message"].endswith("; is null on Usage")
    assert told["invoices"] == [{"invoice": "in-202511", "currency": "USD", "billed_cost": str(billed(others))}]
    suite = ET.fromstring(check_junit("f.csv", report))  # noqa: S314  our own
    failed = {case.get("name"): case.find("failure") for case in suite if case.find("failure") is not None}
    assert set(failed) == set(told["counts"])
    assert (suite.get("tests"), suite.get("failures")) == (str(len(report.rules)), "3")
    number = failed["number-format"]
    assert number is not None
    assert (number.text, str(number.get("message")).endswith("(once)")) == ("line 6, BilledCost: '$4'", True)


def test_junit_holds_what_xml_cannot() -> None:
    suite = ET.fromstring(check_junit("f\x00.csv", check(changed(BilledCost="\x01"))))  # noqa: S314  our own
    assert suite.get("name") == "FOCUS 1.2: f\N{REPLACEMENT CHARACTER}.csv"


def test_notes_come_last() -> None:
    report = check(to_csv(base_rows()))
    report.notes.append("something was not compared")
    assert check_text("f.csv", report).endswith("\nnote: something was not compared")


def test_a_summary_of_nothing_is_one_line() -> None:
    assert summary_text("f.csv", *summed(to_csv([]))) == "f.csv: FOCUS 1.2, 0 rows"


def test_a_summary_tells_what_is_not_in_it() -> None:
    text = summary_text("f.csv", *summed(changed(BilledCost="$4")))
    assert text.startswith("f.csv: FOCUS 1.2, 31 rows\n")
    assert "NOT in these sums (unreadable): 1 row\n  line 6, " in text
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
    assert text.splitlines()[6:10] == [
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
    assert text.count("BilledCost") == 10
    assert text.endswith("\n  ... and 22 more")
    assert "more" not in summary_text("f.csv", *summed(changed(BilledCost="$4")))


def test_rows_without_an_invoice_are_told_beside_those_with_one() -> None:
    rows = [row | {"InvoiceId": invoice} for row, invoice in zip(base_rows()[-2:], ("in-1", ""), strict=True)]
    assert check_text("f.csv", check(to_csv(rows))).endswith(
        "BilledCost by invoice:\n  (no invoice)  2.13 USD\n  in-1  -1.5 USD"
    )
    assert "by invoice" not in check_text("f.csv", check(to_csv([row | {"InvoiceId": ""} for row in rows])))


def test_what_concerns_the_whole_file_has_no_line() -> None:
    assert check_text("f.csv", check(to_csv([]))).endswith("[Cost and Usage]\n  the file")


def test_a_long_value_is_shortened() -> None:
    told = json.loads(check_json("f.csv", check(changed(BilledCost="$" * 10_000))))
    assert told["findings"][0]["value"] == "$" * LONGEST_VALUE + "..."
