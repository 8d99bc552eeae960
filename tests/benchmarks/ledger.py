"""Benchmark of the ledger: `python tests/benchmarks/ledger.py [charges] [--database postgresql://user@host/database]`.

A restatement of the last 48 hours of a ledger of a million charges is timed beside a plain DELETE, INSERT and full SUM
on a bare SQLite table of the same rows, in the same run; and the time from a restatement to the next view at one, ten
and a hundred thousand label sets. Only the ratios travel from machine to machine.

With --database the same restatements are made in a ledger in PostgreSQL beside it, which has to be empty: that takes
the place of the views.
"""

import argparse
import gc
import random
import resource
import sqlite3
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


def opened(place: Path | str) -> Ledger:
    rules = Rules(max_series=1_000_000, birth_hold=timedelta(0))
    address = place if isinstance(place, str) else f"sqlite:///{place}"
    ledger = Ledger(address, rules=rules, clock=lambda: NOW)
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


def beside(folder: Path, total: int, database: str) -> None:
    """Restate the same on SQLite and on PostgreSQL, in turns: a load, all of it at once, two days, and a little."""
    dimensions = kinds(SERIES)
    whole = Window(END - (total // SERIES) * HOUR, END)
    window = Window(END - HOURS * HOUR, END)
    of_window = charges_of(window, dimensions, 99)
    steps: list[tuple[str, Window, list[Charge]]] = [
        ("load at once", whole, charges_of(whole, dimensions, 1)),
        ("all at once, all changed", whole, charges_of(whole, dimensions, 2)),
        (f"{HOURS} h, all changed", window, of_window),
        (f"{HOURS} h, nothing changed", window, of_window),
        (f"{HOURS} h, 1 % changed", window, touched(of_window, 100)),
        ("one hour, all changed", Window(END - HOUR, END), charges_of(Window(END - HOUR, END), dimensions, 7)),
        ("all gone", whole, []),
    ]
    ledgers = {"SQLite": opened(folder / "beside.sqlite"), "PostgreSQL": opened(database)}
    for name, span, stated in steps:
        took = {}
        for place, ledger in ledgers.items():
            began = time.process_time()
            took[place], change = timed(
                lambda ledger=ledger, span=span, stated=stated: ledger.restate("main", "models", span, stated, at=NOW)
            )
            rows = change.added + change.changed + change.removed
            used = time.process_time() - began
            line(f"{place}: {name}", took[place], f"{rows:,} rows written, {used:.2f} s of this process")
        print(f"{'':<58}{took['PostgreSQL'] / took['SQLite']:>10.2f} x SQLite", flush=True)
    for ledger in ledgers.values():
        ledger.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("charges", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--database", default="", help="address of an empty database in PostgreSQL")
    options = parser.parse_args()
    total = options.charges
    with tempfile.TemporaryDirectory() as folder:
        if options.database:
            beside(Path(folder), total, options.database)
            return
        restatements(Path(folder), total)
        for count in (1_000, 10_000, 100_000):
            views(Path(folder), count)
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, this load included")


if __name__ == "__main__":
    main()
