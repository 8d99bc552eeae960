"""Reading of a whole data set for its sums: every part of it, and what is to be known of how each was read."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from exporter.focus.csv_parser import COMMA
from exporter.focus.dataset import naming, parts
from exporter.focus.reader import Reader
from exporter.focus.reports import SUMMARY_COLUMNS, PartRead
from exporter.focus.row_schema import separator_note

RowT = TypeVar("RowT", bound=tuple[object, ...])


def sum_up(
    paths: Sequence[str],
    shape: type[RowT],
    add: Callable[[list[RowT]], None],
    leave_out: Callable[[Mapping[str, object]], None],
    columns: Sequence[str] = (),
    *,
    also: Collection[str] = (),
) -> tuple[list[PartRead], set[str]]:
    """Read all files of a data set; return what was read of each, and the columns that any of them has.

    Args:
        paths: files, folders and globs; `-` for standard input.
        shape: of the rows.
        add: takes them.
        leave_out: takes what can be read of those that cannot be added up.
        columns: those of the shape's `Texts`.
        also: columns of which it matters whether a file has them.

    Raises:
        FocusError: a file cannot be read; the message begins with its name.
    """
    read: list[PartRead] = []
    names: set[str] = set()
    for part in parts(paths):
        reader = Reader(shape, texts=columns, unreadable=leave_out)
        # Parquet is read column by column: those that nobody asks for cost nothing.
        for piece in part.tables({*SUMMARY_COLUMNS, *columns, *also}):
            with naming(part.name):
                add(reader.feed(piece))
        with naming(part.name):
            add(reader.finish())
        header = reader.header
        notes = list(part.notes)
        if header is not None:
            names |= {*header.names}
            if header.separator != COMMA:
                notes.append(separator_note(header.separator))
        version = "" if header is None else header.version
        read.append(PartRead(part.name, version, reader.rows, reader.naive_dates, reader.problems, notes))
    return read, names
