"""Where the next page of an answer begins."""

import hashlib
import re
from dataclasses import dataclass

from exporter.billing.errors import QuestionError

PATTERN = r"^[0-9]{1,20}\.[0-9a-f]{16}\.[0-9]{1,7}\.[0-9]{1,9}$"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in an answer.

    Attributes:
        revision: of the ledger that was answered from: rows of two states of it do not add up to anything.
        fingerprint: of the question.
        hour: number of the hour at which the part begins that has been told in part.
        offset: how many of its rows have been told.
    """

    revision: int
    fingerprint: str
    hour: int
    offset: int

    def __str__(self) -> str:
        return f"{self.revision}.{self.fingerprint}.{self.hour}.{self.offset}"

    def check(self, revision: int, fingerprint: str) -> None:
        """Make sure that the cursor belongs to a question and to a state of the ledger.

        Raises:
            QuestionError: it does not.
        """
        if self.fingerprint != fingerprint:
            raise QuestionError(
                "cursor",
                "belongs to another question; ask with the parameters of the first page, and with start and end as "
                "its answer names them",
            )
        if self.revision != revision:
            raise QuestionError("cursor", "is of an earlier state of the ledger; ask for the first page again")


def parse_cursor(text: str) -> Cursor:
    """Read a cursor as it was written.

    Raises:
        ValueError: it is none.
    """
    if not (text.isascii() and re.fullmatch(PATTERN[1:-1], text)):
        raise ValueError("is not a cursor; give the next_cursor of an answer as it is")
    revision, fingerprint_, hour, offset = text.split(".")
    return Cursor(int(revision), fingerprint_, int(hour), int(offset))


def fingerprint(*parts: object) -> str:
    """Return a short text that tells one question from another."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
