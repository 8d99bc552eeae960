"""Two weeks in which nothing is wrong: fal is late and corrects itself as it always does, and no alert says a word.

The exporter lives them by a clock that is moved; promtool replays what was scraped, with all rules and their waits.
promtool's time begins in 1970, on a first of the month like the story: instants are moved there.
"""

import asyncio
import gc
import json
import logging
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import structlog
from alert_tables import FILES, RULES, rules
from e2e.life.left_half import ACCOUNT, LeftHalf
from e2e.life.living import MovedClock
from prometheus_client import CollectorRegistry

from exporter.charges import NANO
from exporter.fal import LOCK_REASONS, REASONS, REJECTIONS
from exporter.forecasting.budgets import Budget
from exporter.metrics.catalogue import CATALOGUE
from exporter.metrics.health import Health
from exporter.polling.poll_runner import OWN_REASONS
from exporter.simulator import Pace, Simulator, World, WorldSize, simulator_app

START = datetime(2026, 11, 1, tzinfo=UTC)
STEP = timedelta(minutes=130)
STEPS = 14 * 24 * 60 // 130
"""Every instant of an hour has its turn, from its very start to its fiftieth minute."""

UNIVERSAL = ZoneInfo("UTC")

Program = Callable[[str, str], str]
Samples = dict[str, list[str]]
"""By series, a value for each scrape that had one."""

EXPRESSIONS = [rule.expression for file in FILES for rule in rules(file)]
USED = {name for name in CATALOGUE if any(name in expression for expression in EXPRESSIONS)}

pytestmark = pytest.mark.long


def world() -> World:
    """Return an account of ordinary habits, in which nothing is new."""
    return World(
        seed=11,
        size=WorldSize(models=3, callers=1, apps=2, compute=0, teams=1, api_keys=2),
        pace=Pace(birth_hours=100_000, life_hours=24),
        invoiced_months=2,
    )


def budgets() -> Iterator[Budget]:
    """Yield budgets that are enough, with some room."""
    yield Budget("day", 700 * NANO, "day", UNIVERSAL, {}, (Fraction(95, 100),))
    yield Budget("month", 15_000 * NANO, "month", UNIVERSAL, {}, (Fraction(95, 100),))


def due(number: int) -> Iterator[str]:
    """Yield the jobs of a step; what is heavy is left out now and then."""
    yield from ("current", "balance", "queues")
    if number % 2 == 0:
        yield from ("recent", "machines")
    if number % 11 == 5:
        yield from ("invoices", "reconciliation", "deep")
    if number % 55 == 25:
        yield "months"


def take(exposition: str, number: int, samples: Samples) -> None:
    """Add a scrape's samples of the families that rules use, an instant as one of promtool's time."""
    for line in exposition.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in USED:
            series, _, value = line.rpartition(" ")
            if name.endswith("_timestamp_seconds"):
                value = str(float(value) - START.timestamp())
            target = 'instance="exporter:8080",job="fal"'
            labelled = f"{name}{{{target},{series[len(name) + 1 :]}" if "{" in series else f"{name}{{{target}}}"
            values = samples.setdefault(labelled, [])
            values += ["_"] * (number - len(values)) + [value]


async def live(folder: Path) -> Samples:
    clock = MovedClock(START)
    simulator = Simulator(world(), clock)
    health = Health(
        CollectorRegistry(),
        failure_reasons=(*REASONS, *OWN_REASONS),
        rejection_reasons=REJECTIONS,
        lock_reasons=LOCK_REASONS,
    )
    health.expect_account(ACCOUNT)
    exporter = LeftHalf(
        fal=httpx.ASGITransport(simulator_app(simulator)),
        ledger=folder / "ledger.sqlite",
        zone=UNIVERSAL,
        clock=clock,
        witness=lambda _: None,
        health=health,
        budgets=tuple(budgets()),
        machines="auto",
    )
    samples: Samples = {}
    await exporter.start()
    gc.disable()
    try:
        for number in range(STEPS):
            for job in due(number):
                await exporter.run(job)
            await exporter.publish()
            take((await exporter.scrape()).decode(), number, samples)
            clock.now += STEP
    finally:
        gc.enable()
    await exporter.stop()
    return samples


def replayed(samples: Samples, folder: Path, program: Program) -> str:
    """Return what promtool has to say of the claim that no alert was ever firing."""
    minutes = int(STEP.total_seconds()) // 60
    span = f"{STEPS * minutes}m"
    series = [{"series": name, "values": " ".join(values)} for name, values in samples.items()]
    series.append({"series": 'up{instance="exporter:8080",job="fal"}', "values": f"1x{STEPS}"})
    claim = {
        "expr": f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{span}]))',
        "exp_samples": [],
    }
    replay = {
        "rule_files": [str(RULES / f"{file}.yaml") for file in FILES],
        "group_eval_order": [f"fal-{file}" for file in FILES],
        "evaluation_interval": f"{minutes}m",
        "tests": [
            {"interval": f"{minutes}m", "input_series": series, "promql_expr_test": [claim | {"eval_time": span}]}
        ],
    }
    (folder / "replay.json").write_text(json.dumps(replay))
    promtool = program("promtool", "prometheus")
    done = subprocess.run(
        [promtool, "test", "rules", folder / "replay.json"], capture_output=True, text=True, check=False, timeout=300
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def weeks(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return asyncio.run(live(tmp_path_factory.mktemp("weeks")))
    finally:
        structlog.configure(**before)


def test_the_weeks_have_all_that_alerts_look_at(weeks: Samples) -> None:
    seen = {series.partition("{")[0] for series in weeks}
    news = {name for name in USED if "_previous_" in name or "_changed_" in name or "_first_seen_" in name}
    # The web process stamps its snapshots in a task of its own, which this exporter does without; no file says who may
    # ask it; it is no replica; the account has neither budgets of its own at fal nor a floor of its credit; nothing is
    # pushed; and its keys, which a job of their own lists, were made in these weeks, which is news and told as such. No
    # bookings are compared with charges.
    rare = {
        "fal_api_key_created_timestamp_seconds",
        "fal_api_key_unused_since_timestamp_seconds",
        "fal_exporter_access_file_last_reload_successful",
        "fal_exporter_replica_problem",
        "fal_exporter_snapshot_timestamp_seconds",
        "fal_provider_budget_usd",
        "fal_credit_floor_usd",
        "fal_focus_push_up",
        "fal_remote_write_up",
    }
    compared = {name for name in USED if name.startswith("fal_booked_")}
    assert USED - seen <= rare | news | compared


def test_two_quiet_weeks_raise_nothing(weeks: Samples, tmp_path: Path, program: Program) -> None:
    assert "SUCCESS" in replayed(weeks, tmp_path, program)


def test_one_hour_that_is_not_quiet_would_have_been_noticed(weeks: Samples, tmp_path: Path, program: Program) -> None:
    series = next(name for name in weeks if name.startswith("fal_spend_last_hour_usd{"))
    values = weeks[series]
    loud = weeks | {series: [*values[:100], "501", *values[101:]]}
    assert 'got: {alertname="FalSpendAboveHourlyLimit"}' in replayed(loud, tmp_path, program)
