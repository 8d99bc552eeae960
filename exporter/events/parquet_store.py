"""The store of requests in Parquet files, written and read with DuckDB in this process.

Memory is bounded: what is sorted or joined beyond it goes to a temporary folder. Files are sorted by request id: so one
request is found by the statistics of row groups, and a group is read, not a day.
"""

import csv
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from exporter.charges import HOUR, NANO, RequestColumns, Requests, Window, hour_number, hour_start
from exporter.errors import ConfigurationError, EventsError
from exporter.events.layout import (
    DayFiles,
    Piece,
    days_between,
    folder_of,
    hour_piece,
    part_piece,
    piece_of,
    sort_out,
)
from exporter.events.objects import MISSING_EXTRA, DamagedFileError, Folder, Objects
from exporter.events.questions import (
    COLUMNS,
    DUCKDB,
    Query,
    RequestsQuestion,
    Row,
    StoredRequest,
    instant,
    microseconds,
    query_of,
    query_of_id,
    stored,
)
from exporter.events.summaries import (
    BUCKETS,
    DEAREST,
    SCHEMA,
    DearRequest,
    HourSummary,
    ModelCosts,
    SummaryError,
    read,
    read_hours,
    with_summary,
    written,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MEBIBYTE = 2**20
_TRIES = 4
"""Files may be replaced between being listed and being read; they are then listed again."""

_ROW_GROUP = 16_384
"""Rows: looking a request up reads the ids of one group of each file, at 19 bytes an id."""

_DAYS_BY_DAY = 3
"""Days that are listed one by one; for more, all files of an account are listed, which is fewer calls."""

_RUN = 100_000
"""Rows that are sorted at once: what is more is written as sorted runs, one range of request ids after the other."""

_SAMPLE = 4_096

_LINES = 8_192
"""Requests that are made text at once."""

_WRITTEN_AS = (
    f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {_ROW_GROUP}, PARQUET_VERSION V2)"
)

_TYPES = {
    "request_id": "VARCHAR",
    "timestamp": "TIMESTAMPTZ",
    "model": "VARCHAR",
    "team": "VARCHAR",
    "api_key": "VARCHAR",
    "member": "VARCHAR",
    "quantity_nano": "BIGINT",
    "unit_price_nano_usd": "BIGINT",
    "discount_nano_percent": "BIGINT",
    "list_cost_nano_usd": "BIGINT",
    "discount_nano_usd": "BIGINT",
    "cost_nano_usd": "BIGINT",
    "tags": "VARCHAR",
}
_HOUR_NUMBER = f'epoch_us("timestamp") // {HOUR // timedelta(microseconds=1)}'
"""As `exporter.charges.hour_number`; nothing here depends on the time zone of a session."""

_KEPT = ", ".join(f'"{name}"' for name in COLUMNS)
_EVERYTHING = f"max(hash({_KEPT}))"
"""What cannot be found out about a file without reading all of it."""

_SUMMARIES = "_summaries/"
_NOTHING = (
    "(SELECT '' AS account, '' AS request_id, now() AS \"timestamp\", '' AS model, '' AS team, '' AS api_key, "
    "'' AS member, 0::BIGINT AS quantity_nano, 0::BIGINT AS unit_price_nano_usd, 0::BIGINT AS discount_nano_percent, "
    "0::BIGINT AS list_cost_nano_usd, 0::BIGINT AS discount_nano_usd, 0::BIGINT AS cost_nano_usd, '{}' AS tags, "
    "now() AS read_at WHERE false)"
)

Answer = TypeVar("Answer")

_INNER = re.compile(r'"exception_message":"((?:[^"\\]|\\.)*)"')
"""What went wrong, in an error that DuckDB shows as JSON within another one."""

_SHOWN = re.compile(r": value \".*")
"""Content of a damaged file that DuckDB shows."""


def _connected(memory: int, threads: int, spill: str) -> "DuckDBPyConnection":
    try:
        import duckdb
    except ImportError:
        raise ConfigurationError(MISSING_EXTRA) from None
    return duckdb.connect(
        ":memory:",
        config={
            "memory_limit": f"{memory // _MEBIBYTE}MiB",
            "threads": str(threads),
            "temp_directory": spill,
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )


def _from_rows(read_at: datetime) -> str:
    """Return what is selected of rows from Python, as COLUMNS."""
    names = ", ".join(f'"{name}"' for name in _TYPES)
    return f"{names}, make_timestamptz({microseconds(read_at)}) AS read_at"


_BUCKET = (
    f"CASE {' '.join(f'WHEN cost_nano_usd <= {round(bound * NANO)} THEN {n}' for n, bound in enumerate(BUCKETS))} "
    f"ELSE {len(BUCKETS)} END"
)
_NATIVE = f"CASE WHEN cost_nano_usd > 0 THEN ceil(log2(cost_nano_usd / {NANO}.0) * {2**SCHEMA})::INT END"


def _summed(cursor: "DuckDBPyConnection", source: str, hour: datetime, read_at: datetime) -> HourSummary:
    """Return the sums of a relation that holds the requests of an hour, each once."""
    models: dict[str, ModelCosts] = {}
    groups = cursor.execute(
        f"SELECT model, {_BUCKET}, {_NATIVE}, count(*), sum(cost_nano_usd)::BIGINT, max(cost_nano_usd), "
        'arg_max(request_id, cost_nano_usd), epoch_us(arg_max("timestamp", cost_nano_usd)) '
        f"FROM {source} GROUP BY ALL"
    ).fetchall()
    samples: dict[tuple[str, int], DearRequest] = {}
    for model, bucket, native, requests, cost, most, request_id, at in groups:
        sample = DearRequest(most, request_id, model, instant(at))
        samples[model, bucket] = max(sample, samples.get((model, bucket), sample))
        if model not in models:
            models[model] = ModelCosts()
        models[model].cost += cost
        models[model].cells[bucket, native] = requests
    dear = cursor.execute(
        'SELECT cost_nano_usd, request_id, model, epoch_us("timestamp") '
        f"FROM {source} ORDER BY cost_nano_usd DESC, request_id LIMIT {DEAREST}"
    ).fetchall()
    return HourSummary(
        hour,
        read_at,
        dict(sorted(models.items())),
        tuple(DearRequest(cost, request_id, model, instant(at)) for cost, request_id, model, at in dear),
        tuple(samples.values()),
    )


def _texts(column: list[int | None]) -> list[str]:
    """Return integers as text; most of them occur many times."""
    texts = {value: "" if value is None else str(value) for value in set(column)}
    return list(map(texts.__getitem__, column))


def _lines(requests: RequestColumns) -> Iterator[str]:
    """Yield requests as lines of their values behind their number, some thousands at a time."""
    every = [getattr(requests, column.name) for column in fields(requests)]
    for first in range(0, len(requests), _LINES):
        columns = [column[first : first + _LINES] for column in every]
        texts = [column if isinstance(column[0], str) else _texts(column) for column in columns]
        numbers = map(str, range(first, first + len(columns[0])))
        yield "\n".join(map("\t".join, zip(numbers, *texts, strict=True))) + "\n"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


class ParquetStore:
    """Requests in Parquet files below a folder, or in an object store.

    One process writes, from one thread; any number of processes and threads read.

    Args:
        objects: where the files are.
        memory: bytes that DuckDB may use.
        threads: that DuckDB may use.

    Raises:
        ConfigurationError: the libraries are missing.
        EventsError: from every method: the store cannot be read or written.
    """

    def __init__(self, objects: Objects, *, memory: int = 64 * _MEBIBYTE, threads: int = 1) -> None:
        self._objects = objects
        self._spill = tempfile.mkdtemp(prefix="fal-exporter-duckdb-")
        try:
            self._connection = _connected(memory, threads, self._spill)
        except ConfigurationError:
            shutil.rmtree(self._spill, ignore_errors=True)
            raise
        objects.attach(self._connection)
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return str(self._objects)

    def close(self) -> None:
        """Let go of DuckDB and its temporary files."""
        self._connection.close()
        shutil.rmtree(self._spill, ignore_errors=True)

    def clean(self) -> None:
        """Delete what earlier processes have left unfinished; only for the process that writes."""
        if isinstance(self._objects, Folder):
            self._objects.clean()

    def document(self, name: str) -> bytes | None:
        """Return a small document that is kept beside the requests; None where there is none."""
        return self._objects.get(f"_documents/{name}.json")

    def keep_document(self, name: str, content: bytes) -> None:
        """Write a small document."""
        self._objects.put(f"_documents/{name}.json", content)

    def keep_part(self, account: str, hour: datetime, read_at: datetime, number: int, requests: Requests) -> None:
        """Keep a part of a reading; the same part may be kept again.

        Args:
            account: whose.
            hour: of all the requests.
            read_at: when the reading began.
            number: of the part within the reading.
            requests: in the order in which they were read.
        """
        piece = part_piece(account, hour, read_at, number)
        with self._rows(requests) as rows:
            self._write(f"SELECT {_from_rows(read_at)} FROM {rows} ORDER BY row", piece)

    def keep_hour(
        self,
        account: str,
        hour: datetime,
        read_at: datetime,
        parts: int,
        requests: Requests,
        *,
        rejected: int = 0,
    ) -> HourSummary:
        """Keep an hour that has been read to its end, in place of what was known of it, and return its sums."""
        piece, requests = hour_piece(account, hour, read_at), RequestColumns.of(requests)
        named = [part_piece(account, hour, read_at, number).name for number in range(parts)]
        with self._rows(requests) as rows:
            sources = [f"SELECT {_from_rows(read_at)}, {parts} AS part, row FROM {rows}"]
            sources += [
                f"SELECT {_KEPT}, {number} AS part, file_row_number AS row "
                f"FROM read_parquet({_text(self._objects.address(name))}, file_row_number = true)"
                for number, name in enumerate(named)
            ]
            source = f"({' UNION ALL '.join(sources)})"
            if not parts and len(set(requests.request_id)) == len(requests) <= _RUN:
                # As nearly always: nothing to be found out with the engine first.
                summary = self._write(f"SELECT {_KEPT} FROM {source} ORDER BY request_id", piece, hour, rows)
            else:
                summary = self._write_sorted(source, self._once, piece, hour)
        if summary is None:
            raise EventsError(f"the hour {hour:%Y-%m-%dT%HZ} could not be summed up; report this")
        summary = replace(summary, rejected=rejected)
        self._keep_summary(account, summary)
        return summary

    def check(self, account: str) -> tuple[str, ...]:
        """Set damaged files aside, and forget the sums of hours whose files are gone."""
        found: list[str] = []
        covered: dict[date, set[int]] = {}
        for piece in map(piece_of, self._objects.names(folder_of(account))):
            if piece is None:
                continue
            if self._is_damaged(piece) and self._set_aside(piece):
                found.append(self._damage(piece).partition(", so that")[0])
            elif piece.kind != "part":
                covered.setdefault(piece.day, set()).update(range(24) if piece.hour is None else {piece.hour})
        for name in self._objects.names(f"{_SUMMARIES}{folder_of(account)}"):
            day = date.fromisoformat(name.rpartition("/")[2][:10])
            summaries = self._day_summaries(account, day)
            kept = [one for one in summaries if one.hour.hour in covered.get(day, ())]
            if len(kept) < len(summaries):
                self._objects.put(name, written(kept))
        return tuple(found)

    def _is_damaged(self, piece: Piece, what: str = "count(*)") -> bool:
        """Return whether a file that is there cannot be read; only its end is looked at, which says what is where."""
        try:
            self._probe(self._objects.address(piece.name), what)
        except EventsError:
            return piece.name in self._objects.names(folder_of(piece.account, piece.day))
        return False

    def _probe(self, address: str, what: str) -> None:
        import duckdb

        try:
            with self._cursor() as cursor:
                cursor.execute(f"SELECT {what} FROM read_parquet({_text(address)})").fetchall()
        except duckdb.IOException as error:
            raise self._problem(error) from None

    def _set_aside(self, piece: Piece) -> bool:
        """Give a damaged file another name, under which it does not count; return whether it was damaged.

        It is looked at once more as a local copy, so that a network that fails does not make a file look damaged.
        """
        content = self._objects.get(piece.name)
        if content is None:
            return False
        copy = Path(self._spill, "damaged.parquet")
        try:
            copy.write_bytes(content)
            self._probe(str(copy), _EVERYTHING)
        except EventsError:
            self._objects.put(f"_damaged/{piece.name}", content)
            self._objects.delete([piece.name])
            return True
        finally:
            copy.unlink(missing_ok=True)
        return False

    def drop_stale(self, account: str, day: date) -> int:
        """Delete files of a day that no longer count; return how many there were."""
        stale = self._day(account, day).stale
        self._objects.delete(piece.name for piece in stale)
        return len(stale)

    def compact(self, account: str, day: date) -> bool:
        """Join the files of a day that is over to one; return whether there was something to do.

        No reading of an hour of that day may be under way.
        """
        files = self._day(account, day)
        if files.is_compact:
            return False
        if files.hours or files.parts:
            latest = max(piece.read_at for piece in files.counted)
            relation = self._relation([files])
            try:
                self._write_sorted(
                    relation,
                    lambda of: f"SELECT {_KEPT} FROM {of} ORDER BY request_id",
                    Piece("day", account, day, latest),
                )
            except EventsError as error:
                piece = self._meant(error, [files])
                if piece is not None:
                    self._set_aside(piece)  # the day is compacted the next time, with what is read again
                raise
            files = self._day(account, day)
        self._objects.delete(piece.name for piece in files.stale)
        return True

    def days(self, account: str) -> tuple[date, ...]:
        """Return the days of which there are files, oldest first."""
        pieces = map(piece_of, self._objects.names(folder_of(account)))
        return tuple(sorted({piece.day for piece in pieces if piece is not None}))

    def accounts(self) -> tuple[str, ...]:
        """Return the accounts of which there are requests."""
        pieces = map(piece_of, self._objects.names(""))
        return tuple(sorted({piece.account for piece in pieces if piece is not None}))

    def expire(self, account: str, before: date) -> int:
        """Delete the days before a day; return how many files there were."""
        names = [
            name
            for name in self._objects.names(folder_of(account))
            if (piece := piece_of(name)) is not None and piece.day < before
        ]
        folder = f"{_SUMMARIES}{folder_of(account)}"
        names += [name for name in self._objects.names(folder) if name.rpartition("/")[2][:10] < before.isoformat()]
        self._objects.delete(names)
        return len(names)

    def summaries(self, account: str, window: Window) -> tuple[HourSummary, ...]:
        """Return the sums of the hours of a window that have been read to their end, oldest first."""
        found = [
            summary
            for day in days_between(window.start, window.end)
            for summary in self._day_summaries(account, day)
            if summary.hour in window
        ]
        return tuple(sorted(found, key=lambda summary: summary.hour))

    def read_hours(self, account: str, window: Window) -> dict[datetime, int]:
        """Return the hours of a window that have been read to their end, with how many rows of each were rejected."""
        found: dict[datetime, int] = {}
        first, last = (self._summary_name(account, day) for day in (window.start.date(), window.end.date()))
        for name in self._objects.names(f"{_SUMMARIES}{folder_of(account)}"):
            document = self._objects.get(name) if first <= name <= last else None
            if document is not None:
                with suppress(SummaryError):
                    found |= read_hours(document)
        return {hour: rejected for hour, rejected in found.items() if hour in window}

    def find(
        self, request_id: str, *, days: Collection[date] | None = None, damaged: list[str] | None = None
    ) -> StoredRequest | None:
        """Return the request with an id; None where there is none."""
        found = self._asked(
            lambda: self._files(None, days), lambda relation: query_of_id(request_id, relation, DUCKDB), damaged
        )
        return max(found, key=lambda one: one.request.at, default=None)

    def select(self, question: RequestsQuestion, *, damaged: list[str] | None = None) -> list[StoredRequest]:
        """Return the requests that a question asks for."""
        days = days_between(question.start, question.end)
        return self._asked(
            lambda: self._files(question.accounts, days), lambda relation: query_of(question, relation, DUCKDB), damaged
        )

    def sums(self, window: Window) -> dict[tuple[str, datetime, str], int]:
        """Return what the requests of a window cost by account, hour and model, from the requests themselves."""

        def ask(relation: str) -> list[tuple[str, int, str, int]]:
            with self._cursor() as cursor:
                return cursor.execute(
                    f"SELECT account, {_HOUR_NUMBER}, model, sum(cost_nano_usd)::BIGINT FROM {relation} "
                    f"WHERE {_HOUR_NUMBER} >= {hour_number(window.start)} AND {_HOUR_NUMBER} < "
                    f"{hour_number(window.end)} GROUP BY ALL"
                ).fetchall()

        rows = self._read(lambda: self._files(None, days_between(window.start, window.end)), ask)
        return {(account, hour_start(hour), model): cost for account, hour, model, cost in rows}

    def costs_of(self, request_ids: Collection[str]) -> dict[str, StoredRequest]:
        """Return the requests with these ids, by id; for reconciliation with what others have booked."""
        with self._cursor() as cursor, self._list(request_ids) as ids:

            def query(relation: str) -> str:
                return f"SELECT {DUCKDB.selected()} FROM {relation} WHERE request_id IN (SELECT id FROM {ids})"

            found = self._read(lambda: self._files(None, None), lambda relation: cursor.execute(query(relation)))
            return {one.request.request_id: one for one in stored(found.fetchall())}

    def relation(self, start: datetime, end: datetime) -> str:
        """Return the SQL of a relation of all requests in the days of a span, for queries of one's own in DuckDB."""
        return self._relation(self._files(None, days_between(start, end)))

    def export(self, question: RequestsQuestion, path: Path, *, in_order: bool = True) -> int:
        """Write the requests that a question asks for as a Parquet file, all of them; return how many there are."""
        columns = DUCKDB.selected()
        query = query_of(question, "{relation}", DUCKDB)
        sql = query.sql.replace("{}", "?").replace(columns, f"account, {_KEPT}")
        sql = sql.rpartition(" LIMIT " if in_order else " ORDER BY ")[0]

        def copy(relation: str) -> int:
            with self._cursor() as cursor:
                text = sql.replace("{relation}", relation)
                found = cursor.execute(f"COPY ({text}) TO {_text(str(path))} {_WRITTEN_AS}", query.values).fetchone()
                return int(found[0]) if found else 0

        days = days_between(question.start, question.end)
        return self._read(lambda: self._files(question.accounts, days), copy)

    def _files(self, accounts: Collection[str] | None, days: Collection[date] | None) -> list[DayFiles]:
        """Return the files of all days that are asked for, of every account in turn."""
        wanted = None if days is None else frozenset(days)
        if accounts is not None and days is not None and len(days) <= _DAYS_BY_DAY:
            names = [
                name for account in accounts for day in days for name in self._objects.names(folder_of(account, day))
            ]
        elif accounts is not None:
            names = [name for account in accounts for name in self._objects.names(folder_of(account))]
        else:
            names = self._objects.names("")
        pieces: dict[tuple[str, date], list[Piece]] = {}
        for piece in map(piece_of, names):
            if (
                piece is not None
                and (accounts is None or piece.account in accounts)
                and (wanted is None or piece.day in wanted)
            ):
                pieces.setdefault((piece.account, piece.day), []).append(piece)
        return [sort_out(of_day) for _, of_day in sorted(pieces.items())]

    def _day(self, account: str, day: date) -> DayFiles:
        pieces = map(piece_of, self._objects.names(folder_of(account, day)))
        return sort_out(piece for piece in pieces if piece is not None)

    def _relation(self, files: Iterable[DayFiles]) -> str:
        """Return the SQL of everything that counts in some days: every request once."""
        whole: dict[str, list[str]] = {}
        selects = []
        for day in files:
            for piece in day.hours:
                whole.setdefault(piece.account, []).append(self._objects.address(piece.name))
            if day.whole is not None and day.hours:
                hours = ", ".join(str(piece.hour) for piece in day.hours)
                read_ = f"read_parquet({_text(self._objects.address(day.whole.name))})"
                selects.append(
                    f"SELECT {_text(day.whole.account)} AS account, {_KEPT} FROM {read_} "
                    f"WHERE {_HOUR_NUMBER} % 24 NOT IN ({hours})"
                )
            elif day.whole is not None:
                whole.setdefault(day.whole.account, []).append(self._objects.address(day.whole.name))
            if day.parts:
                names = ", ".join(_text(self._objects.address(piece.name)) for piece in day.parts)
                source = f"(SELECT {_KEPT}, filename, file_row_number FROM read_parquet([{names}], filename = true, "
                source += "file_row_number = true))"
                once = self._latest(source, "read_at DESC, filename DESC, file_row_number DESC")
                selects.append(f"SELECT {_text(day.parts[0].account)} AS account, {_KEPT} FROM ({once})")
        for account, names_ in whole.items():
            named = ", ".join(map(_text, names_))
            selects.append(f"SELECT {_text(account)} AS account, {_KEPT} FROM read_parquet([{named}])")
        return f"({' UNION ALL '.join(selects)})" if selects else _NOTHING

    @staticmethod
    def _latest(source: str, order: str) -> str:
        """Return the SQL that takes every request of a source once: the first in an order."""
        return f"SELECT {_KEPT} FROM {source} QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY {order}) = 1"

    def _once(self, source: str) -> str:
        """Return the SQL that takes every request of a source once, sorted: as it was read last."""
        with self._cursor() as cursor:
            # Grouped, since DuckDB keeps the values of a bare count(DISTINCT) in memory.
            counted = cursor.execute(
                f"SELECT sum(times)::BIGINT, count(*) FROM (SELECT count(*) AS times FROM {source} GROUP BY request_id)"
            ).fetchone()
        if counted is not None and counted[0] in {None, counted[1]}:
            return f"SELECT {_KEPT} FROM {source} ORDER BY request_id"
        # Not by a window, which holds all columns in memory.
        place = f"part::BIGINT * {2**32} + row"
        last = f"SELECT request_id, max({place}) FROM {source} GROUP BY request_id"
        return f"SELECT {_KEPT} FROM {source} WHERE (request_id, {place}) IN ({last}) ORDER BY request_id"

    @contextmanager
    def _rows(self, requests: Requests) -> Iterator[str]:
        """Hand requests to DuckDB through a file, which is faster than value by value, and needs no other library.

        No text of a request holds a tab or the end of a line, so that nothing is quoted.
        """
        path = Path(self._spill, f"rows-{threading.get_ident()}.tsv")
        with path.open("w", newline="", encoding="utf-8") as file:
            for lines in _lines(RequestColumns.of(requests)):
                file.write(lines)
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in {"row": "BIGINT", **_TYPES}.items())
        texts = ", ".join(f"'{name}'" for name, kind in _TYPES.items() if kind == "VARCHAR")
        read_ = (
            f"read_csv({_text(str(path))}, header = false, auto_detect = false, delim = '\t', quote = '', escape = '', "
            f"new_line = '\\n', nullstr = '', force_not_null = [{texts}], columns = {{{columns}}})"
        )
        table = f"rows_{threading.get_ident()}"
        try:
            with self._cursor() as cursor:
                cursor.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {read_}")
            path.unlink(missing_ok=True)
            yield table
        finally:
            path.unlink(missing_ok=True)
            with self._cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")

    @contextmanager
    def _list(self, ids: Iterable[str]) -> Iterator[str]:
        path = Path(self._spill, f"ids-{threading.get_ident()}.csv")
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows((one,) for one in ids)
        try:
            yield (
                f"read_csv({_text(str(path))}, header = false, auto_detect = false, delim = ',', quote = '\"', "
                "escape = '\"', columns = {'id': 'VARCHAR'})"
            )
        finally:
            path.unlink(missing_ok=True)

    def _write_sorted(
        self, source: str, select: Callable[[str], str], piece: Piece, hour: datetime | None = None
    ) -> HourSummary | None:
        """Write what is selected of a source, by request id, in memory that does not grow with how much that is.

        DuckDB's own way to sort more than its memory holds needs more of it the more it has put aside.
        """
        ranges = self._ranges(source)
        if len(ranges) == 1:
            return self._write(select(source), piece, hour)
        runs = [Path(self._spill, f"run-{number}.parquet") for number in range(len(ranges))]
        try:
            for run, within in zip(runs, ranges, strict=True):
                sql = select(f"(SELECT * FROM {source} WHERE {within})")
                with self._cursor() as cursor:
                    cursor.execute(f"COPY ({sql}) TO {_text(str(run))} {_WRITTEN_AS}")
            # A single thread reads one file after the other.
            named = ", ".join(_text(str(run)) for run in runs)
            return self._write(f"SELECT {_KEPT} FROM read_parquet([{named}])", piece, hour)
        finally:
            for run in runs:
                run.unlink(missing_ok=True)

    def _ranges(self, source: str) -> list[str]:
        """Return conditions that part a source by request id into ranges of about _RUN rows, in order."""
        with self._cursor() as cursor:
            counted = cursor.execute(f"SELECT count(*) FROM {source}").fetchone()
            wanted = -(-(counted[0] if counted else 0) // _RUN)
            if wanted <= 1:
                return ["true"]
            sample = f"(SELECT request_id FROM {source} USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (1))"
            ids = [row[0] for row in cursor.execute(f"SELECT request_id FROM {sample} ORDER BY request_id").fetchall()]
        bounds = [_text(one) for one in sorted({ids[len(ids) * number // wanted] for number in range(1, wanted)})]
        above = ["true", *(f"request_id >= {bound}" for bound in bounds)]
        below = [*(f"request_id < {bound}" for bound in bounds), "true"]
        return [f"{low} AND {high}" for low, high in zip(above, below, strict=True)]

    def _write(
        self, select: str, piece: Piece, hour: datetime | None = None, rows: str | None = None
    ) -> HourSummary | None:
        """Write a file whole and give it its name; return its sums where it is an hour's.

        Args:
            select: what is written.
            piece: the file.
            hour: whose requests it holds; None where no sums are wanted.
            rows: a table of the same requests, which is quicker to sum up than the file; None where there is none.
        """
        import duckdb

        made = self._objects.unfinished()
        try:
            with self._cursor() as cursor:
                try:
                    cursor.execute(f"COPY ({select}) TO {_text(str(made))} {_WRITTEN_AS}")
                    source = rows or f"read_parquet({_text(str(made))})"
                    summary = None if hour is None else _summed(cursor, source, hour, piece.read_at)
                except duckdb.IOException as error:
                    raise self._problem(error) from None
            self._objects.take(made, piece.name)
        finally:
            made.unlink(missing_ok=True)
        return summary

    def _summary_name(self, account: str, day: date) -> str:
        return f"{_SUMMARIES}{folder_of(account)}{day.isoformat()}.json"

    def _day_summaries(self, account: str, day: date) -> tuple[HourSummary, ...]:
        document = self._objects.get(self._summary_name(account, day))
        try:
            return () if document is None else read(document)
        except SummaryError:
            return ()

    def _keep_summary(self, account: str, summary: HourSummary) -> None:
        name = self._summary_name(account, summary.hour.date())
        self._objects.put(name, with_summary(self._objects.get(name), summary))

    def _asked(
        self, files: Callable[[], list[DayFiles]], query: Callable[[str], Query], damaged: list[str] | None
    ) -> list[StoredRequest]:
        def ask(relation: str) -> list[Row]:
            with self._cursor() as cursor:
                sql, values = query(relation)
                return cursor.execute(sql.replace("{}", "?"), list(values)).fetchall()

        return stored(self._read(files, ask, damaged))

    def _read(
        self, files: Callable[[], list[DayFiles]], ask: Callable[[str], Answer], damaged: list[str] | None = None
    ) -> Answer:
        """Ask of the files that count, again where some were replaced meanwhile, and without those that are damaged.

        Args:
            files: lists them.
            ask: of a relation.
            damaged: takes a sentence about each damaged file; None if one is an error.
        """
        import duckdb

        lost: set[Piece] = set()
        tries = 0
        while True:
            known = [day.without(lost) for day in files()]
            try:
                return ask(self._relation(known))
            except (duckdb.IOException, FileNotFoundError) as error:
                tries += 1
                if tries < _TRIES:
                    continue
                problem: EventsError = self._problem(error)
            except EventsError as error:
                problem = error
            piece = None if damaged is None else self._meant(problem, known)
            if piece is None or damaged is None:
                raise problem from None
            lost.add(piece)
            damaged.append(self._damage(piece))

    def _meant(self, error: EventsError, files: Iterable[DayFiles]) -> Piece | None:
        """Return the file that an error is about: the one it names, or the first that cannot be read as a whole."""
        pieces = [piece for day in files for piece in day.counted]
        if isinstance(error, DamagedFileError):
            named = next((piece for piece in pieces if piece.name in error.said), None)
            if named is not None:
                return named
        return next((piece for piece in pieces if self._is_damaged(piece, _EVERYTHING)), None)

    @contextmanager
    def _cursor(self) -> Iterator["DuckDBPyConnection"]:
        import duckdb

        with self._lock:
            cursor = self._connection.cursor()
        try:
            yield cursor
        except duckdb.IOException:
            raise
        except duckdb.InvalidInputException as error:
            raise DamagedFileError(str(self._problem(error)), str(error)) from None
        except duckdb.Error as error:
            raise self._problem(error) from None
        finally:
            cursor.close()

    def _damage(self, piece: Piece) -> str:
        hours = f"the day {piece.day}" if piece.hour is None else f"the hour {piece.day}T{piece.hour:02d}:00Z"
        return (
            f"The file {self._objects.address(piece.name)} is damaged, so that requests of {hours} of account "
            f"{piece.account} are missing; delete it, and serve reads them from fal again within a day."
        )

    def _problem(self, error: Exception) -> EventsError:
        first = " ".join(str(error).splitlines()[:1])
        inner = _INNER.search(first)
        first = _SHOWN.sub("", inner[1].replace('\\"', '"') if inner else first)[:300]
        return EventsError(
            f"the store of requests at {self._objects} cannot be read or written: {first}; check that it is there, has "
            "room, and that its files are whole"
        )
