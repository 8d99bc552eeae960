"""Store of requests: rows a second, bytes a row, one request by id, the dearest of a month; beside SQLite and DuckDB.

python tests/benchmarks/events.py --requests 1000000
"""

import argparse
import json
import random
import resource
import sqlite3
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import duckdb

from exporter.charges import HOUR, NANO, BilledRequest
from exporter.events.questions import RequestsQuestion, microseconds
from exporter.events.store import open_reader, open_store

START = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 30


def requests_of(hour: datetime, count: int, chance: random.Random) -> list[BilledRequest]:
    """Return requests of an hour: 30 models, 8 keys, 500 customers, random ids."""
    found = []
    for number in range(count):
        units = 1 + int(chance.random() * chance.random() * 10)
        cost = units * 25_000_000
        found.append(
            BilledRequest(
                str(UUID(int=chance.getrandbits(128))),
                hour + timedelta(microseconds=number * 3_600_000_000 // count + chance.randrange(1_000)),
                f"fal-ai/model-{int(chance.random() * chance.random() * 30)}",
                "",
                f"key-{int(chance.random() * 8)}",
                "",
                units * NANO,
                25_000_000,
                None,
                cost,
                0,
                cost,
                f'{{"customer":"c{int(chance.random() * chance.random() * 500)}"}}',
            )
        )
    return found


def timed(work: Callable[[], object], times: int = 5) -> float:
    """Return the median of the seconds that some work takes."""
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)[times // 2]


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=1_000_000)
    total: int = parser.parse_args().requests
    chance = random.Random(1)  # noqa: S311  reproducible
    per_hour = total // (24 * DAYS)
    question = RequestsQuestion(
        START, START + DAYS * 24 * HOUR, where={"model": frozenset({"fal-ai/model-1"})}, limit=10
    )
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"file://{folder}/requests")
        database = sqlite3.connect(f"{folder}/requests.sqlite")
        database.execute(
            "CREATE TABLE requests (request_id TEXT PRIMARY KEY, at INTEGER, model TEXT, api_key TEXT, "
            "quantity INTEGER, unit_price INTEGER, list_cost INTEGER, discount INTEGER, cost INTEGER, "
            "tags TEXT) WITHOUT ROWID"
        )
        wrote = sqlite_wrote = compacted = 0.0
        wanted = ""
        for day in range(DAYS):
            for hour in (START + (24 * day + number) * HOUR for number in range(24)):
                made = requests_of(hour, per_hour, chance)
                wanted = made[len(made) // 2].request_id
                began = time.process_time()
                store.keep_hour("default", hour, hour + 2 * HOUR, 0, made)
                wrote += time.process_time() - began
                began = time.process_time()
                database.executemany(
                    "INSERT INTO requests VALUES (?,?,?,?,?,?,?,?,?,?)",
                    (
                        (one.request_id, microseconds(one.at), one.model, one.api_key, *one[6:8], *one[9:12], one.tags)
                        for one in made
                    ),
                )
                database.commit()
                sqlite_wrote += time.process_time() - began
            began = time.process_time()
            store.compact("default", (START + timedelta(days=day)).date())
            compacted += time.process_time() - began
        reader = open_reader(f"file://{folder}/requests")
        files = [*Path(folder, "requests").glob("account=*/*/*.parquet")]
        plain = duckdb.connect()
        names = f"read_parquet('{folder}/requests/account=*/*/*.parquet')"
        plain.execute(f"CREATE TABLE requests AS SELECT * FROM {names}")  # noqa: S608
        count = per_hour * 24 * DAYS
        print(
            json.dumps(
                {
                    "requests": count,
                    "written_per_cpu_second": round(count / wrote),
                    "with_compaction_per_cpu_second": round(count / (wrote + compacted)),
                    "sqlite_written_per_cpu_second": round(count / sqlite_wrote),
                    "bytes_per_request": round(sum(file.stat().st_size for file in files) / count, 1),
                    "sqlite_bytes_per_request": round(Path(folder, "requests.sqlite").stat().st_size / count, 1),
                    "files": len(files),
                    "by_id_ms": round(1000 * timed(lambda: reader.find(wanted)), 1),
                    "by_id_and_day_ms": round(
                        1000 * timed(lambda: reader.find(wanted, days=[(START + timedelta(days=DAYS - 1)).date()])), 1
                    ),
                    "sqlite_by_id_ms": round(
                        1000
                        * timed(
                            lambda: database.execute(
                                "SELECT * FROM requests WHERE request_id = ?", (wanted,)
                            ).fetchall()
                        ),
                        3,
                    ),
                    "duckdb_table_by_id_ms": round(
                        1000
                        * timed(
                            lambda: plain.execute("SELECT * FROM requests WHERE request_id = ?", [wanted]).fetchall()
                        ),
                        1,
                    ),
                    "top_10_of_month_ms": round(1000 * timed(lambda: reader.select(question)), 1),
                    "sqlite_top_10_of_month_ms": round(
                        1000
                        * timed(
                            lambda: database.execute(
                                "SELECT * FROM requests WHERE model = 'fal-ai/model-1' ORDER BY cost DESC LIMIT 10"
                            ).fetchall(),
                            1,
                        ),
                        1,
                    ),
                    "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
                },
                indent=2,
            )
        )
        reader.close()
        store.close()
        database.close()


if __name__ == "__main__":
    main()
