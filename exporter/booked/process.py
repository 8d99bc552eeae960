"""Process that compares bookings with charged requests: `python -m exporter.booked.process`.

DuckDB takes its memory and its threads here, so that polls and scrapes keep theirs. The head says why there is no
outcome, and the body is the outcome: of a comparison its numbers alone, which is all that the collector publishes.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import IO
from urllib.parse import unquote, urlsplit

from exporter.booked.comparison import Comparison, compare, default_window
from exporter.booked.report import findings
from exporter.booked.sources import Columns
from exporter.errors import FalExporterError
from exporter.events.store import open_reader
from exporter.logs import redact
from exporter.worker import serve


@dataclass(frozen=True, slots=True)
class BookedOrder:
    """Order of a comparison over the usual window.

    Attributes:
        source: of the bookings, as `exporter.booked.sources.booked_relation` takes it.
        events_url: of the store of requests.
        request_id, amount, time: columns of the bookings; None for the usual ones.
        accounts: those that are configured; none for all of the store.
    """

    source: str
    events_url: str
    request_id: str | None = None
    amount: str | None = None
    time: str | None = None
    accounts: Sequence[str] = ()

    def written(self, now: datetime) -> bytes:
        """Return the order as JSON."""
        return json.dumps({**asdict(self), "now": now.isoformat()}).encode()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Sums of a comparison, in nano-USD.

    Attributes:
        end: of the window.
        differences: booked less charged, by model.
        findings: requests, and booked less charged, by the name of the finding.
        unread_hours: hours of the window that the store does not have whole, of all accounts.
    """

    end: datetime
    booked: int
    charged: int
    differences: Mapping[str, int] = field(default_factory=dict)
    findings: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    unread_hours: int = 0

    @classmethod
    def of(cls, comparison: Comparison) -> "Outcome":
        """Return the numbers of a comparison."""
        return cls(
            comparison.window.end,
            comparison.total.booked,
            comparison.total.charged,
            {model: sums.difference for model, sums in comparison.by_model.items()},
            {name: (item.requests, item.amount) for name, item in findings(comparison).items()},
            comparison.unread_hours,
        )

    @property
    def off(self) -> int:
        """Sum of what is booked too high and of what is booked too low; what is not compared yet is neither."""
        return sum(abs(amount) for name, (_, amount) in self.findings.items() if name != "not_read")

    @property
    def too_high(self) -> int:
        """Sum of what is booked too high, a part of `off`."""
        return sum(max(amount, 0) for name, (_, amount) in self.findings.items() if name != "not_read")

    @property
    def written(self) -> bytes:
        """The outcome as JSON."""
        document = {
            "end": self.end.isoformat(),
            "booked": self.booked,
            "charged": self.charged,
            "differences": dict(self.differences),
            "findings": dict(self.findings),
            "unread_hours": self.unread_hours,
        }
        return json.dumps(document).encode()

    @classmethod
    def read(cls, text: bytes) -> "Outcome":
        """Read what `written` has."""
        found = json.loads(text)
        return cls(
            datetime.fromisoformat(found["end"]),
            found["booked"],
            found["charged"],
            found["differences"],
            {name: (number, amount) for name, (number, amount) in found["findings"].items()},
            found["unread_hours"],
        )


def work(order: bytes, output: IO[bytes]) -> None:
    """Compare what an order says."""
    given = json.loads(order)
    now = datetime.fromisoformat(given.pop("now"))
    asked = BookedOrder(**given)
    try:
        with closing(open_reader(asked.events_url)) as reader:
            found = compare(
                asked.source,
                reader,
                default_window(now),
                columns=Columns(asked.request_id, asked.amount, asked.time),
                configured=asked.accounts,
            )
    except FalExporterError as error:
        _tell(_without_password(str(error), asked.source), output)
        return
    _tell("", output)
    output.write(Outcome.of(found).written)


def _without_password(sentence: str, source: str) -> str:
    password = urlsplit(source).password or ""
    # A library may show it as it is, or as it stands in the address.
    return redact(sentence, [text for text in (password, unquote(password)) if text])


def _tell(problem: str, output: IO[bytes]) -> None:
    output.write(json.dumps({"problem": problem}).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(serve(work))
