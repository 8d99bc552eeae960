"""Summaries of FOCUS files as tables or JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import NamedTuple

from exporter.focus.findings import Problems
from exporter.focus.reader import Reader
from exporter.focus.row_schema import Count
from exporter.focus.values import EXACTLY, Month, number_text

_MOST_SKUS = 50_000
OTHERS = "(others)"
"""The SKU under which a file of more than some ten thousand SKUs sums up the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class SummaryTexts:
    """Key that rows are summed by, apart from their month."""

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
    """Key that rows are summed by.

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


_LEAST_SHOWN = 20
_SHOWN_PROBLEMS = 10


def summary_text(name: str, reader: Reader[SummaryRow], totals: Totals) -> str:
    """Return what a file adds up to, for a person."""
    version = reader.header.version if reader.header else "?"
    lines = [f"{name}: FOCUS {version}, {_counted(reader.rows, 'row')}"]
    for title, fields in (
        ("by currency and month", ("currency", "month")),
        ("by charge category", ("currency", "category")),
        ("by service", ("currency", "service")),
        ("by SKU", ("currency", "sku")),
        ("by invoice", ("currency", "invoice")),
    ):
        sums = totals.by(*fields)
        if not sums or (fields[-1] == "invoice" and not any(key[-1] for key in sums)):
            continue
        lines += ["", title, *_table(sums)]
    return "\n".join([*lines, *_remarks(reader)])


def summary_json(name: str, reader: Reader[SummaryRow], totals: Totals) -> str:
    """Return what a file adds up to, for a program; amounts are decimal text."""
    return json.dumps(
        {
            "file": name,
            "focus_version": reader.header.version if reader.header else "",
            "rows": reader.rows,
            "naive_dates": reader.naive_dates,
            "unreadable_rows": reader.problems.rows,
            "problems": [problem._asdict() for problem in reader.problems.first],
            "totals": [
                {
                    **key._asdict(),
                    "rows": total.rows,
                    "billed_cost": number_text(total.billed),
                    "list_cost": number_text(total.listed),
                    "effective_cost": number_text(total.effective),
                }
                for key, total in totals.sums().items()
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def problem_lines(problems: Problems) -> list[str]:
    """Return the first problems of a reading, for a person."""
    lines = [str(problem) for problem in problems.first[:_SHOWN_PROBLEMS]]
    more = sum(problems.counts.values()) - len(lines)
    return [*lines, f"... and {more:,} more"] if more > 0 else lines


def _remarks(reader: Reader[SummaryRow]) -> list[str]:
    lines = []
    if reader.naive_dates:
        lines.append(f"assumed to be UTC because they have no time zone: {_counted(reader.naive_dates, 'date')}")
    if reader.problems.rows:
        lines.append(f"NOT in these sums (unreadable): {_counted(reader.problems.rows, 'row')}")
        lines += [f"  {line}" for line in problem_lines(reader.problems)]
    return ["", *lines] if lines else []


def _table(sums: Mapping[tuple[str | bool, ...], Total]) -> list[str]:
    items = list(sums.items())
    rows: list[tuple[str, ...]] = [("", "rows", "billed", "list", "effective")]
    rows += [_cells(" ".join(str(part) or "-" for part in key), total) for key, total in items[:_LEAST_SHOWN]]
    rest: dict[str | bool, list[Total]] = {}
    for key, total in items[_LEAST_SHOWN:]:
        rest.setdefault(key[0], []).append(total)
    for currency, totals in rest.items():
        together = Total()
        for total in totals:
            together.add(total)
        rows.append(_cells(f"{currency} ({len(totals)} more)", together))
    return _aligned(rows)


def _cells(name: str, total: Total) -> tuple[str, ...]:
    amounts = (total.billed, total.listed, total.effective)
    return (name, f"{total.rows:,}", *map(number_text, amounts))


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]  # fmt: skip


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
