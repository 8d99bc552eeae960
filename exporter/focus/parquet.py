"""Parquet with Polars, an optional extra: its tables, and CSV as a table.

Some megabytes of rows are held at a time. Decimals, dates and texts come through as they are; a DOUBLE is written as
the shortest decimal that gives it back, and its column is named as inexact.
"""

import csv
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from pathlib import Path

import polars as pl
from polars.io.plugins import register_io_source

from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.findings import TruncatedFileError, WrongContentError
from exporter.focus.polars_reader import Table
from exporter.focus.values import NULLS, instant, number
from exporter.focus.writer import CUSTOM_COLUMNS, decimal_places

_ROWS = 10_000
"""Rows that are written together."""

_TABLE, _FEWEST_ROWS, _MOST_ROWS = 8 << 20, 1_000, 100_000
"""Bytes of rows that are read together, as texts, and how many rows these may be; the first are the fewest."""

_ENDS = (b"PAR1", b"PARE")
"""Last bytes of a Parquet file; of one whose description of columns is encrypted, the second."""

_STANDARD_ERROR = 2
_INSTANT = "%Y-%m-%dT%H:%M:%S%.fZ"


def tables(path: Path, columns: Collection[str] | None, notes: list[str]) -> Iterator[bytes | Table]:
    """Yield the header of a Parquet file as a line of CSV, then its rows, some megabytes at a time.

    Args:
        path: of the file.
        columns: those that are needed, others come out empty; None for all.
        notes: takes the sentences that name inexact columns, and those of timestamps without a time zone.

    Raises:
        TruncatedFileError: it was cut off.
        WrongContentError: it is damaged, or has a type that Polars does not read.
    """
    _refuse_cut_off(path)
    try:
        # Some thousand rows of a row group are cheaper to decode one column after the other.
        scan = pl.scan_parquet(path, parallel="none")
        schema = scan.collect_schema()
        inexact = [
            name
            for name, kind in schema.items()
            if kind.is_float() and (name not in COLUMNS or COLUMNS[name].kind.is_number)
        ]
        if inexact:
            notes.append(f"stored as binary floating point, so not exact: {', '.join(inexact)}")
        zoneless = [name for name, kind in schema.items() if isinstance(kind, pl.Datetime) and kind.time_zone is None]
        if zoneless:
            notes.append(f"stored as timestamps without a time zone, so read as UTC: {', '.join(zoneless)}")
        texts = [
            _text(name, kind) if columns is None or name in columns else pl.lit(None, pl.String).alias(name)
            for name, kind in schema.items()
        ]
        yield scan.select(texts).head(0).collect().write_csv().encode()
        start, rows = 0, _FEWEST_ROWS
        while True:
            with _without_words_of_panic():
                frame = scan.slice(start, rows).select(texts).collect()
            if not frame.height:
                return
            start += frame.height
            rows = rows * _TABLE // max(int(frame.estimated_size()), 1)
            rows = max(_FEWEST_ROWS, min(rows, _MOST_ROWS))
            frame.columns = [str(place) for place in range(frame.width)]
            yield Table(frame)
    except pl.exceptions.PanicException:
        # Its words are those of a programmer, and have a number that is another one each time.
        raise WrongContentError("the Parquet file cannot be read: it is damaged; get it again") from None
    except pl.exceptions.PolarsError as error:
        what = str(error).strip().partition("\n")[0]
        raise WrongContentError(
            f"the Parquet file cannot be read: it is damaged, or has a type that Polars does not read ({what}); get it "
            "again, or save it as CSV"
        ) from None


def _refuse_cut_off(path: Path) -> None:
    """Refuse a file without the end that all Parquet files have, behind the place where its columns are described."""
    with path.open("rb") as file:
        file.seek(-min(len(_ENDS[0]), path.stat().st_size), os.SEEK_END)
        if file.read() not in _ENDS:
            raise TruncatedFileError("the Parquet file ends too early: it was cut off; get it again")


@contextmanager
def _without_words_of_panic() -> Iterator[None]:
    """Hold back what Rust writes to standard error when it panics; all else that is written there comes afterwards."""
    try:
        standard_error = os.dup(_STANDARD_ERROR)
    except OSError:
        # It is closed.
        yield
        return
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), _STANDARD_ERROR)
        has_panicked = False
        try:
            yield
        except pl.exceptions.PanicException:
            has_panicked = True
            raise
        finally:
            os.dup2(standard_error, _STANDARD_ERROR)
            os.close(standard_error)
            written.seek(0)
            if not has_panicked and (text := written.read()):
                os.write(_STANDARD_ERROR, text)


def _text(name: str, kind: pl.DataType) -> pl.Expr:
    """Return a column as CSV has it."""
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        # Older types of timestamps, such as INT96, cannot say a time zone: no rule on how a date is written is broken.
        return (column.dt.convert_time_zone("UTC") if kind.time_zone else column).dt.strftime(_INSTANT)
    if isinstance(kind, pl.Duration):
        return column.dt.to_string("iso")
    if kind == pl.Date:
        return column.dt.strftime("%Y-%m-%d")
    if kind.is_nested():
        return column.map_elements(_json, return_dtype=pl.String)
    if isinstance(kind, pl.Decimal) and kind.scale:
        # Without the zeros up to the scale of the column, of which a value need not make use.
        short = column.cast(pl.String).str.strip_chars_end("0")
        return pl.when(short.str.ends_with(".")).then(short + "0").otherwise(short)
    return column.cast(pl.String, strict=kind != pl.Binary)


def _json(value: object) -> str:
    """Write a nested value as JSON, decimals as they are; a map, which comes as keys and values, is an object again."""
    if isinstance(value, pl.Series):
        value = value.to_list()
    pairs: Iterable[tuple[object, object]] | None = None
    if isinstance(value, Mapping):
        pairs = value.items()
    elif isinstance(value, list):
        if not value or not all(map(_is_entry, value)):
            return f"[{', '.join(map(_json, value))}]"
        # A key that is there twice stays twice: it is for the check to say so.
        pairs = ((item["key"], item["value"]) for item in value)
    if pairs is not None:
        items = (f"{json.dumps(str(key), ensure_ascii=False)}: {_json(item)}" for key, item in pairs)
        return f"{{{', '.join(items)}}}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _is_entry(item: object) -> bool:
    """Return whether this is a key of a map with its value; without a key it is none, and no name is made up for it."""
    return isinstance(item, dict) and set(item) == {"key", "value"} and item["key"] is not None


_DIGITS = 38
_ROW_GROUP = 20_000


def write_parquet(table: Path, target: Path) -> None:
    """Write a CSV file of charges as Parquet: numbers as DECIMAL, dates as timestamps of UTC, all else as text.

    Args:
        table: with a header; the columns of FOCUS and ours have their types.
        target: the file to make.

    Raises:
        WrongContentError: a field of a number or a date is none, or a number needs more digits than Parquet has.
    """
    with table.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file)
        columns = next(rows)
        kinds = {name: _kind(name) for name in columns}
        scales = _scales(rows, columns, kinds)
    types: dict[str, pl.DataType] = {}
    for name, kind in kinds.items():
        if kind.is_number:
            types[name] = pl.Decimal(_DIGITS, scales[name])
        else:
            types[name] = pl.Datetime("us", "UTC") if kind is Kind.INSTANT else pl.String()

    def frames(_: object, __: object, ___: object, ____: object) -> Iterator[pl.DataFrame]:
        with table.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows)
            while some := list(islice(rows, _ROWS)):
                yield _frame(columns, some, kinds, types)

    source = register_io_source(frames, schema=types)
    source.sink_parquet(target, compression="zstd", row_group_size=_ROW_GROUP, engine="streaming")


def _kind(name: str) -> Kind:
    return COLUMNS[name].kind if name in COLUMNS else CUSTOM_COLUMNS.get(name, Kind.TEXT)


def _scales(rows: Iterable[list[str]], columns: Sequence[str], kinds: Mapping[str, Kind]) -> dict[str, int]:
    """Return the places after the point that each column of numbers needs: those of its kind, or more."""
    numbers = {name: place for place, name in enumerate(columns) if kinds[name].is_number}
    instants = {name: place for place, name in enumerate(columns) if kinds[name] is Kind.INSTANT}
    scales = {name: decimal_places(name) for name in numbers}
    whole = dict.fromkeys(numbers, 1)
    for line, row in enumerate(rows, 2):
        for name, place in numbers.items():
            text = row[place]
            if text in NULLS:
                continue
            try:
                value = number(text)
            except ValueError as error:
                raise WrongContentError(
                    f"row {line}: {name} {text[:40]!r} {error}, and a DECIMAL column of Parquet holds nothing else; "
                    "write CSV"
                ) from None
            _, digits, exponent = value.as_tuple()
            if isinstance(exponent, int):
                scales[name] = max(scales[name], -exponent)
                whole[name] = max(whole[name], len(digits) + exponent)
        for name, place in instants.items():
            try:
                _moment(row[place])
            except ValueError as error:
                raise WrongContentError(
                    f"row {line}: {name} {row[place][:40]!r} {error}, and a timestamp column of Parquet holds nothing "
                    "else; write CSV"
                ) from None
    for name, scale in scales.items():
        if whole[name] + scale > _DIGITS:
            raise WrongContentError(
                f"{name} needs {whole[name]} digits before the point and {scale} after it, and a DECIMAL column of "
                f"Parquet has {_DIGITS} in all; write CSV"
            )
    return scales


def _frame(
    columns: Sequence[str], rows: Sequence[Sequence[str]], kinds: Mapping[str, Kind], types: Mapping[str, pl.DataType]
) -> pl.DataFrame:
    found = {}
    for name, texts in zip(columns, zip(*rows, strict=True), strict=True):
        if kinds[name].is_number:
            # Through text of fixed notation: exponents are read by `number` alone.
            values = [None if text in NULLS else f"{number(text):f}" for text in texts]
            found[name] = pl.Series(name, values, pl.String).cast(types[name])
        elif kinds[name] is Kind.INSTANT:
            found[name] = pl.Series(name, [_moment(text) for text in texts], types[name])
        else:
            found[name] = pl.Series(name, [text or None for text in texts], pl.String)
    return pl.DataFrame(found)


@lru_cache(maxsize=4096)
def _moment(text: str) -> datetime | None:
    return None if text in NULLS else instant(text)[0]
