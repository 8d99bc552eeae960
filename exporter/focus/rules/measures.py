"""Checks that look at numbers, periods and parents, row by row."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from exporter.focus.charge import agrees
from exporter.focus.columns import COLUMNS
from exporter.focus.csv_parser import FieldValues, unquoted
from exporter.focus.rules.conditions import ABSENT, WRONG, Token
from exporter.focus.rules.fields import read_instant
from exporter.focus.rules.table import Kind, Rule
from exporter.focus.values import EXACTLY, number, number_text

_LONGEST_PLAIN = 36


class Break(NamedTuple):
    """A rule that a row breaks: in which column, and what is wrong."""

    rule: Rule
    column: str
    note: str = ""


Measure = Callable[[Rule, Sequence[int], Sequence[bytes]], Sequence[Break]]
"""Takes a rule, the places of its columns, and a row; returns where it breaks the rule."""


class Check(NamedTuple):
    """A rule that is looked at row by row.

    Attributes:
        places: of the columns that it looks at.
    """

    measure: Measure
    rule: Rule
    places: tuple[int, ...]

    def breaks(self, fields: Sequence[bytes]) -> Sequence[Break]:
        """Return where a row breaks the rule."""
        return self.measure(self.rule, self.places, fields)

    def holds_for(self, columns: Sequence[Sequence[bytes]]) -> bool:
        """Return whether no row breaks the rule.

        Args:
            columns: of the rows, each with a field a row.
        """
        measure, rule, places = self.measure, self.rule, range(len(self.places))
        rows = {*zip(*[columns[place] for place in self.places], strict=True)}
        return not any(measure(rule, places, row) for row in rows)


Pair = tuple[bytes, bytes]


class BlockFacts(NamedTuple):
    """Memory of rows that break nothing by themselves.

    Attributes:
        pairs: different children and parents, by family.
        sums: rows and billed cost by invoice and currency.
    """

    rows: int
    pairs: Sequence[set[Pair]]
    sums: Mapping[Pair, tuple[int, Decimal]]


_NOTHING: tuple[Break, ...] = ()
_NO_VALUE = {None, WRONG, ABSENT}


class Numbers(FieldValues[Decimal | None]):
    """Numbers by raw field, None for what is none."""

    def value(self, raw: bytes) -> Decimal | None:
        """Read a field."""
        whole, _, part = raw.partition(b".")
        if whole.isdigit() and part.isdigit() and len(raw) <= _LONGEST_PLAIN:
            return Decimal(raw.decode())
        try:
            return number(unquoted(raw).decode())
        except ValueError:
            return None


class Instants(FieldValues[datetime | None]):
    """Instants by raw field, None for what is none."""

    def value(self, raw: bytes) -> datetime | None:
        """Read a field."""
        return read_instant(unquoted(raw).decode("utf-8", "replace"))


class Measures:
    """The checks of a file's rules.

    Args:
        places: of columns by their names.
        active: the rules that apply.

    Attributes:
        numbers: as they were read; sums use them too.
    """

    def __init__(self, places: Mapping[str, int], active: Sequence[Rule]) -> None:
        self.numbers = Numbers()
        self._instants = Instants()
        self._places = places
        self._checks = [check for rule in active if (check := self._check(rule)) is not None]

    def needed(self, token: Callable[[str], Token]) -> tuple[Check, ...]:
        """Return the checks that a row of some tokens needs.

        Args:
            token: returns the token of a column.
        """
        return tuple(
            check
            for check in self._checks
            if check.rule.when.holds(token) and all(token(name) not in _NO_VALUE for name in _looked_at(check.rule))
        )

    def _check(self, rule: Rule) -> Check | None:
        measures: dict[Kind, Measure | None] = {
            Kind.PRODUCT: self._product,
            Kind.EQUAL: self._equality(rule) if rule.is_measured else None,
            Kind.START: self._start,
            Kind.EXCLUSIVE_END: self._exclusive_end,
            Kind.WITHIN: self._within,
        }
        measure = measures.get(rule.kind)
        if measure is None:
            return None
        return Check(measure, rule, tuple(self._places[name] for name in _looked_at(rule)))

    def _equality(self, rule: Rule) -> Measure:
        if not COLUMNS[rule.column].is_number:
            return self._same_text
        return self._equal if rule.value.startswith("@") else self._constant

    def _same_text(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        one, other = (unquoted(fields[place]).decode("utf-8", "replace") for place in places)
        # Some providers write the same id in capitals in one column and without in the other.
        if one == other or one.casefold() == other.casefold():
            return _NOTHING
        return (Break(rule, rule.column, f"{rule.values[0]} is {other}"),)

    def _product(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        cost, price, quantity = places
        numbers = self.numbers
        amount, unit_price, units = numbers[fields[cost]], numbers[fields[price]], numbers[fields[quantity]]
        if amount is None or unit_price is None or units is None:
            return _NOTHING
        product = EXACTLY.multiply(unit_price, units)
        if product == amount or agrees(amount, unit_price, units):
            return _NOTHING
        first, second = rule.values
        note = f"{first} {number_text(unit_price)} x {second} {number_text(units)} is {number_text(product)}"
        return (Break(rule, rule.column, note),)

    def _equal(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        one, other = places
        if fields[one] == fields[other]:
            return _NOTHING
        found, wanted = self.numbers[fields[one]], self.numbers[fields[other]]
        if found is None or wanted is None or found == wanted:
            return _NOTHING
        return (Break(rule, rule.column, f"{rule.values[0]} is {number_text(wanted)}"),)

    def _constant(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        found = self.numbers[fields[places[0]]]
        return (
            _NOTHING if found is None or found == Decimal(rule.value) else (Break(rule, rule.column, f"{rule.when}"),)
        )

    def _start(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        start, end = places
        first, last = self._instants[fields[start]], self._instants[fields[end]]
        if first is None or last is None or first < last:
            return _NOTHING
        return (Break(rule, rule.column, f"{rule.values[0]} is {unquoted(fields[end]).decode()}"),)

    def _exclusive_end(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        end, start = places
        last, first = self._instants[fields[end]], self._instants[fields[start]]
        if last is None or first is None or last.time() != _LAST_SECOND.time():
            return _NOTHING
        # A period of whole minutes that ends there has begun there, and ends as it should.
        if (last - first) % _MINUTE == timedelta(0):
            return _NOTHING
        return (Break(rule, rule.column, "write the instant after it"),)

    def _within(self, rule: Rule, places: Sequence[int], fields: Sequence[bytes]) -> Sequence[Break]:
        start, outer_start, end, outer_end = places
        instants = self._instants
        first, last = instants[fields[start]], instants[fields[end]]
        begun, over = instants[fields[outer_start]], instants[fields[outer_end]]
        if first is None or last is None or begun is None or over is None:
            return _NOTHING
        # A period that is reversed breaks another rule.
        if first >= last or begun >= over or begun <= first < last <= over:
            return _NOTHING
        period = f"{unquoted(fields[outer_start]).decode()}/{unquoted(fields[outer_end]).decode()}"
        return (Break(rule, rule.column, f"the billing period is {period}"),)


_MINUTE = timedelta(minutes=1)
_LAST_SECOND = datetime(2000, 1, 1, 23, 59, 59)  # noqa: DTZ001  only its time


def _looked_at(rule: Rule) -> tuple[str, ...]:
    others = tuple(item[1:] for item in rule.value.split("|") if item.startswith("@"))
    return (rule.column, *others)
