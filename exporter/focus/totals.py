"""What a file adds up to: exact sums by month, category, service, SKU and currency."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import NamedTuple

from exporter.focus.shape import Count
from exporter.focus.values import EXACTLY, Month

_MOST_SKUS = 50_000
OTHERS = "(others)"
"""The SKU under which a file of more than some ten thousand SKUs sums up the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class SummaryTexts:
    """What rows are summed by, but for their month."""

    billing_currency: str
    charge_category: str
    charge_class: str | None
    service_name: str | None
    sku_id: str | None
    invoice_id: str | None


class SummaryRow(NamedTuple):
    """The columns that a summary needs."""

    texts: SummaryTexts
    charge_period_start: Month
    billed_cost: Decimal
    list_cost: Decimal | None
    effective_cost: Decimal | None
    lines: Count


class Key(NamedTuple):
    """What rows are summed by.

    Attributes:
        month: UTC month in which the charge was incurred, `YYYY-MM`.
        correction: whether the row corrects an earlier invoice.
    """

    currency: str
    month: str
    category: str
    correction: bool
    service: str
    sku: str
    invoice: str


@dataclass(slots=True)
class Total:
    """The sums of some rows, in their currency; a cost that the file lacks counts as 0."""

    rows: int = 0
    billed: Decimal = Decimal(0)
    listed: Decimal = Decimal(0)
    effective: Decimal = Decimal(0)

    def add(self, other: "Total") -> None:
        """Add the sums of other rows."""
        self.rows += other.rows
        self.billed = EXACTLY.add(self.billed, other.billed)
        self.listed = EXACTLY.add(self.listed, other.listed)
        self.effective = EXACTLY.add(self.effective, other.effective)


class Totals:
    """Adds up rows; memory grows with the number of different keys, not of rows."""

    def __init__(self) -> None:
        self._sums: dict[Key, Total] = {}
        self._months: dict[Month, dict[SummaryTexts, Total]] = {}

    def add(self, rows: Iterable[SummaryRow]) -> None:
        """Take rows."""
        last: Month | None = None
        known: dict[SummaryTexts, Total] = {}
        with localcontext(EXACTLY):
            for texts, month, billed, listed, effective, lines in rows:
                if month is not last:
                    last, known = month, self._months.setdefault(month, {})
                total = known.get(texts)
                if total is None:
                    total = self._total(texts, month, known)
                total.rows += lines
                total.billed += billed
                if listed is not None:
                    total.listed += listed
                if effective is not None:
                    total.effective += effective

    def _total(self, texts: SummaryTexts, month: Month, known: dict[SummaryTexts, Total]) -> Total:
        key = Key(
            texts.billing_currency,
            f"{month.year:04}-{month.month:02}",
            texts.charge_category,
            texts.charge_class is not None,
            texts.service_name or "",
            texts.sku_id or "",
            texts.invoice_id or "",
        )
        if len(known) >= _MOST_SKUS:
            known.clear()
        if len(self._sums) >= _MOST_SKUS and key not in self._sums:
            key = key._replace(sku=OTHERS)
        total = known[texts] = self._sums.setdefault(key, Total())
        return total

    def sums(self) -> Mapping[Key, Total]:
        """Return the sums by the whole key."""
        return self._sums

    def by(self, *fields: str) -> dict[tuple[str | bool, ...], Total]:
        """Return the sums by some fields of the key, the largest first."""
        found: dict[tuple[str | bool, ...], Total] = {}
        for key, total in self._sums.items():
            found.setdefault(tuple(getattr(key, field) for field in fields), Total()).add(total)
        return dict(sorted(found.items(), key=lambda item: (-item[1].billed, item[0])))
