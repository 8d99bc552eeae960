"""Entries of the configuration file that are lists: accounts and budgets."""

import os
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, Self, get_args
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, model_validator

from exporter.charges import label_text, nano
from exporter.logs import redact_loosely
from exporter.settings.credentials import FixedKey, HiddenText, KeyFile, KeySource, checked_key
from exporter.settings.fields import Key, KeyPath, Sources, Text, Zone, one_of
from exporter.settings.parsing import LABELS, nearest
from exporter.tags import BESIDE_TAGS, TAG, check_keys

_LONGEST_NAME = 100
_PLACES = -9


def _account_name(name: str) -> str:
    if not name.strip():
        raise ValueError("is empty; an account's name becomes the value of the account label")
    if name != name.strip() or name != label_text(name):
        raise ValueError("starts or ends with a space or contains unprintable characters; choose a plain name")
    if name.startswith("__"):
        raise ValueError("starts with two underscores, which is reserved; choose a plain name")
    if len(name) > _LONGEST_NAME:
        raise ValueError(f"is longer than {_LONGEST_NAME} characters")
    return name


AccountName = Annotated[Text, AfterValidator(_account_name)]


def _key_variable(name: str) -> str:
    if not os.environ.get(name):
        raise ValueError("names an environment variable that is not set")
    try:
        checked_key(os.environ[name])
    except ValueError as error:
        raise ValueError(f"names an environment variable whose value {error}") from None
    return name


def _dollars(value: object) -> Decimal:
    """Read an amount; a file's float is taken for the shortest decimal it stands for, which is what was written."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise ValueError("is not an amount of US dollars; write it like 1500 or 1500.50")  # noqa: TRY004  a user's value
    try:
        amount = Decimal(str(value))
        is_whole = amount.is_finite() and int(amount.as_tuple().exponent) >= _PLACES
    except InvalidOperation:
        raise ValueError("is not an amount of US dollars; write it like 1500 or 1500.50, without a currency") from None
    if not is_whole:
        raise ValueError("is not an amount of US dollars with at most nine decimal places")
    try:
        nano(amount)
    except ValueError:
        raise ValueError("is more than a ledger can hold") from None
    return amount


CreditFloor = Annotated[Decimal, BeforeValidator(_dollars)]


class AccountEntry(BaseModel):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """An account as the configuration file lists it: a name, one way to its key, and perhaps its own sources."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: AccountName
    key: Key | None = None
    key_file: KeyPath | None = None
    key_env: Annotated[Text, AfterValidator(_key_variable)] | None = None
    sources: Sources = None
    credit_floor: CreditFloor | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        given = [field for field in ("key", "key_file", "key_env") if getattr(self, field) is not None]
        if len(given) != 1:
            was = f"has {' and '.join(given)}" if given else "has no key"
            raise ValueError(f"{was}; give exactly one of key, key_file and key_env")
        return self

    def key_source(self) -> KeySource:
        """Return how the account's key is had."""
        if self.key_file is not None:
            return KeyFile(self.key_file)
        if self.key_env is not None:
            return FixedKey(checked_key(os.environ[self.key_env]))
        return FixedKey(self.key or HiddenText(""))


class KeylessEntry(AccountEntry):  # type: ignore[explicit-any]  # as above
    """An account for a command that calls nobody: where its key is need not be there, such as in a job for backups."""

    key_file: Path | None = None
    key_env: Text | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        return self

    def key_source(self) -> KeySource:
        """Return how the account's key is had, which may be in no way."""
        if self.key_env is not None:
            return FixedKey(HiddenText(os.environ.get(self.key_env, "").strip()))
        return super().key_source()


BudgetPeriod = Literal["day", "week", "month"]

_LARGEST_THRESHOLD = 1000


def _name(name: str) -> str:
    if not name or name != name.strip() or name != label_text(name) or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"is not a budget's name, which becomes the value of the budget label; choose 1 to {_LONGEST_NAME} "
            "printable characters without leading or trailing spaces"
        )
    return name


def _amount(value: object) -> Decimal:
    amount = _dollars(value)
    if amount <= 0:
        raise ValueError("is not above 0; write the amount that may be spent")
    return amount


def _threshold(value: object) -> Fraction:
    """Read a share of the amount: a percentage with or without its sign."""
    text = str(value).strip().removesuffix("%").strip()
    try:
        percent = Fraction(text) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
    except (ValueError, ZeroDivisionError):
        percent = None
    if percent is None or not 1 <= percent <= _LARGEST_THRESHOLD:
        raise ValueError(f"is not a percentage between 1% and {_LARGEST_THRESHOLD}%; write it like 80%")
    return percent / 100


def _thresholds(value: object) -> tuple[Fraction, ...]:
    if isinstance(value, tuple) and all(isinstance(item, Fraction) for item in value):
        return value
    shares = [_threshold(item) for item in (value if isinstance(value, list | tuple) else [value])]
    if len(set(shares)) < len(shares):
        raise ValueError("contains a threshold twice; list each once")
    return tuple(sorted(shares))


def _match(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError('is not a mapping of labels to globs; write it like {product: serverless, app: "video-*"}')  # noqa: TRY004  a user's value
    globs: dict[str, tuple[str, ...]] = {}
    for label, patterns in value.items():
        if isinstance(label, str) and label.startswith(TAG):
            check_keys([label.removeprefix(TAG)])
        elif label not in LABELS:
            near = nearest(str(label), list(LABELS))
            raise ValueError(
                f'names the unknown label "{redact_loosely(str(label))[:40]}"; '
                + (f"did you mean {near}?" if near else f"choose some of {', '.join(LABELS)}")
            )
        them = patterns if isinstance(patterns, list | tuple) else [patterns]
        if not them or not all(isinstance(item, str) for item in them):
            raise ValueError(f"has neither a glob nor a list of globs for {label}; put each glob in quotes")
        globs[label] = tuple(label_text(glob) for glob in them)
    beside = sorted(label for label in globs if not label.startswith(TAG) and label not in BESIDE_TAGS)
    if beside and any(label.startswith(TAG) for label in globs):
        raise ValueError(f"combines a tag with {beside[0]}; spend by tags is known by account and model only")
    return globs


class BudgetEntry(BaseModel):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """A budget: what may be spent in every period on the charges that match.

    Attributes:
        amount: US dollars, above 0.
        timezone: whose days, weeks and months; None for the exporter's.
        match: label to globs; a charge counts when each named label matches one of its globs.
        thresholds: shares of the amount, ascending.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: Annotated[Text, AfterValidator(_name)]
    amount: Annotated[Decimal, BeforeValidator(_amount)]
    period: Annotated[BudgetPeriod, one_of(*get_args(BudgetPeriod))] = "month"
    timezone: Zone | None = None
    match: Annotated[Mapping[str, tuple[str, ...]], BeforeValidator(_match)] = {}
    thresholds: Annotated[tuple[Fraction, ...], BeforeValidator(_thresholds)] = (
        Fraction(1, 2),
        Fraction(4, 5),
        Fraction(1),
    )

    def zone(self, default: ZoneInfo) -> ZoneInfo:
        """Return the budget's time zone."""
        return self.timezone or default
