"""The domain: what was charged, for what, and when. Imports nothing of the project.

Money is an integer count of nano-USD, the unit in which fal itself counts (`cost_estimate_nano_usd`); quantities
and GPU-seconds are integer counts of nano-units, so that sums are exact and associative. Instants are aware and in
UTC, windows are half-open. Rows that occur by the million are named tuples: as immutable as a frozen dataclass,
built and hashed in a fraction of its time.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact
from typing import NamedTuple

NANO = 10**9
"""Nano-units in a unit: nano-USD in a US dollar, nano-seconds in a second."""

HOUR = timedelta(hours=1)

Clock = Callable[[], datetime]
"""Returns the current instant, aware and in UTC."""

_NANO = Decimal("1E+9")
_never_rounding = Context(prec=60, traps=[Inexact])
_exactly = Context(prec=400, rounding=ROUND_HALF_EVEN, traps=[])
_LARGEST = 2**63 - 1
_MOST_DIGITS = 18


LONGEST_LABEL = 300
"""Characters of a label's value; longer names are cut."""

_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_HASH_LENGTH = 8


def label_text(name: str) -> str:
    """Return a name as a label holds it; every room that compares a name with labels passes it through here.

    Only what a database, an exposition or a line of text cannot hold is replaced, by U+FFFD: control characters (NUL
    and line ends among them), line and paragraph separators, lone surrogates. Every letter, blank and joiner of Unicode
    stays. A name that is too long is cut and ends in a hash of the whole, so that distinct names stay distinct.
    """
    name = _UNFIT.sub("\N{REPLACEMENT CHARACTER}", name)
    if len(name) <= LONGEST_LABEL:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{name[: LONGEST_LABEL - _HASH_LENGTH - 1]}~{digest}"


def fits_a_label(text: str) -> bool:
    """Return whether `label_text` replaces no character of a text."""
    return not _UNFIT.search(text)


def utc_now() -> datetime:
    """Return the system clock's instant."""
    return datetime.now(UTC)


_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return the seconds on a clock that nobody sets; where the system has one, it goes on while the machine sleeps."""
    return time.clock_gettime(_UPTIME)


def nano(value: Decimal | int) -> int:
    """Convert a decimal amount to nano-units: exactly, or rounded half-even at the ninth place.

    Raises:
        ValueError: the amount is not finite, or too large for a ledger column (64 bits of nano-units).
    """
    if isinstance(value, int):
        scaled = value * NANO
    elif value.is_finite() and value.adjusted() <= _MOST_DIGITS:
        scaled = round(_exactly.multiply(value, _NANO))
    else:
        raise ValueError(f"{value} is not an amount that a ledger can hold")
    if not -_LARGEST <= scaled <= _LARGEST:
        raise ValueError(f"{value} is too large an amount")
    return scaled


ATTO_PER_NANO = 10**9

_ATTO = Decimal("1E+18")


def atto(value: Decimal | int) -> int:
    """Convert a decimal amount to atto-units, a billionth of nano-units: exactly, or rounded at the 18th place.

    For amounts that are added up before they become nano-units: what is finer must not be lost row by row.

    Raises:
        ValueError: as for `nano`.
    """
    if isinstance(value, int):
        scaled = value * NANO * ATTO_PER_NANO
    elif value.is_finite() and value.adjusted() <= _MOST_DIGITS:
        scaled = round(_exactly.multiply(value, _ATTO))
    else:
        raise ValueError(f"{value} is not an amount that a ledger can hold")
    if not -_LARGEST * ATTO_PER_NANO <= scaled <= _LARGEST * ATTO_PER_NANO:
        raise ValueError(f"{value} is too large an amount")
    return scaled


def nano_of_atto(amount: int) -> int:
    """Return atto-units in nano-units, rounded half-even."""
    whole, rest = divmod(amount, ATTO_PER_NANO)
    double = 2 * rest - ATTO_PER_NANO
    return whole + (double > 0 or (double == 0 and whole % 2 == 1))


def decimal_of(amount: int) -> Decimal:
    """Return nano-units as the exact decimal they stand for.

    Raises:
        Inexact: never for amounts a ledger can hold; the context traps it all the same.
    """
    return Decimal(amount).scaleb(-9, _never_rounding)


def dollar_text(amount: int) -> str:
    """Return nano-USD as dollars and cents in a sentence, such as `$1,234.56`."""
    cents = decimal_of(abs(amount)).quantize(Decimal("0.01"), context=_exactly)
    return f"{'-' if amount < 0 and cents else ''}${cents:,}"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hour_of(instant: datetime) -> datetime:
    """Return the start of the UTC hour that holds an aware instant."""
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def hour_number(hour: datetime) -> int:
    """Return the hours from 1970 to the start of an hour."""
    return (hour - _EPOCH) // HOUR


def first_hour_from(instant: datetime) -> int:
    """Return the number of the first hour that begins at or after an instant."""
    return -((_EPOCH - instant) // HOUR)


def hour_start(number: int) -> datetime:
    """Return the start of the hour with this number."""
    return _EPOCH + number * HOUR


SURGE = "surge"
"""The value of the dimension `surge` for what fal sells at surge prices; all else has the empty string."""


class Dimensions(NamedTuple):
    """Dimensions of a charge. A dimension that a charge lacks is the empty string.

    Attributes:
        api_key: the id of the key that was used; what a user reads in its place is the ledger's to say.
        member: the login of the member of the organization who was charged for.
    """

    account: str
    team: str = ""
    product: str = ""
    model: str = ""
    app: str = ""
    environment: str = ""
    gpu_class: str = ""
    unit: str = ""
    api_key: str = ""
    member: str = ""
    surge: str = ""


class Amounts(NamedTuple):
    """Amounts of a charge: nano-units of `unit`, nano-seconds of GPU time, nano-USD; `cost` is after discount."""

    quantity: int = 0
    gpu_seconds: int = 0
    list_cost: int = 0
    discount: int = 0
    cost: int = 0

    def plus(self, other: "Amounts") -> "Amounts":
        """Return the sum, field by field; written out, as it is made for every row of a large answer."""
        quantity, gpu_seconds, list_cost, discount, cost = self
        return Amounts(
            quantity + other.quantity,
            gpu_seconds + other.gpu_seconds,
            list_cost + other.list_cost,
            discount + other.discount,
            cost + other.cost,
        )

    def negated(self) -> "Amounts":
        """Return what makes nothing of it when added."""
        return Amounts(*(-value for value in self))


NOTHING = Amounts()


class Charge(NamedTuple):
    """Cost of one combination of dimensions in the hour that starts at `hour`."""

    hour: datetime
    dimensions: Dimensions
    amounts: Amounts


class BilledRequest(NamedTuple):
    """One charged request of a model endpoint, as fal reports it; amounts in nano-USD, quantities in nano-units.

    Attributes:
        at: when it was charged for, an aware instant of UTC.
        quantity: None where fal states none.
        unit_price: before discount; None where fal states none.
        discount_percent: in nano-percent, as in `UnitPrice`; None where fal states none.
        tags: a JSON object with sorted names, `{}` where there are none.
    """

    request_id: str
    at: datetime
    model: str
    team: str
    api_key: str
    member: str
    quantity: int | None
    unit_price: int | None
    discount_percent: int | None
    list_cost: int
    discount: int
    cost: int
    tags: str = "{}"


@dataclass(slots=True)
class RequestColumns:
    """Charged requests in the order in which they were read, column by column: quick to hand on, small to hold.

    Every column has a value for each request, as in `BilledRequest`.

    Attributes:
        at: when each was charged for, as ISO 8601 text with its offset: it is read where it is needed.
    """

    request_id: list[str] = field(default_factory=list)
    at: list[str] = field(default_factory=list)
    model: list[str] = field(default_factory=list)
    team: list[str] = field(default_factory=list)
    api_key: list[str] = field(default_factory=list)
    member: list[str] = field(default_factory=list)
    quantity: list[int | None] = field(default_factory=list)
    unit_price: list[int | None] = field(default_factory=list)
    discount_percent: list[int | None] = field(default_factory=list)
    list_cost: list[int] = field(default_factory=list)
    discount: list[int] = field(default_factory=list)
    cost: list[int] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, requests: "Requests") -> "RequestColumns":
        """Return requests as columns."""
        if isinstance(requests, RequestColumns):
            return requests
        if not requests:
            return cls()
        ids, instants, *others = map(list, zip(*requests, strict=True))
        return cls(ids, [at.isoformat() for at in instants], *others)

    def __len__(self) -> int:
        """Return the number of requests."""
        return len(self.request_id)

    def extend(self, others: "RequestColumns") -> None:
        """Add requests that were read after these."""
        for column in fields(self):
            getattr(self, column.name).extend(getattr(others, column.name))


Requests = RequestColumns | Sequence[BilledRequest]
"""Requests to be kept; as columns where there may be many."""


class RejectedRow(NamedTuple):
    """A row of an answer that could not be read, or only in part.

    Attributes:
        reason: why, as a word that is fit for a label.
        hour: of the row; None where it cannot be read, so that it may be any of the answer's.
        dimensions: what the row is for; None where that cannot be read.
        cost: what the row costs in nano-USD, as far as that can be read; 0 for a row that is counted.
        is_counted: whether the row's cost is among the charges, and only its quantity or unit could not be read.
    """

    reason: str
    hour: datetime | None = None
    dimensions: Dimensions | None = None
    cost: int = 0
    is_counted: bool = False


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open span of whole UTC hours, `[start, end)`.

    Raises:
        ValueError: an edge is naive, not in UTC or not on an hour, or the window is empty.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        for edge in (self.start, self.end):
            if edge.tzinfo is not UTC or edge != hour_of(edge):
                raise ValueError(f"a window's edges are whole UTC hours, not {edge.isoformat()}")
        if self.start >= self.end:
            raise ValueError(f"a window ends after it starts, not from {self.start} to {self.end}")

    def __contains__(self, instant: datetime) -> bool:
        return self.start <= instant < self.end

    def __str__(self) -> str:
        return f"{self.start:%Y-%m-%dT%HZ}/{self.end:%Y-%m-%dT%HZ}"

    def __len__(self) -> int:
        """Return the number of hours."""
        return (self.end - self.start) // HOUR

    def hours(self) -> Iterator[datetime]:
        """Yield the start of every hour, in order."""
        hour = self.start
        while hour < self.end:
            yield hour
            hour += HOUR

    def pieces(self, hours: int) -> Iterator["Window"]:
        """Yield consecutive windows of at most so many hours, in order, that neither overlap nor leave a gap."""
        start = self.start
        while start < self.end:
            end = min(start + hours * HOUR, self.end)
            yield Window(start, end)
            start = end


class UnitPrice(NamedTuple):
    """Price of one unit before discount, in nano-USD, as seen in the hour that starts at `hour`.

    `discount` is the share taken off, in nano-percent (10 % is 10 * NANO); 0 without a discount.
    """

    account: str
    product: str
    model: str
    app: str
    gpu_class: str
    unit: str
    hour: datetime
    price: int
    discount: int


@dataclass(frozen=True, slots=True)
class Balance:
    """An account's prepaid credit in nano-USD at an instant; it may be negative."""

    account: str
    amount: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Invoice:
    """One invoice as fal states it, amounts in nano-USD, `period_end` exclusive.

    Attributes:
        status: paid, open, draft or void; one that fal introduces later counts as open.
        due_at: None where fal states no due date.
        stated: the JSON object that fal sent, all of it, numbers with every digit; empty where it has not been kept.
    """

    account: str
    id: str
    number: str
    status: str
    period_start: datetime
    period_end: datetime
    issued_at: datetime | None
    due_at: datetime | None
    currency: str
    subtotal: int
    credits: int
    tax: int
    total: int
    stated: str = ""

    @property
    def is_issued(self) -> bool:
        """True if it bills what it states: a draft does not yet, and a void one does not any more."""
        return self.status not in {"draft", "void"}

    @property
    def is_to_be_paid(self) -> bool:
        """True if it is issued and not paid, as far as its status says."""
        return self.is_issued and self.status != "paid"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of an account as fal lists it.

    Attributes:
        alias: the name that people know it by, which may change; empty where it has none.
        creator: the nickname of who made it; empty where fal does not say.
        created_at: None where fal does not say.
    """

    account: str
    id: str
    alias: str
    creator: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Team:
    """A team of an organization: its username, which charges carry, and its name."""

    account: str
    username: str
    name: str


INVOICE, FOCUS_INVOICE, FOCUS_ESTIMATE = "invoice", "focus_invoice", "focus_estimate"
"""Origins of a bill: fal's list of invoices, or a FOCUS report, final or running."""


@dataclass(frozen=True, slots=True)
class Bill:
    """A bill of fal for a window of hours within one month of UTC; amounts in nano-USD.

    Attributes:
        against: where it is stated: INVOICE, FOCUS_INVOICE or FOCUS_ESTIMATE.
        usage: what usage costs, before credits and taxes and without corrections: what the charges should sum up to.
        by_category: what is billed, by FOCUS charge category; corrections of months invoiced before stand apart, as
            `Correction`. Credits are below zero.
    """

    account: str
    against: str
    window: Window
    usage: int
    by_category: Mapping[str, int]


class GpuMachine(NamedTuple):
    """A machine's GPUs: `gpu_class` is empty and `gpus` 0 for a machine without."""

    gpu_class: str
    gpus: int


NO_GPU = GpuMachine("", 0)
_CPU_MACHINES = frozenset({"XXS", "XS", "S", "M", "L", "XL", "XXL"})
_SEVERAL = re.compile(r"(?:gpu|multi-gpu)[_-](?P<count>\d+)x[_-](?P<rest>.+)", re.IGNORECASE)
_VENDOR = re.compile(r"(?:(?:gpu|nvidia|amd)[-_ ]+)+", re.IGNORECASE)
_FORM_FACTOR = re.compile(r"[-_ ](?:sxm\d*|pcie|nvl\d*|hgx)$", re.IGNORECASE)


def gpu_machine(name: str | None) -> GpuMachine:
    """Return a machine's GPU class and count from any of the names that fal gives it.

    By rule, not by list: `GPU-H100`, `NVIDIA H100` and `gpu_8x_h100_sxm5` are all H100; an unknown GPU machine keeps
    its own name, upper-cased, without prefix; the sizes `XS` to `L` are machines without a GPU.
    """
    text = (name or "").strip()
    if not text or text.upper() in _CPU_MACHINES or text.lower().startswith(("cpu-", "cpu_")):
        return NO_GPU
    count = 1
    several = _SEVERAL.fullmatch(text)
    if several:
        count, text = int(several["count"]), several["rest"]
    text = _VENDOR.sub("", text, count=1) if _VENDOR.match(text) else text
    text = _FORM_FACTOR.sub("", text)
    return GpuMachine(text.upper().replace("_", "-"), count) if text else NO_GPU
