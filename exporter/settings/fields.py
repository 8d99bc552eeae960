"""Types of settings: each reads what a user writes, or what a file has, and says in a predicate what is wrong with it.

The texts themselves are read by `exporter.settings.parsing`.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, SecretStr

from exporter.charges import HOUR
from exporter.settings.credentials import checked_key, checked_tokens, read_key
from exporter.settings.parsing import (
    Listen,
    check_events_url,
    check_host_names,
    check_ledger_url,
    check_origins,
    check_push_url,
    choose_endpoints,
    choose_labels,
    choose_services,
    choose_sources,
    format_size,
    nearest,
    parse_base_url,
    parse_duration,
    parse_extra_labels,
    parse_headers,
    parse_listen,
    parse_size,
)
from exporter.settings.web_config import checked_web_config
from exporter.tags import check_keys

_Value = TypeVar("_Value")

_LEAST_SIZE, _LARGEST_SIZE = 2**10, 2**32


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("is not text; put it in quotes")


def _read(kind: type[_Value], parse: Callable[[str], _Value]) -> BeforeValidator:
    """Parse what a user wrote; pass on what already is a value."""
    return BeforeValidator(lambda value: value if isinstance(value, kind) else parse(_text(value)))


def _names(value: object) -> list[str]:
    """Read a comma list, or a file's list, of names."""
    if isinstance(value, str):
        return [name.strip() for name in value.split(",") if name.strip()]
    if isinstance(value, list | tuple):
        return [_text(name).strip() for name in value]
    raise ValueError("is not a list of names; separate them with commas")


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError("has no unit; write it like 90s, 5m, 1h30m or 30d")


def _size(value: object) -> int:
    size = value if type(value) is int else parse_size(_text(value))
    if not _LEAST_SIZE <= size <= _LARGEST_SIZE:
        raise ValueError(f"is not between {format_size(_LEAST_SIZE)} and {format_size(_LARGEST_SIZE)}")
    return size


def _column(text: str) -> str:
    if not re.fullmatch(r"[\w .$-]{1,100}", text):
        raise ValueError("is not the name of a column; write it like request_id or metadata.fal_request_id")
    return text


def _zone(name: str) -> ZoneInfo:
    zones = available_timezones()
    if name in zones:
        return ZoneInfo(name)
    near = nearest(name, sorted(zones))
    raise ValueError(f"is not an IANA time zone{f'; did you mean {near}?' if near else ', like Europe/Berlin or UTC'}")


def _history(value: object) -> timedelta | None:
    if value is None or value == "auto":
        return None
    return _read_duration(value)


def _listen_or_off(value: object) -> Listen | None:
    if value is None or isinstance(value, Listen):
        return value
    # YAML reads a bare `off` as false.
    return None if value is False or str(value).strip().lower() == "off" else parse_listen(str(value))


def _whole_hours(duration: timedelta) -> timedelta:
    if duration % HOUR:
        raise ValueError("is not a whole number of hours; fal's charges are hourly")
    return duration


def between(least: str, most: str) -> AfterValidator:
    """Admit durations from `least` to `most`, both included."""

    def check(duration: timedelta | None) -> timedelta | None:
        if duration is not None and not parse_duration(least) <= duration <= parse_duration(most):
            raise ValueError(f"is not between {least} and {most}")
        return duration

    return AfterValidator(check)


def one_of(*choices: str) -> BeforeValidator:
    """Admit one of a few words, in any case."""

    def check(value: object) -> str:
        # YAML reads true and false as booleans, and 1.2 as a number.
        text = str(value) if isinstance(value, bool | float) else value
        word = text.strip().lower() if isinstance(text, str) else ""
        if word not in choices:
            raise ValueError(f"is not one of {', '.join(choices)}")
        return word

    return BeforeValidator(check)


def _sources(value: object) -> tuple[str, ...] | None:
    return None if value is None else choose_sources(_names(value))


def _key_path(path: Path) -> Path:
    read_key(path)
    return path


Text = Annotated[str, BeforeValidator(_text)]
Duration = Annotated[timedelta, BeforeValidator(_read_duration)]
Hours = Annotated[Duration, AfterValidator(_whole_hours)]
History = Annotated[
    timedelta | None,
    AfterValidator(lambda duration: duration if duration is None else _whole_hours(duration)),
    BeforeValidator(_history),
]
Size = Annotated[int, BeforeValidator(_size)]
ListenAddress = Annotated[
    Listen, BeforeValidator(lambda value: value if isinstance(value, Listen) else parse_listen(str(value)))
]
ListenAddressOrOff = Annotated[Listen | None, BeforeValidator(_listen_or_off)]
HostNames = Annotated[tuple[str, ...], BeforeValidator(lambda value: check_host_names(_names(value)))]
BaseUrl = Annotated[str, BeforeValidator(lambda value: parse_base_url(_text(value)))]
LedgerUrl = Annotated[SecretStr, _read(SecretStr, lambda text: SecretStr(check_ledger_url(text)))]
PushUrl = Annotated[str, BeforeValidator(lambda value: check_push_url(_text(value)))]
EventsUrl = Annotated[SecretStr, _read(SecretStr, lambda text: SecretStr(check_events_url(text)))]
Secret = Annotated[SecretStr, _read(SecretStr, lambda text: SecretStr(text.strip()))]
HeaderFields = Annotated[SecretStr, _read(SecretStr, lambda text: parse_headers(text) and SecretStr(text))]
ExtraLabels = Annotated[tuple[str, ...], BeforeValidator(lambda value: parse_extra_labels(_names(value)))]
BookedColumn = Annotated[str, AfterValidator(_column)]
BookedSource = Annotated[SecretStr, _read(SecretStr, SecretStr)]


def _key(text: str) -> SecretStr:
    return SecretStr(checked_key(text).get_secret_value())


Key = Annotated[SecretStr, _read(SecretStr, _key)]
KeyPath = Annotated[Path, AfterValidator(_key_path)]
TokensPath = Annotated[Path, AfterValidator(checked_tokens)]
WebOrigins = Annotated[tuple[str, ...], BeforeValidator(lambda value: check_origins(_names(value)))]
Zone = Annotated[ZoneInfo, _read(ZoneInfo, _zone)]
Sources = Annotated[tuple[str, ...] | None, BeforeValidator(_sources)]
Labels = Annotated[tuple[str, ...], BeforeValidator(lambda value: choose_labels(_names(value)))]
Endpoints = Annotated[tuple[str, ...], BeforeValidator(lambda value: choose_endpoints(_names(value)))]
CostServices = Annotated[tuple[str, ...], BeforeValidator(lambda value: choose_services(_names(value)))]
Tags = Annotated[tuple[str, ...], BeforeValidator(lambda value: check_keys(_names(value)))]
WebConfigPath = Annotated[
    Annotated[Path, AfterValidator(checked_web_config)] | None, BeforeValidator(lambda given: given or None)
]
"""An empty flag is no file, as in every Prometheus exporter."""
