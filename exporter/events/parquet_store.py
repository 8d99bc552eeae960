"""The store of requests in Parquet files: what is kept, replaced, joined and deleted, and what is asked of them."""

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path

from exporter.charges import RequestColumns, Requests, Window, hour_number, hour_start
from exporter.errors import EventsError
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
from exporter.events.objects import Folder, Objects
from exporter.events.parquet_files import HOUR_NUMBER, KEPT, MEBIBYTE, WRITTEN_AS, ParquetFiles, from_rows, quoted
from exporter.events.questions import DUCKDB, Query, RequestsQuestion, Row, StoredRequest, query_of, query_of_id, stored
from exporter.events.summaries import HourSummary, SummaryError, read, read_hours, with_summary, written

_DAYS_BY_DAY = 3
"""Days that are listed one by one; for more, all files of an account are listed, which is fewer calls."""

_SUMMARIES = "_summaries/"


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

    def __init__(self, objects: Objects, *, memory: int = 64 * MEBIBYTE, threads: int = 1) -> None:
        self._objects = objects
        self._parquet = ParquetFiles(objects, memory=memory, threads=threads)

    def __str__(self) -> str:
        return str(self._objects)

    def close(self) -> None:
        """Let go of DuckDB and its temporary files."""
        self._parquet.close()

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
        with self._parquet.rows(requests) as rows:
            self._parquet.write(f"SELECT {from_rows(read_at)} FROM {rows} ORDER BY row", piece)

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
        with self._parquet.rows(requests) as rows:
            sources = [f"SELECT {from_rows(read_at)}, {parts} AS part, row FROM {rows}"]
            sources += [
                f"SELECT {KEPT}, {number} AS part, file_row_number AS row "
                f"FROM read_parquet({quoted(self._objects.address(name))}, file_row_number = true)"
                for number, name in enumerate(named)
            ]
            source = f"({' UNION ALL '.join(sources)})"
            is_once = not parts and len(set(requests.request_id)) == len(requests)
            if is_once and self._parquet.is_one_run(len(requests)):
                # As nearly always: nothing to be found out with the engine first.
                summary = self._parquet.write(f"SELECT {KEPT} FROM {source} ORDER BY request_id", piece, hour, rows)
            else:
                summary = self._parquet.write_sorted(source, self._parquet.once, piece, hour)
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
            if self._parquet.is_damaged(piece) and self._parquet.set_aside(piece):
                found.append(self._parquet.damage(piece).partition(", so that")[0])
            elif piece.kind != "part":
                covered.setdefault(piece.day, set()).update(range(24) if piece.hour is None else {piece.hour})
        for name in self._objects.names(f"{_SUMMARIES}{folder_of(account)}"):
            day = date.fromisoformat(name.rpartition("/")[2][:10])
            summaries = self._day_summaries(account, day)
            kept = [one for one in summaries if one.hour.hour in covered.get(day, ())]
            if len(kept) < len(summaries):
                self._objects.put(name, written(kept))
        return tuple(found)

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
            relation = self._parquet.relation([files])
            try:
                self._parquet.write_sorted(
                    relation,
                    lambda of: f"SELECT {KEPT} FROM {of} ORDER BY request_id",
                    Piece("day", account, day, latest),
                )
            except EventsError as error:
                piece = self._parquet.meant(error, [files])
                if piece is not None:
                    self._parquet.set_aside(piece)  # the day is compacted the next time, with what is read again
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
            lambda: self._days_of(None, days), lambda relation: query_of_id(request_id, relation, DUCKDB), damaged
        )
        return max(found, key=lambda one: one.request.at, default=None)

    def select(self, question: RequestsQuestion, *, damaged: list[str] | None = None) -> list[StoredRequest]:
        """Return the requests that a question asks for."""
        days = days_between(question.start, question.end)
        return self._asked(
            lambda: self._days_of(question.accounts, days),
            lambda relation: query_of(question, relation, DUCKDB),
            damaged,
        )

    def sums(self, window: Window) -> dict[tuple[str, datetime, str], int]:
        """Return what the requests of a window cost by account, hour and model, from the requests themselves."""

        def ask(relation: str) -> list[tuple[str, int, str, int]]:
            with self._parquet.cursor() as cursor:
                return cursor.execute(
                    f"SELECT account, {HOUR_NUMBER}, model, sum(cost_nano_usd)::BIGINT FROM {relation} "
                    f"WHERE {HOUR_NUMBER} >= {hour_number(window.start)} AND {HOUR_NUMBER} < "
                    f"{hour_number(window.end)} GROUP BY ALL"
                ).fetchall()

        rows = self._parquet.read(lambda: self._days_of(None, days_between(window.start, window.end)), ask)
        return {(account, hour_start(hour), model): cost for account, hour, model, cost in rows}

    def costs_of(self, request_ids: Collection[str]) -> dict[str, StoredRequest]:
        """Return the requests with these ids, by id; for reconciliation with what others have booked."""
        with self._parquet.cursor() as cursor, self._parquet.listed(request_ids) as ids:

            def query(relation: str) -> str:
                return f"SELECT {DUCKDB.selected()} FROM {relation} WHERE request_id IN (SELECT id FROM {ids})"

            found = self._parquet.read(
                lambda: self._days_of(None, None), lambda relation: cursor.execute(query(relation))
            )
            return {one.request.request_id: one for one in stored(found.fetchall())}

    def relation(self, start: datetime, end: datetime) -> str:
        """Return the SQL of a relation of all requests in the days of a span, for queries of one's own in DuckDB."""
        return self._parquet.relation(self._days_of(None, days_between(start, end)))

    def export(self, question: RequestsQuestion, path: Path, *, in_order: bool = True) -> int:
        """Write the requests that a question asks for as a Parquet file, all of them; return how many there are."""
        columns = DUCKDB.selected()
        query = query_of(question, "{relation}", DUCKDB)
        sql = query.sql.replace("{}", "?").replace(columns, f"account, {KEPT}")
        sql = sql.rpartition(" LIMIT " if in_order else " ORDER BY ")[0]

        def copy(relation: str) -> int:
            with self._parquet.cursor() as cursor:
                text = sql.replace("{relation}", relation)
                found = cursor.execute(f"COPY ({text}) TO {quoted(str(path))} {WRITTEN_AS}", query.values).fetchone()
                return int(found[0]) if found else 0

        days = days_between(question.start, question.end)
        return self._parquet.read(lambda: self._days_of(question.accounts, days), copy)

    def _days_of(self, accounts: Collection[str] | None, days: Collection[date] | None) -> list[DayFiles]:
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
            with self._parquet.cursor() as cursor:
                sql, values = query(relation)
                return cursor.execute(sql.replace("{}", "?"), list(values)).fetchall()

        return stored(self._parquet.read(files, ask, damaged))
