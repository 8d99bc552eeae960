"""Rules of a question for a FOCUS report: its parameters, their defaults, and what is refused.

Pure; used by REST, MCP and the command line alike. Names, defaults and rules are those that fal documents for its own
report, except that a window in the past of any length can be asked of the command line, which fetches it in pieces.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from exporter.charges import Window
from exporter.focus.charge import month_start
from exporter.focus.timeframes import LONGEST, TIMEFRAMES, bucket_start, detected_timeframe, widened
from exporter.queries import parameters
from exporter.queries.parameters import Parameter, QuestionError

INVOICE, ESTIMATE, TAGGED_ESTIMATE = SOURCES = ("invoice", "estimate", "tagged-estimate")

SOURCE = parameters.choice(
    "source",
    "`invoice` is finalized: usage, credits and taxes of a month. `estimate` is usage so far, which may change. "
    "`tagged-estimate` is fal's estimate with the tags of requests. Default: `estimate` where `start`, `end`, "
    "`timezone`, `timeframe` or `bound_to_timeframe` is given, else `invoice`.",
    SOURCES,
)
BILLING_MONTH = parameters.month(
    "billing_month", "Month in which the invoice was issued, with `invoice`. Default: the latest invoice."
)
CHARGE_MONTH = parameters.month(
    "charge_month",
    "UTC month in which the charges were incurred, with `invoice`; instead of `billing_month`, which is the month "
    "after it.",
)
START = parameters.instant(
    "start",
    "Start of an estimate, ISO 8601; in `timezone` if it is a date or has no offset. Default: 24 hours before `end`.",
    "2026-11-01",
)
END = parameters.instant("end", "End of an estimate, exclusive. Default: now.", "2026-12-01")
TIMEZONE = parameters.time_zone(
    "timezone", "IANA time zone of an estimate's buckets; timestamps in the file are in UTC. Default: UTC."
)
_TIMEFRAME = parameters.choice(
    "timeframe",
    "Buckets of an estimate. Default: by the length of the window, minute (below 2 hours), hour (below 2 days), day "
    "(below 64 days), week (below 183 days) or month. The ledger has no minutes: it answers with hours where minute "
    "is detected.",
    TIMEFRAMES,
)
TIMEFRAME = replace(_TIMEFRAME, example="day")
BOUND = parameters.choice(
    "bound_to_timeframe",
    "Widen `start` and `end` to whole buckets. Default: true.",
    ("true", "false"),
)
OF_INVOICE: tuple[Parameter[object], ...] = (BILLING_MONTH, CHARGE_MONTH)
OF_ESTIMATE: tuple[Parameter[object], ...] = (START, END, TIMEZONE, TIMEFRAME, BOUND)
PARAMETERS: tuple[Parameter[object], ...] = (SOURCE, *OF_INVOICE, *OF_ESTIMATE)
"""The parameters of fal's report, under its names."""

DEFAULT_SPAN = timedelta(hours=24)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class InvoiceRequest:
    """Request for the invoiced charges of a month of UTC; of the latest one where neither month is given."""

    billing_month: Window | None = None
    charge_month: Window | None = None

    @property
    def charges(self) -> Window | None:
        """The month of the charges: fal bills in arrears. None for that of the latest invoice."""
        if self.billing_month is None:
            return self.charge_month
        return Window(month_start(self.billing_month.start - timedelta(days=1)), self.billing_month.start)

    @property
    def texts(self) -> dict[str, str]:
        """The months as they are written in a query."""
        months = {"billing_month": self.billing_month, "charge_month": self.charge_month}
        return {name: f"{month.start:%Y-%m}" for name, month in months.items() if month is not None}


@dataclass(frozen=True, slots=True)
class EstimateRequest:
    """Request for the charges of a window.

    Attributes:
        source: `estimate` or `tagged-estimate`.
        start, end: aware and in UTC; widened already where they were to be.
        zone: of the buckets.
        timeframe: one of `TIMEFRAMES`.
        is_detected: whether the timeframe follows from the length of the window.
    """

    source: str
    start: datetime
    end: datetime
    zone: ZoneInfo = _UTC
    timeframe: str = "hour"
    is_detected: bool = False


FocusRequest = InvoiceRequest | EstimateRequest


def parse_request(given: Mapping[str, str], *, now: datetime, longest: timedelta | None = LONGEST) -> FocusRequest:
    """Read a request from the texts of its parameters.

    Args:
        given: the parameters; none but `PARAMETERS`.
        now: the present.
        longest: of an estimate, before it is widened; None for any length.

    Raises:
        QuestionError: a parameter is not known, cannot be read, or does not go with another.
    """
    texts = parameters.Given(given, PARAMETERS)
    source = texts.get(SOURCE)
    months = [parameter.name for parameter in OF_INVOICE if parameter.name in given]
    windows = [parameter.name for parameter in OF_ESTIMATE if parameter.name in given]
    if source is None:
        if months and windows:
            raise QuestionError(
                months[0], f"belongs to source=invoice, and {windows[0]} to source=estimate; keep one of them"
            )
        source = ESTIMATE if windows else INVOICE
    if source == INVOICE and windows:
        raise QuestionError(
            windows[0],
            "belongs to source=estimate; the month of an invoice is billing_month or charge_month, its charges are by "
            "the hour of UTC",
        )
    if source != INVOICE and months:
        raise QuestionError(months[0], f"belongs to source=invoice; the window of source={source} is start and end")
    if source == INVOICE:
        if len(months) > 1:
            raise QuestionError("billing_month", "is given together with charge_month; keep only one of them")
        return InvoiceRequest(texts.get(BILLING_MONTH), texts.get(CHARGE_MONTH))
    return _estimate(source, texts, now=now, longest=longest)


def _estimate(source: str, texts: parameters.Given, *, now: datetime, longest: timedelta | None) -> EstimateRequest:
    zone = texts.get(TIMEZONE) or _UTC
    start, end = _edge(texts, START, zone), _edge(texts, END, zone)
    end = now.replace(microsecond=0) if end is None else end
    start = end - DEFAULT_SPAN if start is None else start
    if start >= end:
        raise QuestionError("start", "is not before end, which is exclusive and defaults to now")
    if longest is not None and end - start > longest:
        raise QuestionError(
            "start", f"is more than {longest.days} days before end; request {longest.days} days at a time"
        )
    named = texts.get(TIMEFRAME)
    timeframe = named or detected_timeframe(start, end)
    if texts.get(BOUND) != "false":
        start, end = widened(start, end, timeframe, zone)
    return EstimateRequest(source, start, end, zone, timeframe, is_detected=named is None)


def _edge(texts: parameters.Given, parameter: Parameter[parameters.LocalTime], zone: ZoneInfo) -> datetime | None:
    written = texts.get(parameter)
    if written is None:
        return None
    if isinstance(written, datetime):
        return parameters.aware(written, zone).replace(microsecond=0)
    # A date is its midnight in the zone, also where that is no whole hour of UTC.
    midnight = datetime(written.year, written.month, written.day, tzinfo=zone)
    return bucket_start(midnight, "day", zone)
