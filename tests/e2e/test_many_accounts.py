"""Sixty accounts, added, removed, renamed and given other keys at SIGHUP, while polls run and all is scraped."""

import asyncio
import json
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

import pytest
import uvicorn
from e2e.processes import PATIENCE, Exporter, Fal, Labels, exporter_of, free_port, parsed, wait_until
from local_http import HTTP
from starlette.types import Receive, Scope, Send

from exporter.charges import NANO
from exporter.simulator import GlitchedJob, Key, PlantedSpend, Simulator, World, WorldSize, simulator_app
from exporter.simulator.app import system_clock

ACCOUNTS = 60
INTERVAL = 10.0
"""Seconds between two polls of an account."""

START_PATIENCE = 150.0
"""Seconds that the first answers for all accounts may take on a busy machine: the test begins after that."""

USAGE = "/v1/models/usage"
SPEND = "fal_spend_usd_total"
LONGEST_SCRAPE = 2.0
"""Seconds that a scrape may take on a busy machine; one that waited for the reload would take longer."""


@dataclass(frozen=True)
class Tenant(World):
    """World of one of many accounts, with an owner of its own."""

    @cached_property
    def teams(self) -> tuple[str, ...]:
        return (f"company-{self.seed}",)


def key_of(number: int) -> str:
    return f"account-{number}:0123456789abcdef"


class Fals:
    """The fal of all accounts, told apart by their keys: when each was polled, and whom it leaves without an answer."""

    def __init__(self, accounts: int) -> None:
        now = datetime.now(UTC)
        size = WorldSize(models=2, callers=1, apps=0, compute=0, teams=1)
        self.hour = int(now.timestamp()) // 3600
        self.simulators = [
            Simulator(Tenant(seed=number + 1, size=size), lambda: now, keys=[Key(key_of(number))])
            for number in range(accounts)
        ]
        for simulator in self.simulators:
            simulator.date_clock = system_clock
        self._applications = {
            f"Key {key_of(number)}": (number, simulator_app(simulator))
            for number, simulator in enumerate(self.simulators)
        }
        self.answered: defaultdict[int, list[float]] = defaultdict(list)
        self.charged: Counter[int] = Counter()
        self.held: set[int] = set()
        self.waiting: set[int] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"").decode()
        number, application = self._applications[key]
        if scope["path"] == USAGE:
            self.waiting.add(number)
            while number in self.held:  # noqa: ASYNC110  set from another thread
                await asyncio.sleep(0.05)
            self.waiting.discard(number)
        await application(scope, receive, send)
        if scope["path"] == USAGE:
            self.answered[number].append(time.monotonic())

    def charge(self, numbers: Sequence[int]) -> None:
        """Have fal state one dollar more for each of these accounts, which only a new poll finds."""
        self.charged.update(numbers)
        for number in numbers:
            line = GlitchedJob(model="fal-ai/planted").line(self.charged[number] * NANO)
            self.simulators[number].account.plant([PlantedSpend(self.hour, line)])


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
class Watch:
    """Scrapes an exporter all the time: no counter falls, and no scrape waits."""

    exporter: Exporter
    seen: dict[str, dict[Labels, float]] = field(default_factory=dict)
    highest: dict[Labels, float] = field(default_factory=dict)
    slowest: float = 0.0
    problems: list[str] = field(default_factory=list)

    def look(self) -> None:
        began = time.monotonic()
        answer = HTTP.get(f"{self.exporter.url}/metrics", timeout=PATIENCE)
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.seen = parsed(answer.raise_for_status().text)
        for labels, value in self.seen.get(SPEND, {}).items():
            if value < self.highest.get(labels, 0.0):
                self.problems.append(f"a counter fell: {labels}")
            self.highest[labels] = value

    def up(self) -> dict[str, float]:
        """Return whether the source of each account works."""
        return {dict(labels)["account"]: value for labels, value in self.seen.get("fal_source_up", {}).items()}

    def balances(self) -> set[str]:
        """Return the accounts whose balance REST speaks of; asked twice, it answers from its cache."""
        answers = [HTTP.get(f"{self.exporter.url}/v1/billing/balance", timeout=PATIENCE) for _ in range(2)]
        return {account["account"] for account in answers[-1].raise_for_status().json()["accounts"]}

    def planted(self) -> dict[str, float]:
        """Return the dollars that have been counted since the start, of what only this test charges, by account."""
        found = ((dict(labels), value) for labels, value in self.seen.get(SPEND, {}).items())
        return {labels["account"]: value for labels, value in found if labels["model"] == "fal-ai/planted"}

    def reloaded_at(self) -> float:
        (at,) = self.seen["fal_exporter_config_last_reload_success_timestamp_seconds"].values()
        return at


@contextmanager
def watched(exporters: Sequence[Exporter]) -> Iterator[list[Watch]]:
    watches = [Watch(exporter) for exporter in exporters]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            for item in watches:
                item.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield watches
    finally:
        ended.set()
        thread.join(20)


@dataclass
class Stage:
    """Exporters that share a configuration file and a ledger."""

    fals: Fals
    file: Path
    exporters: list[Exporter]

    def configure(self, keys: dict[str, int]) -> None:
        """Write the configuration: each account's name and whose key it has."""
        entries = [{"name": name, "key": key_of(number)} for name, number in keys.items()]
        self.file.write_text(json.dumps({"accounts": entries}), encoding="utf-8")

    def reload(self, watches: list[Watch], what: str, done: Callable[[Watch], bool]) -> None:
        """Tell all exporters to read it again, and wait until all of them serve by it."""
        began, before = time.monotonic(), [watch.reloaded_at() for watch in watches]
        for watch in watches:
            watch.slowest = 0.0
            assert watch.exporter.process is not None
            os.kill(watch.exporter.process.pid, signal.SIGHUP)
        wait_until(
            lambda: all(watch.reloaded_at() > at for watch, at in zip(watches, before, strict=True)), "it is read"
        )
        read = time.monotonic() - began
        wait_until(lambda: all(done(watch) for watch in watches), what)
        print(
            f"{what}: read after {read:.1f} s, in effect everywhere after {time.monotonic() - began:.1f} s, slowest "
            f"scrape {max(watch.slowest for watch in watches):.3f} s"
        )


@pytest.fixture(params=["one exporter", "two replicas"])
def stage(request: pytest.FixtureRequest, fal: Fal, tmp_path: Path) -> Iterator[Stage]:
    fals = Fals(ACCOUNTS + 10)
    file = tmp_path / "fal-exporter.yaml"
    settings = {
        "CONFIG_FILE": str(file),
        "SOURCES": "models",
        "HISTORY": "2h",
        "POLL_INTERVAL": f"{INTERVAL:.0f}s",
        "BALANCE_INTERVAL": "1h",
        "MACHINES": "false",
        "MAX_SERIES": "100000",
    }
    replicas = 1
    if request.param == "two replicas":
        settings |= {"LEDGER_URL": request.getfixturevalue("empty_postgresql")(), "REPLICATED": "true"}
        replicas = 2
    with ExitStack() as opened:
        url = opened.enter_context(listening(fals))
        exporters = []
        for number in range(replicas):
            folder = tmp_path / str(number)
            folder.mkdir()
            where = {"PLATFORM_URL": f"{url}/v1", "REPORTING_URL": url}
            exporter = opened.enter_context(exporter_of(fal, folder, **(settings | where)))
            del exporter.environment["FAL_KEY"]
            exporters.append(exporter)
        yield Stage(fals, file, exporters)


@pytest.mark.long
def test_accounts_come_go_and_change_their_keys_at_sighup(stage: Stage) -> None:
    fals = stage.fals
    keys = {f"account-{number}": number for number in range(ACCOUNTS)}
    stage.configure(keys)
    for exporter in stage.exporters:
        exporter.start()
    for exporter in stage.exporters:
        wait_until(exporter.is_ready, "history is loaded", START_PATIENCE)
    with watched(stage.exporters) as watches:

        def work(wanted: dict[str, float]) -> Callable[[Watch], bool]:
            return lambda watch: watch.up() == wanted

        def counted(watch: Watch) -> bool:
            return watch.planted().items() >= expected.items()

        all_up = dict.fromkeys(keys, 1.0)
        wait_until(lambda: all(work(all_up)(watch) for watch in watches), "all accounts are polled")
        assert all(watch.balances() == {*keys} for watch in watches)
        fals.charge(range(ACCOUNTS))
        expected = dict.fromkeys(keys, 1.0)
        wait_until(lambda: all(counted(watch) for watch in watches), "each dollar is counted once")
        # A poll is under way that will not be answered while the configuration is read.
        fals.held = {20, 21}
        wait_until(lambda: fals.held <= fals.waiting, "two polls wait for fal")

        for number in range(10):
            del keys[f"account-{number}"]
            keys[f"account-{ACCOUNTS + number}"] = ACCOUNTS + number
        del keys["account-10"]
        keys["renamed"] = 10
        keys["account-11"], keys["account-12"] = 12, 11
        stage.configure(keys)
        began = time.monotonic()
        changed = dict.fromkeys(keys, 1.0) | {"account-11": 0.0, "account-12": 0.0}
        not_polled = {"account-20", "account-21"}

        def is_changed(watch: Watch) -> bool:
            return watch.up().items() >= {name: up for name, up in changed.items() if name not in not_polled}.items()

        stage.reload(watches, "ten come, ten go, two keys are exchanged", is_changed)
        assert all({*watch.up()} - not_polled == {*keys} - not_polled for watch in watches)
        assert all(watch.balances() - not_polled == {*keys} - not_polled for watch in watches)
        polled = [fals.answered[number][-1] - began for number in keys.values() if number not in {11, 12, 20, 21}]
        assert min(polled) > 0, "every other account has been polled since"
        fals.held = set()
        fals.charge([number for name, number in keys.items() if number not in {11, 12}])
        # What an account had before it was added, or had its name, is where its counters begin.
        begun = {"renamed", "account-11", "account-12", *(f"account-{ACCOUNTS + number}" for number in range(10))}
        expected = {name: 1.0 if name in begun else 2.0 for name in keys}
        wait_until(lambda: all(counted(watch) for watch in watches), "each dollar is counted once")

        for number in range(10):
            keys[f"account-{number}"] = number
        keys["account-11"], keys["account-12"] = 11, 12
        stage.configure(keys)
        all_up = dict.fromkeys(keys, 1.0)
        stage.reload(watches, "ten come back, two have their keys again", work(all_up))
        assert all(watch.balances() == {*keys} for watch in watches)
        fals.charge(range(ACCOUNTS + 10))
        expected = {name: value + 1 for name, value in expected.items()}
        expected |= {f"account-{number}": 2.0 for number in range(10)}
        wait_until(lambda: all(counted(watch) for watch in watches), "each dollar is counted once, again")
        assert [problem for watch in watches for problem in watch.problems] == []
        assert max(watch.slowest for watch in watches) < LONGEST_SCRAPE
