"""An account's requests, read from a simulated fal into a store of files, beside a ledger of the same world."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from math import ceil, log2
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from events.requests_of import HOUR_13
from polling.conftest import REACH, Bench, Clock, opened_bench
from structlog.typing import EventDict

from exporter.charges import HOUR, NANO, Window, hour_of
from exporter.errors import EventsError
from exporter.events.questions import RequestsQuestion
from exporter.events.store import EventStore, open_store
from exporter.events.summaries import SCHEMA, DearRequest, HourSummary, ModelCosts, bucket_of
from exporter.fal import billing_events
from exporter.ledger import LedgerReader
from exporter.metrics.requests import RequestMetrics
from exporter.polling import requests as module
from exporter.polling.requests import RecentRequestsMaker, RequestRules, RequestsPoller, RequestStore
from exporter.queries.requests import charged_by_hour
from exporter.simulator import Fault, PlantedLateness, PlantedRevision, RunningSimulator
from exporter.simulator.world.exact import microseconds

if TYPE_CHECKING:
    from exporter.fal import Client

SETTLE = timedelta(hours=2)
SHORT = replace(REACH, history=timedelta(hours=12))


@dataclass
class Reading:
    """The poller and all that it works with."""

    bench: Bench
    poller: RequestsPoller
    requests: RequestStore
    clock: Clock

    async def poll(self) -> None:
        await self.bench.account.poll_recent()
        await self.poller.poll()
        assert self.poller.polled.state == "up", self.poller.polled.problem

    def differences(self) -> tuple[int, int]:
        """Return how many hours the ledger has, and how many hours and models differ from it, of all that is read."""
        window = Window(min(self.poller._hours), max(self.poller._hours) + HOUR)
        with self.requests.ledger.snapshot() as ledger:
            charged = charged_by_hour(ledger, "main", window)
        assert charged.through is not None
        compared = charged.compare(self.poller.hours, charged.through)
        return compared.hours, len(compared.differences)

    def stored(self, window: Window) -> dict[tuple[object, str], int]:
        """Return the costs by hour and model, from the requests themselves; without hours and models that cost 0."""
        sums = self.requests.store.sums(window)
        return {(hour, model): cost for (_, hour, model), cost in sums.items() if cost}

    def charged(self, window: Window) -> dict[tuple[object, str], int]:
        """Return the same from the ledger."""
        with self.requests.ledger.snapshot() as ledger:
            return {key: cost for key, cost in charged_by_hour(ledger, "main", window).costs.items() if cost}


def poller_of(bench: Bench, requests: RequestStore, clock: Clock) -> RequestsPoller:
    async def confirm(account: str) -> None:
        assert account == "main"

    client: Client = bench.account._client
    return RequestsPoller(
        client=client,
        requests=requests,
        runner=bench.runner,
        metrics=RequestMetrics(bench.registry),
        rules=RequestRules(
            reach=bench.reach, settle=SETTLE, retention=timedelta(days=30), tail_every=timedelta(minutes=5)
        ),
        usage=bench.account,
        confirm=confirm,
        clock=clock,
    )


@asynccontextmanager
async def opened(
    fal: RunningSimulator,
    clock: Clock,
    folder: Path,
    *,
    sources: tuple[str, ...] = ("models", "serverless"),
    store: Callable[[str], EventStore] = open_store,
) -> AsyncIterator[Reading]:
    async with opened_bench(fal, clock, folder, sources=sources, reach=SHORT) as bench:
        requests = RequestStore(
            store(f"file://{folder}/requests"), LedgerReader(f"sqlite:///{folder / 'ledger.sqlite'}")
        )
        yield Reading(bench, poller_of(bench, requests, clock), requests, clock)
        await requests.close()


@pytest.fixture
async def reading(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> Reading:
    monkeypatch.setattr(module, "_PART", 40)
    return await stack.enter_async_context(opened(fal, clock, tmp_path))


async def test_requests_add_up_to_the_ledger_in_every_hour_and_model(reading: Reading) -> None:
    await reading.poll()
    now = reading.clock.now
    window = Window(hour_of(now - 12 * HOUR), hour_of(now))
    assert reading.differences()[1] == 0
    assert reading.stored(window) == reading.charged(window) != {}
    assert len(reading.poller.hours) >= 12


async def test_a_request_is_known_minutes_after_it_was_charged(reading: Reading) -> None:
    await reading.poll()
    reading.clock.forward(minutes=6)
    await reading.poll()
    hour = hour_of(reading.clock.now)
    found = reading.requests.store.select(RequestsQuestion(hour, hour + HOUR, sort="time", limit=1))
    assert found[0].request.at > hour + timedelta(minutes=25)
    again = reading.requests.store.find(found[0].request.request_id)
    assert again == found[0]
    assert again.request.api_key


async def test_late_requests_and_what_fal_takes_back_are_read_again_because_the_ledger_differs(
    reading: Reading, fal: RunningSimulator
) -> None:
    await reading.poll()
    hour = hour_of(reading.clock.now) - HOUR
    number = int(hour.timestamp()) // 3600
    later = microseconds(reading.clock.now + timedelta(minutes=70))
    fal.simulator.faults.add(
        PlantedLateness(number, later, percent_before=50), PlantedRevision(number - 3, 60, at=later)
    )
    reading.clock.forward(minutes=5)
    await reading.bench.account.poll_recent()
    reading.clock.forward(minutes=70)
    await reading.poll()
    window = Window(hour - 6 * HOUR, hour + HOUR)
    assert reading.stored(window) == reading.charged(window)
    assert reading.differences()[1] == 0


async def test_an_hour_that_the_ledger_restates_is_noticed(reading: Reading, fal: RunningSimulator) -> None:
    await reading.poll()
    assert reading.bench.number("fal_events_up", account="main") == 1
    assert reading.bench.number("fal_events_differing", account="main") == 0
    settled = hour_of(reading.clock.now) - 5 * HOUR
    # The ledger sees a restatement that the requests have not been read for.
    fal.simulator.faults.add(PlantedRevision(int(settled.timestamp()) // 3600, 50, at=0))
    reading.clock.forward(minutes=1)
    await reading.bench.account.poll_recent()
    await reading.poller._compare()
    assert reading.poller._differing == {settled}


async def test_counts_of_the_histogram_grow_with_each_hour_and_never_fall(
    reading: Reading, fal: RunningSimulator
) -> None:
    def counted() -> float:
        found = [
            sample.value
            for family in reading.bench.registry.collect()
            for sample in family.samples
            if sample.name == "fal_request_cost_usd_count"
        ]
        return sum(found)

    await reading.poll()
    first = counted()
    reading.clock.forward(hours=1)
    await reading.poll()
    second = counted()
    assert second > first
    born = hour_of(reading.clock.now) - HOUR
    fal.simulator.faults.add(PlantedRevision(int(born.timestamp()) // 3600, 30, at=0))
    reading.clock.forward(hours=2)
    await reading.poll()
    assert counted() >= second
    restarted = poller_of(await _another_registry(reading), reading.requests, reading.clock)
    await restarted.poll()
    assert sum(costs.requests for costs in restarted._counts.totals().values()) == counted()


async def _another_registry(reading: Reading) -> Bench:

    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    return replace(reading.bench, registry=CollectorRegistry())


@pytest.mark.parametrize("status", [403, *(pytest.param(status, marks=pytest.mark.long) for status in (401, 404, 500))])
async def test_a_refusal_switches_it_off_for_a_day_and_nothing_else(
    reading: Reading, fal: RunningSimulator, logs: list[EventDict], status: int
) -> None:
    kind = "server_error" if status == 500 else "refused"
    fal.simulator.faults.add(Fault(kind, path="/v1/models/billing-events", status=status))
    await reading.poll()
    assert reading.bench.number("fal_events_up", account="main") == 0
    assert [entry["log_level"] for entry in logs if "requests cannot be read" in entry["event"]] == ["info"]
    asked = fal.simulator.faults.planted[0].hits
    reading.clock.forward(hours=23)
    await reading.poll()
    assert fal.simulator.faults.planted[0].hits == asked
    fal.simulator.faults.clear()
    reading.clock.forward(hours=2)
    await reading.poll()
    assert reading.bench.number("fal_events_up", account="main") == 1
    assert reading.differences()[1] == 0


@pytest.mark.long
async def test_a_reading_goes_on_from_its_cursor_in_another_process(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART", 5)
    monkeypatch.setitem(billing_events._PAGE_ROWS, billing_events.MODELS_EVENTS, 4)
    fal.simulator.faults.add(Fault("server_error", path="/v1/models/billing-events", after=3))
    async with opened(fal, clock, tmp_path) as reading:
        await reading.poll()
        held = reading.poller._progress
        assert held is not None
        assert held.reading is not None
        assert (held.reading.parts, held.reading.cursor is None) == (1, False)
    fal.simulator.faults.clear()
    clock.forward(hours=25)
    async with opened(fal, clock, tmp_path) as reading:
        await reading.poll()
        while reading.poller._progress.since > clock.now - 11 * HOUR:
            clock.forward(minutes=5)
            await reading.poll()
        assert reading.differences()[1] == 0


async def test_pages_that_lead_nowhere_fail_the_poll_and_are_read_from_the_first_one_the_next_time(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART", 5)
    monkeypatch.setitem(billing_events._PAGE_ROWS, billing_events.MODELS_EVENTS, 6)
    client = reading.bench.account._client
    limits = client.limits
    client.limits = replace(limits, events_per_hour=11)
    await reading.bench.account.poll_recent()
    await reading.poller.poll()
    assert reading.poller.polled.state == "failing"
    assert "more than 11 rows for one hour" in str(reading.poller.polled.problem)
    progress = reading.poller._progress
    assert progress is not None
    assert progress.reading is not None
    assert (progress.reading.cursor, progress.reading.parts) == (None, 0)
    client.limits = limits
    monkeypatch.undo()
    await reading.poll()
    assert reading.differences()[1] == 0


async def test_requests_of_an_organization_are_those_of_all_teams(
    clock: Clock, tmp_path: Path, fal: RunningSimulator
) -> None:
    async with opened(fal, clock, tmp_path, sources=("organization",)) as reading:
        await reading.poll()
        assert reading.differences() == (len(reading.poller.hours), 0)
        newest = reading.requests.store.select(RequestsQuestion(clock.now - 9 * HOUR, clock.now, limit=1))[0].request
        assert newest.team


async def test_a_store_that_cannot_be_written_fails_the_poll_and_no_other(
    reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise EventsError("the store of requests at /x cannot be read or written: No space left on device; check")

    monkeypatch.setattr(reading.requests.store, "keep_hour", full)
    await reading.bench.account.poll_recent()
    await reading.poller.poll()
    assert (reading.poller.polled.state, reading.poller.polled.cause) == ("failing", "requests")
    monkeypatch.undo()
    await reading.poll()


async def test_a_store_that_is_away_at_the_start_is_used_once_it_is_there(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ClickHouse may be while the exporter is started again; spend is read and shown meanwhile."""
    cleaned = 0

    def away() -> None:
        raise EventsError("the store of requests in ClickHouse at db:8123 cannot be read or written: ConnectError")

    def clean() -> None:
        nonlocal cleaned
        cleaned += 1

    async with opened(fal, clock, tmp_path) as reading:
        monkeypatch.setattr(reading.requests.store, "clean", away)
        await reading.bench.account.poll_recent()
        await reading.poller.poll()
        assert (reading.poller.polled.state, reading.poller.polled.cause) == ("failing", "requests")
        monkeypatch.setattr(reading.requests.store, "clean", clean)
        await reading.poll()
        await reading.poll()
        assert reading.poller.polled.state == "up"
        assert cleaned == 1


def lose_and_damage(folder: Path) -> None:
    lost, damaged = sorted(folder.glob("requests/account=*/day=*/hour-*.parquet"))[:2]
    lost.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-9])


async def test_hours_whose_files_are_gone_or_damaged_are_read_again(reading: Reading, tmp_path: Path) -> None:
    await reading.poll()
    window = Window(reading.poller.hours[0].hour, reading.poller.hours[-1].hour + HOUR)
    oldest = Window(window.start, window.start + 2 * HOUR)
    before = reading.stored(oldest)
    assert before
    lose_and_damage(tmp_path)
    assert len(reading.requests.store.read_hours("main", window)) == len(window)
    reading.clock.forward(hours=24)
    await reading.poll()
    assert len(reading.requests.store.read_hours("main", window)) == len(window)
    assert reading.stored(oldest) == before
    assert reading.differences()[1] == 0


async def test_rows_that_cannot_be_read_are_counted_with_their_hour_until_they_can(
    reading: Reading, fal: RunningSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PART", 100)
    monkeypatch.setitem(billing_events._PAGE_ROWS, billing_events.MODELS_EVENTS, 100)
    fal.simulator.faults.add(
        Fault(
            "missing_fields",
            path="/v1/models/billing-events",
            fields=("cost_total", "cost_estimate_nano_usd"),
            every_row=3,
        )
    )
    await reading.bench.account.poll_recent()
    await reading.poller.poll()
    assert reading.poller.polled.state == "partial"
    hour, window = reading.poller.hours[-1], Window(reading.poller.hours[0].hour, reading.poller.hours[-1].hour + HOUR)
    rejected = reading.requests.store.read_hours("main", window)
    assert rejected == {one.hour: one.rejected for one in reading.poller.hours}
    assert hour.rejected > 0
    assert reading.differences()[1] == 0, "of such hours it is not said that they differ"
    fal.simulator.faults.clear()
    reading.clock.forward(hours=2)
    await reading.poll()
    assert reading.requests.store.read_hours("main", window)[hour.hour] == 0


@dataclass
class Poller:
    name: str
    hours: list[HourSummary] = field(default_factory=list)

    def read(self, past: int, *costs: int, model: str = "flux") -> None:
        """Read an hour with requests that cost so many nano-dollars each."""
        hour = HOUR_13 - past * HOUR
        dearest = [DearRequest(cost, f"{self.name}-{past}-{number}", model, hour) for number, cost in enumerate(costs)]
        cells: Counter[tuple[int, int | None]] = Counter(
            (bucket_of(cost), ceil(log2(cost / NANO) * 2**SCHEMA)) for cost in costs
        )
        of_model = ModelCosts(sum(costs), cells)
        self.hours = [known for known in self.hours if known.hour != hour]
        read_at = hour + 2 * HOUR + timedelta(seconds=len(costs))
        self.hours.append(HourSummary(hour, read_at, {model: of_model}, tuple(sorted(dearest, reverse=True))))


@pytest.fixture
def pollers() -> list[Poller]:
    return [Poller("a"), Poller("b")]


@pytest.fixture
def recent(pollers: list[Poller]) -> RecentRequestsMaker:
    return RecentRequestsMaker(pollers)


def test_before_an_hour_has_been_read_there_is_nothing(recent: RecentRequestsMaker) -> None:
    assert recent() is None


def test_a_day_of_all_accounts_is_summed_up_and_what_is_older_is_not(
    pollers: list[Poller], recent: RecentRequestsMaker
) -> None:
    first, second = pollers
    first.read(0, NANO, 3 * NANO)
    first.read(23, NANO)
    first.read(24, 900 * NANO)
    second.read(1, 40 * NANO, model="veo")
    found = recent()
    assert found is not None
    assert (found.since, found.through) == (HOUR_13 - 23 * HOUR, HOUR_13 + HOUR)
    assert [(item.model, item.requests, item.cost) for item in found.models] == [
        ("veo", 1, 40 * NANO),
        ("flux", 3, 5 * NANO),
    ]
    flux = found.models[1]
    assert 0.9 < flux.p50 < 1.1
    assert 2.7 < flux.p95 <= flux.p99 < 3.3
    assert [(dear.account, dear.request_id, dear.cost) for dear in found.dearest] == [
        ("b", "b-1-0", 40 * NANO),
        ("a", "a-0-1", 3 * NANO),
        ("a", "a-0-0", NANO),
        ("a", "a-23-0", NANO),
    ]
    assert (found.others, found.rest) == (0, None)


def test_further_models_are_told_together(pollers: list[Poller], recent: RecentRequestsMaker) -> None:
    for number in range(11):
        pollers[0].read(number, (number + 1) * NANO, model=f"model-{number}")
    found = recent()
    assert found is not None
    assert [item.model for item in found.models] == [f"model-{number}" for number in range(10, 2, -1)]
    assert found.others == 3
    assert found.rest is not None
    assert (found.rest.requests, found.rest.cost) == (3, 6 * NANO)
    assert len(found.dearest) == 10


def test_it_is_made_anew_only_where_an_hour_has_been_read_again(
    pollers: list[Poller], recent: RecentRequestsMaker
) -> None:
    pollers[0].read(0, NANO)
    before = recent()
    assert recent() is before
    pollers[0].read(0, NANO, NANO)
    after = recent()
    assert after is not None
    assert after.models[0].requests == 2


def test_hours_and_rows_that_are_missing_of_an_account_are_said(
    pollers: list[Poller], recent: RecentRequestsMaker
) -> None:
    first, second = pollers
    first.read(0, NANO)
    first.read(1, NANO)
    whole = recent()
    assert whole is not None
    assert whole.notes == ("2 hours of account b not read yet, and not in these figures.",)
    second.read(0)
    second.read(1, NANO)
    second.hours = [replace(summary, rejected=1) for summary in second.hours]
    partly = recent()
    assert partly is not None
    assert partly.notes == ("2 rows of account b cannot be read, and not in these figures.",)
