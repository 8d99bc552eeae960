"""Summaries of FOCUS files as tables or JSON."""

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from difflib import get_close_matches
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from exporter.focus.columns import CORRECTION
from exporter.focus.findings import Problems
from exporter.focus.row_schema import Count, Texts
from exporter.focus.values import EXACTLY, Month, json_object, number_text

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
    charge_period_start: Month | None
    billed_cost: Decimal
    list_cost: Decimal | None
    effective_cost: Decimal | None
    lines: Count


SUMMARY_COLUMNS = frozenset(
    {
        *("BillingCurrency", "ChargeCategory", "ChargeClass", "ServiceName", "SkuId", "InvoiceId"),
        *("ChargePeriodStart", "BilledCost", "ListCost", "EffectiveCost"),
    }
)
"""Columns of a summary."""


class Key(NamedTuple):
    """Key that rows are summed by.

    Attributes:
        month: UTC month in which the charge was incurred, `YYYY-MM`; `undated` without a date that can be read.
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
    """The sums of some rows, in their currency; a cost that the file lacks counts as 0.

    Attributes:
        left_out: rows that are in none of the sums, because something in them cannot be read.
        known: sum of the costs among these that can be read.
    """

    rows: int = 0
    billed: Decimal = Decimal(0)
    listed: Decimal = Decimal(0)
    effective: Decimal = Decimal(0)
    left_out: int = 0
    known: Decimal = Decimal(0)

    def add(self, other: "Total") -> None:
        """Add the sums of other rows."""
        self.rows += other.rows
        self.billed = EXACTLY.add(self.billed, other.billed)
        self.listed = EXACTLY.add(self.listed, other.listed)
        self.effective = EXACTLY.add(self.effective, other.effective)
        self.left_out += other.left_out
        self.known = EXACTLY.add(self.known, other.known)

    def leave_out(self, fields: Mapping[str, object]) -> None:
        """Take note of a row that is in no sum, with the first of its costs that can be read."""
        self.left_out += 1
        costs = (fields.get(name) for name in ("billed_cost", "effective_cost", "list_cost"))
        self.known = EXACTLY.add(self.known, next((cost for cost in costs if isinstance(cost, Decimal)), Decimal(0)))


_KeyT = TypeVar("_KeyT", bound=tuple[str | bool, ...])


def _largest_first(found: Mapping[_KeyT, Total]) -> dict[_KeyT, Total]:
    return dict(sorted(found.items(), key=lambda item: (-item[1].billed, item[0])))


class Totals:
    """Adds up rows; memory grows with the number of different keys, not of rows.

    Attributes:
        unattributed: rows that are in no sum, and of which it is not known to which they belong.
    """

    shape = SummaryRow

    def __init__(self) -> None:
        self.unattributed = 0
        self._sums: dict[Key, Total] = {}
        self._months: dict[Month | None, dict[SummaryTexts, Total]] = {}

    def add(self, rows: Iterable[SummaryRow]) -> None:
        """Take rows."""
        last: Month | None = None
        known: dict[SummaryTexts, Total] = self._months.setdefault(None, {})
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

    def leave_out(self, fields: Mapping[str, object]) -> None:
        """Take the fields that can be read of a row that is in no sum."""
        texts, month = fields.get("texts"), fields.get("charge_period_start")
        if not isinstance(texts, SummaryTexts):
            self.unattributed += 1
            return
        month = month if isinstance(month, Month) else None
        self._total(texts, month, self._months.setdefault(month, {})).leave_out(fields)

    def _total(self, texts: SummaryTexts, month: Month | None, known: dict[SummaryTexts, Total]) -> Total:
        key = Key(
            texts.billing_currency,
            month_text(month),
            texts.charge_category,
            texts.charge_class == CORRECTION,
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
        """Return the sums by the whole key, the largest first.

        The order in which rows came would be another one with Polars, which is behind with them.
        """
        return _largest_first(self._sums)

    def by(self, *fields: str) -> dict[tuple[str | bool, ...], Total]:
        """Return the sums by some fields of the key, the largest first."""
        found: dict[tuple[str | bool, ...], Total] = {}
        for key, total in self._sums.items():
            found.setdefault(tuple(getattr(key, field) for field in fields), Total()).add(total)
        return _largest_first(found)


UNDATED = "undated"
MONTH = "month"
"""Name by which `--by` and `--where` mean the UTC month of a charge."""

_CURRENCY = "BillingCurrency"


def month_text(month: Month | None) -> str:
    """Write the month of charges."""
    return UNDATED if month is None else f"{month.year:04}-{month.month:02}"


class Filter(NamedTuple):
    """A condition on rows: a column has a value, or has not; an empty value is null."""

    column: str
    value: str
    holds_if_equal: bool = True

    def holds(self, text: str) -> bool:
        """Return whether a text meets it."""
        return (text == self.value) == self.holds_if_equal


def parse_filter(text: str) -> Filter:
    """Read `COLUMN=VALUE` or `COLUMN!=VALUE`.

    Raises:
        ValueError: it is neither.
    """
    column, found, value = text.partition("=")
    if not found or not column.strip("! "):
        raise ValueError(f"{text!r} is not COLUMN=VALUE or COLUMN!=VALUE")
    return Filter(column.removesuffix("!").strip(), value, holds_if_equal=not column.endswith("!"))


class GroupRow(NamedTuple):
    """The columns that sums by columns of the caller's choice need."""

    texts: Texts
    charge_period_start: Month | None
    billed_cost: Decimal
    list_cost: Decimal | None
    effective_cost: Decimal | None
    lines: Count


SHORT_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "account": "BillingAccountId",
        "category": "ChargeCategory",
        "currency": _CURRENCY,
        "invoice": "InvoiceId",
        "region": "RegionId",
        "resource": "ResourceId",
        "service": "ServiceName",
        "sku": "SkuId",
        "sub-account": "SubAccountId",
    }
)
"""Columns by the words that `--by` and `--where` know them under, too."""

_TAG = "tag:"
_TAGS = "Tags"


def _column_of(name: str) -> str:
    """Return the column that a name of the caller's means."""
    return _TAGS if name.startswith(_TAG) else SHORT_NAMES.get(name, name)


def no_column(option: str, name: str, names: Collection[str]) -> str:
    """Return the sentence for a column that no file has, with the one that was probably meant."""
    near = [*SHORT_NAMES, *names]
    folded = {known.lower(): known for known in near}
    meant = folded.get(name.lower()) or next(iter(get_close_matches(name, near, n=1)), "")
    return f"{option}: no file has a column {name}{f'; did you mean {meant}?' if meant else ''}"


def refuse_names(names: Iterable[str]) -> None:
    """Refuse what cannot be a column or a tag.

    Raises:
        ValueError: a name is `tag:` without a key.
    """
    if any(name == _TAG for name in names):
        raise ValueError("tag: has no key after it; write tag:KEY")


def _tag(tags: str, key: str) -> str:
    """Return the value of a tag as text; empty where there is none."""
    try:
        value = json_object(tags).get(key) if tags else None
    except ValueError:
        return ""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


class Groups:
    """Adds up rows by columns of the caller's choice; the currency always comes first.

    Args:
        by: columns, short names of them, `tag:KEY`, or `month`.
        where: conditions that rows must meet.
        like: other groups, whose keys these have too, so that both can be compared however many there are.

    Attributes:
        names: of what rows are added up by.
        columns: those that are read for it.
        unattributed: rows that are in no sum, and of which it is not known to which they belong.
    """

    shape = GroupRow

    def __init__(self, by: Sequence[str], where: Sequence[Filter] = (), *, like: "Groups | None" = None) -> None:
        self.names = tuple(dict.fromkeys((_CURRENCY, *(name for name in by if _column_of(name) != _CURRENCY))))
        wanted = (*self.names, *(condition.column for condition in where))
        self.columns = tuple(dict.fromkeys(_column_of(name) for name in wanted if name != MONTH))
        self.unattributed = 0
        self._where = where
        self._sums: dict[tuple[str, ...], Total] = {} if like is None else {key: Total() for key in like.sums()}
        self._known: dict[tuple[Texts, Month | None], Total | None] = {}

    def add(self, rows: Iterable[GroupRow]) -> None:
        """Take rows."""
        for texts, month, billed, listed, effective, lines in rows:
            total = self._total(texts, month)
            if total is not None:
                total.add(Total(lines, billed, listed or Decimal(0), effective or Decimal(0)))

    def leave_out(self, fields: Mapping[str, object]) -> None:
        """Take the fields that can be read of a row that is in no sum."""
        texts, month = fields.get("texts"), fields.get("charge_period_start")
        if not isinstance(texts, Texts):
            self.unattributed += 1
            return
        total = self._total(texts, month if isinstance(month, Month) else None)
        if total is not None:
            total.leave_out(fields)

    def _total(self, texts: Texts, month: Month | None) -> Total | None:
        if (texts, month) not in self._known:
            if len(self._known) >= _MOST_SKUS:
                self._known.clear()
            self._known[texts, month] = self._new(texts, month)
        return self._known[texts, month]

    def _new(self, texts: Texts, month: Month | None) -> Total | None:
        key = self.key(texts.values, month)
        return None if key is None else self._sums.setdefault(key, Total())

    def key(self, values: Sequence[str | None], month: Month | None) -> tuple[str, ...] | None:
        """Return what a row is added up under; None for one that does not meet the conditions.

        Args:
            values: of `columns`.
            month: of the charge.
        """
        found = {name: text or "" for name, text in zip(self.columns, values, strict=True)}

        def value(name: str) -> str:
            if name == MONTH:
                return month_text(month)
            text = found[_column_of(name)]
            return _tag(text, name.removeprefix(_TAG)) if name.startswith(_TAG) else text

        if not all(condition.holds(value(condition.column)) for condition in self._where):
            return None
        key = tuple(value(name) for name in self.names)
        if len(self._sums) >= _MOST_SKUS and key not in self._sums:
            key = (key[0], *(OTHERS for _ in key[1:]))
        return key

    def sums(self) -> Mapping[tuple[str, ...], Total]:
        """Return the sums, the largest first."""
        return _largest_first(self._sums)

    def by_currency(self) -> dict[tuple[str | bool, ...], Total]:
        """Return the grand totals."""
        found: dict[tuple[str | bool, ...], Total] = {}
        for key, total in self.sums().items():
            found.setdefault(key[:1], Total()).add(total)
        return found


class PartRead(NamedTuple):
    """One file of a data set, after it has been read.

    Attributes:
        version: of FOCUS.
        naive_dates: dates without a time zone that have been taken for UTC.
        notes: what is to be known of how it was read.
    """

    name: str
    version: str
    rows: int
    naive_dates: int
    problems: Problems
    notes: Sequence[str] = ()


_LEAST_SHOWN = 20
_SHOWN_PROBLEMS = 10


def summary_text(name: str, parts: Sequence[PartRead], totals: Totals | Groups) -> str:
    """Return what a data set adds up to, for a person; the grand totals first."""
    versions = ", ".join(dict.fromkeys(part.version for part in parts))
    files = f", {len(parts):,} files" if len(parts) > 1 else ""
    left_out = sum(part.problems.rows for part in parts)
    incomplete = f", and {_counted(left_out, 'row')} left out (INCOMPLETE)" if left_out else ""
    rows = _counted(sum(part.rows for part in parts), "row")
    lines = [f"{name}: FOCUS {versions or '?'}{files}, {rows}{incomplete}"]
    if isinstance(totals, Groups):
        if not totals.sums() and any(part.rows for part in parts):
            lines += ["", "no row meets the conditions of --where"]
        tables = [("in all", totals.by_currency())]
        if len(totals.names) > 1:
            tables.append(
                (f"by {', '.join(totals.names[1:])}", {(*key,): total for key, total in totals.sums().items()})
            )
    else:
        tables = [
            (title, totals.by(*fields))
            for title, fields in (
                ("in all", ("currency",)),
                ("by currency and month", ("currency", "month")),
                ("by charge category", ("currency", "category")),
                ("by service", ("currency", "service")),
                ("by SKU", ("currency", "sku")),
                ("by invoice", ("currency", "invoice")),
            )
        ]
        tables = [item for item in tables if item[0] != "by invoice" or any(key[-1] for key in item[1])]
    for title, sums in tables:
        if sums:
            lines += ["", title, *_table(sums)]
    return "\n".join([*lines, *_remarks(parts, totals)])


def summary_json(name: str, parts: Sequence[PartRead], totals: Totals | Groups) -> str:
    """Return what a data set adds up to, for a program; amounts are decimal text."""
    grand = totals.by_currency() if isinstance(totals, Groups) else totals.by("currency")
    return json.dumps(
        {
            "file": name,
            "focus_version": ", ".join(dict.fromkeys(part.version for part in parts)),
            "rows": sum(part.rows for part in parts),
            "naive_dates": sum(part.naive_dates for part in parts),
            "unreadable_rows": sum(part.problems.rows for part in parts),
            "unattributed_rows": totals.unattributed,
            "problems": [{"file": part.name, **problem._asdict()} for part in parts for problem in part.problems.first],
            "notes": [f"{part.name}: {note}" for part in parts for note in part.notes],
            "grand_totals": [{"currency": key[0], **_amounts(total)} for key, total in grand.items()],
            "totals": [{**key, **_amounts(total)} for key, total in _keyed(totals)],
        },
        indent=2,
        ensure_ascii=False,
    )


def summary_csv(totals: Totals | Groups) -> str:
    """Return the sums as CSV with a header, one line for each combination of what they are by."""
    names = totals.names if isinstance(totals, Groups) else Key._fields
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*names, *_amounts(Total())])
    table.writerows([*key.values(), *_amounts(total).values()] for key, total in _keyed(totals))
    return text.getvalue().removesuffix("\n")


def _keyed(totals: Totals | Groups) -> Iterable[tuple[dict[str, str | bool], Total]]:
    if isinstance(totals, Groups):
        return ((dict(zip(totals.names, key, strict=True)), total) for key, total in totals.sums().items())
    return ((dict(zip(Key._fields, key, strict=True)), total) for key, total in totals.sums().items())


def _amounts(total: Total) -> dict[str, str | int]:
    return {
        "rows": total.rows,
        "billed_cost": number_text(total.billed),
        "list_cost": number_text(total.listed),
        "effective_cost": number_text(total.effective),
        "rows_not_included": total.left_out,
        "known_cost_not_included": number_text(total.known),
    }


def left_out_of(sums: str, rows: int) -> str:
    """Return the sentence for rows that are in no sum."""
    those = "1 row is" if rows == 1 else f"{rows:,} rows are"
    return f"{those} left out of {sums}, because something in {'it' if rows == 1 else 'them'} cannot be read"


def unattributed_lines(rows: int) -> list[str]:
    """Return the line for rows that are left out, and of which it is not known to which sums they belong."""
    why = "because the columns that rows are added up by cannot be read in them"
    return [f"  of these counted in no line above, {why}: {rows:,}"] if rows else []


def problem_lines(problems: Problems) -> list[str]:
    """Return the first problems of a reading, for a person."""
    lines = [str(problem) for problem in problems.first[:_SHOWN_PROBLEMS]]
    more = sum(problems.counts.values()) - len(lines)
    return [*lines, f"... and {more:,} more"] if more > 0 else lines


def _remarks(parts: Sequence[PartRead], totals: Totals | Groups) -> list[str]:
    lines = []
    naive, left_out = sum(part.naive_dates for part in parts), sum(part.problems.rows for part in parts)
    if naive:
        lines.append(f"assumed to be UTC because they have no time zone: {_counted(naive, 'date')}")
    if left_out:
        lines.append(f"INCOMPLETE: {left_out_of('these sums', left_out)}")
        if totals.unattributed < left_out:
            lines.append("  their readable cost is BilledCost, or where that cannot be read EffectiveCost or ListCost")
        lines += unattributed_lines(totals.unattributed)
        for part in parts:
            shown = problem_lines(part.problems)
            lines += [f"  {part.name}:" if len(parts) > 1 else "", *(f"  {line}" for line in shown)] if shown else []
    lines += [f"note: {part.name}: {note}" for part in parts for note in part.notes]
    return ["", *filter(None, lines)] if lines else []


def _table(sums: Mapping[tuple[str | bool, ...], Total]) -> list[str]:
    items = list(sums.items())
    head: tuple[str, ...] = ("", "rows", "billed", "list", "effective")
    if any(total.left_out for total in sums.values()):
        head = (*head, "rows left out", "their readable cost")
    rows: list[tuple[str, ...]] = [head]
    rows += [_cells(_words(key), total, len(head)) for key, total in items[:_LEAST_SHOWN]]
    rest: dict[str | bool, list[Total]] = {}
    for key, total in items[_LEAST_SHOWN:]:
        rest.setdefault(key[0], []).append(total)
    for currency, totals in rest.items():
        together = Total()
        for total in totals:
            together.add(total)
        rows.append(_cells(f"{currency} ({len(totals)} more)", together, len(head)))
    return _aligned(rows)


def _words(key: Sequence[str | bool]) -> str:
    return " ".join(str(part) or "-" for part in key)


def _cells(name: str, total: Total, width: int) -> tuple[str, ...]:
    amounts = map(number_text, (total.billed, total.listed, total.effective))
    return (name, f"{total.rows:,}", *amounts, f"{total.left_out:,}", number_text(total.known))[:width]


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
