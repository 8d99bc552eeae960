"""Conditions of rules, such as `ChargeCategory in Usage|Purchase and ChargeClass != Correction or SkuId is null`.

`and` binds closer than `or`. A null is unlike every value. Two columns, as in `ProviderName != @InvoiceIssuerName`, are
compared only where neither is null. A field that is flagged itself meets no condition: one mistake is told once. A
column that the file lacks is neither null nor filled, and has no value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

_BY_VALUE = (" != ", " = ", " in ")


class Mark:
    """Token of a field whose text no condition needs.

    No member of an Enum: the tokens of a row are looked up together, and their hashes have to be quick.
    """

    __slots__ = ("word",)

    def __init__(self, word: str) -> None:
        self.word = word

    def __repr__(self) -> str:
        return f"<{self.word}>"


FILLED, WRONG, ABSENT = Mark("filled"), Mark("wrong"), Mark("absent")
"""Tokens of a field that is not null, of one that is flagged itself, and of a column that the file lacks."""

Token = str | Mark | None
"""A field as conditions see it: None for null, its text where a condition compares it, else a mark."""


@dataclass(frozen=True, slots=True)
class Atom:
    """One comparison.

    Attributes:
        column: that is compared.
        values: with which; empty for a comparison with null.
        other: a column instead of values.
        holds_if_equal: False for `!=` and `is not null`.
    """

    column: str
    values: tuple[str, ...] = ()
    other: str = ""
    holds_if_equal: bool = True

    def holds(self, token: Callable[[str], Token]) -> bool:
        """Return whether a row meets it.

        Args:
            token: returns the token of a column.
        """
        found = token(self.column)
        if found is WRONG or (found is ABSENT and not self.values):
            return False
        if self.other:
            other = token(self.other)
            return isinstance(found, str) and isinstance(other, str) and (found == other) == self.holds_if_equal
        if self.values:
            return (found in self.values) == self.holds_if_equal
        return (found is None) == self.holds_if_equal

    @property
    def compares_null(self) -> bool:
        """True for `is null` and `is not null`."""
        return not self.values and not self.other

    def __str__(self) -> str:
        if self.other:
            return f"{self.column} {'is' if self.holds_if_equal else 'is not'} {self.other}"
        if self.values:
            return f"{self.column} {'is' if self.holds_if_equal else 'is not'} {' or '.join(self.values)}"
        return f"{self.column} {'is' if self.holds_if_equal else 'is not'} null"


@dataclass(frozen=True, slots=True)
class Condition:
    """Alternatives, each of which is some atoms that hold together; without any it always holds."""

    alternatives: tuple[tuple[Atom, ...], ...] = ()

    def holds(self, token: Callable[[str], Token]) -> bool:
        """Return whether a row meets it."""
        return not self.alternatives or any(all(atom.holds(token) for atom in each) for each in self.alternatives)

    @property
    def atoms(self) -> list[Atom]:
        """All atoms."""
        return [atom for each in self.alternatives for atom in each]

    @property
    def columns(self) -> list[str]:
        """All columns, in order."""
        return list(dict.fromkeys(name for atom in self.atoms for name in (atom.column, atom.other) if name))

    @property
    def compared(self) -> set[str]:
        """The columns whose text matters."""
        return {name for atom in self.atoms if not atom.compares_null for name in (atom.column, atom.other) if name}

    def can_hold(self, absent: Callable[[str], Token]) -> bool:
        """Return whether rows of a file can meet it.

        Args:
            absent: returns the token of a column that the file lacks; None for one that it has.
        """

        def possible(atom: Atom) -> bool:
            is_known = absent(atom.column) is None and (not atom.other or absent(atom.other) is None)
            return is_known or (not atom.other and atom.holds(absent))

        return not self.alternatives or any(all(map(possible, each)) for each in self.alternatives)

    def __str__(self) -> str:
        return ", or ".join(" and ".join(map(str, each)) for each in self.alternatives)


@cache
def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises:
        ValueError: it is none.
    """
    if not text:
        return Condition()
    return Condition(tuple(tuple(_atom(part) for part in each.split(" and ")) for each in text.split(" or ")))


def _atom(text: str) -> Atom:
    for ending, holds_if_equal in ((" is null", True), (" is not null", False)):
        if text.endswith(ending):
            return Atom(text.removesuffix(ending), holds_if_equal=holds_if_equal)
    for operator in _BY_VALUE:
        column, found, value = text.partition(operator)
        if found:
            holds_if_equal = operator != " != "
            if value.startswith("@"):
                return Atom(column, other=value[1:], holds_if_equal=holds_if_equal)
            return Atom(column, tuple(value.split("|")), holds_if_equal=holds_if_equal)
    raise ValueError(f"{text!r} is no condition")
