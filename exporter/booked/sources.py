"""Sources of bookings: whatever holds request ids and amounts, as a relation of DuckDB with three columns of text."""

import csv
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.charges import Window
from exporter.errors import ConfigurationError, FalExporterError
from exporter.logs import redact

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

IDS = ("request_id", "fal_request_id", "requestId", "id")
AMOUNTS = (
    "amount",
    "cost",
    "cost_usd",
    "spend",
    "totalCost",
    "calculatedTotalCost",
    "total_cost",
    "calculated_total_cost",
)
TIMES = ("timestamp", "time", "startTime", "start_time", "created_at", "at")
"""Names of columns that are taken for the request id, the amount and the time, the first that is there."""

KEY_VARIABLE = "LITELLM_API_KEY"
"""Environment variable that has the key for LiteLLM's API."""

_TABLE = '"LiteLLM_SpendLogs"'
_FETCHED = 10_000
_PAGE = 1000
_PATIENCE = 60.0

Ask = Callable[[str, dict[str, str]], object]
"""Gets a path with a query from LiteLLM and returns the parsed JSON."""


class BookingsError(FalExporterError):
    """Bookings cannot be read."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns that hold request ids, amounts and times; None for the usual ones.

    In JSON a dot leads into an object, as in `metadata.fal_request_id`.
    """

    request_id: str | None = None
    amount: str | None = None
    time: str | None = None


def booked_relation(
    connection: "DuckDBPyConnection", source: str, columns: Columns, window: Window, folder: Path
) -> str:
    """Return the SQL of bookings as text: `request_id`, `amount` and `booked_at`, NULL where a row lacks one.

    Args:
        connection: of DuckDB.
        source: a file (`.csv`, `.parquet`, `.json`, `.jsonl`), `postgresql://...` of LiteLLM, or its `http(s)://` base.
        columns: their names.
        window: what is asked of LiteLLM.
        folder: for what is fetched.

    Raises:
        BookingsError: there is no such file or column, or LiteLLM does not answer.
        ConfigurationError: a library is missing, or no key is set.
    """
    scheme = urlsplit(source).scheme
    if scheme in {"http", "https"}:
        fetched = _kept(_from_api(_asking(source), window, columns), folder)
        return _of_csv(connection, fetched, Columns("request_id", "amount", "booked_at"))
    if scheme in {"postgresql", "postgres"}:
        fetched = _kept(_from_database(source, window, columns), folder)
        return _of_csv(connection, fetched, Columns("request_id", "amount", "booked_at"))
    path = Path(source)
    if not path.is_file():
        raise BookingsError(f"there is no file {source}; name a file, LiteLLM's base URL or its database")
    if path.suffix in {".json", ".jsonl", ".ndjson"}:
        return _of_json(connection, path, columns)
    if path.suffix in {".parquet", ".pq"}:
        return _of_table(connection, f"read_parquet({quoted(str(path))})", source, columns)
    return _of_csv(connection, path, columns)


def quoted(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def _of_csv(connection: "DuckDBPyConnection", path: Path, columns: Columns) -> str:
    # As text, so that no amount passes through a float; by one thread, as several cannot read quoted ends of lines.
    options = "all_varchar = true, header = true, null_padding = true, max_line_size = 4194304, parallel = false"
    table = f"read_csv({quoted(str(path))}, {options})"
    return _of_table(connection, table, str(path), columns)


def _of_table(connection: "DuckDBPyConnection", table: str, source: str, columns: Columns) -> str:
    names = [str(row[0]) for row in connection.execute(f"DESCRIBE SELECT * FROM {table}").fetchall()]
    chosen = [
        _column(names, columns.request_id, IDS, source, "the request id; name it with --id"),
        _column(names, columns.amount, AMOUNTS, source, "the amount; name it with --amount"),
        _column(names, columns.time, TIMES, source),
    ]
    fields = ["NULL" if name is None else f'CAST("{name.replace(chr(34), chr(34) * 2)}" AS VARCHAR)' for name in chosen]
    return f"(SELECT {fields[0]} AS request_id, {fields[1]} AS amount, {fields[2]} AS booked_at FROM {table})"


def _column(
    names: Sequence[str], wanted: str | None, usual: Sequence[str], source: str, needed: str = ""
) -> str | None:
    """Return the column that is wanted, or the first of the usual ones; None where there is none and none is needed."""
    if wanted is not None:
        if wanted in names:
            return wanted
        raise BookingsError(f"{source} has no column {wanted}; it has {', '.join(names)}")
    plain = {_plain(name): name for name in reversed(names)}
    found = next((plain[_plain(name)] for name in usual if _plain(name) in plain), None)
    if found is None and needed:
        raise BookingsError(f"{source} has no column that holds {needed}: {', '.join(names)}")
    return found


def _plain(name: str) -> str:
    """Return a column's name without what programs write differently: `Cost (USD)`, `cost-usd` and `costUsd` alike."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _of_json(connection: "DuckDBPyConnection", path: Path, columns: Columns) -> str:
    """Read a list or lines of objects; a number keeps its digits, as it is never made a number."""
    objects = f"read_json_objects({quoted(str(path))}, format = 'auto', maximum_object_size = 67108864)"
    first = connection.execute(f"SELECT json_keys(json) FROM {objects} LIMIT 1").fetchone()
    names = [str(name) for name in first[0]] if first and first[0] else []

    def value(wanted: str | None, usual: Sequence[str], needed: str = "") -> str:
        path_ = wanted or _column(names, None, usual, str(path), needed)
        if path_ is None:
            return "NULL"
        steps = ".".join(f'"{step}"' for step in path_.split("."))
        return f"json_extract_string(json, {quoted(f'$.{steps}')})"

    fields = (
        value(columns.request_id, IDS, "the request id; name it with --id"),
        value(columns.amount, AMOUNTS, "the amount; name it with --amount"),
        value(columns.time, TIMES),
    )
    return f"(SELECT {fields[0]} AS request_id, {fields[1]} AS amount, {fields[2]} AS booked_at FROM {objects})"


Booking = tuple[str, str, str]
"""Request id, amount and time, as text; empty where it is missing."""


def _kept(bookings: Iterable[Booking], folder: Path) -> Path:
    path = folder / "bookings.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("request_id", "amount", "booked_at"))
        writer.writerows(bookings)
    return path


def _asking(base: str) -> Ask:
    import httpx

    key = os.environ.get(KEY_VARIABLE, "")
    if not key:
        raise ConfigurationError(f"{KEY_VARIABLE} is not set; LiteLLM's spend logs need an admin key of LiteLLM")
    if urlsplit(base).scheme == "http" and urlsplit(base).hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise ConfigurationError(
            f"{redact(base)} begins with http://, so that the key would travel unencrypted; use https://"
        )

    def ask(path: str, query: dict[str, str]) -> object:
        try:
            answer = httpx.get(
                f"{base.rstrip('/')}{path}", params=query, headers={"Authorization": f"Bearer {key}"}, timeout=_PATIENCE
            )
            answer.raise_for_status()
            return json.loads(answer.text, parse_float=Decimal)
        except (httpx.HTTPError, ValueError) as error:
            said = redact(str(error).splitlines()[0], [key])
            raise BookingsError(f"LiteLLM at {redact(base)} did not answer with spend logs: {said}") from None

    return ask


def _from_api(ask: Ask, window: Window, columns: Columns) -> Iterator[Booking]:
    """Yield the rows of `/spend/logs/v2` page by page, or where there is no such path, of `/spend/logs` day by day."""
    end = (window.end - timedelta(seconds=1)).date()
    try:
        yield from _pages(ask, window, columns)
    except BookingsError as error:
        if "404" not in str(error):
            raise
        day = window.start.date()
        while day <= end:
            following = day + timedelta(days=1)
            rows = ask("/spend/logs", {"start_date": str(day), "end_date": str(following), "summarize": "false"})
            yield from _bookings(rows, columns, day)
            day = following


def _pages(ask: Ask, window: Window, columns: Columns) -> Iterator[Booking]:
    number, last = 1, 1
    while number <= last:
        query = {
            "start_date": f"{window.start:%Y-%m-%d %H:%M:%S}",
            "end_date": f"{window.end:%Y-%m-%d %H:%M:%S}",
            "page": str(number),
            "page_size": str(_PAGE),
        }
        answer = ask("/spend/logs/v2", query)
        if not isinstance(answer, dict) or not isinstance(answer.get("data"), list):
            raise BookingsError("LiteLLM's answer to /spend/logs/v2 has no list `data`; its API may have changed")
        yield from _bookings(answer["data"], columns, None)
        last = int(answer.get("total_pages") or 1)
        number += 1


def _bookings(rows: object, columns: Columns, day: date | None) -> Iterator[Booking]:
    """Yield bookings of rows; those of another day than was asked for are left out, as they come with that day."""
    if not isinstance(rows, list):
        raise BookingsError("LiteLLM's answer to /spend/logs is no list of rows; its API may have changed")
    for row in rows:
        if isinstance(row, dict):
            at = str(_at_path(row, columns.time or "startTime") or "")
            if day is None or at[:10] in {"", str(day)}:
                spend = _at_path(row, columns.amount or "spend")
                yield (
                    str(_at_path(row, columns.request_id or "request_id") or ""),
                    "" if spend is None else f"{spend:f}" if isinstance(spend, Decimal) else str(spend),
                    at,
                )


def _at_path(row: object, path: str) -> object:
    """Return a value in a row; a dot leads into an object, or into a text that is one."""
    for step in path.split("."):
        if isinstance(row, str):
            try:
                row = json.loads(row, parse_float=Decimal)
            except ValueError:
                return None
        if not isinstance(row, dict):
            return None
        row = row.get(step)
    return row


def _from_database(url: str, window: Window, columns: Columns) -> Iterator[Booking]:
    """Yield LiteLLM's spend logs of a window from its database, read by a cursor of the server."""
    try:
        import psycopg
    except ImportError:
        raise ConfigurationError(
            "bookings in PostgreSQL need a library that is not installed; install fal-exporter[postgresql]"
        ) from None
    wanted = [
        _expression(columns.request_id or "request_id"),
        _expression(columns.amount or "spend"),
        _expression(columns.time or "startTime"),
    ]
    sql = f'SELECT {", ".join(wanted)} FROM {_TABLE} WHERE "startTime" >= %s AND "startTime" < %s'
    naive = [edge.replace(tzinfo=None) for edge in (window.start, window.end)]
    try:
        with closing(psycopg.connect(url, connect_timeout=10)) as connection, connection.cursor("bookings") as cursor:
            cursor.itersize = _FETCHED
            cursor.execute(sql, naive)
            for request_id, spend, at in cursor:
                yield str(request_id or ""), "" if spend is None else str(spend), str(at or "")
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise BookingsError(f"LiteLLM's spend logs cannot be read from its database: {said}") from None


def _expression(path: str) -> str:
    """Return a column, or a text within a column of JSON."""
    column, *steps = ('"' + step.replace('"', '""') + '"' for step in path.split("."))
    literals = [quoted(step[1:-1]) for step in steps]
    if not literals:
        return f"CAST({column} AS TEXT)"
    return f"{column}::jsonb{''.join(f' -> {step}' for step in literals[:-1])} ->> {literals[-1]}".replace("%", "%%")
