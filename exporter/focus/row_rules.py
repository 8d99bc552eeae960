"""The rules that join the fields of one row. Each looks at a row and tells the columns that break it."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

from exporter.focus.categories import SUBCATEGORIES
from exporter.focus.findings import Level, Rule
from exporter.focus.pricing import agrees
from exporter.focus.row import Row
from exporter.focus.values import EXACTLY, number_text

Broken = tuple[str, str]
"""A column and a note."""

Judge = Callable[[Row], Iterator[Broken]]

_LAST_SECOND = 59


class RowRule(NamedTuple):
    """A rule and how it is judged."""

    rule: Rule
    judge: Judge


def _is_metered(row: Row) -> bool:
    """Usage and purchases that are no corrections must say what was priced."""
    return row.category in {"Usage", "Purchase"} and not row.is_correction


def _needed(*columns: str) -> Judge:
    """Usage and purchases need the columns, where the file has them."""

    def judge(row: Row) -> Iterator[Broken]:
        if _is_metered(row):
            for column in columns:
                if row.has(column) and row.text(column) is None:
                    yield column, f"is null on {row.category}"

    return judge


def _not_on_tax(row: Row) -> Iterator[Broken]:
    if row.category == "Tax":
        for column in (
            *("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "PricingCategory"),
            *("SkuId", "SkuPriceId"),
        ):
            if row.text(column) is not None:
                yield column, "is not null on Tax"


def _product(price: str, cost: str) -> Judge:
    def judge(row: Row) -> Iterator[Broken]:
        unit_price, quantity, amount = row.number(price), row.number("PricingQuantity"), row.number(cost)
        if row.is_correction or unit_price is None or quantity is None or amount is None:
            return
        if not agrees(amount, unit_price, quantity):
            product = number_text(EXACTLY.multiply(unit_price, quantity))
            yield cost, f"{price} {row.text(price)} x PricingQuantity {row.text('PricingQuantity')} is {product}"

    return judge


def _together(*pairs: tuple[str, str]) -> Judge:
    """Both columns of a pair are null, or neither is."""

    def judge(row: Row) -> Iterator[Broken]:
        for one, other in pairs:
            if row.has(one) and row.has(other) and (row.text(one) is None) != (row.text(other) is None):
                missing, there = (one, other) if row.text(one) is None else (other, one)
                yield missing, f"is null though {there} is not"

    return judge


def _consumed(row: Row) -> Iterator[Broken]:
    unused = row.text("CommitmentDiscountStatus") == "Unused"
    for column in ("ConsumedQuantity", "ConsumedUnit"):
        if not row.has(column):
            continue
        there = row.text(column) is not None
        if there and (row.category not in {None, "Usage"} or unused):
            yield column, "is not null on " + ("an unused commitment" if unused else f"{row.category}")
        if not there and row.category == "Usage" and not row.is_correction and not unused:
            yield column, "is null on Usage"


def _credit_costs(row: Row) -> Iterator[Broken]:
    if row.category == "Credit":
        billed, effective = row.number("BilledCost"), row.number("EffectiveCost")
        if billed is not None and effective is not None and billed != effective:
            yield "EffectiveCost", f"BilledCost is {row.text('BilledCost')}"


def _purchase_frequency(row: Row) -> Iterator[Broken]:
    if row.category == "Purchase" and row.text("ChargeFrequency") == "Usage-Based":
        yield "ChargeFrequency", ""


def _issuer_bills(row: Row) -> Iterator[Broken]:
    provider, issuer = row.text("ProviderName"), row.text("InvoiceIssuerName")
    if provider is not None and issuer is not None and provider != issuer and row.number("BilledCost"):
        yield "BilledCost", f"{issuer} invoices for {provider}"


def _subcategory(row: Row) -> Iterator[Broken]:
    category, subcategory = row.text("ServiceCategory"), row.text("ServiceSubcategory")
    if subcategory is not None and subcategory not in SUBCATEGORIES.get(category or "", {subcategory}):
        yield "ServiceSubcategory", f"does not belong to {category}"


_PERIODS = (("ChargePeriodStart", "ChargePeriodEnd"), ("BillingPeriodStart", "BillingPeriodEnd"))


def _order(row: Row) -> Iterator[Broken]:
    for start, end in _PERIODS:
        first, last = row.instant(start), row.instant(end)
        if first is not None and last is not None and first >= last:
            yield end, f"{start} is {row.text(start)}"


def _half_open(row: Row) -> Iterator[Broken]:
    for _, end in _PERIODS:
        last = row.instant(end)
        if last is not None and last.second == _LAST_SECOND and last.minute == _LAST_SECOND:
            yield end, "write the instant after it"


def _containment(row: Row) -> Iterator[Broken]:
    edges = [
        row.instant(it) for it in ("BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodEnd")
    ]
    if row.category != "Usage" or row.is_correction or None in edges:
        return
    known = [edge for edge in edges if edge is not None]
    if known[1] < known[2] and any(one > other for one, other in pairwise(known)):
        yield (
            "ChargePeriodStart",
            f"the billing period is {row.text('BillingPeriodStart')}/{row.text('BillingPeriodEnd')}",
        )


def _commitment(row: Row) -> Iterator[Broken]:
    if row.has("CommitmentDiscountId") and row.text("CommitmentDiscountId") is None:
        for name in ("Category", "Name", "Quantity", "Status", "Type", "Unit"):
            if row.text(f"CommitmentDiscount{name}") is not None:
                yield f"CommitmentDiscount{name}", "CommitmentDiscountId is null"


def _without_sku_price(row: Row) -> Iterator[Broken]:
    if row.has("SkuPriceId") and row.text("SkuPriceId") is None:
        for column in ("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit"):
            if row.text(column) is not None:
                yield column, "SkuPriceId is null"


def _pricing_currency(row: Row) -> Iterator[Broken]:
    if row.text("PricingCurrency") is not None and row.text("PricingCurrency") == row.text("BillingCurrency"):
        for name in ("ContractedUnitPrice", "EffectiveCost", "ListUnitPrice"):
            own, same = row.number(f"PricingCurrency{name}"), row.number(name)
            if own is not None and same is not None and own != same:
                yield f"PricingCurrency{name}", f"{name} is {row.text(name)} in the same currency"


ROW_RULES: tuple[RowRule, ...] = (
    RowRule(
        Rule("list-cost-product", "Columns: ListCost", "ListCost is ListUnitPrice x PricingQuantity"),
        _product("ListUnitPrice", "ListCost"),
    ),
    RowRule(
        Rule(
            "contracted-cost-product",
            "Columns: ContractedCost",
            "ContractedCost is ContractedUnitPrice x PricingQuantity",
        ),
        _product("ContractedUnitPrice", "ContractedCost"),
    ),
    RowRule(
        Rule(
            "unit-price-needed", "Columns: ListUnitPrice, ContractedUnitPrice", "usage and purchases have unit prices"
        ),
        _needed("ListUnitPrice", "ContractedUnitPrice"),
    ),
    RowRule(
        Rule("quantity-needed", "Columns: PricingQuantity", "usage and purchases have a quantity and its unit"),
        _needed("PricingQuantity", "PricingUnit"),
    ),
    RowRule(
        Rule("sku-needed", "Columns: SkuId, SkuPriceId", "usage and purchases name what is priced"),
        _needed("SkuId", "SkuPriceId", "PricingCategory"),
    ),
    RowRule(Rule("tax-unpriced", "Columns: ChargeCategory", "a tax has no price, quantity or SKU"), _not_on_tax),
    RowRule(
        Rule("consumed-quantity", "Columns: ConsumedQuantity", "what was consumed is told for usage, and only for it"),
        _consumed,
    ),
    RowRule(
        Rule("null-together", "Columns: names and units", "a name or unit is null exactly where its id or quantity is"),
        _together(
            ("SubAccountId", "SubAccountName"),
            ("PricingQuantity", "PricingUnit"),
            ("ConsumedQuantity", "ConsumedUnit"),
            ("RegionId", "RegionName"),
            ("SkuId", "SkuMeter"),
            ("CommitmentDiscountQuantity", "CommitmentDiscountUnit"),
        ),
    ),
    RowRule(Rule("credit-effective-cost", "Columns: EffectiveCost", "on a credit it equals BilledCost"), _credit_costs),
    RowRule(
        Rule("purchase-frequency", "Columns: ChargeFrequency", "a purchase is not Usage-Based"), _purchase_frequency
    ),
    RowRule(
        Rule(
            "issuer-bills",
            "Columns: BilledCost",
            "BilledCost is 0 where somebody other than the provider invoices",
            until="1.2",
        ),
        _issuer_bills,
    ),
    RowRule(
        Rule("subcategory-parent", "Columns: ServiceSubcategory", "a subcategory belongs to its service category"),
        _subcategory,
    ),
    RowRule(Rule("period-order", "Attributes: Date/Time Format", "a period starts before it ends"), _order),
    RowRule(
        Rule("period-end-exclusive", "Columns: ChargePeriodEnd", "the end of a period is exclusive, no last second"),
        _half_open,
    ),
    RowRule(
        Rule(
            "period-containment",
            "Columns: BillingPeriodStart",
            "usage lies within its billing period, unless it is a correction",
            Level.SHOULD,
        ),
        _containment,
    ),
    RowRule(
        Rule("commitment-id", "Columns: CommitmentDiscountId", "nothing is told of a commitment without its id"),
        _commitment,
    ),
    RowRule(
        Rule(
            "price-without-sku-price",
            "Columns: SkuPriceId",
            "unit prices and the pricing quantity are null where SkuPriceId is",
            since="1.3",
        ),
        _without_sku_price,
    ),
    RowRule(
        Rule(
            "pricing-currency-equal",
            "Columns: PricingCurrency",
            "amounts in the pricing currency equal those in the billing currency where both are one",
            since="1.2",
        ),
        _pricing_currency,
    ),
)
