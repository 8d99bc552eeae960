"""Data sets in folders: fal's own report, in pieces or as one, with its manifest; and where files are made."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from exporter.fal import FocusRequest
from exporter.focus.csv_parser import Record, Records, unquoted
from exporter.focus.dataset import naming, parts
from exporter.focus.findings import WrongContentError
from exporter.focus.outputs import Format, Part, Sums, digest_of, manifest_of, place_parts, write_manifest, write_parts
from exporter.focus.values import instant_text
from exporter.queries.focus.files import facts_of
from exporter.unfinished import ScratchFolder


@contextmanager
def making_in(folder: Path) -> Iterator[Path]:
    """Give a place beside the files of a folder, which is made where it is missing, for files that are being written.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ScratchFolder(folder) as place:
        yield place


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
    return facts_of("fal", now) | {
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
