"""Rules on the header: which columns a file must have, and how columns are named and ordered."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from exporter.focus.columns import COLUMNS, is_custom
from exporter.focus.rules.table import Kind, Rule

_LONGEST_NAME = 50
_PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")
_FOLDED = {name.lower(): name for name in COLUMNS}
_SUCCESSORS = {"ProviderName": "ServiceProviderName", "PublisherName": "ServiceProviderName"}
"""Deprecated columns, which may be left out in their last version where a file has the successor."""

COLUMN_VERSION = "X-ColumnVersion"


class HeaderFlaw(NamedTuple):
    """A mistake in a header: the rule, the column, and what is wrong."""

    rule: Rule
    column: str
    note: str = ""


def header_flaws(names: Sequence[str], version: str, active: Sequence[Rule]) -> Iterator[HeaderFlaw]:
    """Yield what is wrong with a header.

    Args:
        names: of the columns.
        version: of FOCUS.
        active: the rules that apply.
    """
    shapes = {rule.value: rule for rule in active if rule.kind is Kind.HEADER}
    for rule in active:
        if rule.kind is Kind.PRESENCE and rule.column not in names and not _is_replaced(rule, names, version):
            yield HeaderFlaw(rule, rule.column)
    for name in names:
        for shape, note in _name_flaws(name):
            if shape in shapes:
                yield HeaderFlaw(shapes[shape], name, note)
        known = COLUMNS.get(name)
        if known is not None and not known.is_in(version):
            found = next((rule for rule in active if rule.id == COLUMN_VERSION), None)
            if found is not None:
                yield HeaderFlaw(found, name, f"FOCUS {version} does not have it")
    disorder = _disorder(names)
    if disorder is not None and disorder[0] in shapes:
        yield HeaderFlaw(shapes[disorder[0]], disorder[1])


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
