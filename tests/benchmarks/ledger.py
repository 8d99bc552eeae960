"""How fast the ledger is: `python tests/benchmarks/ledger.py [charges]`.

A restatement of the last 48 hours of a ledger of a million charges is timed beside a plain DELETE, INSERT and full SUM
on a bare SQLite table of the same rows, in the same run; and the time from a restatement to the next view at one, ten
and a hundred thousand label sets. Only the ratios travel from machine to machine.
"""

import gc
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of
from exporter.ledger import Ledger, LedgerReader, Rules
from exporter.ledger.tables.span_totals import Bucket

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)
END = hour_of(NOW) + HOUR
SERIES = 1389
HOURS = 48
UTC_ZONE = ZoneInfo("UTC")
BERLIN = ZoneInfo("Europe/Berlin")
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def line(name: str, seconds: float, note: str = "") -> None:
    print(f"{name:<58}{seconds * 1000:>10.1f} ms  {note}", flush=True)


def kinds(count: int) -> list[Dimensions]:
    return [
        Dimensions("main", product="model_apis", model=f"fal-ai/model-{n}", gpu_class="H100", unit="image")
        for n in range(count)
    ]


def charges_of(window: Window, dimensions: list[Dimensions], seed: int) -> list[Charge]:
    rng = random.Random(seed)  # noqa: S311  load, not secrets
    return [
        Charge(hour, kind, Amounts(3 * cost, cost, cost, 0, cost))
        for hour in window.hours()
        for kind in dimensions
        for cost in (rng.randrange(1, NANO),)
    ]


def touched(charges: list[Charge], every: int) -> list[Charge]:
    """The same charges, one in so many of them a nano-USD dearer."""
    return [
        Charge(charge.hour, charge.dimensions, charge.amounts._replace(cost=charge.amounts.cost + 1))
        if place % every == 0
        else charge
        for place, charge in enumerate(charges)
    ]


def opened(path: Path) -> Ledger:
    rules = Rules(max_series=1_000_000, birth_hold=timedelta(0))
    ledger = Ledger(f"sqlite:///{path}", rules=rules, clock=lambda: NOW)
    ledger.activate({"main": ("models",)})
    return ledger


def plain(path: Path, rows: list[tuple[int, ...]], window: list[tuple[int, ...]], first: int) -> float:
    """Return the seconds of replacing the window and summing up everything in a bare table."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(
        "CREATE TABLE charge (hour INT, series INT, quantity INT, gpu INT, list INT, discount INT, cost INT,"
        " PRIMARY KEY (hour, series)) WITHOUT ROWID"
    )
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")

    def replace() -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM charge WHERE hour >= ?", (first,))
        connection.executemany("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", window)
        connection.execute("SELECT series, sum(cost), sum(gpu), sum(quantity) FROM charge GROUP BY series").fetchall()
        connection.execute("COMMIT")

    seconds = min(timed(replace)[0] for _ in range(3))
    connection.close()
    return seconds


def restatements(folder: Path, total: int) -> None:
    dimensions = kinds(SERIES)
    whole = Window(END - (total // SERIES) * HOUR, END)
    path = folder / "ledger.sqlite"
    ledger = opened(path)
    rows: list[tuple[int, ...]] = []
    spent = 0.0
    for place, piece in enumerate(whole.pieces(24)):
        charges = charges_of(piece, dimensions, place)
        spent += timed(lambda piece=piece, charges=charges: ledger.restate("main", "models", piece, charges, at=NOW))[0]
        rows += [
            ((charge.hour - whole.start) // HOUR, number % SERIES, *charge.amounts)
            for number, charge in enumerate(charges)
        ]
    line(f"load {len(rows):,} charges", spent, f"{len(rows) / spent:,.0f} rows/s")
    window = Window(END - HOURS * HOUR, END)
    charges = charges_of(window, dimensions, 99)
    first = (window.start - whole.start) // HOUR
    fresh = [((charge.hour - whole.start) // HOUR, n % SERIES, *charge.amounts) for n, charge in enumerate(charges)]
    base = plain(folder / "plain.sqlite", rows, fresh, first)
    rows.clear()
    gc.collect()
    gc.freeze()  # what this load keeps in memory, an exporter would not
    line(f"plain DELETE + INSERT + full SUM of {len(charges):,} rows", base, "1.00 x")
    ledger.view()
    for name, stated in (
        ("all changed", charges),
        ("nothing changed", charges),
        ("1 % changed", touched(charges, 100)),
        ("all changed again", touched(charges, 1)),
    ):
        seconds, _ = timed(lambda stated=stated: ledger.restate("main", "models", window, stated, at=NOW))
        line(
            f"restate {HOURS} h, {name}", seconds, f"{len(stated) / seconds:,.0f} rows/s, {seconds / base:.2f} x plain"
        )
        line("  and the view after it", timed(ledger.view)[0])
    ledger.close()
    line("open and sum up", timed(lambda: opened(path).close())[0], f"{path.stat().st_size / 1e6:.1f} MB on disk")
    questions(path)


def usage(
    reader: LedgerReader, window: Window, by: list[str], every: Bucket | None = None, zone: ZoneInfo = UTC_ZONE
) -> object:
    """Ask one question in a snapshot of its own."""
    with reader.snapshot() as snapshot:
        return snapshot.usage(window, by, every, zone=zone)


def questions(path: Path) -> None:
    """Ask for sums as REST and MCP do."""
    reader = LedgerReader(f"sqlite:///{path}")
    month = Window(NOW.replace(day=1, hour=0, minute=0), END)
    asked: tuple[tuple[str, Callable[[], object]], ...] = (
        ("revision", reader.revision),
        ("month by model", lambda: usage(reader, month, ["model"])),
        ("month by account and day", lambda: usage(reader, month, ["account"], "day")),
        ("month by account and day of Berlin", lambda: usage(reader, month, ["account"], "day", zone=BERLIN)),
    )
    for name, ask in asked:
        first = timed(ask)[0]
        line(f"ask: {name}, again", min(timed(ask)[0] for _ in range(5)), f"the first time {first * 1000:.1f} ms")
    reader.close()


def views(folder: Path, count: int) -> None:
    ledger = opened(folder / f"views-{count}.sqlite")
    dimensions = kinds(count)
    window = Window(END - HOUR, END)
    charges = charges_of(window, dimensions, 1)
    ledger.restate("main", "models", window, charges, at=NOW)
    for _ in range(2):
        ledger.scraped(ledger.view().sequence)
    for name, every in (("nothing", count + 1), ("1 %", 100), ("100 %", 1)):
        stated = touched(charges, every) if every <= count else charges
        began = time.perf_counter()
        ledger.restate("main", "models", window, stated, at=NOW)
        between = time.perf_counter()
        ledger.view()
        ended = time.perf_counter()
        line(f"{count:,} label sets, {name} changed: restate to view", ended - began, f"view {ended - between:.4f} s")
        ledger.restate("main", "models", window, charges, at=NOW)
        ledger.view()
    ledger.close()


def main() -> None:
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        restatements(Path(folder), total)
        for count in (1_000, 10_000, 100_000):
            views(Path(folder), count)
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, this load included")


if __name__ == "__main__":
    main()
