"""Rows that are not understood: rejected one by one, counted by reason, shown once."""

from collections import Counter
from enum import StrEnum

import structlog

from exporter.fal.answers import Scrub

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


class Rejection(StrEnum):
    """Why a row was rejected: a closed set, fit for a label."""

    NOT_AN_OBJECT = "not_an_object"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    OUT_OF_RANGE = "out_of_range"
    NEGATIVE = "negative"
    CURRENCY = "currency"
    BUCKET = "bucket"
    OUTSIDE_WINDOW = "outside_window"
    UNREADABLE = "unreadable"


OUTSIDE_WINDOW = Rejection.OUTSIDE_WINDOW.value
"""The one reason that says nothing against a row: it belongs to another poll."""

REJECTIONS = tuple(reason.value for reason in Rejection)


class RejectedError(Exception):
    """A row cannot be a charge; caught where rows are read, never shown."""

    def __init__(self, reason: Rejection) -> None:
        self.reason = reason
        super().__init__(reason.value)


class Rejections:
    """Counts the rejected rows of an account, and logs the first of every source and reason in its life."""

    def __init__(self, account: str, scrub: Scrub) -> None:
        self._account = account
        self._scrub = scrub
        self._shown: set[tuple[str, Rejection]] = set()

    def reject(self, counts: Counter[str], source: str, reason: Rejection, row: object) -> None:
        """Count a row, and log it if it is the first of its source for this reason."""
        counts[reason.value] += 1
        if (source, reason) not in self._shown:
            self._shown.add((source, reason))
            _log.warning(
                "row_rejected",
                account=self._account,
                source=source,
                reason=reason.value,
                sample=self._scrub(_shown(row)),
                advice="counted in fal_exporter_rejected_rows_total; further rows like it are not logged",
            )


def _shown(row: object) -> str:
    try:
        return repr(row)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return "a row that cannot be shown"
