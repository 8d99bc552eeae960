"""Conformance rules of fields and rows."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import NamedTuple

from exporter.focus.charge import agrees
from exporter.focus.columns import CURRENCIES, SUBCATEGORIES, Column, Kind, is_unit
from exporter.focus.csv_parser import unquoted
from exporter.focus.findings import Level, Rule
from exporter.focus.values import EXACTLY, instant, json_object, key_values, number, number_text

_MOST_REMEMBERED = 20_000


class Numbers(dict[str, Decimal | None]):
    """Numbers by their text, None for what is none; each text is read once as long as it is remembered."""

    def __missing__(self, text: str) -> Decimal | None:
        """Read a text that is not remembered."""
        try:
            found = number(text)
        except ValueError:
            found = None
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[text] = found
        return found


class Instants(dict[str, datetime | None]):
    """Instants by their text, None for what is none."""

    def __missing__(self, text: str) -> datetime | None:
        """Read a text that is not remembered."""
        try:
            found, _ = instant(text)
        except ValueError:
            found = None
        if len(self) >= _MOST_REMEMBERED:
            self.clear()
        self[text] = found
        return found


class Row:
    """A row's values by column; a null, and a column that the file lacks, is None."""

    def __init__(self, texts: Mapping[str, str | None], numbers: Numbers, instants: Instants) -> None:
        self._texts = texts
        self._numbers = numbers
        self._instants = instants
        self.category = texts.get("ChargeCategory")
        self.is_correction = texts.get("ChargeClass") == "Correction"

    def has(self, column: str) -> bool:
        """Return whether the file has a column."""
        return column in self._texts

    def text(self, column: str) -> str | None:
        """Return the text of a column."""
        return self._texts.get(column)

    def number(self, column: str) -> Decimal | None:
        """Return the number in a column; None also where there is no number."""
        text = self._texts.get(column)
        return None if text is None else self._numbers[text]

    def instant(self, column: str) -> datetime | None:
        """Return the instant in a column; None also where there is no date."""
        text = self._texts.get(column)
        return None if text is None else self._instants[text]


NOT_NULL = Rule("null-not-allowed", "Columns: nullability", "the column must not be null")
NULL_TEXT = Rule(
    "null-as-text", "Attributes: Null Handling", "null is an empty field without quotes, not an empty string or a word"
)
NUMBER = Rule(
    "number-format",
    "Attributes: Numeric Format",
    "a number consists only of digits, a minus, a decimal point and `E`: no plus, separators, currency signs or words",
)
FLOAT_NOISE = Rule(
    "number-float-noise",
    "Attributes: Numeric Format",
    "the number looks like the output of binary floating point, not like an amount",
    Level.SHOULD,
)
PRICE = Rule("price-negative", "Columns: unit prices", "a unit price is not negative")
INSTANT = Rule("date-format", "Attributes: Date/Time Format", "a date is YYYY-MM-DDTHH:mm:ssZ, in UTC")
CURRENCY = Rule("currency-code", "Attributes: Currency Format", "a currency is an ISO 4217 code in capitals")
UNIT = Rule(
    "unit-format",
    "Attributes: Unit Format",
    "a unit is capitalised and in the plural, such as `Images`, `GB-Hours` or `1000 Tokens`",
    Level.SHOULD,
)
JSON = Rule("json-format", "Attributes: Key-Value Format, JSON Object Format", "the value is a JSON object")
ALLOWED = Rule("allowed-value", "Columns: allowed values", "the value is one of the column's closed list")
ENCODING = Rule("encoding", "Attributes: String Handling", "text is UTF-8")

FIELD_RULES = (*(NOT_NULL, NULL_TEXT, NUMBER, FLOAT_NOISE, PRICE, INSTANT, CURRENCY, UNIT, JSON, ALLOWED, ENCODING),)

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:E-?\d+)?", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.0+)?Z", re.ASCII
)
_NO_VALUE = frozenset({"null", "none", "nil", "nan", "n/a", "na", "not applicable", "unassigned", "undefined", "-"})
_NOISE = re.compile(r"\.(?=\d{12})\d*(?:0{6}|9{6})\d{1,3}$")
_FLOAT_DIGITS = 16


class Verdict(NamedTuple):
    """A field: its text, None for null, and what is wrong with it, if anything is."""

    text: str | None
    rule: Rule | None = None
    note: str = ""


def judge(column: Column | None, raw: bytes) -> Verdict:
    """Judge a raw field of a column of the specification, or of a custom one."""
    if not raw:
        wrong = column is not None and not column.nullable
        return Verdict(None, NOT_NULL if wrong else None)
    try:
        text = unquoted(raw).decode()
    except UnicodeDecodeError:
        return Verdict(None, ENCODING)
    if not text.strip():
        return Verdict(None, NULL_TEXT, "an empty string")
    if column is None:
        return Verdict(text)
    if text.lower() in _NO_VALUE:
        return Verdict(None, NULL_TEXT)
    rule, note = _wrong(column, text)
    return Verdict(text, rule, note)


def _wrong(column: Column, text: str) -> tuple[Rule | None, str]:
    if column.allowed:
        return (None, "") if text in column.allowed else (ALLOWED, _nearest(column, text))
    check = _CHECKS.get(column.kind)
    return check(text) if check else (None, "")


def _nearest(column: Column, text: str) -> str:
    folded = {value.lower(): value for value in column.allowed}
    found = folded.get(text.lower())
    return f"write it {found!r}" if found else ""


def _number(text: str) -> tuple[Rule | None, str]:
    if not _NUMBER.fullmatch(text):
        return NUMBER, ""
    digits = re.sub(r"E.*|\D", "", text).lstrip("0")
    # The shortest text that gives the same float back is what a program prints that calculates with floats.
    if len(digits) >= _FLOAT_DIGITS and _NOISE.search(text) and repr(float(text)) == text:
        return FLOAT_NOISE, ""
    return None, ""


def _price(text: str) -> tuple[Rule | None, str]:
    # A price may be an average, which has as many digits as a number from a float.
    if not _NUMBER.fullmatch(text):
        return NUMBER, ""
    negative = text.startswith("-") and any(digit in text.partition("E")[0] for digit in "123456789")
    return (PRICE, "") if negative else (None, "")


def _instant(text: str) -> tuple[Rule | None, str]:
    if not _INSTANT.fullmatch(text):
        return INSTANT, ""
    try:
        instant(text)
    except ValueError as error:
        return INSTANT, str(error)
    return None, ""


def _currency(text: str) -> tuple[Rule | None, str]:
    return (None, "") if text in CURRENCIES else (CURRENCY, "")


def _unit(text: str) -> tuple[Rule | None, str]:
    return (None, "") if is_unit(text) else (UNIT, "")


def _json(read: Callable[[str], object]) -> Callable[[str], tuple[Rule | None, str]]:
    def check(text: str) -> tuple[Rule | None, str]:
        try:
            read(text)
        except ValueError as error:
            return JSON, str(error)
        return None, ""

    return check


_CHECKS: dict[Kind, Callable[[str], tuple[Rule | None, str]]] = {
    Kind.NUMBER: _number,
    Kind.PRICE: _price,
    Kind.INSTANT: _instant,
    Kind.CURRENCY: _currency,
    Kind.UNIT: _unit,
    Kind.KEY_VALUE: _json(key_values),
    Kind.OBJECT: _json(json_object),
}

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
        row.instant(item) for item in ("BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodEnd")
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
        Rule(
            "consumed-quantity",
            "Columns: ConsumedQuantity",
            "a consumed quantity is given for usage, and only for usage",
        ),
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
        Rule(
            "period-end-exclusive", "Columns: ChargePeriodEnd", "the end of a period is exclusive, not its last second"
        ),
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
        Rule("commitment-id", "Columns: CommitmentDiscountId", "nothing is said about a commitment without its id"),
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
