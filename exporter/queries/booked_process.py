"""Process that compares bookings with charged requests: `python -m exporter.queries.booked_process`.

DuckDB takes its memory and its threads here, so that polls and scrapes keep theirs. The head says why there is no
outcome, and the body is the outcome.
"""

import json
import sys
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import IO
from urllib.parse import urlsplit

from exporter.booked.comparison import compare, default_window
from exporter.booked.report import Outcome
from exporter.booked.sources import Columns
from exporter.errors import FalExporterError
from exporter.events.store import open_reader
from exporter.queries.worker import serve


@dataclass(frozen=True, slots=True)
class BookedOrder:
    """Order of a comparison over the usual window.

    Attributes:
        source: of the bookings, as `exporter.booked.sources.booked_relation` takes it.
        events_url: of the store of requests.
        request_id, amount, time: columns of the bookings; None for the usual ones.
    """

    source: str
    events_url: str
    request_id: str | None = None
    amount: str | None = None
    time: str | None = None

    def written(self, now: datetime) -> bytes:
        """Return the order as JSON."""
        return json.dumps({**asdict(self), "now": now.isoformat()}).encode()


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
            )
    except FalExporterError as error:
        _tell(_without_password(str(error), asked.source), output)
        return
    _tell("", output)
    output.write(Outcome.of(found).written)


def _without_password(sentence: str, source: str) -> str:
    password = urlsplit(source).password
    return sentence.replace(password, "***") if password else sentence


def _tell(problem: str, output: IO[bytes]) -> None:
    output.write(json.dumps({"problem": problem}).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(serve(work))
