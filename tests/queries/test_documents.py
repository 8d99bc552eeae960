from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from jsonschema import Draft202012Validator
from queries.conftest import NOW, UTC_ZONE

from exporter.charges import NANO, decimal_of
from exporter.forecasting.budgets import percent, threshold_amount
from exporter.ledger.reader import LedgerReader
from exporter.queries import models
from exporter.queries.models import Shape
from exporter.queries.usage import answer_usage, parse_usage_question
from exporter.web.rest import calls

SHAPES: list[tuple[Shape[object], object]] = [
    (models.USAGE, calls.USAGE),  # type: ignore[list-item]  # each shape is of its own source
    (models.INVOICE, calls.INVOICES[0]),  # type: ignore[list-item]
    (models.BALANCES, calls.ACCOUNTS),  # type: ignore[list-item]
    (models.BUDGETS, calls.BUDGETS),  # type: ignore[list-item]
    (models.FORECASTS, calls.ACCOUNTS),  # type: ignore[list-item]
]


def as_floats(value: object) -> object:
    """Return a tree as a JSON Schema validator knows it."""
    match value:
        case Decimal():
            return float(value)
        case dict():
            return {name: as_floats(part) for name, part in value.items()}
        case list():
            return [as_floats(part) for part in value]
    return value


@pytest.mark.parametrize(("shape", "source"), SHAPES, ids=lambda it: it.name if isinstance(it, Shape) else "")
def test_every_document_is_of_its_schema(shape: Shape[object], source: object) -> None:
    Draft202012Validator.check_schema(shape.schema)
    Draft202012Validator(shape.schema).validate(as_floats(shape.document(source)))


@pytest.mark.parametrize("group_by", ["", "model", "account,team,product,app,gpu_class,model", "hour,day,month"])
def test_an_answer_of_a_ledger_is_of_the_schema(reader: LedgerReader, group_by: str) -> None:
    given = {"group_by": group_by} if group_by else {}
    with reader.snapshot() as snapshot:
        document = models.USAGE.document(answer_usage(snapshot, parse_usage_question(given, now=NOW, zone=UTC_ZONE)))
    Draft202012Validator(models.USAGE.schema).validate(as_floats(document))


def test_usage_has_the_shape_of_the_reporting_interface(reader: LedgerReader) -> None:
    question = parse_usage_question({"group_by": "model,gpu_class"}, now=NOW, zone=UTC_ZONE)
    with reader.snapshot() as snapshot:
        document = models.USAGE.document(answer_usage(snapshot, question))
    assert document["group_by"] == ["model", "gpu_class"]
    assert document["currency"] == "USD"
    rows = document["usage"]
    assert isinstance(rows, list)
    assert rows[0] == {
        "model": "fal-ai/veo3",
        "app": None,
        "gpu_class": None,
        "gpu_seconds": 0,
        "spend": Decimal("22.5"),
        "list_cost": Decimal(25),
        "discount": Decimal("2.5"),
        "quantities": {"second": 75},
    }
    assert rows[-1]["model"] is None
    assert rows[-1]["gpu_class"] == "H100"


def test_what_is_left_of_a_budget_and_which_thresholds_are_reached() -> None:
    budget = replace(calls.BUDGETS.budgets[0], limit=400 * NANO, spend=320 * NANO)
    document = models.BUDGET.document(budget)
    assert document["remaining"] == 80
    assert [(it["threshold"], it["amount"], it["reached"]) for it in document["thresholds"]] == [  # type: ignore[attr-defined]
        ("50%", 200, True),
        ("80%", 320, True),
        ("100%", 400, False),
    ]
    third = models.BUDGET.document(replace(budget, spend=None, forecast=None, thresholds=(Fraction(1, 3),)))
    assert (third["remaining"], third["forecast"]) == (None, None)
    assert third["thresholds"][0] == {
        "threshold": percent(Fraction(1, 3)),
        "amount": decimal_of(threshold_amount(budget.limit, Fraction(1, 3))),
        "reached": None,
    }, "as the metrics have it: 33.333333%, rounded up to the nano-dollar"


def test_a_budget_of_nothing_has_no_burn_that_json_cannot_write() -> None:
    budget = replace(calls.BUDGETS.budgets[0], burn={"1h": float("inf"), "6h": 2.0})
    assert models.BUDGET.document(budget)["burn"] == {"6h": 2.0}
