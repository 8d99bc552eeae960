"""Windows that the ledger does not reach: REST and MCP tell what fal charged, exactly, and that fal was asked."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import httpx
import pytest
from e2e.test_agreement import NOW, SOURCES, Group, Span, added, utc
from local_http import NO_TLS
from mcp import Client
from pydantic import SecretStr

from exporter.app.single_process import in_one_process
from exporter.settings import Listen, Settings
from exporter.simulator import ADMIN_KEY, Fault, Simulator, World, WorldSize, serving

KNOWN_FROM = utc(11, 1, 22)
"""With the settings below, the ledger's first hour."""

LAST_MONTH = Span(utc(10, 1), utc(11, 1))
ACROSS = Span(utc(10, 29, 17), utc(11, 2, 3))
"""From before the ledger into it, cutting a month and days."""

Document = dict[str, Any]


class Asked(NamedTuple):
    """An exporter with a short history, and those who ask it."""

    simulator: Simulator
    client: httpx.AsyncClient
    agent: Client
    sources: tuple[str, ...]

    async def usage(self, **parameters: str) -> Document:
        """Return REST's answer, read exactly."""
        response = await self.client.get("/v1/billing/usage", params=parameters)
        assert response.is_success, response.text
        answer: Document = json.loads(response.text, parse_float=Decimal, parse_int=Decimal)
        return answer

    def stated(self, span: Span, measure: str = "cost") -> Mapping[Group, Decimal]:
        """Return what fal charges by model, app and hour, apart from all that the exporter does."""
        rows = []
        for source in self.sources:
            stated = self.simulator.statement(**span.parameters, source=source, group_by="model,app,hour")["charges"]
            assert isinstance(stated, list)
            rows += [((row["model"] or "", row["app"] or "", row["hour"]), Decimal(row[measure])) for row in stated]
        return added(rows)


@asynccontextmanager
async def asking(folder: Path, sources: tuple[str, ...] = SOURCES) -> AsyncIterator[Asked]:
    simulator = Simulator(World(23, WorldSize(models=3, callers=1, apps=2, compute=0, teams=1)), lambda: NOW)
    async with serving(simulator) as fal:
        settings = Settings(
            key=SecretStr(ADMIN_KEY),
            sources=sources,
            platform_url=fal.platform_url,
            reporting_url=fal.reporting_url,
            listen=Listen("127.0.0.1", 0),
            mcp_listen=Listen("127.0.0.1", 0),
            ledger_url=SecretStr(f"sqlite:///{folder / 'ledger.sqlite'}"),
            history=timedelta(hours=5),
            request_attempts=1,
        )
        async with (
            in_one_process(settings, clock=lambda: NOW) as running,
            httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False, timeout=60) as client,
            Client(running.mcp_url) as agent,
            asyncio.timeout(120),
        ):
            while running.latest is None or any(
                source.history_progress != 1
                for account in running.latest.overview.accounts
                for source in account.sources
            ):
                running.published.clear()
                await running.published.wait()
            yield Asked(simulator, client, agent, sources)


def by_period(stated: Mapping[Group, Decimal], every: str, zone: str) -> Mapping[Group, Decimal]:
    """Add up hours to the days and months of a zone."""
    local = ZoneInfo(zone)
    lengths = {"day": 10, "month": 7, "": 0}

    def period(hour: str) -> str:
        return hour if every == "hour" else utc_of(hour).astimezone(local).isoformat()[: lengths[every]]

    return added(((model, app, period(hour)), cost) for (model, app, hour), cost in stated.items())


def utc_of(hour: str) -> datetime:
    return datetime.fromisoformat(hour)


def rows_of(answer: Document, every: str) -> Mapping[Group, Decimal]:
    usage = answer["usage"]
    assert isinstance(usage, Iterable)
    return added(
        ((row["model"] or "", row["app"] or "", row[every] if every else ""), Decimal(row["spend"])) for row in usage
    )


WINDOWS = (
    (LAST_MONTH, "", "UTC"),
    (ACROSS, "", "UTC"),
    (ACROSS, "month", "Europe/Berlin"),
    (ACROSS, "day", "Europe/Berlin"),
    (ACROSS, "day", "Asia/Kolkata"),
    (ACROSS, "hour", "UTC"),
)


@pytest.mark.long
async def test_rest_and_mcp_tell_windows_from_before_the_ledger_to_the_nano_dollar_and_mark_it(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        for span, every, zone in WINDOWS:
            await check_window(asked, span, every, zone)


async def check_window(asked: Asked, span: Span, every: str, zone: str) -> None:
    truth = by_period(asked.stated(span), every, zone)
    group_by = ["model", "app", *([every] if every else [])]
    told = await asked.usage(**span.parameters, group_by=",".join(group_by), timezone=zone)
    assert rows_of(told, every) == truth
    assert sum(truth.values()) == told["total"]["spend"] > 0
    assert told["complete"] is True
    until = min(span.end, KNOWN_FROM)
    marked = {"account": "default", "start": f"{span.start:%Y-%m-%dT%H:%M:%SZ}", "end": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    assert [{name: part[name] for name in marked} for part in told["live"]] == [marked]
    assert any("is not from the ledger" in note for note in told["notes"])

    question = {**span.parameters, "group_by": group_by, "timezone": zone, "limit": 1000}
    result = await asked.agent.call_tool("fal-get-usage", question)
    assert not result.is_error, result.content
    rows = dict(rows_of(result.structured_content, every))
    while (cursor := result.structured_content["next_cursor"]) is not None:
        result = await asked.agent.call_tool("fal-get-usage", question | {"cursor": cursor})
        rows |= rows_of(result.structured_content, every)
    assert rows == truth
    assert result.structured_content["live"] == told["live"]
    assert "Asked of fal, not from the ledger: default" in result.content[0].text


async def the_ledgers_own_hours_are_never_asked_of_fal_unless_all_is_to_be_live(asked: Asked) -> None:
    known = Span(KNOWN_FROM, utc(11, 2, 3))
    told = await asked.usage(**known.parameters)
    assert (told["live"], told["complete"]) == ([], True)
    live = await asked.usage(**known.parameters, live="true")
    assert live["total"] == told["total"]
    assert [part["end"] for part in live["live"]] == ["2026-11-02T03:00:00Z"]
    running = await asked.usage(start="2026-11-02T00:00Z", end="2026-11-03T00:00Z", live="true")
    assert running["complete"] is False
    assert [part["end"] for part in running["live"]] == ["2026-11-02T04:00:00Z"]


async def without_fal_the_ledger_is_told_and_what_is_missing_and_answers_are_kept(asked: Asked) -> None:
    before = await asked.usage(**LAST_MONTH.parameters)
    asked.simulator.faults.add(Fault("server_error", path="/v1/serverless/usage"))
    assert await asked.usage(**LAST_MONTH.parameters) == before

    told = await asked.usage(**ACROSS.parameters)
    assert (told["complete"], told["live"]) == (False, [])
    assert 0 < told["total"]["spend"] < sum(asked.stated(ACROSS).values())
    assert any("did not answer: GET /serverless/usage" in note for note in told["notes"])
    silent = await asked.usage(**ACROSS.parameters, live="false")
    assert silent["total"] == told["total"]
    assert not any("did not answer" in note for note in silent["notes"])

    refused = await asked.client.get("/v1/billing/usage", params=ACROSS.parameters | {"live": "true"})
    assert refused.status_code == 503
    assert "GET /serverless/usage of account 'default' failed" in refused.json()["error"]["message"]
    result = await asked.agent.call_tool("fal-get-usage", ACROSS.parameters | {"live": "true"})
    assert result.is_error
    assert "GET /serverless/usage" in result.content[0].text


async def more_than_few_calls_are_refused_with_what_to_do(asked: Asked) -> None:
    years = {"start": "2020-01-01", "end": "2026-11-01", "group_by": "hour"}
    refused = await asked.client.get("/v1/billing/usage", params=years | {"live": "true"})
    assert refused.status_code == 400
    assert "ask for a shorter window" in refused.json()["error"]["message"]
    told = await asked.usage(**years)
    assert any("ask for a shorter window" in note for note in told["notes"])


async def test_the_number_of_requests_is_told_where_the_source_tells_it(tmp_path: Path) -> None:
    async with asking(tmp_path, ("reporting",)) as asked:
        for span in (Span(KNOWN_FROM, utc(11, 2, 3)), ACROSS):
            told = await asked.usage(**span.parameters, group_by="model,app")
            stated = added(((model, app), count) for (model, app, _), count in asked.stated(span, "requests").items())
            assert added(((row["model"] or "", row["app"] or ""), row["requests"]) for row in told["usage"]) == stated
            assert told["total"]["requests"] == sum(stated.values()) > 0
            assert told["total"]["spend"] == sum(asked.stated(span).values())


async def the_number_of_requests_is_null_where_the_source_does_not_tell_it(asked: Asked) -> None:
    told = await asked.usage(group_by="model")
    assert {row["requests"] for row in told["usage"]} == {told["total"]["requests"]} == {None}


async def a_list_may_be_given_as_repeats(asked: Asked) -> None:
    repeated = await asked.client.get("/v1/billing/usage?group_by=model&group_by=app&product=serverless&product=x")
    listed = await asked.client.get("/v1/billing/usage?group_by=model,app&product=serverless,x")
    assert repeated.json()["group_by"] == ["model", "app"]
    assert repeated.content == listed.content


async def test_what_is_asked_of_fal_and_what_is_told_without_it(tmp_path: Path) -> None:
    async with asking(tmp_path) as asked:
        await the_ledgers_own_hours_are_never_asked_of_fal_unless_all_is_to_be_live(asked)
        await the_number_of_requests_is_null_where_the_source_does_not_tell_it(asked)
        await a_list_may_be_given_as_repeats(asked)
        await more_than_few_calls_are_refused_with_what_to_do(asked)
        await without_fal_the_ledger_is_told_and_what_is_missing_and_answers_are_kept(asked)
