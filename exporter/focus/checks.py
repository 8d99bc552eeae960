"""The conformance check: streaming, one pass, in bounded memory.

What a rule needs beyond one row is bounded too: rows are compared with those up to `DUPLICATE_REACH` before them, by a
64-bit hash; what belongs to what is remembered for `MOST_REMEMBERED` services, prices and invoices each. Where a file
goes beyond that, the report says so.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from decimal import Decimal

from exporter.focus.columns import COLUMNS, Column, columns_of, is_custom
from exporter.focus.csv_parser import Record, Records, unquoted
from exporter.focus.findings import Findings, Level, Rule, TruncatedFileError
from exporter.focus.row_schema import Header, nothing_at_all, parse_header
from exporter.focus.rules import FIELD_RULES, ROW_RULES, Instants, Numbers, Row, Verdict, judge
from exporter.focus.values import EXACTLY

DUPLICATE_REACH = 500_000
"""Number of rows within which a duplicate is certainly seen."""

MOST_REMEMBERED = 100_000
"""Relations and invoices that are remembered, of each kind."""

_KEPT = 20
_MOST_VERDICTS = 20_000
_LONGEST_REMEMBERED = 500

MISSING = Rule("column-missing", "Columns: presence", "every file has the column")
UNKNOWN = Rule("column-custom-prefix", "Attributes: Column Naming", "a column not of the specification begins with x_")
VERSION = Rule("column-version", "Columns: introduced in, removed in", "the file's version has the column")
NO_ROWS = Rule("no-rows", "Cost and Usage", "there is at least one row")
RECORD = Rule("csv-record", "CSV, RFC 4180", "a row has as many fields as the header")
DUPLICATE = Rule("duplicate-row", "Attributes: Delivery Handling", "no row occurs twice", Level.SHOULD)
SERVICE = Rule("service-category", "Columns: ServiceName", "a service belongs to one service category")
SKU_PRICE = Rule("sku-price-parent", "Columns: SkuPriceId", "an SKU price belongs to one SKU")
INVOICE = Rule("invoice-currency", "Columns: InvoiceId", "an invoice has one currency")

RULES = (
    *(MISSING, UNKNOWN, VERSION, NO_ROWS, RECORD, *FIELD_RULES, *(item.rule for item in ROW_RULES)),
    *(DUPLICATE, SERVICE, SKU_PRICE, INVOICE),
)
"""Every rule, in the order of reports."""

_PARENTS = ((SERVICE, "ServiceName", "ServiceCategory"), (SKU_PRICE, "SkuPriceId", "SkuId"))


@dataclass(slots=True)
class Report:
    """Result of a check.

    Attributes:
        version: of FOCUS, against which the file was checked.
        invoices: the sum of BilledCost of every invoice id and currency; the empty id stands for rows without.
        notes: what the check could not do to the end.
    """

    version: str
    columns: int
    findings: Findings
    rows: int = 0
    invoices: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def rules(self) -> list[Rule]:
        """The rules of the version."""
        return [rule for rule in RULES if rule.since <= self.version <= rule.until]

    @property
    def is_clean(self) -> bool:
        """True if no rule is broken."""
        return not self.findings.counts


class Verdicts(dict[bytes, Verdict]):
    """Verdicts on the fields of one column: each text is judged once as long as it is remembered."""

    def __init__(self, column: Column | None) -> None:
        super().__init__()
        self._column = column

    def __missing__(self, raw: bytes) -> Verdict:
        """Judge a field that is not remembered."""
        found = judge(self._column, raw)
        if len(raw) <= _LONGEST_REMEMBERED:
            if len(self) >= _MOST_VERDICTS:
                self.clear()
            self[raw] = found
        return found


class Checker:
    """Checks one file; push its bytes with `feed`, get the report with `finish`.

    Args:
        version: of FOCUS to check against; None for the oldest whose columns the file fits best.
        keep: how many findings of each rule are kept word by word; all are counted.
    """

    def __init__(self, version: str | None = None, *, keep: int = _KEPT) -> None:
        self._version = version
        self._records = Records()
        self._findings = Findings(keep)
        self._header: Header | None = None
        self._report = Report(version or "", 0, self._findings)
        self._verdicts: list[Verdicts] = []
        self._numbers = Numbers()
        self._instants = Instants()
        self._seen: tuple[set[int], set[int]] = (set(), set())
        self._parents: dict[tuple[Rule, str], str] = {}
        self._currencies: dict[str, str] = {}
        self._row_rules = ROW_RULES

    def feed(self, piece: bytes) -> None:
        """Take a piece.

        Raises:
            WrongContentError: this is no Cost and Usage file.
        """
        for record in self._records.feed(piece):
            self._take(record, is_last=False)

    def finish(self) -> Report:
        """Return the report.

        Raises:
            TruncatedFileError: the file was cut off.
            WrongContentError: there was no header at all.
        """
        for record in self._records.finish():
            self._take(record, is_last=True)
        if self._header is None:
            raise nothing_at_all()
        if not self._report.rows:
            self._findings.add(NO_ROWS, 0, "", "")
        return self._report

    def _take(self, record: Record, *, is_last: bool) -> None:
        if self._header is None:
            self._begin(parse_header(record))
            return
        width = len(self._verdicts)
        if record.malformed or len(record.fields) != width:
            if is_last and not record.malformed and len(record.fields) < width:
                raise TruncatedFileError(
                    f"the file ends inside line {record.line}, which has {len(record.fields)} of {width} fields: "
                    "it was cut off; download it again"
                )
            note = record.malformed or f"it has {len(record.fields)} fields, the header {width}"
            self._findings.add(RECORD, record.line, "", "", note)
            return
        self._report.rows += 1
        row = self._judge_fields(self._header, record)
        for rule, find in self._row_rules:
            for column, note in find(row):
                self._findings.add(rule, record.line, column, row.text(column) or "", note)
        self._find_duplicate(record)
        self._find_strays(record.line, row)
        self._sum_up(record.line, row)

    def _begin(self, header: Header) -> None:
        self._header = header
        version = self._version or header.version
        self._report.version, self._report.columns = version, len(header.names)
        for column in columns_of(version):
            # A deprecated column may be left out once the one that takes its place is there.
            replaced = column.until == version and "ServiceProviderName" in header.names
            if column.mandatory and column.name not in header.names and not replaced:
                self._findings.add(MISSING, 1, column.name, "")
        for name in header.names:
            known = COLUMNS.get(name)
            if known is None and not is_custom(name):
                self._findings.add(UNKNOWN, 1, name, name)
            elif known is not None and not known.is_in(version):
                self._findings.add(VERSION, 1, name, name, f"FOCUS {version} does not have it")
        self._verdicts = [Verdicts(COLUMNS.get(name)) for name in header.names]
        self._row_rules = tuple(item for item in ROW_RULES if item.rule.since <= version <= item.rule.until)

    def _judge_fields(self, header: Header, record: Record) -> Row:
        found = list(map(Verdicts.__getitem__, self._verdicts, record.fields))
        for name, raw, verdict in zip(header.names, record.fields, found, strict=True):
            if verdict.rule is not None:
                shown = unquoted(raw).decode("utf-8", "backslashreplace")
                self._findings.add(verdict.rule, record.line, name, shown, verdict.note)
        texts = dict(zip(header.names, (verdict.text for verdict in found), strict=True))
        return Row(texts, self._numbers, self._instants)

    def _find_duplicate(self, record: Record) -> None:
        digest = hash(tuple(record.fields))
        recent, earlier = self._seen
        if digest in recent or digest in earlier:
            self._findings.add(DUPLICATE, record.line, "", "", "an equal row came before it")
            return
        recent.add(digest)
        if len(recent) >= DUPLICATE_REACH:
            self._seen = (set(), recent)
            self._note(f"duplicates were searched within {DUPLICATE_REACH:,} rows of each other")

    def _find_strays(self, line: int, row: Row) -> None:
        for rule, child_column, parent_column in _PARENTS:
            child, parent = row.text(child_column), row.text(parent_column)
            if child is None or parent is None:
                continue
            if not self._has_room(self._parents, (rule, child), "services and prices beyond {:,} were not compared"):
                continue
            known = self._parents.setdefault((rule, child), parent)
            if known != parent:
                self._findings.add(
                    rule, line, parent_column, parent, f"{child_column} {child} came with {known} before"
                )

    def _sum_up(self, line: int, row: Row) -> None:
        invoice, currency = row.text("InvoiceId") or "", row.text("BillingCurrency") or ""
        beyond = "invoices beyond {:,} were not summed up"
        if invoice and self._has_room(self._currencies, invoice, beyond):
            known = self._currencies.setdefault(invoice, currency)
            if known != currency:
                self._findings.add(INVOICE, line, "BillingCurrency", currency, f"invoice {invoice} is in {known}")
        billed = row.number("BilledCost")
        sums = self._report.invoices
        if billed is not None and self._has_room(sums, (invoice, currency), beyond):
            sums[invoice, currency] = EXACTLY.add(sums.get((invoice, currency), Decimal(0)), billed)

    def _has_room(self, remembered: Collection[object], key: object, note: str) -> bool:
        if key in remembered or len(remembered) < MOST_REMEMBERED:
            return True
        self._note(note.format(MOST_REMEMBERED))
        return False

    def _note(self, note: str) -> None:
        if note not in self._report.notes:
            self._report.notes.append(note)
