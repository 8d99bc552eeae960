"""Answers as documents for programs, declared once: their fields, exact JSON and JSON Schema.

REST, its description at `/openapi.json`, the output schemas of MCP and the tables of fields in `docs/rest.md` all come
from the pydantic models here. A model is made from what a question is answered with, by `model_validate`.

Amounts are integers of nano-units in a model. They become decimals only where a document is written, so that none of
them is ever a float.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Annotated, ClassVar

from pydantic import (
    AliasPath,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    RootModel,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from exporter.charges import NANO, decimal_of
from exporter.charges import Invoice as StatedInvoice
from exporter.forecasting.budgets import percent, threshold_amount
from exporter.forecasting.drivers import Driver
from exporter.forecasting.state import BudgetOutlook
from exporter.queries.invoices import stated

_WORDS = {None: "null", True: "true", False: "false"}
Schema = Mapping[str, object]
"""A JSON Schema, draft 2020-12."""


def decimal_text(value: Decimal) -> str:
    """Return a decimal with every digit, without exponent and without trailing zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def amount_text(nanos: int) -> str:
    """Return the decimal that nano-units stand for, as `decimal_text` writes it."""
    # Written out, as it is done five times for every row of a large answer.
    if not nanos:
        return "0"
    if nanos < 0:
        return f"-{amount_text(-nanos)}"
    whole, rest = divmod(nanos, NANO)
    return f"{whole}.{rest:09}".rstrip("0") if rest else str(whole)


def instant_text(instant: datetime | None) -> str | None:
    """Return an aware instant of UTC as ISO 8601."""
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


def exact_json(value: object) -> str:
    """Return JSON whose numbers keep every digit.

    Args:
        value: a document, or a tree of dicts, lists, tuples, texts, numbers, decimals, instants, booleans and None.

    Raises:
        TypeError: the tree holds something else.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, dict):
        return "{" + ",".join([f"{encode_basestring(name)}:{exact_json(part)}" for name, part in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([exact_json(part) for part in value]) + "]"
    if isinstance(value, BaseModel):
        return exact_json(tree(value))
    return _leaf_json(value)


def _leaf_json(value: object) -> str:
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime):
        return f'"{instant_text(value)}"'
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def tree(document: BaseModel) -> object:
    """Return a document as dicts, lists and tuples; amounts are decimals."""
    return document.model_dump()


def texts(document: BaseModel) -> dict[str, object]:
    """Return a document for an encoder that does not know decimals; amounts are texts with every digit."""
    return document.model_dump(mode="json")


def text_json(document: BaseModel) -> str:
    """Return a document as JSON with amounts in quotes, for readers that make floats of numbers."""
    return document.model_dump_json()


def _written(nanos: int, info: SerializationInfo) -> Decimal | str:
    return decimal_of(nanos) if info.mode == "python" else amount_text(nanos)


Amount = Annotated[int, PlainSerializer(_written)]
"""Nano-units; written as the decimal they stand for."""


class _AmountsAsNumbers(GenerateJsonSchema):
    """JSON Schema of documents whose amounts are numbers or texts."""

    amount: ClassVar[Sequence[str]] = ("number", "string")

    def ser_schema(
        self, schema: "core_schema.SerSchema | core_schema.IncExSeqSerSchema | core_schema.IncExDictSerSchema"
    ) -> JsonSchemaValue | None:
        """Return the schema of what is written in place of a field's value."""
        if schema.get("function") is _written:
            return _typed(self.amount)
        if schema.get("function") is vars(Invoice)["_as_sent"]:
            return None  # the fields are those of the model
        return super().ser_schema(schema)

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Add null to the types where the schema names types."""
        inner = self.generate_inner(schema["schema"])
        if "type" not in inner:
            return {"anyOf": [inner, {"type": "null"}]}
        types = inner["type"] if isinstance(inner["type"], list) else [inner["type"]]
        return {**inner, "type": [*types, "null"]}

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Leave out defaults: a field that may be missing stands for nothing where it is."""
        return self.generate_inner(schema["schema"])

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """Describe a model by its docstring in one line; its name is that of the definition."""
        return _described(super().model_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        """Describe a row as a model is."""
        return _described(super().typed_dict_schema(schema))

    def field_title_should_be_set(self, schema: object) -> bool:
        """Leave out titles, which would repeat the names of the fields."""
        del schema
        return False


class _AmountsAsTexts(_AmountsAsNumbers):
    """JSON Schema of documents whose amounts are texts.

    A JSON number becomes a float in most clients of MCP, and a float is no amount of money.
    """

    amount = ("string",)


def _described(schema: JsonSchemaValue) -> JsonSchemaValue:
    schema.pop("title", None)
    return {**schema, "description": " ".join(str(schema["description"]).split())}


def _typed(types: Sequence[str]) -> JsonSchemaValue:
    return {"type": list(types) if len(types) > 1 else types[0]}


def schemas(models: Sequence[type[BaseModel]], reference: str) -> Mapping[str, Schema]:
    """Return the schemas of models and of the models in them, by name.

    Args:
        models: those to describe.
        reference: how they name each other, such as `#/components/schemas/{model}`.
    """
    written: list[tuple[type[BaseModel], JsonSchemaMode]] = [(model, "serialization") for model in models]
    _, described = models_json_schema(written, ref_template=reference, schema_generator=_AmountsAsNumbers)
    definitions: Mapping[str, Schema] = described["$defs"]
    return definitions


def text_schema(model: type[BaseModel]) -> Schema:
    """Return the schema of a model's documents whose amounts are texts; the models in it stand in `$defs`."""
    return model.model_json_schema(mode="serialization", schema_generator=_AmountsAsTexts)


EXACT = ConfigDict(extra="forbid", strict=True)
"""For rows, of which an answer may have ten thousand: as dicts they take half the time of models."""


class Document(BaseModel):
    """Base of all documents: made from attributes, with no conversion of one type to another, and no other field."""

    model_config = ConfigDict(extra="forbid", frozen=True, from_attributes=True, strict=True)


OWN_ACCOUNT = "x_fal_exporter_account"
"""Field of an invoice that is ours, not fal's; fal has no reason to send one of this name."""


def _sent(value: object, info: SerializationInfo) -> object:
    """Return an amount as fal sent it; as text where amounts are texts."""
    if info.mode == "python" or isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    return decimal_text(Decimal(value))


SentAmount = Annotated[
    object, PlainSerializer(_sent), WithJsonSchema({"type": ["number", "string", "null"]}, mode="serialization")
]
SentText = Annotated[object, WithJsonSchema({"type": ["string", "null"]}, mode="serialization")]


class Invoice(Document):
    """One invoice as fal sent it: every field it has, under its name and with its value; those below are known.

    Amounts are in USD. fal does not document the fields. One that fal did not send is missing.
    """

    model_config = ConfigDict(extra="allow")

    x_fal_exporter_account: str = Field(description="Configured account; the one field that is the exporter's own.")
    account: object = Field(
        None,
        description="The same, unless fal sends a field of this name, which then stands here. Deprecated: read "
        "`x_fal_exporter_account`.",
    )
    id: SentText = Field(None, description="fal's identifier of the invoice.")
    number: SentText = Field(None, description="Number on the invoice.")
    status: SentText = Field(None, description="`paid`, `open`, `draft` or `void`.")
    period_start: SentText = Field(None, description="Start of the billed period, ISO 8601.")
    period_end: SentText = Field(None, description="End of the billed period, exclusive.")
    issued_at: SentText = Field(None, description="When it was issued.")
    due_at: SentText = Field(None, description="When it is due.")
    currency: SentText = Field(None, description="Always USD.")
    subtotal: SentAmount = Field(None, description="Usage.")
    credits: SentAmount = Field(None, description="Credits.")
    tax: SentAmount = Field(None, description="Tax.")
    total: SentAmount = Field(None, description="Amount to be paid.")

    @model_serializer(mode="wrap")
    def _as_sent(self, handler: SerializerFunctionWrapHandler) -> Mapping[str, object]:
        """Leave out fields that fal has not sent."""
        written: Mapping[str, object] = handler(self)
        return {name: value for name, value in written.items() if name in self.model_fields_set}

    @model_validator(mode="before")
    @classmethod
    def _of_invoice(cls, invoice: object) -> object:
        """Return the fields: fal's, and which account they are of."""
        if not isinstance(invoice, StatedInvoice):
            return invoice
        return {"account": invoice.account, **stated(invoice), OWN_ACCOUNT: invoice.account}


class Invoices(RootModel[tuple[Invoice, ...]]):
    """Invoices as the array that the reporting interface answers."""

    model_config = ConfigDict(frozen=True, from_attributes=True, strict=True)


class InvoicePage(Document):
    """One page of invoices."""

    invoices: tuple[Invoice, ...] = Field(description="The invoices, most recently issued first.")
    next_cursor: str | None = Field(description="`cursor` of the next page; null on the last page.")


class _Published(Document):
    """Answer made from a publication."""

    as_of: AwareDatetime = Field(description="Time of the figures.")
    currency: str = Field(description="Always USD.")


def _seconds(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(seconds=1)


class Lock(Document):
    """A reason for which fal has locked an account."""

    reason: str = Field(description="The reason, as in `fal_account_locked`.")
    advice: str = Field(description="What it means and what to do about it.")


class Balance(Document):
    """The prepaid credit of one account."""

    account: str = Field(description="Configured account.")
    balance: Amount | None = Field(description="Credit in USD; null while unknown.")
    balance_at: AwareDatetime | None = Field(description="When the balance was read.")
    runway_seconds: Annotated[int | None, BeforeValidator(_seconds)] = Field(
        validation_alias="runway",
        description="How long the credit lasts at the recent burn rate; null if nothing is spent or it is not known.",
    )
    credit_floor: Amount | None = Field(
        description="Balance at which fal locks the account (the setting `credit_floor`), to which the runway counts "
        "down; null if only the ledger is read."
    )
    locked: tuple[str, ...] = Field(description="Why fal has locked the account; empty if it has not.")
    locks: tuple[Lock, ...] = Field(description="The same reasons, each with what to do about it.")


class Balances(_Published):
    """The prepaid credit of the accounts."""

    accounts: tuple[Balance, ...] = Field(description="By account.")


class Forecast(Document):
    """Forecast spend of a whole period, in USD."""

    expected: Amount = Field(description="The median.")
    low: Amount = Field(description="Lower edge of a band that contains the final amount in 80% of cases.")
    high: Amount = Field(description="Upper edge of that band.")


class Threshold(Document):
    """A share of the limit that is watched."""

    threshold: str = Field(description="The share, such as `80%`.")
    amount: Amount = Field(description="The threshold in USD.")
    reached: bool | None = Field(
        description="True if the spend has reached it; null while the spend is unknown.",
    )


class Budget(Document):
    """One budget in its current period; amounts in USD."""

    budget: str = Field(description="Its name.")
    period: str = Field(description="`day`, `week` or `month`.")
    start: AwareDatetime = Field(description="Start of the current period.")
    end: AwareDatetime = Field(description="End of the current period, exclusive.")
    match: dict[str, tuple[str, ...]] = Field(
        description="What the budget covers: glob patterns by label; everything if there are none."
    )
    limit: Amount = Field(description="The budget.")
    spend: Amount | None = Field(description="Spend in the period so far; null until its hours have been loaded.")
    remaining: Amount | None = Field(description="`limit` minus `spend`; negative if the budget is exceeded.")
    forecast: Forecast | None = Field(description="Forecast spend of the whole period; null while unknown.")
    thresholds: tuple[Threshold, ...] = Field(description="Watched shares of the limit, ascending.")
    burn: dict[str, float] = Field(
        description="Burn rate by window (1h, 6h, 1d, 3d); at 1 the budget is used up exactly at the end of the period."
    )

    @model_validator(mode="before")
    @classmethod
    def _of_outlook(cls, budget: BudgetOutlook) -> Mapping[str, object]:
        """Return the fields, among them what is left and which thresholds are reached."""
        spend, amounts = budget.spend, [threshold_amount(budget.limit, share) for share in budget.thresholds]
        return {
            "budget": budget.budget,
            "period": budget.period,
            "start": budget.window.start,
            "end": budget.window.end,
            "match": {label: tuple(patterns) for label, patterns in budget.match.items()},
            "limit": budget.limit,
            "spend": spend,
            "remaining": None if spend is None else budget.limit - spend,
            "forecast": budget.forecast,
            "thresholds": tuple(
                {"threshold": percent(share), "amount": amount, "reached": None if spend is None else spend >= amount}
                for share, amount in zip(budget.thresholds, amounts, strict=True)
            ),
            "burn": {window: burn for window, burn in (budget.burn or {}).items() if math.isfinite(burn)},
        }


class Budgets(_Published):
    """The configured budgets; none where none is configured."""

    budgets: tuple[Budget, ...] = Field(description="By budget.")


class MonthForecast(Document):
    """The current month of one account; amounts in USD."""

    account: str = Field(description="Configured account.")
    start: AwareDatetime = Field(
        validation_alias=AliasPath("month", "start"), description="Start of the month, in the configured time zone."
    )
    end: AwareDatetime = Field(validation_alias=AliasPath("month", "end"), description="End of the month, exclusive.")
    spend: Amount | None = Field(description="Spend in the month so far; null while unknown.")
    forecast: Forecast | None = Field(
        description="Forecast spend of the whole month; null until the month to date has been loaded."
    )


class Forecasts(_Published):
    """Forecast spend of the current month, by account."""

    accounts: tuple[MonthForecast, ...] = Field(description="By account.")


class DriverWindow(Document):
    """One of two windows that are compared."""

    start: AwareDatetime = Field(description="Start of the window: a whole UTC hour.")
    end: AwareDatetime = Field(description="End of the window, exclusive: a whole UTC hour.")
    spend: Amount = Field(description="What fal charged in USD, after discount.")
    complete: bool = Field(
        description="True if every hour of the window has been read from fal completely, with all its rows."
    )


class DriverParts(Document):
    """Causes of a difference, in USD; they add up to it."""

    price: Amount = Field(description="The later quantity at the change of the list price without surge.")
    volume: Amount = Field(
        description="The growth of each kind of unit at earlier prices, as if every item had grown alike."
    )
    mix: Amount = Field(
        description="What items have moved apart from that growth at earlier prices, and changes of a model's machine "
        "or unit."
    )
    new: Amount = Field(description="Models and apps that were not charged for in the earlier window.")
    vanished: Amount = Field(description="Models and apps that are no longer charged for.")
    discount: Amount = Field(description="The later quantity at the change of the rate of discount.")
    surge: Amount = Field(description="The later quantity at the change of the surcharge of surge prices.")
    unknown: Amount = Field(description="Charges without a quantity, so that price and volume cannot be told.")


class DriverItem(Document):
    """One item: a model or app of an account, with the machine and the unit it is sold by; null where it has none."""

    account: str = Field(description="Configured account.")
    product: str | None = Field(description="Product line: `model_apis`, `serverless` or `compute`.")
    model: str | None = Field(description="Model endpoint, like `fal-ai/flux/dev`.")
    app: str | None = Field(description="Your own serverless app.")
    gpu_class: str | None = Field(description="GPU class, like `H100`.")
    unit: str | None = Field(description="fal's unit, like `image`.")
    spend: Amount = Field(description="Cost in the window.")
    compare_spend: Amount = Field(description="Cost in the earlier window.")
    quantity: Amount = Field(description="Units in the window.")
    compare_quantity: Amount = Field(description="Units in the earlier window.")
    difference: Amount = Field(description="`spend` minus `compare_spend`.")
    parts: DriverParts = Field(description="Causes of the difference.")

    @model_validator(mode="before")
    @classmethod
    def _of_driver(cls, driver: Driver) -> Mapping[str, object]:
        """Return the fields; a name that an item lacks is null."""
        return {
            **{name: value or None for name, value in driver.item._asdict().items()},
            "account": driver.item.account,
            "spend": driver.after.cost,
            "compare_spend": driver.before.cost,
            "quantity": driver.after.quantity,
            "compare_quantity": driver.before.quantity,
            "difference": driver.difference,
            "parts": driver.parts,
        }


class DriverOthers(Document):
    """The items that are not listed, together."""

    count: int = Field(description="How many there are.")
    difference: Amount = Field(description="Difference of their costs.")
    parts: DriverParts = Field(description="Causes of the difference.")


class Drivers(Document):
    """Why a window cost more or less than an earlier one.

    `parts` add up to `difference`, and so do the differences of `items` and `others`, to the nano-dollar.
    """

    window: DriverWindow = Field(description="The window that is explained.")
    compare: DriverWindow = Field(description="The earlier window.")
    timezone: str = Field(description="Time zone of days and months.")
    currency: str = Field(description="Always USD.")
    difference: Amount = Field(description="Spend of the window minus that of the earlier one.")
    parts: DriverParts = Field(description="Causes of the difference, all items together.")
    items: tuple[DriverItem, ...] = Field(description="The items, those that moved most first.")
    others: DriverOthers = Field(description="The items beyond `limit`, together.")
    notes: tuple[str, ...] = Field(
        description="Remarks on the figures: a widened window, missing hours, rows that cannot be read."
    )
