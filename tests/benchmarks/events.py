"""Store of requests, from fal's pages to files: rows a second, bytes a row, questions; beside SQLite and DuckDB.

    python tests/benchmarks/events.py [--requests 10000000] [--days 30] [--folder /somewhere/with/room]

Pages of some days, 10,000 billing events each, are made beforehand (4.5 GB for ten million). The same pages are then
taken in by the exporter's store, by a table in SQLite with the request id as its key, and by a table of DuckDB's own
that reads the JSON by itself; each in a process of its own, whose memory is its own. Seconds are those of processors,
as the machine may have other work; `written a second` is by the clock. SQLite is given rows that are parsed already.
"""

import argparse
import json
import multiprocessing
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from exporter.charges import HOUR, RequestColumns
from exporter.events.questions import RequestsQuestion
from exporter.events.store import open_reader, open_store
from exporter.fal import event_rows

START = datetime(2026, 11, 1, tzinfo=UTC)
PAGE = 10_000
MODEL = "fal-ai/model-1"
LIMIT = 32 * 2**20

Figures = dict[str, float]


def events_of(hour: datetime, count: int, chance: random.Random) -> Iterator[str]:
    """Yield billing events of an hour: 30 models, 8 keys, 500 customers, random ids, one of ten with a discount."""
    for number in range(count):
        bits = f"{chance.getrandbits(128):032x}"
        at = number * 3_600_000_000 // count + chance.randrange(1_000)
        units = 1 + int(chance.random() * chance.random() * 10)
        subtotal = units * 25_000_000
        discount = subtotal // 8 if bits[0] == "0" else 0
        key = bits[1]
        yield (
            f'{{"request_id":"{bits[:8]}-{bits[8:12]}-{bits[12:16]}-{bits[16:20]}-{bits[20:]}",'
            f'"endpoint_id":"fal-ai/model-{int(chance.random() * chance.random() * 30)}",'
            f'"timestamp":"{hour:%Y-%m-%dT%H}:{at // 60_000_000:02d}:{at // 1_000_000 % 60:02d}.{at % 1_000_000:06d}Z",'
            f'"output_units":{units},"unit_price":0.025,"percent_discount":{12.5 if discount else "null"},'
            f'"cost_subtotal":{subtotal / 1e9},"cost_discount":{discount / 1e9},'
            f'"cost_total":{(subtotal - discount) / 1e9},"cost_estimate_nano_usd":{subtotal - discount},'
            f'"auth_method_structured":{{"detail":"key {key}","api_key_id":"key-{key}","login_username":null}},'
            f'"tags":{{"customer":"c{int(chance.random() * chance.random() * 500)}"}}}}'
        )


@dataclass(frozen=True)
class Rows:
    """Rows that all of them take in.

    Attributes:
        folder: holds the pages, and what is made of them.
        wanted: ids to look for, of the last day.
    """

    folder: Path
    days: int
    total: int
    wanted: tuple[str, ...] = ()

    @property
    def hours(self) -> list[datetime]:
        return [START + number * HOUR for number in range(24 * self.days)]

    def pages(self, hour: datetime) -> list[Path]:
        return sorted((self.folder / "pages").glob(f"{hour:%d-%H}-*.json"))


def prepared(rows_: Rows) -> Rows:
    """Write the pages, and return with them some of their request ids."""
    chance, wanted = random.Random(1), []  # noqa: S311  reproducible
    folder = rows_.folder / "pages"
    folder.mkdir()
    for hour in rows_.hours:
        rows = list(events_of(hour, rows_.total // (24 * rows_.days), chance))
        for first in range(0, len(rows), PAGE):
            more = "true" if first + PAGE < len(rows) else "false"
            page = ",".join(rows[first : first + PAGE])
            body = f'{{"next_cursor":"c{first}","has_more":{more},"billing_events":[{page}]}}'
            (folder / f"{hour:%d-%H}-{first:08d}.json").write_text(body)
        wanted.append(json.loads(rows[len(rows) // 2])["request_id"])
    return replace(rows_, wanted=tuple(wanted[-11:]))


@dataclass
class Clock:
    """Seconds of processors, by what they were used for."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, what: str) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.process_time() - began


def parsed(path: Path, hour: datetime) -> RequestColumns:
    page = event_rows.parsed(path.read_bytes(), (hour, hour + HOUR), LIMIT)
    if not isinstance(page, event_rows.ColumnPage):
        raise SystemExit(f"{path} was not read by columns")
    return page.requests


def timed(work: Callable[[str], object], wanted: tuple[str, ...]) -> float:
    """Return the median of the milliseconds that some work takes, each time for another request."""
    seconds = []
    for one in wanted:
        began = time.perf_counter()
        if not work(one):
            raise SystemExit(f"{one} was not found")
        seconds.append(time.perf_counter() - began)
    return round(1000 * sorted(seconds)[len(seconds) // 2], 2)


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def size_of(*paths: Path) -> int:
    return sum(path.stat().st_size for path in paths)


def exporter(rows: Rows) -> Figures:
    """Keep every hour as the exporter does: by pages, then whole, and each day compacted."""
    folder, wanted, total = rows.folder, rows.wanted, rows.total
    url, clock = f"file://{folder}/requests", Clock()
    store = open_store(url)
    before, began = peak_mib(), time.perf_counter()
    for number, hour in enumerate(rows.hours):
        columns = RequestColumns()
        for path in rows.pages(hour):
            with clock.of("pages"):
                columns.extend(parsed(path, hour))
        with clock.of("hours"):
            store.keep_hour("default", hour, hour + 2 * HOUR, 0, columns)
        if number % 24 == 23:
            with clock.of("compaction"):
                store.compact("default", hour.date())
    took, peak = time.perf_counter() - began, peak_mib()
    store.close()
    reader, files = open_reader(url), [*(folder / "requests").glob("account=*/*/*.parquet")]
    question = RequestsQuestion(START, START + rows.days * 24 * HOUR, where={"model": frozenset({MODEL})}, limit=10)
    last = [(START + timedelta(days=rows.days - 1)).date()]
    found: Figures = {
        "written a second": round(total / took),
        "written a processor second": round(total / sum(clock.seconds.values())),
        **{f"of it microseconds a request, {name}": round(1e6 * s / total, 2) for name, s in clock.seconds.items()},
        "bytes a request": round(size_of(*files) / total, 1),
        "files": len(files),
        "one by id, ms": timed(reader.find, wanted),
        "one by id and day, ms": timed(lambda one: reader.find(one, days=last), wanted),
        "top 10 by model, ms": timed(lambda _: reader.select(question), wanted),
        "peak MiB while writing": peak,
        "MiB before": before,
    }
    reader.close()
    return found


def sqlite(rows: Rows) -> Figures:
    """Insert rows that are parsed already, an hour in a transaction, without waiting for the disk."""
    wanted, total, path, clock = rows.wanted, rows.total, rows.folder / "requests.sqlite", Clock()
    database = sqlite3.connect(path)
    database.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -262144;")
    database.execute(
        "CREATE TABLE requests (request_id TEXT PRIMARY KEY, at TEXT, model TEXT, api_key TEXT, quantity INTEGER, "
        "unit_price INTEGER, discount_percent INTEGER, list_cost INTEGER, discount INTEGER, cost INTEGER, tags TEXT) "
        "WITHOUT ROWID"
    )
    for hour in rows.hours:
        for page in rows.pages(hour):
            columns = parsed(page, hour)
            values = zip(
                *(columns.request_id, columns.at, columns.model, columns.api_key, columns.quantity),
                *(columns.unit_price, columns.discount_percent, columns.list_cost, columns.discount, columns.cost),
                columns.tags,
                strict=True,
            )
            with clock.of("insert"):
                database.executemany(f"INSERT INTO requests VALUES ({', '.join('?' * 11)})", values)  # noqa: S608
        with clock.of("insert"):
            database.commit()
    by_id = "SELECT * FROM requests WHERE request_id = ?"
    top = "SELECT * FROM requests WHERE model = ? ORDER BY cost DESC LIMIT 10"
    return {
        "written a processor second": round(total / clock.seconds["insert"]),
        "bytes a request": round(size_of(path) / total, 1),
        "one by id, ms": timed(lambda one: database.execute(by_id, (one,)).fetchall(), wanted),
        "top 10 by model, ms": timed(lambda _: database.execute(top, (MODEL,)).fetchall(), wanted[:3]),
    }


def plain_duckdb(rows: Rows) -> Figures:
    """Have DuckDB read the pages by itself, an hour at a time, into a table of its own."""
    wanted, total, path, clock = rows.wanted, rows.total, rows.folder / "requests.duckdb", Clock()
    database = duckdb.connect(str(path), config={"threads": "1"})
    database.execute("SET enable_progress_bar = false")
    fields = (
        "request_id VARCHAR, endpoint_id VARCHAR, timestamp TIMESTAMP, output_units DOUBLE, unit_price DOUBLE, "
        "percent_discount DOUBLE, cost_subtotal DOUBLE, cost_discount DOUBLE, cost_estimate_nano_usd BIGINT, "
        "auth_method_structured STRUCT(api_key_id VARCHAR), tags JSON"
    )
    columns = ", ".join(f"event.{name.split()[0]}" for name in fields.split(", "))
    database.execute(f"CREATE TABLE requests ({fields})")
    for hour in rows.hours:
        pages = [str(page) for page in rows.pages(hour)]
        with clock.of("insert"):
            database.execute(
                f"INSERT INTO requests SELECT {columns} FROM (SELECT unnest(billing_events) AS event FROM read_json(?, "  # noqa: S608
                f"columns = {{billing_events: 'STRUCT({fields})[]'}}, format = 'unstructured', "
                "maximum_object_size = 16777216))",
                [pages],
            )
    with clock.of("insert"):
        database.execute("CHECKPOINT")
    by_id = "SELECT * FROM requests WHERE request_id = ?"
    top = "SELECT * FROM requests WHERE endpoint_id = ? ORDER BY cost_estimate_nano_usd DESC LIMIT 10"
    return {
        "written a processor second": round(total / clock.seconds["insert"]),
        "bytes a request": round(size_of(path) / total, 1),
        "one by id, ms": timed(lambda one: database.execute(by_id, [one]).fetchall(), wanted),
        "top 10 by model, ms": timed(lambda _: database.execute(top, [MODEL]).fetchall(), wanted[:3]),
    }


def alone(work: Callable[[Rows], Figures], rows: Rows) -> Figures:
    """Do some work in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, (rows,))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="where there is room for 700 bytes a request")
    options = parser.parse_args()
    total = options.requests // (24 * options.days) * 24 * options.days
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        rows = prepared(Rows(Path(name), options.days, total))
        size = size_of(*(rows.folder / "pages").iterdir()) / total
        print(f"{total:,} requests of {rows.days} days, {size:.0f} bytes of JSON each", flush=True)
        for work in (exporter, plain_duckdb, sqlite):
            print(f"\n{work.__name__}:", flush=True)
            for what, value in alone(work, rows).items():
                print(f"    {what:48}{value:>14,}", flush=True)


if __name__ == "__main__":
    main()
