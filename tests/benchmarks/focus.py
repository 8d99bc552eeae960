"""Benchmark of reading FOCUS files: `python tests/benchmarks/focus.py [rows] [gigabytes]`.

A generated file of 45 columns is summed up by service, SKU, category and month, beside `csv.DictReader` with
`Decimal`, and Polars and DuckDB where they are installed, in one run: all come to the same three costs of the same
keys, exactly. The reader does it with and without Polars, and of Parquet. Then both files are checked against all
rules of 1.2. The same rows then become charges, as the source `focus` makes them, and go into a ledger, a day at a
time; of that the reading and the ledger are told apart. Beside it the same is done as plainly as can be, with
`csv.DictReader`, a dict and an INSERT, which keeps no rule of the ledger. A generated stream of some gigabytes is
read without ever being written down, with Polars and without by a process of its own, and the memory at its end is
told. Only the ratios travel from machine to machine, on a busy one those of processor seconds; contenders take turns,
the best time of each counts.
"""

import csv
import importlib.util
import math
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from exporter.charges import Dimensions, Window
from exporter.fal.focus.usage import Items, Usage, UsageRow
from exporter.fal.rows import Rejections
from exporter.focus.checks import Checker
from exporter.focus.csv_parser import PIECE
from exporter.focus.dataset import parts, sum_up
from exporter.focus.reader import POLARS_BLOCK, Memory, Reader
from exporter.focus.reports import SummaryRow, Totals
from exporter.ledger import Ledger, Rules

START = datetime(2026, 10, 1, tzinfo=UTC)
HOURS = 24 * 31
HEADER = (
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency"),
    *("ChargePeriodEnd", "ChargePeriodStart", "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit"),
    *("ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName", "ListCost"),
    *("ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingCurrencyContractedUnitPrice"),
    *("PricingCurrencyEffectiveCost", "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit"),
    *("ProviderName", "PublisherName", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId"),
    *("SkuMeter", "SkuPriceDetails", "SkuPriceId", "SubAccountId", "SubAccountName", "Tags"),
    *("x_Unit", "x_Environment", "x_PercentDiscount", "x_IsSurge"),
)
KEYS = ("ChargePeriodStart", "BillingCurrency", "ChargeCategory", "ChargeClass", "ServiceName", "SkuId", "InvoiceId")
COSTS = ("BilledCost", "ListCost", "EffectiveCost")


def lines(count: int) -> Iterator[str]:
    """Rows in the order of their hours: 300 models, 8 teams, quoted JSON in two columns."""
    rng = random.Random(1)  # noqa: S311  load, not secrets
    for number in range(count):
        hour = START + timedelta(hours=number * HOURS // count)
        model, team, quantity = rng.randrange(300), rng.randrange(8), rng.randrange(1, 50_000)
        cost = f"{quantity * 25 / 10_000:.9f}"
        yield (
            f"{cost},cus_root,root,USD,2026-11-01T00:00:00Z,2026-10-01T00:00:00Z,Usage,,fal-ai/model-{model} by image,"
            f"Usage-Based,{hour + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ},{hour:%Y-%m-%dT%H:%M:%SZ},,{quantity / 10},"
            f"Images,{cost},0.025,{cost},,fal,{cost},0.025,Standard,USD,0.025,{cost},0.025,{quantity / 10},Images,"
            f"fal,fal,AI and Machine Learning,fal Model APIs,Generative AI,fal-ai/model-{model},image,"
            f'"{{""InstanceType"": ""GPU-H100"", ""GpuCount"": 1}}",fal-ai/model-{model}/image,cus_{team},team-{team},'
            f'"{{""app"": ""my-app-{model}"", ""cost_center"": ""k{team}""}}",image,prod,,false\n'
        )


def pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


class Sums(NamedTuple):
    """Result that every contender must reach: the number of different keys and of rows, and their cost."""

    keys: int
    rows: int
    costs: tuple[Decimal, ...]


def together(groups: Collection[tuple[int, tuple[Decimal, ...]]]) -> Sums:
    rows, costs = zip(*groups, strict=True)
    return Sums(len(groups), sum(rows), tuple(sum(column, Decimal(0)) for column in zip(*costs, strict=True)))


def reader_sums(path: Path) -> Sums:
    """Sum a file up without Polars."""
    reader, totals = Reader(SummaryRow, polars_block=0), Totals()
    for piece in pieces(path):
        totals.add(reader.feed(piece))
    totals.add(reader.finish())
    return together([(item.rows, (item.billed, item.listed, item.effective)) for item in totals.sums().values()])


def file_sums(path: Path) -> Sums:
    """Sum a file up as the command does."""
    totals = Totals()
    sum_up([str(path)], SummaryRow, totals.add, totals.leave_out)
    return together([(item.rows, (item.billed, item.listed, item.effective)) for item in totals.sums().values()])


def to_parquet(path: Path) -> None:
    """Write the same rows as Parquet, costs as decimals, in the row groups that Polars makes by itself."""
    import polars as pl  # noqa: PLC0415  optional

    costs = [pl.col(name).str.to_decimal(scale=9) for name in COSTS]
    pl.scan_csv(path, infer_schema=False).with_columns(costs).sink_parquet(path.with_suffix(".parquet"))


def check(path: Path, polars_from: float = math.inf) -> int:
    """Check a file that breaks nothing; return how many rows it has."""
    checker = Checker("1.2", polars_from=polars_from)
    for part in parts([str(path)]):
        for piece in part.tables():
            checker.feed(piece)
    report = checker.finish()
    if not report.is_clean:
        raise SystemExit(f"there are findings: {report.findings.counts}")
    return report.rows


def dict_reader_sums(path: Path) -> Sums:
    groups: dict[tuple[str, ...], list[Decimal]] = {}
    rows = 0
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["ChargePeriodStart"][:7], *[row[name] for name in KEYS[1:]])
            group = groups.get(key)
            if group is None:
                group = groups[key] = [Decimal(0)] * len(COSTS)
            group[0] += Decimal(row["BilledCost"])
            group[1] += Decimal(row["ListCost"])
            group[2] += Decimal(row["EffectiveCost"])
            rows += 1
    return Sums(len(groups), rows, tuple(sum(column, Decimal(0)) for column in zip(*groups.values(), strict=True)))


def polars_sums(path: Path) -> Sums:
    import polars as pl  # noqa: PLC0415  optional

    keys = [pl.col("ChargePeriodStart").str.head(7), *KEYS[1:]]
    costs = [pl.col(name).str.to_decimal(scale=9).sum() for name in COSTS]
    query = pl.scan_csv(path, infer_schema=False).group_by(keys).agg(pl.len().alias("rows"), *costs)
    return together([(row[len(KEYS)], row[len(KEYS) + 1 :]) for row in query.collect(engine="streaming").iter_rows()])


def duckdb_sums(path: Path) -> Sums:
    import duckdb  # noqa: PLC0415  optional

    keys = ", ".join(("left(ChargePeriodStart, 7)", *KEYS[1:]))
    costs = ", ".join(f"sum({name}::DECIMAL(38, 9))" for name in COSTS)
    query = f"SELECT count(*), {costs} FROM read_csv('{path}', all_varchar = true) GROUP BY {keys}"  # noqa: S608  ours
    return together([(row[0], row[1:]) for row in duckdb.sql(query).fetchall()])


def days(path: Path) -> Iterator[tuple[Window, bytes]]:
    """Cut a file that is in the order of its hours into days, as fal would be asked for them."""
    number, held = 0, []
    with path.open("rb") as file:
        file.readline()
        for line in file:
            if line.split(b",", 12)[11][8:10] != b"%02d" % (number + 1):
                yield day(number), b"".join(held)
                number, held = number + 1, []
            held.append(line)
    yield day(number), b"".join(held)


def day(number: int) -> Window:
    return Window(START + timedelta(days=number), START + timedelta(days=number + 1))


class Load(NamedTuple):
    """Seconds that a file takes into a ledger: to make charges of its rows, and to write these.

    Attributes:
        inserting: to merely insert the same charges, by number, into a table without a rule: the least that any ledger
            in SQLite can take.
        plainly: to read the rows with `csv.DictReader`, to add them up in a dict and to insert that into such a table.
    """

    reading: float
    writing: float
    inserting: float
    plainly: float
    charges: int


PLAIN_TABLE = (
    "(hour, series, quantity, gpu_seconds, list_cost, discount, cost, PRIMARY KEY (hour, series)) WITHOUT ROWID"
)
Numbered = tuple[int, int, int, int, int, int, int]


@contextmanager
def plain_table(path: str) -> Iterator[Callable[[list[Numbered]], float]]:
    """Yield what inserts charges, by number, and returns the seconds that takes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"CREATE TABLE charge {PLAIN_TABLE}")

        def insert(rows: list[Numbered]) -> float:
            began = time.perf_counter()
            with connection:
                connection.executemany("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            return time.perf_counter() - began

        yield insert


def read_plainly(rows: bytes, series: dict[tuple[str, ...], int]) -> list[Numbered]:
    sums: dict[tuple[int, int], list[Decimal]] = {}
    nano = Decimal(10**9)
    for row in csv.DictReader(StringIO(rows.decode()), HEADER):
        key = (row["ServiceName"], row["SkuId"], row["x_Unit"], row["SubAccountName"], row["x_IsSurge"])
        hour = int(datetime.fromisoformat(row["ChargePeriodStart"]).timestamp()) // 3600
        cell = hour, series.setdefault(key, len(series))
        known = sums.get(cell)
        if known is None:
            known = sums[cell] = [Decimal(0)] * 3
        known[0] += Decimal(row["ConsumedQuantity"])
        known[1] += Decimal(row["ListCost"])
        known[2] += Decimal(row["EffectiveCost"])
    return sorted(
        (*cell, int(quantity * nano), 0, int(listed * nano), int((listed - cost) * nano), int(cost * nano))
        for cell, (quantity, listed, cost) in sums.items()
    )


def ledger_load(path: Path) -> Load:
    reading = writing = inserting = plainly = 0.0
    charges = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        plain_table(f"{folder}/1.sqlite") as insert,
        plain_table(f"{folder}/2.sqlite") as insert_plainly,
    ):
        by_dimensions: dict[Dimensions, int] = {}
        by_texts: dict[tuple[str, ...], int] = {}
        ledger = Ledger(f"sqlite:///{folder}/l.sqlite", rules=Rules(), clock=lambda: START + timedelta(hours=HOURS))
        ledger.activate({"main": ("focus",)})
        items, memory = Items("main"), Memory()
        for window, rows in days(path):
            began = time.perf_counter()
            reader = Reader(UsageRow, memory=memory)
            usage = Usage(items, window, Rejections("main", str), Counter())
            usage.take(reader.feed((",".join(HEADER) + "\n").encode()))
            for start in range(0, len(rows), PIECE):
                usage.take(reader.feed(rows[start : start + PIECE]))
            usage.take(reader.finish())
            found = usage.reading("focus").charges
            reading += time.perf_counter() - began
            began = time.perf_counter()
            ledger.restate("main", "focus", window, found, at=START)
            writing += time.perf_counter() - began
            charges += len(found)
            numbered = sorted(
                (
                    int(item.hour.timestamp()) // 3600,
                    by_dimensions.setdefault(item.dimensions, len(by_dimensions)),
                    *item.amounts,
                )
                for item in found
            )
            inserting += insert(numbered)
            began = time.perf_counter()
            same = read_plainly(rows, by_texts)
            plainly += time.perf_counter() - began + insert_plainly(same)
            if len(same) != len(found) or sum(row[-1] for row in same) != sum(row[-1] for row in numbered):
                raise SystemExit(f"they have come to different charges on {window.start:%Y-%m-%d}")
        ledger.close()
    return Load(reading, writing, inserting, plainly, charges)


def tell(name: str, rows: int, times: tuple[float, float], base: tuple[float, float]) -> None:
    """Print seconds and processor seconds of a contender, and how many times as fast as `csv.DictReader` it is."""
    (seconds, used), (base_seconds, base_used) = times, base
    print(
        f"{name:<28}{seconds:>8.2f} s {used:>8.2f} s cpu {rows / seconds:>12,.0f} rows/s "
        f"{rows / used:>12,.0f} a s of cpu {base_seconds / seconds:>6.2f} x DictReader, cpu {base_used / used:>5.2f}",
        flush=True,
    )


def compare_checks(path: Path, rows: int, base: tuple[float, float]) -> None:
    """Check a file with and without Polars, and Parquet; the base is the time of `csv.DictReader`."""
    ways = {"check against all rules": (path, math.inf)}
    if importlib.util.find_spec("polars"):
        ways["the same, Polars"] = (path, 0)
        ways["the same of Parquet"] = (path.with_suffix(".parquet"), 0)
    for name, (file, polars_from) in ways.items():
        wall, cpu = time.perf_counter(), time.process_time()
        if check(file, polars_from) != rows:
            raise SystemExit("the check has not seen every row")
        tell(name, rows, (time.perf_counter() - wall, time.process_time() - cpu), base)


WORKS: dict[str, Callable[[Path], object]] = {
    "summary of CSV": file_sums,
    "check of CSV": partial(check, polars_from=0),
    "summary of Parquet": lambda path: file_sums(path.with_suffix(".parquet")),
    "check of Parquet": lambda path: check(path.with_suffix(".parquet"), 0),
}


def tell_memory(name: str, path: Path) -> None:
    """Do one of the works, and tell the most memory of this process."""
    WORKS[name](path)
    # Of getrusage's maximum a part is the memory of the process that began this one.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    most = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    print(f"{name:<28} at most {most:,.0f} MB resident", flush=True)


def compare_memory(path: Path) -> None:
    """Let each work be done by a process of its own."""
    for name in WORKS:
        work = get_context("spawn").Process(target=tell_memory, args=(name, path))
        work.start()
        work.join()


def compare(rows: int, folder: Path) -> None:
    path = folder / "month.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(HEADER) + "\n")
        file.writelines(lines(rows))
    print(f"{rows:,} rows, {len(HEADER)} columns, {path.stat().st_size / 1e6:,.0f} MB")
    contenders: dict[str, Callable[[Path], Sums]] = {
        "csv.DictReader + Decimal": dict_reader_sums,
        "summary": reader_sums,
    }
    if importlib.util.find_spec("polars"):
        contenders["summary, Polars"] = file_sums
        to_parquet(path)
        contenders["the same of Parquet"] = lambda path: file_sums(path.with_suffix(".parquet"))
        contenders["Polars, decimals"] = polars_sums
    if importlib.util.find_spec("duckdb"):
        contenders["DuckDB, decimals"] = duckdb_sums
    best: dict[str, tuple[float, float]] = {}
    sums: dict[str, Sums] = {}
    for _ in range(3):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            sums[name] = work(path)
            seconds, used = time.perf_counter() - wall, time.process_time() - cpu
            known = best.get(name, (seconds, used))
            best[name] = (min(known[0], seconds), min(known[1], used))
    base = best["csv.DictReader + Decimal"]
    for name, times in best.items():
        tell(name, rows, times, base)
    if len(set(sums.values())) > 1:
        raise SystemExit(f"they have come to different sums: {sums}")
    print(sums["summary"])
    compare_checks(path, rows, base)
    if importlib.util.find_spec("polars"):
        compare_memory(path)
    load = ledger_load(path)
    steps = {
        "rows to charges": load.reading,
        "charges into the ledger": load.writing,
        "rows into the ledger": load.reading + load.writing,
        "the same, plainly": load.plainly,
        "of it, INSERT alone": load.inserting,
    }
    for name, seconds in steps.items():
        speed = f"{rows / seconds:>12,.0f} rows/s {base[0] / seconds:>6.2f} x DictReader"
        print(f"{name:<28}{seconds:>8.2f} s {'':>14} {speed}")
    print(f"{load.charges:,} charges")


def stream(gigabytes: float, polars_block: int) -> None:
    """Read a stream of so many gigabytes, and tell the memory."""
    block = "".join(lines(20_000)).encode()
    reader, totals = Reader(SummaryRow, polars_block=polars_block), Totals()
    reader.feed((",".join(HEADER) + "\n").encode())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    while reader.received < gigabytes * 1e9:
        for start in range(0, len(block), PIECE):
            totals.add(reader.feed(block[start : start + PIECE]))
    totals.add(reader.finish())
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"a stream of {reader.received / 1e9:.1f} GB, {reader.rows:,} rows, "
        f"{'with' if 'polars' in sys.modules else 'without'} Polars: {seconds:.0f} s, "
        f"{reader.received / 1e6 / seconds:,.0f} MB/s, at most {after:,.0f} MB resident ({before:,.0f} MB at its start)"
    )


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    gigabytes = float(sys.argv[2]) if len(sys.argv) > 2 else 3
    for polars_block in (0, POLARS_BLOCK) if importlib.util.find_spec("polars") else (0,):
        reading = get_context("spawn").Process(target=stream, args=(gigabytes, polars_block))
        reading.start()
        reading.join()
    with tempfile.TemporaryDirectory() as folder:
        compare(rows, Path(folder))


if __name__ == "__main__":
    main()
