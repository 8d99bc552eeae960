"""Many accounts share one way to fal, and none starves."""

import asyncio
import ssl
from collections import Counter
from contextlib import suppress
from datetime import timedelta

import httpx
import pytest
from pydantic import SecretStr

from exporter.fal import Client, Silent
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.pacing import BURST_SECONDS, Pacing, Rates


async def turns(number: int = 2000) -> None:
    """Let all tasks do what they can."""
    for _ in range(number):
        await asyncio.sleep(0)


_CALL = Endpoint(Host.PLATFORM, "/anything")


class Road:
    """Requests of accounts that end when they are told to."""

    def __init__(self, pacing: Pacing) -> None:
        self.pacing = pacing
        self.begun: list[str] = []
        self.end = asyncio.Semaphore(0)
        self.tasks: list[asyncio.Task[None]] = []

    def ask(self, account: str, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._ask(account)) for _ in range(times)]

    async def _ask(self, account: str) -> None:
        async with self.pacing.turn(account):
            self.begun.append(account)
            await self.end.acquire()

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_an_account_with_a_thousand_pages_holds_up_no_other() -> None:
    road = Road(Pacing(Rates(at_once=4, in_a_second=10**6, of_account=10**6)))
    road.ask("history", 1000)
    await turns()
    assert road.begun == ["history"] * 4
    for number in range(100):
        road.ask(f"account-{number}")
    for _ in range(150):
        road.end.release()
    await turns()
    assert Counter(road.begun[4:]).most_common(1)[0][0] == "history"
    first = road.begun[4:105]
    assert {f"account-{number}" for number in range(100)} < {*first}, "each has had its turn before one has a second"
    assert first.count("history") == 1
    await road.close()


async def test_no_more_are_under_way_than_may_be_and_who_gives_up_takes_nobodys_turn() -> None:
    road = Road(Pacing(Rates(at_once=2, in_a_second=10**6, of_account=10**6)))
    road.ask("a", 5)
    road.ask("b", 2)
    await turns()
    assert len(road.begun) == 2
    for task in road.tasks[2:5]:
        task.cancel()
    road.end.release()
    road.end.release()
    await turns()
    assert road.begun[2:] == ["b", "b"]
    # Those that were under way are given up, too, and others may begin.
    for task in road.tasks:
        task.cancel()
    await turns()
    road.ask("c", 2)
    await turns()
    assert road.begun[4:] == ["c", "c"]
    await road.close()


@pytest.mark.parametrize(("rates", "accounts", "rate"), [((40, 20), 1, 20), ((40, 20), 10, 40)])
async def test_so_many_begin_in_a_second_of_each_and_of_all(
    rates: tuple[int, int], accounts: int, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    pacing = Pacing(Rates(at_once=10**6, in_a_second=rates[0], of_account=rates[1]), monotonic=lambda: now)
    later: list[float] = []
    monkeypatch.setattr(pacing, "_serve_after", later.append)
    road = Road(pacing)
    for number in range(accounts):
        road.ask(f"account-{number}", 2000 // accounts)
    await turns()
    assert len(road.begun) == rate * BURST_SECONDS, "what has been saved up begins at once"
    while now < 10:
        now += later.pop() + 1e-9
        pacing._serve()
        await turns(20)
    await turns()
    assert len(road.begun) == pytest.approx(rate * (BURST_SECONDS + 10), abs=2)
    await road.close()


async def test_what_streams_for_hours_keeps_no_other_from_beginning() -> None:
    pacing = Pacing(Rates(at_once=1, in_a_second=10**6, of_account=10**6))
    await pacing.begin("report")
    await pacing.begin("report")
    road = Road(pacing)
    road.ask("other")
    await turns()
    assert road.begun == ["other"]
    await road.close()


async def test_a_wait_for_the_rate_ends_by_itself() -> None:
    pacing = Pacing(Rates(at_once=10, in_a_second=1000, of_account=1000))
    async with asyncio.timeout(10):
        for _ in range(1000 * BURST_SECONDS + 20):
            await pacing.begin("account")


async def test_waiting_for_a_turn_takes_nothing_of_the_time_of_a_poll() -> None:
    pacing, now = Pacing(Rates(at_once=1, in_a_second=10**6, of_account=10**6)), 0.0
    client = Client(
        account="main",
        key=lambda: SecretStr("id:secret"),
        observer=Silent(),
        pacing=pacing,
        monotonic=lambda: now,
        transport=httpx.MockTransport(lambda _: httpx.Response(200, json={"is": "there"})),
        tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    deadline = client.deadline(timedelta(seconds=10))
    async with pacing.turn("another"):
        asking = asyncio.create_task(client.get(_CALL, {}, deadline))
        await turns()
        now = 100.0
    assert await asking == {"is": "there"}
    assert deadline.remaining == pytest.approx(10)
    await client.aclose()
