"""The rules for one field alone: its null, its format, its closed list of values."""

import re
from collections.abc import Callable
from typing import NamedTuple

from exporter.focus.columns import Column, Kind
from exporter.focus.currencies import CURRENCIES
from exporter.focus.dialect import unquoted
from exporter.focus.findings import Level, Rule
from exporter.focus.units import is_unit
from exporter.focus.values import instant, json_object, key_values

NOT_NULL = Rule("null-not-allowed", "Columns: nullability", "the column must not be null")
NULL_TEXT = Rule(
    "null-as-text", "Attributes: Null Handling", "null is an empty field without quotes, not an empty string or a word"
)
NUMBER = Rule(
    "number-format",
    "Attributes: Numeric Format",
    "a number has digits, a minus, a decimal point and `E` at most: no plus, separators, currency signs or words",
)
FLOAT_NOISE = Rule(
    "number-float-noise",
    "Attributes: Numeric Format",
    "the number looks like the output of binary floating point, not like an amount",
    Level.SHOULD,
)
PRICE = Rule("price-negative", "Columns: unit prices", "a unit price is not negative")
INSTANT = Rule("date-format", "Attributes: Date/Time Format", "a date is YYYY-MM-DDTHH:mm:ssZ, in UTC")
CURRENCY = Rule("currency-code", "Attributes: Currency Format", "a currency is an ISO 4217 code in capitals")
UNIT = Rule(
    "unit-format",
    "Attributes: Unit Format",
    "a unit is capitalised and in the plural, such as `Images`, `GB-Hours` or `1000 Tokens`",
    Level.SHOULD,
)
JSON = Rule("json-format", "Attributes: Key-Value Format, JSON Object Format", "the value is a JSON object")
ALLOWED = Rule("allowed-value", "Columns: allowed values", "the value is one of the column's closed list")
ENCODING = Rule("encoding", "Attributes: String Handling", "text is UTF-8")

FIELD_RULES = (*(NOT_NULL, NULL_TEXT, NUMBER, FLOAT_NOISE, PRICE, INSTANT, CURRENCY, UNIT, JSON, ALLOWED, ENCODING),)

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:E-?\d+)?", re.ASCII)
_INSTANT = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.0+)?Z", re.ASCII
)
_NO_VALUE = frozenset({"null", "none", "nil", "nan", "n/a", "na", "not applicable", "unassigned", "undefined", "-"})
_NOISE = re.compile(r"\.(?=\d{12})\d*(?:0{6}|9{6})\d{1,3}$")
_FLOAT_DIGITS = 16


class Verdict(NamedTuple):
    """What a field is: its text, None for null, and what is wrong with it, if anything is."""

    text: str | None
    rule: Rule | None = None
    note: str = ""


def judge(column: Column | None, raw: bytes) -> Verdict:
    """Judge a raw field of a column of the specification, or of a custom one."""
    if not raw:
        wrong = column is not None and not column.nullable
        return Verdict(None, NOT_NULL if wrong else None)
    try:
        text = unquoted(raw).decode()
    except UnicodeDecodeError:
        return Verdict(None, ENCODING)
    if not text.strip():
        return Verdict(None, NULL_TEXT, "an empty string")
    if column is None:
        return Verdict(text)
    if text.lower() in _NO_VALUE:
        return Verdict(None, NULL_TEXT)
    rule, note = _wrong(column, text)
    return Verdict(text, rule, note)


def _wrong(column: Column, text: str) -> tuple[Rule | None, str]:
    if column.allowed:
        return (None, "") if text in column.allowed else (ALLOWED, _nearest(column, text))
    check = _CHECKS.get(column.kind)
    return check(text) if check else (None, "")


def _nearest(column: Column, text: str) -> str:
    folded = {value.lower(): value for value in column.allowed}
    found = folded.get(text.lower())
    return f"write it {found!r}" if found else ""


def _number(text: str) -> tuple[Rule | None, str]:
    if not _NUMBER.fullmatch(text):
        return NUMBER, ""
    digits = re.sub(r"E.*|\D", "", text).lstrip("0")
    # The shortest text that gives the same float back is what a program prints that calculates with floats.
    if len(digits) >= _FLOAT_DIGITS and _NOISE.search(text) and repr(float(text)) == text:
        return FLOAT_NOISE, ""
    return None, ""


def _price(text: str) -> tuple[Rule | None, str]:
    # A price may be an average, which has as many digits as a number from a float.
    if not _NUMBER.fullmatch(text):
        return NUMBER, ""
    negative = text.startswith("-") and any(digit in text.partition("E")[0] for digit in "123456789")
    return (PRICE, "") if negative else (None, "")


def _instant(text: str) -> tuple[Rule | None, str]:
    if not _INSTANT.fullmatch(text):
        return INSTANT, ""
    try:
        instant(text)
    except ValueError as error:
        return INSTANT, str(error)
    return None, ""


def _currency(text: str) -> tuple[Rule | None, str]:
    return (None, "") if text in CURRENCIES else (CURRENCY, "")


def _unit(text: str) -> tuple[Rule | None, str]:
    return (None, "") if is_unit(text) else (UNIT, "")


def _json(read: Callable[[str], object]) -> Callable[[str], tuple[Rule | None, str]]:
    def check(text: str) -> tuple[Rule | None, str]:
        try:
            read(text)
        except ValueError as error:
            return JSON, str(error)
        return None, ""

    return check


_CHECKS: dict[Kind, Callable[[str], tuple[Rule | None, str]]] = {
    Kind.NUMBER: _number,
    Kind.PRICE: _price,
    Kind.INSTANT: _instant,
    Kind.CURRENCY: _currency,
    Kind.UNIT: _unit,
    Kind.KEY_VALUE: _json(key_values),
    Kind.OBJECT: _json(json_object),
}
