import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from polling.conftest import REACH, Bench, Clock, opened_bench, truth, until
from structlog.typing import EventDict

from exporter.charges import HOUR, NANO, hour_number, hour_of
from exporter.simulator import (
    DEFAULT_KEYS,
    Fault,
    PlantedRelabelling,
    RunningSimulator,
    World,
    WorldSize,
    running_simulator,
)

LABELS = ("account", "team", "model", "api_key")
KEYS, TEAMS = "/v1/keys", "/v1/organization/teams"
SHORT = replace(REACH, history=timedelta(hours=2))


@pytest.fixture
async def fal(clock: Clock) -> AsyncIterator[RunningSimulator]:
    """A fal whose models are called with three keys, by three of the five teams of an organization."""
    size = WorldSize(models=3, callers=1, apps=1, compute=0, teams=5, api_keys=3)
    async with running_simulator(World(7, size=size, invoiced_months=1), clock) as running:
        yield running


@pytest.fixture
async def named(fal: RunningSimulator, clock: Clock, tmp_path: Path, stack: AsyncExitStack) -> Bench:
    made = opened_bench(fal, clock, tmp_path, sources=("organization",), reach=SHORT, labels=LABELS)
    return await stack.enter_async_context(made)


def calls(fal: RunningSimulator, path: str) -> int:
    return fal.simulator.seen[path]


async def scrape(bench: Bench) -> None:
    """See all that has been counted, so that keys may take their new names."""
    await bench.ledger.scraped((await bench.view()).sequence)


async def shown(bench: Bench) -> dict[str, int]:
    """Return what is published of the running hour and the one before by the label `api_key`."""
    view = await bench.view()
    sums: dict[str, int] = {}
    for page in view.known_of_month:
        for sample in page.samples:
            sums[sample.labels[-1]] = sums.get(sample.labels[-1], 0) + int(sample.value)
    return {key: cost for key, cost in sums.items() if key}


async def test_charges_have_the_aliases_of_their_keys_from_the_first_poll_on(
    fal: RunningSimulator, named: Bench, clock: Clock
) -> None:
    await named.account.poll_current()
    keys = fal.simulator.account.world.keys
    assert set(await shown(named)) <= {key.detail for key in keys}
    start = hour_of(clock.now) - HOUR
    assert await named.known_of_month() == truth(fal, start, start + 2 * HOUR, "organization")
    listed = {record.key.id: record for record in (await named.view()).keys}
    assert {key.id for key in keys} < listed.keys()
    assert {(listed[key.id].key.alias, listed[key.id].key.creator) for key in keys} == {
        (key.detail, key.login) for key in keys
    }
    assert all(record.key.created_at is not None for record in listed.values())
    assert named.number("fal_source_up", account="main", source="keys") == 1


async def test_a_renamed_key_shows_its_new_alias_and_its_spend_once(fal: RunningSimulator, named: Bench) -> None:
    await named.account.poll_current()
    before = await shown(named)
    key = next(item for item in fal.simulator.account.world.keys if item.detail in before)
    fal.simulator.faults.add(Fault("key_alias", path=KEYS, of_key=key.id, alias="web shop"))
    await named.account.poll_names()
    await scrape(named)
    assert await shown(named) == {"web shop" if name == key.detail else name: cost for name, cost in before.items()}


async def test_two_keys_with_the_alias_of_one_are_told_apart(fal: RunningSimulator, named: Bench) -> None:
    await named.account.poll_current()
    before = await shown(named)
    one, other = [item for item in fal.simulator.account.world.keys if item.detail in before][:2]
    fal.simulator.faults.add(Fault("key_alias", path=KEYS, of_key=one.id, alias=other.detail))
    await named.account.poll_names()
    await scrape(named)
    after = await shown(named)
    assert after[f"{other.detail} ({one.id})"] == before[one.detail]
    assert after[f"{other.detail} ({other.id})"] == before[other.detail]
    assert sum(after.values()) == sum(before.values())


async def test_a_key_that_may_not_list_keys_fails_nothing_and_asks_once_a_day(
    fal: RunningSimulator, named: Bench, clock: Clock, logs: list[EventDict]
) -> None:
    (admin, *_) = DEFAULT_KEYS
    fal.simulator.keys = {admin.text: replace(admin, refused=((KEYS, 403), (TEAMS, 403)))}
    for _ in range(3):
        await named.account.poll_current()
        await named.account.poll_names()
        clock.forward(hours=1)
    assert (calls(fal, KEYS), calls(fal, TEAMS)) == (1, 1)
    assert set(await shown(named)) <= {key.id for key in fal.simulator.account.world.keys}
    assert [entry["log_level"] for entry in logs if "listed" in entry["event"]] == ["info"] * 2
    assert named.number("fal_source_up", account="main", source="keys") == 1
    assert "shown by their ids" in " ".join(named.account.remarks(()))
    fal.simulator.keys = {admin.text: admin}
    clock.forward(days=1)
    await named.account.poll_names()
    await scrape(named)
    assert set(await shown(named)) <= {key.detail for key in fal.simulator.account.world.keys}
    assert "shown by their ids" not in " ".join(named.account.remarks(()))


@pytest.mark.parametrize("kind", ["server_error", "endless_pages", "repeated_cursor", "not_json", "hang"])
async def test_keys_that_cannot_be_read_now_hold_up_no_usage(kind: str, fal: RunningSimulator, named: Bench) -> None:
    fal.simulator.faults.add(Fault(kind, path=KEYS, seconds=0 if kind == "hang" else None))
    await named.account.poll_current()
    assert named.number("fal_source_up", account="main", source="organization") == 1
    assert (await shown(named)) != {}
    fal.simulator.faults.clear()
    await named.account.poll_names()
    assert named.number("fal_source_up", account="main", source="keys") == 1
    await scrape(named)
    assert set(await shown(named)) <= {key.detail for key in fal.simulator.account.world.keys}


async def test_charges_wait_for_the_names_that_are_being_read(fal: RunningSimulator, named: Bench) -> None:
    fal.simulator.faults.add(Fault("slow_body", path=KEYS, seconds=0.05, pieces=5))
    listing = asyncio.create_task(named.account.poll_names())
    await until(lambda: calls(fal, KEYS) == 1)
    await named.account.poll_current()
    assert calls(fal, KEYS) == 1
    await listing
    assert set(await shown(named)) <= {key.detail for key in fal.simulator.account.world.keys}


async def test_rows_that_name_no_key_are_counted_and_the_others_are_taken(fal: RunningSimulator, named: Bench) -> None:
    fal.simulator.faults.add(Fault("missing_fields", path=KEYS, fields=("key_id",), every_row=2))
    await named.account.poll_names()
    assert 0 < len((await named.view()).keys) < 5
    assert named.number("fal_source_partial", account="main", source="keys") == 1


async def test_a_list_of_which_rows_cannot_be_read_takes_no_other_name_off(fal: RunningSimulator, named: Bench) -> None:
    """The row may be any of them: a key would be gone and come back as a new one."""
    await named.account.load_history()
    await named.account.poll_names()

    async def listed() -> tuple[set[str], set[str]]:
        view = await named.view()
        return {item.key.id for item in view.keys if item.is_listed}, {team.username for team in view.teams}

    before = await listed()
    faults = (("key_id",), KEYS), (("username",), TEAMS)
    fal.simulator.faults.add(*(Fault("missing_fields", path=path, fields=names, every_row=2) for names, path in faults))
    await named.account.poll_names()
    assert (await named.view()).keys
    assert named.number("fal_source_partial", account="main", source="keys") == 1
    assert await listed() == before
    assert all(before)
    fal.simulator.faults.clear()
    fal.simulator.faults.add(Fault("empty_answer", path=KEYS))
    await named.account.poll_names()
    assert await listed() == (set(), before[1]), "a list that is read whole does"


async def test_a_key_that_is_used_before_it_is_listed_is_asked_for_once(
    fal: RunningSimulator, named: Bench, clock: Clock
) -> None:
    await named.account.poll_current()
    assert calls(fal, KEYS) == 1
    clock.forward(minutes=11)
    number = hour_number(clock.now)
    fal.simulator.faults.add(PlantedRelabelling(hour=number, labels=(("api_key", "k-new"),)))
    await named.account.poll_current()
    assert calls(fal, KEYS) == 2
    await named.account.poll_current()
    assert calls(fal, KEYS) == 2


async def test_teams_without_spend_are_shown_at_zero_once_the_history_is_loaded(
    fal: RunningSimulator, named: Bench
) -> None:
    world = fal.simulator.account.world
    await named.account.poll_current()
    await named.account.poll_names()

    async def teams() -> dict[str, int]:
        sums: dict[str, int] = {}
        for page in (await named.view()).last_hour:
            for sample in page.samples:
                sums[sample.labels[1]] = sums.get(sample.labels[1], 0) + int(sample.value)
        return sums

    spending = set(await teams())
    assert spending < set(world.teams)
    assert {team.username for team in (await named.view()).teams} == set(world.teams)
    while not await named.account.load_history():
        pass
    charged = {team for team, cost in (await teams()).items() if cost}
    await named.account.poll_names()
    by_team = await teams()
    assert set(by_team) == set(world.teams)
    assert {team for team, cost in by_team.items() if not cost} == set(world.teams) - charged
    counted = {sample.labels[1] for page in (await named.view()).spend for sample in page.samples}
    assert counted == set(world.teams)


async def test_sources_that_report_no_teams_ask_for_none(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("models",), reach=SHORT, labels=LABELS) as bench:
        await bench.account.poll_names()
        assert calls(fal, TEAMS) == 0
        assert (await bench.view()).teams == ()


async def test_names_of_a_ledger_are_there_after_a_restart(fal: RunningSimulator, clock: Clock, tmp_path: Path) -> None:
    async with opened_bench(fal, clock, tmp_path, sources=("organization",), reach=SHORT, labels=LABELS) as bench:
        await bench.account.poll_current()
        await bench.account.poll_names()
        before = await bench.view()
    fal.simulator.faults.add(Fault("server_error"))
    async with opened_bench(fal, clock, tmp_path, sources=("organization",), reach=SHORT, labels=LABELS) as bench:
        after = await bench.view()
        assert (set(after.keys), after.teams) == (set(before.keys), before.teams)
        assert len(await bench.ledger.run(lambda ledger: ledger.names.key_labels())) == len(after.keys)
        assert await bench.known_of_month() > NANO / 1000
