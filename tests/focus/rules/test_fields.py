"""Single fields: what they may hold, which rule they break, and what is told of them."""

import pytest
from focus.conftest import base_rows, to_csv
from hypothesis import given
from hypothesis import strategies as st

from exporter.focus.check_report import Report
from exporter.focus.checks import Checker
from exporter.focus.columns import COLUMNS, Column
from exporter.focus.columns import Kind as ColumnKind
from exporter.focus.rules.fields import judge_of, stand_in
from exporter.focus.rules.table import Kind

RIGHT = [
    *(("BilledCost", text) for text in ("0", "12", "-1.5", "35.2E-7", "35.2E7", "-0.0", "1234567.890000000001")),
    # As many digits, or such digits, occur in decimals as well.
    *(("BilledCost", text) for text in ("0.0001000000000001", "0.1234567890123456", "0.30000000000000000004")),
    *(("ListUnitPrice", text) for text in ("0", "-0.0", "-0E5", "0.30000000000000004", "1E-9")),
    *(("BilledCost", text) for text in ("1E59", f"{'9' * 60}.{'9' * 60}", "1E-60")),
    *(("ChargePeriodStart", text) for text in ("2025-12-31T23:59:59Z", "2024-02-29T00:00:00Z")),
    ("ChargePeriodStart", "2025-10-01T00:00:00.00Z"),
    *(("BillingCurrency", text) for text in ("USD", "HRK", "BGN")),
    *(("PricingCurrency", text) for text in ("Tokens", "USD", "fal credits")),
    *(("PricingUnit", text) for text in ("GB-Hours", "GB/Hour", "1000 Tokens", "Units/3 Months")),
    ("Tags", '{"a": "b", "c": 1.5, "d": null, "e": true}'),
    ("Tags", f'{{"a": 1E59, "b": "{"1" * 99}"}}'),
    ("ContractApplied",
     '{"Elements": [{"ContractId": "a", "ContractCommitmentId": "b", "ContractCommitmentAppliedCost": 1}]}'),
    ("ChargeClass", "Correction"),
    *(("ResourceName", text) for text in ("not a number", "NA", "None", "nil", "a\tb\nc", "Not Applicable to all")),
    ("RegionName", "NA"),
    ("SubAccountName", "None"),
]  # fmt: skip


def flaws(column: str, text: str) -> list[tuple[Kind, str]]:
    nothing = stand_in(COLUMNS[column], text)
    if nothing is not None:
        return [(nothing.kind, nothing.value)]
    judge = judge_of(
        COLUMNS[column], "1.4", national=column == "BillingCurrency", least="0" if "Price" in column else None
    )
    return [(flaw.kind, flaw.value) for flaw in judge(text)]


@pytest.mark.parametrize(("column", "text"), RIGHT)
def test_a_field_is_right(column: str, text: str) -> None:
    assert flaws(column, text) == []


WRONG = [
    *((Kind.NULL_WORD, "", "ServiceName", text) for text in ("NULL", "null", "Null")),
    *(
        (Kind.PLACEHOLDER, "", "ServiceName", text)
        for text in ("", "N/A", "n/a", "-", "Unassigned", "undefined", "Not Applicable")
    ),
    *((Kind.PLACEHOLDER, "", "RegionName", text) for text in (" ", "   ")),
    *((Kind.BLANK, "", "ServiceName", text) for text in (" ", "   ")),
    *((Kind.PLACEHOLDER, "", "BilledCost", text) for text in ("None", "nil", "NA", "-")),
    *((Kind.PLACEHOLDER, "", "ChargeClass", text) for text in ("None", "na")),
    *(
        (Kind.FORMAT, "number", "BilledCost", text)
        for text in (
            *("+1", ".5", "5.", "1e7", "1E+7", "1 ", " 1", "1_000", "1.000.000", "$4.20"),
            *("4.20 USD", "USD 4.20", "US$4.20", "(4.2)", "4.2-", "1,234.5", "1 234,5", "1/2", "4;5", "5%", "=1+1"),
            *("\u0663", "\u22124.2", "~5", "1x10^7", "$-4.2", "1'000"),
        )
    ),
    *((Kind.TYPE, "", "BilledCost", text) for text in ("--1", "0x1", "E", "dear", "four", "{}")),
    *((Kind.FINITE, "", "BilledCost", text) for text in ("Infinity", "-inf", "NaN", "nan")),
    *((Kind.FILE, "bounds", "BilledCost", text) for text in ("1E70", "9" * 61, "0." + "1" * 61, "1E-999")),
    *((Kind.FILE, "bounds", "BilledCost", text) for text in ("1E60", "1E999999999999999999999")),
    *((Kind.FILE, "noise", "BilledCost", text) for text in ("0.30000000000000004", "-27.339198999999997")),
    (Kind.FORMAT, "number", "ListUnitPrice", "+1"),
    *((Kind.AT_LEAST, "", "ListUnitPrice", text) for text in ("-1", "-0.000000001", "-1E-9")),
    *(
        (Kind.FORMAT, "instant", "ChargePeriodStart", text)
        for text in (
            *("2025-10-01", "2025-10-01T00:00Z", "2025-10-01T00:00:00", "2025-10-01 00:00:00Z", "2025-10-01T00:00:00z"),
            *("2025-10-01T00:00:00.5Z", "2025-10-01T00:00:00+00:00", "01.10.2025", "10/01/2025 12:00", "2025/10/01"),
            *("20251001", "2025-10-01T00:00:00-07:00"),
        )
    ),
    *(
        (Kind.TYPE, "", "ChargePeriodStart", text)
        for text in (
            *("2025-10-01T24:00:00Z", "2025-10-01T23:60:00Z", "2025-10-01T23:59:60Z", "2025-13-01T00:00:00Z"),
            *("2025-10-32T00:00:00Z", "2025-02-30T00:00:00Z", "2025-02-29T00:00:00Z", "yesterday", "October"),
            "\u0662\u0660\u0662\u0665-10-01T00:00:00Z",
        )
    ),
    *((Kind.FORMAT, "currency", "BillingCurrency", text) for text in ("usd", "US$", "DOLLAR", "USDT")),
    *((Kind.NATIONAL, "", "BillingCurrency", text) for text in ("ABC", "XAU")),
    (Kind.FORMAT, "currency", "PricingCurrency", "eur"),
    *(
        (Kind.FORMAT, "unit", "PricingUnit", text)
        for text in ("seconds", "Second", "GB-Mo", "1 Hour", "vCPU-Hours", "0 Tokens", "Images used")
    ),
    *((Kind.FORMAT, "key-value", "Tags", text) for text in ("a=b", "[]", '{"a": []}', '{"a": 1, "a": 2}')),
    *((Kind.FORMAT, "key-value", "Tags", text) for text in ('{"a": NaN}', "{" * 100_000, '"a"')),
    *((Kind.FILE, "bounds", "Tags", text) for text in ('{"a": 1E999999999999999999999}', '{"a": 1E60}')),
    *((Kind.FORMAT, "object", "ContractApplied", text) for text in ("[]", "{")),
    (Kind.FILE, "bounds", "ContractApplied", '{"Elements": [{"ContractId": 1E70}]}'),
    *((Kind.ALLOWED, "", "ChargeCategory", text) for text in ("usage", "Fee")),
    *((Kind.FORMAT, "text", "ServiceName", text) for text in ("a\x00b", "a\x1b[1m", "\uffff")),
]


@pytest.mark.parametrize(("kind", "value", "column", "text"), WRONG)
def test_a_field_breaks_its_rule(kind: Kind, value: str, column: str, text: str) -> None:
    assert flaws(column, text) == [(kind, value)]


TEXTS = st.one_of(st.text(), st.from_regex(r"[-+$(]?[\d.,E ]+[)%]?"), st.from_regex(r"\{.*\}"))


@pytest.mark.parametrize(
    "column", {column.kind: column for column in COLUMNS.values()}.values(), ids=lambda item: item.name
)
@given(text=TEXTS)
def test_whatever_a_field_holds_is_judged(column: Column, text: str) -> None:
    if stand_in(column, text) is None:
        for flaw in judge_of(column, "1.3", national=column.kind is ColumnKind.CURRENCY, least="0")(text):
            assert isinstance(flaw.kind, Kind)


def changed(**changes: str) -> Report:
    rows = base_rows()
    rows[0] = rows[0] | changes
    checker = Checker("1.2")
    checker.feed(to_csv(rows))
    return checker.finish()


def test_a_custom_column_holds_any_text_but_an_empty_one() -> None:
    assert changed(x_Environment="N/A").is_clean
    assert changed(x_Environment="a\x00b").is_clean
    (finding,) = changed(x_Environment="  ").findings.kept
    assert (finding.rule.id, finding.column) == ("NullHandling-A-002-M", "x_Environment")


def test_a_note_says_what_would_be_right_or_what_is_wrong() -> None:
    notes = {
        text: changed(**{column: text}).findings.kept[0].note
        for column, text in (
            ("ChargeFrequency", "USAGE-BASED"),
            ("ChargeFrequency", "Monthly"),
            ("Tags", '{"a": []}'),
            ("ChargePeriodStart", "2025-02-30T00:00:00Z"),
            ("SkuPriceDetails", '{"gpucount": 1}'),
            ("PricingCurrency", "usd"),
        )
    }
    assert notes == {
        "USAGE-BASED": "write it 'Usage-Based'",
        "Monthly": "",
        '{"a": []}': "holds something other than a single value under 'a'",
        "2025-02-30T00:00:00Z": "is not a date of the calendar",
        '{"gpucount": 1}': "write 'gpucount' as 'GpuCount'",
        "usd": "write it 'USD'",
    }


def test_text_that_is_not_utf_8_breaks_a_rule_in_every_column() -> None:
    for column, rule in (("ServiceName", "ServiceName-C-001-M"), ("x_Environment", "StringHandling-A-001-M")):
        rows = base_rows()[:1]
        checker = Checker("1.2")
        checker.feed(to_csv([rows[0] | {column: "~"}]).replace(b"~", b"\xc4"))
        (finding,) = checker.finish().findings.kept
        assert (finding.rule.id, finding.column) == (rule, column)


def test_a_rule_that_is_ignored_takes_its_attribute_with_it() -> None:
    checker = Checker("1.2", ignored=["BilledCost-C-002-M"])
    checker.feed(to_csv([base_rows()[0] | {"BilledCost": "$4"}]))
    assert checker.finish().is_clean
