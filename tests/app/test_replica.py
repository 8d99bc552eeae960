"""The roles of a replica, on a real PostgreSQL; what happens to three of them is in `tests/e2e/test_replicas.py`."""

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import programs
import pytest
from app.conftest import MakeSettings
from e2e.processes import Fal
from ledger.conftest import empty_postgresql, postgresql_address, postgresql_server
from ledger.standby import server_pair
from local_http import NO_TLS
from mcp import Client
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from structlog.testing import capture_logs

from exporter.app.replica import Replica
from exporter.app.single_process import in_one_process
from exporter.app.wiring import client_of
from exporter.charges import HOUR, NANO, Amounts, Charge, Dimensions, Window, hour_of, utc_now
from exporter.errors import LedgerError
from exporter.fal import Silent
from exporter.fal.account import read_balance
from exporter.inquiry import Channel, Inquirer, Inquiry, InquiryError
from exporter.ledger import Ledger, Rules
from exporter.metrics.encoding import deflated
from exporter.overview import Overview
from exporter.publication import Exposition, Piece, Publication, rendering
from exporter.queries import live
from exporter.replicas.board import Board
from exporter.replicas.lease import Candidate, Leader, Lease, Leases, LostLeaseError
from exporter.settings import Listen, Settings

__all__ = ["empty_postgresql", "postgresql_address", "postgresql_server"]

LINE = b"fal_spend_usd_total 1\n"


def published(sequence: int) -> Publication:
    text_format = rendering([Piece(1, LINE, deflated(LINE))])
    return Publication(
        sequence, datetime(2026, 11, 21, 22, tzinfo=UTC), Exposition(text_format), Overview("0.3.0"), ready=True
    )


@dataclass
class Running:
    """A replica, and what it has handed to its web process."""

    replica: Replica
    inquirer: Inquirer
    sent: list[Publication] = field(default_factory=list)

    async def until(self, condition: Callable[[Publication], bool]) -> Publication:
        await eventually(lambda: bool(self.sent) and condition(self.sent[-1]))
        return self.sent[-1]


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what is waited for happens in a database
            await asyncio.sleep(0.02)


@contextmanager
def leading(address: str, configuration: str) -> Iterator[tuple[Lease, Board, Publication]]:
    """Be the leader, and have published once."""
    with closing(Leases(address, Candidate("first", "0.3.0", configuration))) as leases:
        lease = leases.ask()
        assert isinstance(lease, Lease)
        with closing(Board(address, replica="first")) as board:
            # Far above, as where the clock of a server that was the primary before is ahead.
            first = published(lease.first_number + (1 << 50))
            board.publish(first, leader=lease.token)
            try:
                yield lease, board, first
            finally:
                lease.release()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Running]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sent: list[Publication] = []
        replica = Replica(settings, send=sent.append, channel=Channel(theirs))
        stop = asyncio.Event()
        task = asyncio.create_task(replica.run(stop))
        try:
            yield Running(replica, Inquirer(Channel(ours).connect), sent)
        finally:
            stop.set()
            await task


@pytest.fixture
def replicated(settings: MakeSettings, postgresql_address: str) -> Settings:
    return settings(ledger_url=SecretStr(postgresql_address), replicated=True)


async def test_a_follower_serves_what_lies_on_the_board_and_leads_when_the_lease_is_free(replicated: Settings) -> None:
    address = replicated.ledger_url.get_secret_value()
    with leading(address, replicated.replica_digest) as (lease, board, first):
        async with running(replicated) as second:
            shown = await second.until(lambda publication: publication.role == "follower")
            assert shown.overview.replicas is not None
            overview = replace(first.overview, replicas=shown.overview.replicas)
            assert shown == replace(first, role="follower", overview=overview)
            second.replica.scraped(first.sequence)
            await eventually(lambda: board.scraped_by_all() == first.sequence)
            lease.release()
            own = await second.until(lambda publication: publication.role == "leader")
            assert own.sequence > first.sequence
            assert b"fal_exporter_polls" in b"".join(piece.plain for piece in own.exposition.text.pieces)
            read: list[Publication] = []

            def has_read() -> bool:
                read.extend(filter(None, [board.read(first)]))
                return bool(read)

            await eventually(has_read)
            assert read[0].exposition.text.checksum in {item.exposition.text.checksum for item in second.sent}
            assert board.members()
        assert not board.members(), "a replica that has ended is not counted among the living"


async def test_a_replica_that_cannot_open_the_ledger_leaves_the_lease_to_others(
    replicated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = asyncio.Event()

    async def fail(*_: object, **__: object) -> None:
        tried.set()
        raise LedgerError("the ledger is busy")

    monkeypatch.setattr("exporter.app.replica.open_left_half", fail)
    address = replicated.ledger_url.get_secret_value()
    with leading(address, replicated.replica_digest) as (lease, _, _):
        async with running(replicated) as second:
            await second.until(lambda publication: publication.role == "follower")
            lease.release()
            async with asyncio.timeout(20):
                await tried.wait()
            with closing(Leases(address, Candidate("third", "0.3.0", ""))) as leases:
                found: list[Lease | Leader] = []

                def has_lease() -> bool:
                    found.append(leases.ask())
                    return isinstance(found[-1], Lease)

                await eventually(has_lease)
                third = found[-1]
                assert isinstance(third, Lease)
                third.release()


async def test_a_follower_with_another_configuration_says_so_and_has_fal_asked_by_nobody(replicated: Settings) -> None:
    address = replicated.ledger_url.get_secret_value()
    other = replicated.model_copy(update={"settle_delay": timedelta(hours=24)})
    with leading(address, other.replica_digest):
        async with running(replicated) as second:
            shown = await second.until(lambda publication: bool(publication.overview.notes))
            (note,) = shown.overview.notes
            assert note.startswith("This replica's configuration differs from that of first")
            assert shown.overview.replicas is not None
            assert shown.overview.replicas.problems == ("configuration",)
            with pytest.raises(InquiryError, match="follows another"):
                async with second.inquirer.ask(Inquiry(live.NAME, "main"), patience=10):
                    pass


async def test_a_follower_without_the_database_serves_what_it_had_and_says_why(replicated: Settings) -> None:
    address = replicated.ledger_url.get_secret_value()
    with leading(address, replicated.replica_digest):
        async with running(replicated) as second:
            shown = await second.until(lambda publication: publication.role == "follower")
            rename(address, "replica_publication", "away")
            told = await second.until(lambda publication: bool(publication.overview.notes))
            assert told.overview.notes[-1].startswith("No newer figures can be had: the ledger")
            assert told.exposition == shown.exposition
            rename(address, "away", "replica_publication")
            await second.until(lambda publication: not publication.overview.notes)


@pytest.mark.long
async def test_a_leader_that_fal_does_not_answer_makes_place_for_a_replica_that_it_answers(
    settings: MakeSettings, postgresql_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.app.replica._REPORT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nowhere = f"http://127.0.0.1:{gone.getsockname()[1]}/v1"
    cut_off = settings(
        ledger_url=SecretStr(postgresql_address),
        replicated=True,
        platform_url=nowhere,
        reporting_url=nowhere,
    ).model_copy(update={"poll_interval": timedelta(seconds=1)})
    async with running(cut_off) as first:
        with (
            closing(Board(postgresql_address, replica="second")) as board,
            closing(Leases(postgresql_address, Candidate("second", "0.3.0", cut_off.replica_digest))) as leases,
        ):
            shown = await first.until(
                lambda publication: publication.overview.replicas is not None and has_lost_fal(publication)
            )
            assert shown.role == "leader"

            def is_lost() -> bool:
                half = first.replica._half
                return half is not None and first.replica._contact.is_lost(half.health.unanswered_since)

            await eventually(is_lost)
            number = first.sent[-1].sequence
            # Nobody else reaches fal: the lease stays. Were it free, it would be taken here.
            await first.until(
                lambda publication: isinstance(leases.ask(), Leader) and publication.sequence > number + 2
            )
            await eventually(lambda: [member.reaches_fal for member in board.members()] == [False])
            board.report(None, reaches_fal=True)
            lease = None

            def is_free() -> bool:
                nonlocal lease
                board.report(None, reaches_fal=True)
                lease = leases.ask()
                return isinstance(lease, Lease)

            await eventually(is_free)
            assert isinstance(lease, Lease)
            board.publish(published(lease.first_number + (1 << 50)), leader=lease.token)
            told = await first.until(lambda publication: publication.role == "follower" and has_lost_fal(publication))
            assert "does not reach fal" in told.overview.notes[-1]
            lease.release()


def has_lost_fal(publication: Publication) -> bool:
    return publication.overview.replicas is not None and publication.overview.replicas.problems == ("fal",)


async def test_who_leads_after_the_database_was_lost_goes_on_from_the_newest_that_any_has_shown(
    replicated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.app.replica._REPORT_SECONDS", 0.2)
    address = replicated.ledger_url.get_secret_value()
    with leading(address, replicated.replica_digest) as (lease, _, first):
        async with running(replicated) as second:
            await second.until(lambda publication: publication.role == "follower")
            with closing(Board(address, replica="third")) as third:
                # The third has shown what the second has not; then all that is on the board is lost.
                third.report(None)
                assert third.read(None)
                ahead = replace(first, sequence=first.sequence + (1 << 40))
                await eventually(lambda: "third" in second.replica._others)
                lose_board(address)
                third.close()
                lease.release()
                await eventually(lambda: of_lease(address, "replica") != "first")
                assert third.restore(ahead)
                third.report(None)
                own = await second.until(lambda publication: publication.role == "leader")
                assert own.sequence > ahead.sequence


@pytest.mark.long
async def test_a_leader_under_which_an_older_dump_was_restored_goes_on_from_it(
    settings: MakeSettings, postgresql_address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("exporter.app.replica._SETTLED_SECONDS", 1.0)
    pg_dump, psql = (programs.required(name, "postgresql") for name in ("pg_dump", "psql"))
    server, dump = postgresql_address.replace("+psycopg", ""), tmp_path / "dump.sql"
    made = settings(
        ledger_url=SecretStr(postgresql_address),
        replicated=True,
        balance_interval=timedelta(seconds=10),
        series_birth_hold=timedelta(0),
    )
    async with running(made) as alone:
        await alone.until(lambda publication: publication.ready)
        await asyncio.to_thread(call, pg_dump, "--clean", "--if-exists", "-f", str(dump), server)
        dumped = alone.sent[-1]
        before = await alone.until(
            lambda publication: bool(spend(publication)) and revision(publication) > revision(dumped)
        )
        token = of_lease(postgresql_address, "token")
        restore = (psql, "-q", "--single-transaction", "-v", "ON_ERROR_STOP=1", "-f", str(dump), server)
        await asyncio.to_thread(call, *restore)
        with capture_logs() as logs:
            await alone.until(lambda publication: publication.overview.ledger.restart_helps)
            after = await alone.until(
                lambda publication: (
                    not publication.overview.ledger.problem
                    and of_lease(postgresql_address, "token") != token
                    and revision(publication) > revision(dumped)
                )
            )
        assert "opens it anew" in str(logs)
        assert spend(after) == spend(before)
        assert after.sequence > before.sequence


def call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def revision(publication: Publication) -> int:
    return publication.overview.ledger.revision


def spend(publication: Publication) -> list[str]:
    text_ = b"".join(piece.plain for piece in publication.exposition.text.pieces).decode()
    return sorted(line for line in text_.splitlines() if line.startswith("fal_spend_usd_total{"))


def of_lease(address: str, column: str) -> object:
    """Return a column of the lease that was taken last: who has it, or the token under which the leader writes."""
    engine = create_engine(address)
    with engine.connect() as connection:
        found = connection.scalar(text(f"SELECT {column} FROM replica_lease"))  # noqa: S608  a name of ours
    engine.dispose()
    return found


def lose_board(address: str) -> None:
    """Empty the tables that are not logged, and end all sessions, as a crash of the server does."""
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE replica_publication, replica_piece, replica_epoch"))
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid != pg_backend_pid() AND backend_type = 'client backend'"
            )
        )
    engine.dispose()


@pytest.mark.long
async def test_a_follower_tries_fal_while_the_leader_does_not_reach_it(
    replicated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.app.replica._REPORT_SECONDS", 0.2)
    address = replicated.ledger_url.get_secret_value()
    with leading(address, replicated.replica_digest) as (_, board, _):
        async with running(replicated):

            def tries() -> list[bool | None]:
                return [member.reaches_fal for member in board.members() if member.replica != "first"]

            board.report(None)
            await eventually(lambda: tries() == [None])
            board.report(None, reaches_fal=False)
            await eventually(lambda: tries() == [True])
            board.report(None)
            await eventually(lambda: tries() == [None])


async def test_a_call_to_fal_is_not_made_without_the_lease(settings: MakeSettings, fal: Fal) -> None:
    def permit() -> None:
        raise LostLeaseError("it is another's by now")

    made = settings()
    client = client_of(made.accounts[0], made, Silent(), permit=permit)
    before = fal.simulator.seen.total()
    with pytest.raises(LostLeaseError):
        await read_balance(client)
    await client.aclose()
    assert fal.simulator.seen.total() == before


def rename(address: str, table: str, name: str) -> None:
    engine = create_engine(address)
    with engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))
    engine.dispose()


@pytest.mark.long
async def test_a_standby_answers_rest_and_agents(settings: MakeSettings) -> None:
    now = utc_now()
    hour = hour_of(now)
    with server_pair() as pair:
        with closing(Ledger(pair.address, rules=Rules(), clock=utc_now)) as ledger:
            ledger.activate({"of the standby": ("models",)})
            charge = Charge(hour, Dimensions("of the standby", model="flux"), Amounts(cost=7 * NANO))
            ledger.restate("of the standby", "models", Window(hour, hour + HOUR), [charge], at=now)
        pair.catch_up()
        # The primary will be told that this account is none of the exporter's.
        pair.fall_behind()
        served = settings(
            ledger_url=SecretStr(pair.address),
            ledger_read_url=SecretStr(pair.address_for_reading),
            mcp_listen=Listen("127.0.0.1", 0),
            tags=(),
        )
        question = {"start": hour.isoformat(), "end": (hour + HOUR).isoformat(), "group_by": "account", "live": "false"}
        async with (
            asyncio.timeout(60),
            in_one_process(served) as running,
            Client(running.mcp_url) as agent,
            httpx.AsyncClient(verify=NO_TLS, trust_env=False, base_url=running.url) as client,
        ):
            answer = (await client.get("/v1/billing/usage", params=question)).json()
            assert "of the standby" in str(answer)
            told = await agent.call_tool("fal-get-usage", {"group_by": ["account"]})
            assert "of the standby" in str(told.structured_content)
