"""FOCUS reports as fal might send them."""

import csv
import io
from collections.abc import Mapping

from fal.conftest import Answer

USAGE: Mapping[str, str] = {
    "BilledCost": "0.32",
    "BillingCurrency": "USD",
    "ChargeCategory": "Usage",
    "ChargeClass": "",
    "ChargePeriodStart": "2026-11-21T10:00:00Z",
    "ChargePeriodEnd": "2026-11-21T11:00:00Z",
    "EffectiveCost": "0.32",
    "ListCost": "0.4",
    "ConsumedQuantity": "4",
    "ConsumedUnit": "Images",
    "ListUnitPrice": "0.1",
    "ContractedUnitPrice": "0.08",
    "ServiceName": "fal Model APIs",
    "ServiceCategory": "AI and Machine Learning",
    "SkuId": "fal-ai/flux/dev",
    "SubAccountName": "acme",
}


def usage(**changes: str) -> dict[str, str]:
    return {**USAGE, **changes}


def report(*rows: Mapping[str, str]) -> Answer:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0] if rows else USAGE), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return Answer(text.getvalue().encode(), headers=(("content-type", "text/csv"),))
