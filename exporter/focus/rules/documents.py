"""Shapes of the JSON columns: which keys FOCUS defines in them, of which types, and what belongs together.

Prices have the keys of one object (SkuPriceDetails); allocations, contracts and commitment programs have an array of
objects. A provider's own keys begin with `x_` and are in PascalCase.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from types import MappingProxyType

_OWN = "x_"
_PASCAL = re.compile(r"(?:[A-Z][a-z0-9]*)+")


class Holds(Enum):
    """Type of a value."""

    TEXT = "a text"
    NUMBER = "a number"
    OPTIONAL_TEXT = "a text or null"
    OPTIONAL_NUMBER = "a number or null"

    def fits(self, value: object) -> bool:
        """Return whether a value is of the type."""
        if value is None:
            return self in {Holds.OPTIONAL_TEXT, Holds.OPTIONAL_NUMBER}
        if self in {Holds.TEXT, Holds.OPTIONAL_TEXT}:
            return isinstance(value, str)
        return isinstance(value, Decimal)


@dataclass(frozen=True, slots=True)
class Shape:
    """Shape of a column.

    Attributes:
        keys: that FOCUS defines, of the column or of the elements of its array.
        array: the key of the array; empty for a flat object.
        needed: the keys that each element must have.
        former: other spellings that version 1.3 had, by them.
    """

    keys: Mapping[str, Holds]
    array: str = ""
    needed: tuple[str, ...] = ()
    former: Mapping[str, str] = field(default_factory=dict)


_COST, _QUANTITY, _UNIT = (f"ContractCommitmentApplied{name}" for name in ("Cost", "Quantity", "Unit"))
SHAPES: Mapping[str, Shape] = MappingProxyType(
    {
        "SkuPriceDetails": Shape(
            {
                "CoreCount": Holds.NUMBER,
                "DiskMaxIops": Holds.NUMBER,
                "DiskSpace": Holds.NUMBER,
                "DiskType": Holds.TEXT,
                "GpuCount": Holds.NUMBER,
                "InstanceType": Holds.TEXT,
                "InstanceSeries": Holds.TEXT,
                "MemorySize": Holds.NUMBER,
                "NetworkMaxIops": Holds.NUMBER,
                "NetworkMaxThroughput": Holds.NUMBER,
                "OperatingSystem": Holds.TEXT,
                "Redundancy": Holds.TEXT,
                "StorageClass": Holds.TEXT,
            }
        ),
        "AllocatedMethodDetails": Shape(
            {
                "AllocatedRatio": Holds.NUMBER,
                "UsageUnit": Holds.OPTIONAL_TEXT,
                "UsageQuantity": Holds.OPTIONAL_NUMBER,
            },
            "Elements",
            ("AllocatedRatio",),
        ),
        "ContractApplied": Shape(
            {
                "ContractId": Holds.TEXT,
                "ContractCommitmentId": Holds.TEXT,
                _COST: Holds.OPTIONAL_NUMBER,
                _QUANTITY: Holds.OPTIONAL_NUMBER,
                _UNIT: Holds.OPTIONAL_TEXT,
            },
            "Elements",
            ("ContractId", "ContractCommitmentId"),
            MappingProxyType({"ContractID": "ContractId", "ContractCommitmentID": "ContractCommitmentId"}),
        ),
        "CommitmentProgramEligibilityDetails": Shape(
            {"ProgramType": Holds.TEXT}, "CommitmentPrograms", ("ProgramType",)
        ),
    }
)
"""By column; other JSON columns hold whatever keys there are."""

Broken = tuple[str, str]
"""Value of a rule on keys, and a note."""


def document_flaws(column: str, document: Mapping[str, object], version: str) -> Iterator[Broken]:
    """Yield what is wrong with the document in a column; each rule once."""
    shape = SHAPES.get(column)
    if shape is None:
        return
    told: set[str] = set()
    for rule, note in _flaws(shape, document, version):
        if rule not in told:
            told.add(rule)
            yield rule, note


def _flaws(shape: Shape, document: Mapping[str, object], version: str) -> Iterator[Broken]:
    if not shape.array:
        yield from _key_flaws(shape, document)
        return
    for key in document:
        if key != shape.array and not key.startswith(_OWN):
            yield "prefix", f"{key!r} beside {shape.array}"
    elements = document.get(shape.array)
    if not isinstance(elements, list) or not elements:
        yield "array", f"{shape.array} is missing or empty"
        return
    for element in elements:
        if not isinstance(element, dict):
            yield "elements", f"{shape.array} holds something other than an object"
        else:
            renamed = shape.former if version == "1.3" else {}
            yield from _element_flaws(shape, {renamed.get(key, key): value for key, value in element.items()})


def _element_flaws(shape: Shape, element: Mapping[str, object]) -> Iterator[Broken]:
    nested = [key for key, value in element.items() if isinstance(value, dict | list)]
    if nested:
        yield "scalars", f"{nested[0]!r} is no single value"
    written = {key.lower() for key in element}
    for name in shape.needed:
        if name.lower() not in written:
            yield name, f"{name} is missing"
    yield from _key_flaws(shape, {key: value for key, value in element.items() if key not in nested})
    if "AllocatedRatio" in shape.keys:
        yield from _allocation_flaws(element)
    if _COST in shape.keys:
        given = [element.get(key) is not None for key in (_COST, _QUANTITY, _UNIT)]
        if given not in ([True, False, False], [False, True, True]):
            yield "cost-or-quantity", "an applied cost excludes quantity and unit, and these belong together"


def _key_flaws(shape: Shape, document: Mapping[str, object]) -> Iterator[Broken]:
    folded = {key.lower(): key for key in shape.keys}
    for key, value in document.items():
        holds = shape.keys.get(key)
        if holds is not None:
            if not holds.fits(value) and key != "AllocatedRatio":
                yield "type", f"{key} is not {holds.value}"
        elif key.lower() in folded:
            yield "spelling", f"write {key!r} as {folded[key.lower()]!r}"
        elif not key.startswith(_OWN):
            yield "prefix", f"{key!r} is not defined"
        elif not _PASCAL.fullmatch(key.removeprefix(_OWN)):
            yield "pascal", f"{key!r} is not in PascalCase"


def _allocation_flaws(element: Mapping[str, object]) -> Iterator[Broken]:
    ratio = element.get("AllocatedRatio", Decimal(0))
    if not isinstance(ratio, Decimal) or not 0 <= ratio <= 1:
        yield "AllocatedRatio:ratio", "is not from 0 to 1"
    quantity = element.get("UsageQuantity")
    if quantity is not None and not isinstance(element.get("UsageUnit"), str):
        yield "UsageQuantity:unit", "has no UsageUnit"
