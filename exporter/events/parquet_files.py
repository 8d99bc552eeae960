"""Parquet files of requests: written, read and checked with DuckDB in this process.

Memory is bounded: what is sorted or joined beyond it goes to a temporary folder. Files are sorted by request id: so one
request is found by the statistics of row groups, and a group is read, not a day.
"""

import csv
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from exporter.charges import HOUR, NANO, RequestColumns, Requests
from exporter.errors import ConfigurationError, EventsError
from exporter.events.layout import DayFiles, Piece, folder_of
from exporter.events.objects import MISSING_EXTRA, DamagedFileError, Objects
from exporter.events.questions import COLUMNS, instant, microseconds
from exporter.events.summaries import BUCKETS, DEAREST, SCHEMA, DearRequest, HourSummary, ModelCosts
from exporter.interruption import stopped_by
from exporter.unfinished import ScratchFolder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MEBIBYTE = 2**20
_TRIES = 4
"""Files may be replaced between being listed and being read; they are then listed again."""

_ROW_GROUP = 16_384
"""Rows: looking a request up reads the ids of one group of each file, at 19 bytes an id."""


_RUN = 100_000
"""Rows that are sorted at once: what is more is written as sorted runs, one range of request ids after the other."""

_SAMPLE = 4_096

_LINES = 8_192
"""Requests that are made text at once."""

WRITTEN_AS = f"(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1, ROW_GROUP_SIZE {_ROW_GROUP}, PARQUET_VERSION V2)"

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
HOUR_NUMBER = f'epoch_us("timestamp") // {HOUR // timedelta(microseconds=1)}'
"""As `exporter.charges.hour_number`; nothing here depends on the time zone of a session."""

KEPT = ", ".join(f'"{name}"' for name in COLUMNS)
_EVERYTHING = f"max(hash({KEPT}))"
"""An expression that nothing answers without reading all of a file."""

_NOTHING = (
    "(SELECT '' AS account, '' AS request_id, now() AS \"timestamp\", '' AS model, '' AS team, '' AS api_key, "
    "'' AS member, 0::BIGINT AS quantity_nano, 0::BIGINT AS unit_price_nano_usd, 0::BIGINT AS discount_nano_percent, "
    "0::BIGINT AS list_cost_nano_usd, 0::BIGINT AS discount_nano_usd, 0::BIGINT AS cost_nano_usd, '{}' AS tags, "
    "now() AS read_at WHERE false)"
)

Answer = TypeVar("Answer")

_INNER = re.compile(r'"exception_message":"((?:[^"\\]|\\.)*)"')
"""Message of an error that DuckDB shows as JSON within another one."""

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
            "memory_limit": f"{memory // MEBIBYTE}MiB",
            "threads": str(threads),
            "temp_directory": spill,
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        },
    )


def from_rows(read_at: datetime) -> str:
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


def quoted(value: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


class ParquetFiles:
    """Parquet files of requests, written and read with DuckDB.

    Args:
        objects: where the files are.
        memory: bytes that DuckDB may use.
        threads: that DuckDB may use.

    Raises:
        ConfigurationError: the libraries are missing.
        EventsError: from every method: a file cannot be read or written.
    """

    def __init__(self, objects: Objects, *, memory: int, threads: int) -> None:
        self._objects = objects
        self._spill = ScratchFolder()
        try:
            self._connection = _connected(memory, threads, str(self._spill.path))
            objects.attach(self._connection)
        except ConfigurationError:
            self._spill.close()
            raise
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of DuckDB and its temporary files."""
        self._connection.close()
        self._spill.close()

    def relation(self, files: Iterable[DayFiles]) -> str:
        """Return the SQL of everything that counts in some days: every request once."""
        whole: dict[str, list[str]] = {}
        selects = []
        for day in files:
            for piece in day.hours:
                whole.setdefault(piece.account, []).append(self._objects.address(piece.name))
            if day.whole is not None and day.hours:
                hours = ", ".join(str(piece.hour) for piece in day.hours)
                read_ = f"read_parquet({quoted(self._objects.address(day.whole.name))})"
                selects.append(
                    f"SELECT {quoted(day.whole.account)} AS account, {KEPT} FROM {read_} "
                    f"WHERE {HOUR_NUMBER} % 24 NOT IN ({hours})"
                )
            elif day.whole is not None:
                whole.setdefault(day.whole.account, []).append(self._objects.address(day.whole.name))
            if day.parts:
                names = ", ".join(quoted(self._objects.address(piece.name)) for piece in day.parts)
                source = f"(SELECT {KEPT}, filename, file_row_number FROM read_parquet([{names}], filename = true, "
                source += "file_row_number = true))"
                once = self._latest(source, "read_at DESC, filename DESC, file_row_number DESC")
                selects.append(f"SELECT {quoted(day.parts[0].account)} AS account, {KEPT} FROM ({once})")
        for account, names_ in whole.items():
            named = ", ".join(map(quoted, names_))
            selects.append(f"SELECT {quoted(account)} AS account, {KEPT} FROM read_parquet([{named}])")
        return f"({' UNION ALL '.join(selects)})" if selects else _NOTHING

    @staticmethod
    def _latest(source: str, order: str) -> str:
        """Return the SQL that takes every request of a source once: the first in an order."""
        return f"SELECT {KEPT} FROM {source} QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY {order}) = 1"

    def once(self, source: str) -> str:
        """Return the SQL that takes every request of a source once, sorted: as it was read last."""
        with self.cursor() as cursor:
            # Grouped, since DuckDB keeps the values of a bare count(DISTINCT) in memory.
            counted = cursor.execute(
                f"SELECT sum(times)::BIGINT, count(*) FROM (SELECT count(*) AS times FROM {source} GROUP BY request_id)"
            ).fetchone()
        if counted is not None and counted[0] in {None, counted[1]}:
            return f"SELECT {KEPT} FROM {source} ORDER BY request_id"
        # Not by a window, which holds all columns in memory.
        place = f"part::BIGINT * {2**32} + row"
        last = f"SELECT request_id, max({place}) FROM {source} GROUP BY request_id"
        return f"SELECT {KEPT} FROM {source} WHERE (request_id, {place}) IN ({last}) ORDER BY request_id"

    def read(
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
                return ask(self.relation(known))
            except (duckdb.IOException, FileNotFoundError) as error:
                tries += 1
                if tries < _TRIES:
                    continue
                problem: EventsError = self._problem(error)
            except DamagedFileError as error:
                problem = error
            piece = None if damaged is None else self.meant(problem, known)
            if piece is None or damaged is None:
                raise problem from None
            lost.add(piece)
            damaged.append(self.damage(piece))

    def meant(self, error: EventsError, files: Iterable[DayFiles]) -> Piece | None:
        """Return the file that an error is about: the one it names, or the first that cannot be read as a whole."""
        pieces = [piece for day in files for piece in day.counted]
        if isinstance(error, DamagedFileError):
            named = next((piece for piece in pieces if piece.name in error.said), None)
            if named is not None:
                return named
        return next((piece for piece in pieces if self.is_damaged(piece, _EVERYTHING)), None)

    def is_damaged(self, piece: Piece, what: str = "count(*)") -> bool:
        """Return whether a file that is there cannot be read; only its end is looked at, which says what is where."""
        try:
            self._probe(self._objects.address(piece.name), what)
        except EventsError:
            return piece.name in self._objects.names(folder_of(piece.account, piece.day))
        return False

    def _probe(self, address: str, what: str) -> None:
        import duckdb

        try:
            with self.cursor() as cursor:
                cursor.execute(f"SELECT {what} FROM read_parquet({quoted(address)})").fetchall()
        except duckdb.IOException as error:
            raise self._problem(error) from None

    def set_aside(self, piece: Piece) -> bool:
        """Give a damaged file another name, under which it does not count; return whether it was damaged.

        It is looked at once more as a local copy, so that a network that fails does not make a file look damaged.
        """
        content = self._objects.get(piece.name)
        if content is None:
            return False
        copy = self._spill.path / "damaged.parquet"
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

    def damage(self, piece: Piece) -> str:
        """Return a sentence about a damaged file."""
        hours = f"the day {piece.day}" if piece.hour is None else f"the hour {piece.day}T{piece.hour:02d}:00Z"
        return (
            f"The file {self._objects.address(piece.name)} is damaged, so that requests of {hours} of account "
            f"{piece.account} are missing; delete it, and serve reads them from fal again within a day."
        )

    @staticmethod
    def is_one_run(count: int) -> bool:
        """Return whether so many rows are sorted at once."""
        return count <= _RUN

    @contextmanager
    def rows(self, requests: Requests) -> Iterator[str]:
        """Hand requests to DuckDB through a file, which is faster than value by value, and needs no other library.

        No text of a request holds a tab or the end of a line, so that nothing is quoted.
        """
        path = self._spill.path / f"rows-{threading.get_ident()}.tsv"
        with path.open("w", newline="", encoding="utf-8") as file:
            for lines in _lines(RequestColumns.of(requests)):
                file.write(lines)
        columns = ", ".join(f"'{name}': '{kind}'" for name, kind in {"row": "BIGINT", **_TYPES}.items())
        texts = ", ".join(f"'{name}'" for name, kind in _TYPES.items() if kind == "VARCHAR")
        read_ = (
            f"read_csv({quoted(str(path))}, header = false, auto_detect = false, delim = '\t', quote = '', "
            f"escape = '', new_line = '\\n', nullstr = '', force_not_null = [{texts}], columns = {{{columns}}})"
        )
        table = f"rows_{threading.get_ident()}"
        try:
            with self.cursor() as cursor:
                cursor.execute(f"CREATE OR REPLACE TABLE {table} AS SELECT * FROM {read_}")
            path.unlink(missing_ok=True)
            yield table
        finally:
            path.unlink(missing_ok=True)
            with self.cursor() as cursor:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")

    @contextmanager
    def listed(self, ids: Iterable[str]) -> Iterator[str]:
        """Hand ids to DuckDB, as a relation with the column `id`."""
        path = self._spill.path / f"ids-{threading.get_ident()}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows((one,) for one in ids)
        try:
            yield (
                f"read_csv({quoted(str(path))}, header = false, auto_detect = false, delim = ',', quote = '\"', "
                "escape = '\"', columns = {'id': 'VARCHAR'})"
            )
        finally:
            path.unlink(missing_ok=True)

    def write_sorted(
        self, source: str, select: Callable[[str], str], piece: Piece, hour: datetime | None = None
    ) -> HourSummary | None:
        """Write what is selected of a source, by request id, in memory that does not grow with how much that is.

        DuckDB's own way to sort more than its memory holds needs more of it the more it has put aside.
        """
        ranges = self._ranges(source)
        if len(ranges) == 1:
            return self.write(select(source), piece, hour)
        runs = [self._spill.path / f"run-{number}.parquet" for number in range(len(ranges))]
        try:
            for run, within in zip(runs, ranges, strict=True):
                sql = select(f"(SELECT * FROM {source} WHERE {within})")
                with self.cursor() as cursor:
                    cursor.execute(f"COPY ({sql}) TO {quoted(str(run))} {WRITTEN_AS}")
            # A single thread reads one file after the other.
            named = ", ".join(quoted(str(run)) for run in runs)
            return self.write(f"SELECT {KEPT} FROM read_parquet([{named}])", piece, hour)
        finally:
            for run in runs:
                run.unlink(missing_ok=True)

    def _ranges(self, source: str) -> list[str]:
        """Return conditions that part a source by request id into ranges of about _RUN rows, in order."""
        with self.cursor() as cursor:
            counted = cursor.execute(f"SELECT count(*) FROM {source}").fetchone()
            wanted = -(-(counted[0] if counted else 0) // _RUN)
            if wanted <= 1:
                return ["true"]
            sample = f"(SELECT request_id FROM {source} USING SAMPLE reservoir({_SAMPLE} ROWS) REPEATABLE (1))"
            ids = [row[0] for row in cursor.execute(f"SELECT request_id FROM {sample} ORDER BY request_id").fetchall()]
        bounds = [quoted(one) for one in sorted({ids[len(ids) * number // wanted] for number in range(1, wanted)})]
        above = ["true", *(f"request_id >= {bound}" for bound in bounds)]
        below = [*(f"request_id < {bound}" for bound in bounds), "true"]
        return [f"{low} AND {high}" for low, high in zip(above, below, strict=True)]

    def write(
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
            with self.cursor() as cursor:
                try:
                    cursor.execute(f"COPY ({select}) TO {quoted(str(made))} {WRITTEN_AS}")
                    source = rows or f"read_parquet({quoted(str(made))})"
                    summary = None if hour is None else _summed(cursor, source, hour, piece.read_at)
                except duckdb.IOException as error:
                    raise self._problem(error) from None
            self._objects.take(made, piece.name)
        finally:
            made.unlink(missing_ok=True)
        return summary

    @contextmanager
    def cursor(self) -> Iterator["DuckDBPyConnection"]:
        """Open a cursor; what goes wrong is one sentence, but for errors of input and output."""
        import duckdb

        with self._lock:
            cursor = self._connection.cursor()
        try:
            with stopped_by(cursor.interrupt):
                yield cursor
        except duckdb.IOException:
            raise
        except (duckdb.OutOfMemoryException, duckdb.InterruptException) as error:
            raise self._problem(error) from None
        except duckdb.Error as error:
            # What is damaged within makes errors of many kinds.
            raise DamagedFileError(str(self._problem(error)), str(error)) from None
        finally:
            cursor.close()

    def _problem(self, error: Exception) -> EventsError:
        first = " ".join(str(error).splitlines()[:1])
        inner = _INNER.search(first)
        first = _SHOWN.sub("", inner[1].replace('\\"', '"') if inner else first)[:300]
        return EventsError(
            f"the store of requests at {self._objects} cannot be read or written: {first}; check that it is there, has "
            "room, and that its files are whole"
        )
