"""The store of requests in ClickHouse, over its HTTP interface: for more requests than one machine should hold.

The table is a ReplacingMergeTree on account, day and request id: of several rows of a request ClickHouse keeps the one
that was read last. What a complete reading of an hour did not find any more is deleted after it.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import httpx

from exporter.charges import NANO, BilledRequest, RequestColumns, Requests, Window, hour_number, hour_start
from exporter.errors import ConfigurationError, EventsError
from exporter.events.layout import days_between
from exporter.events.questions import (
    CLICKHOUSE,
    Query,
    RequestsQuestion,
    StoredRequest,
    instant,
    microseconds,
    query_of,
    query_of_id,
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
)
from exporter.interruption import stopped_by
from exporter.logs import redact

_TIMEOUT = 60.0
_IDS_A_QUERY = 10_000

TABLES = (
    """CREATE TABLE IF NOT EXISTS requests (
    account LowCardinality(String),
    day Date,
    request_id String,
    timestamp DateTime64(6, 'UTC') CODEC(Delta, ZSTD),
    model LowCardinality(String),
    team LowCardinality(String),
    api_key LowCardinality(String),
    member LowCardinality(String),
    quantity_nano Nullable(Int64),
    unit_price_nano_usd Nullable(Int64),
    discount_nano_percent Nullable(Int64),
    list_cost_nano_usd Int64,
    discount_nano_usd Int64,
    cost_nano_usd Int64,
    tags String,
    read_at DateTime64(6, 'UTC') CODEC(ZSTD),
    version UInt64,
    INDEX by_request_id request_id TYPE bloom_filter GRANULARITY 1
) ENGINE = ReplacingMergeTree(version) PARTITION BY toYYYYMM(day) ORDER BY (account, day, request_id)""",
    """CREATE TABLE IF NOT EXISTS requests_documents (
    name String,
    content String,
    version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY name""",
)

_COLUMNS = (
    "account, day, request_id, timestamp, model, team, api_key, member, quantity_nano, unit_price_nano_usd, "
    "discount_nano_percent, list_cost_nano_usd, discount_nano_usd, cost_nano_usd, tags, read_at, version"
)
_RELATION = "requests FINAL"
_NATIVE = f"if(cost_nano_usd > 0, toInt32(ceil(log2(cost_nano_usd / {NANO}) * {2**SCHEMA})), NULL)"
_BUCKET = " + ".join(f"(cost_nano_usd > {round(bound * NANO)})" for bound in BUCKETS)
_PARTS = 1_000
_HOUR_NUMBER = "intDiv(toUnixTimestamp(timestamp), 3600)"


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _bound(query: Query) -> str:
    """Return SQL with the values in place: numbers as they are, texts escaped as ClickHouse reads them."""
    parts = query.sql.split("{}")
    return "".join(part + literal for part, literal in zip(parts, [*map(_literal, query.values), ""], strict=True))


class ClickHouseStore:
    """Requests in a table of ClickHouse, which is made where it is missing.

    Args:
        url: `clickhouse://user:password@host:8123/database`, or `clickhouses://` for TLS.
        transport: carries the requests; httpx's own by default.

    Raises:
        ConfigurationError: the address is not valid.
        EventsError: from every method, and at the start: ClickHouse cannot be reached, or refuses.
    """

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.query or parts.path.count("/") > 1:
            raise ConfigurationError(
                "FAL_EXPORTER_EVENTS_URL is not the address of a ClickHouse database; write it like "
                "clickhouse://user:password@host:8123/database"
            )
        secure = parts.scheme == "clickhouses"
        port = parts.port or (8443 if secure else 8123)
        self._place = f"{parts.hostname}:{port}"
        headers = {"X-ClickHouse-Database": unquote(parts.path.strip("/")) or "default"}
        if parts.username:
            headers["X-ClickHouse-User"] = unquote(parts.username)
            headers["X-ClickHouse-Key"] = unquote(parts.password or "")
        # What answers may repeat it, as a proxy does that shows a request.
        self._secrets = [secret for secret in (parts.password, unquote(parts.password or "")) if secret]
        self._client = httpx.Client(
            base_url=f"{'https' if secure else 'http'}://{self._place}",
            headers=headers,
            timeout=_TIMEOUT,
            transport=transport,
        )

    def __str__(self) -> str:
        return f"clickhouse at {self._place}"

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def clean(self) -> None:
        """Make the tables where they are missing."""
        for table in TABLES:
            self._run(table)

    def document(self, name: str) -> bytes | None:
        """Return a small document; None where there is none."""
        found = self._rows(
            Query("SELECT content FROM requests_documents FINAL WHERE name = {}", (name,)),
        )
        return str(found[0][0]).encode() if found else None

    def keep_document(self, name: str, content: bytes) -> None:
        """Write a small document."""
        version = microseconds(datetime.now(UTC))
        row = "\t".join((_tsv(name), _tsv(content.decode()), str(version)))
        self._run("INSERT INTO requests_documents (name, content, version) FORMAT TSV", f"{row}\n")

    def keep_part(self, account: str, hour: datetime, read_at: datetime, number: int, requests: Requests) -> None:
        """Insert a part of a reading; of a request that it holds twice, what came last."""
        columns = RequestColumns.of(requests)
        if not columns:
            return
        last = {request_id: row for row, request_id in enumerate(columns.request_id)}
        texts = [_tsv_column(getattr(columns, column.name)) for column in fields(columns)]
        texts[1] = [_time(datetime.fromisoformat(at)) for at in columns.at]
        begin = f"{_tsv(account)}\t{hour.date().isoformat()}\t"
        end = f"\t{_time(read_at)}\t{microseconds(read_at) * _PARTS + min(number, _PARTS - 1)}\n"
        rows = set(last.values())
        lines = [line for row, line in enumerate(map("\t".join, zip(*texts, strict=True))) if row in rows]
        self._run(f"INSERT INTO requests ({_COLUMNS}) FORMAT TSV", "".join([f"{begin}{line}{end}" for line in lines]))

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
        """Insert the rest of an hour, delete what this reading has not found, and return the hour's sums."""
        self.keep_part(account, hour, read_at, parts, requests)
        of_hour = f"account = {_literal(account)} AND day = '{hour.date()}' AND {_HOUR_NUMBER} = {hour_number(hour)}"
        before = f"{of_hour} AND read_at < {_instant(read_at)}"
        if self._rows(Query(f"SELECT count() FROM {_RELATION} WHERE {before}", ()))[0][0] != "0":
            self._run(f"ALTER TABLE requests DELETE WHERE {before} SETTINGS mutations_sync = 1")
        summary = replace(self._summed(hour, read_at, of_hour), rejected=rejected)
        name = _summaries_name(account, hour.date())
        self.keep_document(name, with_summary(self.document(name), summary))
        return summary

    def _summed(self, hour: datetime, read_at: datetime, of_hour: str) -> HourSummary:
        models: dict[str, ModelCosts] = {}
        samples: dict[tuple[str, int], DearRequest] = {}
        for model, bucket, native, requests, cost, most, request_id, at in self._rows(
            Query(
                f"SELECT model, {_BUCKET} AS bucket, {_NATIVE} AS native, count(), sum(cost_nano_usd), "
                "max(cost_nano_usd), argMax(request_id, cost_nano_usd), "
                f"argMax({CLICKHOUSE.microseconds}, cost_nano_usd) "
                f"FROM {_RELATION} WHERE {of_hour} GROUP BY model, bucket, native",
                (),
            )
        ):
            index = None if native is None else _whole(native)
            part = ModelCosts(_whole(cost), Counter({(_whole(bucket), index): _whole(requests)}))
            sample = DearRequest(_whole(most), str(request_id), str(model), instant(_whole(at)))
            samples[sample.model, _whole(bucket)] = max(sample, samples.get((sample.model, _whole(bucket)), sample))
            models.setdefault(str(model), ModelCosts()).add(part)
        dear = self._rows(
            Query(
                f"SELECT cost_nano_usd, request_id, model, {CLICKHOUSE.microseconds} FROM {_RELATION} "
                f"WHERE {of_hour} ORDER BY cost_nano_usd DESC, request_id LIMIT {DEAREST}",
                (),
            )
        )
        return HourSummary(
            hour,
            read_at,
            dict(sorted(models.items())),
            tuple(
                DearRequest(_whole(cost), str(one), str(model), instant(_whole(at))) for cost, one, model, at in dear
            ),
            tuple(samples.values()),
        )

    def check(self, account: str) -> tuple[str, ...]:
        """Do nothing: ClickHouse checks its parts by itself."""
        del account
        return ()

    def drop_stale(self, account: str, day: date) -> int:
        """Do nothing: ClickHouse merges by itself."""
        del account, day
        return 0

    def compact(self, account: str, day: date) -> bool:
        """Do nothing: ClickHouse merges by itself."""
        del account, day
        return False

    def days(self, account: str) -> tuple[date, ...]:
        """Return the days of which there are requests, oldest first."""
        rows = self._rows(Query("SELECT DISTINCT day FROM requests WHERE account = {} ORDER BY day", (account,)))
        return tuple(date.fromisoformat(str(day)) for (day,) in rows)

    def accounts(self) -> tuple[str, ...]:
        """Return the accounts of which there are requests."""
        rows = self._rows(Query("SELECT DISTINCT account FROM requests ORDER BY account", ()))
        return tuple(str(account) for (account,) in rows)

    def expire(self, account: str, before: date) -> int:
        """Delete the days before a day; return how many requests there were."""
        where = f"account = {_literal(account)} AND day < '{before}'"
        count = _whole(self._rows(Query(f"SELECT count() FROM requests WHERE {where}", ()))[0][0])
        if count:
            self._run(f"ALTER TABLE requests DELETE WHERE {where}")
        return count

    def summaries(self, account: str, window: Window) -> tuple[HourSummary, ...]:
        """Return the sums of the hours of a window that have been read to their end, oldest first."""
        days = days_between(window.start, window.end)
        found = [one for day in days for one in self._day_summaries(account, day) if one.hour in window]
        return tuple(sorted(found, key=lambda one: one.hour))

    def read_hours(self, account: str, window: Window) -> dict[datetime, int]:
        """Return the hours of a window that have been read to their end, with how many rows of each were rejected."""
        between = tuple(_summaries_name(account, day) for day in (window.start.date(), window.end.date()))
        query = Query("SELECT content FROM requests_documents FINAL WHERE name >= {} AND name <= {}", between)
        found: dict[datetime, int] = {}
        for (content,) in self._rows(query):
            with suppress(SummaryError):
                found |= read_hours(str(content).encode())
        return {hour: rejected for hour, rejected in found.items() if hour in window}

    def find(
        self, request_id: str, *, days: Collection[date] | None = None, damaged: list[str] | None = None
    ) -> StoredRequest | None:
        """Return the request with an id; None where there is none. ClickHouse itself refuses to read damaged parts."""
        del damaged
        query = query_of_id(request_id, _RELATION, CLICKHOUSE)
        sql = query.sql
        if days is not None:
            sql += f" AND day IN ({', '.join(_literal(day.isoformat()) for day in days) or 'NULL'})"
        found = self._requests(Query(sql, query.values))
        return max(found, key=lambda one: one.request.at, default=None)

    def select(self, question: RequestsQuestion, *, damaged: list[str] | None = None) -> list[StoredRequest]:
        """Return the requests that a question asks for."""
        del damaged
        return self._requests(query_of(question, _RELATION, CLICKHOUSE))

    def sums(self, window: Window) -> dict[tuple[str, datetime, str], int]:
        """Return what the requests of a window cost by account, hour and model."""
        rows = self._rows(
            Query(
                f"SELECT account, {_HOUR_NUMBER} AS hour, model, sum(cost_nano_usd) FROM {_RELATION} "
                f"WHERE hour >= {hour_number(window.start)} AND hour < {hour_number(window.end)} "
                "GROUP BY account, hour, model",
                (),
            )
        )
        return {
            (str(account), hour_start(_whole(hour)), str(model)): _whole(cost) for account, hour, model, cost in rows
        }

    def costs_of(self, request_ids: Collection[str]) -> dict[str, StoredRequest]:
        """Return the requests with these ids, by id."""
        ids, found = sorted(request_ids), {}
        for first in range(0, len(ids), _IDS_A_QUERY):
            some = ids[first : first + _IDS_A_QUERY]
            where = f"request_id IN ({', '.join('{}' for _ in some)})"
            sql = f"SELECT {CLICKHOUSE.selected()} FROM {_RELATION} WHERE {where}"
            found.update({one.request.request_id: one for one in self._requests(Query(sql, tuple(some)))})
        return found

    def export(self, question: RequestsQuestion, path: Path, *, in_order: bool = True) -> int:
        """Write all requests that a question asks for as a Parquet file."""
        query = query_of(question, _RELATION, CLICKHOUSE)
        sql = _bound(query).replace(CLICKHOUSE.selected(), _COLUMNS.removesuffix(", version"))
        sql = sql.rpartition(" LIMIT " if in_order else " ORDER BY ")[0]
        count = _bound(query).replace(CLICKHOUSE.selected(), "count()").rpartition(" ORDER BY ")[0]
        with self._stream(f"{sql} FORMAT Parquet") as answer, path.open("wb") as file:
            for piece in answer.iter_bytes():
                file.write(piece)
        return _whole(self._rows(Query(count, ()))[0][0])

    def _requests(self, query: Query) -> list[StoredRequest]:
        return [
            StoredRequest(
                str(row[0]),
                BilledRequest(
                    str(row[1]),
                    instant(_whole(row[2])),
                    str(row[3]),
                    str(row[4]),
                    str(row[5]),
                    str(row[6]),
                    _whole_or_none(row[7]),
                    _whole_or_none(row[8]),
                    _whole_or_none(row[9]),
                    _whole(row[10]),
                    _whole(row[11]),
                    _whole(row[12]),
                    str(row[13]),
                ),
            )
            for row in self._rows(query)
        ]

    def _rows(self, query: Query) -> list[list[object]]:
        # Quoted, since a number of JSON may be read as a float on the way.
        sql = f"{_bound(query)} FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 1"
        # Left alone, ClickHouse works on for somebody who has gone; a user may end what is its own.
        query_id = uuid4().hex

        def stop() -> None:
            self._run(f"KILL QUERY WHERE query_id = {_literal(query_id)}")

        with stopped_by(stop):
            text = self._run(sql, query_id=query_id)
        return [json.loads(line) for line in text.splitlines() if line]

    def _day_summaries(self, account: str, day: date) -> tuple[HourSummary, ...]:
        document = self.document(_summaries_name(account, day))
        try:
            return () if document is None else read(document)
        except SummaryError:
            return ()

    @contextmanager
    def _stream(self, sql: str) -> Iterator[httpx.Response]:
        try:
            with self._client.stream("POST", "/", content=sql.encode()) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._problem(answer.text)
                yield answer
        except httpx.HTTPError as error:
            raise self._problem(type(error).__name__) from None

    def _run(self, sql: str, body: str | None = None, *, query_id: str | None = None) -> str:
        """Run a statement; with a body it is the insert that the body follows."""
        try:
            if body is None:
                parameters = {} if query_id is None else {"query_id": query_id}
                answer = self._client.post("/", params=parameters, content=sql.encode())
            else:
                answer = self._client.post("/", params={"query": sql}, content=body.encode())
        except httpx.HTTPError as error:
            raise self._problem(type(error).__name__) from None
        if not answer.is_success:
            raise self._problem(answer.text or f"status {answer.status_code}")
        return answer.text

    def _problem(self, said: str) -> EventsError:
        return EventsError(
            f"the store of requests in ClickHouse at {self._place} cannot be read or written: "
            f"{' '.join(redact(said, self._secrets).split())[:300]}; check that it is up, and the user's rights"
        )


def _summaries_name(account: str, day: date) -> str:
    return f"summaries/{account}/{day.isoformat()}"


def _tsv_column(values: list[str] | list[int] | list[int | None]) -> list[str]:
    return [r"\N" if value is None else _tsv(value) if isinstance(value, str) else str(value) for value in values]


def _tsv(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _instant(at: datetime) -> str:
    return CLICKHOUSE.at.format(_time(at))


def _whole(value: object) -> int:
    return int(str(value))


def _whole_or_none(value: object) -> int | None:
    return None if value is None else _whole(value)
