"""Rules compiled for one header: a token for each field, and what follows from the tokens of a row.

A field becomes a token: None for null, its text where a condition compares it, else a mark; each distinct text is
judged once as long as it is remembered. All rules on nulls, categories and fixed values follow from the tokens of a row
alone, so they are evaluated once for each distinct row of tokens, of which a file has few. What is left for every row
are the few checks that look at numbers, periods and parents, and only those whose conditions the tokens meet.
"""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from operator import getitem
from typing import NamedTuple

from exporter.focus.columns import COLUMNS, SUBCATEGORIES, Column, is_custom
from exporter.focus.csv_parser import FieldValues, unquoted
from exporter.focus.rules.conditions import ABSENT, FILLED, WRONG, Mark, Token
from exporter.focus.rules.fields import Flaw, Flaws, judge_of, stand_in
from exporter.focus.rules.measures import Break, Check, Measures
from exporter.focus.rules.table import REASONS, Applicability, Kind, Rule, by_id, parts, rules_of, unsaid

_MOST_PLANS = 20_000


class FieldBreak(NamedTuple):
    """A rule that a field breaks.

    Attributes:
        attributes: the attributes of the specification that it breaks as well.
    """

    rule: Rule
    attributes: tuple[Rule, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Broken:
    """Token of a field that breaks rules: what conditions see instead, and the rules."""

    token: Token
    breaks: tuple[FieldBreak, ...]


FieldToken = Token | Broken
Signature = tuple[FieldToken, ...]


class Plan(NamedTuple):
    """Consequences of the tokens of a row.

    Attributes:
        fields: the rules that its fields break, with their places.
        breaks: the rules that it breaks as a whole.
        checks: what is left to look at.
    """

    fields: tuple[tuple[int, FieldBreak], ...]
    breaks: tuple[Break, ...]
    checks: tuple[Check, ...]


class Tokens(FieldValues[FieldToken]):
    """Tokens of one column by raw field."""

    def __init__(self, read: Callable[[bytes], FieldToken]) -> None:
        super().__init__()
        self._read = read

    def value(self, raw: bytes) -> FieldToken:
        """Judge a field."""
        return self._read(raw)

    def of(self, column: Sequence[bytes]) -> Sequence[FieldToken]:
        """Return the tokens of fields one below the other."""
        return [*map(self.__getitem__, column)]


_MOST_PLAIN_PLACES = 11
"""Decimal places of numbers that cannot be the noise of binary floating point, which has more."""

_LONGEST_PLAIN = 40
_PLAIN_NUMBERS = re.compile(rb"(?:\d{1,20}\.\d{1,11}(?:,|\Z))*+", re.ASCII)


class NumberTokens(Tokens):
    """Tokens of a column of numbers: most texts are new, and what is plainly a number needs no further looks."""

    def value(self, raw: bytes) -> FieldToken:
        """Judge a field."""
        whole, _, part = raw.partition(b".")
        is_plain = whole.isdigit() and part.isdigit() and len(part) <= _MOST_PLAIN_PLACES and len(raw) <= _LONGEST_PLAIN
        return FILLED if is_plain else super().value(raw)

    def of(self, column: Sequence[bytes]) -> Sequence[FieldToken]:
        """Return the tokens of fields one below the other."""
        if _PLAIN_NUMBERS.fullmatch(b",".join(column)):
            return [FILLED] * len(column)
        return super().of(column)


@dataclass(slots=True)
class Scope:
    """The rules of a version, by what becomes of them for one file.

    Attributes:
        active: rules that are checked.
        not_applicable: rules that do not apply, and why.
        undecidable: rules that no file can decide, and why.
        permissions: rules that only allow something.
        composites: rules that consist of others.
    """

    active: list[Rule] = field(default_factory=list)
    not_applicable: dict[Rule, str] = field(default_factory=dict)
    undecidable: dict[Rule, str] = field(default_factory=dict)
    permissions: list[Rule] = field(default_factory=list)
    composites: list[Rule] = field(default_factory=list)


NO_INVOICE_GIVEN = "no invoice was given to hold the file against (--expect, --expect-file, --against-ledger)"


def scope_of(
    names: Collection[str], version: str, applicability: Applicability, ignored: Collection[str] = ()
) -> Scope:
    """Return what becomes of each rule of a version.

    Args:
        names: columns of the file.
        version: of FOCUS.
        applicability: what the provider supports.
        ignored: ids of rules that are not wanted; of a composite, all that it consists of.
    """
    known = by_id()
    left_out = {part for name in ignored for part in parts(known[name])}
    scope = Scope()
    for rule in rules_of(version):
        if rule.kind is Kind.COMPOSITE:
            scope.composites.append(rule)
        elif rule.kind is Kind.PERMISSION:
            scope.permissions.append(rule)
        elif rule.kind is Kind.UNDECIDABLE:
            scope.undecidable[rule] = REASONS[rule.value]
        elif rule in left_out:
            scope.not_applicable[rule] = "ignored as asked for"
        elif rule.kind is Kind.INVOICE:
            scope.not_applicable[rule] = NO_INVOICE_GIVEN
        else:
            reason = _inapplicable(rule, names, applicability)
            if reason:
                scope.not_applicable[rule] = reason
            else:
                scope.active.append(rule)
    _follow(scope)
    return scope


def _inapplicable(rule: Rule, names: Collection[str], applicability: Applicability) -> str:
    lacking = applicability.lacking(rule)
    if lacking:
        return f"{lacking} is stated as unsupported"
    if rule.kind is Kind.PRESENCE or _is_promise(rule):
        return unsaid(rule, applicability)
    if rule.kind is Kind.SAME_AS:
        return ""
    needed = [rule.column, *(item[1:] for item in rule.value.split("|") if item.startswith("@"))]
    absent = next((name for name in needed if name and name not in names), None)
    if absent is None and not rule.when.can_hold(lambda name: None if name in names else absent_token(name)):
        absent = next(name for name in rule.when.columns if name not in names)
    return f"the file has no column {absent}" if absent else ""


def absent_token(name: str) -> Mark:
    """Return the token of a column that a file lacks: one that every file must have could hold anything."""
    return WRONG if COLUMNS[name].mandatory else ABSENT


def _is_promise(rule: Rule) -> bool:
    """Return whether a rule demands of a column that may be null that it never is, as some providers can promise."""
    always = rule.kind is Kind.NOT_NULL and not rule.when.alternatives
    return always and bool(rule.needs) and COLUMNS[rule.column].nullable


def _follow(scope: Scope) -> None:
    """Leave out rules that are the same as others which are left out."""
    active = set(scope.active)
    known = by_id()
    for rule in list(scope.active):
        if rule.kind is Kind.SAME_AS and not any(known[name] in active for name in rule.values):
            scope.active.remove(rule)
            first = known[rule.values[0]]
            scope.not_applicable[rule] = scope.not_applicable.get(first, f"{first.id} does not apply")


class Compiled:
    """The rules for files with one header.

    Args:
        names: columns, in order.
        version: of FOCUS.
        applicability: what the provider supports.
        ignored: ids of rules that are not wanted.

    Attributes:
        scope: what becomes of each rule.
        header: what is wrong with the header.
        columns: tokens by raw field, for each column in order.
        measures: checks of numbers, periods and parents.
    """

    def __init__(
        self, names: Sequence[str], version: str, applicability: Applicability, ignored: Collection[str] = ()
    ) -> None:
        self._names = tuple(names)
        self._version = version
        self._places = {name: place for place, name in enumerate(names)}
        self.scope = scope_of(names, version, applicability, ignored)
        active = self.scope.active
        self._active = frozenset(active)
        self.header: tuple[Break, ...] = tuple(_header_breaks(names, version, active))
        self._compared = {name for rule in active for name in _compared(rule)}
        self._of_version: dict[tuple[str, Kind], list[Rule]] = {}
        for rule in rules_of(version):
            self._of_version.setdefault((rule.column, rule.kind), []).append(rule)
        self.columns = [self._tokens(name) for name in names]
        self.measures = Measures(self._places, active)
        self._row_rules = [rule for rule in active if rule.kind in _ROW_KINDS]
        self._plans: dict[Signature, Plan] = {}

    def plan(self, fields: Sequence[bytes]) -> tuple[Signature, Plan]:
        """Return the tokens of a row, and what follows from them.

        Args:
            fields: raw, as many as there are columns.
        """
        signature = tuple(map(getitem, self.columns, fields))
        return signature, self.plan_of(signature)

    def plan_of(self, signature: Signature) -> Plan:
        """Return what follows from the tokens of a row."""
        found = self._plans.get(signature)
        if found is not None:
            return found
        flawed = tuple(
            (place, each) for place, token in enumerate(signature) if isinstance(token, Broken) for each in token.breaks
        )
        clean = tuple(token.token if isinstance(token, Broken) else token for token in signature)
        plan = self._plans.get(clean)
        if plan is None:
            plan = self._followed(clean)
            if len(self._plans) >= _MOST_PLANS:
                self._plans.clear()
            self._plans[clean] = plan
        return plan._replace(fields=flawed) if flawed else plan

    def _followed(self, tokens: tuple[Token, ...]) -> Plan:
        def token(name: str) -> Token:
            place = self._places.get(name)
            return absent_token(name) if place is None else tokens[place]

        breaks = [
            Break(rule, rule.column, _row_note(rule, token))
            for rule in self._row_rules
            if rule.when.holds(token) and _breaks(rule, token)
        ]
        return Plan((), tuple(breaks), self.measures.needed(token))

    def _tokens(self, name: str) -> Tokens:
        column = COLUMNS.get(name)
        is_plain = (
            column is not None and column.is_number and column.is_in(self._version) and name not in self._compared
        )
        return (NumberTokens if is_plain else Tokens)(self._reader(name))

    def _reader(self, name: str) -> Callable[[bytes], FieldToken]:
        column = COLUMNS.get(name)
        if column is not None and not column.is_in(self._version):
            # It is reported as a whole; what it would mean in another version does not matter here.
            column = None
        judge = None
        if column is not None:
            least = next((rule.value for rule in self._rules(name, Kind.AT_LEAST)), None)
            national = bool(self._rules(name, Kind.NATIONAL))
            judge = judge_of(column, self._version, national=national, least=least)
        compared = name in self._compared

        def read(raw: bytes) -> FieldToken:
            if not raw:
                return None
            try:
                text = unquoted(raw).decode()
            except UnicodeDecodeError:
                return self._broken(column, WRONG, _NOT_TEXT)
            nothing = stand_in(column, text)
            if nothing is not None:
                return self._broken(column, WRONG, (nothing,))
            token: Token = text if compared else FILLED
            flaws = judge(text) if judge else ()
            if not flaws:
                return token
            return self._broken(column, WRONG if compared else token, flaws)

        return read

    def _rules(self, column: str, kind: Kind) -> list[Rule]:
        return [rule for rule in self._of_version.get((column, kind), []) if rule in self._active]

    def _broken(self, column: Column | None, token: Token, flaws: Flaws) -> FieldToken:
        found = [each for flaw in flaws if (each := self._field_break(column, flaw)) is not None]
        return Broken(token, tuple(found)) if found else token

    def _field_break(self, column: Column | None, flaw: Flaw) -> FieldBreak | None:
        known = by_id()
        attributes = tuple(known[name] for name in flaw.attributes)
        name = column.name if column else ""
        candidates = self._candidates(name, flaw)
        wanted = [rule for rule in candidates if rule in self._active]
        if wanted:
            return FieldBreak(wanted[0], tuple(rule for rule in attributes if rule in self._active), flaw.note)
        # A rule of the column that is ignored takes its attributes with it; where there is none, they stand alone.
        left = () if candidates else tuple(rule for rule in attributes if rule in self._active)
        return FieldBreak(left[0], left[1:], flaw.note) if left else None

    def _candidates(self, name: str, flaw: Flaw) -> list[Rule]:
        """Return the rules that a flaw can break, ignored ones too: those of its value, else those of its kind."""
        of_kind = self._of_version.get((name, flaw.kind), []) or self._of_version.get(("", flaw.kind), [])
        exact = [rule for rule in of_kind if rule.value == flaw.value]
        if exact or flaw.kind in {Kind.FILE, Kind.KEYS}:
            return exact
        if not of_kind and flaw.kind is Kind.FINITE:
            return self._candidates(name, flaw._replace(kind=Kind.TYPE))
        return of_kind if flaw.kind is not Kind.FORMAT else []


_NOT_TEXT = (Flaw(Kind.TYPE, "text", ("StringHandling-A-001-M",), "is not UTF-8"),)
_ROW_KINDS = {Kind.NULL, Kind.NOT_NULL, Kind.MEMBER, Kind.EQUAL, Kind.UNEQUAL}


def _compared(rule: Rule) -> Collection[str]:
    """Return the columns whose texts a rule wants as tokens. What may differ in every row is left to measures."""
    names = rule.when.compared
    if rule.kind is Kind.MEMBER or rule.kind is Kind.UNEQUAL or (rule.kind is Kind.EQUAL and not rule.is_measured):
        return {*names, rule.column, *(item[1:] for item in rule.value.split("|") if item.startswith("@"))}
    return names


def _breaks(rule: Rule, token: Callable[[str], Token]) -> bool:
    """Return whether a row whose condition holds breaks a rule that tokens decide."""
    found = token(rule.column)
    if rule.kind is Kind.NOT_NULL:
        return found is None
    if found is None or found is WRONG or found is ABSENT:
        return False
    return rule.kind is Kind.NULL or (isinstance(found, str) and _is_unwanted(rule, found, token))


def _is_unwanted(rule: Rule, found: str, token: Callable[[str], Token]) -> bool:
    if not rule.value.startswith("@"):
        return (found == rule.value) == (rule.kind is Kind.UNEQUAL)
    parent = token(rule.values[0])
    return isinstance(parent, str) and found not in SUBCATEGORIES.get(parent, {found})


def _row_note(rule: Rule, token: Callable[[str], Token]) -> str:
    """Return what of the row makes the rule apply."""
    shown: list[str] = []
    for name in rule.when.columns:
        found = token(name)
        if name != rule.column:
            shown.append(f"{name} is {_shown(found)}")
    if rule.kind is Kind.MEMBER or rule.value.startswith("@"):
        shown += [f"{name} is {_shown(token(name))}" for name in rule.values]
    return ", ".join(shown)


def _shown(token: Token) -> str:
    if token is None:
        return "null"
    return token.word if isinstance(token, Mark) else token


_LONGEST_NAME = 50
_PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
_FOLDED = {name.lower(): name for name in COLUMNS}
_SUCCESSORS = {"ProviderName": "ServiceProviderName", "PublisherName": "ServiceProviderName"}
"""Deprecated columns, which may be left out in their last version where a file has the successor."""

COLUMN_VERSION = "X-ColumnVersion"


def _header_breaks(names: Sequence[str], version: str, active: Sequence[Rule]) -> Iterator[Break]:
    """Yield what is wrong with a header.

    Args:
        names: of the columns.
        version: of FOCUS.
        active: the rules that apply.
    """
    shapes = {rule.value: rule for rule in active if rule.kind is Kind.HEADER}
    for rule in active:
        if rule.kind is Kind.PRESENCE and rule.column not in names and not _is_replaced(rule, names, version):
            yield Break(rule, rule.column)
    for name in names:
        for shape, note in _name_flaws(name):
            if shape in shapes:
                yield Break(shapes[shape], name, note)
        known = COLUMNS.get(name)
        if known is not None and not known.is_in(version):
            found = next((rule for rule in active if rule.id == COLUMN_VERSION), None)
            if found is not None:
                yield Break(found, name, f"FOCUS {version} does not have it")
    disorder = _disorder(names)
    if disorder is not None and disorder[0] in shapes:
        yield Break(shapes[disorder[0]], disorder[1])


def _is_replaced(rule: Rule, names: Sequence[str], version: str) -> bool:
    return rule.until == version and _SUCCESSORS.get(rule.column) in names


def _name_flaws(name: str) -> Iterator[tuple[str, str]]:
    if name in COLUMNS:
        return
    if len(name) > _LONGEST_NAME:
        yield "length", f"has {len(name)} characters"
    if is_custom(name):
        if not _PASCAL.fullmatch(name[2:]):
            yield "custom-pascal", ""
        return
    meant = _FOLDED.get(re.sub(r"[\W_]", "", name).lower())
    if meant is None:
        yield "prefix", ""
    else:
        yield "pascal" if name.isalnum() else "letters", f"write it {meant}"


def _disorder(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the rule on the order of columns that is broken, and a column in the wrong place."""
    is_ours = [name in COLUMNS for name in names]
    if True not in is_ours or False not in is_ours:
        return None
    first, last = is_ours.index(False), len(names) - 1 - is_ours[::-1].index(True)
    if first > last:
        return None
    return ("custom-last" if is_ours[0] else "focus-first"), names[first]
