"""What the web process and the one that writes a FOCUS file tell each other; see `exporter.billing.focus_process`."""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Self

from exporter.billing.focus import FocusQuestion
from exporter.charges import Window

COMMAND = (sys.executable, "-m", "exporter.billing.focus_process")


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be written.

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
    """What is told before the file begins.

    Attributes:
        missing: hours of the window, summed over sources, that have not been read to their end.
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
