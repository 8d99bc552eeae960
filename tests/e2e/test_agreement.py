"""One truth: fal's own statement, `/metrics`, REST, MCP and the FOCUS file say the same, to the nano-dollar.

Each interface is a view: it tells what a window cost by groups, or None where it cannot tell that. To add an interface,
write its view and name it in VIEWS.
"""

import asyncio
import csv
import io
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest
from e2e.processes import Labels, parsed
from local_http import NO_TLS
from mcp import Client
from pydantic import SecretStr

from exporter.app.single_process import SingleProcess, in_one_process
from exporter.settings import Listen, Settings
from exporter.simulator import ADMIN_KEY, Simulator, World, WorldSize, serving

NOW = datetime(2026, 11, 2, 3, 20, tzinfo=UTC)
SOURCES = ("models", "serverless")

Group = tuple[str, ...]
Spend = Mapping[Group, Decimal]


@dataclass(frozen=True)
class Span:
    """Whole hours of UTC, and the gauge that tells them if there is one."""

    start: datetime
    end: datetime
    gauge: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        return {"start": f"{self.start:%Y-%m-%dT%H:%MZ}", "end": f"{self.end:%Y-%m-%dT%H:%MZ}"}


@dataclass(frozen=True)
class Compared:
    """An exporter that knows all that its simulated fal tells."""

    client: httpx.AsyncClient
    agent: Client
    scrape: Mapping[str, Mapping[Labels, float]]
    stated: Mapping[Span, list[dict[str, str]]]
    files: Mapping[Span, list[dict[str, str]]]


View = Callable[[Compared, Span, Group], Awaitable[Spend | None]]


def utc(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


SPANS = {
    "last month": Span(utc(10, 1), utc(11, 1), "fal_spend_last_month_usd"),
    "month to date": Span(utc(11, 1), utc(11, 2, 4), "fal_spend_month_to_date_usd"),
    "today": Span(utc(11, 2), utc(11, 2, 4), "fal_spend_today_usd"),
    "last hour": Span(utc(11, 2, 2), utc(11, 2, 3), "fal_spend_last_hour_usd"),
    "from within a day to within another": Span(utc(10, 29, 17), utc(11, 1, 5)),
}
GROUPINGS: tuple[Group, ...] = (
    (),
    ("product",),
    ("model",),
    ("app", "gpu_class"),
    ("account", "model", "gpu_class"),
    ("day",),
    ("product", "day"),
    ("month",),
    ("model", "hour"),
)
QUICKLY = tuple(
    (span, GROUPINGS[(place + step) % len(GROUPINGS)]) for place, span in enumerate(SPANS) for step in (0, 2, 4, 7)
)
"""A part of all questions: four groupings of each span, in which each grouping is asked for at least twice."""


def added(rows: Iterable[tuple[Group, Decimal]]) -> Spend:
    sums: defaultdict[Group, Decimal] = defaultdict(Decimal)
    for group, spend in rows:
        sums[group] += spend
    return {group: spend for group, spend in sums.items() if spend}


def cells(group_by: Group, found: Mapping[str, str | None], hour: str = "") -> Group:
    """Return a row's group; `hour` is the start of its hour, day or month as ISO 8601."""
    times = {"hour": hour, "day": hour[:10], "month": hour[:7], "account": "default"}
    return tuple(times[name] if name in times else found.get(name) or "" for name in group_by)


def statement(simulator: Simulator, span: Span) -> list[dict[str, str]]:
    """Return the rows of fal's statement, by all that is compared."""
    dimensions = "hour,product,model,app,gpu_class,unit"
    rows: list[dict[str, str]] = []
    for source in SOURCES:
        charges = simulator.statement(**span.parameters, source=source, group_by=dimensions)["charges"]
        assert isinstance(charges, list)
        rows += charges
    return rows


async def focus_file(client: httpx.AsyncClient, span: Span) -> list[dict[str, str]]:
    response = await client.get("/v1/billing/focus", params=span.parameters | {"timeframe": "hour"})
    assert response.is_success, response.text
    return list(csv.DictReader(io.StringIO(response.text)))


async def by_statement(compared: Compared, span: Span, group_by: Group) -> Spend:
    """Return what fal itself charges, apart from all that the exporter does."""
    stated = compared.stated[span]
    return added((cells(group_by, row, row["hour"]), Decimal(row["cost"])) for row in stated)


async def by_metrics(compared: Compared, span: Span, group_by: Group) -> Spend | None:
    if not span.gauge or {"hour", "day", "month"} & set(group_by):
        return None
    samples = compared.scrape[span.gauge]
    return added((cells(group_by, dict(labels)), Decimal(repr(value))) for labels, value in samples.items())


async def by_rest(compared: Compared, span: Span, group_by: Group) -> Spend:
    answer = await asked(compared, span, group_by)
    assert answer["complete"] == (span.end <= NOW)
    usage = answer["usage"]
    assert isinstance(usage, list)
    return added(
        (cells(group_by, row, row.get("hour") or row.get("day") or row.get("month", "")), row["spend"]) for row in usage
    )


async def by_focus(compared: Compared, span: Span, group_by: Group) -> Spend | None:
    if "app" in group_by:
        return None
    rows = []
    for row in compared.files[span]:
        found = {
            "product": row["x_FalProduct"],
            "gpu_class": row["x_GpuClass"],
            "model": row["SkuId"] if row["x_FalProduct"] == "model_apis" else "",
        }
        assert row["BillingAccountId"] == "default"
        rows.append((cells(group_by, found, row["ChargePeriodStart"]), Decimal(row["BilledCost"])))
    return added(rows)


async def by_mcp(compared: Compared, span: Span, group_by: Group) -> Spend:
    question: dict[str, object] = {**span.parameters, "group_by": list(group_by) or None, "limit": 1000}
    rows = []
    while True:
        result = await compared.agent.call_tool("fal-get-usage", question)
        assert not result.is_error, result.content
        answer = result.structured_content
        assert answer["complete"] == (span.end <= NOW)
        for row in answer["usage"]:
            at = row.get("hour") or row.get("day") or row.get("month", "")
            rows.append((cells(group_by, row, at), Decimal(row["spend"])))
        question["cursor"] = answer["next_cursor"]
        if question["cursor"] is None:
            break
    assert sum(spend for _, spend in rows) == Decimal(answer["total"]["spend"])
    return added(rows)


VIEWS: Mapping[str, View] = {
    "/metrics": by_metrics,
    "REST": by_rest,
    "FOCUS": by_focus,
    "MCP": by_mcp,
}


async def asked(compared: Compared, span: Span, group_by: Group) -> dict[str, object]:
    """Return REST's answer, read exactly."""
    parameters = span.parameters | ({"group_by": ",".join(group_by)} if group_by else {})
    response = await compared.client.get("/v1/billing/usage", params=parameters)
    assert response.is_success, response.text
    answer: dict[str, object] = json.loads(response.text, parse_float=Decimal, parse_int=Decimal)
    return answer


async def loaded(running: SingleProcess) -> None:
    """Wait until everything is known that fal tells now."""
    while True:
        latest = running.latest
        sources = (
            [] if latest is None else [source for account in latest.overview.accounts for source in account.sources]
        )
        if len(sources) >= len(SOURCES) and all(
            source.history_progress == 1 for source in sources if source.name in SOURCES
        ):
            return
        running.published.clear()
        await running.published.wait()


EVERYTHING = tuple((span, group_by) for span in SPANS for group_by in GROUPINGS)


def test_each_span_and_each_grouping_is_among_the_quick_questions() -> None:
    assert {span for span, _ in QUICKLY} == set(SPANS)
    assert all(sum(asked == group_by for _, asked in QUICKLY) >= 2 for group_by in GROUPINGS)


@pytest.mark.parametrize(
    "questions", [pytest.param(QUICKLY, id="some"), pytest.param(EVERYTHING, id="all", marks=pytest.mark.long)]
)
async def test_every_view_tells_what_fal_charges(tmp_path: Path, questions: Sequence[tuple[str, Group]]) -> None:
    simulator = Simulator(World(23, WorldSize(models=3, callers=1, apps=2, compute=0, teams=1)), lambda: NOW)
    async with serving(simulator) as fal:
        settings = Settings(
            key=SecretStr(ADMIN_KEY),
            sources=SOURCES,
            platform_url=fal.platform_url,
            reporting_url=fal.reporting_url,
            listen=Listen("127.0.0.1", 0),
            mcp_listen=Listen("127.0.0.1", 0),
            ledger_url=SecretStr(f"sqlite:///{tmp_path / 'ledger.sqlite'}"),
        )
        async with (
            in_one_process(settings, clock=lambda: NOW) as running,
            httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False, timeout=60) as client,
            Client(running.mcp_url) as agent,
            asyncio.timeout(120),
        ):
            await loaded(running)
            compared = Compared(
                client,
                agent,
                scrape=parsed((await client.get("/metrics")).text),
                stated={span: statement(simulator, span) for span in SPANS.values()},
                files={span: await focus_file(client, span) for span in SPANS.values()},
            )
            differing = [
                f"{name}, {span_name} by {group_by}: {told} instead of {truth}"
                for span_name, group_by in questions
                for span in [SPANS[span_name]]
                for truth in [await by_statement(compared, span, group_by)]
                for name, view in VIEWS.items()
                for told in [await view(compared, span, group_by)]
                if told is not None and told != truth
            ]
            assert not differing, "\n".join(differing)
            await the_sums_of_rest_are_fals_too(compared, SPANS["last month"])


def _unit(row: dict[str, str]) -> str:
    """Return the unit as REST tells it: a second of a machine is not one of a video."""
    is_machine = row["product"] in {"serverless", "compute"} and row["unit"] == "second"
    return "machine_second" if is_machine else row["unit"]


async def the_sums_of_rest_are_fals_too(compared: Compared, span: Span) -> None:
    """Compare what only REST and the statement tell: GPU time, discounts and quantities."""
    stated = compared.stated[span]
    total = (await asked(compared, span, ()))["total"]
    assert isinstance(total, dict)
    for ours, theirs in (("gpu_seconds", "gpu_seconds"), ("list_cost", "list_cost"), ("discount", "discount")):
        assert total[ours] == sum(Decimal(row[theirs]) for row in stated)
    quantities = added(((_unit(row),), Decimal(row["quantity"])) for row in stated)
    assert total["quantities"] == {unit: quantity for (unit,), quantity in quantities.items()}
    assert total["discount"] > 0
