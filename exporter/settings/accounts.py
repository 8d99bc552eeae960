"""The accounts that are polled: as a file lists them, and as the exporter uses them."""

import os
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr, model_validator

from exporter.settings.fields import Key, KeyPath, Sources, Text
from exporter.settings.keys import FixedKey, KeyFile, KeySource, checked_key

_LONGEST_NAME = 100


@dataclass(frozen=True)
class Account:
    """One fal account.

    Attributes:
        name: the value of the `account` label; unique.
        sources: the primary sources to poll, or None where they are chosen by what the key may read.
        key: returns the key to use now.
    """

    name: str
    sources: tuple[str, ...] | None
    key: KeySource


def _account_name(name: str) -> str:
    if not name.strip():
        raise ValueError("is empty; an account's name becomes the value of the account label")
    if name != name.strip() or not name.isprintable():
        raise ValueError("has blanks at an end or characters that cannot be printed; choose a plain name")
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


class AccountEntry(BaseModel):  # type: ignore[explicit-any]  # in the initialiser mypy derives from pydantic's base
    """An account as the configuration file lists it: a name, one way to its key, and perhaps its own sources."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: AccountName
    key: Key | None = None
    key_file: KeyPath | None = None
    key_env: Annotated[Text, AfterValidator(_key_variable)] | None = None
    sources: Sources = None

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
        return FixedKey(self.key or SecretStr(""))
