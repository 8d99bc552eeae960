import pytest

from exporter.focus.columns import COLUMNS
from exporter.focus.rules import FIELD_RULES, judge

RIGHT = [
    *(("BilledCost", text) for text in ("0", "12", "-1.5", "35.2E-7", "35.2E7", "-0.0", "1234567.890000000001")),
    # As many digits, or such digits, occur in decimals as well.
    *(("BilledCost", text) for text in ("0.0001000000000001", "0.1234567890123456", "0.30000000000000000004")),
    *(("ListUnitPrice", text) for text in ("0", "-0.0", "-0E5", "0.30000000000000004", "1E-9")),
    *(("ChargePeriodStart", text) for text in ("2025-12-31T23:59:59Z", "2024-02-29T00:00:00Z")),
    ("ChargePeriodStart", "2025-10-01T00:00:00.00Z"),
    ("BillingCurrency", "USD"),
    ("PricingCurrency", "Tokens"),
    ("PricingUnit", "GB-Hours"),
    ("Tags", '{"a": "b", "c": 1.5, "d": null, "e": true}'),
    ("ContractApplied", '{"a": {"b": [1]}}'),
    ("ChargeClass", "Correction"),
    ("ResourceName", "not a number"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "text"), RIGHT)
def test_a_field_is_right(column: str, text: str) -> None:
    assert judge(COLUMNS[column], text.encode()) == (text, None, "")


WRONG = [
    ("null-not-allowed", "BilledCost", ""),
    *(
        ("null-as-text", "ServiceName", text)
        for text in (
            *('""', " ", '"  "', "NULL", "null", "None", "nil", "NaN", "N/A", "na", "-", "Unassigned", "undefined"),
            "Not Applicable",
        )
    ),
    *(
        ("number-format", "BilledCost", text)
        for text in ("+1", ".5", "5.", "1e7", "1E+7", "--1", "1 ", "1_000", "0x1", "Infinity", "1.2.3", "E5", "٣")
    ),
    *(("number-format", "ListUnitPrice", text) for text in ("+1", "free")),
    *(("number-float-noise", "BilledCost", text) for text in ("0.30000000000000004", "-27.339198999999997")),
    *(("price-negative", "ListUnitPrice", text) for text in ("-1", "-0.000000001", "-1E-9")),
    *(
        ("date-format", "ChargePeriodStart", text)
        for text in (
            *("2025-10-01", "2025-10-01T00:00Z", "2025-10-01T00:00:00", "2025-10-01 00:00:00Z", "2025-10-01T00:00:00z"),
            *("2025-10-01T24:00:00Z", "2025-10-01T23:60:00Z", "2025-10-01T23:59:60Z", "2025-13-01T00:00:00Z"),
            *("2025-10-32T00:00:00Z", "2025-10-01T00:00:00.5Z", "2025-10-01T00:00:00+00:00", "2025-02-30T00:00:00Z"),
            *("2025-02-29T00:00:00Z", "٢٠٢٥-10-01T00:00:00Z"),
        )
    ),
    *(("currency-code", "BillingCurrency", text) for text in ("usd", "US$", "DOLLAR", "USDT")),
    *(("unit-format", "PricingUnit", text) for text in ("seconds", "Second")),
    *(("json-format", "Tags", text) for text in ("a=b", "[]", '{"a": []}', '{"a": 1, "a": 2}', '{"a": NaN}')),
    *(("json-format", "ContractApplied", text) for text in ("[]", "{")),
    *(("allowed-value", "ChargeCategory", text) for text in ("usage", "Fee")),
]


@pytest.mark.parametrize(("rule", "column", "text"), WRONG)
def test_a_field_breaks_its_rule(rule: str, column: str, text: str) -> None:
    found = judge(COLUMNS[column], text.encode()).rule
    assert found is not None
    assert found.id == rule


def test_text_that_is_not_utf_8_breaks_a_rule_in_every_column() -> None:
    for column in (COLUMNS["ServiceName"], None):
        found = judge(column, b"\xc4quipe")
        assert found.rule is not None
        assert (found.text, found.rule.id) == (None, "encoding")


def test_every_rule_for_fields_is_in_the_tables() -> None:
    assert {rule for rule, _, _ in WRONG} | {"encoding"} == {rule.id for rule in FIELD_RULES}


def test_a_custom_column_holds_any_text_but_an_empty_string() -> None:
    assert judge(None, b"") == (None, None, "")
    assert judge(None, b"N/A") == ("N/A", None, "")
    blank = judge(None, b'""').rule
    assert blank is not None
    assert blank.id == "null-as-text"


def test_a_note_says_what_would_be_right_or_what_is_wrong() -> None:
    assert judge(COLUMNS["ChargeCategory"], b"USAGE").note == "write it 'Usage'"
    assert judge(COLUMNS["ChargeCategory"], b"Fee").note == ""
    assert judge(COLUMNS["Tags"], b'"{""a"": []}"').note == "holds something other than a single value under 'a'"
    assert judge(COLUMNS["ChargePeriodStart"], b"2025-02-30T00:00:00Z").note == "is not a date of the calendar"
