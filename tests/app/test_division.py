"""Replicas that divide the calls to fal, on a real PostgreSQL; faults of theirs are in `tests/e2e/test_division.py`."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

import httpx
import pytest
from app.conftest import MakeSettings
from ledger.conftest import empty_postgresql, pooled_address, pooler, postgresql_address, postgresql_server
from pydantic import SecretStr
from replicas.sessions import LEASE, Statements, statements_of

from exporter.app.division import Division
from exporter.fal import Client, Limits, Silent
from exporter.fal.endpoints import Endpoint, Host
from exporter.fal.errors import UnreachableError
from exporter.logs import Secret
from exporter.replicas import owners
from exporter.settings import Settings
from exporter.settings.credentials import Account
from exporter.settings.entries import AccountEntry

__all__ = ["empty_postgresql", "pooled_address", "pooler", "postgresql_address", "postgresql_server"]

CALL = Endpoint(Host.PLATFORM, "/models/usage")
REPORT = Endpoint(Host.REPORTING, "/report")
A_MOMENT = timedelta(milliseconds=100)
ENTRIES = tuple(
    AccountEntry(name=f"account-{number}", key=SecretStr(f"an-id-{number}:a-secret")) for number in range(4)
)


@dataclass
class Fal:
    """Says who asked for which account; some replicas do not get through, or ask with another key."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    away: set[str] = field(default_factory=set)
    keys: dict[str, str] = field(default_factory=dict)
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    def transport(self, replica: str, account: str) -> httpx.AsyncBaseTransport:
        async def answering(request: httpx.Request) -> httpx.Response:
            self.asked.append((replica, account))
            number = len(self.asked)
            if replica in self.away:
                raise httpx.ConnectError("no route", request=request)
            await self.may_answer.wait()
            if request.headers["accept"] == "text/csv":
                return httpx.Response(200, stream=Lines())
            return httpx.Response(200, stream=Body(replica, number))

        return httpx.MockTransport(answering)


class Body(httpx.AsyncByteStream):
    def __init__(self, replica: str, number: int) -> None:
        self._replica = replica
        self._number = number

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield f'{{"by": "{self._replica}", "number": {self._number}}}'.encode()


class Lines(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"{number}\n".encode()


@dataclass
class Stage:
    """Replicas by name, of which `a` leads, and the leader's clients."""

    fal: Fal
    database: Statements
    divisions: dict[str, Division]
    clients: dict[str, Client]
    number: int = 0

    async def ask(self, account: str) -> str:
        """Return who has asked fal for an account."""
        client = self.clients[account]
        answer = await client.get(CALL, {}, client.deadline())
        assert isinstance(answer, dict)
        self.number = answer["number"]
        return str(answer["by"])

    async def until(self, *counts: int) -> None:
        """Wait until the replicas own so many accounts."""
        await eventually(lambda: [division.owned for division in self.divisions.values()] == list(counts))

    async def owner_is(self, replica: str) -> str:
        """Return an account of a replica."""
        for account in self.clients:
            if await self.ask(account) == replica:
                return account
        return pytest.fail(f"{replica} owns nothing")

    async def call_under_way(self) -> tuple[str, asyncio.Task[str]]:
        """Have b ask for an account of its own while fal answers nobody; return that, and who waits for the answer."""
        account = await self.owner_is("b")
        self.fal.may_answer.clear()
        before = len(self.fal.asked)
        call = asyncio.create_task(self.ask(account))
        await eventually(lambda: len(self.fal.asked) > before)
        return account, call


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  what is waited for happens in a database
            await asyncio.sleep(0.02)


@pytest.fixture
def database(postgresql_address: str) -> Iterator[Statements]:
    yield from statements_of(postgresql_address)


@pytest.fixture
def replicated(settings: MakeSettings, postgresql_address: str) -> Settings:
    return dividing(settings(), postgresql_address)


def dividing(settings: Settings, address: str) -> Settings:
    """Return the settings of a replica that divides some accounts."""
    given = {"ledger_url": SecretStr(address), "replicated": True, "divide_polling": True}
    return settings.model_copy(update={"entries": ENTRIES, **given})


async def reached(url: str, seconds: float) -> str:
    del url, seconds
    return ""


def client_for(fal: Fal, replica: str, account: Account, carrier: Division | None = None) -> Client:
    def key() -> Secret:
        return SecretStr(fal.keys.get(replica, account.key().get_secret_value()))

    return Client(
        account=account.name,
        key=key,
        observer=Silent(),
        limits=Limits(attempts=10, first_backoff=A_MOMENT, longest_backoff=5 * A_MOMENT),
        transport=fal.transport(replica, account.name),
        carrier=carrier,
    )


def division_of(settings: Settings, fal: Fal, replica: str) -> Division:
    return Division(settings, replica, client_of=partial(client_for, fal, replica), reach=reached)


@asynccontextmanager
async def staged(settings: Settings, database: Statements, *names: str) -> AsyncIterator[Stage]:
    fal = Fal()
    fal.may_answer.set()
    divisions = {name: division_of(settings, fal, name) for name in names}
    for division in divisions.values():
        division.start()
    leader = divisions[names[0]]
    leader.lead(LEASE)
    clients = {account.name: client_for(fal, names[0], account, leader) for account in settings.accounts}
    async with AsyncExitStack() as opened:
        for client in clients.values():
            opened.push_async_callback(client.aclose)
        for division in divisions.values():
            opened.push_async_callback(division.close)
        yield Stage(fal, database, divisions, clients)


@pytest.fixture
async def stage(replicated: Settings, database: Statements) -> AsyncIterator[Stage]:
    """A leader a and a follower b, of which each owns two of four accounts."""
    async with staged(replicated, database, "a", "b") as made:
        await made.until(2, 2)
        yield made


async def test_calls_go_out_from_the_owners_and_move_when_one_ends(stage: Stage) -> None:
    by = Counter([await stage.ask(account) for account in stage.clients])
    assert by == {"a": 2, "b": 2}
    assert Counter(replica for replica, _ in stage.fal.asked) == by, "each call is made once"
    await stage.divisions.pop("b").close()
    await stage.until(4)
    assert {await stage.ask(account) for account in stage.clients} == {"a"}


async def test_a_call_under_way_ends_before_its_account_moves(replicated: Settings, database: Statements) -> None:
    async with staged(replicated, database, "a") as stage:
        await stage.until(4)
        stage.fal.may_answer.clear()
        calls = [asyncio.create_task(stage.ask(account)) for account in stage.clients]
        await eventually(lambda: len(stage.fal.asked) == 4)
        other = stage.divisions["b"] = division_of(replicated, stage.fal, "b")
        other.start()
        try:
            recalled = "SELECT count(*) FROM replica_owner WHERE is_recalled AND replica = 'a'"
            await eventually(lambda: database.value(recalled) == 2)
            expires_at = database.value("SELECT max(expires_at) FROM replica_owner")
            await eventually(lambda: database.value(f"{recalled} AND expires_at > '{expires_at}'") == 2)
            assert other.owned == 0
            stage.fal.may_answer.set()
            assert set(await asyncio.gather(*calls)) == {"a"}
            await stage.until(2, 2)
        finally:
            await other.close()


async def test_an_owner_that_does_not_reach_fal_has_its_calls_made_by_another(stage: Stage) -> None:
    stage.fal.away.add("b")
    assert {await stage.ask(account) for account in stage.clients} == {"a"}, "no call fails"
    await stage.until(4, 0)


async def test_a_leader_that_does_not_reach_fal_has_its_calls_made_by_others(stage: Stage) -> None:
    stage.fal.away.add("a")
    assert {await stage.ask(account) for account in stage.clients} == {"b"}
    await stage.until(0, 4)


async def test_what_nobody_reaches_fails_as_it_does_without_division(stage: Stage) -> None:
    stage.fal.away |= {"a", "b"}
    for account in stage.clients:
        with pytest.raises(UnreachableError, match="no route"):
            await stage.ask(account)


async def test_the_leader_asks_for_accounts_of_which_an_owner_has_another_key(stage: Stage) -> None:
    stage.fal.keys["b"] = "rotated:a-secret-of-b"
    assert {await stage.ask(account) for account in stage.clients} == {"a"}
    assert not any(replica == "b" for replica, _ in stage.fal.asked), "it asks with no other key"


async def test_a_report_is_streamed_by_the_leader_which_takes_its_account_over(stage: Stage) -> None:
    account = await stage.owner_is("b")
    client = stage.clients[account]
    pieces = client.stream(REPORT, {}, client.deadline())
    assert await anext(pieces)
    assert stage.fal.asked[-1] == ("a", account)
    assert await stage.ask(account) == "a", "while the report lasts"
    assert [piece async for piece in pieces]
    await stage.until(2, 2)


async def test_errands_that_a_crash_of_the_server_has_removed_are_laid_anew(stage: Stage) -> None:
    _, call = await stage.call_under_way()
    made = len(stage.fal.asked)
    stage.database.execute("TRUNCATE replica_errand")
    await eventually(lambda: len(stage.fal.asked) > made)
    stage.fal.may_answer.set()
    assert await call == "b"


async def test_an_owner_whose_time_has_run_out_ends_its_calls_and_brings_nothing(stage: Stage) -> None:
    account, call = await stage.call_under_way()
    made = len(stage.fal.asked)
    # Its next renewal finds that another has it.
    stage.database.execute(
        f"UPDATE replica_owner SET replica = 'a', token = 'new', is_recalled = false WHERE account = '{account}'"  # noqa: S608
    )
    stage.fal.may_answer.set()
    await call
    assert stage.number > made, "the answer to the first call is refused"


async def test_a_call_that_nobody_waits_for_is_ended(stage: Stage) -> None:
    account, call = await stage.call_under_way()
    call.cancel()
    await eventually(lambda: not stage.divisions["b"].under_way)
    stage.fal.may_answer.set()
    assert await stage.ask(account) == "b"


async def test_replicas_behind_a_pooler_divide_accounts_too(settings: MakeSettings, pooled_address: str) -> None:
    pooled = dividing(settings(), pooled_address)
    for database in statements_of(pooled_address):
        async with staged(pooled, database, "a", "b") as stage:
            await stage.until(2, 2)
            assert {await stage.ask(account) for account in stage.clients} == {"a", "b"}


def test_a_term_has_several_renewals() -> None:
    assert owners.TERM / owners.RENEW_SECONDS >= 4
