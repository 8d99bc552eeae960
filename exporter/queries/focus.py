"""FOCUS file from the ledger: the question, and the order to the process that writes the answer.

What the web process and the one that writes a FOCUS file tell each other; see `exporter.queries.focus_process`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Self
from zoneinfo import ZoneInfo

from exporter.charges import Window
from exporter.queries import parameters
from exporter.queries.parameters import Parameter, QuestionError
from exporter.queries.usage import whole_hours

SOURCE = parameters.choice("source", "What fal's interface calls running figures; the ledger has those.", ("estimate",))
START = parameters.instant(
    "start", "First instant, ISO 8601; without an offset in UTC. Left out: 24 hours before `end`.", "2026-11-01"
)
END = parameters.instant("end", "End, exclusive. Left out: now.", "2026-12-01")
CHARGE_MONTH = parameters.month("charge_month", "All of a month of UTC, instead of `start` and `end`.")
TIMEFRAME = parameters.choice(
    "timeframe", "Length of the charge periods, in UTC. Left out: hour.", ("hour", "day", "month")
)
VERSION = parameters.choice("focus_version", "Version of FOCUS. Left out: 1.2.", ("1.2", "1.3", "1.4"))
ACCOUNT = Parameter(
    "account",
    "Only this account. Left out: all.",
    {"type": "string", "minLength": 1, "maxLength": 100},
    "default",
    str,
)
PARAMETERS: tuple[Parameter[object], ...] = (SOURCE, START, END, CHARGE_MONTH, TIMEFRAME, VERSION, ACCOUNT)
_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class FocusQuestion:
    """A question for a FOCUS file.

    Attributes:
        window: of the charges, whole UTC hours.
        timeframe: hour, day or month.
        version: of FOCUS.
        account: None for all.
    """

    window: Window
    timeframe: str = "hour"
    version: str = "1.2"
    account: str | None = None


def parse_focus_question(given: Mapping[str, str], *, now: datetime) -> FocusQuestion:
    """Read a question from the texts of its parameters.

    Raises:
        QuestionError: a parameter is not known or cannot be read.
    """
    texts = parameters.Given(given, PARAMETERS)
    texts.get(SOURCE)
    month, start, end = texts.get(CHARGE_MONTH), texts.get(START), texts.get(END)
    if month is not None and (start, end) != (None, None):
        raise QuestionError("charge_month", "is given beside start or end; keep one of them")
    return FocusQuestion(
        window=month or whole_hours(start, end, now=now, zone=_UTC)[0],
        timeframe=texts.get(TIMEFRAME) or "hour",
        version=texts.get(VERSION) or "1.2",
        account=texts.get(ACCOUNT),
    )


WRITER = "exporter.queries.focus_process"
"""The module whose process writes the file; see `exporter.queries.worker`."""


@dataclass(frozen=True, slots=True)
class Order:
    """Order of a file.

    Attributes:
        address: of the ledger; it may hold a password, so it goes through a pipe.
        gzipped: whether the file is to be compressed.
    """

    address: str
    question: FocusQuestion
    gzipped: bool

    @property
    def written(self) -> bytes:
        """The order as it is sent."""
        window = {"start": self.question.window.start.isoformat(), "end": self.question.window.end.isoformat()}
        return json.dumps(asdict(self) | {"question": asdict(self.question) | {"window": window}}).encode()

    @classmethod
    def read(cls, sent: bytes) -> Self:
        """Return an order that was sent."""
        order = json.loads(sent)
        question = order["question"]
        edges = (datetime.fromisoformat(question["window"][edge]).astimezone(UTC) for edge in ("start", "end"))
        return cls(order["address"], FocusQuestion(**question | {"window": Window(*edges)}), order["gzipped"])


@dataclass(frozen=True, slots=True)
class Head:
    """Head of an answer, sent before the file begins.

    Attributes:
        missing: hours of the window that have not been read to their end of every source.
        status: of the refusal; 200 if there is none.
        message: why it is refused.
    """

    missing: int = 0
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
