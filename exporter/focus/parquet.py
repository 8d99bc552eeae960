"""Parquet with Polars, an optional extra: tables as CSV.

Some ten thousand rows are held at a time. Decimals, dates and texts come through as they are; a DOUBLE is written as
the shortest decimal that gives it back, and its column is named as inexact.
"""

import io
import json
from collections.abc import Collection, Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import polars as pl

from exporter.focus.columns import COLUMNS
from exporter.focus.findings import WrongContentError

_ROWS = 5_000
_INSTANT = "%Y-%m-%dT%H:%M:%S%.f"


def csv_pieces(path: Path, columns: Collection[str] | None, notes: list[str]) -> Iterator[bytes]:
    """Yield a Parquet file as CSV, header first, some ten thousand rows at a time.

    Args:
        path: of the file.
        columns: those that are needed, others come out empty; None for all.
        notes: takes the sentence that names the inexact columns.

    Raises:
        WrongContentError: it is damaged.
    """
    try:
        scan = pl.scan_parquet(path)
        schema = scan.collect_schema()
        inexact = [
            name
            for name, kind in schema.items()
            if kind.is_float() and (name not in COLUMNS or COLUMNS[name].kind.is_number)
        ]
        if inexact:
            notes.append(f"stored as binary floating point, so not exact: {', '.join(inexact)}")
        texts = [
            _text(name, kind) if columns is None or name in columns else pl.lit(None, pl.String).alias(name)
            for name, kind in schema.items()
        ]
        yield _csv(scan.select(texts).head(0).collect(), header=True)
        start = 0
        while True:
            frame = scan.slice(start, _ROWS).select(texts).collect()
            if not frame.height:
                return
            start += frame.height
            yield _csv(frame, header=False)
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
    if kind == pl.Decimal:
        # Without the zeros up to the scale of the column, of which a value need not make use.
        return column.cast(pl.String).str.replace(r"(\.\d+?)0+$", "${1}")
    return column.cast(pl.String, strict=kind != pl.Binary)


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
