import json
from dataclasses import replace
from decimal import Context, Decimal
from fractions import Fraction

import profiles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema import ValidationError as JsonSchemaError
from pydantic import BaseModel, ValidationError
from queries.conftest import NOW, UTC_ZONE

from exporter.charges import NANO, Amounts, decimal_of
from exporter.forecasting.budgets import percent, threshold_amount
from exporter.ledger.reader import LedgerReader
from exporter.queries import invoices, models, usage_documents
from exporter.queries.exact_json import (
    decimal_text,
    exact_json,
    schemas,
    text_json,
    text_schema,
    texts,
    tree,
)
from exporter.queries.usage import UsageRow, answer_usage, parse_usage_question
from exporter.web.rest import examples

DECIMALS = st.integers(-(10**30), 10**30).map(lambda nanos: Decimal(nanos).scaleb(-9))
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | DECIMALS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(TREES)
def test_what_is_written_reads_back_to_the_last_digit(tree: object) -> None:
    text = exact_json(tree)
    assert json.loads(text, parse_float=Decimal) == json.loads(exact_json(tree), parse_float=Decimal) == tree


@given(DECIMALS)
def test_a_decimal_is_written_without_exponent_and_needless_zeros(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "E" not in text
    assert not (text.endswith("0") and "." in text)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object cannot be written"):
        exact_json({"it": object()})


DOCUMENTS = [
    usage_documents.Usage.model_validate(examples.USAGE),
    invoices.Invoices.model_validate(examples.INVOICES),
    models.Balances.model_validate(examples.ACCOUNTS),
    models.Budgets.model_validate(examples.BUDGETS),
    models.Forecasts.model_validate(examples.ACCOUNTS),
]


def schema_of(model: type[BaseModel]) -> dict[str, object]:
    """Return a model's schema with its amounts as numbers or texts."""
    return {"$ref": f"#/$defs/{model.__name__}", "$defs": schemas([model], "#/$defs/{model}")}


def named(document: BaseModel) -> str:
    return type(document).__name__


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_document_is_of_its_schema(document: BaseModel) -> None:
    schema = schema_of(type(document))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(exact_json(document)))
    Draft202012Validator(schema).validate(json.loads(text_json(document)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_as_text_an_amount_has_the_digits_of_the_number_and_a_schema_without_numbers(document: BaseModel) -> None:
    numbers = json.loads(exact_json(document), parse_float=Decimal)
    quoted = json.loads(text_json(document))
    assert quoted == (texts(document) if isinstance(numbers, dict) else quoted)
    assert as_texts(numbers) == as_texts(quoted)
    schema = text_schema(type(document))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(quoted)
    if not isinstance(document, invoices.Invoices):
        with pytest.raises(JsonSchemaError, match="is not of type 'string'"):
            Draft202012Validator(schema).validate(json.loads(exact_json(document)))


def as_texts(value: object) -> object:
    """Return a tree with its numbers as texts."""
    match value:
        case dict():
            return {name: as_texts(part) for name, part in value.items()}
        case list():
            return [as_texts(part) for part in value]
        case bool() | None:
            return value
    return str(value)


NANOS = st.integers(-(10**30), 10**30)


@given(NANOS)
def test_amounts_of_any_size_keep_every_digit(nanos: int) -> None:
    forecast = models.Forecast(expected=nanos, low=0, high=-nanos)
    exact = Decimal(nanos).scaleb(-9, Context(prec=60))
    assert json.loads(exact_json(forecast), parse_float=Decimal, parse_int=Decimal)["expected"] == exact
    text = json.loads(text_json(forecast))["expected"]
    assert Decimal(text) == exact
    assert "E" not in text
    assert not (text.endswith("0") and "." in text)
    assert f'"expected":{text},' in exact_json(forecast)


@pytest.mark.parametrize("amount", [1.5, 2.0, True, "3", Decimal(4)])
def test_what_is_not_a_whole_number_of_nano_dollars_is_no_amount(amount: object) -> None:
    with pytest.raises(ValidationError, match="valid integer"):
        models.Forecast.model_validate({"expected": amount, "low": 0, "high": 0})


@pytest.mark.parametrize("group_by", ["", "model", "account,team,product,app,gpu_class,model", "hour,day,month"])
def test_an_answer_of_a_ledger_is_of_the_schema(reader: LedgerReader, group_by: str) -> None:
    given = {"group_by": group_by} if group_by else {}
    with reader.snapshot() as snapshot:
        found = answer_usage(snapshot, parse_usage_question(given, now=NOW, zone=UTC_ZONE))
    document = usage_documents.Usage.model_validate(found)
    Draft202012Validator(schema_of(usage_documents.Usage)).validate(json.loads(exact_json(document)))


def test_usage_has_the_shape_of_the_reporting_interface(reader: LedgerReader) -> None:
    question = parse_usage_question({"group_by": "model,gpu_class"}, now=NOW, zone=UTC_ZONE)
    with reader.snapshot() as snapshot:
        document = tree(usage_documents.Usage.model_validate(answer_usage(snapshot, question)))
    assert isinstance(document, dict)
    assert document["group_by"] == ("model", "gpu_class")
    assert document["currency"] == "USD"
    rows = document["usage"]
    assert isinstance(rows, tuple)
    assert rows[0] == {
        "model": "fal-ai/veo3",
        "app": None,
        "gpu_class": None,
        "requests": None,
        "gpu_seconds": 0,
        "spend": Decimal("22.5"),
        "list_cost": Decimal(25),
        "discount": Decimal("2.5"),
        "quantities": {"second": 75},
    }
    assert rows[-1]["model"] is None
    assert rows[-1]["gpu_class"] == "H100"


def invoices_of(*stated: str, account: str = "studio") -> invoices.Invoices:
    return invoices.Invoices.model_validate(
        tuple(replace(examples.INVOICES[0], account=account, stated=text) for text in stated)
    )


SENT = (
    '{"id":"inv_1","status":"Open","total":563.822000000000000001,"tax":90,"credits":"-5.0","invoice_pdf":'
    '"https://fal.example/1.pdf","lines":[{"amount":1.25,"count":3,"none":null}],"model_config":true,"_private":0.5}'
)


def test_an_invoice_is_all_that_fal_sent_and_the_account_under_a_name_of_ours() -> None:
    (written,) = json.loads(exact_json(invoices_of(SENT)), parse_float=Decimal)
    assert written.pop("x_fal_exporter_account") == written.pop("account") == "studio"
    assert written == json.loads(SENT, parse_float=Decimal)


def test_fields_of_an_invoice_that_fal_has_not_sent_are_missing_and_an_account_of_fals_stays_fals() -> None:
    (written,) = json.loads(exact_json(invoices_of('{"id":"inv_1","account":{"name":"theirs"}}')))
    assert written == {"x_fal_exporter_account": "studio", "id": "inv_1", "account": {"name": "theirs"}}


def test_amounts_of_an_invoice_are_texts_where_amounts_are_texts_and_fractions_are_never_floats() -> None:
    (written,) = json.loads(text_json(invoices_of(SENT)))
    assert (written["total"], written["tax"], written["credits"]) == ("563.822000000000000001", "90", "-5.0")
    assert written["lines"] == [{"amount": "1.25", "count": 3, "none": None}]
    assert written["_private"] == "0.5"
    page = invoices.InvoicePage(invoices=invoices_of(SENT).root, next_cursor=None)
    assert texts(page)["invoices"] == [written]
    Draft202012Validator(text_schema(invoices.InvoicePage)).validate(texts(page))


def test_an_invoice_of_a_ledger_that_has_kept_less_is_told_by_what_it_has() -> None:
    (written,) = json.loads(exact_json(invoices_of("")), parse_float=Decimal)
    assert (written["id"], written["status"], written["total"]) == ("inv_4HcZ2XkQ", "open", Decimal("563.822"))
    assert written["period_start"] == "2026-10-01T00:00:00Z"
    assert written["x_fal_exporter_account"] == "studio"


def test_what_is_left_of_a_budget_and_which_thresholds_are_reached() -> None:
    budget = replace(examples.BUDGETS.budgets[0], limit=400 * NANO, spend=320 * NANO)
    document = models.Budget.model_validate(budget)
    assert document.remaining == 80 * NANO
    assert [(threshold.threshold, threshold.amount, threshold.reached) for threshold in document.thresholds] == [
        ("50%", 200 * NANO, True),
        ("80%", 320 * NANO, True),
        ("100%", 400 * NANO, False),
    ]
    third = models.Budget.model_validate(replace(budget, spend=None, forecast=None, thresholds=(Fraction(1, 3),)))
    assert (third.remaining, third.forecast) == (None, None)
    assert tree(third.thresholds[0]) == {
        "threshold": percent(Fraction(1, 3)),
        "amount": decimal_of(threshold_amount(budget.limit, Fraction(1, 3))),
        "reached": None,
    }, "as the metrics have it: 33.333333%, rounded up to the nano-dollar"


def test_a_budget_of_nothing_has_no_burn_that_json_cannot_write() -> None:
    budget = replace(examples.BUDGETS.budgets[0], burn={"1h": float("inf"), "6h": 2.0})
    assert models.Budget.model_validate(budget).burn == {"6h": 2.0}


def test_a_budget_is_written_field_by_field_in_this_order() -> None:
    assert exact_json(models.Budgets.model_validate(examples.BUDGETS)) == (
        '{"as_of":"2026-11-21T14:05:00Z","currency":"USD","budgets":[{"budget":"studio","period":"month",'
        '"start":"2026-11-01T00:00:00Z","end":"2026-12-01T00:00:00Z","match":{"team":["studio-*"]},"limit":400,'
        '"spend":318.25,"remaining":81.75,"forecast":{"expected":455,"low":441.5,"high":472.25},"thresholds":['
        '{"threshold":"50%","amount":200,"reached":true},{"threshold":"80%","amount":320,"reached":false},'
        '{"threshold":"100%","amount":400,"reached":false}],"burn":{"1h":1.4,"6h":1.25,"1d":1.1,"3d":1.05}}],"notes":[]}'
    )


AMOUNTS = st.builds(Amounts, *[st.integers(-(10**18), 10**18) | st.just(0)] * 5)
NAMED = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
GROUPS = ("model", "app", "gpu_class", "account", "team", "product", "api_key", "member", "hour", "day", "month")


@given(
    st.data(),
    st.lists(st.sampled_from((*GROUPS, "tag:customer", "tag:feature")), unique=True),
    st.booleans(),
    st.lists(NAMED, max_size=2),
)
@settings(max_examples=profiles.examples(20, long=100))
def test_rows_are_written_as_their_document_is(
    data: st.DataObject,
    group_by: list[str],
    quoted: bool,  # noqa: FBT001  a case
    notes: list[str],
) -> None:
    units = st.sampled_from(("request", "image", '"usage":[]')) | NAMED
    row = st.builds(
        UsageRow,
        st.tuples(*[NAMED] * len(group_by)).map(lambda values: dict(zip(group_by, values, strict=True))),
        AMOUNTS,
        st.dictionaries(units, st.integers(-(10**20), 10**20), max_size=2),
    )
    answer = replace(
        examples.USAGE,
        group_by=tuple(group_by),
        rows=tuple(data.draw(st.lists(row, max_size=3))),
        total=data.draw(row),
        notes=(*notes, '"usage":[]'),
    )
    document = usage_documents.Usage.model_validate(answer)
    written = usage_documents.usage_json(answer, quoted=quoted)
    assert written == (text_json(document) if quoted else exact_json(document))


def test_a_row_of_usage_has_the_fields_that_it_is_grouped_by_and_always_three() -> None:
    document = usage_documents.Usage.model_validate(examples.USAGE)
    rows, total = document.model_dump()["usage"], document.model_dump(mode="json")["total"]
    assert exact_json(rows[0]) == (
        '{"model":"fal-ai/veo3","app":null,"gpu_class":null,"requests":null,"gpu_seconds":0,"spend":370.8,'
        '"list_cost":412,"discount":41.2,"quantities":{"second":1030}}'
    )
    assert exact_json(total) == (
        '{"requests":null,"gpu_seconds":"86400","spend":"478.8","list_cost":"520","discount":"41.2",'
        '"quantities":{"second":"87430"}}'
    )
