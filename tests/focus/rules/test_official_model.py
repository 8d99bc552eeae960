"""The table of rules beside the requirements model of FOCUS 1.2 that the official validator's package carries.

Every rule of the model is in the table with its level, columns, values, parts and what it needs, and with a condition
that the same rows meet; where the table says something else, `DIFFERENT` says why. The coverage by kind is printed.
"""

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import product
from pathlib import Path

import programs
import pytest

from exporter.focus.columns import COLUMNS, SUBCATEGORIES
from exporter.focus.rules.conditions import WRONG, Token
from exporter.focus.rules.table import Kind, Rule, by_id, rules

programs.required_module("focus_validator", "data:focus-validator==2.2.1")

Node = Mapping[str, object]
LEVELS = {"MUST": "must", "SHOULD": "should", "RECOMMENDED": "should", "MAY": "may"}
TYPES = {"TypeString": "text", "TypeDecimal": "number", "TypeDateTime": "instant"}
FORMATS = {
    "FormatString": "text",
    "FormatNumeric": "number",
    "FormatDateTime": "instant",
    "FormatUnit": "unit",
    "FormatKeyValue": "key-value",
    "FormatCurrency": "currency",
}
OF_VALUES = {Kind.ALLOWED, Kind.AT_LEAST, Kind.MEMBER, Kind.ONE_OF_EACH, Kind.PRODUCT}
"""Kinds of rules on values, which a null does not break."""

LEAST_COVERED = 0.95
MOST_DECIDABLE = 345
"""Rules of the model that a file can decide, as they have been counted independently, permissions among them."""

DIFFERENT: Mapping[str, str] = {
    **dict.fromkeys(
        ("InvoiceId-C-004-C", "InvoiceId-C-005-C"), "the model leaves out the conditions, which need the invoice"
    ),
    "ConsumedQuantity-C-006-C": "the model has `is` for `is not` Correction, against its text",
    "CommitmentDiscountStatus-C-004-C": "the model has null for not null, against its text, and no Usage",
    "CommitmentDiscountStatus-C-005-M": "the model has values of no version: Active, Expired, Pending",
    "CommitmentDiscountQuantity-C-007-C": "the model wants null for corrections, which may be null by C-006-C",
    "EffectiveCost-C-005-C": "the model takes all purchases for ones that cover later charges (FOCUS_Spec#2673)",
    "ChargeClass-C-005-C": "an allowed value, written as a comparison in the model",
    "PricingCurrencyEffectiveCost-C-004-M": "the model looks at another column, against its text",
    **dict.fromkeys(
        ("EffectiveCost-C-004-M", "ContractedCost-C-004-M", "ListCost-C-004-M", "PricingQuantity-C-008-M"),
        "a valid decimal, for which the model looks for null",
    ),
    "PricingCategory-C-009-C": "decided for rows that a commitment discount was used on",
    **dict.fromkeys(
        ("ListUnitPrice-C-010-C", "ContractedUnitPrice-C-011-C"),
        "the product is told as a rule on the cost, not a second time as one on the price",
    ),
    "ResourceName-C-005-C": "undecidable: the model asks for a name exactly where there is no resource",
}
"""Rules that say something else than the model, and why."""


@cache
def model() -> Mapping[str, Mapping[str, object]]:
    spec = importlib.util.find_spec("focus_validator")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "rules" / "model-1.2.0.1.json"
    found: Mapping[str, Mapping[str, object]] = json.loads(path.read_text(encoding="utf-8"))["ModelRules"]
    return found


def criteria(name: str) -> Node:
    found = model()[name]["ValidationCriteria"]
    assert isinstance(found, dict)
    return found


def node(value: object) -> Node:
    assert isinstance(value, dict)
    return value


def items(requirement: Node) -> Sequence[Node]:
    found = requirement["Items"]
    assert isinstance(found, list)
    return found


@cache
def parents() -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, rule in model().items():
        if rule["Function"] == "Composite":
            for item in items(node(criteria(name)["Requirement"])):
                found.setdefault(str(item["ModelRuleId"]), []).append(name)
    return found


def ancestors(name: str) -> Iterator[str]:
    """Yield the composites of columns that a rule is part of."""
    for parent in parents().get(name, []):
        if not parent.startswith("CostAndUsage-"):
            yield parent
            yield from ancestors(parent)


def holds(condition: Node, row: Mapping[str, Token]) -> bool:
    """Return whether a row meets a condition of the model; a null is unlike every value."""
    if not condition:
        return True
    if "CheckFunction" not in condition:
        (inner,) = condition.values()
        return all(holds(node(item), row) for item in (inner if isinstance(inner, list) else [inner]))
    if condition["CheckFunction"] in {"AND", "OR"}:
        together = all if condition["CheckFunction"] == "AND" else any
        return together(holds(item, row) for item in items(condition))
    if condition["CheckFunction"] == "CheckNotSameValue":
        one, other = row[str(condition["ColumnAName"])], row[str(condition["ColumnBName"])]
        # The published SQL compares what is not null.
        return one is not None and other is not None and one != other
    assert condition["CheckFunction"] in {"CheckValue", "CheckNotValue"}
    return (row[column_of(condition)] == condition["Value"]) == (condition["CheckFunction"] == "CheckValue")


def column_of(condition: Node) -> str:
    # One condition of the model names its column otherwise.
    return str(condition.get("ColumnName") or condition["CheckCondition"])


def looked_at(value: object) -> Iterator[tuple[str, object]]:
    """Yield the columns and values that a condition of the model compares."""
    if isinstance(value, list):
        for item in value:
            yield from looked_at(item)
    elif isinstance(value, dict):
        if value.get("CheckFunction") in {"CheckValue", "CheckNotValue"}:
            yield column_of(value), value["Value"]
        elif value.get("CheckFunction") == "CheckNotSameValue":
            for key in ("ColumnAName", "ColumnBName"):
                yield str(value[key]), "some"
                yield str(value[key]), "other"
        for item in value.values():
            yield from looked_at(item)


def decides_alike(rule: Rule, conditions: Sequence[Node]) -> bool:
    """Return whether the same rows meet the conditions of both, of all rows that could tell them apart."""
    texts: dict[str, set[Token]] = {}
    for column, value in looked_at(list(conditions)):
        texts.setdefault(column, {None, "some"}).add(value if isinstance(value, str) else None)
    for atom in rule.when.atoms:
        texts.setdefault(atom.column, {None, "some"}).update(atom.values)
        if atom.other:
            texts.setdefault(atom.other, {None, "some"}).add("other")
    for name in texts:
        # What is never null, or none of the closed list, is against other rules.
        if COLUMNS[name].allowed:
            texts[name] = {None, *COLUMNS[name].allowed} if COLUMNS[name].nullable else set(COLUMNS[name].allowed)
    for values in product(*texts.values()):
        row = dict(zip(texts, values, strict=True))
        # A rule on a column says nothing new of a row in which it is as it should be.
        if rule.kind is Kind.NULL and rule.column in row and row[rule.column] is None:
            continue
        if rule.kind in OF_VALUES and any(row.get(name, "") is None for name in rule.columns):
            continue
        if all(holds(item, row) for item in conditions) != rule.when.holds(_reader(row)):
            return False
    return True


def _reader(row: Mapping[str, Token]) -> Callable[[str], Token]:
    return lambda name: row.get(name, WRONG)


Told = tuple[Kind, str, str]
"""A kind of rule, a column and a value."""


def expected(name: str) -> Told:
    """Return what the model says in the terms of the table."""
    rule, requirement = model()[name], node(criteria(name)["Requirement"])
    column = str(requirement.get("ColumnName", rule["Reference"]))
    if rule["Function"] == "Composite":
        return Kind.COMPOSITE, column, "|".join(str(item["ModelRuleId"]) for item in items(requirement))
    function = str(requirement["CheckFunction"])
    if function in FUNCTIONS:
        return FUNCTIONS[function](requirement, column)
    return (Kind.TYPE, column, TYPES[function]) if function in TYPES else (Kind.FORMAT, column, FORMATS[function])


def compared(requirement: Node, column: str) -> Told:
    wanted, value = requirement["CheckFunction"] == "CheckValue", requirement["Value"]
    if value is None:
        return (Kind.NULL if wanted else Kind.NOT_NULL), column, ""
    return (Kind.EQUAL if wanted else Kind.UNEQUAL), column, str(value)


def parent(requirement: Node, _: str) -> Told:
    return Kind.ONE_OF_EACH, str(requirement["ColumnBName"]), f"@{requirement['ColumnAName']}"


def multiplied(requirement: Node, _: str) -> Told:
    factors = f"@{requirement['ColumnAName']}|@{requirement['ColumnBName']}"
    return Kind.PRODUCT, str(requirement["ResultColumnName"]), factors


def alternatives(requirement: Node, _: str) -> Told:
    each = items(requirement)
    if each[0]["CheckFunction"] == "AND":
        return Kind.MEMBER, str(items(each[0])[0]["ColumnName"]), "@ServiceCategory"
    column = str(each[0]["ColumnName"])
    values = [str(item["Value"]) for item in each]
    if column in {"ServiceCategory", "ServiceSubcategory"}:
        assert set(values) == COLUMNS[column].allowed
        return Kind.ALLOWED, column, ""
    return Kind.ALLOWED, column, "|".join(values)


FUNCTIONS: Mapping[str, Callable[[Node, str], Told]] = {
    "ColumnPresent": lambda _, column: (Kind.PRESENCE, column, ""),
    "CheckDecimalValue": lambda _, column: (Kind.FINITE, column, ""),
    "CheckNationalCurrency": lambda _, column: (Kind.NATIONAL, column, ""),
    "CheckGreaterOrEqualThanValue": lambda found, column: (Kind.AT_LEAST, column, str(found["Value"])),
    "CheckDistinctCount": parent,
    "ColumnByColumnEqualsColumnValue": multiplied,
    "OR": alternatives,
    "CheckValue": compared,
    "CheckNotValue": compared,
}


def test_every_rule_of_the_model_is_in_the_table_and_no_other_has_such_an_id() -> None:
    ours = {rule.id for rule in rules() if not rule.id.startswith(("X-", "CAU-"))}
    assert ours == set(model())


@pytest.mark.parametrize("name", model())
def test_a_rule_is_that_of_the_model(name: str) -> None:
    rule, stated = by_id()[name], criteria(name)
    assert rule.level.value == LEVELS[str(stated["Keyword"]).removesuffix(" NOT")]
    needs = [model()[each]["ApplicabilityCriteria"] for each in (name, *ancestors(name))]
    assert set(rule.needs) == {need for each in needs if isinstance(each, list) for need in each}
    if rule.level.value == "may":
        assert rule.kind is Kind.PERMISSION
        return
    if name in DIFFERENT or not stated["Requirement"]:
        return
    kind, column, value = expected(name)
    assert (rule.kind, rule.column) == (kind, column if rule.column else "")
    assert rule.value.split("|") == value.split("|")
    if kind is not Kind.COMPOSITE:
        assert decides_alike(rule, [node(criteria(each)["Condition"]) for each in (name, *ancestors(name))])


def test_subcategories_have_the_categories_of_the_model() -> None:
    pairs = [items(item) for item in items(node(criteria("ServiceSubcategory-C-004-M")["Requirement"]))]
    found = {str(subcategory["Value"]): str(category["Value"]) for subcategory, category in pairs}
    assert found == {name: category for category, names in SUBCATEGORIES.items() for name in names}


def test_what_is_said_to_differ_does() -> None:
    for name in DIFFERENT:
        rule = by_id()[name]
        kind, column, value = expected(name) if criteria(name)["Requirement"] else (None, "", "")
        conditions = [node(criteria(each)["Condition"]) for each in (name, *ancestors(name))]
        same = (rule.kind, rule.column, set(rule.value.split("|"))) == (kind, column, set(value.split("|")))
        assert not (same and decides_alike(rule, conditions)), name


def test_nearly_all_that_a_file_can_decide_is_decided(capsys: pytest.CaptureFixture[str]) -> None:
    told: dict[str, Counter[str]] = {}
    for name, stated in model().items():
        rule = by_id()[name]
        kind = f"{stated['Type']} {stated['Function']}".lower()
        outcome = rule.kind.value if not rule.kind.is_decidable else "checked"
        told.setdefault(kind, Counter())[outcome] += 1
    with capsys.disabled():
        print("\ncoverage of the requirements model of FOCUS 1.2:")
        for kind, counts in sorted(told.items()):
            print(f"  {kind:22}", ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
    total = sum(told.values(), Counter())
    # The model calls what its own program decides static.
    static = sum((counts for kind, counts in told.items() if kind.startswith("static")), Counter())
    assert static["checked"] >= LEAST_COVERED * (static["checked"] + static["undecidable"])
    assert total["checked"] >= LEAST_COVERED * MOST_DECIDABLE
    assert total.total() == len(model())
