"""A FOCUS file from the ledger: the question, by fal's own names of parameters, and the writing of its answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from exporter.billing import parameters
from exporter.billing.errors import QuestionError
from exporter.billing.parameters import Parameter
from exporter.billing.usage import whole_hours
from exporter.charges import Window

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
    """What is asked.

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
