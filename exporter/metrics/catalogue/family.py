"""A family of series, and short ways to declare the usual ones."""

from dataclasses import dataclass
from typing import Literal

from exporter.charges import NANO

Kind = Literal["counter", "gauge", "histogram"]

_UNITS = ("usd", "seconds", "bytes", "ratio")


@dataclass(frozen=True, slots=True)
class Family:
    """One family of series.

    Attributes:
        name: as exposed in the text format, `_total` included.
        help: what it is, its unit, and what to use it for.
        labels: its own labels, in the order of the samples' values.
        charge_labels: whether the configured charge labels come before its own.
        tag_labels: whether those of the configured tags come after its own.
        scale: how many of the samples' integer units make one of the exposed unit.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    charge_labels: bool = False
    tag_labels: bool = False
    scale: int = 1

    @property
    def base_name(self) -> str:
        """The name of the family in OpenMetrics, where only a counter's samples carry `_total`."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def unit(self) -> str:
        """The unit for OpenMetrics, which must be the name's last word; empty where the name ends in none."""
        last_word = self.base_name.rpartition("_")[2]
        return last_word if last_word in _UNITS else ""

    def labels_with(self, charge_labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels of its samples when these charge labels are configured."""
        return charge_labels + self.labels if self.charge_labels else self.labels


def charged(name: str, kind: Kind, text: str, labels: tuple[str, ...] = ()) -> Family:
    """Return a family that the configured charge labels come first in, its samples nano-units."""
    return Family(name, kind, text, labels, charge_labels=True, scale=NANO)


def dollars(name: str, text: str, labels: tuple[str, ...]) -> Family:
    """Return a gauge of US dollars, its samples nano-USD."""
    return Family(name, "gauge", text, labels, scale=NANO)
