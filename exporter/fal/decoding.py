"""JSON without loss: every number keeps the digits of its text.

A JSON fraction becomes a `Decimal` straight from its text, and an integer an `int`; no float is ever made. `NaN` and
`Infinity`, which Python's parser takes by default, are no JSON and refused.
"""

import json
from decimal import Decimal, InvalidOperation


class BrokenOffError(ValueError):
    """The text ends before its JSON does."""


def decoded(body: bytes) -> object:
    """Parse a JSON text.

    Raises:
        BrokenOffError: the text ends before its JSON does.
        ValueError: the text is no JSON, or not UTF-8, or nested too deeply.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data":
            raise BrokenOffError(f"it breaks off after {len(body)} bytes") from None
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from None
    try:
        return _parsed(text)
    except json.JSONDecodeError as error:
        if _broken_off(text, error):
            raise BrokenOffError(f"it breaks off after {len(body)} bytes") from None
        raise ValueError(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _parsed(text: str) -> object:
    try:
        return _EXACT.decode(text)
    except (json.JSONDecodeError, _ConstantError):
        raise
    except (InvalidOperation, ValueError):
        return _EXACT_OR_INFINITE.decode(text)


def _broken_off(text: str, error: json.JSONDecodeError) -> bool:
    """Tell a text that was cut from one that is no JSON: the cut one begins well and has nothing wrong but its end."""
    body = text.strip()
    if not body.startswith(("{", "[")) or error.msg == "Extra data":
        return False
    return error.msg.startswith("Unterminated string") or error.pos >= len(text.rstrip()) or body[-1] not in "}]"


class _ConstantError(ValueError):
    """The text holds `NaN` or `Infinity`."""


def _refused(word: str) -> object:
    raise _ConstantError(f"it holds {word}")


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def _integer(text: str) -> int | Decimal:
    try:
        return int(text)
    except ValueError:
        return Decimal("Infinity")


_EXACT = json.JSONDecoder(parse_float=Decimal, parse_constant=_refused)
# Numbers beyond what Decimal and int take at all (exponents of 19 digits, integers of 4,300) come as infinite, so that
# one absurd row is rejected as a row; looking for them costs a Python call a number, hence only at the second try.
_EXACT_OR_INFINITE = json.JSONDecoder(parse_float=_decimal, parse_int=_integer, parse_constant=_refused)
