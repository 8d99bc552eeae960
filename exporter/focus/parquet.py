"""Parquet with Polars, an optional extra: tables as CSV, and CSV as Parquet.

Some ten thousand rows are held at a time. Decimals, dates and texts come through as they are; a DOUBLE is written as
the shortest decimal that gives it back, and its column is named as inexact.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import IO

import polars as pl

from exporter.focus.columns import COLUMNS, Kind
from exporter.focus.findings import WrongContentError

_ROWS = 10_000
_DIGITS = 38
_INSTANT = "%Y-%m-%dT%H:%M:%S%.f"


def csv_pieces(path: Path, columns: Collection[str] | None, notes: list[str]) -> Iterator[bytes]:
    """Yield a Parquet file as CSV, header first, some ten thousand rows at a time.

    Args:
        path: of the file.
        columns: those that are needed; None for all.
        notes: takes the sentence that names the inexact columns.

    Raises:
        WrongContentError: it is damaged.
    """
    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        if columns is not None:
            # A header needs at least one column.
            scan = scan.select([name for name in schema if name in columns] or list(schema)[:1])
        inexact = [
            name
            for name, kind in schema.items()
            if kind.is_float() and (name not in COLUMNS or COLUMNS[name].kind.is_number)
        ]
        if inexact:
            notes.append(f"stored as binary floating point, so not exact: {', '.join(inexact)}")
        texts = [_text(name, kind) for name, kind in scan.collect_schema().items()]
        yield _csv(scan.head(0).select(texts).collect(), header=True)
        start = 0
        while True:
            frame = scan.slice(start, _ROWS).collect()
            if not frame.height:
                return
            start += frame.height
            yield _csv(frame.select(texts), header=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        what = str(error).strip().partition("\n")[0]
        raise WrongContentError(f"the Parquet file cannot be read: {what}") from None


def _csv(frame: pl.DataFrame, *, header: bool) -> bytes:
    file = io.BytesIO()
    frame.write_csv(file, include_header=header)
    return file.getvalue()


def _text(name: str, kind: pl.DataType) -> pl.Expr:
    """Return a column as CSV has it."""
    column = pl.col(name)
    if kind == pl.Datetime:
        zone = getattr(kind, "time_zone", None)
        if zone is None:
            return column.dt.strftime(_INSTANT)
        return column.dt.convert_time_zone("UTC").dt.strftime(f"{_INSTANT}Z")
    if kind == pl.Date:
        return column.dt.strftime("%Y-%m-%d")
    if kind.is_nested():
        return column.map_elements(_json, return_dtype=pl.String)
    if kind == pl.Binary:
        return column.cast(pl.String, strict=False)
    return column.cast(pl.String)


def _json(value: object) -> str:
    """Write a nested value as JSON, decimals as they are; a map, which comes as keys and values, is an object again."""
    if isinstance(value, pl.Series):
        value = value.to_list()
    if isinstance(value, list):
        if value and all(isinstance(item, dict) and set(item) == {"key", "value"} for item in value):
            value = {item["key"]: item["value"] for item in value}
        else:
            return f"[{', '.join(map(_json, value))}]"
    if isinstance(value, Mapping):
        items = (f"{json.dumps(str(key), ensure_ascii=False)}: {_json(item)}" for key, item in value.items())
        return f"{{{', '.join(items)}}}"
    if isinstance(value, Decimal):
        return f"{value:f}"
    return json.dumps(value, ensure_ascii=False, default=str)


def write_parquet(csv: Path, file: IO[bytes], kinds: Mapping[str, Kind], places: Mapping[str, int]) -> None:
    """Write a CSV file of ours as Parquet.

    Args:
        csv: the whole file, with its header.
        file: open for writing.
        kinds: of the columns.
        places: how many decimal places each number has at most, exactly as many as its column will have.
    """
    columns = [_typed(name, kind, places.get(name, 0)) for name, kind in kinds.items()]
    pl.scan_csv(csv, infer_schema=False).select(columns).sink_parquet(
        file, compression="zstd", row_group_size=_ROWS, maintain_order=True
    )


def _typed(name: str, kind: Kind, places: int) -> pl.Expr:
    column = pl.col(name)
    if kind.is_number:
        return column.cast(pl.Decimal(_DIGITS, places))
    if kind is Kind.INSTANT:
        return column.str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us").dt.replace_time_zone("UTC")
    return column
