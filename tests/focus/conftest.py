"""A base file in the shape of fal's report, made here, and ways to change it."""

import csv
import io
import json
from collections.abc import Callable, Iterable
from decimal import Decimal

import pytest

from exporter.focus.columns import columns_of

FileRow = dict[str, str]

_MODELS = (
    ("fal-ai/flux/dev", "image", "Images", "0.025"),
    ("fal-ai/veo3", "second", "Seconds", "0.4"),
    ("fal-ai/kling/v2.5", "second", "Seconds", "0.07"),
    ("fal-ai/tts", "1k_characters", "1000 Characters", "0.0125"),
)


def header() -> list[str]:
    """All columns of FOCUS 1.2, and two of our own."""
    return [*(column.name for column in columns_of("1.2")), "x_FalUnit", "x_Environment"]


def usage(number: int) -> FileRow:
    model, raw, unit, price = _MODELS[number % len(_MODELS)]
    quantity = Decimal(number * 7 + 1) / 4
    cost = quantity * Decimal(price)
    contracted = Decimal(price) * Decimal("0.9")
    day, hour = divmod(number, 24)
    return common() | {
        "BilledCost": number_text(quantity * contracted),
        "EffectiveCost": number_text(quantity * contracted),
        "PricingCurrencyEffectiveCost": number_text(quantity * contracted),
        "ContractedCost": number_text(quantity * contracted),
        "ListCost": number_text(cost),
        "ListUnitPrice": price,
        "PricingCurrencyListUnitPrice": price,
        "ContractedUnitPrice": number_text(contracted),
        "PricingCurrencyContractedUnitPrice": number_text(contracted),
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{model} by {raw}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": f"2025-10-{day + 1:02}T{hour:02}:00:00Z",
        "ChargePeriodEnd": f"2025-10-{day + 1 + (hour + 1) // 24:02}T{(hour + 1) % 24:02}:00:00Z",
        "ConsumedQuantity": number_text(quantity),
        "ConsumedUnit": unit,
        "PricingCategory": "Standard",
        "PricingQuantity": number_text(quantity),
        "PricingUnit": unit,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "fal Model APIs",
        "ServiceSubcategory": "Generative AI",
        "SkuId": model,
        "SkuMeter": raw,
        "SkuPriceDetails": json.dumps({"x_Tier": "standard"}),
        "SkuPriceId": f"{model}/{raw}",
        "SubAccountId": f"team-{number % 3}",
        "SubAccountName": f"Team {number % 3}",
        "SubAccountType": "Team",
        "Tags": json.dumps({"app": "shop", "env": "prod"}),
        "x_FalUnit": raw,
        "x_Environment": "prod",
    }


def common() -> FileRow:
    return {
        "BillingAccountId": "cus_root",
        "BillingAccountName": "root",
        "BillingAccountType": "Organization",
        "BillingCurrency": "USD",
        "BillingPeriodStart": "2025-10-01T00:00:00Z",
        "BillingPeriodEnd": "2025-11-01T00:00:00Z",
        "InvoiceId": "in-202511",
        "InvoiceIssuerName": "fal",
        "PricingCurrency": "USD",
        "ProviderName": "fal",
        "PublisherName": "fal",
    }


def settlement(category: str, cost: str) -> FileRow:
    """A credit or a tax."""
    costs = ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "PricingCurrencyEffectiveCost")
    return (
        common()
        | dict.fromkeys(costs, cost)
        | {
            "ChargeCategory": category,
            "ChargeDescription": category,
            "ChargeFrequency": "One-Time",
            "ChargePeriodStart": "2025-10-01T00:00:00Z",
            "ChargePeriodEnd": "2025-11-01T00:00:00Z",
            "ServiceCategory": "Other",
            "ServiceName": "fal Billing",
            "ServiceSubcategory": "Other (Other)",
        }
    )


def number_text(value: Decimal) -> str:
    text = f"{value.normalize():f}"
    return text if "." in text else f"{text}.0"


def base_rows() -> list[FileRow]:
    return [*map(usage, range(30)), settlement("Credit", "-1.5"), settlement("Tax", "2.13")]


def to_csv(rows: Iterable[FileRow], names: list[str] | None = None, terminator: str = "\n") -> bytes:
    text = io.StringIO()
    names = header() if names is None else names
    file = csv.writer(text, lineterminator=terminator)
    file.writerow(names)
    file.writerows([row.get(name, "") for name in names] for row in rows)
    return text.getvalue().encode()


@pytest.fixture
def rows() -> list[FileRow]:
    return base_rows()


Change = Callable[[list[FileRow]], object]
