"""Three replicas on one PostgreSQL ledger while their leaders die, hang, and lose the database."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx
import programs
import pytest
from e2e.processes import Exporter, Fal, Labels, exporter_of, parsed, wait_until
from e2e.relay import Relay, relay
from ledger.conftest import as_unprivileged_user
from local_http import HTTP
from sqlalchemy import create_engine, text

from exporter.charges import NANO
from exporter.simulator import GlitchedJob, PlantedSpend

SPEND = "fal_spend_usd_total"
PLANTED = ("model", "fal-ai/planted")
OWN = (
    "process_",
    "python_",
    *(
        f"fal_exporter_{name}"
        for name in ("scrapes", "leader", "replica", "collector", "config", "ready", "access_file", "build", "snapshot")
    ),
)
"""Families of the process that answers; all others are of the publication."""


def through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}".removeprefix("@")))


@dataclass
class Replica:
    """An exporter with a network of its own."""

    exporter: Exporter
    to_fal: Relay
    to_database: Relay
    highest: dict[Labels, float] = field(default_factory=dict)
    unanswered: int = 0

    @property
    def leads(self) -> bool:
        answer = self.scrape()
        return answer is not None and set(answer.get("fal_exporter_leader", {}).values()) == {1.0}

    def scrape(self) -> dict[str, dict[Labels, float]] | None:
        try:
            answer = HTTP.get(f"{self.exporter.url}/metrics", timeout=2)
        except httpx.TransportError:
            return None
        return parsed(answer.text) if answer.is_success else None

    def watch(self) -> None:
        """Scrape once, as Prometheus does: no counter may have fallen."""
        samples = self.scrape()
        if samples is None:
            self.unanswered += 1
            return
        for labels, value in samples.get(SPEND, {}).items():
            assert value >= self.highest.get(labels, 0.0), f"a counter fell: {labels}"
            self.highest[labels] = value

    def page(self) -> str:
        """Return its page as text."""
        return HTTP.get(f"{self.exporter.url}/", headers={"accept": "text/plain"}, timeout=5).text

    def says(self) -> str:
        """Return the line of its page on which replica it is."""
        return next((line for line in self.page().splitlines() if line.startswith("Replica ")), "")

    def problems(self) -> dict[str, float]:
        """Return what it says is wrong with it."""
        found = (self.scrape() or {}).get("fal_exporter_replica_problem", {})
        return {dict(labels)["reason"]: value for labels, value in found.items()}

    def figures(self) -> dict[str, dict[Labels, float]]:
        """Return all that is not about its own processes."""
        return {name: found for name, found in (self.scrape() or {}).items() if not name.startswith(OWN)}


@dataclass
class Cluster:
    """Replicas, scraped all the time."""

    fal: Fal
    replicas: list[Replica]
    planted: int = 0
    problems: list[str] = field(default_factory=list)
    away: set[int] = field(default_factory=set)
    ended: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.ended.wait(0.3):
            for number, replica in enumerate(self.replicas):
                if number not in self.away:
                    try:
                        replica.watch()
                    except AssertionError as error:
                        self.problems.append(str(error))

    @contextmanager
    def watched(self) -> Iterator["Cluster"]:
        """Scrape all replicas from when they are ready until the end."""
        for replica in self.replicas:
            wait_until(replica.exporter.is_ready, "a replica is ready")
        watching = threading.Thread(target=self.watch, daemon=True)
        watching.start()
        try:
            yield self
        finally:
            self.ended.set()
            watching.join(10)

    def leader(self) -> Replica:
        """Return the replica that leads, once one does and no other says that it does."""

        def only() -> Replica | None:
            leaders = [
                replica for number, replica in enumerate(self.replicas) if number not in self.away and replica.leads
            ]
            return leaders[0] if len(leaders) == 1 else None

        return wait_until(only, "one replica leads")

    def charge(self, dollars: int) -> None:
        """Have fal state a charge that only a new poll finds."""
        self.planted += dollars
        hour = int(self.fal.now.timestamp()) // 3600
        line = GlitchedJob(model="fal-ai/planted").line(self.planted * NANO)
        self.fal.simulator.account.plant([PlantedSpend(hour, line)])

    def agree(self) -> None:
        """Wait until every replica has the charge, and all have the same figures."""

        def do() -> bool:
            figures = [r.figures() for number, r in enumerate(self.replicas) if number not in self.away]
            return all(figure == figures[0] for figure in figures) and planted_in(figures[0]) == self.planted

        wait_until(do, f"all replicas agree on {self.planted} dollars")


def planted_in(samples: dict[str, dict[Labels, float]]) -> float:
    """Return the dollars that counters show: a new series only once every replica has been scraped at 0."""
    return round(sum(value for labels, value in samples.get(SPEND, {}).items() if PLANTED in labels), 6)


@pytest.fixture
def cluster(fal: Fal, postgresql_server: str, empty_postgresql: Callable[[], str], tmp_path: Path) -> Iterator[Cluster]:
    empty_postgresql()
    database, site = urlsplit(postgresql_server), urlsplit(fal.running.url)
    assert database.hostname
    assert database.port
    assert site.port
    with ExitStack() as opened:
        replicas = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            to_fal = opened.enter_context(relay("127.0.0.1", site.port))
            to_database = opened.enter_context(relay(database.hostname, database.port))
            exporter = opened.enter_context(
                exporter_of(
                    fal,
                    folder,
                    PLATFORM_URL=through(fal.running.platform_url, to_fal.port),
                    REPORTING_URL=through(fal.running.reporting_url, to_fal.port),
                    LEDGER_URL=through(postgresql_server, to_database.port),
                    REPLICATED="true",
                    REQUEST_TIMEOUT="5s",
                )
            )
            replicas.append(Replica(exporter, to_fal, to_database))
            exporter.start()
        yield opened.enter_context(Cluster(fal, replicas).watched())


def crash_postgresql(address: str) -> None:
    """Have the server forget all that is not in its log, and start again; tables that are not logged are empty then."""
    engine = create_engine(address)
    with engine.connect() as connection:
        folder = connection.scalar(text("SHOW data_directory"))
    engine.dispose()
    command = [programs.required("pg_ctl", "postgresql"), "-D", folder, "-m", "immediate", "-w", "restart"]
    subprocess.run([*as_unprivileged_user(), *command], check=True, stdout=subprocess.DEVNULL, cwd="/")


def signal_all(number: signal.Signals) -> Callable[[Replica], None]:
    """Return what sends a signal to both processes of a replica."""

    def send(replica: Replica) -> None:
        process, collector = replica.exporter.process, replica.exporter.collector
        assert process is not None
        assert collector is not None
        for pid in (collector, process.pid):
            os.kill(pid, number)

    return send


@pytest.mark.long
def test_replicas_serve_one_truth_whatever_happens_to_their_leader(cluster: Cluster, postgresql_server: str) -> None:
    leaders = [cluster.leader()]
    cluster.charge(100)
    cluster.agree()
    wait_until(lambda: all("3 alive" in replica.says() for replica in cluster.replicas), "each page counts them")
    name = leaders[0].says().removesuffix(" collects; 3 alive.").removeprefix("Replica ")
    assert sum(f" serves what {name} collects" in replica.says() for replica in cluster.replicas) == 2

    def after(fault: str, act: Callable[[Replica], object]) -> Replica:
        """Do something to the leader; another takes its place, and finds what fal states from then on."""
        began = time.monotonic()
        former = leaders[-1]
        cluster.away.add(cluster.replicas.index(former))
        act(former)
        cluster.charge(10)
        leaders.append(cluster.leader())
        led = time.monotonic() - began
        cluster.agree()
        agreed = time.monotonic() - began
        print(f"{fault:40} next leader after {led:4.1f} s, a new charge is served by all after {agreed:4.1f} s")
        return former

    def back(replica: Replica) -> None:
        cluster.away.discard(cluster.replicas.index(replica))
        cluster.agree()
        assert cluster.leader() is leaders[-1], "nobody takes the lease from the one that holds it"

    former = after("stopped (SIGSTOP)", signal_all(signal.SIGSTOP))
    signal_all(signal.SIGCONT)(former)
    back(former)

    former = after("network to the database cut", lambda leader: leader.to_database.cut())
    assert former.figures(), "it serves what it had"
    former.to_database.heal()
    back(former)

    former = after("its network to fal cut", lambda leader: leader.to_fal.cut())
    wait_until(lambda: "does not reach fal" in former.page(), "its page says why it does not collect")
    assert former.problems() == {"fal": 1.0, "configuration": 0.0}
    former.to_fal.heal()
    wait_until(lambda: not any(former.problems().values()), "it reaches fal again")
    back(former)

    former = after("killed (SIGKILL)", lambda leader: leader.exporter.kill())
    former.exporter.start()
    wait_until(former.exporter.is_ready, "it is ready again")
    back(former)

    former = after("ended (SIGTERM)", lambda leader: leader.exporter.stop())

    began = time.monotonic()
    crash_postgresql(postgresql_server)
    cluster.charge(10)
    cluster.agree()
    assert cluster.leader() is leaders[-1], "a lease outlives a restart of the database that is shorter than its term"
    print(
        f"{'database crashed, started again':40} a new charge is served by all after {time.monotonic() - began:4.1f} s"
    )

    assert not cluster.problems
    polls = sorted((at, number) for number, replica in enumerate(cluster.replicas) for at in replica.to_fal.sent_at)
    polled_by = [number for number, _ in groupby(number for _, number in polls)]
    assert polled_by == [cluster.replicas.index(leader) for leader in leaders], "two replicas polled at once"
