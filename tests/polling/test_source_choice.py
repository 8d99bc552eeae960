"""The sources that a key can read are asked for again and reported, and never change by themselves what is counted."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth
from structlog.typing import EventDict

from exporter.charges import NANO, hour_of
from exporter.ledger import Reconciliation, SourceProbe
from exporter.polling import source_choice
from exporter.polling.source_choice import gaps_of, limits_of, offer_of, shortfalls_of
from exporter.simulator import ADMIN_KEY, Fault, Key, RunningSimulator, Simulator, World, WorldSize, serving

COMPUTE = "/v1/organization/usage"
SERVERLESS = "/v1/serverless/usage"
ALL = ("models", "serverless", "compute")


def world(teams: int) -> World:
    return World(7, size=WorldSize(models=3, callers=1, apps=2, compute=2, teams=teams), invoiced_months=1)


@pytest.fixture
async def fal(clock: Clock) -> AsyncIterator[RunningSimulator]:
    """A small fal of one team that rents compute machines."""
    async with serving(Simulator(world(teams=1), clock)) as running:
        yield running


def keys(team: str = "") -> dict[str, Key]:
    return {ADMIN_KEY: Key(ADMIN_KEY, team=team)}


async def probes(bench: Bench) -> dict[str, SourceProbe]:
    return {found.source: found for found in await bench.ledger.probes("main")}


async def spend(bench: Bench) -> int:
    """Return the sum of the counters, once a scrape has seen those that are new."""
    await bench.ledger.scraped((await bench.view()).sequence)
    view = await bench.view()
    return int(sum(sample.value for page in view.spend for sample in page.samples))


def available(bench: Bench) -> dict[str, float | None]:
    return {source: bench.number("fal_source_available", account="main", source=source) for source in ALL}


def told(logs: list[EventDict], event: str) -> list[str]:
    return [str(entry.get("source", "")) for entry in logs if entry["event"] == event]


CAN_BE_READ = "the key can read a source that is not polled"
CANNOT_BE_READ = "charges are missing that this key cannot read"


async def test_auto_covers_all_that_the_key_of_a_single_team_reads(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert await bench.account.choose_sources()
        await bench.activate()
        assert bench.account.sources == ALL
        assert await bench.account.load_history()
        start = hour_of(clock.now - REACH.history)
        assert await bench.known_of_month() == truth(fal, start, clock.now, "")
        assert truth(fal, start, clock.now, "compute") > 0
        assert {found.reason_at_choice for found in (await probes(bench)).values()} == {""}
        assert available(bench) == dict.fromkeys(ALL, 0)
        assert (bench.account.offer(), bench.account.remarks([])) == ("", ())
    assert not [entry for entry in logs if entry["log_level"] == "warning"]


async def test_the_key_of_a_root_of_several_teams_reads_the_organization_whose_limits_are_told(
    clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    async with (
        serving(Simulator(world(teams=3), clock)) as fal,
        opened_bench(fal, clock, tmp_path, sources=None) as bench,
    ):
        assert await bench.account.choose_sources()
        await bench.activate()
        assert bench.account.sources == ("organization",)
        assert await bench.account.load_history()
        start = hour_of(clock.now - REACH.history)
        assert await bench.known_of_month() == truth(fal, start, clock.now, "")
        limits = "The source organization reports neither list prices, discounts nor surge prices."
        assert bench.account.remarks([]) == (limits,)
        assert available(bench) == dict.fromkeys(ALL, 0)
    assert [entry["problem"] for entry in logs if entry["event"] == "the source has limitations"] == [limits]


@pytest.mark.parametrize("path", ["/v1/models/usage", SERVERLESS, COMPUTE, "/v1/organization/teams"])
@pytest.mark.parametrize("kind", ["not_found", "scope_removed", "server_error", "not_json"])
async def test_a_single_failure_at_the_first_start_decides_nothing(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, path: str, kind: str
) -> None:
    fal.simulator.faults.add(Fault(kind, path=path, times=1))
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert await bench.account.choose_sources()
        assert bench.account.sources == ALL
        assert {found.reason_at_choice for found in (await probes(bench)).values()} == {""}


async def test_a_source_that_was_refused_at_the_first_start_is_asked_for_daily_and_offered(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    fal.simulator.keys = keys(team=fal.simulator.account.world.teams[0])
    fal.simulator.faults.add(Fault("not_found", path=SERVERLESS))
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert await bench.account.choose_sources()
        await bench.activate()
        assert bench.account.sources == ("models",)
        assert available(bench) == {"models": 0, "serverless": 0, "compute": 0}
        assert told(logs, CANNOT_BE_READ) == ["serverless", "compute"]
        serverless, compute = bench.account.remarks([])
        assert "serverless apps are not in these figures: this key cannot read serverless" in serverless
        assert "only an admin key of the root team" in compute
        await bench.account.load_history()
        # The key comes to read all.
        fal.simulator.keys = keys()
        fal.simulator.faults.clear()
        clock.forward(hours=23)
        asked = fal.simulator.seen.total()
        await bench.account.probe_sources()
        assert fal.simulator.seen.total() == asked
        clock.forward(hours=1)
        await bench.account.probe_sources()
        assert bench.account.sources == ("models",), "never changed silently"
        assert available(bench) == {"models": 0, "serverless": 1, "compute": 1}
        assert told(logs, CAN_BE_READ) == ["serverless", "compute"]
        (entry,) = [log for log in logs if log["event"] == CAN_BE_READ and log["source"] == "serverless"]
        assert entry["refused_at_the_choice"] == "not_found"
        assert "set the sources to models,serverless,compute and restart" in bench.account.offer()
        found = (await probes(bench))["serverless"]
        assert (found.reason, found.reason_at_choice, found.asked_at) == ("", "not_found", clock.now)
        asked = fal.simulator.seen.total()
        await bench.account.probe_sources()
        assert fal.simulator.seen.total() == asked
        await bench.account.poll_current()
        before = await spend(bench)

    # The user adds them: their past is base, so that no counter jumps, and what is spent from now on is counted.
    born = clock.now
    async with opened_bench(fal, clock, tmp_path, sources=ALL) as bench:
        assert available(bench) == dict.fromkeys(ALL, 0), "known from the ledger, before fal has been asked"
        assert await bench.account.load_history()
        start = hour_of(born - REACH.history)
        # The running hour began before the source was born: what it holds is history, too.
        assert await spend(bench) == before > 0
        month = await bench.known_of_month()
        assert month >= truth(fal, start, clock.now, "")
        history = truth(fal, hour_of(born), born + timedelta(hours=1), "")
        clock.forward(hours=2)
        await bench.account.poll_current()
        assert await spend(bench) - before == truth(fal, hour_of(born), clock.now, "") - history


async def test_a_ledger_of_before_is_offered_compute_at_once_and_not_changed(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, logs: list[EventDict]
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models", "serverless")) as bench:
        await bench.account.load_history()
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert bench.account.sources == ("models", "serverless")
        assert available(bench) == dict.fromkeys(ALL)
        await bench.account.probe_sources()
        assert bench.account.sources == ("models", "serverless")
        assert available(bench) == {"models": 0, "serverless": 0, "compute": 1}
        assert (await probes(bench))["compute"].reason_at_choice is None
    assert told(logs, CAN_BE_READ) == ["compute"]
    logs.clear()
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        assert told(logs, CAN_BE_READ) == ["compute"], "told at every start, from the ledger"
        assert available(bench)["compute"] == 1


async def test_a_new_version_asks_again(
    fal: RunningSimulator, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models",)) as bench:
        await bench.account.probe_sources()
    asked = fal.simulator.seen.total()
    async with opened_bench(fal, clock, tmp_path, sources=("models",)) as bench:
        await bench.account.probe_sources()
        assert fal.simulator.seen.total() == asked
        monkeypatch.setattr(source_choice, "__version__", "99.0.0")
        await bench.account.probe_sources()
        assert fal.simulator.seen.total() > asked
        assert {found.version for found in (await probes(bench)).values()} == {"99.0.0"}


async def test_the_choice_waits_for_a_clear_answer_of_the_organization_but_not_for_ever(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    fal.simulator.faults.add(Fault("server_error", path=COMPUTE))
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        for _ in range(3):
            assert not await bench.account.choose_sources()
            assert "GET /organization/usage" in bench.account.problem
        assert await bench.account.choose_sources()
        await bench.activate()
        assert (bench.account.sources, bench.account.problem) == (("models", "serverless"), "")
        (gap,) = bench.account.remarks([])
        assert "the last attempt failed: server_error" in gap
        fal.simulator.faults.clear()
        clock.forward(minutes=59)
        await bench.account.probe_sources()
        assert available(bench)["compute"] == 0
        clock.forward(minutes=1)
        await bench.account.probe_sources()
        assert available(bench)["compute"] == 1, "an unclear answer is asked for again within the hour"


async def test_a_missing_call_that_fails_says_nothing_of_the_others(
    fal: RunningSimulator, clock: Clock, tmp_path: Path
) -> None:
    fal.simulator.faults.add(Fault("server_error", path="/v1/models/usage"))
    async with opened_bench(fal, clock, tmp_path, sources=None) as bench:
        for _ in range(6):
            assert not await bench.account.choose_sources(), "the greatest part of the bill is worth any wait"


def test_what_could_be_polled_is_offered_in_the_words_of_the_setting() -> None:
    offer = offer_of(["compute"], ("models", "serverless"), teams=1, missing="$1.50 in a window")
    assert offer.startswith("This key can also read compute: the charges of compute machines are not in these figures")
    assert "($1.50 in a window). Add it: set the sources to models,serverless,compute and restart" in offer
    assert "set the sources to organization, which covers all 3 teams," in offer_of(["compute"], ("models",), teams=3)
    assert offer_of([], ("models",), teams=1) == ""


def test_sources_that_cover_all_have_no_gaps() -> None:
    refused = dict.fromkeys(ALL, "scope")
    assert gaps_of((), refused) == gaps_of(("organization",), refused) == gaps_of(("reporting",), refused) == ()
    assert len(gaps_of(("models",), refused)) == 2
    assert gaps_of(("models",), {"serverless": ""}) == ()
    assert limits_of(("models", "serverless")) == ()
    assert limits_of(("reporting",))[0].startswith("The source reporting reports neither teams,")


def test_what_a_bill_has_more_is_told_by_the_best_of_its_comparisons() -> None:
    october, november = (datetime(2026, month, 1, tzinfo=UTC) for month in (10, 11))

    def compared(against: str, month: datetime, ledger: int, usage: int) -> Reconciliation:
        return Reconciliation(
            "main", against, month, month + timedelta(days=20), november, ledger * NANO, usage * NANO, {}
        )

    known = [
        compared("invoice", october, 87_233, 108_689),
        compared("focus_estimate", october, 87_233, 99_999),
        compared("focus_estimate", november, 5, 7),
        compared("invoice", datetime(2026, 9, 1, tzinfo=UTC), 1, 2),
    ]
    assert shortfalls_of(known, [october, november]) == (
        "For 2026-10 fal bills $21,456.00 more than is counted here (invoice).",
        "For 2026-11 fal bills $2.00 more than is counted here (focus estimate).",
    )
    assert shortfalls_of([compared("invoice", october, 9, 9), compared("invoice", november, 9, 8)], [october]) == ()
