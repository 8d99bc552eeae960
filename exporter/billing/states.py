"""Answers of which every part is of the same state of the ledger."""

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from exporter.errors import LedgerError

if TYPE_CHECKING:
    from exporter.ledger.reader import LedgerReader

Answer = TypeVar("Answer")

_ATTEMPTS = 5


def of_one_state(reader: "LedgerReader", answer: Callable[[int], Answer]) -> Answer:
    """Return an answer during which the ledger has not changed.

    Args:
        reader: of the ledger.
        answer: makes the answer; is told the revision of the ledger, and called again where it did not last.

    Raises:
        LedgerError: the ledger changes all the time.
    """
    revision = reader.revision()
    for _ in range(_ATTEMPTS):
        found = answer(revision)
        before, revision = revision, reader.revision()
        if before == revision:
            return found
    raise LedgerError("the ledger changes too fast to be read; ask again in a moment")
