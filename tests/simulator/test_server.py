import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from time import monotonic

import httpx
import pytest
from e2e.processes import PATIENCE

from exporter.simulator import (
    ADMIN_KEY,
    Fault,
    RunningSimulator,
    Simulator,
    World,
    WorldSize,
    running_simulator,
    serve_simulator,
    serving,
)
from exporter.simulator.world.company import company

HEADERS = {"authorization": f"Key {ADMIN_KEY}"}


@pytest.fixture
async def running(simulator: Simulator) -> AsyncIterator[RunningSimulator]:
    async with serving(simulator) as running:
        yield running


@pytest.fixture
async def network(running: RunningSimulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=running.url, headers=HEADERS, timeout=5) as network:
        yield network


async def test_both_hosts_are_served(running: RunningSimulator, network: httpx.AsyncClient) -> None:
    for url in (f"{running.platform_url}/account/billing", f"{running.reporting_url}/billing/user_balance"):
        response = await network.get(url)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"


async def test_an_answer_has_one_date(network: httpx.AsyncClient) -> None:
    response = await network.get("/billing/user_balance")
    assert response.headers.get_list("date") == ["Sat, 21 Nov 2026 14:37:12 GMT"]


async def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(network: httpx.AsyncClient) -> None:
    await network.get("/v1/account/billing")
    took = []
    for _ in range(25):
        began = monotonic()
        await network.get("/v1/account/billing")
        took.append(monotonic() - began)
    assert min(took) < 0.03  # the delay is 40 ms, for every answer


async def test_a_truncated_body_breaks_off(running: RunningSimulator, network: httpx.AsyncClient) -> None:
    running.simulator.faults.add(Fault("truncated_body"))
    for path in ("/v1/models/usage", "/v1/account/focus?source=estimate"):
        with pytest.raises(httpx.RemoteProtocolError):
            await network.get(path)


async def test_a_body_can_be_something_else_than_json(running: RunningSimulator, network: httpx.AsyncClient) -> None:
    running.simulator.faults.add(Fault("not_json", times=1), Fault("empty_body"))
    assert (await network.get("/v1/models/usage")).text.startswith("<!DOCTYPE html>")
    empty = await network.get("/v1/models/usage")
    assert (empty.status_code, empty.content) == (200, b"")


async def test_a_slow_body_arrives_whole_in_pieces(running: RunningSimulator, network: httpx.AsyncClient) -> None:
    whole = await network.get("/v1/models/usage")
    running.simulator.faults.add(Fault("slow_body", seconds=0.02, pieces=5))
    began = monotonic()
    slow = await network.get("/v1/models/usage")
    assert slow.content == whole.content
    assert monotonic() - began >= 0.08


async def test_a_hang_outlasts_the_callers_patience(running: RunningSimulator, network: httpx.AsyncClient) -> None:
    running.simulator.faults.add(Fault("hang", times=1))
    with pytest.raises(httpx.ReadTimeout):
        await network.get("/v1/models/usage", timeout=0.1)
    running.simulator.faults.add(Fault("hang", times=1, seconds=0.05))
    assert (await network.get("/v1/models/usage")).status_code == 200


@pytest.mark.parametrize("fault", [Fault("hang"), Fault("slow_body", seconds=3600)])
async def test_it_stops_without_waiting_for_what_hangs(simulator: Simulator, fault: Fault) -> None:
    simulator.faults.add(fault)
    async with asyncio.timeout(PATIENCE), serving(simulator) as running:
        client = httpx.AsyncClient(headers=HEADERS, timeout=3600)
        waiting = asyncio.create_task(client.get(f"{running.platform_url}/models/usage"))
        await until(lambda: simulator.seen.total() == 1)
    with pytest.raises(httpx.TransportError):
        await waiting
    await client.aclose()


async def test_a_port_that_is_taken_is_an_error() -> None:
    world = World(1, size=WorldSize(models=1, apps=0, compute=0))
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        async with running_simulator(world, port=taken.getsockname()[1]):
            pass


async def test_it_is_served_until_cancelled() -> None:
    announced: asyncio.Future[RunningSimulator] = asyncio.get_running_loop().create_future()
    now = datetime(2026, 11, 21, 14, 37, tzinfo=UTC)
    serving = serve_simulator(seed=3, busy=True, clock=lambda: now, announce=announced.set_result)
    task = asyncio.create_task(serving)
    running = await asyncio.wait_for(announced, 5)
    assert running.simulator.account.world == company(3, now)
    async with httpx.AsyncClient(headers=HEADERS) as client:
        assert (await client.get(f"{running.url}/_simulator/faults")).json()["faults"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110  the simulator counts calls, it announces none
            await asyncio.sleep(0.01)
