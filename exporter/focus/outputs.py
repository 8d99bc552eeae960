"""Outputs: tables as CSV, gzip, zstd and Parquet, alone or as a data set in a folder, with a manifest.

A data set is one file, or one for each billing period (`BillingPeriod=2026-10/focus.parquet`, names that query engines
read as a column). The manifest lists its files with digest, rows and sums. Files are made beside their place and take
their names when all of them are whole, the manifest last; a file whose content is there already is left as it is.
"""

import csv
import gzip
import hashlib
import io
import json
import secrets
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import IO, cast

from exporter.errors import ConfigurationError
from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.dataset import MANIFEST
from exporter.focus.values import EXACTLY, NULLS, instant, number, number_text
from exporter.focus.writer import CUSTOM_COLUMNS, decimal_places
from exporter.unfinished import ScratchFolder, written_whole

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class Format(StrEnum):
    """Formats of a table; each is the ending of its files' names."""

    CSV = "csv"
    GZIP = "csv.gz"
    ZSTD = "csv.zst"
    PARQUET = "parquet"


_ENDINGS: Mapping[str, Format] = {
    ".gz": Format.GZIP,
    ".zst": Format.ZSTD,
    ".zstd": Format.ZSTD,
    ".parquet": Format.PARQUET,
}


def format_of(name: str) -> Format:
    """Return the format that the name of a file says; CSV where it says none."""
    return _ENDINGS.get(Path(name.lower()).suffix, Format.CSV)


def require(output_format: Format) -> None:
    """Refuse a format whose libraries are missing.

    Raises:
        ConfigurationError: they are.
    """
    if output_format is Format.PARQUET:
        try:
            import exporter.focus.parquet  # noqa: F401, PLC0415  an extra, and slow to import
        except ImportError:
            raise ConfigurationError(
                "Parquet is written with Polars, which is not installed; install fal-exporter[polars], or choose "
                "--format csv.zst"
            ) from None


@contextmanager
def encoded(output_format: Format, file: IO[bytes]) -> Iterator[IO[bytes]]:
    """Encode the CSV that is written, header first, as a format; the same rows make the same bytes.

    Raises:
        FocusError: at the end of the block: a number does not fit into a column of Parquet.
    """
    if output_format is Format.GZIP:
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as zipped:
            yield cast("IO[bytes]", zipped)
    elif output_format is Format.ZSTD:
        with zstd.ZstdFile(file, "wb") as pressed:
            yield cast("IO[bytes]", pressed)
    elif output_format is Format.PARQUET:
        from exporter.focus.parquet import write_parquet  # noqa: PLC0415  an extra, and slow to import

        # Its schema stands before its rows, and needs the places of all numbers.
        with ScratchFolder() as place:
            table, made = place / "table.csv", place / "table.parquet"
            with table.open("wb") as text:
                yield text
            write_parquet(table, made)
            with made.open("rb") as whole:
                shutil.copyfileobj(whole, file, 1 << 20)
    else:
        yield file


def csv_text(rows: Iterable[Iterable[str]]) -> bytes:
    """Return rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


_SUMMED = ("BilledCost", "EffectiveCost")
_CURRENCY = "BillingCurrency"


class Sums:
    """Rows of a table, and exact sums of its costs by currency.

    Attributes:
        rows: all of them.
        unreadable: rows, and costs of rows, that cannot be read, and so are in no sum.
        totals: by currency and column.
    """

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self.rows = 0
        self.unreadable = 0
        self.totals: dict[tuple[str, str], Decimal] = {}
        self.begin(columns)

    def begin(self, columns: Sequence[str]) -> None:
        """Take note of the columns of the rows that follow."""
        self._places = {name: columns.index(name) for name in _SUMMED if name in columns}
        self._currency = columns.index(_CURRENCY) if _CURRENCY in columns else None

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Count rows in."""
        self.rows += len(rows)
        for row in rows:
            currency = "" if self._currency is None else row[self._currency]
            for name, place in self._places.items():
                if row[place] not in NULLS:
                    try:
                        self._count(currency, name, number(row[place]))
                    except ValueError:
                        self.unreadable += 1

    def merge(self, other: "Sums") -> None:
        """Count another table in."""
        self.rows += other.rows
        self.unreadable += other.unreadable
        for (currency, name), value in other.totals.items():
            self._count(currency, name, value)

    def _count(self, currency: str, name: str, value: Decimal) -> None:
        key = currency, name
        self.totals[key] = EXACTLY.add(self.totals.get(key, Decimal(0)), value)

    @property
    def document(self) -> dict[str, object]:
        """Rows and sums, as a manifest has them."""
        found: dict[str, dict[str, str]] = {}
        for (currency, name), value in sorted(self.totals.items()):
            found.setdefault(currency, {})[name] = number_text(value)
        return {"rows": self.rows, "unreadable": self.unreadable, "sums": found}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a data set.

    Attributes:
        path: below the folder, with slashes.
        period: the billing period; empty where the file holds all of them.
        made: where it is until it takes its name.
    """

    path: str
    period: str
    made: Path
    size: int
    sha256: str
    sums: Sums

    @property
    def document(self) -> dict[str, object]:
        """Entry of the file in a manifest."""
        found: dict[str, object] = {"path": self.path, "bytes": self.size, "sha256": self.sha256}
        if self.period:
            found["billing_period"] = self.period
        return found | self.sums.document


class _Open:
    """A file of a data set that is being written."""

    def __init__(self, made: Path, columns: Sequence[str], output_format: Format) -> None:
        self.made = made
        self.sums = Sums(columns)
        self._closing = ExitStack()
        file = self._closing.enter_context(made.open("xb"))
        self._file = self._closing.enter_context(encoded(output_format, file))
        self._file.write(csv_text([columns]))

    def write(self, rows: Sequence[Sequence[str]]) -> None:
        self.sums.add(rows)
        self._file.write(csv_text(rows))

    def close(self) -> None:
        self._closing.close()


_UNDATED = "undated"
_MONTH = 7


def write_parts(
    columns: Sequence[str],
    rows: Iterable[Sequence[Sequence[str]]],
    place: Path,
    output_format: Format,
    *,
    name: str,
    by_period: bool,
) -> list[Part]:
    """Write a table into files of a folder, under names of no meaning; return them in the order of their paths.

    Args:
        columns: of the table.
        rows: some at a time; read once.
        place: the folder, which is there.
        output_format: of every file.
        name: of each file, without an ending.
        by_period: whether each billing period has a file of its own; one without rows has none.
    """
    start = columns.index("BillingPeriodStart") if by_period and "BillingPeriodStart" in columns else None
    files: dict[str, _Open] = {}

    def file_of(period: str) -> _Open:
        if period not in files:
            files[period] = _Open(place / secrets.token_hex(8), columns, output_format)
        return files[period]

    try:
        if not by_period:
            file_of("")
        for some in rows:
            for period, chosen in _divided(some, start, by_period=by_period).items():
                file_of(period).write(chosen)
    finally:
        for file in files.values():
            file.close()
    return [_part(period, file, name, output_format) for period, file in sorted(files.items())]


def _divided(
    rows: Sequence[Sequence[str]], start: int | None, *, by_period: bool
) -> Mapping[str, Sequence[Sequence[str]]]:
    if not by_period:
        return {"": rows}
    found: dict[str, list[Sequence[str]]] = {}
    for row in rows:
        period = _UNDATED
        if start is not None:
            try:
                period = f"{instant(row[start])[0]:%Y-%m}"
            except ValueError:
                period = _UNDATED
        found.setdefault(period, []).append(row)
    return found


def _part(period: str, file: _Open, name: str, output_format: Format) -> Part:
    with file.made.open("rb") as made:
        digest = hashlib.file_digest(made, "sha256").hexdigest()
    path = f"{name}.{output_format.value}"
    if period:
        path = f"BillingPeriod={period}/{path}"
    return Part(path, period, file.made, file.made.stat().st_size, digest, file.sums)


def totals_of(files: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Return rows and sums of files, by what a manifest says of each.

    Raises:
        ValueError, TypeError, KeyError: these are no documents of files.
    """
    total = Sums()
    for file in files:
        total.rows += int(str(file["rows"]))
        total.unreadable += int(str(file["unreadable"]))
        sums = file["sums"]
        if not isinstance(sums, dict):
            raise TypeError("sums are no object")
        for currency, by_name in sums.items():
            for name, value in by_name.items():
                key = str(currency), str(name)
                total.totals[key] = EXACTLY.add(total.totals.get(key, Decimal(0)), number(str(value)))
    return total.document


def manifest_of(parts: Iterable[Part], columns: Sequence[str], facts: Mapping[str, object]) -> dict[str, object]:
    """Return the manifest of a data set.

    Args:
        parts: its files.
        columns: of each of them.
        facts: what else is to be said: origin, window, completeness.
    """
    total = Sums()
    files = []
    for part in parts:
        total.merge(part.sums)
        files.append(part.document)
    return {**facts, **total.document, "schema": [column_document(name) for name in columns], "files": files}


def column_document(name: str) -> dict[str, object]:
    """Return what a manifest says of a column."""
    kind = COLUMNS[name].kind if name in COLUMNS else CUSTOM_COLUMNS.get(name, Kind.TEXT)
    if kind.is_number:
        return {"name": name, "type": "decimal", "scale": decimal_places(name)}
    types = {Kind.INSTANT: "timestamp", Kind.KEY_VALUE: "json", Kind.OBJECT: "json"}
    return {"name": name, "type": types.get(kind, "string")}


def place_parts(folder: Path, parts: Collection[Part], manifest: Mapping[str, object]) -> list[Path]:
    """Give the files of a data set their names, the manifest last; return the paths of those that are new or changed.

    Files that only the manifest before lists are deleted after that.

    Raises:
        OSError: the folder cannot be written.
    """
    before = _listed(folder / MANIFEST)
    changed = []
    for part in parts:
        path = folder / part.path
        if path.is_file() and before.get(part.path) == part.sha256 == digest_of(path):
            part.made.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        part.made.replace(path)
        changed.append(path)
    write_manifest(folder, manifest)
    for name in before.keys() - {part.path for part in parts}:
        stale = folder / name
        if stale.resolve().is_relative_to(folder.resolve()):
            stale.unlink(missing_ok=True)
            if stale.parent != folder and stale.parent.is_dir() and not any(stale.parent.iterdir()):
                stale.parent.rmdir()
    return changed


def write_manifest(folder: Path, manifest: Mapping[str, object]) -> None:
    """Write the manifest of a folder; one that differs in nothing but its time stays as it is."""
    path = folder / MANIFEST
    if not same_but_for_time(path.read_bytes() if path.is_file() else None, manifest):
        with written_whole(path) as file:
            file.write(manifest_text(manifest))


def manifest_text(manifest: Mapping[str, object]) -> bytes:
    """Return a manifest as JSON."""
    return f"{json.dumps(manifest, indent=2, ensure_ascii=False)}\n".encode()


_TIME = "created"


def same_but_for_time(written: bytes | None, manifest: Mapping[str, object]) -> bool:
    """Return whether a manifest that has been written says the same as another one."""
    if written is None:
        return False
    try:
        before = json.loads(written)
    except ValueError:
        return False
    return isinstance(before, dict) and before | {_TIME: None} == {**manifest, _TIME: None}


def digests(manifest: bytes | None) -> dict[str, str]:
    """Return the digests of the files that a manifest lists; nothing where it is none."""
    try:
        files = json.loads(manifest or b"{}").get("files", [])
        return {str(file["path"]): str(file["sha256"]) for file in files}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}


def _listed(path: Path) -> dict[str, str]:
    return digests(path.read_bytes() if path.is_file() else None)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
