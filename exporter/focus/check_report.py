"""Report of a check: its findings, the outcome of each rule and the sums of invoices; as text, JSON or JUnit XML.

Every rule of the version is in each of the forms, or counted.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import NamedTuple
from xml.etree import ElementTree as ET

from exporter.focus.findings import shortened
from exporter.focus.rules.compiled import Scope
from exporter.focus.rules.table import Kind, Level, Rule, by_id, parts
from exporter.focus.rules.wording import says
from exporter.focus.values import EXACTLY, number_text


class Finding(NamedTuple):
    """A place where a rule does not hold.

    Attributes:
        line: where the row begins, counted from 1; the header is line 1; 0 for the file as a whole.
        column: empty where the whole row or file is meant.
        value: what was there, shortened.
        note: what is wrong, where the rule alone does not say it.
        attributes: attributes of the specification that do not hold there either.
    """

    rule: Rule
    line: int
    column: str = ""
    value: str = ""
    note: str = ""
    attributes: tuple[Rule, ...] = ()


class Findings:
    """The findings of one check: counted in full, kept word by word in part.

    Args:
        keep: of each rule.
        most: of all rules together; None for no limit.

    Attributes:
        counts: how many of each rule.
        attributes: how many of each attribute, which are findings of other rules too.
        kept: the first of each rule, in the order of the file.
        part: name of the file that is checked, of several; their findings name it.
    """

    def __init__(self, keep: int, most: int | None = None) -> None:
        self.counts: Counter[Rule] = Counter()
        self.attributes: Counter[Rule] = Counter()
        self.kept: list[Finding] = []
        self.part = ""
        self._keep = keep
        self._most = most

    def add(self, finding: Finding) -> None:
        """Take note of one."""
        rule = finding.rule
        self.counts[rule] += 1
        self.attributes.update(finding.attributes)
        if self.counts[rule] <= self._keep and (self._most is None or len(self.kept) < self._most):
            note = "; ".join(filter(None, (finding.note, self.part and f"in {self.part}")))
            self.kept.append(finding._replace(value=shortened(finding.value), note=note))

    def of(self, rule: Rule) -> Iterable[Finding]:
        """Return what is kept of one rule, or of an attribute."""
        return (finding for finding in self.kept if finding.rule is rule or rule in finding.attributes)

    def total(self, *levels: Level) -> int:
        """Return how many there are of some levels; of all where none is named."""
        return sum(count for rule, count in self.counts.items() if not levels or rule.level in levels)


class Outcome(Enum):
    """Outcome of a check for one rule."""

    HOLDS = "holds"
    BROKEN = "broken"
    NOT_APPLICABLE = "not applicable"
    NOT_DECIDABLE = "not decidable"
    PERMISSION = "permission"


@dataclass(slots=True)
class InvoiceSum:
    """The billed cost of an invoice in a currency.

    Attributes:
        billed: sum of BilledCost of the rows in which it is a number.
        rows: how many these are.
        left_out: rows whose cost is in no sum, because it is no number.
        known: sum of the costs among these that can be told all the same, such as `$4.20`.
    """

    billed: Decimal = Decimal(0)
    rows: int = 0
    left_out: int = 0
    known: Decimal = Decimal(0)


class State(Enum):
    """Outcome for an invoice; the value is its name in reports."""

    EQUAL = "equal"
    DIFFERENT = "different"
    INCOMPLETE = "incomplete"
    MISSING = "missing"
    ELSEWHERE = "not in the file"
    UNEXPECTED = "unexpected"

    @property
    def is_wrong(self) -> bool:
        """True if the rule does not hold."""
        return self in {State.DIFFERENT, State.INCOMPLETE, State.MISSING}


@dataclass(frozen=True, slots=True)
class HeldInvoice:
    """An invoice after it was held against what is to be paid.

    Attributes:
        expected: None for one that nobody expected.
        found: sum of its rows; None where it has none.
        remark: what an amount alone does not say; empty for nothing.
    """

    invoice: str
    currency: str
    state: State
    expected: Decimal | None
    found: InvoiceSum | None
    remark: str = ""

    @property
    def difference(self) -> Decimal | None:
        """Amount found less the amount expected."""
        if self.expected is None or self.found is None:
            return None
        return EXACTLY.subtract(self.found.billed, self.expected)

    def __str__(self) -> str:
        currency = f" {self.currency}" if self.currency else ""
        parts = [] if self.expected is None else [f"expected {number_text(self.expected)}{currency}"]
        absent = "not in the file" if not self.remark.startswith("the file") else ""
        parts.append(absent if self.found is None else f"found {number_text(self.found.billed)}{currency}")
        if self.difference:
            parts.append(f"difference {number_text(self.difference)}{currency}")
        if self.found is not None and self.found.left_out:
            rows = "1 row is" if self.found.left_out == 1 else f"{self.found.left_out:,} rows are"
            known = f" (readable: {number_text(self.found.known)}{currency})" if self.found.known else ""
            parts.append(f"{rows} not in this sum{known}")
        if self.state is State.UNEXPECTED:
            parts.append("nobody expected it")
        return f"invoice {self.invoice}: {', '.join(filter(None, (*parts, self.remark)))}"


@dataclass(slots=True)
class Report:
    """Result of a check.

    Attributes:
        version: of FOCUS, against which the file was checked.
        scope: which rules were checked, and why others were not.
        malformed: rows that are no records of the table, and in no sum.
        invoices: by invoice id and currency; the empty id stands for rows without.
        held: invoices after they were held against what is to be paid, see `expected`.
        notes: what the check could not do to the end.
    """

    version: str
    columns: int
    findings: Findings
    scope: Scope = field(default_factory=Scope)
    rows: int = 0
    malformed: int = 0
    invoices: dict[tuple[str, str], InvoiceSum] = field(default_factory=dict)
    held: list[HeldInvoice] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """True if no rule is broken."""
        return not self.findings.counts

    def fails(self, level: Level) -> bool:
        """Return whether a rule of a level, or of a stricter one, is broken."""
        strict = (Level.MUST,) if level is Level.MUST else (Level.MUST, Level.SHOULD)
        return self.findings.total(*strict) > 0

    @property
    def broken(self) -> Counter[Rule]:
        """Number of breaks of each rule, whatever rule it is reported under."""
        counts = self.findings.counts + self.findings.attributes
        known = by_id()
        for rule in self.scope.active:
            if rule.kind is Kind.SAME_AS:
                count = sum(counts[known[name]] for name in rule.values)
                if count:
                    counts[rule] = count
        return counts

    def outcomes(self) -> Mapping[Rule, tuple[Outcome, str]]:
        """Return the outcome of every rule of the version but composites, and why it was not checked."""
        broken, scope = self.broken, self.scope
        found = {rule: (Outcome.BROKEN if broken[rule] else Outcome.HOLDS, "") for rule in scope.active}
        found |= {rule: (Outcome.NOT_APPLICABLE, reason) for rule, reason in scope.not_applicable.items()}
        found |= {rule: (Outcome.NOT_DECIDABLE, reason) for rule, reason in scope.undecidable.items()}
        return found | dict.fromkeys(scope.permissions, (Outcome.PERMISSION, "it only allows something"))

    def composites(self) -> Mapping[Rule, Outcome]:
        """Return the outcome of every composite: broken where a part is, not applicable where all are."""
        known = {rule: outcome for rule, (outcome, _) in self.outcomes().items()}
        found = {}
        for rule in self.scope.composites:
            seen = {known[part] for part in parts(rule) if part in known}
            order = (Outcome.BROKEN, Outcome.HOLDS, Outcome.NOT_DECIDABLE)
            found[rule] = next((outcome for outcome in order if outcome in seen), Outcome.NOT_APPLICABLE)
        return found

    def tally(self) -> Counter[Outcome]:
        """Return how many rules have each outcome."""
        return Counter(outcome for outcome, _ in self.outcomes().values())


def check_text(name: str, report: Report) -> str:
    """Return a check's report for a person."""
    found = report.findings
    head = f"{name}: FOCUS {report.version}, {counted(report.columns, 'column')}, {counted(report.rows, 'row')}"
    if report.is_clean:
        lines = [f"{head}: no findings."]
    else:
        by_level = ", ".join(f"{found.total(level):,} of level {level.value}" for level in Level if found.total(level))
        lines = [f"{head}: {counted(found.total(), 'finding')} of {counted(len(found.counts), 'rule')}, {by_level}."]
        for rule in report.scope.active:
            count = found.counts[rule]
            if not count:
                continue
            lines += ["", f"{rule.name(report.version)} ({rule.level.value}, {_times(count)}): {says(rule)}"]
            kept = [finding for finding in found.kept if finding.rule is rule]
            lines += [f"  {_where(finding, report.version)}" for finding in kept]
            lines += [f"  ... and {count - len(kept):,} more"] if count > len(kept) else []
    lines += _invoice_lines(report.invoices)
    lines += _held_lines(report.held)
    lines += ["", _tally_line(report)]
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(lines)


def _invoice_lines(invoices: Mapping[tuple[str, str], InvoiceSum]) -> list[str]:
    named = any(invoice for invoice, _ in invoices)
    if not named and not any(total.left_out for total in invoices.values()):
        return []
    lines = ["", "BilledCost by invoice:"]
    for (invoice, currency), total in sorted(invoices.items()):
        line = f"  {invoice or '(no invoice)'}  {number_text(total.billed)} {currency}"
        if total.left_out:
            known = f" (readable: {number_text(total.known)} {currency})" if total.known else ""
            line += f"  NOT in this sum: {counted(total.left_out, 'row')} whose BilledCost is not a number{known}"
        lines.append(line)
    return lines


def _held_lines(held: Sequence[HeldInvoice]) -> list[str]:
    if not held:
        return []
    shown = [item for item in held if item.state is not State.ELSEWHERE]
    lines = ["", "BilledCost held against what is to be paid:", *(f"  {item.state.value}: {item}" for item in shown)]
    left = len(held) - len(shown)
    return [*lines, f"  of the ledger's invoices not in the file: {left:,}"] if left else lines


def _tally_line(report: Report) -> str:
    tally = report.tally()
    checked = tally[Outcome.HOLDS] + tally[Outcome.BROKEN]
    return (
        f"{checked} rules checked, {tally[Outcome.NOT_APPLICABLE]} not applicable, {tally[Outcome.NOT_DECIDABLE]} not "
        f"decidable from a file; {tally[Outcome.PERMISSION]} only allow something, {len(report.scope.composites)} "
        "consist of others. `fal-exporter focus rules` lists them; --format json has the outcome of each."
    )


def check_json(name: str, report: Report) -> str:
    """Return a check's report for a program; amounts are decimal text."""
    version, tally, broken = report.version, report.tally(), report.broken
    return _json(
        {
            "file": name,
            "error": None,
            "focus_version": version,
            "columns": report.columns,
            "rows": report.rows,
            "clean": report.is_clean,
            "counts": {rule.name(version): count for rule, count in report.findings.counts.items()},
            "levels": {level.value: report.findings.total(level) for level in Level},
            "outcomes": {outcome.value.replace(" ", "_"): tally[outcome] for outcome in Outcome},
            "rules": [
                {
                    "id": rule.name(version),
                    "level": rule.level.value,
                    "outcome": outcome.value,
                    "reason": reason,
                    "findings": broken[rule],
                }
                for rule, (outcome, reason) in report.outcomes().items()
            ],
            "findings": [
                {
                    "rule": finding.rule.name(version),
                    "attributes": [attribute.name(version) for attribute in finding.attributes],
                    "level": finding.rule.level.value,
                    "line": finding.line,
                    "column": finding.column,
                    "value": finding.value,
                    "message": _message(finding),
                }
                for finding in report.findings.kept
            ],
            "invoices": [
                {
                    "invoice": invoice,
                    "currency": currency,
                    "billed_cost": number_text(total.billed),
                    "rows": total.rows,
                    "rows_left_out": total.left_out,
                    "known_cost_left_out": number_text(total.known),
                }
                for (invoice, currency), total in sorted(report.invoices.items())
            ],
            "expected_invoices": [
                {
                    "invoice": item.invoice,
                    "currency": item.currency,
                    "state": item.state.value,
                    "expected": None if item.expected is None else number_text(item.expected),
                    "found": None if item.found is None else number_text(item.found.billed),
                    "difference": None if item.difference is None else number_text(item.difference),
                    "rows": 0 if item.found is None else item.found.rows,
                    "rows_left_out": 0 if item.found is None else item.found.left_out,
                    "known_cost_left_out": number_text(Decimal(0) if item.found is None else item.found.known),
                    "remark": item.remark,
                }
                for item in report.held
            ],
            "notes": report.notes,
        }
    )


def check_junit(name: str, report: Report) -> str:
    """Return a check's report as JUnit XML: one test case a rule; those that were not checked are skipped."""
    outcomes = report.outcomes()
    broken, version = report.broken, report.version
    tally = report.tally()
    suite = _suite(
        name,
        f"FOCUS {version}",
        tests=len(outcomes),
        failures=tally[Outcome.BROKEN],
        skipped=len(outcomes) - tally[Outcome.BROKEN] - tally[Outcome.HOLDS],
    )
    for rule, (outcome, reason) in outcomes.items():
        case = ET.SubElement(suite, "testcase", classname=f"focus.{rule.level.value}", name=rule.name(version))
        if outcome is Outcome.BROKEN:
            failure = ET.SubElement(case, "failure", message=f"{says(rule)} ({_times(broken[rule])})")
            failure.text = _printable("\n".join(_where(finding, version) for finding in _shown(report, rule)))
        elif outcome is not Outcome.HOLDS:
            ET.SubElement(case, "skipped", message=f"{outcome.value}: {reason}")
    return _xml(suite)


def failure_text(name: str, error: str) -> str:
    """Return nothing: what is wrong with a file that cannot be checked is on standard error."""
    del name, error
    return ""


def failure_json(name: str, error: str) -> str:
    """Return the document for a file that cannot be checked."""
    return _json({"file": name, "error": error, "clean": False, "counts": {}, "findings": [], "notes": []})


def failure_junit(name: str, error: str) -> str:
    """Return JUnit XML for a file that cannot be checked: one test case with the error."""
    suite = _suite(name, "FOCUS", tests=1, errors=1)
    case = ET.SubElement(suite, "testcase", classname="focus.file", name="readable")
    ET.SubElement(case, "error", message=_printable(error))
    return _xml(suite)


def rules_text(version: str, table: Sequence[Rule]) -> str:
    """Return rules as a table in Markdown."""
    lines = ["| id | level | kind | versions | what it says |", "|---|---|---|---|---|"]
    for rule in table:
        kind = rule.kind.value if rule.kind.is_decidable else f"{rule.kind.value}: {rule.value}".removesuffix(": ")
        kind = rule.kind.value if rule.kind is Kind.COMPOSITE else kind
        needs = f" (if the provider has {' and '.join(rule.needs)})" if rule.needs else ""
        lines.append(
            f"| `{rule.name(version)}` | {rule.level.value.upper()} | {kind} | {rule.since} to {rule.until} | "
            f"{says(rule)}{needs} |"
        )
    return "\n".join(lines)


def counted(count: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _shown(report: Report, rule: Rule) -> list[Finding]:
    if rule.kind is not Kind.SAME_AS:
        return list(report.findings.of(rule))
    return [finding for finding in report.findings.kept if finding.rule.id in rule.values]


def _where(finding: Finding, version: str) -> str:
    place = f"line {finding.line}" if finding.line else "the file"
    column = f", {finding.column}" if finding.column else ""
    also = "; ".join(f"{rule.name(version)}: {says(rule)}" for rule in finding.attributes)
    found = "; ".join(filter(None, (finding.value and repr(finding.value), finding.note, also)))
    return f"{place}{column}{': ' if found else ''}{found}"


def _message(finding: Finding) -> str:
    return f"{says(finding.rule)}{f'; {finding.note}' if finding.note else ''}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"


def _json(document: Mapping[str, object]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False)


def _suite(name: str, what: str, *, tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> ET.Element:
    return ET.Element(
        "testsuite", name=f"{what}: {_printable(name)}", tests=str(tests), failures=str(failures), errors=str(errors),
        skipped=str(skipped),
    )  # fmt: skip


def _xml(suite: ET.Element) -> str:
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


def _printable(text: str) -> str:
    """Return text without the characters that XML cannot hold."""
    return "".join(item if item in "\n\t" or item.isprintable() else "\N{REPLACEMENT CHARACTER}" for item in text)
