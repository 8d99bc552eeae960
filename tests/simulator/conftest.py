"""A simulator in this process, its clock, and short ways to ask it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import ADMIN_KEY, Simulator, World, WorldSize, simulator_app

Json = dict[str, object]
Ask = Callable[..., Awaitable[object]]


class MovableClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> MovableClock:
    """Stands at a Saturday afternoon, in the middle of an hour and of a month."""
    return MovableClock(datetime(2026, 11, 21, 14, 37, 12, tzinfo=UTC))


@pytest.fixture
def world() -> World:
    """A small world, so that months are quick; what the default one holds is tested on its own."""
    return World(7, size=WorldSize(models=6, apps=4, compute=1), invoiced_months=1)


@pytest.fixture
def simulator(world: World, clock: MovableClock) -> Simulator:
    return Simulator(world, clock)


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[httpx.AsyncClient]:
    """Calls the simulator with an admin key."""
    transport = httpx.ASGITransport(simulator_app(simulator))
    headers = {"authorization": f"Key {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://fal", headers=headers) as client:
        yield client


@pytest.fixture
def ask(client: httpx.AsyncClient) -> Ask:
    """Return the exact JSON of a call that must succeed."""

    async def ask(path: str, **parameters: str) -> object:
        response = await client.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return json.loads(response.text, parse_float=Decimal)

    return ask


@pytest.fixture
def pages(ask: Ask) -> Ask:
    """Return every page of a call, following its cursors."""

    async def pages(path: str, **parameters: str) -> list[Json]:
        found = [await ask(path, **parameters)]
        while found[-1]["has_more"]:
            assert len(found) < 2_000, "the pages never end"
            found.append(await ask(path, **parameters, cursor=found[-1]["next_cursor"]))
        return found

    return pages


@pytest.fixture
def rows(pages: Ask) -> Ask:
    """Return every row of a usage call's time series, each with its bucket."""

    async def rows(path: str, **parameters: str) -> list[Json]:
        return [
            {"bucket": bucket["bucket"], **row}
            for page in await pages(path, **parameters)
            for bucket in page["time_series"]
            for row in bucket["results"]
        ]

    return rows


@pytest.fixture
def truth(simulator: Simulator) -> Callable[..., Decimal]:
    """Return the cost that the statement tells of a span."""

    def truth(start: str, end: str, **parameters: str) -> Decimal:
        return Decimal(str(simulator.statement(start=start, end=end, **parameters)["cost"]))

    return truth
