import json
from decimal import Decimal
from xml.etree import ElementTree as ET

import pytest
from focus.conftest import FileRow, base_rows, to_csv
from focus.test_checks import check

from exporter.focus.check_report import (
    check_json,
    check_junit,
    check_text,
    failure_json,
    failure_junit,
    failure_text,
    rules_text,
)
from exporter.focus.findings import LONGEST_VALUE
from exporter.focus.rules.table import rules, rules_of


def changed(**changes: str) -> bytes:
    """Return the base file with a change to its fifth row, which is line 6."""
    rows = base_rows()
    rows[4] = rows[4] | changes
    return to_csv(rows)


def billed(rows: list[FileRow]) -> Decimal:
    return sum((Decimal(row["BilledCost"]) for row in rows), Decimal(0)).normalize()


def test_a_clean_file_is_told_in_one_sentence_with_its_invoices_and_how_much_was_checked() -> None:
    report = check(to_csv(base_rows()), "1.2")
    first, *_, invoice, _, tally = check_text("f.csv", report).splitlines()
    assert first == "f.csv: FOCUS 1.2, 59 columns, 32 rows: no findings."
    assert invoice == f"  in-202511  {billed(base_rows())} USD"
    counts = [int(word) for word in tally.split() if word.isdigit()]
    assert sum(counts) == len(rules_of("1.2"))
    assert tally.startswith(f"{len(report.scope.active)} rules checked, {len(report.scope.not_applicable)} not appl")


def test_one_is_told_as_one() -> None:
    text = check_text("f.csv", check(changed(BilledCost="$4")))
    assert "59 columns, 32 rows: 1 finding of 1 rule, 1 of level must." in text
    assert "BilledCost-C-002-M (must, once): BilledCost is written as a plain number\n" in text
    assert "  line 6, BilledCost: '$4'; NumericFormat-A-008-M: a number holds no currency sign" in text
    assert "1 column, 1 row: " in check_text("f.csv", check(b"BilledCost\n1.0\n"))


def test_several_are_counted_and_those_that_are_not_shown_too() -> None:
    text = check_text("f.csv", check(to_csv([row | {"Tags": "app"} for row in base_rows()])))
    assert "32 findings of 1 rule, 32 of level must." in text
    assert "Tags-C-001-M (must, 32 times)" in text
    assert text.count("Tags: 'app'; is not JSON") == 20
    assert "  ... and 12 more\n" in text


def test_a_product_that_is_not_the_cost_is_told() -> None:
    text = check_text("f.csv", check(changed(ContractedCost="0.5")))
    assert "ContractedCost: '0.5'; ContractedUnitPrice 0.0225 x PricingQuantity 7.25 is 0.163125" in text


def test_what_makes_a_rule_apply_is_told() -> None:
    text = check_text("f.csv", check(changed(SkuId="")))
    assert "SkuId-C-005-C (must, once): SkuId is not null where ChargeCategory is Usage or Purchase and Charge" in text
    assert "  line 6, SkuId: ChargeCategory is Usage, ChargeClass is null\n" in text


def test_json_and_junit_tell_the_same() -> None:
    report = check(changed(BilledCost="$4", SkuId=""))
    told = json.loads(check_json("f.csv", report))
    others = [row for place, row in enumerate(base_rows()) if place != 4]
    assert (told["file"], told["error"], told["rows"], told["columns"]) == ("f.csv", None, 32, 59)
    assert told["counts"] == {"BilledCost-C-002-M": 1, "SkuId-C-005-C": 1, "SkuMeter-C-004-C": 1}
    assert told["levels"] == {"must": 3, "should": 0, "may": 0}
    assert told["findings"][0] == {
        "rule": "BilledCost-C-002-M",
        "attributes": ["NumericFormat-A-008-M"],
        "level": "must",
        "line": 6,
        "column": "BilledCost",
        "value": "$4",
        "message": "BilledCost is written as a plain number",
    }
    assert told["invoices"] == [
        {
            "invoice": "in-202511",
            "currency": "USD",
            "billed_cost": str(billed(others)),
            "rows": 31,
            "rows_left_out": 1,
            "known_cost_left_out": "4.0",
        }
    ]
    suite = ET.fromstring(check_junit("f.csv", report))  # noqa: S314  our own
    failed = {case.get("name"): case.find("failure") for case in suite if case.find("failure") is not None}
    assert set(failed) == {*told["counts"], "NumericFormat-A-008-M"}
    assert (suite.get("tests"), suite.get("failures")) == (str(len(suite)), "4")
    outcomes = {rule["id"]: rule["outcome"] for rule in told["rules"]}
    assert {name for name, outcome in outcomes.items() if outcome == "broken"} == set(failed)
    skipped = {case.get("name") for case in suite if case.find("skipped") is not None}
    assert {name for name, outcome in outcomes.items() if outcome not in {"broken", "holds"}} == skipped
    assert len(outcomes) == len(suite) == sum(told["outcomes"].values())
    number = failed["BilledCost-C-002-M"]
    assert number is not None
    assert str(number.text).startswith("line 6, BilledCost: '$4'")
    assert str(number.get("message")).endswith("(once)")


def test_ids_are_those_of_the_version() -> None:
    text = check_text("f.csv", check(changed(BilledCost="$4"), "1.3"))
    assert "CAU-BilledCost-C-002-M (must, once)" in text
    assert "; NumericFormat-A-008-M: " in text


def test_what_is_not_in_a_sum_is_told_beside_it() -> None:
    rows = [row | {"BilledCost": cost} for row, cost in zip(base_rows(), ("1E70", "$40.198572", "2.5"), strict=False)]
    text = check_text("f.csv", check(to_csv(rows)))
    assert (
        "  in-202511  2.5 USD  NOT in this sum: 2 rows whose BilledCost is not a number (readable: 40.198572 USD)\n"
        in text
    )
    rows = [row | {"BilledCost": "NaN", "InvoiceId": ""} for row in rows]
    assert "  (no invoice)  0.0 USD  NOT in this sum: 3 rows whose BilledCost is not a number\n" in check_text(
        "f.csv", check(to_csv(rows))
    )


def test_junit_holds_what_xml_cannot() -> None:
    suite = ET.fromstring(check_junit("f\x00.csv", check(changed(BilledCost="\x01"))))  # noqa: S314  our own
    assert suite.get("name") == "FOCUS 1.2: f\N{REPLACEMENT CHARACTER}.csv"


def test_a_file_that_cannot_be_checked_has_whole_documents_too() -> None:
    assert failure_text("f.csv", "was cut off") == ""
    told = json.loads(failure_json("f.csv", "was cut off"))
    assert (told["file"], told["error"], told["clean"], told["findings"]) == ("f.csv", "was cut off", False, [])
    suite = ET.fromstring(failure_junit("f\x00.csv", "was \x01 cut off"))  # noqa: S314  our own
    assert (suite.get("tests"), suite.get("errors"), suite.get("failures")) == ("1", "1", "0")
    error = suite.find("testcase/error")
    assert error is not None
    assert error.get("message") == "was \N{REPLACEMENT CHARACTER} cut off"


def test_notes_come_last() -> None:
    report = check(to_csv(base_rows()))
    report.notes.append("something was not compared")
    assert check_text("f.csv", report).endswith("\nnote: something was not compared")


def test_rows_without_an_invoice_are_told_beside_those_with_one() -> None:
    rows = [row | {"InvoiceId": invoice} for row, invoice in zip(base_rows()[-2:], ("in-1", ""), strict=True)]
    wanted = "BilledCost by invoice:\n  (no invoice)  2.13 USD\n  in-1  -1.5 USD\n"
    assert wanted in check_text("f.csv", check(to_csv(rows)))
    assert "by invoice" not in check_text("f.csv", check(to_csv([row | {"InvoiceId": ""} for row in rows])))


def test_what_concerns_the_whole_file_has_no_line() -> None:
    assert "X-NoRows (must, once): a file has at least one row\n  the file\n" in check_text("f.csv", check(to_csv([])))


def test_a_long_value_is_shortened() -> None:
    told = json.loads(check_json("f.csv", check(changed(BilledCost="$" * 10_000))))
    assert told["findings"][0]["value"] == "$" * LONGEST_VALUE + "..."


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.4"])
def test_the_table_of_rules_has_a_line_for_each(version: str) -> None:
    lines = rules_text(version, rules_of(version)).splitlines()
    assert len(lines) == len(rules_of(version)) + 2
    name = "CAU-BilledCost-C-003-M" if version == "1.4" else "BilledCost-C-003-M"
    assert any(
        line.startswith(f"| `{name}` | MUST | not-null | 1.0 to 1.4 | BilledCost is not null |") for line in lines
    )
    assert len(rules_text("1.4", rules()).splitlines()) == len(rules()) + 2
