"""Store of requests, from fal's pages to files: rows a second, bytes a row, questions; beside SQLite and DuckDB.

    python tests/benchmarks/events.py [--requests 10000000] [--days 30] [--folder /somewhere/with/room] [--alone]

Pages of some days, 10,000 billing events each, are made beforehand by two processes (4 GB for ten million). The same
pages are then taken in by the exporter's store, alone on the machine, and after that by a table of DuckDB's own that
reads the JSON by itself and by a table in SQLite with the request id as its key, side by side; each in a process of its
own, whose memory is its own. Questions are asked when all have written, one process after the other. Seconds are those
of processors, as the machine may have other work; `written a second` is by the clock. SQLite is given rows that are
parsed already. Ten million take about six minutes on two idle cores, and less than half of that with `--alone`, which
leaves out the other two.
"""

import argparse
import json
import multiprocessing
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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


def write_pages(rows: Rows, hour: datetime) -> str:
    """Write the pages of an hour, and return one of its request ids."""
    chance = random.Random(hour.isoformat())  # noqa: S311  reproducible
    events = list(events_of(hour, rows.total // (24 * rows.days), chance))
    for first in range(0, len(events), PAGE):
        more = "true" if first + PAGE < len(events) else "false"
        page = ",".join(events[first : first + PAGE])
        body = f'{{"next_cursor":"c{first}","has_more":{more},"billing_events":[{page}]}}'
        (rows.folder / "pages" / f"{hour:%d-%H}-{first:08d}.json").write_text(body)
    request_id: str = json.loads(events[len(events) // 2])["request_id"]
    return request_id


def prepared(rows: Rows) -> Rows:
    """Write the pages, and return with them some of their request ids."""
    (rows.folder / "pages").mkdir()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        wanted = pool.starmap(write_pages, [(rows, hour) for hour in rows.hours])
    return replace(rows, wanted=tuple(wanted[-11:]))


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


def write_exporter(rows: Rows) -> Figures:
    """Keep every hour as the exporter does: by pages, then whole, and each day compacted."""
    folder, total, clock = rows.folder, rows.total, Clock()
    store = open_store(f"file://{folder}/requests")
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
    files = [*(folder / "requests").glob("account=*/*/*.parquet")]
    return {
        "written a second": round(total / took),
        "written a processor second": round(total / sum(clock.seconds.values())),
        **{f"of it microseconds a request, {name}": round(1e6 * s / total, 2) for name, s in clock.seconds.items()},
        "bytes a request": round(size_of(*files) / total, 1),
        "files": len(files),
        "peak MiB while writing": peak,
        "MiB before": before,
    }


def ask_exporter(rows: Rows) -> Figures:
    """Look requests up, and ask for the dearest of a model."""
    reader, wanted = open_reader(f"file://{rows.folder}/requests"), rows.wanted
    question = RequestsQuestion(START, START + rows.days * 24 * HOUR, where={"model": frozenset({MODEL})}, limit=10)
    last = [(START + timedelta(days=rows.days - 1)).date()]
    found: Figures = {
        "one by id, ms": timed(reader.find, wanted),
        "one by id and day, ms": timed(lambda one: reader.find(one, days=last), wanted),
        "top 10 by model, ms": timed(lambda _: reader.select(question), wanted),
    }
    reader.close()
    return found


def write_sqlite(rows: Rows) -> Figures:
    """Insert rows that are parsed already, an hour in a transaction, without waiting for the disk."""
    path, clock = rows.folder / "requests.sqlite", Clock()
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
    database.close()
    return {
        "written a processor second": round(rows.total / clock.seconds["insert"]),
        "bytes a request": round(size_of(path) / rows.total, 1),
    }


def ask_sqlite(rows: Rows) -> Figures:
    """Ask the same of SQLite."""
    database, wanted = sqlite3.connect(rows.folder / "requests.sqlite"), rows.wanted
    by_id = "SELECT * FROM requests WHERE request_id = ?"
    top = "SELECT * FROM requests WHERE model = ? ORDER BY cost DESC LIMIT 10"
    return {
        "one by id, ms": timed(lambda one: database.execute(by_id, (one,)).fetchall(), wanted),
        "top 10 by model, ms": timed(lambda _: database.execute(top, (MODEL,)).fetchall(), wanted[:3]),
    }


def write_duckdb(rows: Rows) -> Figures:
    """Have DuckDB read the pages by itself, an hour at a time, into a table of its own."""
    path, clock = rows.folder / "requests.duckdb", Clock()
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
    database.close()
    return {
        "written a processor second": round(rows.total / clock.seconds["insert"]),
        "bytes a request": round(size_of(path) / rows.total, 1),
    }


def ask_duckdb(rows: Rows) -> Figures:
    """Ask the same of DuckDB's own table."""
    path, wanted = rows.folder / "requests.duckdb", rows.wanted
    database = duckdb.connect(str(path), read_only=True, config={"threads": "2"})
    by_id = "SELECT * FROM requests WHERE request_id = ?"
    top = "SELECT * FROM requests WHERE endpoint_id = ? ORDER BY cost_estimate_nano_usd DESC LIMIT 10"
    return {
        "one by id, ms": timed(lambda one: database.execute(by_id, [one]).fetchall(), wanted),
        "top 10 by model, ms": timed(lambda _: database.execute(top, [MODEL]).fetchall(), wanted[:3]),
    }


Work = Callable[[Rows], Figures]


def done(works: Sequence[Work], rows: Rows) -> list[Figures]:
    """Do some works at the same time, each in a process of its own."""
    pools = [multiprocessing.get_context("spawn").Pool(1) for _ in works]
    try:
        return [
            result.get()
            for result in [pool.apply_async(work, (rows,)) for pool, work in zip(pools, works, strict=True)]
        ]
    finally:
        for pool in pools:
            pool.terminate()


def show(name: str, figures: Figures) -> None:
    print(f"\n{name}:", flush=True)
    for what, value in figures.items():
        print(f"    {what:48}{value:>14,}", flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="where there is room for 700 bytes a request")
    parser.add_argument("--alone", action="store_true", help="without SQLite and DuckDB's own table")
    options = parser.parse_args()
    total = options.requests // (24 * options.days) * 24 * options.days
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        rows = prepared(Rows(Path(name), options.days, total))
        size = size_of(*(rows.folder / "pages").iterdir()) / total
        print(f"{total:,} requests of {rows.days} days, {size:.0f} bytes of JSON each", flush=True)
        show("exporter", done([write_exporter], rows)[0])
        if not options.alone:
            written = done([write_duckdb, write_sqlite], rows)
            for other, figures in zip(("plain DuckDB", "SQLite"), written, strict=True):
                show(other, figures)
        show("exporter, asked", done([ask_exporter], rows)[0])
        if not options.alone:
            show("plain DuckDB, asked", done([ask_duckdb], rows)[0])
            show("SQLite, asked", done([ask_sqlite], rows)[0])


if __name__ == "__main__":
    main()
