"""Data sets: the files that people have, as one sequence of tables, and their rows to be added up.

Any number of files, folders and globs, and `-` for standard input, are one data set. Each file is recognised by its
first bytes, not by its name: CSV, gzip, zstd and ZIP around it (in each other, too), and Parquet, which the optional
extra `polars` turns into CSV. A folder is all files in it whose names end like those of tables; where it has a
manifest of ours (see `outputs`), the files that this lists, each of which must have the digest that it says.
"""

import gzip
import hashlib
import io
import json
import shutil
import sys
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import glob, has_magic
from os.path import realpath
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, TypeVar, cast

from exporter.focus.csv_parser import COMMA, READ
from exporter.focus.findings import FocusError, TruncatedFileError, WrongContentError
from exporter.focus.reader import Reader
from exporter.focus.reports import SUMMARY_COLUMNS, PartRead
from exporter.focus.row_schema import separator_note
from exporter.unfinished import ScratchFolder

if TYPE_CHECKING:
    from exporter.focus.polars_reader import Table

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STANDARD_INPUT = "-"
MANIFEST = "manifest.json"
"""Name of the file in a folder that lists the files of its data set."""

ENDINGS = (".csv", ".tsv", ".txt", ".gz", ".zst", ".zstd", ".zip", ".parquet")
"""Endings of the names of tables; others in a folder are not read."""

_GZIP, _ZSTD, _PARQUET = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PAR1"
_ZIP = b"PK\x03\x04", b"PK\x05\x06"
"""Beginnings of a ZIP archive, and of one without a file."""

_EXCEL = "[Content_Types].xml"
_IN_MEMORY = 1 << 20
_DEEPEST = 4
_REFUSED = MappingProxyType({b"\xd0\xcf\x11\xe0": "an old Excel file; save it as CSV first", b"ORC": "an ORC file"})


class UnreadableFileError(FocusError):
    """A file of a data set cannot be opened or read."""


class Part:
    """One table of a data set.

    Attributes:
        name: of the file, of the member of an archive after its file's, or `standard input`.
        notes: what is to be known of how it was read.
    """

    def __init__(self, name: str, stream: IO[bytes]) -> None:
        self.name = name
        self.notes: list[str] = []
        self._stream = stream

    def pieces(self) -> Iterator[bytes]:
        """Yield the table as CSV, piece by piece.

        Raises:
            FocusError: it cannot be read to its end; the message begins with its name.
        """
        for piece in self.tables():
            yield piece if isinstance(piece, bytes) else piece.csv()

    def tables(self, columns: Collection[str] | None = None) -> "Iterator[bytes | Table]":
        """Yield the table piece by piece: as CSV, or the header as CSV and what follows as it is stored.

        Args:
            columns: those that are needed, where leaving out others saves time; None for all.

        Raises:
            FocusError: it cannot be read to its end; the message begins with its name.
        """
        del columns
        with naming(self.name):
            while piece := self._stream.read(READ):
                yield piece


class ParquetPart(Part):
    """A table in a Parquet file."""

    def tables(self, columns: Collection[str] | None = None) -> "Iterator[bytes | Table]":
        """Yield the table, see `Part.tables`; numbers that are not stored exactly are named in the notes."""
        with naming(self.name):
            try:
                from exporter.focus.parquet import tables  # noqa: PLC0415  an extra, and slow to import
            except ImportError:
                raise WrongContentError(
                    "this is a Parquet file; install fal-exporter[polars] to read it, or save it as CSV"
                ) from None
            with _as_file(self._stream) as path:
                yield from tables(path, columns, self.notes)


def parts(arguments: Sequence[str]) -> Iterator[Part]:
    """Yield the tables of a data set in order; each is to be read before the next is asked for.

    Args:
        arguments: files, folders, globs, and `-` for standard input.

    Raises:
        FocusError: there is no such file, it cannot be opened, or it is damaged; the message begins with its name.
    """
    for argument in dict.fromkeys(arguments):
        if argument == STANDARD_INPUT:
            yield from _tables("standard input", sys.stdin.buffer)
    for path in _files([argument for argument in arguments if argument != STANDARD_INPUT]):
        with naming(str(path)):
            file = path.open("rb")
        with file:
            yield from _tables(str(path), file)


def name_of(arguments: Sequence[str]) -> str:
    """Return how a report calls a data set."""
    names = ["standard input" if argument == STANDARD_INPUT else argument for argument in dict.fromkeys(arguments)]
    return ", ".join(names)


def _files(arguments: Iterable[str]) -> Iterator[Path]:
    """Yield files, each once, however often it is named."""
    seen: set[str] = set()
    for argument in arguments:
        if not argument:
            # It would be the current folder, and all that is in it.
            raise UnreadableFileError("a name of a file is empty; is a variable of the shell not set?")
        path = Path(argument)
        found: Iterable[Path] = [path]
        with naming(argument):
            is_folder, is_there = path.is_dir(), path.exists()
        if is_folder:
            found = _files_in(path)
        elif not is_there and has_magic(argument):
            matches = [Path(match) for match in sorted(glob(argument, recursive=True))]  # noqa: PTH207  it may be absolute
            if not matches:
                raise UnreadableFileError(f"{argument}: no file has a name like this")
            found = (file for match in matches for file in (_files_in(match) if match.is_dir() else [match]))
        for file in found:
            # Other than `Path.resolve`, it leaves a link to itself to whoever opens it.
            if (whole := realpath(file)) not in seen:
                seen.add(whole)
                yield file


def _files_in(folder: Path) -> Iterable[Path]:
    manifest = folder / MANIFEST
    listed = _entries(manifest) if manifest.is_file() else None
    if listed is not None:
        return _listed(manifest, listed)
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.name.lower().endswith(ENDINGS)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise UnreadableFileError(f"{folder}: the folder has no file whose name ends in one of {', '.join(ENDINGS)}")
    return found


def _entries(manifest: Path) -> Mapping[Path, object] | None:
    """Return the files that a manifest of ours lists, with their digests; None for one of another program.

    Providers call the list of their export's files by the same name.
    """
    try:
        found = json.loads(manifest.read_bytes())
        if isinstance(found, dict) and not {"files", "manifest_version"} & found.keys():
            return None
        return {manifest.parent / str(file["path"]): file.get("sha256") for file in found["files"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise WrongContentError(f"{manifest}: this is no manifest of a data set; name the files themselves") from None


def _listed(manifest: Path, listed: Mapping[Path, object]) -> Iterator[Path]:
    """Yield the files of a manifest, which all lie in its folder or below, and hold what it says."""
    folder = manifest.parent.resolve()
    strays = [path for path in listed if not path.resolve().is_relative_to(folder)]
    if strays:
        raise WrongContentError(f"{manifest}: it lists {strays[0]}, which is not in its folder")
    for path, digest in listed.items():
        with naming(str(path)):
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if digest not in {None, found}:
                raise WrongContentError(
                    f"this is not the file that {MANIFEST} lists: its SHA-256 is {found}, not {digest}; write or get "
                    "the data set again, or name the files themselves"
                )
        yield path


def _tables(name: str, file: IO[bytes], depth: int = 0) -> Iterator[Part]:
    """Yield the tables in a file, whatever is around them."""
    stream = file if isinstance(file, io.BufferedReader) else io.BufferedReader(cast("io.RawIOBase", file))
    with naming(name):
        head = stream.peek(len(_ZSTD))[: len(_ZSTD)]
        for magic, what in _REFUSED.items():
            if head.startswith(magic):
                raise WrongContentError(f"this is {what}")
        if depth > _DEEPEST:
            raise WrongContentError(f"it is packed more than {_DEEPEST} times")
    if head.startswith(_GZIP):
        with gzip.GzipFile(fileobj=stream) as unpacked:
            yield from _tables(name, cast("IO[bytes]", unpacked), depth + 1)
    elif head.startswith(_ZSTD):
        with zstd.ZstdFile(stream) as unpacked:
            yield from _tables(name, cast("IO[bytes]", unpacked), depth + 1)
    elif head.startswith(_ZIP):
        with _as_file(stream) as path:
            yield from _members(name, path, depth)
    elif head.startswith(_PARQUET):
        yield ParquetPart(name, stream)
    else:
        yield Part(name, stream)


def _members(name: str, path: Path, depth: int) -> Iterator[Part]:
    with naming(name):
        archive = zipfile.ZipFile(path)
    with archive:
        members = sorted(archive.infolist(), key=lambda member: member.filename)
        with naming(name):
            if any(member.filename == _EXCEL for member in members):
                raise WrongContentError("this is an Excel file; save it as CSV first")
            tables = [
                member
                for member in members
                if member.filename.lower().endswith(ENDINGS)
                and not any(part.startswith((".", "__")) for part in Path(member.filename).parts)
            ]
            if not tables:
                raise WrongContentError(f"no file in this archive has a name that ends in one of {', '.join(ENDINGS)}")
        for member in tables:
            with naming(name):
                file = archive.open(member)
            with file:
                yield from _tables(f"{name}: {member.filename}", file, depth + 1)


@contextmanager
def _as_file(stream: IO[bytes]) -> Iterator[Path]:
    """Give a stream as a file that one can seek in: itself, or a copy where it is packed or a pipe."""
    name = getattr(stream, "name", None)
    if isinstance(name, str) and Path(name).is_file() and isinstance(getattr(stream, "raw", None), io.FileIO):
        yield Path(name)
        return
    with ScratchFolder() as folder:
        path = folder / "copy"
        with path.open("xb") as copy:
            shutil.copyfileobj(stream, copy, _IN_MEMORY)
        yield path


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the name of a file before what is wrong with it, in a sentence of ours whatever was raised."""
    try:
        yield
    except FocusError as error:
        raise type(error)(f"{name}: {error}") from None
    except EOFError:
        raise TruncatedFileError(f"{name}: the compressed file ends too early: it was cut off; get it again") from None
    except (gzip.BadGzipFile, zlib.error, zstd.ZstdError, zipfile.BadZipFile, NotImplementedError) as error:
        raise WrongContentError(f"{name}: the compressed file is damaged ({error}); get it again") from None
    except RuntimeError as error:
        if "encrypted" not in str(error):
            raise
        raise WrongContentError(f"{name}: the archive is encrypted; unpack it first") from None
    except OSError as error:
        raise UnreadableFileError(f"{name} cannot be read: {error.strerror or error}") from None


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
