"""An account that is polled from a simulated fal into a real ledger, by a clock that is moved by hand."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import structlog
from prometheus_client import CollectorRegistry
from published_health import value_of
from pydantic import SecretStr
from structlog.typing import EventDict

from exporter.charges import nano
from exporter.fal import REASONS, Client, Limits
from exporter.ledger import Ledger, LedgerView
from exporter.ledger.accounting.counters import Rules
from exporter.metrics.health import Health
from exporter.polling.account import AccountPoller
from exporter.polling.async_ledger import AsyncLedger
from exporter.polling.key_owners import KeyOwners
from exporter.polling.machines import Mode
from exporter.polling.poll_runner import OWN_REASONS, PollRunner
from exporter.polling.scheduler import Reach
from exporter.simulator import ADMIN_KEY, RunningSimulator, World, WorldSize, running_simulator

UTC_ZONE = ZoneInfo("UTC")
REACH = Reach(timedelta(hours=48), timedelta(days=8), timedelta(days=3), UTC_ZONE)


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 21, 14, 37, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Bench:
    """One account and everything its polls need."""

    account: AccountPoller
    ledger: AsyncLedger
    health: Health
    registry: CollectorRegistry
    runner: PollRunner
    reach: Reach
    told: list[None] = field(default_factory=list)

    async def activate(self) -> None:
        await self.account.recall_sources()
        sources = {self.account.name: self.account.sources}
        await self.ledger.run(lambda ledger: ledger.activate(sources))

    async def view(self) -> LedgerView:
        return await self.ledger.run(Ledger.view)

    async def known_of_month(self) -> int:
        """Return what is known of the month, whether or not all of it is."""
        return int(sum(sample.value for page in (await self.view()).known_of_month for sample in page.samples))

    async def since(self, source: str) -> tuple[datetime | None, datetime | None]:
        """Return the span of the hours that are covered."""
        (scope,) = [item for item in (await self.view()).scopes if item.source == source]
        return scope.history_from, scope.data_through

    def number(self, name: str, **labels: str) -> float | None:
        found = self.registry.get_sample_value(name, labels)
        return value_of(self.health, name, labels) if found is None else found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def fal(clock: Clock) -> AsyncIterator[RunningSimulator]:
    """A small fal, so that days are loaded within a blink."""
    world = World(7, size=WorldSize(models=3, callers=1, apps=2, compute=0, teams=1), invoiced_months=1)
    async with running_simulator(world, clock) as running:
        yield running


async def _do_not_wait(seconds: float) -> None:
    del seconds


@asynccontextmanager
async def opened_bench(
    fal: RunningSimulator,
    clock: Clock,
    folder: Path,
    *,
    key: str = ADMIN_KEY,
    sources: tuple[str, ...] | None = ("models", "serverless"),
    reach: Reach = REACH,
    ask_key: Callable[[], SecretStr] | None = None,
    price_models: tuple[str, ...] = (),
    owners: KeyOwners | None = None,
    credit_floor: int = 0,
    labels: tuple[str, ...] = Rules().labels,
    tags: tuple[str, ...] = (),
    machines: Mode = "false",
) -> AsyncIterator[Bench]:
    registry = CollectorRegistry()
    health = Health(registry, failure_reasons=(*REASONS, *OWN_REASONS))
    told: list[None] = []
    runner = PollRunner(health=health, clock=clock, changed=lambda: told.append(None))
    client = Client(
        account="main",
        key=ask_key or (lambda: SecretStr(key)),
        observer=health,
        platform_url=fal.platform_url,
        reporting_url=fal.reporting_url,
        limits=Limits(attempts=1),
        tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # nobody is trusted, nobody is asked: quicker made
        now=clock,
        sleep=_do_not_wait,
    )
    ledger = AsyncLedger()
    address = f"sqlite:///{folder / 'ledger.sqlite'}"
    await ledger.open(
        lambda: Ledger(address, rules=Rules(birth_hold=timedelta(0), labels=labels, tags=tags), clock=clock)
    )
    account = AccountPoller(
        client=client,
        sources=sources,
        ledger=ledger,
        runner=runner,
        health=health,
        reach=reach,
        with_api_key="api_key" in labels,
        clock=clock,
        price_models=price_models,
        owners=owners,
        credit_floor=credit_floor,
        tags=tags,
        machines=machines,
    )
    bench = Bench(account, ledger, health, registry, runner, reach, told)
    try:
        await bench.activate()
        yield bench
    finally:
        await client.aclose()
        await ledger.close()


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
async def bench(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened_bench(fal, clock, tmp_path) as made:
        yield made


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something that nobody announces has become true."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is waited for has no event
            await asyncio.sleep(0.005)


def truth(fal: RunningSimulator, start: datetime, end: datetime, *sources: str) -> int:
    """Return what the sources charge in a window, in nano-USD, as it can be seen now."""
    stated = [
        fal.simulator.statement(start=start.isoformat(), end=end.isoformat(), source=source)["cost"]
        for source in sources or ("models", "serverless")
    ]
    return sum(nano(Decimal(str(cost))) for cost in stated)
