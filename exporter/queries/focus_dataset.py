"""Data sets of FOCUS files from the ledger, with what their manifests say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from exporter import __version__
from exporter.charges import HOUR, Window, hour_of
from exporter.focus.charge import month_start, next_month
from exporter.focus.outputs import Format, Part, manifest_of, write_parts
from exporter.focus.values import instant_text
from exporter.focus.writer import layout, rows_of
from exporter.ledger.export import Statement
from exporter.queries.focus_file import FileContents

FILE_NAME = "focus"
"""Name of the files of a data set from the ledger, without an ending."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set whose files are made and have not taken their names.

    Attributes:
        complete: whether all of its window is over and has been read.
    """

    parts: Sequence[Part]
    manifest: Mapping[str, object]
    complete: bool


def ledger_dataset(
    statement: Statement,
    contents: FileContents,
    place: Path,
    *,
    output_format: Format,
    version: str,
    created: datetime,
    for_spreadsheet: bool = False,
    name: str = FILE_NAME,
) -> Dataset:
    """Write charges of the ledger into files of a folder, one a billing period.

    Args:
        statement: from which the contents are.
        contents: the charges; read once.
        place: the folder; see `making_in`.
        output_format: of the files.
        version: of FOCUS.
        created: the present.
        for_spreadsheet: see `exporter.focus.writer.write`.
        name: of each file, without an ending.
    """
    columns = layout(version)
    rows = rows_of(contents.charges, version=version, for_spreadsheet=for_spreadsheet)
    written = write_parts(columns, rows, place, output_format, name=name, by_period=True)
    window = contents.window
    missing = _missing(statement, window, created)
    complete = not missing and window.end <= created
    facts = facts_of("the ledger", created) | {
        "focus_version": version,
        "format": output_format.value,
        "granularity": contents.granularity.value,
        "accounts": list(statement.accounts),
        "completeness": {
            "start": instant_text(window.start),
            "end": instant_text(window.end),
            "complete": complete,
            "missing_hours": sum(missing.values()),
            "missing_hours_by_billing_period": missing,
            "open": window.end > created,
        },
    }
    return Dataset(written, manifest_of(written, columns, facts), complete)


def facts_of(origin: str, created: datetime) -> dict[str, object]:
    """Return what every manifest begins with."""
    return {
        "manifest_version": 1,
        "generator": f"fal-exporter {__version__}",
        "origin": origin,
        "created": instant_text(created),
    }


def _missing(statement: Statement, window: Window, now: datetime) -> dict[str, int]:
    """Return the hours that have begun and are not read to their end, by month; months that lack none are left out."""
    end = min(window.end, hour_of(now) + HOUR)
    start, found = window.start, {}
    while start < end:
        following = min(next_month(month_start(start)), end)
        if lacking := statement.coverage(Window(start, following)).missing:
            found[f"{start:%Y-%m}"] = lacking
        start = following
    return found
