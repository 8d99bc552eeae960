"""How fast FOCUS files are read: `python tests/benchmarks/focus.py [rows] [gigabytes]`.

A generated file of 45 columns is summed up by service, SKU, category and month, beside
`csv.DictReader` with `Decimal`, and Polars and DuckDB where they are installed, all asked for exact decimals, in one
run; the reader with and without Polars. The same rows then become charges, as the source `focus` makes them, and go
into a ledger, a day at a time; of that the reading and the ledger are told apart. A generated stream of some gigabytes
is read without ever being written down, with Polars and without by a process of its own, and the memory at its end is
told. Only the ratios travel from machine to machine; every contender is run alternately
and its best time counts.
"""

import csv
import importlib.util
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from exporter.charges import Dimensions, Window
from exporter.fal.focus_lines import UsageRow
from exporter.fal.focus_usage import Items, Usage
from exporter.fal.rejections import Rejections
from exporter.focus.dialect import PIECE
from exporter.focus.reader import POLARS_BLOCK, Reader
from exporter.focus.totals import SummaryRow, Totals
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
KEYS = ("ChargePeriodStart", "ChargeCategory", "ServiceName", "SkuId", "BillingCurrency")


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


def reader_sum(path: Path, polars_block: int = 0) -> Decimal:
    reader, totals = Reader(SummaryRow, polars_block=polars_block), Totals()
    for piece in pieces(path):
        totals.add(reader.feed(piece))
    totals.add(reader.finish())
    return sum((total.billed for total in totals.by("currency").values()), Decimal(0))


def dict_reader_sum(path: Path) -> Decimal:
    sums: dict[tuple[str, ...], Decimal] = {}
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["ChargePeriodStart"][:7], *(row[name] for name in KEYS[1:]))
            sums[key] = sums.get(key, Decimal(0)) + Decimal(row["BilledCost"])
    return sum(sums.values(), Decimal(0))


def polars_sum(path: Path) -> Decimal:
    import polars as pl  # noqa: PLC0415  optional

    keys = [pl.col("ChargePeriodStart").str.head(7), *KEYS[1:]]
    cost = pl.col("BilledCost").str.to_decimal(scale=9).sum()
    found = pl.scan_csv(path, infer_schema=False).group_by(keys).agg(cost).collect(engine="streaming")
    return Decimal(found["BilledCost"].sum())


def duckdb_sum(path: Path) -> Decimal:
    import duckdb  # noqa: PLC0415  optional

    keys = ", ".join(("left(ChargePeriodStart, 7)", *KEYS[1:]))
    query = f"SELECT sum(BilledCost::DECIMAL(38, 9)) FROM read_csv('{path}', all_varchar = true) GROUP BY {keys}"  # noqa: S608  ours
    return sum((row[0] for row in duckdb.sql(query).fetchall()), Decimal(0))


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


def ledger_load(path: Path) -> tuple[float, float, float, int]:
    """Return the seconds to make charges of the rows, to write them into a ledger and to merely insert them.

    The last is the least that any ledger in SQLite can take: the same charges, by number, into a table without a rule.
    And how many charges there are.
    """
    reading = writing = inserting = 0.0
    charges = 0
    with tempfile.TemporaryDirectory() as folder, closing(sqlite3.connect(f"{folder}/plain.sqlite")) as plain:
        plain.execute("PRAGMA journal_mode = WAL")
        columns = "hour, series, quantity, gpu_seconds, list_cost, discount, cost, PRIMARY KEY (hour, series)"
        plain.execute(f"CREATE TABLE charge ({columns}) WITHOUT ROWID")
        series: dict[Dimensions, int] = {}
        ledger = Ledger(f"sqlite:///{folder}/l.sqlite", rules=Rules(), clock=lambda: START + timedelta(hours=HOURS))
        ledger.activate({"main": ("focus",)})
        items = Items("main")
        for window, rows in days(path):
            began = time.perf_counter()
            reader = Reader(UsageRow)
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
                (int(it.hour.timestamp()) // 3600, series.setdefault(it.dimensions, len(series)), *it.amounts)
                for it in found
            )
            began = time.perf_counter()
            with plain:
                plain.executemany("INSERT INTO charge VALUES (?, ?, ?, ?, ?, ?, ?)", numbered)
            inserting += time.perf_counter() - began
        ledger.close()
    return reading, writing, inserting, charges


def compare(rows: int, folder: Path) -> None:
    path = folder / "month.csv"
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(HEADER) + "\n")
        file.writelines(lines(rows))
    print(f"{rows:,} rows, {len(HEADER)} columns, {path.stat().st_size / 1e6:,.0f} MB")
    contenders: dict[str, Callable[[Path], Decimal]] = {
        "csv.DictReader + Decimal": dict_reader_sum,
        "reader + totals": reader_sum,
    }
    if importlib.util.find_spec("polars"):
        contenders["reader + totals, Polars"] = partial(reader_sum, polars_block=POLARS_BLOCK)
        contenders["Polars, decimals"] = polars_sum
    if importlib.util.find_spec("duckdb"):
        contenders["DuckDB, decimals"] = duckdb_sum
    best: dict[str, tuple[float, float]] = {}
    sums: dict[str, Decimal] = {}
    for _ in range(3):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            sums[name] = work(path)
            seconds, used = time.perf_counter() - wall, time.process_time() - cpu
            known = best.get(name, (seconds, used))
            best[name] = (min(known[0], seconds), min(known[1], used))
    base = best["csv.DictReader + Decimal"]
    for name, (seconds, used) in best.items():
        print(
            f"{name:<28}{seconds:>8.2f} s {used:>8.2f} s cpu {rows / seconds:>12,.0f} rows/s "
            f"{base[0] / seconds:>6.2f} x DictReader  sum {sums[name]}"
        )
    reading, writing, inserting, charges = ledger_load(path)
    parts = {
        "rows to charges": reading,
        "charges into the ledger": writing,
        "the same, INSERT alone": inserting,
        "rows into the ledger": reading + writing,
    }
    for name, seconds in parts.items():
        speed = f"{rows / seconds:>12,.0f} rows/s {base[0] / seconds:>6.2f} x DictReader"
        print(f"{name:<28}{seconds:>8.2f} s {'':>14} {speed}")
    print(f"{charges:,} charges")


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
