"""Data sets of FOCUS files: what `focus export`, `focus fetch` and `focus push` write, with their manifests.

Begin reading at `ledger_dataset`.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from exporter import __version__
from exporter.charges import HOUR, Window, hour_of
from exporter.fal import FocusRequest
from exporter.focus.charge import month_start, next_month
from exporter.focus.csv_parser import Record, Records, unquoted
from exporter.focus.dataset import naming, parts
from exporter.focus.findings import WrongContentError
from exporter.focus.outputs import Format, Part, Sums, digest_of, manifest_of, place_parts, write_manifest, write_parts
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


@contextmanager
def making_in(folder: Path) -> Iterator[Path]:
    """Give a place beside the files of a folder, which is made where it is missing, for files that are being written.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as place:
        yield Path(place)


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
    facts = _facts("the ledger", created) | {
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


def _facts(origin: str, created: datetime) -> dict[str, object]:
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


def keep_pieces(folder: Path, paths: Sequence[Path], request: FocusRequest, now: datetime) -> None:
    """List the pieces of fal's report in the manifest of their folder, which is one data set then.

    Raises:
        OSError: a file cannot be read or written.
        FocusError: a piece is no CSV file.
    """
    columns: list[str] = []
    pieces = []
    for path in paths:
        sums = Sums()
        own, rows = _rows(path, sums)
        sums.begin(own)
        for some in rows:
            sums.add(some)
        columns += [column for column in own if column not in columns]
        pieces.append(_piece(path, sums))
    write_manifest(folder, manifest_of(pieces, columns, _fetched_facts(request, Format.CSV, paths, now)))


def fetched_dataset(
    folder: Path,
    paths: Sequence[Path],
    request: FocusRequest,
    *,
    output_format: Format,
    by_period: bool,
    name: str,
    now: datetime,
) -> list[Path]:
    """Write the pieces of fal's report as one data set, in order; return the paths of its files.

    Args:
        folder: where to.
        paths: of the pieces.
        request: for the whole report.
        output_format: of the files.
        by_period: whether each billing period has a file of its own.
        name: of each file, without an ending.
        now: the present.

    Raises:
        OSError: a file cannot be read or written.
        FocusError: a piece is no CSV file, or has other columns than the first one.
    """
    columns, _ = _rows(paths[0])

    def rows() -> Iterator[list[list[str]]]:
        for path in paths:
            own, some = _rows(path)
            if own != columns:
                raise WrongContentError(
                    f"{path}: its columns differ from those of {paths[0].name}, so that both are not one table; fetch "
                    "without --format and --partition"
                )
            yield from some

    with making_in(folder) as place:
        written = write_parts(columns, rows(), place, output_format, name=name, by_period=by_period)
        facts = _fetched_facts(request, output_format, paths, now)
        place_parts(folder, written, manifest_of(written, columns, facts))
    return [folder / part.path for part in written]


def _fetched_facts(
    request: FocusRequest, output_format: Format, paths: Sequence[Path], now: datetime
) -> dict[str, object]:
    completeness: dict[str, object] = {"complete": True}
    if request.start is not None and request.end is not None:
        read_at = min((path.stat().st_mtime for path in paths), default=now.timestamp())
        is_open = request.end.timestamp() > read_at
        completeness = {
            "start": instant_text(request.start),
            "end": instant_text(request.end),
            "complete": not is_open,
            "open": is_open,
        }
    return _facts("fal", now) | {
        "source": request.source,
        "format": output_format.value,
        "completeness": completeness,
    }


def _piece(path: Path, sums: Sums) -> Part:
    return Part(path.name, "", path, path.stat().st_size, digest_of(path), sums)


_SOME = 500


def _rows(path: Path, tolerant: Sums | None = None) -> tuple[list[str], Iterator[list[list[str]]]]:
    """Return the columns of a CSV file, and an iterator over its rows, some at a time.

    Args:
        path: of the file.
        tolerant: counts the rows that cannot be read; None where there must be none.
    """
    records = _records(path)
    columns = _texts(next(records, Record(1, [])))

    def rows() -> Iterator[list[list[str]]]:
        some: list[list[str]] = []
        for record in records:
            problem = record.malformed
            if not problem and len(record.fields) != len(columns):
                problem = f"it has {len(record.fields)} fields, the header {len(columns)}"
            if not problem:
                some.append(_texts(record))
            elif tolerant is None:
                raise WrongContentError(f"{path}: line {record.line}: {problem}; fetch it without --format")
            else:
                tolerant.unreadable += 1
            if len(some) == _SOME:
                yield some
                some = []
        if some:
            yield some

    return columns, rows()


def _texts(record: Record) -> list[str]:
    # What is no UTF-8 is a finding of the check, and no reason not to keep the rest.
    return [unquoted(raw).decode(errors="replace") for raw in record.fields]


def _records(path: Path) -> Iterator[Record]:
    for part in parts([str(path)]):
        reader = Records()
        for piece in part.pieces():
            with naming(part.name):
                found = reader.feed(piece)
            yield from found
        with naming(part.name):
            left = reader.finish()
        yield from left
