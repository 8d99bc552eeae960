"""For each rule that a file can break, files that break it and nothing else, and files nearby that do not.

Made from the table: the kind of a rule says how it is broken. A mutation is tried in each row of a base file in which
it can break the rule; what follows from it (a unit goes with its quantity) is set right by the other rules, never by
this one. So a rule of a new kind, or one that no row can break alone, has no pair and its test fails.
"""

import csv
import io
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache

from exporter.focus.check_report import Report
from exporter.focus.checks import Checker
from exporter.focus.columns import COLUMNS, Column, columns_of
from exporter.focus.columns import Kind as ColumnKind
from exporter.focus.expected import hold, parse_expected
from exporter.focus.rules.conditions import Atom, Token
from exporter.focus.rules.table import Applicability, Kind, Rule, by_id

FileRow = dict[str, str]
_MOST_REPAIRS = 8


@dataclass(frozen=True, slots=True)
class File:
    """A file that is to be checked.

    Attributes:
        raw: texts that replace others after it was written, to break its encoding or its records.
        needs: what the provider is said to support.
        expected: what is to be paid for invoices.
    """

    version: str
    names: tuple[str, ...]
    rows: tuple[FileRow, ...]
    raw: tuple[tuple[bytes, bytes], ...] = ()
    needs: tuple[str, ...] = ()
    expected: tuple[str, ...] = ()

    def with_row(self, row: FileRow, place: int = 0) -> "File":
        """Return the file with another row in a place."""
        return replace(self, rows=(*self.rows[:place], row, *self.rows[place + 1 :]))

    def only(self, place: int) -> "File":
        """Return the file with one of its rows."""
        return replace(self, rows=(self.rows[place],))

    def checked(self) -> Report:
        """Return the report on it."""
        checker = Checker(self.version, applicability=Applicability(dict.fromkeys(self.needs, True)))
        checker.feed(self.written)
        report = checker.finish()
        if self.expected:
            hold(report, [parse_expected(text) for text in self.expected])
        return report

    @property
    def written(self) -> bytes:
        """The file as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.names)
        writer.writerows([row.get(name, "") for name in self.names] for row in self.rows)
        data = text.getvalue().encode()
        for old, new in self.raw:
            assert old in data
            data = data.replace(old, new)
        return data


def _cost(row: FileRow, cost: str, **others: str) -> FileRow:
    costs = ("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "PricingCurrencyEffectiveCost")
    return row | dict.fromkeys(costs, cost) | others


_ALLOCATED = '{"Elements": [{"AllocatedRatio": 0.5, "UsageUnit": "Hours", "UsageQuantity": 3}]}'
_CONTRACT = '{"Elements": [{"ContractId": "c", "ContractCommitmentId": "t", "ContractCommitmentAppliedCost": 1}]}'
_PROGRAMS = '{"CommitmentPrograms": [{"ProgramType": "Discount"}]}'


def _common(number: int, version: str) -> FileRow:
    """Return what every row has; no two rows have a service, a price or an invoice in common."""
    row = {
        "AvailabilityZone": f"zone-{number}",
        "BillingAccountId": "account",
        "BillingAccountName": "Account",
        "BillingAccountType": "Organization",
        "BillingCurrency": "USD",
        "BillingPeriodStart": "2026-10-01T00:00:00Z",
        "BillingPeriodEnd": "2026-11-01T00:00:00Z",
        "ChargeDescription": f"charge {number}",
        "ChargeFrequency": "One-Time",
        "ChargePeriodStart": "2026-10-02T00:00:00Z",
        "ChargePeriodEnd": "2026-10-03T00:00:00Z",
        "InvoiceId": f"in-{number}",
        "InvoiceDetailId": f"line-{number}",
        "InvoiceIssuerName": "Provider",
        "PricingCurrency": "Tokens",
        "ProviderName": "Provider",
        "PublisherName": "Publisher",
        "ServiceProviderName": "Provider",
        "HostProviderName": "Host",
        "RegionId": "eu",
        "RegionName": "Europe",
        "ResourceId": f"resource-{number}",
        "ResourceName": f"Resource {number}",
        "ResourceType": "Server",
        "ServiceCategory": "Compute",
        "ServiceName": f"Service {number}",
        "ServiceSubcategory": "Containers",
        "SubAccountId": "sub",
        "SubAccountName": "Sub",
        "SubAccountType": "Team",
        "Tags": '{"app": "shop"}',
    }
    if version >= "1.3":
        row |= {"AllocatedMethodId": "m", "AllocatedMethodDetails": _ALLOCATED, "AllocatedTags": '{"a": "b"}'}
        row |= {"AllocatedResourceId": "part", "AllocatedResourceName": "Part", "ContractApplied": _CONTRACT}
    if version >= "1.4":
        row |= {"CommitmentProgramEligibilityDetails": _PROGRAMS}
    return row


def _priced(number: int) -> FileRow:
    return {
        "ContractedUnitPrice": "1.5",
        "ListUnitPrice": "1.5",
        "PricingCurrencyContractedUnitPrice": "15.0",
        "PricingCurrencyListUnitPrice": "15.0",
        "PricingCategory": "Standard",
        "PricingQuantity": "3.0",
        "PricingUnit": "Hours",
        "SkuId": f"sku-{number}",
        "SkuMeter": "Time",
        "SkuPriceDetails": '{"CoreCount": 4, "x_Own": true}',
        "SkuPriceId": f"price-{number}",
    }


_RESERVED = {"CapacityReservationId": "reservation", "CapacityReservationStatus": "Used"}
_CONSUMED = {"ConsumedQuantity": "3.0", "ConsumedUnit": "Hours"}


def _committed(status: str, number: int) -> FileRow:
    return {
        "CommitmentDiscountCategory": "Usage",
        "CommitmentDiscountId": f"commitment-{number}",
        "CommitmentDiscountName": "Commitment",
        "CommitmentDiscountQuantity": "3.0",
        "CommitmentDiscountStatus": status,
        "CommitmentDiscountType": "Plan",
        "CommitmentDiscountUnit": "Hours",
    }


def _kinds(version: str) -> Iterator[FileRow]:
    """Yield a row of every kind of charge."""
    usage = {"ChargeCategory": "Usage", "ChargeFrequency": "Usage-Based"}
    yield _cost(_common(0, version) | usage | _priced(0) | _CONSUMED | _RESERVED, "4.5")
    yield _cost(
        _common(1, version) | usage | _priced(1) | _CONSUMED | _committed("Used", 1), "4.5", PricingCategory="Committed"
    )
    unused = _common(2, version) | usage | _priced(2) | _committed("Unused", 2)
    yield _cost(unused, "4.5", ResourceId="commitment-2", PricingCategory="Other")
    purchase = _common(3, version) | _priced(3) | _committed("", 3) | {"ChargeCategory": "Purchase"}
    yield _cost(purchase, "4.5", EffectiveCost="0.0", PricingCurrencyEffectiveCost="0.0")
    yield _cost(_common(4, version) | {"ChargeCategory": "Tax"}, "2.0")
    yield _cost(_common(5, version) | {"ChargeCategory": "Credit"}, "-2.0")
    yield _cost(_common(6, version) | {"ChargeCategory": "Adjustment"}, "2.0")
    yield _cost(_common(7, version) | usage | {"ChargeClass": "Correction"}, "2.0")
    # A price without its key is no more than an amount: only before 1.3, where prices could stand alone.
    yield _cost(_common(8, version) | usage | _priced(8) | _CONSUMED, "4.5", ChargeClass="Correction")
    same = dict.fromkeys(("PricingCurrencyListUnitPrice", "PricingCurrencyContractedUnitPrice"), "1.5")
    yield _cost(_common(9, version) | usage | _priced(9) | _CONSUMED | same, "4.5", PricingCurrency="USD")
    # Nothing but what must not be null.
    lean = {name: text for name, text in _common(10, version).items() if not _nullable(name)}
    lean |= {"BillingAccountName": "Account", "ChargeDescription": "lean"}
    yield _cost(lean | {"ChargeCategory": "Adjustment"}, "2.0")
    yield _cost(_common(11, version) | _priced(11) | {"ChargeCategory": "Purchase"}, "4.5")
    unmeasured = {"CommitmentDiscountQuantity": "", "CommitmentDiscountUnit": "", "ChargeClass": "Correction"}
    yield _cost(_common(12, version) | usage | _committed("Used", 12) | unmeasured, "2.0", x_Own="last")


def _nullable(name: str) -> bool:
    return COLUMNS[name].nullable


@cache
def base(version: str) -> File:
    """Return a file of a version with all its columns, which breaks no rule."""
    names = (*(column.name for column in columns_of(version)), "x_Own")
    return File(version, names, tuple({"x_Own": "own", **row} for row in _kinds(version)))


OTHERS: Mapping[ColumnKind, tuple[str, ...]] = {
    ColumnKind.TEXT: ("other",),
    ColumnKind.NUMBER: ("7.5", "0.0"),
    ColumnKind.PRICE: ("7.5", "0.0"),
    ColumnKind.INSTANT: ("2026-10-02T12:00:00Z",),
    ColumnKind.CURRENCY: ("EUR",),
    ColumnKind.UNIT: ("Hours", "Seconds"),
    ColumnKind.KEY_VALUE: ('{"x_Other": 1}',),
    ColumnKind.OBJECT: (_ALLOCATED, _CONTRACT, _PROGRAMS),
}


def samples(column: Column) -> list[str]:
    """Return texts that a column can hold."""
    return sorted(column.allowed) or list(OTHERS[column.kind])


TYPE_TEXT: Mapping[str, str] = {"number": "dear", "instant": "yesterday"}
FORMATS: Mapping[str, Callable[[str], str]] = {
    "text": lambda text: f"{text}\x01",
    "number": lambda text: text.replace("-", "") if text.startswith("-") else f"+{text}",
    "instant": lambda text: text.replace("T", " "),
    "unit": lambda _: "images used",
    "currency": lambda _: "usd",
    "key-value": lambda _: "[]",
    "object": lambda _: "[]",
}
GOOD_FORMATS: Mapping[str, Callable[[str], str]] = {
    "text": lambda text: f"{text} \u00e9\n\u6f22",
    "number": lambda text: f"{Decimal(text).scaleb(7):f}E-7",
    "instant": lambda text: text.replace("Z", ".000Z"),
    "unit": lambda _: "1000 Tokens",
    "currency": lambda _: "EUR",
    "key-value": lambda _: '{"CoreCount": 1.5, "x_Own": null}',
    "object": lambda text: text.replace('"Elements"', '"x_Note": "a", "Elements"'),
}

KEYS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("SkuPriceDetails", "pascal"): ('{"x_own_key": 1}', '{"x_OwnKey2": 1}'),
    ("SkuPriceDetails", "prefix"): ('{"Colour": "red"}', '{"x_Colour": "red"}'),
    ("SkuPriceDetails", "spelling"): ('{"corecount": 4}', '{"CoreCount": 4}'),
    ("SkuPriceDetails", "type"): ('{"CoreCount": "4"}', '{"CoreCount": 4, "InstanceType": "a"}'),
    ("AllocatedMethodDetails", "array"): ('{"Elements": []}', '{"Elements": [{"AllocatedRatio": 1}]}'),
    ("AllocatedMethodDetails", "elements"): ('{"Elements": [1]}', '{"Elements": [{"AllocatedRatio": 1}]}'),
    ("AllocatedMethodDetails", "scalars"): (
        '{"Elements": [{"AllocatedRatio": 1, "x_A": []}]}',
        '{"Elements": [{"AllocatedRatio": 1, "x_A": null}]}',
    ),
    ("AllocatedMethodDetails", "prefix"): ('{"Elements": [{"AllocatedRatio": 1}], "A": 1}', _ALLOCATED),
    ("AllocatedMethodDetails", "AllocatedRatio"): ('{"Elements": [{"UsageUnit": "Hours"}]}', _ALLOCATED),
    ("AllocatedMethodDetails", "AllocatedRatio:ratio"): (
        '{"Elements": [{"AllocatedRatio": 1.01}]}',
        '{"Elements": [{"AllocatedRatio": 1.00}, {"AllocatedRatio": 0}]}',
    ),
    ("AllocatedMethodDetails", "UsageQuantity:unit"): (
        '{"Elements": [{"AllocatedRatio": 1, "UsageQuantity": 3}]}',
        '{"Elements": [{"AllocatedRatio": 1, "UsageQuantity": null, "UsageUnit": null}]}',
    ),
    ("ContractApplied", "array"): ('{"x_A": 1}', _CONTRACT),
    ("ContractApplied", "elements"): ('{"Elements": ["a"]}', _CONTRACT),
    ("ContractApplied", "scalars"): (_CONTRACT.replace("}]", ', "x_A": {}}]'), _CONTRACT.replace("}]", ', "x_A": 1}]')),
    ("ContractApplied", "prefix"): (_CONTRACT.replace("}]", ', "A": 1}]'), _CONTRACT.replace("]}", '], "x_A": 1}')),
    ("ContractApplied", "spelling"): (_CONTRACT.replace('"ContractId"', '"contractid"'), _CONTRACT),
    ("ContractApplied", "type"): (_CONTRACT.replace('"c"', "1"), _CONTRACT.replace("1", "-1.5")),
    ("ContractApplied", "ContractId"): (_CONTRACT.replace('"ContractId": "c", ', ""), _CONTRACT),
    ("ContractApplied", "ContractCommitmentId"): (_CONTRACT.replace('"ContractCommitmentId": "t", ', ""), _CONTRACT),
    ("ContractApplied", "cost-or-quantity"): (
        _CONTRACT.replace("}]", ', "ContractCommitmentAppliedUnit": "Hours"}]'),
        _CONTRACT.replace("Cost", "Quantity").replace("}]", ', "ContractCommitmentAppliedUnit": "Hours"}]'),
    ),
    ("CommitmentProgramEligibilityDetails", "array"): ('{"CommitmentPrograms": {}}', _PROGRAMS),
    ("CommitmentProgramEligibilityDetails", "elements"): ('{"CommitmentPrograms": [[]]}', _PROGRAMS),
    ("CommitmentProgramEligibilityDetails", "scalars"): (
        '{"CommitmentPrograms": [{"ProgramType": "a", "x_A": {}}]}',
        '{"CommitmentPrograms": [{"ProgramType": "a", "x_A": true}]}',
    ),
    ("CommitmentProgramEligibilityDetails", "prefix"): (
        '{"CommitmentPrograms": [{"ProgramType": "a", "A": 1}]}',
        '{"CommitmentPrograms": [{"ProgramType": "a", "x_A": 1}], "x_B": []}',
    ),
    ("CommitmentProgramEligibilityDetails", "ProgramType"): ('{"CommitmentPrograms": [{"x_A": 1}]}', _PROGRAMS),
    ("CommitmentProgramEligibilityDetails", "type"): ('{"CommitmentPrograms": [{"ProgramType": 1}]}', _PROGRAMS),
}
"""Documents that break a rule on keys, and documents that do not."""

ATTRIBUTES: Mapping[str, tuple[str, str, str]] = {
    "DateTimeFormat-A-001-M": ("ChargePeriodStart", "2026-10-02T02:00:00+02:00", "2026-10-02T00:00:00Z"),
    "DateTimeFormat-A-002-M": ("ChargePeriodStart", "02.10.2026 00:00", "2026-10-02T00:00:00.0Z"),
    "DateTimeFormat-A-004-M": ("ChargePeriodStart", "2026-10-02", "2026-10-02T00:00:00Z"),
    "DateTimeFormat-A-005-M": ("ChargePeriodStart", "2026-10-02T00:00Z", "2026-10-02T00:00:00Z"),
    "DateTimeFormat-A-006-M": ("ChargePeriodStart", "2026-10-02T00:00:00+00:00", "2026-10-02T00:00:00Z"),
    "CurrencyFormat-A-001-C": ("BillingCurrency", "usd", "HRK"),
    "CurrencyFormat-A-002-C": ("PricingCurrency", "Tok\x02ens", "fal credits"),
    "NumericFormat-A-002-M": ("BilledCost", "4.5;4.5", "4.5"),
    "NumericFormat-A-003-M": ("BilledCost", ".5", "0.5"),
    "NumericFormat-A-004-M": ("BilledCost", "9/2", "4.5"),
    "NumericFormat-A-005-M": ("BilledCost", "45e-1", "45E-1"),
    "NumericFormat-A-006-M": ("BilledCost", "4.5E+0", "4.5E0"),
    "NumericFormat-A-007-M": ("BilledCost", "=4+5", "9"),
    "NumericFormat-A-008-M": ("BilledCost", "$40.198572", "40.198572"),
    "NumericFormat-A-009-M": ("BilledCost", "1,234.5", "1234.5"),
    "NumericFormat-A-010-M": ("BilledCost", "+4.5", "4.5"),
    "NumericFormat-A-011-M": ("BilledCost", "(4.5)", "-4.5"),
    "StringHandling-A-001-M": ("ChargeDescription", "a\x00b", "a\tb"),
    "UnitFormat-A-001-M": ("PricingUnit", "GB-Mo", "GB-Months"),
    "UnitFormat-A-003-M": ("PricingUnit", "hours", "Hours"),
    "KeyValueFormat-A-001-M": ("Tags", "app=shop", "{}"),
    "KeyValueFormat-A-002-M": ("Tags", '{"a": 1, "a": 1}', '{"a": 1, "A": 1}'),
    "KeyValueFormat-A-003-M": ("Tags", '{"a": [1]}', '{"a": 1, "b": "c", "d": true, "e": null}'),
    "KeyValueFormat-A-004-M": ("Tags", '{"a": {"b": 1}}', '{"a": "{}"}'),
    "NullHandling-A-001-C": ("RegionName", "NULL", "Null Island"),
    "NullHandling-A-002-M": ("RegionName", "Not Applicable", "NA"),
    "StringHandling-A-007-M": ("ServiceName", "   ", " Service "),
    "X-NumberBounds": ("BilledCost", "1E70", f"1.{'0' * 59}1"),
    "X-FloatNoise": ("BilledCost", "0.30000000000000004", "0.1234567890123456"),
}
"""A column, a text in it that breaks the rule, and one nearby that does not."""

HEADERS: Mapping[str, tuple[Callable[[list[str]], list[str]], Callable[[list[str]], list[str]]]] = {
    "pascal": (lambda names: [*names[:-1], "tags"], lambda names: [*names[:-1], "x_Tags"]),
    "letters": (lambda names: [*names[:-1], "sku_meter"], lambda names: [*names[:-1], "x_SkuMeter"]),
    "length": (lambda names: [*names[:-1], f"x_{'A' * 49}"], lambda names: [*names[:-1], f"x_{'A' * 48}"]),
    "prefix": (lambda names: [*names[:-1], "Environment"], lambda names: [*names[:-1], "x_Environment"]),
    "custom-pascal": (lambda names: [*names[:-1], "x_own_column"], lambda names: [*names[:-1], "x_OwnColumn2"]),
    "focus-first": (lambda names: [names[-1], *names[:-1]], lambda names: names),
    "custom-last": (lambda names: [names[0], names[-1], *names[1:-1]], lambda names: [names[1], names[0], *names[2:]]),
}


@dataclass(slots=True)
class Pair:
    """Files that may break a rule alone, and files nearby that may not break any."""

    wrong: Iterable[File] = field(default_factory=list)
    right: Iterable[File] = field(default_factory=list)


def pair_of(rule: Rule, version: str) -> Pair:
    """Return the candidates for a rule's mutation and its valid neighbour.

    Raises:
        KeyError: there is no way to break a rule of its kind.
    """
    return _MAKERS[rule.kind](rule, replace(base(version), needs=rule.needs))


def _one_field(rule: Rule, file: File, wrong: Callable[[str], str], right: Callable[[str], str]) -> Pair:
    """Change a field in each row that fills it."""

    def changed(change: Callable[[str], str]) -> Iterator[File]:
        for place, row in enumerate(file.rows):
            if row.get(rule.column):
                yield file.only(place).with_row(row | {rule.column: change(row[rule.column])})

    return Pair(changed(wrong), changed(right))


def _texts(rule: Rule, file: File) -> Iterable[File]:
    """Return files in which a column holds other text that is right."""
    column = COLUMNS[rule.column]
    if column.allowed:
        return [file]
    change = {
        ColumnKind.TEXT: GOOD_FORMATS["text"],
        ColumnKind.OBJECT: lambda text: text.replace("0.5", "0.25"),
    }.get(column.kind, lambda _: samples(column)[-1])
    files = _one_field(rule, file, lambda _: "", change).right
    if rule.column in _COMPARED:
        return [item.with_row(item.rows[0] | dict.fromkeys(_COMPARED, item.rows[0][rule.column])) for item in files]
    return files


_COMPARED = ("InvoiceIssuerName", "ProviderName")
"""Columns that have to be equal where something is billed."""


def _type(rule: Rule, file: File) -> Pair:
    if rule.value == "text":
        wrong = _one_field(rule, file, lambda text: f"{text}~", GOOD_FORMATS["text"]).wrong
        return Pair([replace(item, raw=((b"~", b"\xc4"),)) for item in wrong], _texts(rule, file))
    return _one_field(rule, file, lambda _: TYPE_TEXT[rule.value], GOOD_FORMATS[rule.value])


def _format(rule: Rule, file: File) -> Pair:
    if rule.value == "text":
        return Pair(_one_field(rule, file, FORMATS["text"], FORMATS["text"]).wrong, _texts(rule, file))
    return _one_field(rule, file, FORMATS[rule.value], GOOD_FORMATS[rule.value])


def _attribute(rule: Rule, file: File) -> Pair:
    column, wrong, right = ATTRIBUTES[rule.id]
    return _one_field(replace(rule, column=column), file, lambda _: wrong, lambda _: right)


def _conditional(rule: Rule, file: File, change: Callable[[FileRow], Iterable[FileRow]]) -> Pair:
    """Change rows in which the condition of a rule holds, and rows nearby in which it does not."""

    def changed(*, holds: bool) -> Iterator[File]:
        for row in _rows_for(rule, file, holds=holds):
            for each in change(row):
                yield replace(file, rows=(each,))

    if any(atom.compares_null and not _nullable(atom.column) for atom in rule.when.atoms):
        return Pair(changed(holds=True), [file])
    return Pair(changed(holds=True), changed(holds=False) if rule.when.alternatives else [file])


def _rows_for(rule: Rule, file: File, *, holds: bool) -> Iterator[FileRow]:
    for row in file.rows:
        if rule.when.holds(_tokens(row)) == holds:
            yield row
    if holds:
        for row in file.rows:
            for alternative in rule.when.alternatives:
                made = dict(row)
                for atom in alternative:
                    made[atom.column] = _meeting(atom, made)
                yield made


def _meeting(atom: Atom, row: FileRow) -> str:
    """Return a text with which a row meets an atom."""
    if atom.other:
        return row.get(atom.other, "") if atom.holds_if_equal else "somebody else"
    if atom.values:
        return atom.values[0] if atom.holds_if_equal else ""
    return "" if atom.holds_if_equal else row.get(atom.column) or samples(COLUMNS[atom.column])[0]


def _tokens(row: FileRow) -> Callable[[str], Token]:
    return lambda name: row.get(name) or None


def _null(rule: Rule, file: File) -> Pair:
    texts = [row[rule.column] for row in file.rows if row.get(rule.column)] + samples(COLUMNS[rule.column])
    return _conditional(
        rule,
        file,
        lambda row: [row | {rule.column: text} for text in ([row[rule.column]] if row.get(rule.column) else texts)],
    )


def _not_null(rule: Rule, file: File) -> Pair:
    return _conditional(rule, file, lambda row: [row | {rule.column: ""}])


def _equal(rule: Rule, file: File) -> Pair:
    column = COLUMNS[rule.column]

    def texts(row: FileRow) -> list[str]:
        if column.is_number:
            return [f"{Decimal(row.get(rule.column) or 0) + 1}"]
        return [text for text in (*samples(column), *(other.get(rule.column, "") for other in file.rows)) if text]

    return _conditional(rule, file, lambda row: [row | {rule.column: text} for text in texts(row)])


def _product(rule: Rule, file: File) -> Pair:
    def off(by: str) -> Iterator[File]:
        for row in _rows_for(rule, file, holds=True):
            if all(row.get(name) for name in (rule.column, *rule.values)):
                yield replace(file, rows=(row | {rule.column: f"{Decimal(row[rule.column]) + Decimal(by)}"},))

    return Pair(off("0.00001"), off("0.000000001"))


def _at_least(rule: Rule, file: File) -> Pair:
    costs = {"ListUnitPrice": "ListCost", "ContractedUnitPrice": "ContractedCost"}

    def priced(factor: str) -> Iterator[File]:
        for place, row in enumerate(file.rows):
            if row.get(rule.column):
                names = [name for name in (rule.column, costs.get(rule.column)) if name]
                yield file.only(place).with_row(
                    row | {name: f"{Decimal(row[name]) * Decimal(factor)}" for name in names}
                )

    return Pair(priced("-1"), priced("0"))


def _one_of_each(rule: Rule, file: File) -> Pair:
    """Give two rows the same child and different parents."""
    child = rule.values[0]
    filled = [row for row in file.rows if row.get(rule.column) and row.get(child)]

    def two(child_of_second: str) -> Iterator[File]:
        column = COLUMNS[rule.column]
        for first in filled:
            for second in filled:
                for parent in (second[rule.column], *samples(column)):
                    changed = second | {
                        rule.column: parent,
                        child: first[child] if child_of_second == "same" else "another",
                    }
                    if column.name == "ServiceCategory":
                        changed |= {"ServiceCategory": "Web", "ServiceSubcategory": "Application Platforms"}
                    if column.name == "ServiceSubcategory":
                        changed |= {"ServiceCategory": "Compute", "ServiceSubcategory": "Quantum Compute"}
                    if first is not second and changed[rule.column] != first[rule.column]:
                        yield replace(file, rows=(first, changed))

    return Pair(two("same"), two("other"))


def _member(rule: Rule, file: File) -> Pair:
    return _one_field(rule, file, lambda _: "Bots", lambda _: "Virtual Machines")


def _start(rule: Rule, file: File) -> Pair:
    def begun(end: str) -> Iterator[File]:
        for place, row in enumerate(file.rows):
            yield file.only(place).with_row(row | {rule.values[0]: row[rule.column] if end == "same" else end})

    return Pair(begun("same"), begun("2026-11-01T00:00:00Z"))


def _exclusive_end(rule: Rule, file: File) -> Pair:
    wrong = "2026-10-31T23:59:59Z"
    minute = {"ChargePeriodStart": "2026-10-31T23:58:59Z", "ChargePeriodEnd": wrong}
    right = minute if rule.column == "ChargePeriodEnd" else {rule.column: "2026-11-01T00:00:00Z"}
    return Pair(
        [file.only(0).with_row(file.rows[0] | {rule.column: wrong})],
        [file.only(0).with_row(file.rows[0] | right)],
    )


def _within(_: Rule, file: File) -> Pair:
    late = {"ChargePeriodStart": "2026-10-31T00:00:00Z", "ChargePeriodEnd": "2026-11-01T00:00:01Z"}
    whole = {"ChargePeriodStart": "2026-10-01T00:00:00Z", "ChargePeriodEnd": "2026-11-01T00:00:00Z"}
    return Pair([file.only(0).with_row(file.rows[0] | late)], [file.only(0).with_row(file.rows[0] | whole)])


def _keys(rule: Rule, file: File) -> Pair:
    wrong, right = KEYS[rule.column, rule.value]
    return _one_field(rule, file, lambda _: wrong, lambda _: right)


def _header(rule: Rule, file: File) -> Pair:
    wrong, right = HEADERS[rule.value]
    names = list(file.names)
    return Pair([replace(file, names=tuple(wrong(names)))], [replace(file, names=tuple(right(names)))])


def _presence(rule: Rule, file: File) -> Pair:
    left = tuple(name for name in file.names if name != rule.column)
    lacking = [replace(file.only(place), names=left) for place in range(len(file.rows))]
    return Pair([replace(file, names=left), *lacking], [replace(file, names=(rule.column, *left))])


def _file(rule: Rule, file: File) -> Pair:
    match rule.value:
        case "rows":
            return Pair([replace(file, rows=())], [file.only(0)])
        case "record":
            last = f",{file.rows[-1]['x_Own']}\n".encode()
            return Pair([replace(file, raw=((last, last[:-1] + b",\n"),))], [file])
        case "version":
            stranger = "PricingCurrencyX" if file.version == "1.4" else "InvoiceDetailId"
            stranger = "ProviderName" if file.version == "1.4" else stranger
            return Pair([replace(file, names=(stranger, *file.names))], [replace(file, names=(*file.names, "x_New"))])
        case "duplicate":
            twice = (file.rows[0], file.rows[0])
            return Pair([replace(file, rows=twice)], [replace(file, rows=(twice[0], twice[1] | {"x_Own": "2"}))])
        case _:
            return _attribute(rule, file)


def _invoice(_: Rule, file: File) -> Pair:
    billed = sum(Decimal(row["BilledCost"]) for row in file.rows)
    invoiced = replace(file, rows=tuple(row | {"InvoiceId": "INV-1"} for row in file.rows))
    return Pair(
        [replace(invoiced, expected=(f"INV-1={billed + Decimal('0.000000001'):f}",))],
        [replace(invoiced, expected=(f"INV-1={billed:f}",))],
    )


def _same_as(rule: Rule, file: File) -> Pair:
    return pair_of(by_id()[rule.values[0]], file.version)


def _unequal(rule: Rule, file: File) -> Pair:
    return _conditional(rule, file, lambda row: [row | {rule.column: rule.value}])


def _national(rule: Rule, file: File) -> Pair:
    return _one_field(rule, file, lambda _: "ABC", lambda _: "HRK")


def _allowed(rule: Rule, file: File) -> Pair:
    pair = _one_field(rule, file, lambda _: "Nonsense", lambda text: text)
    return Pair(pair.wrong, [file])


_MAKERS: Mapping[Kind, Callable[[Rule, File], Pair]] = {
    Kind.PRESENCE: _presence,
    Kind.TYPE: _type,
    Kind.FORMAT: _format,
    Kind.ATTRIBUTE: _attribute,
    Kind.NULL: _null,
    Kind.NOT_NULL: _not_null,
    Kind.FINITE: lambda rule, file: _one_field(rule, file, lambda _: "NaN", GOOD_FORMATS["number"]),
    Kind.ALLOWED: _allowed,
    Kind.NATIONAL: _national,
    Kind.AT_LEAST: _at_least,
    Kind.EQUAL: _equal,
    Kind.UNEQUAL: _unequal,
    Kind.PRODUCT: _product,
    Kind.MEMBER: _member,
    Kind.ONE_OF_EACH: _one_of_each,
    Kind.START: _start,
    Kind.EXCLUSIVE_END: _exclusive_end,
    Kind.WITHIN: _within,
    Kind.KEYS: _keys,
    Kind.HEADER: _header,
    Kind.NULL_WORD: _attribute,
    Kind.PLACEHOLDER: _attribute,
    Kind.BLANK: _attribute,
    Kind.FILE: _file,
    Kind.INVOICE: _invoice,
    Kind.SAME_AS: _same_as,
}


def repaired(file: File, rule: Rule) -> tuple[File, Report]:
    """Return a file in whose only row what follows from its change has been set right, and the report on it.

    Other rules on nulls say what to set right; the columns that the rule looks at are left alone.
    """
    report = file.checked()
    for _ in range(_MOST_REPAIRS):
        if len(file.rows) != 1:
            break
        row = dict(file.rows[0])
        for broken in report.findings.counts:
            if broken is rule or broken.column in rule.columns or broken.column not in COLUMNS:
                continue
            if broken.kind is Kind.NULL:
                row[broken.column] = ""
            elif broken.kind is Kind.NOT_NULL:
                row[broken.column] = samples(COLUMNS[broken.column])[0]
        if row == file.rows[0]:
            break
        file = file.with_row(row)
        report = file.checked()
    return file, report


def mutation(rule: Rule, version: str, implied: Collection[str] = ()) -> tuple[File, Report]:
    """Return a file that breaks a rule, and no other but those that it implies, and the report on it.

    Raises:
        ValueError: there is none.
    """
    leader = by_id()[rule.values[0]] if rule.kind is Kind.SAME_AS else rule
    seen = []
    for candidate in pair_of(rule, version).wrong:
        file, report = repaired(candidate, leader)
        told = {broken.id for broken in report.findings.counts}
        if report.broken[rule] and len(told - {*implied}) == 1:
            return file, report
        seen.append(told)
    raise ValueError(f"no mutation breaks {rule.id} alone: {seen}")


def neighbour(rule: Rule, version: str) -> File:
    """Return a file near to the mutation of a rule that breaks none.

    Raises:
        ValueError: there is none.
    """
    seen = []
    for candidate in pair_of(rule, version).right:
        file, report = repaired(candidate, rule)
        if report.is_clean:
            return file
        seen.append({broken.id for broken in report.findings.counts})
    raise ValueError(f"no valid neighbour of {rule.id}: {seen}")
