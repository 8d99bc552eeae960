"""The idle bill from fal to its readers: an app that idles at night is found and priced, and its alert fires and ends.

What is right is what the simulator says itself: it knows what the runners of every app were idle for.
"""

import asyncio
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from e2e.processes import Exporter, Fal, exporter_of, fal_in_a_thread, wait_until
from polling.conftest import REACH, Bench, Clock, opened_bench

from exporter.charges import HOUR, NANO, Window, hour_number, hour_of
from exporter.samples import Pages
from exporter.simulator import IdleSpan, Pace, Simulator, World, WorldSize, running_simulator

NIGHT = (22, 6)
SHARE = 940
CENT = Decimal("0.01")
WORLD = World(7, size=WorldSize(models=1, callers=1, apps=3, compute=0, teams=1), pace=Pace(busy=20), invoiced_months=1)


def last_night(now: datetime) -> Window:
    """Return the last night that was over an hour ago."""
    end = (now - HOUR).replace(minute=0, second=0, microsecond=0)
    while end.hour != NIGHT[1]:
        end -= HOUR
    return Window(end - 8 * HOUR, end)


def dearest_app(simulator: Simulator, window: Window) -> str:
    """Return the app that is charged most in a window."""
    rows = stated(simulator, window, "app")["charges"]
    assert isinstance(rows, list)
    return str(max((row for row in rows if row["app"]), key=lambda row: Decimal(row["cost"]))["app"])


def stated(simulator: Simulator, window: Window, group_by: str) -> dict[str, object]:
    return simulator.statement(
        start=window.start.isoformat(),
        end=window.end.isoformat(),
        source="serverless",
        group_by=group_by,
        idle="true",
    )


def idle_of(simulator: Simulator, window: Window, app: str) -> tuple[Decimal, Decimal]:
    """Return what an app cost in a window, and what of it was idle, by the simulator's own account."""
    rows = stated(simulator, window, "app")["charges"]
    assert isinstance(rows, list)
    its = [row for row in rows if row["app"] == app]
    return (sum(Decimal(row["cost"]) for row in its), sum(Decimal(row["idle_cost"]) for row in its))  # type: ignore[return-value]  # a sum of decimals


@pytest.mark.long
def test_an_app_that_idles_at_night_is_found_named_and_priced(tmp_path: Path) -> None:
    night = last_night(datetime.now(UTC))
    with fal_in_a_thread() as plain:
        app = dearest_app(plain.simulator, night)
    always = IdleSpan(app, SHARE, 0, 2**31, NIGHT)
    with fal_in_a_thread((always,)) as fal, exporter_of(fal, tmp_path, HISTORY="3d") as exporter:
        exporter.start()
        found = wait_until(lambda: divided(exporter, night), "runners are read")
        cost, idle = idle_of(fal.simulator, night, app)
        its = [item for item in found["apps"] if item["app"] == app]
        # The most idle money stands first.
        assert found["apps"][0] in its
        assert sum(Decimal(item["spend"]["total"]) for item in its) == cost
        assert abs(sum(Decimal(item["spend"]["idle"]) for item in its) - idle) < CENT < idle
        assert all(0.93 < item["idle_share"] < 0.95 for item in its)
        assert all(item["idle_share"] < 0.65 for item in found["apps"] if item["app"] not in {None, app})
        assert its[0]["settings"]["keep_alive"] > 0
        assert_metrics_agree(exporter, fal, app)


Shown = dict[str, Any]
"""An app in the answer of REST."""


def divided(exporter: Exporter, window: Window) -> dict[str, list[Shown]] | None:
    """Return the answer of REST once no hour of an app is unknown."""
    query = f"start={window.start:%Y-%m-%dT%HZ}&end={window.end:%Y-%m-%dT%HZ}".replace("Z", ":00Z")
    answer = exporter.get(f"/v1/billing/machines?{query}&amounts=string")
    if answer is None or not answer.is_success:
        return None
    found: dict[str, list[Shown]] = answer.json()
    named = [app for app in found["apps"] if app["app"]]
    return found if named and all(app["spend"]["unknown"] == "0" for app in named) else None


def assert_metrics_agree(exporter: Exporter, fal: Fal, app: str) -> None:
    """The states of the last day add up to the spend of the same day, by app."""
    scraped = exporter.scrape()
    spend = sum(value for labels, value in scraped["fal_spend_last_day_usd"].items() if dict(labels).get("app") == app)
    states = [
        value
        for labels, value in scraped["fal_gpu_spend_by_state_last_day_usd"].items()
        if dict(labels).get("app") == app
    ]
    assert sum(states) == pytest.approx(spend, abs=1e-9)
    last_day = Window(hour_of(fal.now) - 23 * HOUR, hour_of(fal.now) + HOUR)
    assert spend == pytest.approx(float(idle_of(fal.simulator, last_day, app)[0]), abs=0.01)


def last_day_of(pages: Pages, app: str) -> dict[str, float]:
    return {
        sample.labels[-1]: sample.value / NANO for page in pages for sample in page.samples if sample.labels[1] == app
    }


@pytest.mark.long
async def test_the_alert_on_an_app_that_is_idle_all_day_fires_and_ends(
    tmp_path: Path, repository: Path, program: Callable[[str, str], str]
) -> None:
    """Polls of three days by a clock that is set, and what was published of them judged by the shipped rules."""
    clock = Clock()
    begin = hour_number(hour_of(clock.now))
    app = dearest_app(Simulator(WORLD, clock), Window(hour_of(clock.now) - 24 * HOUR, hour_of(clock.now)))
    # At work until now, then idle for 34 hours, then at work again.
    world = replace(WORLD, idle=(IdleSpan(app, SHARE, begin, begin + 34), IdleSpan(app, 50, 0, 2**31)))
    told: list[dict[str, float]] = []
    async with running_simulator(world, clock) as fal, AsyncExitStack() as stack:
        reach = replace(REACH, history=timedelta(hours=40))
        bench: Bench = await stack.enter_async_context(opened_bench(fal, clock, tmp_path, reach=reach, machines="auto"))
        await bench.account.load_history()
        for _ in range(29):
            await bench.account.poll_current()
            await bench.account.poll_machines()
            told.append(last_day_of((await bench.view()).machines.spend_of["last_day"], app))
            clock.forward(hours=2)
    idle = [item.get("idle", 0) / sum(item.values()) for item in told]
    first = next(index for index, share in enumerate(idle) if share > 0.8)
    last = max(index for index, share in enumerate(idle) if share > 0.8)
    assert 8 < first < last < len(told) - 2
    case = tmp_path / "idle.yaml"
    case.write_text(yaml.safe_dump(rule_test(repository, app, told, (first, last))))
    promtool = program("promtool", "prometheus")
    done = await asyncio.create_subprocess_exec(promtool, "test", "rules", case, stdout=PIPE, stderr=STDOUT)
    output, _ = await done.communicate()
    assert done.returncode == 0, output.decode()


def rule_test(repository: Path, app: str, told: list[dict[str, float]], firing: tuple[int, int]) -> dict[str, object]:
    """Return a test of the shipped rules by what was published every two hours."""
    rules = repository / "deploy" / "prometheus"
    states = sorted({state for item in told for state in item})
    labels = f'account="main", app="{app}", gpu_class="X", environment="prod"'
    # A sample stands for five minutes: each is repeated until the next.
    series = [
        {
            "series": f'fal_gpu_spend_by_state_last_day_usd{{{labels}, state="{state}"}}',
            "values": " ".join(f"{item.get(state, 0)}x23" for item in told),
        }
        for state in states
    ]
    locked = {"series": 'fal_account_locked{account="main", reason="other"}', "values": f"0x{24 * len(told)}"}
    first, last = firing
    expected = [
        {"alertname": "FalAppIdle", "eval_time": f"{2 * hours}h", "exp_alerts": []}
        for hours in (1, first - 1, last + 2)
    ]
    return {
        "rule_files": [str(rules / f"{name}.yaml") for name in ("thresholds", "recording", "alerts")],
        "group_eval_order": ["fal-thresholds", "fal-recording", "fal-alerts"],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "5m",
                "input_series": [locked, *series],
                "alert_rule_test": expected,
                "promql_expr_test": [
                    {
                        "expr": 'count(ALERTS{alertname="FalAppIdle", alertstate="firing"})',
                        "eval_time": f"{2 * last + 1}h",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    },
                    {
                        "expr": 'group by (app, severity) (ALERTS{alertname="FalAppIdle", alertstate="firing"})',
                        "eval_time": f"{2 * last + 1}h",
                        "exp_samples": [{"labels": f'{{app="{app}", severity="warning"}}', "value": 1}],
                    },
                ],
            }
        ],
    }
