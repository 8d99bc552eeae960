"""Exact JSON of answers, and JSON Schema of their documents.

Amounts are integers of nano-units in a document. They become decimals only where it is written, so that none of them is
ever a float: numbers in REST, texts for whoever would read a number as a float.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Annotated, ClassVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    model_serializer,
)
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from exporter.charges import NANO, decimal_of

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
        if schema.get("function") is vars(SentDocument)["_as_sent"]:
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


class HourWindow(Document):
    """Base of documents about the hours of a window."""

    start: AwareDatetime = Field(description="Start of the window: a whole UTC hour.")
    end: AwareDatetime = Field(description="End of the window, exclusive: a whole UTC hour.")


class SentDocument(Document):
    """Base of documents that are handed on as they were sent: fields that were not sent are left out."""

    @model_serializer(mode="wrap")
    def _as_sent(self, handler: SerializerFunctionWrapHandler) -> Mapping[str, object]:
        """Leave out fields that were not sent."""
        written: Mapping[str, object] = handler(self)
        return {name: value for name, value in written.items() if name in self.model_fields_set}


def _sent(value: object, info: SerializationInfo) -> object:
    """Return an amount as fal sent it; as text where amounts are texts."""
    if info.mode == "python" or isinstance(value, bool) or not isinstance(value, int | Decimal):
        return value
    return decimal_text(Decimal(value))


SentAmount = Annotated[
    object, PlainSerializer(_sent), WithJsonSchema({"type": ["number", "string", "null"]}, mode="serialization")
]
SentText = Annotated[object, WithJsonSchema({"type": ["string", "null"]}, mode="serialization")]
