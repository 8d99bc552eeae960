"""Judges of single fields: what is wrong with a text of a column, by kind of rule.

A number that is none breaks the rule on the type of its column, one that is spelled in another way (`+4.2`, `$4.2`,
`1,234.5`) that on its format, together with the attribute of the specification that says so. The same for dates. So one
mistake is one finding.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import NamedTuple

from exporter.focus.columns import CURRENCIES, Column, is_unit
from exporter.focus.columns import Kind as ColumnKind
from exporter.focus.rules.documents import document_flaws
from exporter.focus.rules.table import Kind
from exporter.focus.values import MOST_DIGITS, instant, json_object, number


class Flaw(NamedTuple):
    """A mistake in a field.

    Attributes:
        kind: of the rule that it breaks.
        value: which of the rules of this kind, where a column has several.
        attributes: ids of the attributes of the specification that it breaks too.
        note: what is wrong, where the rule alone does not say it.
    """

    kind: Kind
    value: str = ""
    attributes: tuple[str, ...] = ()
    note: str = ""


Flaws = tuple[Flaw, ...]
Judge = Callable[[str], Flaws]

BOUNDS, NOISE = "bounds", "noise"
"""Values of our own rules on numbers."""

RIGHT: Flaws = ()
_WITHDRAWN = frozenset("BYR CUC EEK HRK LTL LVL MRO SKK SLL STD VEF ZWL".split())  # noqa: SIM905  a line of codes
"""Currencies that a file about the past may have."""

_NULL_WORDS = frozenset({"null"})
_PLACEHOLDERS = frozenset({"n/a", "not applicable", "unassigned", "undefined", "-"})
_PLACEHOLDERS_FOR_VALUES = frozenset({"none", "nil", "na"})
"""Placeholders only where text is not free: a region may be called NA, and an account None."""

LONGEST_STAND_IN = max(map(len, _PLACEHOLDERS))
_FREE = frozenset({ColumnKind.TEXT})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def stand_in(column: Column | None, text: str) -> Flaw | None:
    """Return what is wrong with a text that stands for null; None for one that is a value."""
    if not text:
        return Flaw(Kind.PLACEHOLDER, note="an empty text in quotes")
    if not text.strip():
        blank = column is not None and not column.nullable and column.kind is ColumnKind.TEXT
        return Flaw(Kind.BLANK if blank else Kind.PLACEHOLDER, note="blanks")
    if column is None or len(text) > LONGEST_STAND_IN:
        return None
    folded = text.lower()
    if folded in _NULL_WORDS:
        return Flaw(Kind.NULL_WORD)
    free = column.kind in _FREE and not column.allowed
    if folded in _PLACEHOLDERS or (not free and folded in _PLACEHOLDERS_FOR_VALUES):
        return Flaw(Kind.PLACEHOLDER)
    return None


def judge_of(column: Column, version: str, *, national: bool, least: str | None) -> Judge:
    """Return the judge of a column's texts, apart from null and what stands for it.

    Args:
        column: whose.
        version: of FOCUS.
        national: whether only national currencies are allowed.
        least: the least number allowed.
    """
    if column.allowed:
        return _allowed(column)
    if column.is_number:
        return _numbers(noise=column.kind is ColumnKind.NUMBER, least=None if least is None else Decimal(least))
    if column.kind in {ColumnKind.KEY_VALUE, ColumnKind.OBJECT}:
        return _document(column, version)
    if column.name == "PricingCurrency":
        return _currency
    judges: Mapping[ColumnKind, Judge] = {
        ColumnKind.INSTANT: instant_flaws,
        ColumnKind.CURRENCY: _national if national else _currency,
        ColumnKind.UNIT: _unit,
    }
    return judges.get(column.kind, text_flaws)


def text_flaws(text: str) -> Flaws:
    """Judge free text."""
    if text.isprintable() or _CONTROL.search(text) is None:
        return RIGHT
    return (Flaw(Kind.FORMAT, "text", ("StringHandling-A-001-M",), "holds a control character"),)


def _allowed(column: Column) -> Judge:
    folded = {value.lower(): value for value in column.allowed}

    def judge(text: str) -> Flaws:
        if text in column.allowed:
            return RIGHT
        near = folded.get(text.strip().lower())
        return (Flaw(Kind.ALLOWED, note=f"write it {near!r}" if near else ""),)

    return judge


_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:E-?\d+)?", re.ASCII)
_FIGURE = r"(?:\d+(?:\.\d+)?|\.\d+)"
_SPELLINGS: tuple[tuple[str, str], ...] = (
    ("NumericFormat-A-010-M", rf"\+{_FIGURE}(?:[eE][-+]?\d+)?"),
    ("NumericFormat-A-006-M", rf"-?{_FIGURE}E\+\d+"),
    ("NumericFormat-A-005-M", rf"-?{_FIGURE}(?:e[-+]?\d+| ?[x*\u00d7] ?10\^?-?\d+)"),
    ("NumericFormat-A-004-M", r"-?\d+ ?/ ?\d+"),
    ("NumericFormat-A-011-M", rf"\({_FIGURE}\)|{_FIGURE}-|[\u2212\u2013]{_FIGURE}"),
    ("NumericFormat-A-009-M", r"-?\d{1,3}(?:[,'_ \u00a0\u202f]\d{2,3})+(?:[.,]\d+)?"),
    ("NumericFormat-A-009-M", r"-?\d+,\d+|-?\d{1,3}(?:\.\d{3}){2,}"),
    ("NumericFormat-A-002-M", rf"-?{_FIGURE}(?:[;|] ?| )-?{_FIGURE}"),
    ("NumericFormat-A-007-M", rf"=.*\d.*|[~<>\u2248\u00b1]=?{_FIGURE}|-?{_FIGURE} ?(?:%|[-+*] ?{_FIGURE})"),
    ("NumericFormat-A-003-M", r"-?(?:\.\d+|\d+\.)(?:E-?\d+)?|[\u0660-\u0669\u06f0-\u06f9\uff10-\uff19.]+"),
    ("NumericFormat-A-008-M", r"-?[^\w.,+-]{1,3} ?-?[\d.,]+|-?[A-Z]{1,3}[$]? ?-?[\d.,]+"),
    ("NumericFormat-A-008-M", r"-?[\d.,]+ ?[^\d\s]{1,12}"),
    ("NumericFormat-A-008-M", rf"\s*-?{_FIGURE}\s*"),
)  # fmt: skip
"""Ways to write a number that the format does not have, and the attribute that says so; the first that fits counts."""

_OTHER_SPELLINGS = tuple((name, re.compile(pattern)) for name, pattern in _SPELLINGS)
_NOT_FINITE = re.compile(r"[-+]?(?:nan|inf(?:inity)?)", re.IGNORECASE)
_NOISE = re.compile(r"\.(?=\d{12})\d*(?:0{6}|9{6})\d{1,3}$")
_FLOAT_DIGITS = 16
_SHORT = 15


def _numbers(*, noise: bool, least: Decimal | None) -> Judge:
    def judge(text: str) -> Flaws:
        if not _PLAIN_NUMBER.fullmatch(text):
            return _misspelt(text)
        if len(text) > _SHORT:
            try:
                number(text)
            except ValueError:
                note = f"has more than {MOST_DIGITS} digits before or after its point; no sum holds it"
                return (Flaw(Kind.FILE, BOUNDS, note=note),)
            if noise and _is_noise(text):
                return (Flaw(Kind.FILE, NOISE),)
        elif "E" in text:
            try:
                number(text)
            except ValueError:
                note = f"has more than {MOST_DIGITS} digits before or after its point; no sum holds it"
                return (Flaw(Kind.FILE, BOUNDS, note=note),)
        if least is not None and Decimal(text) < least:
            return (Flaw(Kind.AT_LEAST),)
        return RIGHT

    return judge


def _is_noise(text: str) -> bool:
    digits = re.sub(r"E.*|\D", "", text).lstrip("0")
    # The shortest text that gives the same float back is what a program prints that calculates with floats.
    return len(digits) >= _FLOAT_DIGITS and _NOISE.search(text) is not None and repr(float(text)) == text


def _misspelt(text: str) -> Flaws:
    if _NOT_FINITE.fullmatch(text):
        return (Flaw(Kind.FINITE),)
    for name, pattern in _OTHER_SPELLINGS:
        if pattern.fullmatch(text):
            return (Flaw(Kind.FORMAT, "number", (name,)),)
    return (Flaw(Kind.TYPE),)


_PLAIN_INSTANT = re.compile(
    r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.0+)?Z", re.ASCII
)
_OTHER_DATE = re.compile(r"(?:\d{1,2}[./-]\d{1,2}[./-]\d{2,4}|\d{4}[./]\d{1,2}[./]\d{1,2}|\d{8})(?:[T ,].*)?")
_ZONE = re.compile(r"([-+])(\d\d):?(\d\d)?$")


def instant_flaws(text: str) -> Flaws:
    """Judge a date and time."""
    if _PLAIN_INSTANT.fullmatch(text):
        return RIGHT if read_instant(text) is not None else (Flaw(Kind.TYPE, note="is not a date of the calendar"),)
    if read_instant(text.upper()) is None:
        if _OTHER_DATE.fullmatch(text):
            return (Flaw(Kind.FORMAT, "instant", ("DateTimeFormat-A-002-M",)),)
        return (Flaw(Kind.TYPE),)
    zone = _ZONE.search(text)
    time = text[11:].partition(zone[0] if zone else "Z")[0].strip()
    if text[10:11] != "T":
        name = "DateTimeFormat-A-004-M"
    elif zone is not None and zone[0].strip("+-0:"):
        name = "DateTimeFormat-A-001-M"
    elif not text.endswith("Z"):
        name = "DateTimeFormat-A-006-M"
    else:
        name = "DateTimeFormat-A-005-M" if time else "DateTimeFormat-A-004-M"
    return (Flaw(Kind.FORMAT, "instant", (name,)),)


def read_instant(text: str) -> datetime | None:
    """Return the instant that a text tells, however it is spelled; None for none."""
    try:
        return instant(text)[0]
    except ValueError:
        return None


_CODE = re.compile(r"[A-Z]{3}")


def _national(text: str) -> Flaws:
    if text in CURRENCIES or text in _WITHDRAWN:
        return RIGHT
    flaws = text_flaws(text)
    if flaws:
        return flaws
    if _CODE.fullmatch(text):
        return (Flaw(Kind.NATIONAL),)
    return (Flaw(Kind.FORMAT, "currency", ("CurrencyFormat-A-001-C",)),)


def _currency(text: str) -> Flaws:
    """Judge a currency that may be a virtual one, under any name."""
    if text not in CURRENCIES and text.upper() in CURRENCIES:
        return (Flaw(Kind.FORMAT, "currency", ("CurrencyFormat-A-001-C",), f"write it {text.upper()!r}"),)
    flaws = text_flaws(text)
    return tuple(flaw._replace(attributes=("CurrencyFormat-A-002-C", *flaw.attributes)) for flaw in flaws)


_LISTED: Mapping[str, str] = MappingProxyType(
    {
        word.lower(): word
        for singular in (
            *("Year", "Month", "Day", "Hour", "Minute", "Second", "Millisecond", "Microsecond"),
            *("Count", "Unit", "Request", "Token", "Connection", "Certificate", "Domain", "Core"),
        )
        for word in (singular, f"{singular}s")
    }
)


def _unit(text: str) -> Flaws:
    if is_unit(text):
        return RIGHT
    flaws = text_flaws(text)
    if flaws:
        return flaws
    words = re.split(r"[-/ ]+", text)
    # `b` and `B` are bits and bytes, so the capitalisation of sizes cannot be told to be wrong.
    listed = any(word.lower() in _LISTED and word != _LISTED[word.lower()] for word in words)
    return (Flaw(Kind.FORMAT, "unit", ("UnitFormat-A-003-M" if listed else "UnitFormat-A-001-M",)),)


_NO_SCALARS = ("KeyValueFormat-A-003-M", "KeyValueFormat-A-004-M")


def _document(column: Column, version: str) -> Judge:
    is_flat = column.kind is ColumnKind.KEY_VALUE
    value = "key-value" if is_flat else "object"

    def judge(text: str) -> Flaws:
        try:
            found = json_object(text)
        except ValueError as error:
            return text_flaws(text) or _unread(str(error), value, is_flat=is_flat)
        nested = next((key for key, item in found.items() if isinstance(item, dict | list)), None)
        if is_flat and nested is not None:
            note = f"holds something other than a single value under {nested!r}"
            return (Flaw(Kind.FORMAT, value, _NO_SCALARS, note),)
        return tuple(Flaw(Kind.KEYS, rule, note=note) for rule, note in document_flaws(column.name, found, version))

    return judge


def _unread(note: str, value: str, *, is_flat: bool) -> Flaws:
    """Return what is wrong with a text that is no JSON object, by the sentence that says so."""
    if note.endswith("places"):
        return (Flaw(Kind.FILE, BOUNDS, note=note),)
    attribute = "KeyValueFormat-A-002-M" if "duplicate" in note else "KeyValueFormat-A-001-M"
    return (Flaw(Kind.FORMAT, value, (attribute,) if is_flat else (), note),)
