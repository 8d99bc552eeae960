"""Counters: label sets, their cap, and values that never fall and are created at zero.

A counter's `grown` is the truth: what the ledger has learnt since it began to count. What is published follows by two
rules. Monotone: if fal takes money back, the counter waits until the truth has caught up. Birth: Prometheus's
`increase()` loses the first value of a series it has never seen, so a new counter is held at zero until the hold has
passed and a scrape has seen the zero.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Generic, NamedTuple
from zoneinfo import ZoneInfo

from typing_extensions import TypeVar

from exporter.charges import Amounts, Dimensions


@dataclass(frozen=True, slots=True)
class Rules:
    """Rules by which the ledger publishes.

    Attributes:
        labels: the labels of charge-derived families.
        max_series: how many label sets are admitted before new ones are folded.
        birth_hold: how long a new counter is held at zero, at the least.
        settle_delay: after this time an hour counts as settled.
        poll_grace: how long a poll that read the current hour stands for that hour once it is over.
        tags: keys of the tags by which spend is allocated, sorted; None for those that the ledger has.
        zone: whose days and months "today" and "month" are.
    """

    labels: tuple[str, ...] = ("account", "team", "product", "model", "app", "gpu_class")
    max_series: int = 10_000
    birth_hold: timedelta = timedelta(minutes=2)
    settle_delay: timedelta = timedelta(hours=48)
    zone: ZoneInfo = field(default_factory=lambda: ZoneInfo("UTC"))
    poll_grace: timedelta = timedelta(minutes=20)
    tags: tuple[str, ...] | None = None


OTHER = "__other__"
"""The label value into which everything beyond the cap is folded."""

LabelValues = tuple[str, ...]

_FOLDED_FIRST = frozenset({"model", "app"})
_FOLDED_NEXT = _FOLDED_FIRST | {"api_key", "environment", "member", "team"}
_NEVER_FOLDED = frozenset({"account", "product"})
_NO_LABELS: Mapping[tuple[str, str], str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Labels:
    """The names of the labels that charge-derived families carry, in order; `account` is one of them."""

    names: LabelValues

    def of(self, dimensions: Dimensions, key_labels: Mapping[tuple[str, str], str] = _NO_LABELS) -> LabelValues:
        """Return the label values of a charge; `key_labels` are those of API keys, by account and id."""
        key = key_labels.get((dimensions.account, dimensions.api_key), dimensions.api_key)
        return tuple(key if name == "api_key" else getattr(dimensions, name) for name in self.names)

    def account_of(self, values: LabelValues) -> str:
        """Return the account that a label set belongs to."""
        return values[self.names.index("account")]

    def of_team(self, account: str, team: str) -> LabelValues | None:
        """Return the label values of a team without charges; None where no label has the team."""
        if "team" not in self.names:
            return None
        known = {"account": account, "team": team}
        return tuple(known.get(name, "") for name in self.names)

    def is_of_team(self, values: LabelValues) -> bool:
        """Return whether a label set is that of a team as a whole."""
        known = dict(zip(self.names, values, strict=True))
        return bool(known.get("team")) and values == self.of_team(known["account"], known["team"])

    def fold(self, values: LabelValues, names: frozenset[str]) -> LabelValues:
        """Replace the values of some labels by `__other__`; what is empty stays empty."""
        return tuple(
            OTHER if value and name in names else value for name, value in zip(self.names, values, strict=True)
        )


class Admission:
    """Decides under which label set a new series is published.

    Up to `limit` label sets are admitted as they are. Beyond it model and app are folded; the folded sets have a tenth
    of the limit to themselves, and when that is used up too, the other labels are folded as well, so that the number of
    label sets is bounded whatever fal sends. A set once admitted stays.
    """

    def __init__(self, labels: Labels, limit: int, admitted: Iterable[LabelValues]) -> None:
        self._labels = labels
        self._limit = limit
        self._reserve = max(16, limit // 10)
        self._admitted = set(admitted)

    def readmit(self, values: LabelValues) -> None:
        """Admit a label set as it is, as it had been admitted before."""
        self._admitted.add(values)

    def place(self, values: LabelValues) -> LabelValues:
        """Return the label set to publish under: the values themselves, or a folded form of them."""
        if values in self._admitted:
            return values
        if len(self._admitted) < self._limit:
            self._admitted.add(values)
            return values
        everything = frozenset(self._labels.names) - _NEVER_FOLDED
        for names, bound in ((_FOLDED_FIRST, self._reserve), (_FOLDED_NEXT, 2 * self._reserve)):
            folded = self._labels.fold(values, names)
            if folded in self._admitted:
                return folded
            if len(self._admitted) < self._limit + bound:
                self._admitted.add(folded)
                return folded
        folded = self._labels.fold(values, everything)
        self._admitted.add(folded)
        return folded


COUNTED = ("cost", "discount", "gpu_seconds", "quantity")
"""The measures that are published as counters; a quantity is counted per unit."""


class CounterKey(NamedTuple):
    """Key of a counter; `unit` is empty except for quantities."""

    label_set: int
    measure: str
    unit: str


class Counter(NamedTuple):
    """One counter's state, in nano-units.

    Attributes:
        grown: what the ledger has learnt since its birth; may fall.
        published: what scrapes have seen, under all names that it has had; never falls.
        created_at: when it was first published, at 0, under the name that it has now.
        released: whether the hold after birth is over.
        base: what was published under earlier names, and is not under this one.
    """

    grown: int
    published: int
    created_at: datetime
    released: bool
    base: int = 0

    @property
    def shown(self) -> int:
        """Value that scrapes see; it never decreases."""
        return self.published - self.base

    @property
    def pending(self) -> int:
        """By how much the published value is ahead of the truth."""
        return max(self.published - self.grown, 0)


def advanced(counter: Counter, by: int) -> Counter:
    """Return the counter after the truth has changed."""
    grown = counter.grown + by
    published = max(counter.published, grown) if counter.released else counter.published
    return counter._replace(grown=grown, published=published)


def renamed(counter: Counter, at: datetime) -> Counter:
    """Return the counter under a new name: it is born again, at 0, and tells nothing that it has told before.

    Whatever stands under the new name in Prometheus, the counter of another key perhaps, thus never seems to have grown
    by what this one has counted.
    """
    return counter._replace(base=counter.published, created_at=at, released=False)


def released(counter: Counter) -> Counter:
    """Return the counter after its hold is over."""
    return counter._replace(released=True, published=max(counter.published, counter.grown))


def measured(amounts: Amounts, unit: str) -> Iterator[tuple[str, str, int]]:
    """Yield measure, unit and amount of what is counted; the cost always, the others where they are not zero."""
    yield "cost", "", amounts.cost
    if amounts.discount:
        yield "discount", "", amounts.discount
    if amounts.gpu_seconds:
        yield "gpu_seconds", "", amounts.gpu_seconds
    if amounts.quantity:
        yield "quantity", unit, amounts.quantity


_Key = TypeVar("_Key", bound=Hashable, default=CounterKey)


class Holds(Generic[_Key]):
    """The counters that are still held at zero, and what is known of the scrapes that saw them there.

    Views are numbered from 1 on; a scrape of a number that has not been shown yet is of an earlier process's view and
    tells nothing. Lives in memory only: after a restart inside a hold a scrape has to be seen once more, which is on
    the safe side.
    """

    def __init__(self, hold: timedelta) -> None:
        self._hold = hold
        self._first_shown: dict[_Key, int | None] = {}
        self._shown = 0
        self._scraped = 0
        self._grown_at = 0
        self._has_grown = False

    def keep(self, counters: Mapping[_Key, Counter]) -> None:
        """Hold the counters that have not been released, and no others."""
        self._first_shown = {
            key: self._first_shown.get(key) for key, counter in counters.items() if not counter.released
        }

    def begin(self, key: _Key) -> None:
        """Hold a new counter."""
        self._first_shown.setdefault(key, None)

    def end(self, keys: Iterable[_Key]) -> None:
        """Forget counters that have been released."""
        for key in keys:
            self._first_shown.pop(key, None)

    def grew(self) -> None:
        """Note that counters have moved, which the next view is the first to show."""
        self._has_grown = True

    @property
    def is_all_scraped(self) -> bool:
        """True if a scrape has seen every counter at its present value."""
        return not self._has_grown and self._grown_at <= self._scraped

    def shown(self, sequence: int) -> None:
        """Note that the view with this number shows all held counters."""
        self._shown = sequence
        if self._has_grown:
            self._has_grown, self._grown_at = False, sequence
        for key, first in self._first_shown.items():
            if first is None:
                self._first_shown[key] = sequence

    def scraped(self, sequence: int) -> None:
        """Note that a scrape has seen the view with this number."""
        if sequence <= self._shown:
            self._scraped = max(self._scraped, sequence)

    def due(self, counters: Mapping[_Key, Counter], now: datetime) -> list[_Key]:
        """Return the counters that may be released; one that a wrong clock has created in the future is not held."""
        return [
            key
            for key, first in self._first_shown.items()
            if first is not None
            and first <= self._scraped
            and not counters[key].created_at <= now < counters[key].created_at + self._hold
        ]
