"""The settings as processes are handed them: the same names and values, without the library that has checked them.

pydantic and the settings' types take 13 MiB, and a process that serves or collects reads values alone. So the process
that has read and checked the settings hands over these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, cast
from zoneinfo import ZoneInfo

from exporter.settings.credentials import Account, FixedKey, HiddenText

if TYPE_CHECKING:
    from exporter.settings.contradictions import Settings
    from exporter.settings.entries import BudgetEntry

_UNUSED = frozenset({"entries"})
"""Settings that nobody reads; `accounts` is made of them."""


class PlainSettings:
    """Settings by name; made by `plain`.

    Attributes:
        model_fields_set: names of those that were given, as pydantic calls them.
    """

    model_fields_set: frozenset[str]

    def __init__(self, values: Mapping[str, object]) -> None:
        self.__dict__.update(values)

    def model_copy(self, *, update: Mapping[str, object]) -> "PlainSettings":
        """Return other settings, some of them changed, by the name that pydantic has for it."""
        return PlainSettings({**self.__dict__, **update})

    def __eq__(self, other: object) -> bool:
        """Return whether all values are the same; which of them were given makes no difference."""
        return isinstance(other, PlainSettings) and self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]  # as of any mapping

    def _values(self) -> Mapping[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "model_fields_set"}


@dataclass(frozen=True, slots=True)
class PlainBudget:
    """A budget as `BudgetEntry` is one."""

    name: str
    amount: Decimal
    period: str
    timezone: ZoneInfo | None
    match: Mapping[str, tuple[str, ...]]
    thresholds: tuple[Fraction, ...]

    def zone(self, default: ZoneInfo) -> ZoneInfo:
        """Return the budget's time zone."""
        return self.timezone or default


def plain(settings: "Settings") -> "Settings":
    """Return settings that can be read, and sent to a process that has none of their types; plain ones as they are."""
    given: object = settings
    if isinstance(given, PlainSettings):
        return settings
    computed = [
        name
        for kind in type(settings).__mro__
        if kind.__module__.startswith(__package__)
        for name, value in vars(kind).items()
        if isinstance(value, property | cached_property) and not name.startswith("_")
    ]
    names = (set(type(settings).model_fields) | set(computed)) - _UNUSED
    values = {name: _plain(getattr(settings, name)) for name in names}
    values["model_fields_set"] = frozenset(settings.model_fields_set)
    values["budgets"] = tuple(_plain_budget(budget) for budget in settings.budgets)
    return cast("Settings", PlainSettings(values))


def _plain(value: object) -> object:
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_plain(item) for item in value)
    if isinstance(value, Account) and isinstance(value.key, FixedKey):
        return replace(value, key=FixedKey(HiddenText(value.key().get_secret_value())))
    if hasattr(value, "get_secret_value") and not isinstance(value, HiddenText):
        return HiddenText(value.get_secret_value())
    return value


def _plain_budget(budget: "BudgetEntry") -> PlainBudget:
    return PlainBudget(
        budget.name, budget.amount, budget.period, budget.timezone, dict(budget.match), budget.thresholds
    )
