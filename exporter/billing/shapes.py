"""Documents declared field by field: what a field holds, how it is told of, and its schema, in one place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from exporter.charges import decimal_of

Source = TypeVar("Source")
Schema = Mapping[str, object]
"""A JSON Schema, draft 2020-12."""

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
BOOLEAN: Schema = {"type": "boolean"}
INSTANT: Schema = {"type": "string", "format": "date-time"}
INSTANT_OR_NULL: Schema = {"type": ["string", "null"], "format": "date-time"}
AMOUNT: Schema = {"type": ["number", "string"]}
AMOUNT_OR_NULL: Schema = {"type": ["number", "string", "null"]}
RATIO: Schema = {"type": "number"}

LEFT_OUT = object()
"""The value of a field that is not there."""


@dataclass(frozen=True, slots=True)
class Field(Generic[Source]):
    """One field of a document.

    Attributes:
        meaning: a sentence or two for people.
        value: what stands in it: None, text, booleans, whole numbers, decimals, and lists and mappings of those;
            LEFT_OUT where the field is not to be there.
        always: whether it is there in every document.
    """

    name: str
    schema: Schema
    meaning: str
    value: Callable[[Source], object]
    always: bool = True


@dataclass(frozen=True, slots=True)
class Shape(Generic[Source]):
    """One kind of document.

    Attributes:
        name: in the interface's description.
    """

    name: str
    meaning: str
    fields: tuple[Field[Source], ...]

    def document(self, source: Source) -> dict[str, object]:
        """Return the document of something, in the order of the fields."""
        found = ((field.name, field.value(source)) for field in self.fields)
        return {name: value for name, value in found if value is not LEFT_OUT}

    @property
    def schema(self) -> Schema:
        """The documents' schema."""
        return {
            "type": "object",
            "description": self.meaning,
            "properties": {field.name: {**field.schema, "description": field.meaning} for field in self.fields},
            "required": [field.name for field in self.fields if field.always],
            "additionalProperties": False,
        }


def list_of(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def map_of(values: Schema) -> Schema:
    """Return the schema of an object with any names."""
    return {"type": "object", "additionalProperties": values}


def instant_text(instant: datetime | None) -> str | None:
    """Write an aware instant of UTC as ISO 8601."""
    return None if instant is None else instant.isoformat().replace("+00:00", "Z")


def amount(nanos: int | None) -> object:
    """Return nano-units as the decimal they stand for; None is null."""
    return None if nanos is None else decimal_of(nanos)
