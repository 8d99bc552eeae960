"""The conformance check: streaming, one pass, in bounded memory.

What a rule needs beyond one row is bounded too: rows are compared with those up to `DUPLICATE_REACH` before them, by a
64-bit hash; what belongs to what is remembered for `MOST_REMEMBERED` services, prices and invoices each. Where a file
goes beyond that, the report says so.
"""

import importlib.util
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING

from exporter.focus.check_report import Finding, Findings, InvoiceSum, Report
from exporter.focus.csv_parser import COMMA, Assembler, Blocks, Record, unquoted
from exporter.focus.findings import WrongContentError
from exporter.focus.row_schema import Header, flaw_of, is_header, nothing_at_all, parse_header, separator_note
from exporter.focus.rules.compiled import Broken, Compiled, FieldBreak, FieldToken, Plan, Signature
from exporter.focus.rules.conditions import WRONG
from exporter.focus.rules.measures import BlockFacts, Break
from exporter.focus.rules.table import Applicability, Kind, Rule, by_id
from exporter.focus.values import EXACTLY, told_amount

if TYPE_CHECKING:
    from exporter.focus.polars_reader import Table
    from exporter.focus.rules.polars_blocks import PolarsBlocks

DUPLICATE_REACH = 500_000
"""Number of rows within which a duplicate is certainly seen."""

MOST_REMEMBERED = 100_000
"""Relations and invoices that are remembered, of each kind."""

POLARS_BLOCK = 4 << 20
"""Bytes of lines that go through Polars together."""

_FEWEST_TOGETHER = 8
_DOUBTED = 4
"""Blocks that are taken row by row after one in which something was wrong."""

KEPT = 20
"""Findings of each rule that are kept word by word."""

_DUPLICATE = "X-DuplicateRow"
_RECORD = "X-CsvRecord"
_NO_ROWS = "X-NoRows"


class Checker(Blocks):
    """Checks a file, or several with the same columns as one; push bytes with `feed`, get the report with `finish`.

    Before the bytes of each of several files, name it with `begin_part`.

    Args:
        version: of FOCUS to check against; None for the oldest whose columns the file fits best.
        applicability: what the provider supports.
        ignored: ids of rules that are not wanted.
        keep: how many findings of each rule are kept word by word; all are counted.
        most: how many of all rules together are kept; None for no limit.
        polars_from: bytes after which blocks go through Polars, where that is installed.
    """

    def __init__(
        self,
        version: str | None = None,
        *,
        applicability: Applicability | None = None,
        ignored: Collection[str] = (),
        keep: int = KEPT,
        most: int | None = None,
        polars_from: float = POLARS_BLOCK,
    ) -> None:
        super().__init__()
        self._version = version
        self._applicability = applicability or Applicability()
        self._ignored = ignored
        self._findings = Findings(keep, most)
        self._header: Header | None = None
        self._awaits_header = True
        self._report = Report(version or "", 0, self._findings)
        self._seen: tuple[set[int], set[int]] = (set(), set())
        self._families: list[_Family] = []
        self._sums: dict[tuple[bytes, bytes], InvoiceSum] = {}
        self._rules: Compiled | None = None
        self._known = by_id()
        self._doubted = 0
        self._polars_from: float = polars_from
        self._received = 0
        self._polars: PolarsBlocks | None = None
        self._duplicates: Rule | None = None
        self._billed: int | None = None
        self._invoice: int | None = None
        self._currency: int | None = None

    def begin_part(self, name: str) -> None:
        """Take note that another file begins; what rows have in common is looked for in all of them.

        Raises:
            TruncatedFileError: the file before it was cut off.
            WrongContentError: there was no header in it at all.
        """
        if self._findings.part:
            self._end_part()
        self._findings.part = name
        self._begin_file()
        self._awaits_header = True

    def _end_part(self) -> None:
        self._end()
        if self._awaits_header:
            raise nothing_at_all()

    def feed(self, piece: "bytes | Table") -> None:
        """Take a piece: bytes, or rows after a header that came as bytes.

        Raises:
            WrongContentError: this is no Cost and Usage file.
        """
        self._feed(piece)

    def _lines(self, lines: bytes) -> None:
        """Take whole lines; with Polars if they break nothing."""
        polars = self._polars
        is_begun = not self._assembler.is_open and not self._awaits_header
        facts = polars.facts(lines) if polars is not None and is_begun else None
        if facts is not None and self._take_facts(facts):
            self._number += facts.rows
        else:
            self._read(lines)
        self._received += len(lines)
        if self._received >= self._polars_from:
            self._begin_polars()
        self._least = 0 if self._polars is None else POLARS_BLOCK

    def _table(self, table: "Table") -> bool:
        """Take rows of a table with Polars, if they break nothing."""
        if self._polars_from < math.inf:
            self._begin_polars()
        facts = None if self._polars is None else self._polars.facts_of(table.frame)
        return facts is not None and self._take_facts(facts)

    def _begin_polars(self) -> None:
        """Prove blocks with Polars from now on, which is faster, where it is installed."""
        rules = self._rules
        if rules is None or self._duplicates is not None:
            return
        self._polars_from = math.inf
        if importlib.util.find_spec("polars") is None or self._assembler.separator != COMMA:
            return
        from exporter.focus.rules.polars_blocks import Places, PolarsBlocks  # noqa: PLC0415  optional

        families = [(family.child, family.parent) for family in self._families]
        self._polars = PolarsBlocks(rules, Places(families, self._billed, self._invoice, self._currency))

    def _take_facts(self, facts: BlockFacts) -> bool:
        """Take rows that break nothing by themselves; return False, having done nothing, if they do with others."""
        fresh = self._fresh(facts.pairs)
        if fresh is None:
            return False
        totals = {key: self._sums.get(key) or self._sum_of(*key, is_named=key[0] != b"") for key in facts.sums}
        if None in totals.values():
            return False
        for key, (rows, cost) in facts.sums.items():
            total = totals[key]
            if total is not None:
                total.rows += rows
                total.billed = EXACTLY.add(total.billed, cost)
        for family, found in zip(self._families, fresh, strict=True):
            family.parents |= found
        self._report.rows += facts.rows
        return True

    def finish(self) -> Report:
        """Return the report.

        Raises:
            TruncatedFileError: the file was cut off.
            WrongContentError: there was no header at all.
        """
        self._end_part()
        if not self._report.rows:
            self._add_own(_NO_ROWS, 0)
        return self._report

    def _take_header(self, header: Header) -> None:
        """Take the header of a file, or of one that was appended to another."""
        self._awaits_header = False
        if header.separator != COMMA:
            part = f"{self._findings.part}: " if self._findings.part else ""
            self._note(f"{part}{separator_note(header.separator)}")
        if self._header is None:
            self._begin(header)
        elif self._header.names != header.names:
            raise WrongContentError("its columns differ from those of the file before it; check it by itself")

    def _begin(self, header: Header) -> None:
        self._header = header
        version = self._version or header.version
        rules = self._rules = Compiled(header.names, version, self._applicability, self._ignored)
        report = self._report
        report.version, report.columns, report.scope = version, len(header.names), rules.scope
        for rule, column, note in rules.header:
            self._findings.add(Finding(rule, 1, column, column, note))
        places = header.places
        for rule in rules.scope.active:
            if rule.kind is Kind.ONE_OF_EACH:
                self._families.append(_Family(rule, places[rule.values[0]], places[rule.column]))
            elif rule.id == _DUPLICATE:
                self._duplicates = rule
        self._billed = places.get("BilledCost")
        self._invoice, self._currency = places.get("InvoiceId"), places.get("BillingCurrency")

    def _record(self, record: Record) -> None:
        """Take a record, and say of each rule that it breaks what is wrong."""
        rules, header, fields = self._rules, self._header, record.fields
        if rules is None or header is None or self._awaits_header or is_header(record):
            self._take_header(parse_header(record, self._assembler.separator))
            return
        flaw = flaw_of(record, header, is_last=self._is_last)
        if flaw:
            self._report.malformed += 1
            self._add_own(_RECORD, record.line, record.malformed or f"it {flaw}")
            return
        self._report.rows += 1
        signature, (flawed, breaks, checks) = rules.plan(fields)
        if flawed or breaks:
            self._tell(record, flawed, breaks)
        for check in checks:
            for rule, column, note in check.breaks(fields):
                self._tell_break(record, rule, column, note)
        for family in self._families:
            self._find_stray(family, record, signature)
        if self._duplicates is not None:
            self._find_duplicate(self._duplicates, record)
        self._sum_up(fields, signature)

    def _block(self, lines: bytes, count: int) -> bool:
        """Take whole lines column by column, which is several times as fast, if they break nothing."""
        if count < _FEWEST_TOGETHER or self._rules is None or self._awaits_header:
            return False
        # Where one row is wrong, others are: looking at them twice would only take longer.
        if self._doubted == 0 and self._take_together(self._rules, lines):
            return True
        self._doubted = (self._doubted or _DOUBTED) - 1
        return False

    def _take_together(self, rules: Compiled, lines: bytes) -> bool:
        """Take rows that break nothing; return False, having done nothing, if one does or there are other lines."""
        assembler = Assembler(self._assembler.separator)
        records = (assembler.take(0, line) for line in lines.split(b"\n")[:-1])
        rows = [record.fields for record in records if record is not None]
        # What is malformed has no fields.
        if assembler.is_open or {*map(len, rows)} != {len(rules.columns)}:
            return False
        columns = [*zip(*rows, strict=True)]
        tokens = [each.of(column) for each, column in zip(rules.columns, columns, strict=True)]
        signatures = [*zip(*tokens, strict=True)]
        plans = {signature: rules.plan_of(signature) for signature in {*signatures}}
        if any(plan.fields or plan.breaks for plan in plans.values()):
            return False
        if not all(
            check.holds_for(part) for plan, part in _parts(plans, signatures, rows, columns) for check in plan.checks
        ):
            return False
        return self._count_together(rows, columns)

    def _count_together(self, rows: Sequence[list[bytes]], columns: Sequence[Sequence[bytes]]) -> bool:
        """Count rows that break no rule by themselves; return False, having done nothing, if some do together."""
        digests: set[int] = set()
        if self._duplicates is not None:
            recent, earlier = self._seen
            digests = {*map(hash, map(tuple, rows))}
            beyond = len(recent) + len(rows) >= DUPLICATE_REACH
            if beyond or len(digests) != len(rows) or not digests.isdisjoint(recent) or not digests.isdisjoint(earlier):
                return False
        pairs = [
            {(unquoted(child), unquoted(parent)) for child, parent in {*zip(*family.of(columns), strict=True)}}
            for family in self._families
        ]
        sums = self._sums_of(columns, len(rows))
        if sums is None or not self._take_facts(BlockFacts(len(rows), pairs, sums)):
            return False
        self._seen[0].update(digests)
        return True

    def _fresh(self, pairs: Sequence[set[tuple[bytes, bytes]]]) -> list[dict[bytes, bytes]] | None:
        """Return the parents of children that are new, by family; None if a child has another parent already."""
        fresh = []
        for family, each in zip(self._families, pairs, strict=True):
            strange = [pair for pair in each if all(pair) and family.parents.get(pair[0]) != pair[1]]
            found = dict(strange)
            # A child that is known, or is here twice, has another parent.
            other = len(found) != len(strange) or not found.keys().isdisjoint(family.parents)
            if other or len(family.parents) + len(found) > MOST_REMEMBERED:
                return None
            fresh.append(found)
        return fresh

    def _sums_of(
        self, columns: Sequence[Sequence[bytes]], count: int
    ) -> Mapping[tuple[bytes, bytes], tuple[int, Decimal]] | None:
        """Return what rows add up to by invoice and currency; None if a cost is no number."""
        if self._billed is None or self._rules is None:
            return {}
        nothing = (b"",) * count
        invoices = nothing if self._invoice is None else columns[self._invoice]
        currencies = nothing if self._currency is None else columns[self._currency]
        keys = [*zip(invoices, currencies, strict=True)]
        sums = dict.fromkeys(keys, Decimal(0))
        with localcontext(EXACTLY):
            for key, cost in zip(
                keys, map(self._rules.measures.numbers.__getitem__, columns[self._billed]), strict=True
            ):
                if cost is None:
                    return None
                sums[key] += cost
        return {key: (rows, sums[key]) for key, rows in Counter(keys).items()}

    def _tell(self, record: Record, flawed: Sequence[tuple[int, FieldBreak]], breaks: Sequence[Break]) -> None:
        header = self._header
        for place, (rule, attributes, note) in flawed if header else ():
            name = header.names[place] if header else ""
            self._findings.add(Finding(rule, record.line, name, _shown(record.fields[place]), note, attributes))
        for rule, column, note in breaks:
            self._tell_break(record, rule, column, note)

    def _tell_break(self, record: Record, rule: Rule, column: str, note: str) -> None:
        place = self._header.places.get(column) if self._header else None
        value = "" if place is None else _shown(record.fields[place])
        self._findings.add(Finding(rule, record.line, column, value, note))

    def _add_own(self, name: str, line: int, note: str = "") -> None:
        rule = self._known[name]
        if rule in self._report.scope.active:
            self._findings.add(Finding(rule, line, "", "", note))

    def _find_duplicate(self, rule: Rule, record: Record) -> None:
        digest = hash(tuple(record.fields))
        recent, earlier = self._seen
        if digest in recent or digest in earlier:
            self._findings.add(Finding(rule, record.line, "", "", "an equal row came before it"))
            return
        recent.add(digest)
        if len(recent) >= DUPLICATE_REACH:
            self._seen = (set(), recent)
            self._note(f"duplicates were searched within {DUPLICATE_REACH:,} rows of each other")

    def _find_stray(self, family: "_Family", record: Record, signature: Signature) -> None:
        child, parent = record.fields[family.child], record.fields[family.parent]
        if not child or not parent:
            return
        # The same text may be in quotes or not.
        child, parent = unquoted(child), unquoted(parent)
        known = family.parents.get(child)
        if known == parent or not (_is_value(signature[family.child]) and _is_value(signature[family.parent])):
            return
        if known is None:
            if len(family.parents) < MOST_REMEMBERED:
                family.parents[child] = parent
            else:
                self._note(f"more than {MOST_REMEMBERED:,} values of {family.rule.values[0]} were not compared")
            return
        note = f"{family.rule.values[0]} {_text(child)} came with {_text(known)} before"
        self._tell_break(record, family.rule, family.rule.column, note)

    def _sum_up(self, fields: Sequence[bytes], signature: Signature) -> None:
        if self._billed is None or self._rules is None:
            return
        sums = self._sums
        invoice = b"" if self._invoice is None else fields[self._invoice]
        currency = b"" if self._currency is None else fields[self._currency]
        total = sums.get((invoice, currency))
        if total is None:
            is_named = self._invoice is not None and _is_value(signature[self._invoice])
            total = self._sum_of(invoice, currency, is_named=is_named)
            if total is None:
                return
        raw = fields[self._billed]
        billed = self._rules.measures.numbers[raw] if raw else None
        if billed is None:
            total.left_out += 1
            total.known = EXACTLY.add(total.known, told_amount(_shown(raw)) or Decimal(0))
        else:
            total.rows += 1
            total.billed = EXACTLY.add(total.billed, billed)

    def _sum_of(self, invoice: bytes, currency: bytes, *, is_named: bool) -> InvoiceSum | None:
        """Return the sum that rows of an invoice and a currency go into; None beyond those that are remembered."""
        key = (_shown(invoice) if is_named else "", _shown(currency))
        invoices = self._report.invoices
        if key not in invoices and len(invoices) >= MOST_REMEMBERED:
            self._note(f"invoices beyond {MOST_REMEMBERED:,} were not summed up")
            return None
        total = invoices.setdefault(key, InvoiceSum())
        if len(self._sums) < MOST_REMEMBERED:
            self._sums[invoice, currency] = total
        return total

    def _note(self, note: str) -> None:
        if note not in self._report.notes:
            self._report.notes.append(note)


def _parts(
    plans: Mapping[Signature, Plan],
    signatures: Sequence[Signature],
    rows: Sequence[list[bytes]],
    columns: Sequence[Sequence[bytes]],
) -> Iterator[tuple[Plan, Sequence[Sequence[bytes]]]]:
    """Yield each plan with the columns of its rows."""
    if len(plans) == 1:
        yield next(iter(plans.values())), columns
        return
    parts: dict[Signature, list[list[bytes]]] = {}
    for signature, row in zip(signatures, rows, strict=True):
        parts.setdefault(signature, []).append(row)
    for signature, part in parts.items():
        yield plans[signature], [*zip(*part, strict=True)]


@dataclass(slots=True)
class _Family:
    """Values that belong to one other value each.

    Attributes:
        child, parent: places of their columns.
        parents: by child.
    """

    rule: Rule
    child: int
    parent: int
    parents: dict[bytes, bytes] = field(default_factory=dict)

    def of(self, columns: Sequence[Sequence[bytes]]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """Return the columns of children and parents."""
        return columns[self.child], columns[self.parent]


def _is_value(token: FieldToken) -> bool:
    return token is not None and token is not WRONG and not isinstance(token, Broken)


def _shown(raw: bytes) -> str:
    return _text(unquoted(raw))


def _text(content: bytes) -> str:
    return content.decode("utf-8", "backslashreplace")
