from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import GlitchedJob, IdleSpan, Key, PlantedSpend, Simulator, World, company
from exporter.simulator.interfaces.serverless import shares_of
from exporter.simulator.world.exact import HOUR, NANO, microseconds

Ask = Callable[..., Awaitable[dict[str, object]]]
APPS = "/v1/serverless/apps"
SPAN = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
STATES = ("running", "idle", "pending", "draining")


async def test_apps_are_those_of_the_usage(ask: Ask, simulator: Simulator) -> None:
    apps = (await ask(APPS))["apps"]
    told = simulator.statement(**SPAN, source="serverless", group_by="team,app,machine_type")["charges"]
    assert {(app["owner"], app["name"]) for app in apps} == {(row["team"], row["app"]) for row in told if row["app"]}
    machines = {(row["team"], row["app"], row["machine_type"]) for row in told}
    for app in apps:
        assert app["endpoint_id"] == f"{app['owner']}/{app['name']}"
        assert (app["owner"], app["name"], app["machine_type"]) in machines
        assert app["auth_mode"] in {"private", "public", "shared"}
        assert app["min_concurrency"] < app["max_concurrency"]
        assert app["keep_alive"] > 0
        assert app.keys() == {
            *("endpoint_id", "name", "owner", "environment", "machine_type", "auth_mode", "keep_alive"),
            *("min_concurrency", "max_concurrency", "request_timeout", "startup_timeout", "valid_regions"),
            "updated_at",
        }


@pytest.mark.parametrize("world", [company(7, datetime(2026, 11, 21, 14, tzinfo=UTC))], ids=["demo"])
async def test_no_app_has_more_runners_than_its_settings_allow(ask: Ask) -> None:
    for app in (await ask(APPS))["apps"]:
        answer = await ask(f"{APPS}/{app['endpoint_id']}/runners/history", **SPAN, aggregation="avg", timeframe="hour")
        busiest = max(sum(Decimal(str(row[state])) for state in STATES) for row in answer["history"])
        assert busiest <= app["max_concurrency"], app["endpoint_id"]


async def test_apps_are_found_by_environment_and_name(ask: Ask) -> None:
    everything = (await ask(APPS, expand="endpoints"))["apps"]
    prod = (await ask(APPS, environment="prod"))["apps"]
    assert 0 < len(prod) < len(everything)
    assert {app["environment"] for app in prod} == {"prod"}
    assert [app["name"] for app in (await ask(APPS, search="AVATAR"))["apps"]] == ["avatar-studio"]
    assert all(app["endpoints"] == [app["endpoint_id"]] for app in everything)


async def test_a_team_sees_its_own_apps(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.keys["labs:secret"] = Key("labs:secret", team="acme-research")
    client.headers["authorization"] = "Key labs:secret"
    apps = (await client.get(APPS)).json()["apps"]
    assert {app["owner"] for app in apps} == {"acme-research"}
    assert (await client.get(f"{APPS}/acme/avatar-studio/queue")).status_code == 404
    assert (await client.get(f"{APPS}/{apps[0]['endpoint_id']}/queue")).status_code == 200


async def test_requests_wait_at_times_in_the_queue(ask: Ask, simulator: Simulator) -> None:
    sizes = []
    for _ in range(60):
        simulator.clock.now += timedelta(minutes=10)
        sizes.append((await ask(f"{APPS}/acme/avatar-studio/queue"))["queue_size"])
    assert min(sizes) == 0 < max(sizes)
    assert all(isinstance(size, int) for size in sizes)


@pytest.mark.parametrize("timeframe", ["hour", "day"])
async def test_runners_are_those_billed_and_idle_money_is_known(ask: Ask, simulator: Simulator, timeframe: str) -> None:
    parameters = SPAN | {"timeframe": timeframe, "aggregation": "avg"}
    seconds = 3600 if timeframe == "hour" else 86400
    for app in (await ask(APPS))["apps"]:
        answer = await ask(f"{APPS}/{app['endpoint_id']}/runners/history", **parameters)
        assert (answer["endpoint_id"], answer["timeframe"], answer["aggregation"]) == (
            *(app["endpoint_id"], timeframe, "avg"),
        )
        history = answer["history"]
        assert len(history) == 86400 // seconds
        told = simulator.statement(**SPAN, source="serverless", group_by="hour,team,app", idle="true", final="true")[
            "charges"
        ]
        hours = [row for row in told if (row["team"], row["app"]) == (app["owner"], app["name"])]
        runners = sum(row[state] for row in history for state in STATES)
        assert abs(runners * seconds - sum(Decimal(row["quantity"]) for row in hours)) < Decimal("1E-8")
        idle = sum(row["idle"] for row in history)
        assert abs(idle * seconds - sum(Decimal(row["idle_seconds"]) for row in hours)) < Decimal("1E-6")
        assert all(row["idle"] > 0 and row["running"] > 0 for row in history)
        if timeframe == "hour":
            for row, hour in zip(history, hours, strict=True):
                share = row["idle"] / sum(row[state] for state in STATES)
                assert abs(share * Decimal(hour["cost"]) - Decimal(hour["idle_cost"])) < Decimal("1E-6")
                assert Decimal(hour["idle_cost"]) * NANO == hour["idle_nano_usd"]


async def test_runners_of_the_running_hour_are_the_mean_so_far(ask: Ask, simulator: Simulator) -> None:
    parameters = {"timeframe": "hour", "aggregation": "avg", "start": "2026-11-21T14:00:00Z"}
    (row,) = (await ask(f"{APPS}/acme/avatar-studio/runners/history", **parameters))["history"]
    so_far = {"start": "2026-11-21T14:00:00Z", "end": "2026-11-21T14:37:12Z"}
    told = simulator.statement(**so_far, group_by="team,app", source="serverless", final="true")["charges"]
    (seconds,) = (row["quantity"] for row in told if (row["team"], row["app"]) == ("acme", "avatar-studio"))
    assert abs(sum(row[state] for state in STATES) * (37 * 60 + 12) - Decimal(seconds)) < Decimal("1E-8")


async def test_the_most_runners_are_whole_numbers_above_the_mean(ask: Ask) -> None:
    path = f"{APPS}/acme/avatar-studio/runners/history"
    most = (await ask(path, **SPAN, timeframe="hour"))["history"]
    mean = (await ask(path, **SPAN, timeframe="hour", aggregation="avg"))["history"]
    for high, low in zip(most, mean, strict=True):
        for state in STATES:
            assert isinstance(high[state], int)
            assert high[state] - 1 < low[state] <= high[state]


async def test_injected_spend_of_an_app_has_runners_too(ask: Ask, simulator: Simulator) -> None:
    hour = microseconds(simulator.clock()) // HOUR - 30
    job = GlitchedJob(
        product="serverless", model="", app="runaway", machine="GPU-H100", unit="second", quantity=7200 * NANO
    )
    simulator.faults.add(PlantedSpend(hour, job.line(72 * NANO)))
    assert "runaway" in {app["name"] for app in (await ask(APPS))["apps"]}
    span = {"start": "2026-11-20T08:00:00Z", "end": "2026-11-20T09:00:00Z"}
    answer = await ask(f"{APPS}/acme/runaway/runners/history", **span, timeframe="hour", aggregation="avg")
    (row,) = answer["history"]
    assert abs(sum(row[state] for state in STATES) - 2) < Decimal("1E-9")


@pytest.mark.parametrize(
    ("path", "parameters", "status"),
    [
        (f"{APPS}/acme/nothing/runners/history", {}, 404),
        (f"{APPS}/acme/avatar-studio/runners/history", {"aggregation": "median"}, 400),
        (f"{APPS}/acme/avatar-studio/runners/history", {"start": "2026-01-01"}, 400),
        ("/v1/serverless/analytics", {}, 400),
        ("/v1/serverless/analytics", {"endpoint_id": "acme/nothing"}, 404),
    ],
)
async def test_what_is_not_there_is_refused(
    client: httpx.AsyncClient, path: str, parameters: dict[str, str], status: int
) -> None:
    response = await client.get(path, params=parameters)
    assert response.status_code == status
    assert response.json()["error"]["message"]


async def test_analytics_count_the_charged_requests_of_an_app(ask: Ask, simulator: Simulator) -> None:
    parameters = SPAN | {"endpoint_id": "acme/avatar-studio", "timeframe": "hour"}
    expand = "time_series,summary,success_count,total_billable_duration"
    answer = await ask("/v1/serverless/analytics", **parameters, expand=expand)
    told = simulator.statement(**SPAN, group_by="team,app", source="serverless", idle="true")["charges"]
    app = next(row for row in told if (row["team"], row["app"]) == ("acme", "avatar-studio"))
    assert answer["summary"][0]["success_count"] == app["requests"]
    series = [row for bucket in answer["time_series"] for row in bucket["results"]]
    assert sum(row["success_count"] for row in series) == app["requests"]
    worked = Decimal(app["quantity"]) - Decimal(app["idle_seconds"])
    assert worked / 2 < answer["summary"][0]["total_billable_duration"] < worked * 2


async def test_instances_are_the_compute_lines(pages: Ask, simulator: Simulator) -> None:
    found = [row for page in await pages("/v1/compute/instances", limit="1") for row in page["instances"]]
    compute = [line for line in simulator.account.world.lines if line.product == "compute"]
    assert [row["instance_type"] for row in found] == [line.machine for line in compute] != []
    assert {row["status"] for row in found} <= {"ready", "stopped"}
    assert len({row["id"] for row in found}) == len(found)


@pytest.mark.parametrize(
    ("hours", "idle"), [((22, 6), {22, 23, *range(6)}), ((9, 17), set(range(9, 17))), ((0, 24), set(range(24)))]
)
def test_runners_are_idle_in_the_hours_that_are_asked_for(hours: tuple[int, int], idle: set[int]) -> None:
    span = IdleSpan("shop", 900, 24_000, 24_024, hours)
    world = World(1, idle=(span,))
    found = {hour for hour in range(24) if shares_of(world, "shop", 24_000 + hour).idle == 900}
    assert found == idle
    assert not any(span.covers(app, hour) for app, hour in (("other", 24_001), ("shop", 24_024), ("shop", 23_999)))
    assert all(sum(shares_of(world, "shop", 24_000 + hour)) == 1000 for hour in range(24))
    assert all(min(shares_of(world, "shop", 24_000 + hour)) >= 0 for hour in range(24))
