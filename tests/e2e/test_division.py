"""Three replicas that divide who asks fal for which account, while owners and leaders die, hang and are cut off."""

import json
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn
from e2e.processes import Fal, exporter_of, free_port, wait_until
from e2e.relay import relay
from e2e.test_replicas import SPEND, Replica, signal_all, through
from local_http import HTTP
from sqlalchemy import Engine, create_engine, text
from starlette.types import Receive, Scope, Send

from exporter.charges import NANO
from exporter.simulator import (
    GlitchedJob,
    Key,
    PlantedSpend,
    RunningSimulator,
    Simulator,
    World,
    WorldSize,
    simulator_app,
)
from exporter.simulator.app import system_clock

pytestmark = pytest.mark.long

ACCOUNTS = 13
HOSTS = ("127.0.0.2", "127.0.0.3", "127.0.0.4")
"""Addresses from which the replicas come to fal."""

SETTLING = 60.0


@dataclass(frozen=True)
class Tenant(World):
    """World of one of many accounts, with an owner of its own."""

    @cached_property
    def teams(self) -> tuple[str, ...]:
        return (f"company-{self.seed}",)


@dataclass
class Asked:
    """A request that has come to fal, from the first byte of it to the last of the answer."""

    account: int
    host: str
    began: float
    ended: float = float("inf")


def key_of(number: int) -> str:
    return f"account-{number}:0123456789abcdef"


class Fals:
    """The fal of all accounts: a log of who asked for which, and when."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        size = WorldSize(models=2, callers=1, apps=0, compute=0, teams=1)
        self.simulators = [
            Simulator(Tenant(seed=number + 1, size=size), lambda: self.now, keys=[Key(key_of(number))])
            for number in range(ACCOUNTS)
        ]
        for simulator in self.simulators:
            simulator.date_clock = system_clock
        self._applications = {
            f"Key {key_of(number)}": (number, simulator_app(simulator))
            for number, simulator in enumerate(self.simulators)
        }
        self.asked: list[Asked] = []
        self.charged: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"").decode()
        if key not in self._applications:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})
            return
        number, application = self._applications[key]
        asked = Asked(number, scope["client"][0], time.monotonic())
        self.asked.append(asked)
        try:
            await application(scope, receive, send)
        finally:
            asked.ended = time.monotonic()

    def charge(self) -> None:
        """Have fal state one dollar more for each account, which only a new poll finds."""
        hour = int(self.now.timestamp()) // 3600
        for number, simulator in enumerate(self.simulators):
            self.charged[number] += 1
            simulator.account.plant(
                [PlantedSpend(hour, GlitchedJob(model="fal-ai/planted").line(self.charged[number] * NANO))]
            )

    def clashes(self) -> list[tuple[Asked, Asked]]:
        """Return requests for one account that two replicas made at the same time."""
        found = []
        of: defaultdict[int, list[Asked]] = defaultdict(list)
        for asked in sorted(self.asked, key=lambda asked: asked.began):
            open_ones = [one for one in of[asked.account] if one.ended > asked.began]
            found += [(one, asked) for one in open_ones if one.host != asked.host]
            of[asked.account] = [*open_ones, asked]
        return found

    def asked_by(self, host: str, since: float) -> set[int]:
        """Return the accounts that a replica has asked for."""
        return {asked.account for asked in list(self.asked) if asked.host == host and asked.began >= since}


@contextmanager
def listening(fals: Fals) -> Iterator[str]:
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(fals, port=port, lifespan="off", log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "fal listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(20)


@dataclass
class Divided:
    """Replicas that divide the accounts, scraped all the time."""

    fals: Fals
    replicas: list[Replica]
    database: Engine
    away: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.ended.wait(0.3):
            for number, replica in enumerate(self.replicas):
                if number not in self.away:
                    try:
                        replica.watch()
                    except AssertionError as error:
                        self.problems.append(str(error))

    def shares(self) -> dict[int, int]:
        """Return how many accounts each replica owns now, by its number; -1 for one that is not known."""
        with self.database.connect() as connection:
            rows = connection.execute(
                text("SELECT replica, count(*) FROM replica_owner WHERE expires_at > clock_timestamp() GROUP BY 1")
            ).all()
        pids = {replica.exporter.collector: number for number, replica in enumerate(self.replicas)}
        return {pids.get(int(name.rsplit("-", 2)[1]), -1): count for name, count in rows}

    def is_even(self) -> bool:
        shares = self.shares()
        living = {number for number in range(len(self.replicas)) if number not in self.away}
        counts = shares.values()
        return set(shares) == living and sum(counts) == ACCOUNTS and max(counts) - min(counts) <= 1

    def until_even(self) -> float:
        """Wait until the accounts are divided evenly among those that are there; return the seconds."""
        began = time.monotonic()
        wait_until(self.is_even, f"the accounts are divided evenly, not {self.shares()}", SETTLING)
        return time.monotonic() - began

    def until_asked(self) -> None:
        """Wait until each that is there has asked for as many accounts as it owns, and all have been asked for."""
        since = time.monotonic()

        def all_asked() -> bool:
            by = {n: self.fals.asked_by(HOSTS[n], since) for n in range(len(self.replicas)) if n not in self.away}
            return all(by.values()) and set[int]().union(*by.values()) == set(range(ACCOUNTS))

        wait_until(all_asked, "each replica asks for its accounts", SETTLING)

    def say_shares(self) -> bool:
        """Return whether metrics and pages say what is so."""
        shares = self.shares()
        for number, replica in enumerate(self.replicas):
            owned = (replica.scrape() or {}).get("fal_exporter_accounts_owned", {})
            said = [int(count) for count in re.findall(r" (\d+)[,.]", replica.says().rpartition(": ")[2])]
            if set(owned.values()) != {shares[number]} or sorted(said) != sorted(shares.values()):
                return False
        return True

    def leader(self) -> int:
        """Return the replica that leads, once one does and no other says that it does."""

        def only() -> list[int]:
            leaders = [
                number for number, replica in enumerate(self.replicas) if number not in self.away and replica.leads
            ]
            return leaders if len(leaders) == 1 else []

        return wait_until(only, "one replica leads", SETTLING)[0]

    def agree(self) -> None:
        """Wait until every replica shows what was charged to each account."""
        wanted = {f"account-{number}": float(count) for number, count in self.fals.charged.items()}

        def do() -> bool:
            for number, replica in enumerate(self.replicas):
                if number not in self.away and planted(replica.scrape() or {}) != wanted:
                    return False
            return True

        wait_until(do, "all replicas agree on what was charged", SETTLING)


def planted(samples: dict[str, dict[frozenset[tuple[str, str]], float]]) -> dict[str, float]:
    """Return the dollars that counters show of what only this test charges, by account."""
    found = ((dict(labels), value) for labels, value in samples.get(SPEND, {}).items())
    return {labels["account"]: round(value, 6) for labels, value in found if labels["model"] == "fal-ai/planted"}


@pytest.fixture
def divided(postgresql_server: str, empty_postgresql: Callable[[], str], tmp_path: Path) -> Iterator[Divided]:
    empty_postgresql()
    fals = Fals()
    file = tmp_path / "accounts.yaml"
    entries = [{"name": f"account-{number}", "key": key_of(number)} for number in range(ACCOUNTS)]
    file.write_text(json.dumps({"accounts": entries, "sources": ["models"]}))
    database = urlsplit(postgresql_server)
    assert database.hostname
    assert database.port
    with ExitStack() as opened:
        site = urlsplit(opened.enter_context(listening(fals)))
        assert site.port
        replicas = []
        for number, host in enumerate(HOSTS):
            folder = tmp_path / str(number)
            folder.mkdir()
            to_fal = opened.enter_context(relay("127.0.0.1", site.port, connects_from=host))
            to_database = opened.enter_context(relay(database.hostname, database.port))
            url = f"http://127.0.0.1:{to_fal.port}"
            exporter = opened.enter_context(
                exporter_of(
                    Fal(fals.now, RunningSimulator(fals.simulators[0], url)),
                    folder,
                    CONFIG_FILE=str(file),
                    LEDGER_URL=through(postgresql_server, to_database.port),
                    REPLICATED="true",
                    DIVIDE_POLLING="true",
                    REQUEST_TIMEOUT="5s",
                    HISTORY="2h",
                )
            )
            del exporter.environment["FAL_KEY"]
            replicas.append(Replica(exporter, to_fal, to_database))
            exporter.start()
        engine = create_engine(postgresql_server)
        opened.callback(engine.dispose)
        cluster = Divided(fals, replicas, engine)
        for replica in replicas:
            wait_until(replica.exporter.is_ready, "a replica is ready", SETTLING)
        watching = threading.Thread(target=cluster.watch, daemon=True)
        watching.start()
        try:
            yield cluster
        finally:
            cluster.ended.set()
            watching.join(10)


def freeze(replica: Replica) -> None:
    signal_all(signal.SIGSTOP)(replica)


def thaw(replica: Replica) -> None:
    signal_all(signal.SIGCONT)(replica)


FAULTS: tuple[tuple[str, Callable[[Replica], object], Callable[[Replica], object]], ...] = (
    ("stopped (SIGSTOP)", freeze, thaw),
    ("network to the database cut", lambda it: it.to_database.cut(), lambda it: it.to_database.heal()),
    ("network to fal cut", lambda it: it.to_fal.cut(), lambda it: it.to_fal.heal()),
    ("killed (SIGKILL)", lambda it: it.exporter.kill(), lambda it: it.exporter.start()),
    ("ended (SIGTERM)", lambda it: it.exporter.stop(), lambda it: it.exporter.start()),
)
"""Each with the way to do it to a replica, and to undo it."""


@pytest.mark.parametrize("who", ["a follower", "the leader"])
def test_each_account_is_asked_for_by_one_replica_whatever_happens(divided: Divided, who: str) -> None:
    divided.fals.charge()
    divided.agree()
    print(f"\n{'three replicas, 13 accounts':44} even after {divided.until_even():4.1f} s")
    divided.until_asked()
    wait_until(divided.say_shares, "each replica says how many accounts it asks for")
    for fault, act, undo in FAULTS:
        number = (divided.leader() + (who == "a follower")) % len(HOSTS)
        replica = divided.replicas[number]
        began = time.monotonic()
        divided.away.add(number)
        act(replica)
        divided.fals.charge()
        divided.until_even()
        even = time.monotonic() - began
        divided.agree()
        agreed = time.monotonic() - began
        undo(replica)
        began = time.monotonic()
        divided.away.discard(number)
        divided.until_even()
        again = time.monotonic() - began
        divided.until_asked()
        divided.agree()
        print(
            f"{who + ', ' + fault:44} others have its accounts after {even:4.1f} s, show what is charged then after "
            f"{agreed:4.1f} s; it has a share again {again:4.1f} s after it is back"
        )
    assert not divided.problems
    assert not divided.fals.clashes(), "two replicas asked for one account at the same time"
    assert_ledger_is_the_statement(divided)


def assert_ledger_is_the_statement(divided: Divided) -> None:
    """Compare what the ledger has of each account with what its fal states."""
    hour = divided.fals.now.replace(minute=0, second=0, microsecond=0)
    start, end = hour - timedelta(hours=1), hour + timedelta(hours=1)
    window = {"start": start.isoformat(), "end": end.isoformat()}
    url = f"{divided.replicas[0].exporter.url}/v1/billing/usage"
    answer = HTTP.get(url, params=window | {"group_by": "account"}, timeout=30).raise_for_status()
    usage = json.loads(answer.text, parse_float=Decimal)["usage"]
    stated = {
        f"account-{number}": Decimal(str(simulator.statement(**window, source="models")["cost"]))
        for number, simulator in enumerate(divided.fals.simulators)
    }
    assert {row["account"]: row["spend"] for row in usage} == stated
