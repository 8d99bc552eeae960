"""Writer of Cost and Usage files and of their metadata.

The columns of a metered product without commitments: all that FOCUS demands, prices, quantities and SKUs. Some are
always null and written all the same: rules of the specification, and of its official validator, refer to them.

Numbers are exact, in fixed notation and always with a decimal point; null is an empty field without quotes; fields are
quoted only where CSV needs it. All of that is what readers that guess types mistake least.
"""

import csv
import io
import json
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from io import BufferedIOBase
from itertools import compress, islice
from math import isfinite
from types import MappingProxyType
from typing import IO

from exporter.charges import NANO, Dimensions, Window, decimal_of
from exporter.focus.charge import FocusCharge, Settlement, month_start, next_month, prices_of
from exporter.focus.columns import COLUMNS, VERSIONS, Kind, focus_unit
from exporter.focus.values import instant_text, number_text

PROVIDER = "fal"
"""Name of the provider and invoice issuer, in every column that has one."""

WRITTEN_VERSIONS = VERSIONS[2:]
"""The versions that can be written."""

CUSTOM_COLUMNS: Mapping[str, Kind] = MappingProxyType(
    {
        "x_FalProduct": Kind.TEXT,
        "x_FalUnit": Kind.TEXT,
        "x_FalUnitPrice": Kind.NUMBER,
        "x_FalDiscountPercent": Kind.NUMBER,
        "x_ListCostDifference": Kind.NUMBER,
        "x_GpuClass": Kind.TEXT,
        "x_GpuSeconds": Kind.NUMBER,
    }
)
"""The columns of our own: fal's words and prices as it states them, and GPU time."""

_LEFT_OUT_OF_1_2 = frozenset(
    {
        *("AvailabilityZone", "BillingAccountType", "CapacityReservationId", "CapacityReservationStatus"),
        *("CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountType"),
        *("CommitmentDiscountQuantity", "CommitmentDiscountUnit", "RegionId", "RegionName", "ResourceId"),
        *("ResourceName", "ResourceType", "SubAccountType"),
    }
)
"""Columns for what fal has none of. Later versions have all columns, by which programs tell the version of a file."""

_ACCOUNT, _TEAM = "Account", "Team"
"""Types of billing accounts and of sub accounts."""

_SERVICES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "model_apis": ("AI and Machine Learning", "Generative AI", "fal Model APIs"),
        "serverless": ("Compute", "Serverless Compute", "fal Serverless"),
        "compute": ("Compute", "Virtual Machines", "fal Compute"),
    }
)
_OTHER_SERVICE = ("AI and Machine Learning", "Other (AI and Machine Learning)", "fal")
_BILLING_SERVICE = ("Other", "Other (Other)", "fal Billing")
_CURRENCY = "USD"


def layout(version: str) -> tuple[str, ...]:
    """Return the columns of a file of this version, in order.

    Raises:
        ValueError: the version is not one that can be written.
    """
    if version not in WRITTEN_VERSIONS:
        raise ValueError(f"FOCUS {version} cannot be written; one of {', '.join(WRITTEN_VERSIONS)} can")
    left_out = _LEFT_OUT_OF_1_2 if version == WRITTEN_VERSIONS[0] else frozenset()
    names = (name for name, column in COLUMNS.items() if column.is_in(version) and name not in left_out)
    return (*names, *CUSTOM_COLUMNS)


def product_of(dimensions: Dimensions) -> str:
    """Return fal's product line; told from what is named where a source does not state it."""
    if dimensions.product or dimensions.model:
        return dimensions.product or "model_apis"
    return "serverless" if dimensions.app or dimensions.gpu_class else ""


def sku_of(dimensions: Dimensions) -> str:
    """Return what is priced: the model's endpoint, or a class of machines of a product. Stable over time."""
    if dimensions.model:
        return dimensions.model
    return f"{product_of(dimensions) or PROVIDER}/{dimensions.gpu_class or 'machine'}"


def values(charge: FocusCharge) -> dict[str, str]:
    """Return what a charge has in every column of any version; null is the empty string."""
    dimensions, amounts = charge.dimensions, charge.amounts
    if charge.settlement is not None:
        return _settled(charge, charge.settlement)
    cost, list_cost = decimal_text(amounts.cost), decimal_text(amounts.list_cost)
    found = _fixed(charge) | {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "PricingCurrencyEffectiveCost": cost,
        "ListCost": list_cost,
        "x_FalProduct": dimensions.product,
        "x_FalUnit": dimensions.unit,
        "x_GpuClass": dimensions.gpu_class,
        "x_GpuSeconds": decimal_text(amounts.gpu_seconds) if amounts.gpu_seconds or dimensions.gpu_class else "",
    }
    if charge.price is not None:
        found["x_FalUnitPrice"] = decimal_text(charge.price.unit_price)
        found["x_FalDiscountPercent"] = decimal_text(charge.price.discount)
    prices = prices_of(charge)
    if prices is None:
        # Without a quantity there can be no price: what was charged all the same is not usage in the sense of FOCUS.
        return found | {"ChargeCategory": "Adjustment"}
    unit, quantity = focus_unit(dimensions.unit), decimal_text(amounts.quantity)
    price_id = "/".join(filter(None, (sku_of(dimensions), dimensions.unit or unit, dimensions.surge)))
    listed, contracted = number_text(prices.listed), number_text(prices.contracted)
    return found | {
        "ChargeCategory": "Usage",
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "PricingCategory": "Dynamic" if dimensions.surge else "Standard",
        "ListUnitPrice": listed,
        "PricingCurrencyListUnitPrice": listed,
        "ContractedUnitPrice": contracted,
        "PricingCurrencyContractedUnitPrice": contracted,
        "SkuId": sku_of(dimensions),
        "SkuMeter": dimensions.unit or unit,
        "SkuPriceId": price_id,
        "x_ListCostDifference": "" if prices.difference is None else number_text(prices.difference),
    }


def _settled(charge: FocusCharge, settlement: Settlement) -> dict[str, str]:
    """Return what a credit, a tax or an adjustment of an invoice has: a cost, and nothing that is priced."""
    cost = decimal_text(charge.amounts.cost)
    category, subcategory, service = _BILLING_SERVICE
    return _fixed(charge) | {
        "BilledCost": cost,
        "EffectiveCost": cost,
        "ContractedCost": cost,
        "PricingCurrencyEffectiveCost": cost,
        "ListCost": cost,
        "ChargeCategory": settlement.category,
        "ChargeDescription": settlement.description,
        "ChargeFrequency": "One-Time",
        "ServiceCategory": category,
        "ServiceName": service,
        "ServiceSubcategory": subcategory,
    }


_TAGS = ("app", "environment", "api_key", "member")
"""Dimensions of a charge that FOCUS has no column for."""


def decimal_text(count: int) -> str:
    """Write nano-units as a decimal."""
    whole, part = divmod(abs(count), NANO)
    digits = f"{part:09}".rstrip("0") or "0"
    return f"{'-' if count < 0 else ''}{whole}.{digits}"


def _fixed(charge: FocusCharge) -> dict[str, str]:
    """Return what does not depend on amounts."""
    dimensions = charge.dimensions
    category, subcategory, service = _SERVICES.get(product_of(dimensions), _OTHER_SERVICE)
    surge = " at surge prices" if dimensions.surge else ""
    tags = {name: getattr(dimensions, name) for name in _TAGS if getattr(dimensions, name)}
    if charge.tags:
        # What callers say stands beside the ledger's own words, which keep theirs.
        tags = {**json.loads(charge.tags), **tags}
    return {
        "BillingAccountId": dimensions.account,
        "BillingAccountName": dimensions.account,
        "BillingAccountType": _ACCOUNT,
        "BillingCurrency": _CURRENCY,
        "BillingPeriodStart": instant_text(month_start(charge.start)),
        "BillingPeriodEnd": instant_text(next_month(charge.start)),
        "ChargeDescription": f"{sku_of(dimensions)} by {dimensions.unit or 'use'}{surge}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": instant_text(charge.start),
        "ChargePeriodEnd": instant_text(charge.end),
        "HostProviderName": PROVIDER,
        "InvoiceId": charge.invoice_id,
        "InvoiceIssuerName": PROVIDER,
        "PricingCurrency": _CURRENCY,
        "ProviderName": PROVIDER,
        "PublisherName": PROVIDER,
        "ServiceCategory": category,
        "ServiceName": service,
        "ServiceProviderName": PROVIDER,
        "ServiceSubcategory": subcategory,
        "SubAccountId": dimensions.team,
        "SubAccountName": dimensions.team,
        "SubAccountType": _TEAM if dimensions.team else "",
        "Tags": json.dumps(tags, ensure_ascii=False) if tags else "",
    }


_ROWS = 500
_IN_MEMORY = 16 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """Contents of a written file.

    Attributes:
        columns: in order.
        billed_cost: the sum of BilledCost in nano-USD.
    """

    columns: tuple[str, ...]
    rows: int
    billed_cost: int


def write(
    charges: Iterable[FocusCharge],
    file: IO[bytes] | BufferedIOBase,
    *,
    version: str = "1.2",
    omit_empty_columns: bool = False,
    for_spreadsheet: bool = False,
) -> Written:
    """Write charges to a file, in their order.

    Args:
        charges: read once, and never held but for some hundreds.
        file: open for writing.
        version: of FOCUS.
        omit_empty_columns: leave out every column that no row fills, for programs that refuse nulls. What is left
            may lack columns that FOCUS demands.
        for_spreadsheet: put an apostrophe before a text that a spreadsheet would run as a formula. People open such a
            file; programs would read names that differ from fal's.

    Raises:
        ValueError: the version cannot be written.
    """
    columns = layout(version)
    tally = _Tally(columns, for_spreadsheet=for_spreadsheet)
    if not omit_empty_columns:
        file.write(_csv([columns]))
        file.writelines(map(_csv, tally.rows(charges)))
        return Written(columns, tally.count, tally.billed_cost)
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as spool:
        spool.writelines(map(_csv, tally.rows(charges)))
        spool.seek(0)
        kept = tuple(compress(columns, tally.filled))
        file.write(_csv([kept]))
        rows = csv.reader(io.TextIOWrapper(spool, encoding="utf-8", newline=""))
        while some := list(islice(rows, _ROWS)):
            file.write(_csv(compress(row, tally.filled) for row in some))
    return Written(kept, tally.count, tally.billed_cost)


def rows_of(
    charges: Iterable[FocusCharge], *, version: str = "1.2", for_spreadsheet: bool = False
) -> Iterator[list[list[str]]]:
    """Yield charges as rows with the columns of `layout`, some hundreds at a time; see `write`.

    Raises:
        ValueError: the version cannot be written.
    """
    return _Tally(layout(version), for_spreadsheet=for_spreadsheet).rows(charges)


class _Tally:
    """Turns charges into rows and remembers what they add up to."""

    def __init__(self, columns: tuple[str, ...], *, for_spreadsheet: bool) -> None:
        self.count = 0
        self.billed_cost = 0
        self._for_spreadsheet = for_spreadsheet
        self.filled = [False] * len(columns)
        self._columns = columns

    def rows(self, charges: Iterable[FocusCharge]) -> Iterator[list[list[str]]]:
        """Yield rows, some hundreds at a time."""
        rest = iter(charges)
        while some := list(islice(rest, _ROWS)):
            self.count += len(some)
            self.billed_cost += sum(charge.amounts.cost for charge in some)
            rows = [[found.get(name, "") for name in self._columns] for found in map(values, some)]
            if self._for_spreadsheet:
                rows = [list(map(harmless, row)) for row in rows]
            self.filled = [any(column) for column in zip(self.filled, *rows, strict=True)]
            yield rows


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""The last are the wide forms of the first, which some spreadsheets take for them."""


def harmless(text: str) -> str:
    """Return a field that no spreadsheet runs: one that begins like a formula gets an apostrophe before it.

    Numbers stay as they are, negative ones too.
    """
    if not text.startswith(_FORMULA):
        return text
    try:
        is_number = text.isascii() and not text[0].isspace() and isfinite(float(text))
    except ValueError:
        is_number = False
    return text if is_number else f"'{text}"


def _csv(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


_NAMESPACE = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")
_TYPES = {
    Kind.NUMBER: "Decimal",
    Kind.PRICE: "Decimal",
    Kind.INSTANT: "Date/Time",
    Kind.KEY_VALUE: "JSON",
    Kind.OBJECT: "JSON",
}
_LEDGER_PLACES = 9
_PRICE_PLACES = 20
_DIGITS = 38


def metadata(
    written: Written,
    *,
    version: str,
    generator_version: str,
    created: datetime,
    window: Window,
    granularity: str,
    complete: bool,
) -> str:
    """Describe a file.

    Args:
        written: what it holds.
        version: of FOCUS.
        generator_version: of the exporter.
        created: when it was written.
        window: of its charges.
        granularity: of its charge periods: hour, day, week or month.
        complete: whether the ledger has read every hour of the window to its end.
    """
    schema = {
        "SchemaId": str(uuid.uuid5(_NAMESPACE, f"fal-exporter/focus/{version}/{','.join(written.columns)}")),
        "FocusVersion": version,
        "CreationDate": instant_text(created),
        "DataGeneratorVersion": generator_version,
        "ColumnDefinition": [_definition(name) for name in written.columns],
    }
    return json.dumps(
        {
            "DataGenerator": {"DataGenerator": f"fal-exporter, from the usage that {PROVIDER} reports"},
            "Schema": schema,
            "x_Content": {
                "Start": instant_text(window.start),
                "End": instant_text(window.end),
                "Granularity": granularity,
                "Complete": complete,
                "Rows": written.rows,
                "BilledCost": number_text(decimal_of(written.billed_cost)),
            },
        },
        indent=2,
    )


def decimal_places(name: str) -> int:
    """Return the places after the point of a column of numbers."""
    return _PRICE_PLACES if name.endswith("UnitPrice") or name == "x_ListCostDifference" else _LEDGER_PLACES


def _definition(name: str) -> dict[str, object]:
    kind = COLUMNS[name].kind if name in COLUMNS else CUSTOM_COLUMNS[name]
    found: dict[str, object] = {"ColumnName": name, "DataType": _TYPES.get(kind, "String")}
    if kind.is_number:
        found |= {"NumericPrecision": _DIGITS, "NumberScale": decimal_places(name)}
    elif kind is not Kind.INSTANT:
        found["StringEncoding"] = "UTF-8"
    return found
