"""Which label sets are published: the projection of dimensions on labels, and the cap on their number."""

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.charges import Dimensions

OTHER = "__other__"
"""The label value into which everything beyond the cap is folded."""

LabelValues = tuple[str, ...]

_FOLDED_FIRST = frozenset({"model", "app"})
_FOLDED_NEXT = _FOLDED_FIRST | {"api_key", "environment", "team"}
_NEVER_FOLDED = frozenset({"account", "product"})


@dataclass(frozen=True, slots=True)
class Labels:
    """The names of the labels that charge-derived families carry, in order; `account` is one of them."""

    names: LabelValues

    def of(self, dimensions: Dimensions) -> LabelValues:
        """Return the label values of a charge."""
        return tuple(getattr(dimensions, name) for name in self.names)

    def account_of(self, values: LabelValues) -> str:
        """Return the account that a label set belongs to."""
        return values[self.names.index("account")]

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
