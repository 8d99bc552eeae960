"""Summaries and reports of FOCUS files as text, tables, JSON or JUnit XML."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import NamedTuple
from xml.etree import ElementTree as ET

from exporter.focus.checks import Report
from exporter.focus.findings import Finding, Problems
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


def check_text(name: str, report: Report) -> str:
    """Return a check's report for a person."""
    found = report.findings
    head = f"{name}: FOCUS {report.version}, {_counted(report.columns, 'column')}, {_counted(report.rows, 'row')}"
    if report.is_clean:
        lines = [f"{head}: no findings, {len(report.rules)} rules checked."]
    else:
        lines = [f"{head}: {_counted(found.counts.total(), 'finding')} of {_counted(len(found.counts), 'rule')}."]
        for rule in report.rules:
            count = found.counts[rule]
            if not count:
                continue
            lines += ["", f"{rule.id} ({rule.level.value}, {_times(count)}): {rule.says} [{rule.section}]"]
            kept = list(found.of(rule))
            lines += [f"  {_where(finding)}" for finding in kept]
            lines += [f"  ... and {count - len(kept):,} more"] if count > len(kept) else []
    if any(invoice for invoice, _ in report.invoices):
        lines += ["", "BilledCost by invoice:"]
        lines += [
            f"  {invoice or '(no invoice)'}  {number_text(billed)} {currency}"
            for (invoice, currency), billed in sorted(report.invoices.items())
        ]
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(lines)


def check_json(name: str, report: Report) -> str:
    """Return a check's report for a program; amounts are decimal text."""
    return json.dumps(
        {
            "file": name,
            "focus_version": report.version,
            "columns": report.columns,
            "rows": report.rows,
            "clean": report.is_clean,
            "counts": {rule.id: report.findings.counts[rule] for rule in report.rules if report.findings.counts[rule]},
            "findings": [
                {
                    "rule": finding.rule.id,
                    "level": finding.rule.level.value,
                    "section": finding.rule.section,
                    "line": finding.line,
                    "column": finding.column,
                    "value": finding.value,
                    "message": _message(finding),
                }
                for finding in report.findings.kept
            ],
            "invoices": [
                {"invoice": invoice, "currency": currency, "billed_cost": number_text(billed)}
                for (invoice, currency), billed in sorted(report.invoices.items())
            ],
            "notes": report.notes,
        },
        indent=2,
        ensure_ascii=False,
    )


def check_junit(name: str, report: Report) -> str:
    """Return a check's report as JUnit XML: one test case a rule."""
    counts = report.findings.counts
    suite = ET.Element(
        "testsuite", name=f"FOCUS {report.version}: {_printable(name)}", tests=str(len(report.rules)),
        failures=str(len(counts)), errors="0", skipped="0",
    )  # fmt: skip
    for rule in report.rules:
        case = ET.SubElement(suite, "testcase", classname=f"focus.{rule.level.value}", name=rule.id)
        if counts[rule]:
            failure = ET.SubElement(case, "failure", message=f"{rule.says} ({_times(counts[rule])})")
            failure.text = _printable("\n".join(_where(finding) for finding in report.findings.of(rule)))
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


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


def _where(finding: Finding) -> str:
    place = f"line {finding.line}" if finding.line else "the file"
    column = f", {finding.column}" if finding.column else ""
    found = "; ".join(filter(None, (finding.value and repr(finding.value), finding.note)))
    return f"{place}{column}{': ' if found else ''}{found}"


def _message(finding: Finding) -> str:
    return f"{finding.rule.says}{f'; {finding.note}' if finding.note else ''}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _printable(text: str) -> str:
    """Return text without the characters that XML cannot hold."""
    return "".join(item if item in "\n\t" or item.isprintable() else "\N{REPLACEMENT CHARACTER}" for item in text)
