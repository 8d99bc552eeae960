"""Labelled numbers, kept in immutable pages.

A table of a hundred thousand samples changes a little at every poll. It is kept as a tuple of pages, and whoever
makes the next state of the table replaces the pages that changed and passes the others on as they are. Identity of a
page therefore means that nothing on it changed: what was worked out from it (its encoded bytes) may be kept.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

PAGE_SIZE = 256

Key = TypeVar("Key", bound=Hashable)


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
    """A run of samples of one family; compared by identity.

    Attributes:
        samples: of a histogram, each with the sum of what was observed.
        bounds: upper bounds of a histogram's buckets, the last one infinite; none of other kinds.
        counts: of a histogram, how many were observed up to each bound, by sample.
        began: when counters and histograms began at 0 whose samples do not say; only protobuf tells it.
    """

    samples: tuple[Sample, ...]
    bounds: tuple[float, ...] = ()
    counts: tuple[tuple[int, ...], ...] = ()
    began: datetime | None = None


Pages = tuple[Page, ...]


def paged(samples: Iterable[Sample]) -> Pages:
    """Lay samples out on new pages."""
    rest = iter(samples)
    pages = []
    while run := tuple(islice(rest, PAGE_SIZE)):
        pages.append(Page(run))
    return tuple(pages)


class PagedTable(Generic[Key]):
    """A table that changes in place and is handed out as pages; only the pages that changed are made anew.

    Args:
        began: when counters began at 0 whose samples do not say.
    """

    def __init__(self, began: datetime | None = None) -> None:
        self._began = began
        self._slots: dict[Key, int] = {}
        self._samples: list[Sample] = []
        self._pages: list[Page] = []
        self._stale: set[int] = set()

    def __contains__(self, key: Key) -> bool:
        return key in self._slots

    def __len__(self) -> int:
        return len(self._samples)

    def get(self, key: Key) -> Sample | None:
        """Return the sample of a key; None where it has none."""
        slot = self._slots.get(key)
        return None if slot is None else self._samples[slot]

    def remove(self, key: Key) -> None:
        """Drop the sample of a key, if it has one; pages from there on are made anew."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return
        del self._samples[slot]
        for other, place in self._slots.items():
            if place > slot:
                self._slots[other] = place - 1
        del self._pages[-(-len(self._samples) // PAGE_SIZE) :]
        self._stale = {number for number in self._stale if number < slot // PAGE_SIZE}
        self._stale.update(range(slot // PAGE_SIZE, -(-len(self._samples) // PAGE_SIZE)))

    def put(self, key: Key, sample: Sample) -> None:
        """Set the sample of a key; a new key comes last."""
        slot = self._slots.get(key)
        if slot is None:
            self._slots[key] = len(self._samples)
            self._stale.add(len(self._samples) // PAGE_SIZE)
            self._samples.append(sample)
        elif self._samples[slot] != sample:
            self._samples[slot] = sample
            self._stale.add(slot // PAGE_SIZE)

    def replace_all(self, samples: Mapping[Key, Sample]) -> None:
        """Set all samples anew, in the mapping's order; pages that come out the same are kept."""
        if list(samples) == list(self._slots):
            for key, sample in samples.items():
                self.put(key, sample)
            return
        self._slots = {key: slot for slot, key in enumerate(samples)}
        self._samples = list(samples.values())
        self._pages = []
        self._stale = set(range(-(-len(self._samples) // PAGE_SIZE)))

    def pages(self) -> Pages:
        """Return the table as it is now."""
        for number in sorted(self._stale):
            page = Page(tuple(self._samples[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]), began=self._began)
            if number < len(self._pages):
                self._pages[number] = page
            else:
                self._pages.append(page)
        self._stale.clear()
        return tuple(self._pages)
