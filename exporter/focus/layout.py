"""Which columns the writer writes, and what each holds.

The columns of a metered product without commitments: all that FOCUS demands, prices, quantities and SKUs. Some are
always null and written all the same: rules of the specification, and of its official validator, refer to them.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType

from exporter.charges import NANO, Dimensions
from exporter.focus.charge import FocusCharge, month_start, next_month
from exporter.focus.columns import COLUMNS, VERSIONS, Kind
from exporter.focus.pricing import prices_of
from exporter.focus.units import focus_unit
from exporter.focus.values import instant_text, number_text

PROVIDER = "fal"
"""Who provides and invoices, in every column that names one."""

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

_LEFT_OUT = frozenset(
    {
        *("AvailabilityZone", "BillingAccountType", "CapacityReservationId", "CapacityReservationStatus"),
        *("CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName", "CommitmentDiscountType"),
        *("CommitmentDiscountQuantity", "CommitmentDiscountUnit", "CommitmentProgramEligibilityDetails"),
        *("AllocatedMethodDetails", "AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName"),
        *("AllocatedTags", "ContractApplied", "InvoiceDetailId", "RegionId", "RegionName", "ResourceId"),
        *("ResourceName", "ResourceType", "SubAccountType"),
    }
)

_SERVICES: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "model_apis": ("AI and Machine Learning", "Generative AI", "fal Model APIs"),
        "serverless": ("Compute", "Serverless Compute", "fal Serverless"),
        "compute": ("Compute", "Virtual Machines", "fal Compute"),
    }
)
_OTHER_SERVICE = ("AI and Machine Learning", "Other (AI and Machine Learning)", "fal")
_CURRENCY = "USD"


def layout(version: str) -> tuple[str, ...]:
    """Return the columns of a file of this version, in order.

    Raises:
        ValueError: the version is not one that can be written.
    """
    if version not in WRITTEN_VERSIONS:
        raise ValueError(f"FOCUS {version} cannot be written; one of {', '.join(WRITTEN_VERSIONS)} can")
    names = (name for name, column in COLUMNS.items() if column.is_in(version) and name not in _LEFT_OUT)
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
    tags = {name: getattr(dimensions, name) for name in ("app", "environment", "api_key") if getattr(dimensions, name)}
    return {
        "BillingAccountId": dimensions.account,
        "BillingAccountName": dimensions.account,
        "BillingCurrency": _CURRENCY,
        "BillingPeriodStart": instant_text(month_start(charge.start)),
        "BillingPeriodEnd": instant_text(next_month(charge.start)),
        "ChargeDescription": f"{sku_of(dimensions)} by {dimensions.unit or 'use'}{surge}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": instant_text(charge.start),
        "ChargePeriodEnd": instant_text(charge.end),
        "HostProviderName": PROVIDER,
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
        "Tags": json.dumps(tags, ensure_ascii=False) if tags else "",
    }
