"""Lives the story through, minute by minute, and notes the truth beside it."""

import gc
import json
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
from e2e.life.checks import Expected
from e2e.life.learnt import Learnt
from e2e.life.left_half import ACCOUNT, LeftHalf
from e2e.life.naive import NaiveExporter
from e2e.life.recording import COUNTERS, GAUGES, Recording, join
from e2e.life.story import HOUR, MINUTE, UNIVERSAL, Story
from e2e.life.truth import Amounts, Truth
from e2e.life.witness import Committed

from exporter.simulator import ADMIN_KEY, Fault, Simulator, simulator_app

EXPORTER, NAIVE = "exporter", "naive"
_HOLDS_LAST = 4 * MINUTE
"""After a birth a publication is made each minute for so long: as the hold ends, a figure changes with the clock."""


@dataclass
class Life:
    """Records of a life.

    Attributes:
        recorded: every scrape of the exporter and of the naive one.
        expected: what gauges must have told at the instants at which a poll had just read their hours.
        grown: what fal stated at the end more than at the birth, by counter.
        learnt: the same by way of the polls, and how much of it the counters could not follow.
        invoice: the total of October's invoice in nano-USD, as fal states it at the end.
        created: what each counter ever said of its beginning.
        starts: how often the exporter was started.
    """

    recorded: Path
    expected: Expected
    grown: dict[str, Amounts]
    learnt: Learnt
    invoice: int
    created: dict[str, set[str]]
    starts: int


@dataclass
class MovedClock:
    """Stands until it is moved."""

    now: datetime

    def __call__(self) -> datetime:
        return self.now


@dataclass
class _Living:
    """A life while it lasts; nobody runs the exporter while there is none."""

    story: Story
    folder: Path
    clock: MovedClock
    simulator: Simulator
    fal: httpx.AsyncBaseTransport
    recordings: tuple[Recording, Recording]
    expected: Expected = field(default_factory=dict)
    exporter: LeftHalf | None = None
    starts: int = 0
    deaths: int = 0

    def __post_init__(self) -> None:
        self.learnt = Learnt(self.story.birth)
        self.naive = NaiveExporter(self.story.home, self.story.birth)
        self.hold_until = self.story.birth
        self.truth = Truth(self.simulator, ACCOUNT)

    @property
    def zone(self) -> ZoneInfo:
        return self.story.home if self.clock.now < self.story.zone_change else UNIVERSAL

    @property
    def ledger(self) -> Path:
        """The ledger's file; after a power failure, what remained of it."""
        return self.folder / f"ledger-{self.deaths}.sqlite"

    async def start(self) -> LeftHalf:
        self.starts += 1
        self.naive = NaiveExporter(self.zone, self.clock.now)
        exporter = self.exporter = LeftHalf(
            fal=self.fal,
            ledger=self.ledger,
            zone=self.zone,
            clock=self.clock,
            witness=self.committed,
            retention=self.story.retention,
            recent=self.story.recent,
        )
        await exporter.start()
        self.hold_until = self.clock.now + _HOLDS_LAST
        return exporter

    async def stop(self) -> None:
        if self.exporter is not None:
            await self.exporter.stop()
            self.exporter = None

    def committed(self, committed: Committed) -> None:
        self.learnt.learn(committed)
        self.naive.learn(committed)

    async def minute(self) -> None:
        now = self.clock.now
        self.let_fal_fail(now)
        if now == self.story.downtime[0]:
            await self.stop()
        elif now in {self.story.birth, self.story.downtime[1]}:
            await self.start()
        elif now in {*self.story.restarts, self.story.zone_change}:
            await self.stop()
            await self.start()
        if self.exporter is None:
            return
        jobs = self.jobs(now)
        exporter = await self.work(self.exporter, now, jobs)
        changes = bool(jobs) or now.minute == 0 or now <= self.hold_until
        if changes:
            await self.publish(exporter)
        ours, naive = self.recordings
        ours.scrape(now, COUNTERS)
        # Prometheus looks back five minutes for a value: as long as nothing changes, what it finds is the same.
        if changes or now.minute % 5 == 1:
            ours.scrape(now, GAUGES)
            naive.scrape(now)
        self.note_truth(exporter, now, jobs)

    async def work(self, exporter: LeftHalf, now: datetime, jobs: list[str]) -> LeftHalf:
        """Run the jobs, however that ends; return the exporter that is there after it."""
        remains = self.folder / f"ledger-{self.deaths + 1}.sqlite"
        if now in self.story.killed_in_a_transaction:
            await exporter.die_in_a_transaction(remains, jobs[0])
            self.deaths += 1
            exporter = await self.start()
        for job in jobs:
            await exporter.run(job)
        if now in self.story.killed_before_publishing:
            await exporter.die(remains)
            self.deaths += 1
            exporter = await self.start()
        return exporter

    async def publish(self, exporter: LeftHalf) -> None:
        """Publish, and let the next scrapes see it: the first of them is this minute's."""
        await exporter.publish()
        ours, naive = self.recordings
        known = ours.series
        ours.take(await exporter.scrape())
        naive.take(self.naive.exposition(self.clock.now))
        if ours.series > known:
            self.hold_until = self.clock.now + _HOLDS_LAST

    def jobs(self, now: datetime) -> list[str]:
        if now < self.story.end:
            return list(self.story.jobs_due(now))
        return ["months"] if now == self.story.end else []

    def let_fal_fail(self, now: datetime) -> None:
        if now == self.story.outage[0]:
            self.simulator.faults.add(Fault("server_error"))
        elif now == self.story.outage[1]:
            self.simulator.faults.remove("server_error")

    def note_truth(self, exporter: LeftHalf, now: datetime, jobs: list[str]) -> None:
        """Note what gauges must tell whose hours have just been read."""
        if not exporter.is_up_to_date:
            return
        if "recent" in jobs or "months" in jobs:
            for family, amounts in self.truth.of_the_day(now, self.zone):
                self.expected.setdefault(family, {})[now] = amounts
        if "months" in jobs:
            for family, amounts in self.truth.of_the_months(now, self.zone):
                self.expected.setdefault(family, {})[now] = amounts


async def live(story: Story, folder: Path) -> Life:
    """Live a whole story."""
    clock = MovedClock(story.birth)
    simulator = Simulator(story.world, clock, faults=story.plants)
    fal = httpx.ASGITransport(simulator_app(simulator))
    span = story.history_start, story.end.replace(minute=0) + HOUR
    with Recording(folder, EXPORTER) as ours, Recording(folder, NAIVE) as naive:
        living = _Living(story, folder, clock, simulator, fal, (ours, naive))
        base = living.truth.counted(*span)
        # Collecting as often as Python does by itself would take a fifth of the whole time, and what has outlived a
        # day is there to stay.
        gc.disable()
        try:
            while clock.now <= story.last_scrape:
                await living.minute()
                clock.now += MINUTE
                if clock.now.hour == clock.now.minute == 0:
                    gc.collect()
                    gc.freeze()
        finally:
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            gc.enable()
        await living.stop()
    clock.now = story.end
    recorded = folder / "life.om"
    join((ours, naive), recorded)
    grown = {family: _less(amounts, base[family]) for family, amounts in living.truth.counted(*span).items()}
    return Life(
        recorded,
        living.expected,
        grown,
        living.learnt,
        await _invoice(fal),
        ours.created,
        living.starts,
    )


async def _invoice(fal: httpx.AsyncBaseTransport) -> int:
    """Return the total of October's invoice in nano-USD."""
    headers = {"authorization": f"Key {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=fal, base_url="http://fal", headers=headers) as client:
        answer = await client.get("/billing/invoices")
    invoices = json.loads(answer.raise_for_status().text, parse_float=Decimal)
    (total,) = (
        Decimal(invoice["total"])
        for invoice in invoices
        if invoice["period_start"] == "2026-10-01T00:00:00Z" and invoice["status"] != "void"
    )
    return int(total.scaleb(9))


def _less(amounts: Amounts, base: Amounts) -> Amounts:
    differences = {labels: amounts.get(labels, 0) - base.get(labels, 0) for labels in {*amounts, *base}}
    return {labels: amount for labels, amount in differences.items() if amount}
