import pytest

from exporter.focus.columns import COLUMNS
from exporter.focus.rules import FIELD_RULES, ROW_RULES, Instants, Numbers, Row, judge

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


Texts = dict[str, str | None]
OCTOBER: Texts = {"BillingPeriodStart": "2025-10-01T00:00:00Z", "BillingPeriodEnd": "2025-11-01T00:00:00Z"}
FIRST_HOUR: Texts = {"ChargePeriodStart": "2025-10-01T00:00:00Z", "ChargePeriodEnd": "2025-10-01T01:00:00Z"}
COMMITMENT = [f"CommitmentDiscount{item}" for item in ("Category", "Name", "Quantity", "Status", "Type", "Unit")]


def broken(texts: Texts) -> set[tuple[str, str]]:
    """Return the rules that a row of these columns alone breaks, and where."""
    row = Row(texts, Numbers(), Instants())
    return {(item.rule.id, column) for item in ROW_RULES for column, _ in item.judge(row)}


def of(category: str, **texts: str | None) -> Texts:
    return {"ChargeCategory": category} | texts


PAIRS = [
    ("SubAccountId", "SubAccountName"),
    ("PricingQuantity", "PricingUnit"),
    ("ConsumedQuantity", "ConsumedUnit"),
    ("RegionId", "RegionName"),
    ("SkuId", "SkuMeter"),
]
USD: Texts = {"BillingCurrency": "USD", "PricingCurrency": "USD"}
BROKEN: list[tuple[str, str, Texts]] = [
    ("list-cost-product", "ListCost", {"ListUnitPrice": "2", "PricingQuantity": "3", "ListCost": "7"}),
    ("contracted-cost-product", "ContractedCost",
     {"ContractedUnitPrice": "2", "PricingQuantity": "3", "ContractedCost": "7"}),
    *(
        (rule, column, of(category, **{column: None}))
        for category in ("Usage", "Purchase")
        for rule, columns in {
            "unit-price-needed": ("ListUnitPrice", "ContractedUnitPrice"),
            "quantity-needed": ("PricingQuantity", "PricingUnit"),
            "sku-needed": ("SkuId", "SkuPriceId", "PricingCategory"),
        }.items()
        for column in columns
    ),
    *(
        ("tax-unpriced", column, of("Tax", **{column: "1"}))
        for column in (
            *("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "PricingCategory", "SkuId"),
            "SkuPriceId",
        )
    ),
    *(
        ("consumed-quantity", column, texts)
        for column in ("ConsumedQuantity", "ConsumedUnit")
        for texts in (
            of("Usage", **{column: None}),
            of("Purchase", **{column: "1"}),
            of("Usage", CommitmentDiscountStatus="Unused", **{column: "1"}),
        )
    ),
    *(("null-together", one, {one: None, other: "1"}) for one, other in [*PAIRS, *(pair[::-1] for pair in PAIRS)]),
    ("null-together", "CommitmentDiscountUnit", {"CommitmentDiscountQuantity": "1", "CommitmentDiscountUnit": None}),
    ("credit-effective-cost", "EffectiveCost", of("Credit", BilledCost="-1", EffectiveCost="0")),
    ("purchase-frequency", "ChargeFrequency", of("Purchase", ChargeFrequency="Usage-Based")),
    ("issuer-bills", "BilledCost", {"ProviderName": "fal", "InvoiceIssuerName": "Reseller", "BilledCost": "0.1"}),
    ("subcategory-parent", "ServiceSubcategory", {"ServiceCategory": "Compute", "ServiceSubcategory": "Bots"}),
    ("period-order", "ChargePeriodEnd", FIRST_HOUR | {"ChargePeriodEnd": "2025-10-01T00:00:00Z"}),
    ("period-order", "BillingPeriodEnd", OCTOBER | {"BillingPeriodEnd": "2025-09-01T00:00:00Z"}),
    ("period-end-exclusive", "ChargePeriodEnd", FIRST_HOUR | {"ChargePeriodEnd": "2025-10-01T00:59:59Z"}),
    ("period-end-exclusive", "BillingPeriodEnd", OCTOBER | {"BillingPeriodEnd": "2025-10-31T23:59:59Z"}),
    ("period-containment", "ChargePeriodStart",
     of("Usage") | OCTOBER | FIRST_HOUR | {"ChargePeriodStart": "2025-09-30T23:00:00Z"}),
    ("period-containment", "ChargePeriodStart",
     of("Usage") | OCTOBER | FIRST_HOUR | {"ChargePeriodEnd": "2025-11-01T01:00:00Z"}),
    *(("commitment-id", column, {"CommitmentDiscountId": None, column: "1"}) for column in COMMITMENT),
    *(
        ("price-without-sku-price", column, {"SkuPriceId": None, column: "1"})
        for column in ("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit")
    ),
    *(
        ("pricing-currency-equal", f"PricingCurrency{column}",
         {**USD, column: "1", f"PricingCurrency{column}": "2"})
        for column in ("ContractedUnitPrice", "EffectiveCost", "ListUnitPrice")
    ),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "column", "texts"), BROKEN)
def test_a_row_breaks_this_rule_at_this_column_and_no_other(rule: str, column: str, texts: Texts) -> None:
    assert broken(texts) == {(rule, column)}


def test_every_rule_is_in_the_table() -> None:
    assert {rule for rule, _, _ in BROKEN} == {item.rule.id for item in ROW_RULES}


UNPRICED = dict.fromkeys(
    ("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "SkuId", "PricingCategory")
)
KEPT: dict[str, Texts] = {
    "columns that the file lacks": of("Usage"),
    "a region without a column for its name": {"RegionId": "eu"},
    "a commitment without a column for its id": {"CommitmentDiscountStatus": "Used"},
    "a correction that tells no price": of("Usage", ChargeClass="Correction", **UNPRICED),
    "a correction that tells nothing consumed": of("Usage", ChargeClass="Correction", ConsumedQuantity=None),
    "a correction whose cost is no product": {
        "ChargeClass": "Correction",
        "ListCost": "7",
        "ListUnitPrice": "2",
        "PricingQuantity": "3",
    },
    "a credit without a price": of("Credit", BilledCost="-1", EffectiveCost="-1.0", **UNPRICED),
    "a purchase that pays ahead": of("Purchase", BilledCost="10", EffectiveCost="0", ChargeFrequency="One-Time"),
    "something consumed by nobody knows what": {"ChargeCategory": None, "ConsumedQuantity": "1"},
    "an unused commitment, nothing consumed": of(
        "Usage", CommitmentDiscountStatus="Unused", ConsumedQuantity=None, ConsumedUnit=None
    ),
    "somebody else invoices nothing": {"ProviderName": "fal", "InvoiceIssuerName": "Reseller", "BilledCost": "0.0"},
    "a subcategory of a category that is none": {"ServiceCategory": "Magic", "ServiceSubcategory": "Bots"},
    "a subcategory without its category": {"ServiceSubcategory": "Bots"},
    "an end in the last second of a minute": FIRST_HOUR | {"ChargePeriodEnd": "2025-10-01T00:30:59Z"},
    "an end in the last minute of an hour": FIRST_HOUR | {"ChargePeriodEnd": "2025-10-01T00:59:00Z"},
    "usage of a whole billing period": of("Usage")
    | OCTOBER
    | {"ChargePeriodStart": OCTOBER["BillingPeriodStart"], "ChargePeriodEnd": OCTOBER["BillingPeriodEnd"]},
    "a correction of another period": of("Usage", ChargeClass="Correction")
    | OCTOBER
    | {"ChargePeriodStart": "2025-08-01T00:00:00Z", "ChargePeriodEnd": "2025-09-01T00:00:00Z"},
    "a credit of another period": of("Credit")
    | OCTOBER
    | {"ChargePeriodStart": "2025-08-01T00:00:00Z", "ChargePeriodEnd": "2025-09-01T00:00:00Z"},
    "amounts in no pricing currency": {
        "BillingCurrency": None,
        "PricingCurrency": None,
        "EffectiveCost": "1",
        "PricingCurrencyEffectiveCost": "2",
    },
    "amounts in another pricing currency": {
        "BillingCurrency": "USD",
        "PricingCurrency": "Tokens",
        "EffectiveCost": "1",
        "PricingCurrencyEffectiveCost": "2",
    },
    "a number that is none": {"ListUnitPrice": "dear", "PricingQuantity": "3", "ListCost": "7"},
}


@pytest.mark.parametrize("texts", KEPT.values(), ids=KEPT)
def test_a_row_breaks_no_rule(texts: Texts) -> None:
    assert broken(texts) == set()


def test_a_period_that_is_reversed_is_not_told_to_be_outside_as_well() -> None:
    reversed_period = {"ChargePeriodStart": "2025-10-02T00:00:00Z", "ChargePeriodEnd": "2025-09-01T00:00:00Z"}
    assert broken(of("Usage") | OCTOBER | reversed_period) == {("period-order", "ChargePeriodEnd")}
