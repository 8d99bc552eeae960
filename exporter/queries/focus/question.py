"""Question for a FOCUS report: the request and its rules, who answers it, and the messages to whoever does.

Names, defaults and rules of a request are those that fal documents for its own report, except that the command line,
which fetches a report in pieces, may ask for a window in the past of any length. fal's own report is asked of the
collector, in an inquiry; a report from the ledger is ordered of a process, see `exporter.queries.focus.file_process`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Self
from zoneinfo import ZoneInfo

from exporter.charges import Window
from exporter.focus.charge import month_start
from exporter.focus.timeframes import LONGEST, TIMEFRAMES, bucket_start, detected_timeframe, widened
from exporter.inquiry import Inquiry
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
OF_REPORT: tuple[Parameter[object], ...] = (SOURCE, *OF_INVOICE, *OF_ESTIMATE)
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
        given: the parameters; none but `OF_REPORT`.
        now: the present.
        longest: of an estimate, before it is widened; None for any length.

    Raises:
        QuestionError: a parameter is not known, cannot be read, or does not go with another.
    """
    texts = parameters.Given(given, OF_REPORT)
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


VERSION = parameters.choice(
    "focus_version", "FOCUS version of a file from the ledger. Default: 1.2.", ("1.2", "1.3", "1.4")
)
ACCOUNT = Parameter(
    "account",
    "Only this account. Default: all accounts of the ledger; fal's own report covers one account.",
    {"type": "string", "minLength": 1, "maxLength": 100},
    "default",
    str,
)
LIVE = parameters.choice(
    "live",
    "Who answers. `true`: fal's own report. `false`: the ledger. Default: `auto`, which takes an estimate from the "
    "ledger, an invoice from fal's report if the account has one and otherwise from the ledger, and a tagged estimate "
    "from fal. The header `fal-exporter-answered-by` says who answered.",
    ("auto", "true", "false"),
)
PARAMETERS: tuple[Parameter[object], ...] = (*OF_REPORT, VERSION, ACCOUNT, LIVE)

REPORT = "focus-report"
"""Name of the inquiry for a report of fal's own. Its fields are fal's parameters; instants are widened already."""

UNAVAILABLE, LACKING, FAILED = "unavailable", "lacking", "failed"
"""Reasons for which there is no report: the account may not read it; fal has none of that month; for now."""


@dataclass(frozen=True, slots=True)
class FocusQuestion:
    """A question for a FOCUS file.

    Attributes:
        request: of what.
        version: of FOCUS, of a file from the ledger.
        account: None for all.
        live: `auto`, `true` or `false`.
        now: when it was asked.
        given: the texts that it was read from.
    """

    request: FocusRequest
    version: str
    account: str | None
    live: str
    now: datetime
    given: Mapping[str, str]

    @property
    def source(self) -> str:
        """The source as fal names it."""
        return INVOICE if isinstance(self.request, InvoiceRequest) else self.request.source

    @property
    def asks_fal(self) -> bool:
        """True if fal is asked for its own report, at first or alone."""
        return self.live == "true" or self.source == TAGGED_ESTIMATE or (self.live == "auto" and self.source == INVOICE)

    @property
    def may_ask_ledger(self) -> bool:
        """True if the ledger answers, or does where fal has no report for the account."""
        return self.live != "true" and self.source != TAGGED_ESTIMATE

    def inquiry(self, accounts: Collection[str]) -> Inquiry:
        """Return what the collector is asked.

        Args:
            accounts: those that are polled.

        Raises:
            QuestionError: it is not clear of which account.
        """
        account = self.account
        if account is None:
            if len(accounts) != 1:
                ledger = ", or add live=false for all accounts from the ledger" if self.may_ask_ledger else ""
                raise QuestionError("account", f"is missing: fal's own report covers one account; name it{ledger}")
            (account,) = accounts
        elif account not in accounts:
            raise QuestionError("account", "is not an account that is polled")
        request = self.request
        if isinstance(request, InvoiceRequest):
            return Inquiry(REPORT, account, {"source": INVOICE, **request.texts})
        window = {"start": request.start.isoformat(), "end": request.end.isoformat()}
        buckets = {"timezone": request.zone.key, "timeframe": request.timeframe}
        return Inquiry(REPORT, account, {"source": request.source, **window, **buckets})


def parse_focus_question(given: Mapping[str, str], *, now: datetime) -> FocusQuestion:
    """Read a question from the texts of its parameters.

    Raises:
        QuestionError: a parameter is not known, cannot be read, or does not go with another.
    """
    texts = parameters.Given(given, PARAMETERS)
    of_fal = {parameter.name for parameter in OF_REPORT}
    question = FocusQuestion(
        request=parse_request({name: text for name, text in given.items() if name in of_fal}, now=now),
        version=texts.get(VERSION) or "1.2",
        account=texts.get(ACCOUNT),
        live=texts.get(LIVE) or "auto",
        now=now,
        given=given,
    )
    if question.source == TAGGED_ESTIMATE and question.live == "false":
        raise QuestionError("live", "is false, and only fal has tagged-estimate; leave it out")
    if question.asks_fal and VERSION.name in given:
        instead = "; add live=false for one" if question.may_ask_ledger else ""
        raise QuestionError(
            "focus_version", f"applies only to files from the ledger; fal's own report is passed on unchanged{instead}"
        )
    if not question.asks_fal:
        check_ledger_timeframe(question.request)
    return question


def check_ledger_timeframe(request: FocusRequest) -> None:
    """Refuse a timeframe that the ledger does not have.

    Raises:
        QuestionError: it was asked for minutes.
    """
    if not isinstance(request, InvoiceRequest) and request.timeframe == "minute" and not request.is_detected:
        raise QuestionError("timeframe", "minute is finer than the ledger's hours; add live=true to get it from fal")


WRITER = "exporter.queries.focus.file_process"
"""The module whose process writes the file; see `exporter.worker`."""


@dataclass(frozen=True, slots=True)
class Order:
    """Order of a file from the ledger.

    Attributes:
        address: of the ledger; it may hold a password, so it goes through a pipe.
        gzipped: whether the file is to be compressed.
    """

    address: str
    question: FocusQuestion
    gzipped: bool

    @property
    def written(self) -> bytes:
        """The order as it is sent: the question as it was asked."""
        question = {"given": dict(self.question.given), "now": self.question.now.isoformat()}
        return json.dumps({"address": self.address, "gzipped": self.gzipped, **question}).encode()

    @classmethod
    def read(cls, sent: bytes) -> Self:
        """Return an order that was sent."""
        order = json.loads(sent)
        now = datetime.fromisoformat(order["now"]).astimezone(UTC)
        return cls(order["address"], parse_focus_question(order["given"], now=now), order["gzipped"])


@dataclass(frozen=True, slots=True)
class Head:
    """Head of an answer, sent before the file begins.

    Attributes:
        missing: hours of the window that have not been read to their end of every source.
        start, end: of the window, as in the file's name.
        note: what the file is made of, where that does not go without saying.
        status: of the refusal; 200 if there is none.
        message: why it is refused.
    """

    missing: int = 0
    start: str = ""
    end: str = ""
    note: str = ""
    status: int = HTTPStatus.OK
    message: str = ""

    @property
    def written(self) -> bytes:
        """The line that is sent."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, sent: bytes) -> Self:
        """Return a head that was sent.

        Raises:
            ValueError: the other side has ended before it could tell one.
        """
        return cls(**json.loads(sent))
