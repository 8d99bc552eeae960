import pytest

from exporter.focus.rules import ROW_RULES, Instants, Numbers, Row

Texts = dict[str, str | None]
OCTOBER: Texts = {"BillingPeriodStart": "2025-10-01T00:00:00Z", "BillingPeriodEnd": "2025-11-01T00:00:00Z"}
FIRST_HOUR: Texts = {"ChargePeriodStart": "2025-10-01T00:00:00Z", "ChargePeriodEnd": "2025-10-01T01:00:00Z"}
COMMITMENT = [f"CommitmentDiscount{it}" for it in ("Category", "Name", "Quantity", "Status", "Type", "Unit")]


def broken(texts: Texts) -> set[tuple[str, str]]:
    """Return the rules that a row of these columns alone breaks, and where."""
    row = Row(texts, Numbers(), Instants())
    return {(it.rule.id, column) for it in ROW_RULES for column, _ in it.judge(row)}


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
    assert {rule for rule, _, _ in BROKEN} == {it.rule.id for it in ROW_RULES}


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
