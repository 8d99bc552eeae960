"""Reading rows: typed fields, GPU names, and rows that are rejected one by one.

The rule of the whole exporter: GPU-seconds and a GPU class go together. What names no GPU has neither.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import structlog
from typing_extensions import TypeIs  # in `typing` from Python 3.13 on

from exporter.charges import NO_GPU, GpuMachine, atto, gpu_machine, label_text, nano
from exporter.fal.answers import Scrub

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Rejection(StrEnum):
    """Why a row was rejected: a closed set, fit for a label."""

    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    NEGATIVE = "negative"
    CURRENCY = "currency"
    BUCKET = "bucket"
    OUTSIDE_WINDOW = "outside_window"
    UNREADABLE = "unreadable"
    QUANTITY = "quantity"
    UNIT = "unit"


IN_PART = frozenset({Rejection.QUANTITY.value, Rejection.UNIT.value})
"""The reasons for which a row is not left out: its cost is counted, its quantity is not."""

OUTSIDE_WINDOW = Rejection.OUTSIDE_WINDOW.value
"""The one reason that says nothing against a row: it belongs to another poll."""

REJECTIONS = tuple(reason.value for reason in Rejection)


class RejectedError(Exception):
    """A row cannot be a charge; caught where rows are read, never shown."""

    def __init__(self, reason: Rejection) -> None:
        self.reason = reason
        super().__init__(reason.value)


class Rejections:
    """Counts the rejected rows of an account, and logs the first of every source and reason in its life."""

    def __init__(self, account: str, scrub: Scrub) -> None:
        self._account = account
        self._scrub = scrub
        self._shown: set[tuple[str, Rejection]] = set()

    def reject(self, counts: Counter[str], source: str, reason: Rejection, row: object) -> None:
        """Count a row, and log it if it is the first of its source for this reason."""
        counts[reason.value] += 1
        if (source, reason) not in self._shown:
            self._shown.add((source, reason))
            _log.warning(
                "row_rejected",
                account=self._account,
                source=source,
                reason=reason.value,
                sample=self._scrub(_shown(row)),
                advice="counted in fal_exporter_rejected_rows; further rows like it are not logged",
            )


def _shown(row: object) -> str:
    try:
        return repr(row)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return "a row that cannot be shown"


Row = Mapping[str, object]


def row_of(value: object) -> Row:
    """Return a JSON value as a row.

    Raises:
        RejectedError: it is not an object.
    """
    if not isinstance(value, dict):
        raise RejectedError(Rejection.NOT_AN_OBJECT)
    return value


def json_text(value: object) -> str:
    """Return a parsed JSON value as JSON again, in ASCII; numbers keep every digit that was sent.

    What is too large for a number to be read at all is null.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{json_text(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(json_text, value)) + "]"
    if isinstance(value, Decimal):
        return str(value) if value.is_finite() else "null"
    return json.dumps(value)


_NUMBER = re.compile(r"-?\d{1,60}(?:\.\d{1,60})?(?:[eE][+-]?\d{1,3})?", re.ASCII)


def number(value: object) -> int:
    """Return a JSON number, or one within a string, in nano-units.

    Raises:
        RejectedError: it is absent, no number, or too large for a ledger.
    """
    try:
        return nano(_numeric(value))
    except ValueError:
        raise RejectedError(Rejection.OUT_OF_RANGE) from None


def amount(value: object) -> int:
    """Return a number that cannot be below zero, in nano-units.

    Raises:
        RejectedError: as `number`, or it is negative.
    """
    nanos = number(value)
    if nanos < 0:
        raise RejectedError(Rejection.NEGATIVE)
    return nanos


def fine_amount(value: object) -> int:
    """Return a number that cannot be below zero, in atto-units, to be added up before it is rounded.

    Raises:
        RejectedError: as `amount`.
    """
    try:
        attos = atto(_numeric(value))
    except ValueError:
        raise RejectedError(Rejection.OUT_OF_RANGE) from None
    if attos < 0:
        raise RejectedError(Rejection.NEGATIVE)
    return attos


def _numeric(value: object) -> Decimal | int:
    # Not isinstance: True is an int, too.
    if type(value) is Decimal or type(value) is int:
        return value
    # "0.25" can be nothing else; "1,5", "$2" or "" can.
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return Decimal(value)
    raise RejectedError(Rejection.MISSING_FIELD if value is None else Rejection.WRONG_TYPE)


def text(value: object) -> str:
    """Return a JSON string as it becomes a label; see `label_text`.

    Raises:
        RejectedError: it is absent or no string.
    """
    if not isinstance(value, str):
        raise RejectedError(Rejection.MISSING_FIELD if value is None else Rejection.WRONG_TYPE)
    return label_text(value)


def is_sendable(value: object) -> TypeIs[str]:
    """Return whether a JSON value is a text that can be part of a request: not empty, and no half of a character."""
    if not isinstance(value, str):
        return False
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False


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
    """Check that an amount is in US dollars, in whatever case that is written.

    Raises:
        RejectedError: it is not, or does not say.
    """
    if not is_dollars(currency):
        raise RejectedError(Rejection.MISSING_FIELD if currency is None else Rejection.CURRENCY)


def is_dollars(currency: object) -> bool:
    """Return True for `USD`, in whatever case."""
    return currency == "USD" or (isinstance(currency, str) and currency.upper() == "USD")


def cost_shown(row: object, names: Iterable[str]) -> int:
    """Return what a row that is not counted costs in nano-USD, without its sign; 0 where that cannot be read.

    Args:
        row: as it came.
        names: the fields that may hold the cost, the best first.
    """
    if isinstance(row, dict) and is_dollars(row.get("currency", "USD")):
        for name in names:
            with suppress(RejectedError):
                return abs(number(row.get(name)))
    return 0


_SECONDS = {"second": 1, "seconds": 1, "minute": 60, "minutes": 60, "hour": 3600, "hours": 3600}
_GPU_UNIT = re.compile(
    r"(?P<machine>(?:multi-)?gpu|(?:(?:multi-)?gpu|nvidia|amd)[-_ ].+?|[abhlt]\d{1,4}s?|rtx[-_ ]?\w+?)"
    r"(?:[-_ ](?P<time>seconds?|minutes?|hours?))?",
    re.IGNORECASE,
)
_BILLING_LINE = re.compile(r"type:\s*(?P<machine>[^()]+?)\s*(?:\((?P<place>.*)\))?\s*", re.IGNORECASE)


class GpuTime(NamedTuple):
    """GPU time of one unit of a quantity: `seconds` GPU-seconds of `gpu_class`, or nothing."""

    gpu_class: str = ""
    seconds: int = 0


NO_GPU_TIME = GpuTime()


def gpu_time(machine: GpuMachine, unit: str, *, each: bool) -> GpuTime:
    """Return what a unit of a machine's time is in GPU time.

    Args:
        machine: what is billed.
        unit: second, minute or hour; any other unit is no time.
        each: whether the quantity counts the machine's time, and not yet that of each of its GPUs.
    """
    gpu_class, gpus = machine
    if not gpus:
        return NO_GPU_TIME
    return GpuTime(gpu_class, _SECONDS.get(unit.lower(), 0) * (gpus if each else 1))


def gpu_time_of_unit(unit: str) -> GpuTime:
    """Return what a unit of a model's price is in GPU time: `GPU-H100`, `gpu_second`, `H100 hour`.

    A GPU without a time is billed by the second. `compute_second` names no GPU, and `second` is one of video or sound.
    """
    named = _GPU_UNIT.fullmatch(unit.strip())
    if named is None:
        return NO_GPU_TIME
    return gpu_time(gpu_machine(named["machine"]), named["time"] or "second", each=True)


class BillingLine(NamedTuple):
    """Parts of `type: gpu_8x_h100_sxm5 (my-app, prod)`; all empty for a line that is not of this form."""

    machine: GpuMachine = NO_GPU
    app: str = ""
    environment: str = ""


def billing_line(text: str) -> BillingLine | None:
    """Read a machine's line of the organization's bill, or None if it is not of that form."""
    line = _BILLING_LINE.fullmatch(text.strip())
    if line is None:
        return None
    app, _, environment = (line["place"] or "").partition(",")
    return BillingLine(gpu_machine(line["machine"]), app.strip(), environment.strip())
