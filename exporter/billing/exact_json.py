"""JSON whose numbers keep every digit.

The standard encoder writes decimals not at all, and as floats they would lose digits. What is written here is small and
of few types, so that a library of its own is not worth its installation.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from json.encoder import encode_basestring

_WORDS = {None: "null", True: "true", False: "false"}


def decimal_text(value: Decimal) -> str:
    """Write a decimal with every digit, without exponent and without needless zeros."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def exact_json(value: object, *, quoted: bool = False) -> str:
    """Write a tree of mappings, sequences, texts, whole numbers, decimals, floats, booleans and None.

    Args:
        value: the tree.
        quoted: whether decimals stand in quotes, for readers that would make floats of them.

    Raises:
        TypeError: it holds something else.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, Decimal):
        return f'"{decimal_text(value)}"' if quoted else decimal_text(value)
    if isinstance(value, Mapping):
        fields = [f"{encode_basestring(name)}:{exact_json(part, quoted=quoted)}" for name, part in value.items()]
        return "{" + ",".join(fields) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join([exact_json(part, quoted=quoted) for part in value]) + "]"
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, int | float):
        return repr(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def with_text_amounts(value: object) -> object:
    """Return the same tree with decimals as texts, for an encoder that does not know decimals."""
    match value:
        case Decimal():
            return decimal_text(value)
        case str():
            return value
        case Mapping():
            return {name: with_text_amounts(part) for name, part in value.items()}
        case Sequence():
            return [with_text_amounts(part) for part in value]
        case _:
            return value
