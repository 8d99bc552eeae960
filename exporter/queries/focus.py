"""Question for a FOCUS report: who answers it, and the messages to whoever does.

fal's own report is asked of the collector, in an inquiry; a report from the ledger is ordered of a process, see
`exporter.queries.focus_process`. The rules of the request itself are in `exporter.queries.focus_rules`.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Self

from exporter.inquiry import Inquiry
from exporter.queries import focus_rules, parameters
from exporter.queries.focus_rules import INVOICE, TAGGED_ESTIMATE, FocusRequest, InvoiceRequest, parse_request
from exporter.queries.parameters import Parameter, QuestionError

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
PARAMETERS: tuple[Parameter[object], ...] = (*focus_rules.PARAMETERS, VERSION, ACCOUNT, LIVE)

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
    of_fal = {parameter.name for parameter in focus_rules.PARAMETERS}
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


WRITER = "exporter.queries.focus_process"
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
