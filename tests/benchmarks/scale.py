"""Many accounts on one exporter: what 1, 10, 50 and 200 of them take; run by hand:

    python tests/benchmarks/scale.py [--accounts 1 10 50 200] [--series 470 1000] [--interval 60] [--seconds 30]
        [--database postgresql://user@host/database] [--followers 2] [--divide] [--delay] [--targets]

Each account is a simulated fal of its own whose charges move all the time, so that every poll changes what is
published. `fal-exporter serve` loads two hours of history; once its work has stopped to fall, two minutes later at the
latest, its two processes are watched for so many seconds. With --targets the runs of the table are made that have
targets: 200 accounts with 470 series each every minute, after 1, 10 and 50 of them, and with 1,000 each every five
minutes; some seven minutes in all.
Shown are series an account (all that is scraped, the exporter's own included), polls a second, processor seconds a
minute of both processes, their memory (RSS, which counts pages of shared libraries in both, and PSS, which counts them
once), and writes a minute to the ledger; on PostgreSQL also what its server does: transactions, statements
(where `shared_preload_libraries` has `pg_stat_statements`), bytes of write-ahead log, and processor seconds. In the end
stands what each further account takes between two sizes: of a straight curve it is the same everywhere.

With --followers so many further replicas run, and their processor seconds are shown, too; with --divide each of them
asks fal for its share of the accounts.

With --delay a second exporter runs, its collector in a process of its own without a web process, and the time from the
last byte of fal's answer to the publication with it is shown. With --database that exporter is a replica, and the time
is that to the publication of another replica, which follows it.
"""

import argparse
import asyncio
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import uvicorn
from memory import SERIES_OF_A_MODEL, collector_of, memory
from scrape import fetch, free_port, running
from sqlalchemy import create_engine, make_url, text
from starlette.types import Message, Receive, Scope, Send

from exporter.app.replica import Replica
from exporter.app.wiring import open_left_half
from exporter.charges import utc_now
from exporter.inquiry import Channel
from exporter.logs import configure_logging
from exporter.publication import Publication
from exporter.settings import load_settings
from exporter.simulator import Key, Simulator, World, simulator_app
from exporter.simulator.world.lines import team_names

TARGETS = {(200, 470, 60): (400, 15.0), (200, 1000, 300): (512, None)}
"""MiB of both processes, and processor seconds a minute, by accounts, series of each, and seconds between polls."""

USAGE = "/v1/models/usage"
_TICKS = os.sysconf("SC_CLK_TCK")


def key_of(account: int) -> str:
    """Return the key of an account."""
    return f"account-{account}:0123456789abcdef"


@dataclass(frozen=True)
class Tenant(World):
    """World of one of many accounts: its owner has a name of its own."""

    @cached_property
    def teams(self) -> tuple[str, ...]:
        """Team usernames, the root of the organization first."""
        return (f"company-{self.seed}", *team_names(self.size)[1:])


class Fal:
    """Simulated fal of many accounts, told apart by their keys; `/answered` says when usage was answered last."""

    def __init__(self, accounts: int, models: int) -> None:
        self._applications = {
            f"Key {key_of(number)}": simulator_app(
                Simulator(Tenant.of_lines(number + 1, models), keys=[Key(key_of(number))])
            )
            for number in range(accounts)
        }
        self._answered: dict[str, float] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"").decode()
        if scope["path"] == "/answered":
            body = json.dumps(self._answered).encode()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": body})
            return

        async def noting(message: Message) -> None:
            await send(message)
            if scope["path"] == USAGE and message["type"] == "http.response.body" and not message.get("more_body"):
                self._answered[key.removeprefix("Key ").partition(":")[0]] = time.time()

        await self._applications[key](scope, receive, noting)


def configuration(folder: str, accounts: int) -> str:
    """Write a configuration file of so many accounts; return its path."""
    path = Path(folder) / "fal-exporter.yaml"
    entries = [{"name": f"account-{number}", "key": key_of(number)} for number in range(accounts)]
    path.write_text(json.dumps({"accounts": entries}), encoding="utf-8")
    return str(path)


def environment(
    upstream: int, folder: str, *, accounts: int, interval: int, database: str, divide: bool = False
) -> dict[str, str]:
    """Return the environment of an exporter."""
    return os.environ | {
        "FAL_EXPORTER_CONFIG_FILE": configuration(folder, accounts),
        "FAL_EXPORTER_PLATFORM_URL": f"http://127.0.0.1:{upstream}/v1",
        "FAL_EXPORTER_REPORTING_URL": f"http://127.0.0.1:{upstream}",
        "FAL_EXPORTER_SOURCES": "models",
        "FAL_EXPORTER_LEDGER_URL": database or f"sqlite:///{folder}/ledger.sqlite",
        "FAL_EXPORTER_HISTORY": "2h",
        "FAL_EXPORTER_MAX_SERIES": "1000000",
        "FAL_EXPORTER_MCP_LISTEN": "off",
        "FAL_EXPORTER_POLL_INTERVAL": f"{interval}s",
        "FAL_EXPORTER_LOG_LEVEL": "error",
        "FAL_EXPORTER_REPLICATED": str(bool(database)).lower(),
        "FAL_EXPORTER_DIVIDE_POLLING": str(divide).lower(),
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir()) / "fal-exporter-bytecode"),
        "PYTHONDONTWRITEBYTECODE": "",
    }


class Load(NamedTuple):
    """Work of a ledger's server so far; all 0 but the revision for a file."""

    revision: int = 0
    processor: float = 0.0
    transactions: int = 0
    statements: int = 0
    logged: int = 0


class Work(NamedTuple):
    """Processor seconds so far, polls, and what has been done for the ledger."""

    at: float
    web: float
    collector: float
    polls: float
    ledger: Load
    followers: float


@dataclass
class Watched:
    """An exporter that runs."""

    port: int
    web: int
    collector: int
    database: str
    followers: tuple[int, ...] = ()

    def work(self) -> Work:
        """Return what it has done so far."""
        body = fetch(self.port, "identity").decode()
        polls = sum(map(float, re.findall(r"^fal_exporter_polls_total\{.*\} (\S+)$", body, re.MULTILINE)))
        followers = sum(processor(pid) + processor(collector_of(pid)) for pid in self.followers)
        return Work(
            time.monotonic(),
            processor(self.web),
            processor(self.collector),
            polls,
            load_of(self.database),
            followers,
        )


def processor(pid: int) -> float:
    """Return the processor seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def load_of(database: str) -> Load:
    """Return what has been done for a ledger."""
    engine = create_engine(make_url(database).set(drivername=_driver(database)))
    with engine.connect() as connection:
        revision = int(connection.scalar(text("SELECT value FROM fact WHERE name = 'revision'")) or 0)
        load = Load(revision)
        if engine.dialect.name == "postgresql":
            pids = connection.scalars(text("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")).all()
            done = connection.execute(text(_DONE)).one()
            counted = connection.scalar(text("SELECT to_regclass('pg_stat_statements') IS NOT NULL"))
            statements = connection.scalar(text("SELECT sum(calls) FROM pg_stat_statements")) if counted else 0
            load = Load(revision, sum(map(processor, pids)), done.transactions, int(statements), int(done.logged))
    engine.dispose()
    return load


_DONE = (
    "SELECT xact_commit AS transactions, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS logged"
    " FROM pg_stat_database WHERE datname = current_database()"
)


def empty(database: str) -> None:
    """Remove all that a PostgreSQL database holds, so that every run begins with the same."""
    engine = create_engine(make_url(database).set(drivername=_driver(database)))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        if "pg_stat_statements" in connection.scalar(text("SHOW shared_preload_libraries")):
            connection.execute(text("CREATE EXTENSION pg_stat_statements"))
    engine.dispose()


def _driver(database: str) -> str:
    return "sqlite" if database.startswith("sqlite") else "postgresql+psycopg"


@contextmanager
def serving(
    upstream: int,
    folder: str,
    *,
    accounts: int,
    interval: int,
    database: str,
    followers: int = 0,
    divide: bool = False,
) -> Iterator[Watched]:
    """Run the exporter and those that follow it, and wait until the history is loaded."""
    port = free_port()
    if database:
        empty(database)
    variables = environment(upstream, folder, accounts=accounts, interval=interval, database=database, divide=divide)
    variables["FAL_EXPORTER_LISTEN"] = f"127.0.0.1:{port}"
    subprocess.run([sys.executable, "-m", "compileall", "-q", "exporter"], env=variables, check=False)
    command = [sys.executable, "-m", "exporter", "serve"]
    process = subprocess.Popen(command, env=variables)
    further: list[subprocess.Popen[bytes]] = []
    try:
        until = time.monotonic() + 1800
        while loaded(port) < accounts:
            if time.monotonic() > until or process.poll() is not None:
                raise SystemExit("the history was not loaded")
            time.sleep(2)
        for _ in range(followers):
            variables["FAL_EXPORTER_LISTEN"] = f"127.0.0.1:{free_port()}"
            further.append(subprocess.Popen(command, env=variables))
            while loaded(int(variables["FAL_EXPORTER_LISTEN"].rpartition(":")[2])) < accounts:
                time.sleep(1)
        yield Watched(
            port,
            process.pid,
            collector_of(process.pid),
            variables["FAL_EXPORTER_LEDGER_URL"],
            tuple(follower.pid for follower in further),
        )
    finally:
        for one in (*further, process):
            one.terminate()
        for one in (*further, process):
            one.wait(60)


def loaded(port: int) -> int:
    """Return how many accounts have their whole history."""
    try:
        body = fetch(port, "identity").decode()
    except OSError:
        return -1
    return len(re.findall(r"^fal_exporter_history_progress_ratio\{.*\} 1(?:\.0)?$", body, re.MULTILINE))


def load_text(before: Load, after: Load, minutes: float, *, with_server: bool) -> str:
    """Return what has been done for a ledger between two instants, by the minute."""
    revision, seconds, transactions, statements, logged = (
        (end - start) / minutes for start, end in zip(before, after, strict=True)
    )
    if not with_server:
        return f"{revision:.0f} writes/min"
    return (
        f"{revision:.0f} writes/min, server {seconds:.2f} s/min, {transactions:.0f} transactions/min, "
        f"{statements:.0f} statements/min, {logged / 1024:.0f} KiB of log/min"
    )


class Taken(NamedTuple):
    """Processor seconds a minute, and MiB, of so many accounts."""

    accounts: int
    processor: float
    memory: float


_LOOK_SECONDS = 10.0
_LONGEST_SETTLING = 120.0


def settled(exporter: Watched) -> float:
    """Wait until an exporter's work falls no more, which what follows a start makes it do; return the seconds."""
    began = time.monotonic()
    before = None
    while time.monotonic() < began + _LONGEST_SETTLING:
        first = exporter.work()
        time.sleep(_LOOK_SECONDS)
        last = exporter.work()
        took = (last.web + last.collector - first.web - first.collector) / (last.at - first.at)
        if before is not None and took >= 0.9 * before:
            break
        before = took
    return time.monotonic() - began


def print_curve(taken: list[Taken]) -> None:
    """Print what each further account takes."""
    for fewer, more in pairwise(sorted(taken)):
        step = more.accounts - fewer.accounts
        print(
            f"     from {fewer.accounts:3} to {more.accounts:3} accounts each further one takes "
            f"{(more.processor - fewer.processor) / step * 1000:4.0f} ms of processor a minute, "
            f"{(more.memory - fewer.memory) / step:5.2f} MiB",
            flush=True,
        )


def measured(
    accounts: int,
    series: int,
    interval: int,
    seconds: float,
    database: str,
    *,
    followers: int = 0,
    divide: bool = False,
) -> Taken:
    """Print what so many accounts take, and return it."""
    with (
        upstream_of(accounts, series) as upstream,
        tempfile.TemporaryDirectory() as folder,
        serving(
            upstream,
            folder,
            accounts=accounts,
            interval=interval,
            database=database,
            followers=followers,
            divide=divide,
        ) as exporter,
    ):
        after_start = settled(exporter)
        before = exporter.work()
        # One account is polled once in each interval.
        time.sleep(max(seconds, interval) if accounts == 1 else seconds)
        after = exporter.work()
        body = fetch(exporter.port, "identity")
        lines = sum(not line.startswith(b"#") for line in body.splitlines())
        own = len(re.findall(rb"^(?:fal_exporter_|process_|python_)", body, re.MULTILINE))
        used = {pid: memory(pid) for pid in (exporter.web, exporter.collector)}
        peak = sum(high_water(pid) for pid in used)
    minutes = (after.at - before.at) / 60
    cpu_web, cpu_collector = (after.web - before.web) / minutes, (after.collector - before.collector) / minutes
    rss, pss = sum(item.rss for item in used.values()), sum(item.pss for item in used.values())
    limit, seconds_limit = TARGETS.get((accounts, series, interval), (None, None))
    verdicts = [
        f"{name} {value:.4g} of {target} {'met' if value <= target else 'MISSED'}"
        for name, value, target in (("MiB", rss, limit), ("s a minute", cpu_web + cpu_collector, seconds_limit))
        if target is not None
    ]
    print(
        f"{accounts:4} accounts x {lines / accounts:5.0f} series ({own / accounts:.0f} own), every {interval} s: "
        f"{(after.polls - before.polls) / minutes / 60:6.2f} polls/s   "
        f"processor {cpu_web + cpu_collector:6.2f} s/min (web {cpu_web:.2f}, collector {cpu_collector:.2f}; "
        f"{(cpu_web + cpu_collector) / accounts * 1000:.0f} ms an account)   "
        f"memory {rss:6.1f} MiB RSS (web {used[exporter.web].rss:.0f}, collector {used[exporter.collector].rss:.0f}), "
        f"{pss:.1f} PSS, peak {peak:.0f}   ledger "
        + load_text(before.ledger, after.ledger, minutes, with_server=bool(database))
        + (f"   followers {(after.followers - before.followers) / minutes:.2f} s/min" if followers else "")
        + f"   settled after {after_start:.0f} s"
        + ("   " + ", ".join(verdicts) if verdicts else ""),
        flush=True,
    )
    return Taken(accounts, cpu_web + cpu_collector, rss)


def high_water(pid: int) -> float:
    """Return the most resident memory of a process, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


@contextmanager
def upstream_of(accounts: int, series: int) -> Iterator[int]:
    """Run the simulated fal; yield its port."""
    port = free_port()
    models = max(series // SERIES_OF_A_MODEL, 1)
    stand_in = [sys.executable, __file__, "--serve", str(port), "--accounts", str(accounts), "--models", str(models)]
    with running(stand_in, port):
        yield port


def delayed(accounts: int, series: int, interval: int, seconds: float, database: str) -> None:
    """Print how long it takes from fal's answer to a publication with it."""
    with upstream_of(accounts, series) as upstream, tempfile.TemporaryDirectory() as folder:
        if database:
            with serving(upstream, folder, accounts=accounts, interval=interval, database=database):
                os.environ.update(
                    environment(upstream, folder, accounts=accounts, interval=interval, database=database)
                )
                delays, apart = asyncio.run(delays_of(upstream, seconds, accounts, follows=True))
        else:
            os.environ.update(environment(upstream, folder, accounts=accounts, interval=interval, database=database))
            delays, apart = asyncio.run(delays_of(upstream, seconds, accounts, follows=False))
    shares = statistics.quantiles(delays, n=100, method="inclusive") if len(delays) > 1 else delays * 100
    print(
        f"{accounts:4} accounts x {series:5} series, every {interval} s: from fal's answer to the publication"
        f"{' of another replica' if database else ''} "
        f"{shares[49]:.2f} s at the median, {shares[98]:.2f} s at p99, {max(delays):.2f} s at most, of {len(delays)}; "
        f"publications {apart:.2f} s apart",
        flush=True,
    )


@asynccontextmanager
async def publishing(emit: Callable[[Publication], None], *, follows: bool) -> AsyncIterator[None]:
    """Run a collector, or a replica that follows one."""
    settings, stop = load_settings({}), asyncio.Event()
    if follows:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            running_one = asyncio.create_task(Replica(settings, send=emit, channel=Channel(theirs)).run(stop))
            try:
                yield
            finally:
                stop.set()
                await running_one
        return
    half = await open_left_half(settings, emit=emit, clock=utc_now)
    running_one = asyncio.create_task(half.collector.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running_one
        await half.close()


async def delays_of(upstream: int, seconds: float, accounts: int, *, follows: bool) -> tuple[list[float], float]:
    """Take publications; return the delays in seconds, and the mean seconds between two publications."""
    seen: dict[str, object] = {}
    published: list[tuple[float, list[str]]] = []

    def emit(publication: Publication) -> None:
        fresh = []
        for account in publication.overview.accounts:
            at = account.sources[0].last_success_at if account.sources else None
            if at is not None and seen.get(account.name) != at:
                fresh.append(account.name)
                seen[account.name] = at
        published.append((time.time(), fresh))
        if len(seen) == accounts:
            loop.call_soon_threadsafe(all_seen.set)

    loop, all_seen = asyncio.get_running_loop(), asyncio.Event()
    configure_logging(log_format="text", level="error", stream=sys.stderr)
    delays: list[float] = []
    count = 0
    async with publishing(emit, follows=follows):
        await all_seen.wait()
        await asyncio.sleep(30)
        published.clear()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(0.05)
            if published:
                instants = json.loads(await asyncio.to_thread(fetch, upstream, "identity", "/answered"))
                while published:
                    at, names = published.pop()
                    delays += [at - instants[name] for name in names if instants[name] <= at]
                    count += 1
        return delays, seconds / max(count, 1)


def main() -> None:
    """Measure, or serve as the simulated fal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 10, 50, 200])
    parser.add_argument("--series", type=int, nargs="+", default=[470, 1000])
    parser.add_argument("--interval", type=int, default=60, help="seconds between polls")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each exporter is watched")
    parser.add_argument("--database", default="", help="a ledger in PostgreSQL; it is emptied")
    parser.add_argument("--followers", type=int, default=0, help="how many further replicas run; needs --database")
    parser.add_argument("--divide", action="store_true", help="have each replica ask fal for its share")
    parser.add_argument("--delay", action="store_true", help="show the time from fal's answer to the publication, too")
    parser.add_argument("--targets", action="store_true", help="make the runs that have targets")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--models", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        fal = Fal(options.accounts[0], options.models)
        uvicorn.run(fal, host="127.0.0.1", port=options.serve, log_level="warning", lifespan="off", access_log=False)
        return
    runs = {(series, options.interval): options.accounts for series in options.series}
    if options.targets:
        runs = {(470, 60): [1, 10, 50, 200], (1000, 300): [200]}
    for (series, interval), sizes in runs.items():
        taken = []
        for accounts in sizes:
            taken.append(
                measured(
                    accounts,
                    series,
                    interval,
                    options.seconds,
                    options.database,
                    followers=options.followers,
                    divide=options.divide,
                )
            )
            if options.delay:
                delayed(accounts, series, interval, options.seconds, options.database)
        print_curve(taken)


if __name__ == "__main__":
    main()
