"""Wording of rules, made of their facts."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from exporter.focus.rules.table import Kind, Rule


def says(rule: Rule) -> str:
    """Return a rule in a sentence."""
    text = rule.note or _SENTENCES[rule.kind](rule)
    return f"{text} where {rule.when}" if rule.when.alternatives else text


_FORMATS: Mapping[Kind, Mapping[str, str]] = {
    Kind.TYPE: {"text": "is text in UTF-8", "number": "is a number", "instant": "is a date and time"},
    Kind.FORMAT: {
        "text": "has no control characters",
        "number": "is written as a plain number",
        "instant": "is written YYYY-MM-DDTHH:mm:ssZ",
        "unit": "is a unit, capitalised and in the plural, such as Images, GB-Hours or 1000 Tokens",
        "currency": "is a three-letter code of ISO 4217 in capitals, or the name of a virtual currency",
        "key-value": "is a JSON object of single values",
        "object": "is a JSON object",
    },
}
_SHAPES: Mapping[Kind, Mapping[str, str]] = {
    Kind.KEYS: {
        "pascal": "keys in {column} are in PascalCase, after x_ where they are the provider's own",
        "prefix": "keys in {column} that FOCUS does not define begin with x_",
        "spelling": "keys in {column} that FOCUS defines are spelled as there",
        "type": "values in {column} have the type of their key",
        "array": "{column} has the array that FOCUS defines, with at least one element",
        "elements": "elements in {column} are objects",
        "scalars": "elements in {column} hold single values",
        "ProgramType": "elements in {column} have ProgramType",
        "ContractId": "elements in {column} have ContractId",
        "ContractCommitmentId": "elements in {column} have ContractCommitmentId",
        "AllocatedRatio": "elements in {column} have AllocatedRatio",
        "AllocatedRatio:ratio": "AllocatedRatio in {column} is a number from 0 to 1",
        "UsageQuantity:unit": "UsageQuantity in {column} is a number with a UsageUnit",
        "cost-or-quantity": "elements in {column} have an applied cost, or an applied quantity and its unit",
    },
    Kind.HEADER: {
        "pascal": "column names are in PascalCase",
        "letters": "column names consist of letters and digits",
        "length": "column names have at most 50 characters",
        "prefix": "a column that FOCUS does not have begins with x_",
        "custom-pascal": "custom columns are in PascalCase after x_",
        "focus-first": "the columns of FOCUS come first",
        "custom-last": "custom columns come after those of FOCUS, not between them",
    },
}
_ATTRIBUTES: Mapping[str, str] = {
    "DateTimeFormat-A-001-M": "dates are in UTC",
    "DateTimeFormat-A-002-M": "dates are written as ISO 8601 has them",
    "DateTimeFormat-A-004-M": "date and time are both there, with a T between them",
    "DateTimeFormat-A-005-M": "hours, minutes and seconds have two digits each, and nothing after them",
    "DateTimeFormat-A-006-M": "dates end with Z",
    "CurrencyFormat-A-001-C": "national currencies are codes of ISO 4217",
    "CurrencyFormat-A-002-C": "virtual currencies are text without control characters",
    "NumericFormat-A-002-M": "a field holds one number",
    "NumericFormat-A-003-M": "a number is an integer, a decimal or one in E notation",
    "NumericFormat-A-004-M": "a number is no fraction",
    "NumericFormat-A-005-M": "an exponent is written with E",
    "NumericFormat-A-006-M": "an exponent has no plus sign",
    "NumericFormat-A-007-M": "a number holds no operators or other signs of mathematics",
    "NumericFormat-A-008-M": "a number holds no currency sign, unit or other text",
    "NumericFormat-A-009-M": "a number holds no separators",
    "NumericFormat-A-010-M": "a number has no plus sign",
    "NumericFormat-A-011-M": "a negative number begins with a minus sign",
    "StringHandling-A-001-M": "text is valid Unicode without control characters",
    "UnitFormat-A-001-M": "a unit is in one of the forms Units, Unit-Times and Units/Time",
    "UnitFormat-A-003-M": "listed units are capitalised as listed",
    "KeyValueFormat-A-001-M": "the value is a JSON object",
    "KeyValueFormat-A-002-M": "a key occurs once",
    "KeyValueFormat-A-003-M": "values are numbers, texts, true, false or null",
    "KeyValueFormat-A-004-M": "values are no objects or arrays",
}
_PLAIN: Mapping[Kind, str] = {
    Kind.PRESENCE: "the file has the column {column}",
    Kind.NULL: "{column} is null",
    Kind.NOT_NULL: "{column} is not null",
    Kind.FINITE: "{column} is a finite number",
    Kind.NATIONAL: "{column} is a national currency",
    Kind.EXCLUSIVE_END: "{column} is the instant after the period, not its last second",
    Kind.NULL_WORD: "null is an empty field, not a word for it",
    Kind.PLACEHOLDER: "null is an empty field, not an empty text in quotes or a placeholder",
    Kind.BLANK: "text that must not be null does not consist of blanks",
    Kind.PERMISSION: "a permission for {column}, which cannot be broken",
}


def _allowed(rule: Rule) -> str:
    text = f"{rule.column} is one of its allowed values"
    return f"{text}: {', '.join(rule.values)}" if rule.values else text


def _plain(kind: Kind) -> Callable[[Rule], str]:
    return lambda rule: _PLAIN[kind].format(column=rule.column)


_SENTENCES: Mapping[Kind, Callable[[Rule], str]] = MappingProxyType(
    {
        **{kind: _plain(kind) for kind in _PLAIN},
        Kind.TYPE: lambda rule: f"{rule.column} {_FORMATS[Kind.TYPE][rule.value]}",
        Kind.FORMAT: lambda rule: f"{rule.column} {_FORMATS[Kind.FORMAT][rule.value]}",
        Kind.KEYS: lambda rule: _SHAPES[Kind.KEYS][rule.value].format(column=rule.column),
        Kind.HEADER: lambda rule: _SHAPES[Kind.HEADER][rule.value],
        Kind.ATTRIBUTE: lambda rule: _ATTRIBUTES[rule.id],
        Kind.ALLOWED: _allowed,
        Kind.EQUAL: lambda rule: f"{rule.column} equals {rule.values[0]}",
        Kind.UNEQUAL: lambda rule: f"{rule.column} is not {rule.values[0]}",
        Kind.PRODUCT: lambda rule: f"{rule.column} is {' x '.join(rule.values)}",
        Kind.AT_LEAST: lambda rule: f"{rule.column} is not below {rule.values[0]}",
        Kind.ONE_OF_EACH: lambda rule: f"each {rule.values[0]} has one {rule.column}",
        Kind.MEMBER: lambda rule: f"{rule.column} belongs to {rule.values[0]}",
        Kind.START: lambda rule: f"{rule.column} is before {rule.values[0]}",
        Kind.WITHIN: lambda _: "the charge period lies within the billing period",
        Kind.SAME_AS: lambda rule: f"the same as {', '.join(rule.values)}",
        Kind.COMPOSITE: lambda rule: f"{len(rule.values)} rules hold together",
    }
)
