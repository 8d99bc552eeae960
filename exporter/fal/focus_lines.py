"""What a row of a FOCUS report is for, in the words of the ledger.

fal does not publish what it writes into which column. So each dimension is looked for where FOCUS wants it, then where
fal's other interfaces would have it; what is found nowhere is empty.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

from exporter.charges import NO_GPU, SURGE, Dimensions, GpuMachine, gpu_machine
from exporter.fal.fields import text
from exporter.fal.machines import BillingLine, billing_line, gpu_time, gpu_time_of_unit
from exporter.fal.platform_usage import Item
from exporter.focus.values import json_object

MODEL_APIS, SERVERLESS, COMPUTE = "model_apis", "serverless", "compute"

_MACHINES_LINE = re.compile(r"type:\s*[^()\s]+(?:\s*\(.*\))?", re.IGNORECASE)
_ENDPOINT = re.compile(r"[\w.-]+(?:/[\w.-]+)+")
_COUNTED = re.compile(r"1(?P<zeros>(?:000){1,2})[ _-]+(?P<noun>.+)")
_BY_WORD = MappingProxyType({"serverless": SERVERLESS, "model": MODEL_APIS, "compute": COMPUTE})
_BY_SUBCATEGORY = MappingProxyType({"Serverless Compute": SERVERLESS, "Virtual Machines": COMPUTE})
_BY_CATEGORY = MappingProxyType({"AI and Machine Learning": MODEL_APIS, "Compute": SERVERLESS})


@dataclass(frozen=True, slots=True, eq=False)
class UsageLine:
    """What occurs in every hour again: what is sold, to whom, at which price."""

    charge_category: str
    billing_currency: str
    list_unit_price: Decimal | None = None
    contracted_unit_price: Decimal | None = None
    pricing_category: str | None = None
    service_name: str | None = None
    service_category: str | None = None
    service_subcategory: str | None = None
    charge_description: str | None = None
    sku_id: str | None = None
    sku_meter: str | None = None
    sku_price_details: str | None = None
    consumed_unit: str | None = None
    pricing_unit: str | None = None
    sub_account_id: str | None = None
    sub_account_name: str | None = None
    resource_id: str | None = None
    resource_name: str | None = None
    tags: str | None = None
    x_unit: str | None = None
    x_fal_unit: str | None = None
    x_app: str | None = None
    x_environment: str | None = None
    x_is_surge: str | None = None


class UsageRow(NamedTuple):
    """The columns that a charge is made of; amounts in nano-units."""

    line: UsageLine
    charge_period_start: datetime
    charge_period_end: datetime
    billed_cost: int
    effective_cost: int | None
    list_cost: int | None
    consumed_quantity: int | None
    pricing_quantity: int | None


def described(account: str, row: UsageLine) -> Item:
    """Tell what a line is for.

    A compute machine's quantity is its own time; of any other machine it counts every GPU already.

    Raises:
        RejectedError: never for text; a label that cannot be printed is made printable.
    """
    line = _line(row)
    product = _product(row, line)
    unit = row.x_unit or row.x_fal_unit or unit_of_fal(row.consumed_unit or row.pricing_unit or row.sku_meter or "")
    common = Dimensions(account, team=text(row.sub_account_name or row.sub_account_id or ""), product=product)
    common = common._replace(unit=text(unit), surge=_surge(row))
    if product in {SERVERLESS, COMPUTE}:
        gpu = gpu_time(_machine(row, line), unit, each=product == COMPUTE)
        app = row.x_app or row.resource_name or row.resource_id or (line.app if line else "") or _tag(row, "app")
        environment = row.x_environment or (line.environment if line else "") or _tag(row, "environment")
        dimensions = common._replace(app=text(app), environment=text(environment), gpu_class=gpu.gpu_class)
        return Item(dimensions, gpu)
    gpu = gpu_time_of_unit(unit)
    model = row.sku_id or _endpoint(row)
    return Item(common._replace(model=text(model), gpu_class=gpu.gpu_class), gpu)


def unit_of_fal(unit: str) -> str:
    """Return fal's own word for a unit in the FOCUS format: `image` for `Images`."""
    counted = _COUNTED.fullmatch(unit)
    if counted is not None:
        return f"1{'k' if len(counted['zeros']) < len('000000') else 'm'}_{counted['noun'].lower()}"
    word = re.sub(r"[ -]+", "_", unit.lower())
    return word.removesuffix("s") if len(word) > 1 else unit


def _line(row: UsageLine) -> BillingLine | None:
    """Return the machine's line that the description or the SKU holds, if one does."""
    for value in (row.charge_description, row.sku_id):
        found = _MACHINES_LINE.search(value or "")
        if found is not None:
            return billing_line(found[0])
    return None


def _product(row: UsageLine, line: BillingLine | None) -> str:
    name = (row.service_name or "").lower()
    for word, product in _BY_WORD.items():
        if word in name:
            return product
    known = _BY_SUBCATEGORY.get(row.service_subcategory or "")
    if known is None and line is not None and line.machine.gpus > 1:
        # Several GPUs at once are rented as machines only.
        known = COMPUTE
    return known or _BY_CATEGORY.get(row.service_category or "", MODEL_APIS if _endpoint(row) else "")


def _surge(row: UsageLine) -> str:
    is_surge = row.pricing_category == "Dynamic" or (row.x_is_surge or "").lower() == "true"
    return SURGE if is_surge else ""


def _machine(row: UsageLine, line: BillingLine | None) -> GpuMachine:
    """Return what the SKU's details, the machine's line or the SKU's own name say of GPUs."""
    details = _object(row.sku_price_details)
    named = details.get("InstanceType")
    if isinstance(named, str):
        machine = gpu_machine(named)
        count = details.get("GpuCount")
        if machine.gpus and isinstance(count, Decimal) and count == int(count) and count > 0:
            return machine._replace(gpus=int(count))
        return machine
    if line is not None:
        return line.machine
    return gpu_machine(row.sku_id) if row.sku_id and "/" not in row.sku_id else NO_GPU


def _endpoint(row: UsageLine) -> str:
    for value in (row.sku_id, row.charge_description, row.resource_id):
        found = _ENDPOINT.search(value or "")
        if found is not None:
            return found[0]
    return ""


def _tag(row: UsageLine, name: str) -> str:
    value = _object(row.tags).get(name)
    return value if isinstance(value, str) else ""


def _object(value: str | None) -> Mapping[str, object]:
    try:
        return json_object(value) if value else {}
    except ValueError:
        return {}
