"""Names end to end: metrics, REST, FOCUS, budgets and page call API keys, members and teams the same."""

import asyncio
import csv
import io
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal

import httpx
import pytest
from e2e.processes import parsed
from local_http import NO_TLS
from pydantic import SecretStr

from exporter.app.single_process import SingleProcess, in_one_process
from exporter.settings import Listen, Settings
from exporter.settings.entries import BudgetEntry
from exporter.simulator import ADMIN_KEY, DEFAULT_KEYS, Fault, Simulator, World, WorldSize, serving

NOW = datetime(2026, 11, 21, 14, 37, tzinfo=UTC)
LAST_HOUR = {"start": "2026-11-21T13:00Z", "end": "2026-11-21T14:00Z"}
LABELS = ("account", "team", "model", "api_key", "member")
KEYS = "/v1/keys"
Name = Literal["api_key", "member", "team"]


@dataclass
class Told:
    """An exporter that has read an organization, and the simulated fal behind it."""

    running: SingleProcess
    client: httpx.AsyncClient
    simulator: Simulator

    async def metrics(self) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
        return parsed((await self.client.get("/metrics")).text)

    async def gauge(self, name: Name) -> dict[str, Decimal]:
        samples = (await self.metrics())["fal_spend_last_hour_usd"]
        return summed((dict(labels).get(name, ""), Decimal(repr(value))) for labels, value in samples.items())

    async def rest(self, name: Name, **filters: str) -> dict[str, Decimal]:
        answer = await self.client.get("/v1/billing/usage", params={**LAST_HOUR, "group_by": name, **filters})
        assert answer.is_success, answer.text
        rows = json.loads(answer.text, parse_float=Decimal)["usage"]
        return summed((row[name] or "", Decimal(row["spend"])) for row in rows)

    async def focus(self, name: Name) -> dict[str, Decimal]:
        answer = await self.client.get("/v1/billing/focus", params={**LAST_HOUR, "timeframe": "hour"})
        assert answer.is_success, answer.text
        rows = csv.DictReader(io.StringIO(answer.text))
        return summed(
            (
                row["SubAccountId"] if name == "team" else json.loads(row["Tags"] or "{}").get(name, ""),
                Decimal(row["BilledCost"]),
            )
            for row in rows
        )

    async def agree(self, name: Name) -> dict[str, Decimal]:
        """Return what every view tells, having compared them with each other."""
        told = await self.gauge(name)
        assert await self.rest(name) == told
        assert await self.focus(name) == told
        return told

    def stated(self, dimension: str) -> dict[str, Decimal]:
        charges = self.simulator.statement(**LAST_HOUR, source="organization", group_by=dimension)["charges"]
        assert isinstance(charges, list)
        return summed((row[dimension] or "", Decimal(row["cost"])) for row in charges)

    async def poll(self, expected: str, name: Name = "api_key") -> None:
        """Have the names polled, and wait until one is published."""
        await self.running.half.accounts[0].poll_names()
        while expected not in {dict(labels).get(name) for labels in (await self.metrics())["fal_spend_last_hour_usd"]}:
            await self.next()

    async def next(self) -> None:
        """Wait for the next publication."""
        self.running.published.clear()
        await self.running.published.wait()


def summed(rows: Iterable[tuple[str, Decimal]]) -> dict[str, Decimal]:
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    for name, spend in rows:
        sums[name] += spend
    return {name: spend for name, spend in sums.items() if spend}


@pytest.fixture
async def told(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Told]:
    refused: tuple[tuple[str, int], ...] = getattr(request, "param", ())
    size = WorldSize(models=4, callers=2, apps=1, compute=0, teams=5, api_keys=3)
    simulator = Simulator(World(7, size, invoiced_months=1), lambda: NOW)
    simulator.keys = {ADMIN_KEY: replace(DEFAULT_KEYS[0], refused=refused)}
    async with serving(simulator) as fal:
        settings = Settings(
            key=SecretStr(ADMIN_KEY),
            sources=("organization",),
            labels=LABELS,
            history=timedelta(hours=16),
            platform_url=fal.platform_url,
            reporting_url=fal.reporting_url,
            listen=Listen("127.0.0.1", 0),
            mcp_listen=None,
            series_birth_hold=timedelta(0),
            ledger_url=SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
            budgets=(BudgetEntry(name="shop", amount=Decimal(1000), period="day", match={"api_key": ("web shop",)}),),
        )
        async with (
            in_one_process(settings, clock=lambda: NOW) as running,
            httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False, timeout=60) as client,
            asyncio.timeout(60),
        ):
            found = Told(running, client, simulator)
            await running.published.wait()
            while not {"fal_spend_last_hour_usd", "fal_budget_spend_usd"} <= (await found.metrics()).keys():
                await found.next()
            yield found


def by_alias(told: Told, stated: Mapping[str, Decimal], **renamed: str) -> dict[str, Decimal]:
    aliases = {key.id: key.detail for key in told.simulator.account.world.keys} | renamed
    return {aliases.get(key_id, key_id): spend for key_id, spend in stated.items()}


@pytest.mark.long
async def test_every_view_calls_keys_by_their_aliases_also_after_they_have_changed(told: Told) -> None:
    stated = told.stated("api_key")
    first, second, *_ = (key for key in told.simulator.account.world.keys if key.id in stated)
    assert await told.agree("api_key") == by_alias(told, stated)
    assert first.detail in (await told.client.get("/", headers={"accept": "text/html"})).text
    counted = sum((await told.metrics())["fal_spend_usd_total"].values())

    told.simulator.faults.add(Fault("key_alias", path=KEYS, of_key=first.id, alias="web shop"))
    await told.poll("web shop")
    renamed = await told.agree("api_key")
    assert renamed == by_alias(told, stated, **{first.id: "web shop"})
    assert await told.rest("api_key", api_key="web shop") == {"web shop": renamed["web shop"]}
    assert await told.rest("api_key", api_key=first.id) == {"web shop": renamed["web shop"]}
    scrape = await told.metrics()
    info = {dict(labels)["key_id"]: dict(labels) for labels in scrape["fal_api_key_info"]}
    assert (info[first.id]["alias"], info[first.id]["creator"]) == ("web shop", first.login)
    # A budget is about the alias; its hours are read anew before it is published.
    while not (await told.metrics())["fal_budget_spend_usd"][frozenset({("budget", "shop")})]:
        await told.next()
    assert sum(scrape["fal_spend_usd_total"].values()) <= counted
    page = (await told.client.get("/", headers={"accept": "text/html"})).text
    assert "web shop" in page
    assert first.detail not in page

    told.simulator.faults.clear()
    told.simulator.faults.add(Fault("key_alias", path=KEYS, of_key=first.id, alias=second.detail))
    await told.poll(f"{second.detail} ({first.id})")
    twice = {key.id: f"{second.detail} ({key.id})" for key in (first, second)}
    assert await told.agree("api_key") == by_alias(told, stated, **twice)


@pytest.mark.long
async def test_members_and_teams_agree_and_a_team_without_spend_is_at_zero(told: Told) -> None:
    logins = {key.id: key.login for key in told.simulator.account.world.keys}
    members: defaultdict[str, Decimal] = defaultdict(Decimal)
    for key_id, spend in told.stated("api_key").items():
        members[logins.get(key_id, "")] += spend
    assert await told.agree("member") == dict(members)
    assert await told.agree("team") == told.stated("team")
    world = told.simulator.account.world
    idle = next(team for team in world.teams if team not in told.stated("team"))
    await told.poll(idle, "team")
    scrape = await told.metrics()
    names = {dict(labels)["team"]: dict(labels)["name"] for labels in scrape["fal_team_info"]}
    assert names.keys() == set(world.teams)
    assert names[world.teams[1]] == world.teams[1].replace("-", " ").title()
    assert {dict(labels)["team"] for labels in scrape["fal_spend_last_hour_usd"]} == set(world.teams)


@pytest.mark.long
@pytest.mark.parametrize("told", [((KEYS, 403),)], indirect=True)
async def test_where_keys_may_not_be_listed_their_ids_are_shown_and_the_page_says_why(told: Told) -> None:
    assert await told.agree("api_key") == told.stated("api_key")
    scrape = await told.metrics()
    assert "fal_api_key_info" not in scrape
    assert scrape["fal_source_up"][frozenset({("account", "default"), ("source", "keys")})] == 1
    page = (await told.client.get("/", headers={"accept": "text/html"})).text
    assert "API keys are shown by their ids" in page
