"""Cost lines: a month of charges by the day, in the formats that cost services take over HTTP.

Vantage takes CSV files of at most 10,000 rows and 2 MB, a subset of FOCUS; Datadog JSON arrays of line items, whose
last day is inclusive and whose values are never blank. Lines of the same day, product and tags are added up, exactly.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from exporter.focus.charge import FocusCharge
from exporter.focus.writer import PROVIDER, decimal_text, values

MOST_ROWS = 10_000
MOST_BYTES = 2_000_000
_LONGEST = 1_000
"""Characters of a value that Datadog takes."""


class CostLine(NamedTuple):
    """Identity of a line.

    Attributes:
        last: its last day, inclusive.
        tags: names and values, none of them empty.
    """

    first: date
    last: date
    category: str
    service_category: str
    service: str
    sku: str
    unit: str
    description: str
    tags: tuple[tuple[str, str], ...]


Costs = Mapping[CostLine, int]
"""Nano-USD by line."""


def cost_lines(charges: Iterable[FocusCharge]) -> dict[CostLine, int]:
    """Add charges up by day, in their order; lines that cost nothing are left out."""
    found: dict[CostLine, int] = {}
    for charge in charges:
        line = _line(charge)
        found[line] = found.get(line, 0) + charge.amounts.cost
    return {line: cost for line, cost in found.items() if cost}


def _line(charge: FocusCharge) -> CostLine:
    columns = values(charge)
    own = {
        "account": columns["BillingAccountId"],
        "team": columns["SubAccountId"],
        "product": columns.get("x_FalProduct", ""),
        "gpu_class": columns.get("x_GpuClass", ""),
        "invoice": columns["InvoiceId"],
    }
    tags = json.loads(columns["Tags"] or "{}")
    named = {**{name: str(value) for name, value in tags.items()}, **own}
    return CostLine(
        charge.start.date(),
        (charge.end - timedelta(microseconds=1)).date(),
        columns["ChargeCategory"],
        columns["ServiceCategory"],
        columns["ServiceName"],
        columns.get("SkuId", ""),
        columns.get("x_FalUnit", ""),
        columns["ChargeDescription"],
        tuple(sorted((name, value) for name, value in named.items() if name and value)),
    )


_VANTAGE = (
    *("ChargePeriodStart", "ChargeCategory", "BilledCost", "ResourceId", "ResourceType", "ServiceCategory"),
    *("ServiceName", "Tags"),
)


def vantage_files(costs: Costs) -> list[bytes]:
    """Return CSV files for a custom provider of Vantage.

    Its categories have no Adjustment: one that lowers the bill is a Credit, one that raises it Usage.
    """

    def rows() -> Iterator[bytes]:
        for line, cost in costs.items():
            category = line.category
            if category == "Adjustment":
                category = "Credit" if cost < 0 else "Usage"
            yield _csv(
                (
                    line.first.isoformat(),
                    category,
                    decimal_text(cost),
                    line.sku or line.description,
                    line.unit,
                    line.service_category,
                    line.service,
                    json.dumps(dict(line.tags), ensure_ascii=False) if line.tags else "",
                )
            )

    header = _csv(_VANTAGE)
    return [header + b"".join(part) for part in _divided(rows(), MOST_BYTES - len(header))]


def datadog_files(costs: Costs) -> list[bytes]:
    """Return JSON arrays of line items for Datadog's Custom Costs."""

    def items() -> Iterator[bytes]:
        for line, cost in costs.items():
            tags = {"service": line.service, "sku": line.sku, "unit": line.unit, "charge_category": line.category}
            named = {**dict(line.tags), **{name: value for name, value in tags.items() if value}}
            item = {
                "ProviderName": PROVIDER,
                "ChargeDescription": line.description[:_LONGEST],
                "ChargePeriodStart": line.first.isoformat(),
                "ChargePeriodEnd": line.last.isoformat(),
                "BilledCost": None,
                "BillingCurrency": "USD",
                "Tags": {name[:_LONGEST]: value[:_LONGEST] for name, value in named.items()},
            }
            # A number of JSON with all its digits, which no float has passed.
            text = json.dumps(item, ensure_ascii=False).replace(
                '"BilledCost": null', f'"BilledCost": {decimal_text(cost)}'
            )
            yield text.encode()

    return [b"[" + b",\n".join(part) + b"]" for part in _divided(items(), MOST_BYTES - MOST_ROWS * 2)]


def _divided(rows: Iterable[bytes], most: int) -> Iterator[Sequence[bytes]]:
    part: list[bytes] = []
    size = 0
    for row in rows:
        if part and (len(part) == MOST_ROWS or size + len(row) > most):
            yield part
            part, size = [], 0
        part.append(row)
        size += len(row)
    if part:
        yield part


def _csv(row: Iterable[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue().encode()
