"""Parameters of questions: declared once, and read and described by the declaration (OpenAPI, MCP, documentation)."""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from difflib import get_close_matches
from typing import Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from exporter.calendar import first_hour_of, month_after
from exporter.charges import Window, label_text
from exporter.errors import FalExporterError

UNREADABLE = "the ledger cannot be read at the moment, or does not exist yet; see the exporter's log"
"""Sentence for callers in place of an error of the ledger, whose own sentence names the ledger's address."""


class QuestionError(FalExporterError):
    """A question cannot be understood; the message repeats nothing of what was sent, in which a key could be.

    Attributes:
        parameter: the parameter that is wrong.
        predicate: what is wrong with it and what is accepted: `is not ...; write it like ...`.
    """

    def __init__(self, parameter: str, predicate: str) -> None:
        super().__init__(f"{parameter} {predicate}")
        self.parameter = parameter
        self.predicate = predicate


class NoDataYetError(FalExporterError):
    """Nothing has been loaded yet that could be told."""


Value = TypeVar("Value")
Read_co = TypeVar("Read_co", covariant=True)
Schema = Mapping[str, object]
"""A JSON Schema, draft 2020-12."""

LocalTime = date | datetime
"""An instant as it was written: a day, or a date-time that may lack its offset."""

_MOST_VALUES = 50
_LONGEST_VALUE = 1000
_SEPARATOR = re.compile(r"(?<!\\),")
_MONTH = r"^20[0-9]{2}-(0[1-9]|1[0-2])$"
_DATE = r"20[0-9]{2}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_TIME = r"T([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
_INSTANT = rf"^{_DATE}({_TIME}(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])?)?$"
_LONGEST_INSTANT = len("2026-11-01T00:00:00.000000+01:00")
_LETTERS = re.compile(r"[A-Za-z_-]{1,40}")


@dataclass(frozen=True, slots=True)
class Parameter(Generic[Read_co]):
    """One parameter.

    Attributes:
        meaning: a sentence or two for people, the default among it.
        schema: of the value; an array is written as a comma list.
        example: as it is written in a query.
        read: reads the text; raises ValueError with a predicate ("is not ...; write it like ...").
    """

    name: str
    meaning: str
    schema: Schema
    example: str
    read: Callable[[str], Read_co]

    @property
    def is_list(self) -> bool:
        """True if the parameter takes a comma list."""
        return self.schema.get("type") == "array"


class Given:
    """Parameters that a caller has given, all of them known.

    Args:
        texts: the text of every parameter that was given.
        known: the parameters that may be.

    Raises:
        QuestionError: a parameter is not known.
    """

    def __init__(self, texts: Mapping[str, str], known: Iterable[Parameter[object]]) -> None:
        names = [parameter.name for parameter in known]
        for name in texts:
            if name not in names:
                near = get_close_matches(name, names, n=1)
                # What is no word is not repeated: it could be a key in the wrong place.
                shown = name if _LETTERS.fullmatch(name) else "what was sent"
                raise QuestionError(
                    shown, f"is not a parameter; did you mean {near[0]}?" if near else f"is not one of {_all(names)}"
                )
        self._texts = texts

    def get(self, parameter: Parameter[Value]) -> Value | None:
        """Return a parameter's value, or None where it was not given.

        Raises:
            QuestionError: it cannot be read.
        """
        text = self._texts.get(parameter.name)
        if text is None:
            return None
        try:
            return parameter.read(text)
        except ValueError as error:
            raise QuestionError(parameter.name, str(error)) from None


class Further(NamedTuple):
    """Words of a form: a regular expression for the whole of one, and how it is written in a sentence."""

    pattern: str
    shown: str

    def fits(self, word: str) -> bool:
        """Return whether a word is of the form."""
        return re.fullmatch(self.pattern[1:-1], word) is not None


def instant(name: str, meaning: str, example: str) -> Parameter[LocalTime]:
    """Declare an instant; `aware` makes it one of UTC."""
    schema = {"type": "string", "pattern": _INSTANT, "maxLength": _LONGEST_INSTANT}
    return Parameter(name, meaning, schema, example, _read_instant)


def span(name: str, meaning: str, words: tuple[str, ...], example: str) -> Parameter[str | tuple[LocalTime, LocalTime]]:
    """Declare a span of time: one of a few words, or two instants with a slash between them."""

    def read(text: str) -> str | tuple[LocalTime, LocalTime]:
        if text in words:
            return text
        start, slash, end = text.partition("/")
        with suppress(ValueError):
            if slash:
                return _read_instant(start), _read_instant(end)
        raise ValueError(f"is not {_all(words)} or two times with a slash; write it like {example}")

    pattern = rf"^({'|'.join(words)}|{_INSTANT[1:-1]}/{_INSTANT[1:-1]})$"
    schema = {"type": "string", "pattern": pattern, "maxLength": 2 * _LONGEST_INSTANT + 1}
    return Parameter(name, meaning, schema, example, read)


def aware(written: LocalTime, zone: ZoneInfo) -> datetime:
    """Return an instant in UTC: what is written without an offset is of the zone, a day begins as in `/metrics`."""
    if not isinstance(written, datetime):
        return first_hour_of(written, zone)
    return (written if written.tzinfo else written.replace(tzinfo=zone)).astimezone(UTC)


def month(name: str, meaning: str) -> Parameter[Window]:
    """Declare a month of UTC, as fal's billing months are."""

    def read(text: str) -> Window:
        if not re.fullmatch(_MONTH[1:-1], text):
            raise ValueError("is not a month; write it like 2026-11")
        first = date.fromisoformat(f"{text}-01")
        utc = ZoneInfo("UTC")
        return Window(first_hour_of(first, utc), first_hour_of(month_after(first), utc))

    return Parameter(name, meaning, {"type": "string", "pattern": _MONTH}, "2026-11", read)


def choice(name: str, meaning: str, choices: tuple[str, ...], *, further: Further | None = None) -> Parameter[str]:
    """Declare one of a few words; `further` are words of a form beside them."""

    def read(text: str) -> str:
        if text not in choices and (further is None or not further.fits(text)):
            also = () if further is None else (further.shown,)
            raise ValueError(f"is not one of {_all((*choices, *also))}")
        return text

    schema: Schema = {"type": "string", "enum": list(choices)}
    if further is not None:
        schema = {"type": "string", "anyOf": [{"enum": list(choices)}, {"pattern": further.pattern}]}
    return Parameter(name, meaning, schema, choices[0], read)


def choices(
    name: str, meaning: str, known: tuple[str, ...], example: str, *, further: Further | None = None
) -> Parameter[tuple[str, ...]]:
    """Declare a list of words, each at most once; `further` are words of a form beside the known ones."""

    def read(text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        fits = all(word in known or (further is not None and further.fits(word)) for word in words)
        if not fits or len(set(words)) < len(words):
            also = "" if further is None else f", {further.shown}"
            raise ValueError(f"is not a comma-separated list of {_all(known)}{also}, each at most once")
        return words

    items: Schema = {"type": "string", "enum": list(known)}
    if further is not None:
        items = {"type": "string", "anyOf": [{"enum": list(known)}, {"pattern": further.pattern}]}
    return Parameter(
        name, meaning, {"type": "array", "items": items, "minItems": 1, "uniqueItems": True}, example, read
    )


def values(name: str, meaning: str, example: str) -> Parameter[frozenset[str]]:
    """Declare a list of any values, of which one has to match; a comma within a value has a backslash before it."""

    def read(text: str) -> frozenset[str]:
        words = [word.replace(r"\,", ",") for word in _SEPARATOR.split(text)]
        found = frozenset(map(label_text, words))
        if "" in found or len(found) > _MOST_VALUES or any(len(word) > _LONGEST_VALUE for word in words):
            raise ValueError(
                f"is not a comma-separated list of up to {_MOST_VALUES} values of up to {_LONGEST_VALUE} characters; "
                "leave it out to ask for all"
            )
        return found

    items = {"type": "string", "pattern": r"^[^,]+$", "maxLength": _LONGEST_VALUE}
    return Parameter(
        name, meaning, {"type": "array", "items": items, "minItems": 1, "maxItems": _MOST_VALUES}, example, read
    )


def pairs(name: str, meaning: str, example: str) -> Parameter[Mapping[str, frozenset[str]]]:
    """Declare a list of keys of tags with values; a key may come with several."""
    pattern = r"^[a-z0-9._-]{1,64}=[^,]+$"

    def read(text: str) -> Mapping[str, frozenset[str]]:
        words = text.split(",")
        if len(words) > _MOST_VALUES or not all(
            len(word) <= _LONGEST_VALUE and re.fullmatch(pattern[1:-1], word) for word in words
        ):
            raise ValueError(f"is not a comma-separated list of up to {_MOST_VALUES} KEY=VALUE, such as {example}")
        found: dict[str, frozenset[str]] = {}
        for word in words:
            key, _, value = word.partition("=")
            found[key] = found.get(key, frozenset()) | {label_text(value)}
        return found

    items = {"type": "string", "pattern": pattern, "maxLength": _LONGEST_VALUE}
    return Parameter(
        name, meaning, {"type": "array", "items": items, "minItems": 1, "maxItems": _MOST_VALUES}, example, read
    )


def whole_number(name: str, meaning: str, least: int, most: int) -> Parameter[int]:
    """Declare a whole number."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most):
            raise ValueError(f"is not a whole number from {least} to {most}")
        return int(text)

    return Parameter(name, meaning, {"type": "integer", "minimum": least, "maximum": most}, str(most), read)


def time_zone(name: str, meaning: str) -> Parameter[ZoneInfo]:
    """Declare an IANA time zone."""

    def read(text: str) -> ZoneInfo:
        try:
            return ZoneInfo(text)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("is not an IANA time zone, like Europe/Berlin or UTC") from None

    return Parameter(name, meaning, {"type": "string", "format": "iana-time-zone"}, "Europe/Berlin", read)


def _read_instant(text: str) -> LocalTime:
    # In a query a plus sign that was not escaped arrives as a blank.
    text = text.replace(" ", "+")
    with suppress(ValueError):
        if len(text) <= _LONGEST_INSTANT and re.fullmatch(_INSTANT[1:-1], text):
            return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
    raise ValueError("is not a date or a time; write it like 2026-11-01 or 2026-11-01T06:00Z")


def _all(names: Iterable[str]) -> str:
    return ", ".join(names)
