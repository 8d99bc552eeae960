"""Reading the fields of a row: each comes out right, or the row is rejected."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal

from exporter.charges import nano
from exporter.fal.rejections import RejectedError, Rejection

Row = Mapping[str, object]

_LONGEST_TEXT = 300


def row_of(value: object) -> Row:
    """Return a JSON value as a row.

    Raises:
        RejectedError: it is no object.
    """
    if not isinstance(value, dict):
        raise RejectedError(Rejection.NOT_AN_OBJECT)
    return value


def number(value: object) -> int:
    """Return a JSON number in nano-units.

    Raises:
        RejectedError: it is absent, no number, or too large for a ledger.
    """
    # Not isinstance: True is an int, too.
    if type(value) is not Decimal and type(value) is not int:
        raise RejectedError(Rejection.MISSING_FIELD if value is None else Rejection.WRONG_TYPE)
    try:
        return nano(value)
    except ValueError:
        raise RejectedError(Rejection.OUT_OF_RANGE) from None


def amount(value: object) -> int:
    """Return a JSON number that cannot be below zero, in nano-units.

    Raises:
        RejectedError: as `number`, or it is negative.
    """
    nanos = number(value)
    if nanos < 0:
        raise RejectedError(Rejection.NEGATIVE)
    return nanos


def text(value: object) -> str:
    """Return a JSON string as it may become a label: printable and of bounded length.

    Raises:
        RejectedError: it is absent or no string.
    """
    if not isinstance(value, str):
        raise RejectedError(Rejection.MISSING_FIELD if value is None else Rejection.WRONG_TYPE)
    # A JSON string may hold half a surrogate pair or a NUL, which neither a database nor an exposition takes.
    if not value.isprintable():
        value = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in value)
    return value[:_LONGEST_TEXT]


def optional_text(value: object) -> str:
    """Return a JSON string as `text` does, or the empty string for null.

    Raises:
        RejectedError: it is neither.
    """
    return "" if value is None else text(value)


def instant(value: object) -> datetime:
    """Return an ISO 8601 stamp in UTC; fal is asked for UTC, so a stamp without an offset, or a date alone, is in it.

    Raises:
        RejectedError: it is absent or no stamp.
    """
    stamp = text(value)
    try:
        parsed = datetime.fromisoformat(stamp)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise RejectedError(Rejection.BUCKET) from None


def in_dollars(currency: object) -> None:
    """Check that an amount is in US dollars.

    Raises:
        RejectedError: it is not, or does not say.
    """
    if currency != "USD":
        raise RejectedError(Rejection.MISSING_FIELD if currency is None else Rejection.CURRENCY)
