"""A life under faults: an exporter in this process, a simulated fal over loopback HTTP, and days that pass in a second.

Each day has a fault, or two, from four in the morning until four in the afternoon. Whatever they are, no counter ever
falls, freshness never moves for a poll that failed, every scrape is answered, and the day's end, with nobody's help,
finds the ledger equal to fal's statement, hour by hour and to the nano-dollar.
"""

import random
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from e2e.life.left_half import ACCOUNT, SOURCES, LeftHalf
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, event

from exporter.charges import Window, hour_of
from exporter.fal import REASONS
from exporter.fal.answers import LOCK_REASONS
from exporter.fal.endpoints import MEBIBYTE, Limits
from exporter.fal.rows import REJECTIONS
from exporter.ledger.export import open_statement
from exporter.metrics.health import Health
from exporter.simulator import Fault, RunningSimulator, Simulator, World, WorldSize

HOUR = timedelta(hours=1)
STEP = 2 * HOUR
FAULTY = range(2, 8)
"""Steps of a day during which its faults last."""

STEPS = 12
_PLACE = ("product", "model", "app", "gpu_class", "unit")
_SAMPLE = re.compile(r"^(\w+)\{([^}]*)\} (\S+)", re.MULTILINE)
_ONLY_GROW = frozenset({"fal_spend_usd_total", "fal_discount_usd_total", "fal_gpu_seconds_total"})


@dataclass
class Surroundings:
    """Surroundings of the exporter, and what can be wrong with them.

    Attributes:
        now: fal's clock, which is right.
        ahead: how far the exporter's clock is ahead of it.
        is_cut_off: whether names are not resolved.
        is_asleep: whether nobody polls, because the machine is suspended.
        pragmas: what SQLite is told before it writes.
        is_restarted, is_killed: what happens to the exporter at the next step.
    """

    now: datetime
    ledger: Path
    ahead: timedelta = timedelta(0)
    is_cut_off: bool = False
    is_asleep: bool = False
    pragmas: tuple[str, ...] = ()
    is_restarted: bool = False
    is_killed: bool = False

    def clock(self) -> datetime:
        return self.now + self.ahead


Wrong = Callable[[Simulator, Surroundings], "Healing"]
Healing = Callable[[], None]


def fal_does(kind: str, path: str = "*", **parameters: object) -> Wrong:
    """Return a fault of the simulator."""

    def begin(simulator: Simulator, _: Surroundings) -> Healing:
        fault = Fault(kind, path=path, **parameters)  # type: ignore[arg-type]  # a mapping has one type for all its values
        simulator.faults.add(fault)
        return lambda: simulator.faults.planted.__setitem__(
            slice(None), [planted for planted in simulator.faults.planted if planted.fault is not fault]
        )

    return begin


def sets(**values: object) -> Wrong:
    """Return a fault of the surroundings: attributes that differ while it lasts."""

    def begin(_: Simulator, around: Surroundings) -> Healing:
        before = {name: getattr(around, name) for name in values}

        def heal() -> None:
            for name, value in before.items():
                setattr(around, name, value)

        for name, value in values.items():
            setattr(around, name, value)
        return heal

    return begin


def _locked_ledger(_: Simulator, around: Surroundings) -> Healing:
    other = sqlite3.connect(around.ledger, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    def heal() -> None:
        other.execute("ROLLBACK")
        other.close()

    return heal


def _deleted_ledger(_: Simulator, around: Surroundings) -> Healing:
    for end in ("", "-wal", "-shm"):
        Path(f"{around.ledger}{end}").unlink(missing_ok=True)
    return lambda: None


USAGE = "/v1/*/usage"
FAULTS: Mapping[str, Wrong] = {
    "rate_limited": fal_does("rate_limited", retry_after="seconds", seconds=1),
    "server_error": fal_does("server_error", status=503),
    "server_error_sometimes": fal_does("server_error", probability=0.4),
    "not_found": fal_does("not_found"),
    "refused_400": fal_does("refused", USAGE, status=400),
    "refused_403": fal_does("refused", USAGE, status=403),
    "locked": fal_does("locked"),
    "locked_readable": fal_does("locked", readable=True),
    "key_revoked": fal_does("key_revoked"),
    "scope_removed": fal_does("scope_removed"),
    "feature_disabled": fal_does("feature_disabled"),
    "hang": fal_does("hang", USAGE),
    "slow_body": fal_does("slow_body", USAGE, seconds=0.01, pieces=3),
    "truncated_body": fal_does("truncated_body"),
    "not_json": fal_does("not_json"),
    "empty_body": fal_does("empty_body"),
    "wrong_types": fal_does("wrong_types", USAGE, every_row=3),
    "wrong_types_everywhere": fal_does("wrong_types", USAGE),
    "unknown_fields": fal_does("unknown_fields"),
    "missing_fields": fal_does("missing_fields", USAGE, every_row=3),
    **{f"odd_{name}": fal_does("odd_rows", USAGE, oddity=name, every_row=3) for name in ("text", "currency", "unit")},
    **{f"odd_{name}": fal_does("odd_rows", USAGE, oddity=name, every_row=3) for name in ("quantity", "cost")},
    "split_rows": fal_does("split_rows", USAGE, rows=7),
    "duplicated_page": fal_does("duplicated_page", USAGE),
    "repeated_cursor": fal_does("repeated_cursor", USAGE),
    "overlapping_pages": fal_does("overlapping_pages", USAGE),
    "skipping_pages": fal_does("skipping_pages", USAGE, rows=1),
    "endless_pages": fal_does("endless_pages", USAGE),
    "endless_rows": fal_does("endless_rows", USAGE),
    "giant_body": fal_does("giant_body", megabytes=2),
    "gzip_bomb": fal_does("gzip_bomb", megabytes=2),
    "empty_answer": fal_does("empty_answer", USAGE),
    "fal_clock_ahead": fal_does("clock_skew", seconds=3 * 3600),
    "fal_clock_behind": fal_does("clock_skew", seconds=-3 * 3600),
    "cost_only": fal_does("cost_only"),
    "single_dimension": fal_does("single_dimension"),
    "dns_gone": sets(is_cut_off=True),
    "clock_ahead": sets(ahead=3 * HOUR),
    "clock_behind": sets(ahead=-3 * HOUR),
    "suspended": sets(is_asleep=True),
    "restarted": sets(is_restarted=True),
    "killed": sets(is_killed=True),
    "disk_full": sets(pragmas=("PRAGMA max_page_count = 1",)),
    "ledger_read_only": sets(pragmas=("PRAGMA query_only = ON",)),
    "ledger_locked": _locked_ledger,
    "ledger_deleted": _deleted_ledger,
}
HARMLESS = ("PRAGMA max_page_count = 1073741823", "PRAGMA query_only = OFF")

ALONE = {"ledger_deleted": {"killed", "restarted", "disk_full", "ledger_read_only", "ledger_locked"}}
"""Losses that together are for good: a ledger that was deleted, and then the only process that still held it."""


@dataclass
class Day:
    """Events and figures of a day.

    Attributes:
        failures: polls that failed, by reason.
        is_dark: whether no poll of usage succeeded while its faults lasted.
        hours: of the ledger that were compared at its end, and charges that differed.
    """

    faults: tuple[str, ...]
    failures: Counter[str] = field(default_factory=Counter)
    is_dark: bool = True
    hours: int = 0
    differing: int = 0

    def __str__(self) -> str:
        failed = ", ".join(f"{count} {reason}" for reason, count in sorted(self.failures.items())) or "none"
        return f"| {' + '.join(self.faults) or 'nothing'} | {failed} | {self.hours} | {self.differing} |"


class Rerouted(httpx.AsyncBaseTransport):
    """The way to fal: over loopback to the simulator, while there is a way."""

    def __init__(self, running: RunningSimulator, around: Surroundings) -> None:
        self._base = httpx.URL(running.url)
        self._around = around
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._around.is_cut_off:
            raise httpx.ConnectError("[Errno -2] Name or service not known")
        request.url = request.url.copy_with(host=self._base.host, port=self._base.port)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class Campaign:
    """A life of so many days as there are sets of faults."""

    def __init__(self, running: RunningSimulator, around: Surroundings, health: Callable[[], Health]) -> None:
        self._running = running
        self._around = around
        self._make_health = health
        self._exporter: LeftHalf | None = None
        self._highest: dict[tuple[str, str], float] = {}
        self._through: dict[str, float] = {}
        self._succeeded: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._lives = 0

    async def live(self, days: Sequence[tuple[str, ...]]) -> list[Day]:
        """Live the days, one after the other; return what they were like."""
        await self._start()
        try:
            return [await self._day(Day(faults)) for faults in days]
        finally:
            await self._stop()

    async def _start(self) -> None:
        self._failed.clear()
        self._succeeded.clear()
        self._exporter = LeftHalf(
            fal=Rerouted(self._running, self._around),
            ledger=self._around.ledger,
            zone=ZoneInfo("UTC"),
            clock=self._around.clock,
            witness=lambda _: None,
            health=self._make_health(),
            limits=Limits(
                read_timeout=timedelta(milliseconds=500), attempts=2, answer_bytes=MEBIBYTE, rows=20_000, pages=20
            ),
        )
        await self._exporter.start()

    async def _stop(self) -> None:
        if self._exporter is not None:
            exporter, self._exporter = self._exporter, None
            await exporter.stop()

    async def _day(self, day: Day) -> Day:
        healings: list[Healing] = []
        with ExitStack() as ill:
            for step in range(STEPS):
                if step == FAULTY.start:
                    healings = [FAULTS[name](self._running.simulator, self._around) for name in day.faults]
                    for heal in healings:
                        ill.callback(heal)
                elif step == FAULTY.stop:
                    ill.pop_all().close()
                await self._step(day, step)
                self._around.now += STEP
        self._around.now -= STEP
        exporter = self._running_exporter
        for job in ("deep", "months") if day.faults == () else ("deep",):
            await exporter.run(job)
        await self._look(day, exporter, is_ill=False)
        assert exporter.is_up_to_date, f"after {day.faults} it does not recover by itself"
        self._compare(day)
        self._around.now += STEP
        return day

    @property
    def _running_exporter(self) -> LeftHalf:
        assert self._exporter is not None
        return self._exporter

    async def _step(self, day: Day, step: int) -> None:
        around = self._around
        if around.is_asleep:
            return
        if around.is_restarted or around.is_killed:
            await self._begin_again()
        exporter = self._running_exporter
        for job in ("current", "balance", *(("recent",) if step % 6 == 5 else ())):
            await exporter.run(job)
        await self._look(day, exporter, is_ill=step in FAULTY)

    async def _begin_again(self) -> None:
        """Stop the exporter and start it; or lose all that is not on the disk, as in a power failure."""
        exporter, around = self._running_exporter, self._around
        if around.is_killed:
            self._lives += 1
            remains = around.ledger.with_name(f"ledger-{self._lives}.sqlite")
            await exporter.die(remains)
            around.ledger = remains
        else:
            await exporter.stop()
        self._exporter = None
        await self._start()

    async def _look(self, day: Day, exporter: LeftHalf, *, is_ill: bool) -> None:
        """Scrape, and hold what is served against what was."""
        await exporter.publish()
        text = (await exporter.scrape()).decode()
        counters: dict[tuple[str, str], float] = {}
        through: dict[str, float] = {}
        up: dict[str, bool] = {}
        failed: Counter[str] = Counter()
        succeeded: Counter[str] = Counter()
        for name, labels, value in _SAMPLE.findall(text):
            if name in _ONLY_GROW:
                counters[name, labels] = float(value)
            elif name == "fal_data_through_timestamp_seconds":
                through[_label(labels, "source")] = float(value)
            elif name == "fal_source_up":
                up[_label(labels, "source")] = value in {"1", "1.0"}
            elif name == "fal_exporter_poll_failures_total":
                failed[_label(labels, "reason")] += int(float(value))
                succeeded[_label(labels, "source")] -= int(float(value))
            elif name == "fal_exporter_polls_total":
                succeeded[_label(labels, "source")] += int(float(value))
        for series, highest in self._highest.items():
            assert counters.get(series, -1) >= highest, f"{series} fell from {highest} under {day.faults}"
        self._highest = counters
        for source in SOURCES:
            is_up = up.get(source, False)
            day.is_dark = day.is_dark and not (is_ill and is_up)
            if succeeded[source] == self._succeeded[source] and source in self._through and source in through:
                assert through[source] <= self._through[source], f"{source} claims data that it could not read"
        self._through, self._succeeded = through, succeeded
        day.failures += failed - self._failed
        self._failed = failed

    def _compare(self, day: Day) -> None:
        """Compare the ledger with fal's statement of this instant, over the days that were polled last."""
        end = hour_of(self._around.now) + HOUR
        window = Window(end - 8 * 24 * HOUR, end)
        ours: Counter[tuple[str, ...]] = Counter()
        with open_statement(f"sqlite:///{self._around.ledger}", ACCOUNT) as statement:
            for charge in statement.charges(window):
                place = charge.dimensions
                ours[
                    f"{charge.hour:%Y-%m-%dT%H:%M:%SZ}",
                    *(getattr(place, name) for name in _PLACE),
                ] += charge.amounts.cost
        theirs: Counter[tuple[str, ...]] = Counter()
        for source in SOURCES:
            told = self._running.simulator.statement(
                start=window.start.isoformat(),
                end=window.end.isoformat(),
                group_by=",".join(("hour", *_PLACE)),
                source=source,
            )["charges"]
            assert isinstance(told, list)
            for row in told:
                theirs[tuple(row[name] or "" for name in ("hour", *_PLACE))] += int(Decimal(row["cost"]).scaleb(9))
        places = {place for place in {*ours, *theirs} if ours[place] or theirs[place]}
        day.hours = len({hour for hour, *_ in places})
        day.differing = sum(ours[place] != theirs[place] for place in places)


def _label(labels: str, name: str) -> str:
    found = re.search(rf'(?:^|,){name}="([^"]*)"', labels)
    return found[1] if found else ""


def new_health() -> Health:
    return Health(CollectorRegistry(), failure_reasons=REASONS, rejection_reasons=REJECTIONS, lock_reasons=LOCK_REASONS)


@contextmanager
def pragmas_of(around: Surroundings) -> Iterator[None]:
    """Tell SQLite, before every transaction that writes, what is wrong with its disk."""

    def on_begin(connection: Connection) -> None:
        if connection.dialect.name == "sqlite" and not connection.get_execution_options().get("ledger_reads"):
            for pragma in around.pragmas or HARMLESS:
                connection.exec_driver_sql(pragma)

    event.listen(Engine, "begin", on_begin)
    try:
        yield
    finally:
        event.remove(Engine, "begin", on_begin)


def new_world(seed: int) -> tuple[World, datetime]:
    return World(seed, size=WorldSize(models=3, callers=1, apps=2, compute=0, teams=1)), datetime(
        2026, 10, 3, 0, 7, tzinfo=UTC
    )


def pairs(chance: random.Random, count: int) -> list[tuple[str, ...]]:
    """Draw pairs of faults that leave a way to recover."""
    drawn: list[tuple[str, ...]] = []
    while len(drawn) < count:
        pair = tuple(chance.sample(sorted(FAULTS), 2))
        if not any(ALONE.get(one, set()) & {*pair} for one in pair):
            drawn.append(pair)
    return drawn
