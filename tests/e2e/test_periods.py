"""The same period for all: gauges, budgets, REST, agents, page and chart at instants where calendars are unusual.

The truth is fal's own statement of the hours whose local date lies in the same period as that of the running hour; they
are counted here hour by hour.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
from e2e.processes import parsed
from e2e.test_agreement import SOURCES, loaded
from local_http import NO_TLS
from mcp import Client
from pydantic import SecretStr

from exporter.app.single_process import SingleProcess, in_one_process
from exporter.charges import HOUR, NANO, Window, hour_of, nano
from exporter.forecasting.budgets import Period
from exporter.publication import Publication
from exporter.settings import Listen, Settings
from exporter.settings.entries import BudgetEntry
from exporter.simulator import ADMIN_KEY, Simulator, World, WorldSize, serving
from exporter.web.pages.formatting import dollars

PERIODS: dict[Period, Callable[[date], object]] = {
    "day": lambda day: day,
    "week": lambda day: day.isocalendar()[:2],
    "month": lambda day: (day.year, day.month),
}
"""The key that the days of one period have in common."""

INSTANTS = {
    "summer time ends in this day of 25 hours": ("Europe/Berlin", "2026-10-25T22:30"),
    "the first hour of a month after summer time": ("Europe/Berlin", "2026-10-31T23:05"),
    "the last hour of a year": ("America/Sao_Paulo", "2027-01-01T02:59"),
    "the first hour of a year": ("America/Sao_Paulo", "2027-01-01T03:01"),
    "after midnight, in an hour that began before it": ("Asia/Kathmandu", "2026-11-20T18:40"),
    "after the month has turned, in an hour that began before it": ("Asia/Kathmandu", "2026-11-30T18:30"),
    "the first hour that begins on a day at a quarter to": ("Asia/Kathmandu", "2026-11-20T19:00"),
    "a day ahead of UTC": ("Pacific/Apia", "2026-11-30T11:30"),
    "summer time of half an hour ends": ("Australia/Lord_Howe", "2027-04-04T13:45"),
    "summer time of half an hour begins": ("Australia/Lord_Howe", "2026-10-03T23:10"),
    "midnight comes twice": ("America/Havana", "2026-11-01T05:20"),
    "a leap day": ("UTC", "2028-02-29T23:30"),
    "the end of a month of 28 days": ("America/New_York", "2027-03-01T04:30"),
}
QUICKLY = (
    "summer time of half an hour ends",
    "after the month has turned, in an hour that began before it",
    "a leap day",
)


@dataclass(frozen=True)
class Truth:
    """A period's hours so far and its hours in all, and what fal charges for them in nano-USD."""

    so_far: Window
    window: Window
    cost: int


def hours_like(now: datetime, zone: ZoneInfo, period: Period) -> Window:
    """Return the hours whose local dates lie in the period of the running hour's."""
    kind = PERIODS[period]
    running = hour_of(now)
    within = kind(running.astimezone(zone).date())
    around = (running + step * HOUR for step in range(-24 * 32, 24 * 32))
    hours = [hour for hour in around if kind(hour.astimezone(zone).date()) == within]
    return Window(hours[0], hours[-1] + HOUR)


def truth_of(simulator: Simulator, now: datetime, zone: ZoneInfo, period: Period) -> Truth:
    window = hours_like(now, zone, period)
    so_far = Window(window.start, hour_of(now) + HOUR)
    cost = 0
    for source in SOURCES:
        stated = simulator.statement(start=so_far.start.isoformat(), end=so_far.end.isoformat(), source=source)
        charges = stated["charges"]
        assert isinstance(charges, list)
        cost += sum(nano(Decimal(row["cost"])) for row in charges)
    return Truth(so_far, window, cost)


async def published(running: SingleProcess, truths: Mapping[Period, Truth]) -> Publication:
    """Wait for what is published last: budgets are summed after their hours have been loaded, some at once."""
    await loaded(running)
    expected: dict[str, int | None] = {period: truth.cost for period, truth in truths.items()}
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while (latest := running.latest) is None or {
                one.budget: one.spend for one in latest.outlook.budgets
            } != expected:
                running.published.clear()
                await running.published.wait()
    assert running.latest is not None
    return running.latest


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICKLY else pytest.mark.long) for name in INSTANTS]
)
async def test_every_room_has_the_same_hours_in_a_period_and_the_same_spend(tmp_path: Path, name: str) -> None:
    zone_name, at = INSTANTS[name]
    now, zone = datetime.fromisoformat(at).replace(tzinfo=UTC), ZoneInfo(zone_name)
    simulator = Simulator(World(23, WorldSize(models=2, callers=1, apps=1, compute=0, teams=1)), lambda: now)
    truths = {period: truth_of(simulator, now, zone, period) for period in PERIODS}
    async with serving(simulator) as fal:
        settings = Settings(
            key=SecretStr(ADMIN_KEY),
            sources=SOURCES,
            platform_url=fal.platform_url,
            reporting_url=fal.reporting_url,
            listen=Listen("127.0.0.1", 0),
            mcp_listen=Listen("127.0.0.1", 0),
            ledger_url=SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
            timezone=zone,
            budgets=tuple(
                # A nano-dollar less than is spent: exceeded, by the least there is.
                BudgetEntry(name=period, amount=Decimal(max(truth.cost - 1, 1)) / NANO, period=period)
                for period, truth in truths.items()
            ),
        )
        async with (
            in_one_process(settings, clock=lambda: now) as running,
            httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False, timeout=60) as client,
            Client(running.mcp_url) as agent,
            asyncio.timeout(120),
        ):
            publication = await published(running, truths)
            scrape = parsed((await client.get("/metrics")).text)
            stated = json.loads((await client.get("/v1/billing/budgets")).text, parse_float=Decimal)["budgets"]
            told = (await agent.call_tool("fal-get-budgets", {})).structured_content["budgets"]
            page = (await client.get("/", headers={"accept": "text/plain"})).text
            by_budget = {row["budget"]: row for row in stated}
            by_agent = {row["budget"]: row for row in told}
            for period, truth in truths.items():
                spend, labels = Decimal(truth.cost) / NANO, frozenset({("budget", period)})
                assert Decimal(repr(scrape["fal_budget_spend_usd"][labels])) == spend
                for edge, metric in (("start", truth.window.start), ("end", truth.window.end)):
                    assert scrape[f"fal_budget_period_{edge}_timestamp_seconds"][labels] == metric.timestamp()
                    assert datetime.fromisoformat(by_budget[period][edge]) == metric
                    assert datetime.fromisoformat(by_agent[period][edge]) == metric
                assert by_budget[period]["spend"] == spend
                assert Decimal(by_agent[period]["spend"]) == spend
                assert (f"Budget {period}: Exceeded by $0.0000: {dollars(truth.cost)} of" in page) == (truth.cost > 1)
                assert await by_rest(client, truth.so_far, zone, "") == spend
            gauges: tuple[tuple[Period, str, str], ...] = (
                ("day", "fal_spend_today_usd", "Today"),
                ("month", "fal_spend_month_to_date_usd", "Month to date"),
            )
            for period, gauge, title in gauges:
                truth = truths[period]
                assert sum(Decimal(repr(value)) for value in scrape[gauge].values()) == Decimal(truth.cost) / NANO
                assert f"{title:<16}{dollars(truth.cost):>14}" in page
                assert await by_rest(client, truth.so_far, zone, period) == Decimal(truth.cost) / NANO
            daily = publication.overview.daily
            assert daily is not None
            assert daily.days[-1] == hour_of(now).astimezone(zone).date()
            assert sum(amounts[-1] for _, amounts in daily.products) == truths["day"].cost


async def by_rest(client: httpx.AsyncClient, window: Window, zone: ZoneInfo, group_by: str) -> Decimal:
    """Return the spend of a window that lies in one day or month, by which it has at most one row."""
    parameters = {"start": window.start.isoformat(), "end": window.end.isoformat(), "timezone": zone.key}
    response = await client.get("/v1/billing/usage", params=parameters | ({"group_by": group_by} if group_by else {}))
    assert response.is_success, response.text
    rows = json.loads(response.text, parse_float=Decimal, parse_int=Decimal)["usage"]
    assert len(rows) <= 1
    return sum((row["spend"] for row in rows), Decimal())


@pytest.mark.parametrize("name", INSTANTS)
def test_the_hours_counted_here_hold_the_running_one(name: str) -> None:
    zone, at = INSTANTS[name]
    now = datetime.fromisoformat(at).replace(tzinfo=UTC)
    for period in PERIODS:
        window = hours_like(now, ZoneInfo(zone), period)
        assert window.start <= now < window.end
        assert window.end - window.start <= timedelta(days=31, hours=1)
