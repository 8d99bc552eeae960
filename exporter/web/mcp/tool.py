"""Tools: a question an agent may ask, its schema, and answers as Markdown."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from exporter.charges import Clock
from exporter.inquiry import Inquirer
from exporter.interruption import current_check
from exporter.publication import Publication
from exporter.queries.coverage import why_nothing
from exporter.queries.parameters import NoDataYetError, Parameter, QuestionError

if TYPE_CHECKING:
    from exporter.events.store import EventReader
    from exporter.ledger.reader import LedgerReader, LedgerSnapshot

_NOTHING = "-"


def table(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Return a Markdown table of the cells with these names; what is null, missing or empty is a dash."""
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def columns_of(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return the names of the cells that at least one row fills, in the order in which they appear."""
    return list(dict.fromkeys(name for row in rows for name, value in row.items() if not _is_nothing(value)))


def _is_nothing(value: object) -> bool:
    return value is None or value in ("", [], {})


def _cell(value: object) -> str:
    match value:
        case Mapping():
            text = ", ".join(f"{_cell(part)} {name}" for name, part in value.items())
        case list():
            text = ", ".join(map(_cell, value))
        case float():
            text = f"{value:.3g}"
        case None:
            text = ""
        case _:
            text = str(value)
    return text.replace("|", "\\|").replace("\n", " ") or _NOTHING


Arguments = Mapping[str, object]
"""Arguments of a call as parsed JSON."""

Schema = Mapping[str, object]
"""A JSON Schema, draft 2020-12, of an object."""

_COMMA_LIST = ", comma-separated"
_COMMA = re.compile(r"(?<!\\),")
"""A comma of a value, which does not separate it from others."""


@dataclass(frozen=True, slots=True)
class Known:
    """Sources of the tools' answers.

    Attributes:
        latest: returns what has been published last; None before the first.
        zone: of days and months where a question names none.
        inquirer: asks the collector; None where there is none.
        accounts: those that are polled.
        requests: returns the store of single requests; None where they are not read.
    """

    reader: "LedgerReader"
    latest: Callable[[], Publication | None]
    zone: ZoneInfo
    clock: Clock
    inquirer: Inquirer | None = None
    accounts: tuple[str, ...] = ()
    requests: "Callable[[], EventReader] | None" = None

    @contextmanager
    def snapshot(self) -> "Iterator[LedgerSnapshot]":
        """Open the ledger; what is read of it ends once nobody waits for the call's answer."""
        with self.reader.snapshot(current_check()) as snapshot:
            try:
                yield snapshot
            except NoDataYetError as error:
                raise why_nothing(error, self.latest()) from None


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a tool.

    Attributes:
        document: JSON-able, as its output schema says; amounts are decimal text.
        text: the same for a model that reads text.
    """

    document: Mapping[str, object]
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool; all of them only read.

    Attributes:
        answer: answers from the arguments; may take seconds, is called in a thread, raises FalExporterError with the
            sentence for the caller.
    """

    name: str
    title: str
    description: str
    input_schema: Schema
    output_schema: Schema
    answer: Callable[[Arguments], Answer]


def input_schema(parameters: Iterable[Parameter[object]]) -> Schema:
    """Return the schema of an object with these parameters."""
    return {
        "type": "object",
        "properties": {
            parameter.name: {**parameter.schema, "description": parameter.meaning.replace(_COMMA_LIST, "")}
            for parameter in parameters
        },
        "additionalProperties": False,
    }


def as_texts(arguments: Arguments) -> dict[str, str]:
    """Return arguments as the texts that questions are read from: a list as a comma list, null as not given.

    Raises:
        QuestionError: a value is something else than text, a whole number or a list of texts.
    """
    return {name: _text(name, value) for name, value in arguments.items() if value is not None}


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        if any(item.endswith("\\") for item in value[:-1]):
            # The comma behind it would be taken for one of the value.
            raise QuestionError(name, "has a value that ends with a backslash; give it last")
        return ",".join(_COMMA.sub(r"\,", item) for item in value)
    raise QuestionError(name, "is not text, a whole number or a list of texts")
