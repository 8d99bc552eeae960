"""Labelled numbers, kept in immutable pages.

A table of a hundred thousand samples changes a little at every poll. It is kept as a tuple of pages, and whoever
makes the next state of the table replaces the pages that changed and passes the others on as they are. Identity of a
page therefore means that nothing on it changed: what was worked out from it (its encoded bytes) may be kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import NamedTuple

PAGE_SIZE = 256


class Sample(NamedTuple):
    """One number of a family.

    Attributes:
        labels: the values of the family's labels, in the family's order; empty where the sample has none.
        value: in the family's scale (nano-USD, nano-seconds, nano-units, or plain).
        created: when a counter began at 0, for `_created`; None for gauges and for counters without.
    """

    labels: tuple[str, ...]
    value: int | float
    created: datetime | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Page:
    """A run of samples of one family; compared by identity."""

    samples: tuple[Sample, ...]


Pages = tuple[Page, ...]


def paged(samples: Iterable[Sample]) -> Pages:
    """Lay samples out on new pages."""
    rest = iter(samples)
    pages = []
    while run := tuple(islice(rest, PAGE_SIZE)):
        pages.append(Page(run))
    return tuple(pages)
