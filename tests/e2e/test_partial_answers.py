"""Never wrong because an answer was partial: a figure is whole and true, or absent, or says what it lacks.

Each test puts an exporter, all of it in this process, beside a simulated fal that answers in part, and compares
`/metrics`, REST, MCP, the landing page and `check` with fal's own statement. Sections are by what is partial.
"""

import asyncio
import csv
import io
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape as html_unescape
from operator import itemgetter
from pathlib import Path

import httpx
import pytest
import structlog
from e2e.processes import Exporter as Process
from e2e.processes import Fal, Labels, exporter_of, parsed, wait_until
from local_http import NO_TLS
from mcp import Client
from pydantic import SecretStr
from structlog.typing import EventDict

from exporter.app.single_process import SingleProcess, in_one_process
from exporter.charges import NANO, nano, utc_now
from exporter.cli import main
from exporter.errors import ConfigurationError
from exporter.ledger import Ledger, Rules
from exporter.overview import SourceOverview
from exporter.publication import Publication
from exporter.settings import Listen, Settings
from exporter.simulator import (
    ADMIN_KEY,
    Fault,
    GlitchedJob,
    Key,
    PlantedRelabelling,
    PlantedSpend,
    RunningSimulator,
    Simulator,
    World,
    WorldSize,
    serving,
)
from exporter.simulator.interfaces import billing
from exporter.simulator.world.account import Invoice as InvoiceRow

NOW = datetime(2026, 11, 2, 3, 20, tzinfo=UTC)
OCTOBER = {"start": "2026-10-01T00:00Z", "end": "2026-11-01T00:00Z"}
SECOND_KEY = "second-id:00000000000000000000000000000004"


@dataclass
class Exporter:
    """An exporter at work, and its views."""

    running: SingleProcess
    client: httpx.AsyncClient
    logs: list[EventDict]

    async def until(self, condition: Callable[[Publication], bool]) -> Publication:
        """Return the first publication for which a condition holds."""
        while True:
            latest = self.running.latest
            if latest is not None and condition(latest):
                return latest
            self.running.published.clear()
            await self.running.published.wait()

    async def loaded(self, *sources: str) -> None:
        """Wait until the history of some sources of every account is there."""

        def is_loaded(publication: Publication) -> bool:
            found = [
                source
                for account in publication.overview.accounts
                for source in account.sources
                if source.name in sources
            ]
            return len(found) == len(sources) and all(item.history_progress == 1 for item in found)

        await self.until(is_loaded)

    async def republished(self) -> None:
        """Wait until everything is published that is so by now."""
        for _ in range(2):  # the next publication may already be under way
            sequence = (await self.until(lambda _: True)).sequence
            await self.running.half.accounts[0].poll_balance()
            await self.until(lambda latest, before=sequence: latest.sequence > before)

    async def metrics(self) -> Mapping[str, Mapping[Labels, float]]:
        return parsed((await self.client.get("/metrics")).text)

    async def page(self) -> str:
        """Return the text of the landing page."""
        return (await self.client.get("/")).text

    async def month(self) -> Mapping[str, Decimal]:
        """Return what October has cost by each of the exporter's views."""
        answer = (await self.client.get("/v1/billing/usage", params=OCTOBER)).text
        rest = json.loads(answer, parse_float=Decimal, parse_int=Decimal)
        assert rest["complete"]
        async with Client(self.running.mcp_url) as agent:
            told = await agent.call_tool("fal-get-usage", OCTOBER)
        assert not told.is_error, told.content
        gauge = (await self.metrics())["fal_spend_last_month_usd"].values()
        latest = await self.until(lambda _: True)
        (account,) = latest.overview.accounts
        return {
            "metrics": sum((Decimal(repr(value)) for value in gauge), Decimal()).quantize(Decimal("1E-9")),
            "REST": rest["total"]["spend"],
            "MCP": Decimal(told.structured_content["total"]["spend"]),
            "page": Decimal(account.last_month or 0).scaleb(-9),
        }

    def told(self, event: str) -> list[EventDict]:
        return [entry for entry in self.logs if entry["event"] == event]


@dataclass
class Scene:
    """A simulated fal whose clock is moved by hand, and a folder with the ledger of all exporters that poll it."""

    fal: RunningSimulator
    folder: Path
    at: list[datetime]
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def simulator(self) -> Simulator:
        return self.fal.simulator

    def forward(self, **by: float) -> None:
        self.at.append(self.at[-1] + timedelta(**by))

    def sees(self, *keys: Key) -> None:
        """Let fal accept these keys, with what each may read."""
        self.simulator.keys = {key.text: key for key in keys}

    def truth(self, source: str = "", **parameters: str) -> Decimal:
        """Return what fal charges, in October unless told otherwise."""
        return Decimal(str(self.simulator.statement(**(OCTOBER | parameters), source=source)["cost"]))

    @asynccontextmanager
    async def exporter(self, **settings: object) -> AsyncIterator[Exporter]:
        chosen: dict[str, object] = {
            "key": SecretStr(ADMIN_KEY),
            "platform_url": self.fal.platform_url,
            "reporting_url": self.fal.reporting_url,
            "listen": Listen("127.0.0.1", 0),
            "mcp_listen": Listen("127.0.0.1", 0),
            "series_birth_hold": timedelta(0),
            "ledger_url": SecretStr(f"sqlite:///{self.folder / 'ledger.sqlite'}"),
            "request_attempts": 1,
        }
        if "entries" in settings:
            del chosen["key"]
        made = Settings.model_validate(chosen | self.settings | settings)
        with structlog.testing.capture_logs() as logs:
            async with (
                in_one_process(made, clock=lambda: self.at[-1]) as running,
                httpx.AsyncClient(verify=NO_TLS, base_url=running.url, trust_env=False, timeout=60) as client,
                asyncio.timeout(120),
            ):
                yield Exporter(running, client, logs)

    async def check(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
    ) -> tuple[int, str]:
        """Return the exit code and the output of `fal-exporter check`."""
        for name, value in {
            "FAL_KEY": ADMIN_KEY,
            "FAL_EXPORTER_PLATFORM_URL": self.fal.platform_url,
            "FAL_EXPORTER_REPORTING_URL": self.fal.reporting_url,
            "FAL_EXPORTER_LEDGER_URL": f"sqlite:///{self.folder / 'ledger.sqlite'}",
            "FAL_EXPORTER_REQUEST_ATTEMPTS": "1",
            "FAL_EXPORTER_LISTEN": "127.0.0.1:0",
            "FAL_EXPORTER_MCP_LISTEN": "off",
        }.items():
            monkeypatch.setenv(name, value)
        # The command goes by the system's clock.
        self.fal.simulator.date_clock = utc_now
        code = await asyncio.to_thread(main, ["check", *arguments])
        return code, capsys.readouterr().out


@asynccontextmanager
async def scene_of(folder: Path, *, teams: int = 1, compute: int = 2) -> AsyncIterator[Scene]:
    world = World(23, WorldSize(models=3, callers=1, apps=2, compute=compute, teams=teams), invoiced_months=1)
    at = [NOW]
    async with serving(Simulator(world, lambda: at[-1])) as fal:
        yield Scene(fal, folder, at)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A fal of one team that rents compute machines."""
    async with scene_of(tmp_path) as made:
        yield made


def only(samples: Mapping[Labels, float], label: str) -> dict[str, float]:
    """Return samples by the value of one label."""
    return {dict(labels)[label]: value for labels, value in samples.items()}


async def counted(exporter: Exporter) -> float:
    """Return the sum of the counters, once a scrape has seen those that are new."""
    await exporter.metrics()
    await exporter.republished()
    return sum((await exporter.metrics())["fal_spend_usd_total"].values())


# --- Hours that are not all there ------------------------------------------------------------------------------------

ALL_SOURCES = "models,serverless,compute"
WINDOWS = {
    "fal_spend_current_hour_usd": "current_hour",
    "fal_spend_last_hour_usd": "last_hour",
    "fal_spend_today_usd": "today",
    "fal_spend_last_day_usd": "last_day",
    "fal_spend_month_to_date_usd": "month_to_date",
    "fal_spend_last_month_usd": "last_month",
}


async def agree(scene: Scene, exporter: Exporter, hours: Mapping[str, tuple[int, datetime, datetime]]) -> None:
    """Compare every view of every window with fal's statement.

    Args:
        scene: with the statement.
        exporter: whose views they are.
        hours: of each window how many of its hours that are over are covered, and its start and end.
    """
    metrics = await exporter.metrics()
    ratios = only(metrics["fal_window_coverage_ratio"], "window")
    overview = (await exporter.until(lambda _: True)).overview.accounts[0]
    running = scene.at[-1].replace(minute=0, second=0, microsecond=0)
    for family, window in WINDOWS.items():
        covered, start, end = hours[window]
        over = (min(end, running) - start) // timedelta(hours=1)
        assert ratios[window] == (covered / over if over else 1), window
        stated = scene.truth(start=f"{start:%Y-%m-%dT%HZ}", end=f"{end:%Y-%m-%dT%HZ}")
        if covered < over:
            assert family not in metrics, window
            assert window in overview.gaps
        else:
            assert sum(metrics[family].values()) == pytest.approx(float(stated), abs=1e-9), window
        if window != "last_day":  # which the page does not show
            amount = getattr(overview, window)
            assert (amount if amount is None else Decimal(amount).scaleb(-9)) == (None if covered < over else stated)
        if over:
            asked = {"start": f"{start:%Y-%m-%dT%H:00Z}", "end": f"{min(end, running):%Y-%m-%dT%H:00Z}"}
            answers = []
            async with Client(exporter.running.mcp_url) as agent:
                for live in ("false", "auto"):
                    rest = await exporter.client.get("/v1/billing/usage", params=asked | {"live": live})
                    told = await agent.call_tool("fal-get-usage", asked | {"live": live})
                    answers.append((json.loads(rest.text, parse_float=Decimal), told.structured_content))
            (of_ledger, told_of_ledger), (of_both, told_of_both) = answers
            assert of_ledger["complete"] == told_of_ledger["complete"] == (covered == over), window
            # What fal answers in place of the ledger is whole only where it is what fal charges.
            assert of_both["complete"] == told_of_both["complete"] >= of_ledger["complete"], window
            if of_both["complete"]:
                assert Decimal(of_both["total"]["spend"]) == scene.truth(**asked), window


@pytest.mark.long
async def test_windows_are_absent_until_their_history_is_loaded_and_every_view_says_so(scene: Scene) -> None:
    fault = Fault("server_error", path="/v1/models/usage", query="start=2026-10-1*")
    scene.simulator.faults.add(fault)
    hours = {
        "current_hour": (0, utc(11, 2, 3), utc(11, 2, 4)),
        "last_hour": (1, utc(11, 2, 2), utc(11, 2, 3)),
        "today": (3, utc(11, 2), utc(11, 3)),
        "last_day": (23, utc(11, 1, 4), utc(11, 2, 4)),
        "month_to_date": (27, utc(11, 1), utc(12, 1)),
        "last_month": (12 * 24 - 2, utc(10, 1), utc(11, 1)),
    }
    async with scene.exporter(sources=ALL_SOURCES) as exporter:
        await exporter.loaded("serverless", "compute")
        await exporter.until(lambda item: item.overview.accounts[0].sources[0].state == "failing")
        await exporter.republished()
        await agree(scene, exporter, hours)
        page = await exporter.page()
        assert "Last month <strong>loading, 38%" in page
        assert 'Month to date</h2><p class="amount">$' in page

        scene.simulator.faults.clear()
        await exporter.running.half.accounts[0].load_history()
        await exporter.republished()
        await agree(scene, exporter, hours | {"last_month": (31 * 24, utc(10, 1), utc(11, 1))})
        assert await exporter.month() == dict.fromkeys(("metrics", "REST", "MCP", "page"), scene.truth())


@pytest.mark.long
async def test_a_history_that_is_shorter_than_a_window_never_fills_it_and_says_since_when(scene: Scene) -> None:
    scene.forward(days=18)
    hours = {
        "current_hour": (0, utc(11, 20, 3), utc(11, 20, 4)),
        "last_hour": (1, utc(11, 20, 2), utc(11, 20, 3)),
        "today": (3, utc(11, 20), utc(11, 21)),
        "last_day": (23, utc(11, 19, 4), utc(11, 20, 4)),
        "month_to_date": (240, utc(11, 1), utc(12, 1)),
        "last_month": (0, utc(10, 1), utc(11, 1)),
    }
    async with scene.exporter(sources=ALL_SOURCES, history="10d") as exporter:
        await exporter.loaded(*ALL_SOURCES.split(","))
        (account,) = exporter.running.half.accounts
        for poll in (account.poll_recent, account.poll_deep, account.poll_months):
            await poll()
        await exporter.republished()
        await agree(scene, exporter, hours)
        page = await exporter.page()
        assert 'Month to date</h2><p class="amount">known since 10 Nov' in page
        assert "Last month <strong>known since 10 Nov" in page
        assert "<small>this month, known since 10 Nov</small>" in page
        assert "4 of 14 days not fully loaded" in page

    # The whole months are there once the setting asks for them.
    whole = {"month_to_date": (19 * 24 + 3, utc(11, 1), utc(12, 1)), "last_month": (31 * 24, utc(10, 1), utc(11, 1))}
    async with scene.exporter(sources=ALL_SOURCES) as exporter:
        await exporter.loaded(*ALL_SOURCES.split(","))
        await exporter.republished()
        await agree(scene, exporter, hours | whole)


@pytest.mark.long
async def test_windows_of_a_source_that_fails_go_once_its_hours_are_missing_and_come_back(scene: Scene) -> None:
    async with scene.exporter(sources=ALL_SOURCES) as exporter:
        await exporter.loaded(*ALL_SOURCES.split(","))
        (account,) = exporter.running.half.accounts
        await account.poll_current()
        await exporter.republished()
        counters = sum((await exporter.metrics())["fal_spend_usd_total"].values())
        scene.simulator.faults.add(Fault("server_error", path="/v1/serverless/usage"))
        scene.forward(minutes=61)
        await account.poll_current()
        await exporter.republished()
        metrics = await exporter.metrics()
        ratios = only(metrics["fal_window_coverage_ratio"], "window")
        # The running hour had been read 61 minutes ago; four poll intervals are 20.
        assert ratios == {
            "current_hour": 0,
            "last_hour": 0,
            "today": 3 / 4,
            "last_day": 22 / 23,
            "month_to_date": 27 / 28,
            "last_month": 1,
        }
        assert metrics.keys() & WINDOWS.keys() == {"fal_spend_last_month_usd"}
        page = await exporter.page()
        assert page.count("read until 2026-11-02 03:00 UTC") >= 4
        assert sum(metrics["fal_spend_usd_total"].values()) >= counters

        scene.simulator.faults.clear()
        await account.poll_current()
        await exporter.republished()
        hours = {
            "current_hour": (0, utc(11, 2, 4), utc(11, 2, 5)),
            "last_hour": (1, utc(11, 2, 3), utc(11, 2, 4)),
            "today": (4, utc(11, 2), utc(11, 3)),
            "last_day": (23, utc(11, 1, 5), utc(11, 2, 5)),
            "month_to_date": (28, utc(11, 1), utc(12, 1)),
            "last_month": (31 * 24, utc(10, 1), utc(11, 1)),
        }
        await agree(scene, exporter, hours)


def utc(month: int, day: int, hour: int = 0) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


# --- A key that may read less than all ------------------------------------------------------------------------------

COVERED_BY_AUTO = [
    pytest.param(1, False, ("models", "serverless", "compute"), id="one team"),
    pytest.param(3, True, ("organization",), id="several teams"),
]


@pytest.mark.parametrize(("teams", "own_only", "sources"), COVERED_BY_AUTO)
@pytest.mark.long
async def test_auto_equals_the_invoice_with_an_admin_key_of_the_root_team(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    teams: int,
    sources: tuple[str, ...],
    *,
    own_only: bool,
) -> None:
    async with scene_of(tmp_path, teams=teams) as scene:
        scene.sees(Key(ADMIN_KEY, own_only=own_only))
        async with scene.exporter() as exporter:
            await exporter.loaded(*sources)
            (account,) = exporter.running.half.accounts
            await account.poll_invoices()
            await account.poll_reconciliation()
            await account.poll_recent()
            await exporter.republished()
            truth = scene.truth()
            assert scene.truth("compute") > truth / 20, "compute is a share of the bill that would be missed"
            assert await exporter.month() == dict.fromkeys(("metrics", "REST", "MCP", "page"), truth)
            metrics = await exporter.metrics()
            against = {
                (dict(labels)["against"], dict(labels)["period"]): value
                for labels, value in metrics["fal_reconciliation_difference_usd"].items()
            }
            assert against["invoice", "last_month"] == pytest.approx(0, abs=0.005)
            differences = only(metrics["fal_source_difference_usd"], "product")
            assert differences == {"compute": 0, "model_apis": 0, "serverless": 0}
            assert set(only(metrics["fal_source_available"], "source").values()) == {0}
            page = await exporter.page()
        limits = "The source organization reports neither list prices, discounts nor surge prices."
        assert (limits in page) == (teams > 1)
        assert "are not in these figures" not in page
        _, output = await scene.check(monkeypatch, capsys)
        assert f"polls {', '.join(sources)} (chosen earlier" in output
        assert (limits in output) == (teams > 1)


@pytest.mark.long
async def test_what_the_key_cannot_read_is_said_in_words_and_dollars_and_offered_when_it_can(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene.sees(Key(ADMIN_KEY, refused=(("/v1/organization/*", 403),)))
    polled = scene.truth("models") + scene.truth("serverless")
    words = "The charges of compute machines are not in these figures: this key cannot read compute"
    assert words in (await scene.check(monkeypatch, capsys))[1]
    async with scene.exporter() as exporter:
        await exporter.loaded("models", "serverless")
        (account,) = exporter.running.half.accounts
        await account.poll_invoices()
        missing = f"{scene.truth() - polled:,.2f}"
        # By the invoice first, and as soon as there is one by fal's FOCUS invoice.
        dollars = f"For 2026-10 fal bills ${missing} more than is counted here ("
        await exporter.until(lambda item: any(dollars in remark for remark in item.overview.accounts[0].remarks))
        assert await exporter.month() == dict.fromkeys(("metrics", "REST", "MCP", "page"), polled)
        page = await exporter.page()
        assert words in page
        assert dollars in page
        async with Client(exporter.running.mcp_url) as agent:
            for path, tool in (("usage", "fal-get-usage"), ("drivers", "fal-explain-spend")):
                noted = (await exporter.client.get(f"/v1/billing/{path}")).json()["notes"]
                told = await agent.call_tool(tool, {})
                for notes in (noted, (told.structured_content or {})["notes"]):
                    assert any(words in note for note in notes), path
        assert [entry["source"] for entry in exporter.told("charges are missing that this key cannot read")] == [
            "compute"
        ]

        # The key comes to read all while the exporter runs, which is noticed within a day.
        scene.sees(Key(ADMIN_KEY))
        scene.forward(days=1)
        await account.poll_current()
        await account.probe_sources()
        await account.poll_recent()
        offer = "This key can also read compute"
        setting = "set the sources to models,serverless,compute and restart"
        await exporter.republished()
        page = await exporter.page()
        assert offer in page
        assert setting in page
        metrics = await exporter.metrics()
        assert only(metrics["fal_source_available"], "source") == {"models": 0, "serverless": 0, "compute": 1}
        hours = {"start": "2026-11-01T03:00Z", "end": "2026-11-03T03:00Z"}
        lacking = only(metrics["fal_source_difference_usd"], "product")
        assert lacking == {"model_apis": 0, "serverless": 0, "compute": -float(scene.truth("compute", **hours))}
        assert [entry["source"] for entry in exporter.told("the key can read a source that is not polled")] == [
            "compute"
        ]
        assert account.sources == ("models", "serverless"), "never changed silently"
        before = await counted(exporter)
    assert setting in (await scene.check(monkeypatch, capsys))[1]

    # The user adds it: October is the invoice's, and no counter has moved.
    async with scene.exporter(sources="models,serverless,compute") as exporter:
        await exporter.loaded("models", "serverless", "compute")
        assert await exporter.month() == dict.fromkeys(("metrics", "REST", "MCP", "page"), scene.truth())
        assert await counted(exporter) == pytest.approx(before, abs=1e-9)
        assert offer not in await exporter.page()
        noted = (await exporter.client.get("/v1/billing/usage", params=OCTOBER)).json()["notes"]
        assert noted == []


# --- A choice that one refusal would have made for good --------------------------------------------------------------


@pytest.mark.parametrize("status", [404, *(pytest.param(status, marks=pytest.mark.long) for status in (403, 500))])
async def test_one_refusal_at_the_first_start_leaves_nothing_out(scene: Scene, status: int) -> None:
    kind = "refused" if status < 500 else "server_error"
    scene.simulator.faults.add(Fault(kind, path="/v1/serverless/usage", status=status, times=1))
    async with scene.exporter(history="1d") as exporter:
        await exporter.loaded("models", "serverless", "compute")
        window = {"start": "2026-11-01T03:00Z", "end": "2026-11-02T04:00Z"}
        answer = await exporter.client.get("/v1/billing/usage", params=window)
        assert answer.json()["total"]["spend"] == pytest.approx(float(scene.truth(**window)))
        metrics = await exporter.metrics()
        today = sum(metrics["fal_spend_today_usd"].values())
        assert today == pytest.approx(float(scene.truth(start="2026-11-02T00:00Z", end="2026-11-02T04:00Z")))


@pytest.mark.long
async def test_a_refusal_that_lasts_is_asked_again_and_its_source_can_be_added(scene: Scene) -> None:
    team = scene.simulator.account.world.teams[0]
    scene.sees(Key(ADMIN_KEY, team=team))
    scene.simulator.faults.add(Fault("not_found", path="/v1/serverless/usage"))
    async with scene.exporter(history="1d") as exporter:
        await exporter.loaded("models")
        (account,) = exporter.running.half.accounts
        assert account.sources == ("models",)
        scene.simulator.faults.clear()
        scene.forward(days=1)
        await account.poll_current()
        before = await counted(exporter)

    # A restart a day later asks again, by itself.
    async with scene.exporter(history="1d") as exporter:
        await exporter.until(
            lambda item: any("can also read serverless" in text for text in item.overview.accounts[0].problems)
        )
        await exporter.republished()
        metrics = await exporter.metrics()
        assert only(metrics["fal_source_available"], "source") == {"models": 0, "serverless": 1, "compute": 0}
        (entry,) = exporter.told("the key can read a source that is not polled")
        assert (entry["source"], entry["refused_at_the_choice"]) == ("serverless", "not_found")
    async with scene.exporter(history="1d", sources="models,serverless") as exporter:
        await exporter.loaded("models", "serverless")
        assert await counted(exporter) == pytest.approx(before, abs=1e-9)
        window = {"start": "2026-11-02T04:00Z", "end": "2026-11-03T03:00Z"}
        answer = await exporter.client.get("/v1/billing/usage", params=window)
        stated = scene.truth("models", **window) + scene.truth("serverless", **window)
        assert answer.json()["total"]["spend"] == pytest.approx(float(stated))


# --- One fal account under two names ----------------------------------------------------------------------------------


async def test_one_fal_account_under_two_names_is_counted_once_and_then_refused(scene: Scene) -> None:
    scene.sees(Key(ADMIN_KEY), Key(SECOND_KEY))
    accounts = {"entries": [{"name": "studio", "key": ADMIN_KEY}, {"name": "ads", "key": SECOND_KEY}]}
    with pytest.raises(ValueError, match='"studio" and "ads" have the same key'):
        Settings.model_validate({"entries": [*accounts["entries"][:1], {"name": "ads", "key": ADMIN_KEY}]})
    username = scene.simulator.account.world.teams[0]
    sentence = f'the keys of the accounts "studio" and "ads" both belong to the fal account "{username}"'
    async with scene.exporter(history="1d", sources="models,serverless,compute", **accounts) as exporter:

        def is_told(publication: Publication) -> bool:
            studio, ads = publication.overview.accounts
            return all(source.history_progress == 1 for source in studio.sources) and all(
                sentence in source.problem for source in ads.sources
            )

        await exporter.until(is_told)
        metrics = await exporter.metrics()
        up = {tuple(sorted(dict(metric).values())): value for metric, value in metrics["fal_source_up"].items()}
        assert {up["ads", source] for source in ("models", "serverless", "compute")} == {0}
        assert set(only(metrics["fal_spend_today_usd"], "account")) == {"studio"}
        window = {"start": "2026-11-01T04:00Z", "end": "2026-11-02T03:00Z"}
        answer = await exporter.client.get("/v1/billing/usage", params=window | {"account": "studio"})
        assert answer.json()["total"]["spend"] == pytest.approx(float(scene.truth(**window)))
        assert "both belong to the fal account" in await exporter.page()
    with pytest.raises(ConfigurationError, match=sentence):
        async with scene.exporter(history="1d", **accounts):
            pass


async def views_of_accounts(exporter: Exporter, window: Mapping[str, str]) -> Mapping[str, Mapping[str, float]]:
    """Return what a window, today as a whole, has cost each account by each of the exporter's views."""
    await exporter.republished()
    shown: dict[str, dict[str, float]] = {"metrics": {}, "REST": {}, "MCP": {}, "page": {}, "FOCUS": {}}
    for labels, value in (await exporter.metrics())["fal_spend_today_usd"].items():
        account = dict(labels)["account"]
        shown["metrics"][account] = shown["metrics"].get(account, 0) + value
    asked = {**window, "group_by": "account", "live": "false"}
    answer = (await exporter.client.get("/v1/billing/usage", params=asked)).raise_for_status().json()
    shown["REST"] = {row["account"]: row["spend"] for row in answer["usage"]}
    async with Client(exporter.running.mcp_url) as agent:
        told = await agent.call_tool("fal-get-usage", asked)
    shown["MCP"] = {row["account"]: float(row["spend"]) for row in (told.structured_content or {})["usage"]}
    overview = (await exporter.until(lambda _: True)).overview
    shown["page"] = {account.name: (account.today or 0) / NANO for account in overview.accounts}
    text = (await exporter.client.get("/v1/billing/focus", params={**window, "timeframe": "hour"})).raise_for_status()
    for row in csv.DictReader(io.StringIO(text.text)):
        account = row["BillingAccountId"]
        shown["FOCUS"][account] = shown["FOCUS"].get(account, 0) + float(row["BilledCost"])
    return {view: {name: round(spend, 6) for name, spend in found.items()} for view, found in shown.items()}


@pytest.mark.long
async def test_accounts_that_go_and_keys_that_are_swapped_mix_nothing_in_any_view(tmp_path: Path) -> None:
    async with scene_of(tmp_path, teams=2) as scene:
        studio, ads = scene.simulator.account.world.teams[:2]
        scene.sees(Key(ADMIN_KEY, team=studio), Key(SECOND_KEY, team=ads))
        today = {"start": "2026-11-02T00:00Z", "end": "2026-11-02T04:00Z"}

        def told(**teams: str) -> dict[str, dict[str, float]]:
            spend = {
                name: round(
                    sum(float(scene.truth(source, **today, team=team)) for source in ("models", "serverless")), 6
                )
                for name, team in teams.items()
            }
            return dict.fromkeys(("metrics", "REST", "MCP", "page", "FOCUS"), spend)

        def entries(**keys: str) -> dict[str, object]:
            accounts = [{"name": name, "key": key} for name, key in keys.items()]
            return {"entries": accounts, "sources": "models,serverless", "history": "1d"}

        sources = ("models", "serverless")
        both = told(studio=studio, ads=ads)
        async with scene.exporter(**entries(studio=ADMIN_KEY, ads=SECOND_KEY)) as exporter:
            await exporter.loaded(*sources, *sources)
            assert await views_of_accounts(exporter, today) == both
            noted = (await exporter.client.get("/v1/billing/usage", params=today)).json()["notes"]
            assert not any("compute" in note for note in noted), "what sources that are set leave out is meant to be"
        async with scene.exporter(**entries(studio=ADMIN_KEY)) as exporter:
            await exporter.loaded(*sources)
            assert await views_of_accounts(exporter, today) == told(studio=studio)
        async with scene.exporter(**entries(studio=SECOND_KEY, ads=ADMIN_KEY)) as exporter:
            await exporter.until(lambda item: all(account.problems for account in item.overview.accounts))
            for poller in exporter.running.half.accounts:
                await poller.poll_recent()
            assert await views_of_accounts(exporter, today) == both
            page = html_unescape(await exporter.page())
            for account, owner, kept in (("studio", ads, studio), ("ads", studio, ads)):
                sentence = (
                    f'the key of the account "{account}" belongs to the fal account "{owner}", but the ledger has'
                )
                assert sentence in page
                assert f'the charges of the fal account "{kept}" under this name' in page
            assert set((await exporter.metrics())["fal_spend_usd_total"].values()) == {0}
        async with scene.exporter(**entries(studio=ADMIN_KEY, ads=SECOND_KEY)) as exporter:
            await exporter.loaded(*sources, *sources)
            assert await views_of_accounts(exporter, today) == both


# --- Invoices that are not one a month in US dollars ------------------------------------------------------------------


@pytest.mark.long
async def test_invoices_of_no_single_month_or_currency_are_compared_by_no_view_and_credit_notes_are_not_due(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = ("models", "serverless", "compute")
    whole = nano(scene.truth())
    october = fal_invoice("month", utc(10, 1), utc(11, 1), whole)

    async with scene.exporter(sources=",".join(sources)) as exporter:
        await exporter.loaded(*sources)

        async def seen(*listed: InvoiceRow, currency: str = "USD") -> tuple[float | None, str, str, list[str]]:
            """Return difference, page, FOCUS and the ids that REST has, after fal has listed these invoices."""

            async def answered(*_: object) -> list[InvoiceRow]:
                return list(listed)

            made = billing._invoice_row
            with monkeypatch.context() as patched:
                patched.setattr(billing, "invoices", answered)
                patched.setattr(billing, "_invoice_row", lambda item: made(item) | {"currency": currency})
                await exporter.running.half.accounts[0].poll_invoices()
            await exporter.republished()
            differences = (await exporter.metrics()).get("fal_reconciliation_difference_usd", {})
            against = {
                (dict(labels)["against"], dict(labels)["period"]): value for labels, value in differences.items()
            }
            month = {"source": "invoice", "charge_month": "2026-10", "live": "false"}
            rest = (await exporter.client.get("/v1/billing/invoices", params={"status": "open"})).json()
            return (
                against.get(("invoice", "last_month")),
                (await exporter.client.get("/", headers={"accept": "text/plain"})).text
                + html_unescape(await exporter.page()),
                (await exporter.client.get("/v1/billing/focus", params=month)).text,
                sorted(item["id"] for item in rest),
            )

        difference, page, focus, listed = await seen(october)
        assert (difference, listed) == (0, ["month"])
        assert "equal to invoice N-month, open" in page
        assert "The invoice N-month of" in page
        assert "BilledCost" in focus.splitlines()[0]

        # A credit note that is past its date is no reason to pay.
        difference, page, _, _ = await seen(october, fal_invoice("note", utc(10, 1), utc(11, 1), -9 * NANO))
        assert difference == 9
        assert "The invoice N-month of" in page
        assert "The invoice N-note of" not in page

        # Who bills half of two months leaves both without a comparison, however well the rest fits.
        across = fal_invoice("across", utc(10, 15), utc(11, 15), 50 * NANO)
        for others in ((october,), (fal_invoice("first", utc(10, 1), utc(10, 2), NANO),)):
            difference, page, focus, _ = await seen(*others, across)
            assert difference is None
            assert "N-across bills usage of another month, too." in page
            assert "equal to invoice" not in page
            assert "on one invoice (N-across)" in focus

        assert (await seen(october))[0] == 0

        # Euros are no dollars: what had been stated in dollars is not shown any more.
        difference, page, focus, listed = await seen(october, currency="EUR")
        assert (difference, listed) == (None, [])
        assert "N-month" not in page
        assert "one that may be of it cannot be read" in page
        assert "the ledger knows of no invoice for charges of 2026-10" in focus
        assert ("invoice", "N-month") not in {
            label for labels in (await exporter.metrics()).get("fal_invoice_total_usd", {}) for label in labels
        }


def fal_invoice(name: str, start: datetime, end: datetime, subtotal: int) -> InvoiceRow:
    """Return an open invoice that was due in October."""
    return InvoiceRow(name, f"N-{name}", "open", start, end, end, utc(10, 20), subtotal, 0, 0)


# --- Details refused, labels changed, rows that cannot be read --------------------------------------------------------


@dataclass
class Month:
    """The current month of an exporter that has one source, compared with what fal charges.

    Attributes:
        counters, stated: the sum of the counters, and what fal had charged in the month, when the exporter had loaded.
    """

    scene: Scene
    source: str
    counters: Decimal = Decimal()
    stated: Decimal = Decimal()

    @property
    def window(self) -> dict[str, str]:
        return {"start": "2026-11-01T00:00Z", "end": f"{self.scene.at[-1] + timedelta(hours=1):%Y-%m-%dT%H:00Z}"}

    def truth(self) -> Decimal:
        return self.scene.truth(self.source, **self.window)

    @asynccontextmanager
    async def exporter(self) -> AsyncIterator[Exporter]:
        """Run an exporter; on a new ledger what it has counted is noted, on a known one nothing may have changed."""
        async with self.scene.exporter(history="2d", sources=self.source) as exporter:
            await exporter.loaded(self.source)
            if not self.stated:
                self.stated = self.truth()
                await counted(exporter)
                self.counters = _sum((await exporter.metrics())["fal_spend_usd_total"])
            yield exporter

    async def poll(self, exporter: Exporter) -> SourceOverview:
        """Poll the last two days; return the state of the source."""
        (account,) = exporter.running.half.accounts
        await account.poll_recent()
        await exporter.republished()
        await counted(exporter)
        (source,) = (await exporter.until(lambda _: True)).overview.accounts[0].sources
        return source

    async def shown(self, exporter: Exporter) -> dict[str, Decimal]:
        """Return the month's spend by view, and what the counters have counted since the exporter had loaded."""
        metrics = await exporter.metrics()
        answer = (await exporter.client.get("/v1/billing/usage", params=self.window)).text
        rest = json.loads(answer, parse_float=Decimal, parse_int=Decimal)
        (account,) = (await exporter.until(lambda _: True)).overview.accounts
        counters, pending = (_sum(metrics[name]) for name in ("fal_spend_usd_total", "fal_spend_pending_usd"))
        assert pending == 0
        unreadable = any("cannot be read, or only partly" in note for note in rest["notes"])
        assert unreadable == (account.sources[0].state == "partial")
        assert not (unreadable and rest["complete"])
        return {
            "gauges": _sum(metrics["fal_spend_month_to_date_usd"]),
            "REST": rest["total"]["spend"],
            "page": Decimal(account.month_to_date or 0).scaleb(-9),
            "counters": counters - self.counters + self.stated,
        }

    async def agrees(self, exporter: Exporter, expected: Decimal | None = None) -> None:
        truth = self.truth() if expected is None else expected
        assert await self.shown(exporter) == dict.fromkeys(("gauges", "REST", "page", "counters"), truth)


def models_of(scene: Scene, window: Mapping[str, str]) -> dict[str, Decimal]:
    """Return what each model costs in a window."""
    charges = scene.simulator.statement(**window, source="models", group_by="model")["charges"]
    assert isinstance(charges, list)
    return {charge["model"]: Decimal(charge["cost"]) for charge in charges}


def _sum(samples: Mapping[Labels, float]) -> Decimal:
    """Add up samples, each exact to the nano-dollar, as sums of floats are not."""
    return sum((Decimal(repr(value)).quantize(Decimal("1E-9")) for value in samples.values()), Decimal())


def _marks(name: str) -> tuple[pytest.MarkDecorator, ...]:
    return (getattr(pytest.mark, name),) if name else ()


REFUSED_DETAILS = [
    ("reporting", Fault("refused", path="/billing/usage", query="group_by=*,*", status=400, times=1)),
    *(
        ("focus", Fault("refused", path="/v1/account/focus", query="expand=organization", status=status, times=1))
        for status in (403, 404)
    ),
]


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "fault"),
    [
        pytest.param(
            source,
            fault,
            id=f"{source} {fault.status}",
            marks=_marks("" if (source, fault.status) == ("focus", 403) else "long"),
        )
        for source, fault in REFUSED_DETAILS
    ],
)
async def test_one_refusal_of_a_detail_fails_its_poll_and_doubles_nothing(
    tmp_path: Path, source: str, fault: Fault
) -> None:
    async with scene_of(tmp_path, teams=3) as scene:
        month = Month(scene, source)
        async with month.exporter() as exporter:
            before = month.truth()
            await month.agrees(exporter)
            scene.simulator.faults.add(fault)
            scene.forward(minutes=20)
            polled = await month.poll(exporter)
            assert polled.state == "failing"
            assert f"fal refuses {fault.query.split('=')[0]}=" in polled.problem
            assert polled.problem in html_unescape(await exporter.page())
            assert [entry["reason"] for entry in exporter.told("a poll failed")] == ["detail_refused"]
            assert only((await exporter.metrics())["fal_source_up"], "source")[source] == 0
            await month.agrees(exporter, before)
            assert (await month.poll(exporter)).state == "up"
            await month.agrees(exporter)
        async with month.exporter() as exporter:
            # What fal tells is known after a restart, too.
            scene.simulator.faults.add(fault)
            scene.forward(hours=1)
            await month.poll(exporter)
            assert (await month.poll(exporter)).state == "up"
            assert [entry["reason"] for entry in exporter.told("a poll failed")] == ["detail_refused"]
            await month.agrees(exporter)
            relabelled = (await exporter.metrics())["fal_spend_relabelled_usd_total"]
            assert set(relabelled.values()) == {0}


@pytest.mark.long
async def test_what_fal_reports_under_other_labels_is_not_counted_again(scene: Scene) -> None:
    month = Month(scene, "models")
    start, end = utc(11, 1, 20), utc(11, 2, 2)
    hours = [int(start.timestamp()) // 3600 + ahead for ahead in range((end - start) // timedelta(hours=1))]
    asked = {"start": f"{start:%Y-%m-%dT%HZ}", "end": f"{end:%Y-%m-%dT%HZ}"}
    async with month.exporter() as exporter:
        model, moved = max(models_of(scene, asked).items(), key=itemgetter(1))
        labels = (("model", "fal-ai/renamed"),)
        scene.simulator.faults.add(*(PlantedRelabelling(hour, labels, model=model) for hour in hours))
        assert (await month.poll(exporter)).state == "up"
        await month.agrees(exporter)
        metrics = await exporter.metrics()
        renamed = [
            _sum({labels: value for labels, value in metrics[name].items() if ("model", "fal-ai/renamed") in labels})
            for name in ("fal_spend_usd_total", "fal_spend_month_to_date_usd")
        ]
        assert renamed == [0, moved]
        assert only(metrics["fal_spend_relabelled_usd_total"], "source") == {"models": pytest.approx(float(moved))}
    async with month.exporter() as exporter:
        scene.forward(hours=1)
        await month.poll(exporter)
        await month.agrees(exporter)


ODD_ROWS = [
    (Fault("odd_rows", path="/v1/models/usage", oddity="cost"), "missing_field", ""),
    (Fault("missing_fields", path="/v1/models/usage", fields=("endpoint_id",), every_row=3), "missing_field", "long"),
    (Fault("odd_rows", path="/v1/models/usage", oddity="currency", every_row=3), "", "long"),
    (Fault("odd_rows", path="/v1/models/usage", oddity="text"), "", "long"),
    (Fault("odd_rows", path="/v1/models/usage", oddity="unit"), "unit", "long"),
    (Fault("odd_rows", path="/v1/models/usage", oddity="quantity"), "quantity", "long"),
    (Fault("odd_rows", path="/billing/usage", oddity="cost"), "missing_field", "long"),
    (Fault("odd_rows", path="/v1/account/focus", oddity="cost"), "unreadable", "long"),
    (Fault("odd_rows", path="/v1/account/focus", oddity="text", every_row=3), "unreadable", "long"),
    (Fault("odd_rows", path="/v1/account/focus", oddity="currency"), "", "long"),
]
SOURCE_OF_PATH = {"/v1/models/usage": "models", "/billing/usage": "reporting", "/v1/account/focus": "focus"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param(fault, reason, id=f"{SOURCE_OF_PATH[fault.path]} {fault.kind} {fault.oddity}", marks=_marks(mark))
        for fault, reason, mark in ODD_ROWS
    ],
)
async def test_rows_that_cannot_be_read_take_nothing_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: Fault, reason: str
) -> None:
    source = SOURCE_OF_PATH[fault.path]
    month = Month(scene, source)
    if fault.kind == "odd_rows" and fault.oddity != "currency" and fault.every_row == 1:
        fault = replace(fault, model=min(models_of(scene, month.window)))
    loses_cost = reason not in {"", "unit", "quantity"}
    async with month.exporter() as exporter:
        before = await month.shown(exporter)
        scene.simulator.faults.add(fault)
        found = []
        for _ in range(2):
            polled = await month.poll(exporter)
            metrics = await exporter.metrics()
            its_own = {
                labels: rows
                for labels, rows in metrics["fal_exporter_rejected_rows"].items()
                if rows and ("source", source) in labels
            }
            found.append(only(its_own, "reason"))
            await month.agrees(exporter)
        assert found[0] == found[1], "each row is one, however often it is read"
        assert set(found[0]) == ({reason} if reason else set())
        assert polled.state == ("partial" if reason else "up")
        assert only(metrics["fal_source_partial"], "source")[source] == bool(reason)
        assert only(metrics["fal_source_up"], "source")[source] == 1
        unreadable = only(metrics["fal_unreadable_usd"], "source")[source]
        assert (unreadable > 0) == (fault.kind == "missing_fields")
        assert ("is partial: " in await exporter.page()) == bool(reason)
        assert (f"The source {source} is partial: " in (await scene.check(monkeypatch, capsys))[1]) == bool(reason)
        assert await month.shown(exporter) == before

    # A restart changes nothing, and an hour later what is readable has grown.
    async with month.exporter() as exporter:
        scene.forward(hours=1)
        assert (await month.poll(exporter)).state == polled.state
        shown = set((await month.shown(exporter)).values())
        assert len(shown) == 1, "all views agree"
        assert (shown == {month.truth()}) == (not loses_cost)
        assert before["gauges"] <= min(shown) <= month.truth()
        scene.simulator.faults.clear()
        assert (await month.poll(exporter)).state == "up"
        await month.agrees(exporter)
        assert only((await exporter.metrics())["fal_source_partial"], "source")[source] == 0


@pytest.mark.long
async def test_an_answer_of_which_most_rows_cannot_be_read_fails_its_poll(scene: Scene) -> None:
    month = Month(scene, "models")
    async with month.exporter() as exporter:
        before = month.truth()
        scene.simulator.faults.add(Fault("missing_fields", path="/v1/models/usage", fields=("cost_total", "cost")))
        scene.forward(minutes=20)
        polled = await month.poll(exporter)
        assert polled.state == "failing"
        assert "no row that the source models gives" in polled.problem
        await month.agrees(exporter, before)
        scene.simulator.faults.clear()
        assert (await month.poll(exporter)).state == "up"
        await month.agrees(exporter)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("overlapping_pages", path="/v1/models/usage"),
        # The second of five pages begins a row too late.
        Fault("skipping_pages", path="/v1/models/usage", rows=1, after=1, times=1),
    ],
    ids=lambda fault: fault.kind,
)
async def test_pages_that_overlap_or_leave_rows_out_fail_their_poll_and_move_no_view(
    scene: Scene, fault: Fault
) -> None:
    month = Month(scene, "models")
    scene.settings["page_size"] = 60
    async with month.exporter() as exporter:
        before, in_focus = month.truth(), await focus_cost(exporter, month.window)
        through = (await exporter.until(lambda _: True)).overview.accounts[0].sources[0].data_through
        scene.simulator.faults.add(fault)
        late_hour = int(utc(11, 2, 1).timestamp()) // 3600
        scene.simulator.account.plant([PlantedSpend(late_hour, GlitchedJob().line(7 * NANO))])
        polled = await month.poll(exporter)
        assert (polled.state, polled.data_through) == ("failing", through)
        told = "pages overlap" if fault.kind == "overlapping_pages" else "leave rows out"
        assert told in polled.problem
        assert told in html_unescape(await exporter.page())
        failures = (await exporter.metrics())["fal_exporter_poll_failures_total"]
        assert {dict(labels)["reason"] for labels, count in failures.items() if count} == {"endless_pages"}
        await month.agrees(exporter, before)
        assert await focus_cost(exporter, month.window) == in_focus

        scene.simulator.faults.remove(fault.kind)
        assert (await month.poll(exporter)).state == "up"
        await month.agrees(exporter)
        assert month.truth() == before + 7
        assert await focus_cost(exporter, month.window) == in_focus + 7


async def focus_cost(exporter: Exporter, window: Mapping[str, str]) -> Decimal:
    """Return what a window costs by the exporter's own FOCUS file, which is of the ledger."""
    answer = await exporter.client.get("/v1/billing/focus", params=dict(window))
    assert answer.status_code == 200, answer.text
    return sum((Decimal(row["BilledCost"]) for row in csv.DictReader(io.StringIO(answer.text))), Decimal())


async def test_hours_that_vanish_are_said_in_dollars_and_are_not_counted_again_when_they_come_back(
    scene: Scene,
) -> None:
    """An empty list where fal had stated charges is an answer, after which no room keeps the old one."""
    month = Month(scene, "models")
    async with month.exporter() as exporter:
        before = await month.shown(exporter)
        counters = _sum((await exporter.metrics())["fal_spend_usd_total"])
        scene.simulator.faults.add(Fault("empty_answer", path="/v1/models/usage"))
        assert (await month.poll(exporter)).state == "up"
        metrics = await exporter.metrics()
        assert _sum(metrics["fal_spend_month_to_date_usd"]) == 0
        assert _sum(metrics["fal_spend_usd_total"]) == counters, "a counter never falls"
        # The last two days reach into October, which is taken back, too; the running hour is no restatement.
        restated = _sum(metrics["fal_restated_usd_total"])
        assert before["gauges"] < restated < _sum(metrics["fal_spend_pending_usd"])
        answer = (await exporter.client.get("/v1/billing/usage", params=month.window)).text
        assert json.loads(answer, parse_float=Decimal, parse_int=Decimal)["total"]["spend"] == 0
        text = (await exporter.client.get("/", headers={"accept": "text/plain"})).text
        assert f"fal has changed past hours down by ${restated:,.2f} within an hour" in text
        assert f"{'Month to date':<16}{'$0.00':>14}" in text

        scene.simulator.faults.clear()
        assert (await month.poll(exporter)).state == "up"
        assert await month.shown(exporter) == before
        assert _sum((await exporter.metrics())["fal_spend_usd_total"]) == counters


@pytest.mark.parametrize("path", ["/v1/models/usage", pytest.param("/v1/account/focus", marks=pytest.mark.long)])
async def test_rows_finer_than_a_nano_dollar_add_up_to_the_nano_dollar(scene: Scene, path: str) -> None:
    month = Month(scene, SOURCE_OF_PATH[path])
    scene.simulator.faults.add(Fault("split_rows", path=path, rows=7))
    async with month.exporter() as exporter:
        await month.agrees(exporter)


# --- A ledger that is shared, lost, copied or known by another name: real processes -----------------------------------

LATE = "fal-ai/late"


def charge(fal: Fal, dollars: int) -> None:
    """Have fal charge so much in all for a model this hour."""
    hour = int(fal.now.timestamp()) // 3600
    fal.simulator.account.plant([PlantedSpend(hour, GlitchedJob(model=LATE).line(dollars * NANO))])


def late(process: Process) -> float:
    """Return what the counters of that model have counted, whatever the account is called."""
    samples = process.scrape().get("fal_spend_usd_total", {})
    return sum(value for labels, value in samples.items() if ("model", LATE) in labels)


def started(process: Process, dollars: int) -> None:
    """Start an exporter, and wait until it is ready and has counted what was charged since the ledger was born."""
    process.start()
    wait_until(lambda: process.is_ready() and late(process) == dollars, f"${dollars} are counted")


def command(process: Process, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run another command of the program with the settings of an exporter."""
    return subprocess.run(
        [sys.executable, "-m", "exporter", *arguments],
        env=process.environment,
        cwd=process.folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def counting(fal: Fal, tmp_path: Path) -> Iterator[Process]:
    """An exporter at work that has counted $5 since its ledger was born, an hour ago."""
    address = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with closing(Ledger(address, rules=Rules(), clock=lambda: fal.now - timedelta(hours=1))) as ledger:
        ledger.activate({"default": ("models",)})
    charge(fal, 5)
    with process_of(fal, tmp_path) as process:
        started(process, 5)
        yield process


def process_of(fal: Fal, folder: Path, **settings: str) -> AbstractContextManager[Process]:
    """Yield an exporter that polls little, so that it starts quickly."""
    return exporter_of(fal, folder, **{"SOURCES": "models", "HISTORY": "2h"} | settings)


@pytest.mark.long
def test_a_second_collector_is_refused_until_the_first_is_gone_however_it_went(
    fal: Fal, counting: Process, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    with process_of(fal, tmp_path / "second", LEDGER_URL=f"sqlite:///{tmp_path / 'ledger.sqlite'}") as second:
        second.start()
        assert second.process is not None
        assert second.process.wait(30) == 2
        (sentence,) = [line for line in second.output.splitlines() if line.startswith("fal-exporter: ")]
        assert (
            f"already has a collector, process {counting.collector} on host {socket.gethostname()}, since" in sentence
        )
        assert late(counting) == 5
        for reading in (("check",), ("backfill", "--output", "history.txt")):
            assert command(counting, *reading).returncode == 0
        counting.kill()
        started(second, 5)


@pytest.mark.long
def test_a_ledger_that_is_deleted_under_the_exporter_is_written_again_and_no_counter_falls(
    fal: Fal, counting: Process, tmp_path: Path
) -> None:
    for path in tmp_path.glob("ledger.sqlite*"):
        path.unlink()

    def is_told() -> bool:
        page = counting.get("/")
        return page is not None and "was deleted; it was restored" in page.text

    wait_until(is_told, "the page says what happened")
    scraped = counting.scrape()
    assert set(scraped["fal_exporter_ledger_up"].values()) == {1}
    assert late(counting) == 5
    answer = counting.get("/v1/billing/usage?group_by=model")
    assert answer is not None
    assert LATE in answer.raise_for_status().text
    assert counting.output.count("the ledger has changed since it was last used") == 1
    counting.kill()
    charge(fal, 7)
    started(counting, 7)


@pytest.mark.long
def test_a_ledger_that_is_replaced_under_the_exporter_is_not_mixed_with_it_and_a_restart_is_asked_for(
    counting: Process, tmp_path: Path
) -> None:
    assert command(counting, "ledger", "backup", "other.sqlite").returncode == 0
    (tmp_path / "other.sqlite").replace(tmp_path / "ledger.sqlite")

    def is_unhealthy() -> bool:
        answer = counting.get("/-/healthy")
        return answer is not None and answer.status_code == 503

    wait_until(is_unhealthy, "a restart is asked for")
    assert set(counting.scrape()["fal_exporter_ledger_up"].values()) == {0}
    assert late(counting) == 5
    counting.stop()
    assert len(list(tmp_path.glob("ledger.sqlite.replaced-*"))) == 1
    started(counting, 5)
    healthy = counting.get("/-/healthy")
    assert healthy is not None
    assert healthy.text == "healthy\n"


@pytest.mark.long
def test_after_a_clean_stop_that_followed_a_question_the_file_alone_is_the_whole_ledger(
    fal: Fal, counting: Process, tmp_path: Path
) -> None:
    answer = counting.get("/v1/billing/usage?group_by=model")
    assert answer is not None
    assert LATE in answer.raise_for_status().text
    born = counting.scrape()["fal_exporter_ledger_birth_timestamp_seconds"]
    charges = counting.scrape()["fal_exporter_ledger_charges"]
    assert counting.stop(signal.SIGTERM) == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copyfile(tmp_path / "ledger.sqlite", elsewhere / "ledger.sqlite")
    with process_of(fal, elsewhere) as copy:
        started(copy, 5)
        assert copy.scrape()["fal_exporter_ledger_birth_timestamp_seconds"] == born
        assert copy.scrape()["fal_exporter_ledger_charges"] == charges
        assert "the ledger has changed since it was last used" not in copy.output


@pytest.mark.long
def test_a_new_ledger_is_not_begun_in_the_place_of_another_without_a_word(counting: Process, tmp_path: Path) -> None:
    counting.stop()
    (tmp_path / "ledger.sqlite").unlink()
    counting.start()
    wait_until(counting.is_ready, "it is ready")
    page = counting.get("/")
    assert page is not None
    for text in (page.text, counting.output):
        assert "has disappeared since it was last used; a new ledger was created" in text


@pytest.mark.long
def test_a_ledger_that_has_moved_goes_on_counting_from_its_new_place(
    fal: Fal, counting: Process, tmp_path: Path, empty_postgresql: Callable[[], str]
) -> None:
    old, new = f"sqlite:///{tmp_path / 'ledger.sqlite'}", empty_postgresql()
    refused = command(counting, "ledger", "migrate", old, new)
    assert refused.returncode == 2
    assert "already has a collector" in refused.stderr
    before = counting.scrape()
    counting.stop()
    moved = command(counting, "ledger", "migrate", old, new)
    assert moved.returncode == 0, moved.stderr
    assert "Set FAL_EXPORTER_LEDGER_URL to postgresql://ledger@127.0.0.1" in moved.stdout
    (tmp_path / "new").mkdir()
    charge(fal, 9)
    with process_of(fal, tmp_path / "new", LEDGER_URL=new) as there:
        started(there, 9)
        after = there.scrape()
        assert (
            after["fal_exporter_ledger_birth_timestamp_seconds"]
            == before["fal_exporter_ledger_birth_timestamp_seconds"]
        )
        assert all(
            after["fal_spend_usd_total"][labels] >= value for labels, value in before["fal_spend_usd_total"].items()
        )


@pytest.mark.long
def test_a_backup_made_while_polls_go_on_is_verified_and_restored_and_no_counter_falls(
    fal: Fal, counting: Process, tmp_path: Path
) -> None:
    made = command(counting, "ledger", "backup", "backup.sqlite")
    assert made.returncode == 0, made.stderr
    assert "is a complete, intact copy" in made.stdout
    verified = command(counting, "ledger", "verify", "backup.sqlite")
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "It is intact.")
    refused = command(counting, "ledger", "restore", "backup.sqlite")
    assert refused.returncode == 2
    assert "already has a collector" in refused.stderr
    counting.stop()
    charge(fal, 9)
    started(counting, 9)
    counting.stop()
    restored = command(counting, "ledger", "restore", "backup.sqlite")
    assert restored.returncode == 0, restored.stderr
    assert "counters continue from the value that was last scraped" in restored.stdout
    started(counting, 9)
    assert len(list(tmp_path.glob("ledger.sqlite.before-restore-*"))) == 1


@pytest.mark.long
def test_the_advice_on_a_renamed_account_can_be_followed_when_it_is_given(fal: Fal, counting: Process) -> None:
    counting.stop()
    charge(fal, 8)
    counting.environment["FAL_EXPORTER_ACCOUNT"] = "atelier"
    counting.start()
    wait_until(counting.is_ready, "it is ready under the new name")
    under_the_new_name = late(counting)
    counting.stop()
    (advised,) = set(re.findall(r"`fal-exporter ([^`]+)`", counting.output))
    renamed = command(counting, *shlex.split(advised))
    assert renamed.returncode == 0, renamed.stderr
    assert "was merged" in renamed.stdout
    # The series of the old name has told $5; the rest, learnt while the name was changed, is told by the new one.
    started(counting, 3)
    assert under_the_new_name <= 3
    accounts = {dict(labels)["account"] for labels in counting.scrape()["fal_spend_usd_total"]}
    assert accounts == {"atelier"}
