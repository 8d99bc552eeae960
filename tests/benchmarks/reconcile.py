"""A million bookings beside a million charged requests: time and memory of `fal-exporter reconcile`.

    python tests/benchmarks/reconcile.py [ROWS]

The target: 1,000,000 rows in 10 s and 512 MiB. The process that compares is one of its own, so that its memory is its.
"""

import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from exporter.charges import HOUR, BilledRequest, decimal_of
from exporter.events.store import open_store

START = datetime(2026, 11, 1, tzinfo=UTC)
HOURS = 24
MODELS = [f"fal-ai/model-{number}" for number in range(30)]


def prepare(folder: Path, rows: int) -> tuple[str, Path]:
    """Keep requests, and book them with some mistakes."""
    chance = random.Random(7)  # noqa: S311  the same rows every time
    url = f"file://{folder / 'requests'}"
    store = open_store(url)
    bookings = folder / "bookings.csv"
    with bookings.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("request_id", "spend", "startTime"))
        for number in range(HOURS):
            hour = START + number * HOUR
            requests = []
            for _ in range(rows // HOURS):
                at = hour + timedelta(microseconds=chance.randrange(3_600_000_000))
                cost = chance.randrange(1_000_000, 500_000_000)
                request_id = f"{chance.getrandbits(128):032x}"
                tags = f'{{"customer":"c-{chance.randrange(500)}"}}'
                requests.append(
                    BilledRequest(
                        *(request_id, at, chance.choice(MODELS), "", f"key-{chance.randrange(9)}", ""),
                        *(None, None, None, cost, 0, cost, tags),
                    )
                )
                luck = chance.random()
                if luck > 0.001:
                    writer.writerow((request_id, decimal_of(cost if luck > 0.003 else cost + 1), at.isoformat()))
                if luck > 0.999:
                    writer.writerow((request_id, decimal_of(cost), at.isoformat()))
            store.keep_hour("main", hour, START + 48 * HOUR, 0, requests)
    store.close()
    return url, bookings


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        url, bookings = prepare(Path(name), rows)
        command = [
            *(sys.executable, "-m", "exporter", "reconcile", str(bookings), "--events-url", url),
            *("--start", "2026-11-01", "--end", "2026-11-02", "--tag", "customer"),
        ]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        print("\n".join(done.stdout.splitlines()[:6]), done.stderr, sep="\n")
        print(
            f"{rows:,} rows ({bookings.stat().st_size / 2**20:.0f} MiB of CSV): {seconds:.1f} s, "
            f"{used.ru_utime + used.ru_stime:.1f} s of processors, {used.ru_maxrss / 2**10:.0f} MiB, "
            f"exit code {done.returncode}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
