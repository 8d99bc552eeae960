from datetime import UTC, datetime

import pytest
from fal.conftest import Bench, Fal, as_json, refused

from exporter.charges import HOUR, Window, hour_number, hour_of
from exporter.fal.errors import NotFoundError, ShapeError
from exporter.fal.machines import APP, MODEL, read_apps, read_idle_runners, read_queue, read_requests, read_runners
from exporter.machines import AppSettings, RequestHour, RunnerHour, Runners

APPS = "/v1/serverless/apps"
HISTORY = "/v1/serverless/apps/studio/my-app/runners/history"
START = datetime(2026, 11, 21, 10, tzinfo=UTC)
WINDOW = Window(START, START + 3 * HOUR)


def app_row(**changes: object) -> dict[str, object]:
    row = {
        "endpoint_id": "studio/my-app",
        "environment": "main",
        "machine_type": "GPU-H100",
        "keep_alive": 300,
        "min_concurrency": 0,
        "max_concurrency": 2,
        "updated_at": "2026-07-01T12:00:00Z",
        "endpoints": ["studio/my-app", "studio/my-app/turbo"],
    }
    return {name: value for name, value in (row | changes).items() if value != "absent"}


async def test_apps_are_read_with_their_settings_and_endpoints(fal: Fal, bench: Bench) -> None:
    fal.plays(APPS, as_json({"apps": [app_row(), app_row(environment="staging", endpoints="absent")]}))
    main, staging = await read_apps(bench.client())
    changed = datetime(2026, 7, 1, 12, tzinfo=UTC)
    assert main.settings == AppSettings("prod", "studio", "my-app", "main", "GPU-H100", 300, 0, 2, changed)
    assert main.endpoints == ("studio/my-app", "studio/my-app/turbo")
    assert (staging.settings.environment, staging.endpoints) == ("staging", ("studio/my-app",))


async def test_an_app_that_cannot_be_read_is_left_out_and_a_missing_setting_is_none(fal: Fal, bench: Bench) -> None:
    rows = [app_row(endpoint_id="nameless"), app_row(keep_alive=-1), 7, app_row(keep_alive=None, updated_at="absent")]
    fal.plays(APPS, as_json({"apps": rows}))
    found = await read_apps(bench.client())
    assert sum(found.rejected.values()) == 3
    assert [(item.settings.keep_alive, item.settings.updated_at) for item in found] == [(None, None)]


async def test_runners_of_an_hour_are_exact_and_complete_once_it_is_over(fal: Fal, bench: Bench) -> None:
    rows = [
        {"timestamp": "2026-11-21T10:00:00Z", "running": 1.5, "idle": 0.123456789, "pending": 0, "draining": 2},
        {"timestamp": "2030-11-21T10:00:00Z", "running": 1, "idle": 0, "pending": 0, "draining": 0},
        {"timestamp": "2026-11-21T11:00:00Z", "running": "many", "idle": 0, "pending": 0, "draining": 0},
    ]
    fal.plays(HISTORY, as_json({"history": rows}))
    found = await read_runners(bench.client(), "studio", "my-app", WINDOW)
    states = Runners(1_500_000_000, 123_456_789, 0, 2_000_000_000)
    assert tuple(found) == (RunnerHour("prod", "my-app", hour_number(START), states, complete=True),)
    assert sum(found.rejected.values()) == 1
    assert fal.requests[0].query == {
        "start": ["2026-11-21T10:00:00Z"],
        "end": ["2026-11-21T13:00:00Z"],
        "timeframe": ["hour"],
        "aggregation": ["avg"],
    }


async def test_the_running_hour_is_not_complete(fal: Fal, bench: Bench) -> None:
    client = bench.client()
    hour = hour_of(client.now())
    states = {"running": 1, "idle": 0, "pending": 0, "draining": 0}
    stamps = [{"timestamp": (hour - back * HOUR).isoformat(), **states} for back in (1, 0)]
    fal.plays(HISTORY, as_json({"history": stamps}))
    found = await read_runners(client, "studio", "my-app", Window(hour - HOUR, hour + HOUR))
    assert [(item.hour, item.complete) for item in found] == [(hour_number(hour) - 1, True), (hour_number(hour), False)]


async def test_a_name_is_escaped_in_the_path(fal: Fal, bench: Bench) -> None:
    fal.plays("/v1/serverless/apps/studio/a b/queue", as_json({"queue_size": 5}))
    assert await read_queue(bench.client(), "studio", "a b") == 5


@pytest.mark.parametrize("answer", [{}, {"queue_size": -1}, {"queue_size": "x"}, []])
async def test_a_queue_that_cannot_be_read_is_an_error(fal: Fal, bench: Bench, answer: object) -> None:
    fal.plays("/v1/serverless/apps/studio/my-app/queue", as_json(answer))
    with pytest.raises(ShapeError, match="size of the queue"):
        await read_queue(bench.client(), "studio", "my-app")


async def test_idle_runners_are_the_mean_of_the_last_minutes(fal: Fal, bench: Bench) -> None:
    rows = [
        {"timestamp": f"2026-11-21T10:0{minute}:00Z", "running": 1, "idle": idle, "pending": 0, "draining": 0}
        for minute, idle in enumerate((1, 2, 0))
    ]
    fal.plays(HISTORY, as_json({"history": [*rows, "text"]}), as_json({"history": []}))
    assert await read_idle_runners(bench.client(), "studio", "my-app") == 10**9
    assert await read_idle_runners(bench.client(), "studio", "my-app") is None


def bucket(hour: int, *rows: object) -> dict[str, object]:
    return {"bucket": f"2026-11-21T{hour:02}:00:00Z", "results": list(rows)}


def counts(endpoint: str, requests: int, **more: object) -> dict[str, object]:
    return {"endpoint_id": endpoint, "request_count": requests, "success_count": requests - 2} | more


async def test_requests_of_all_endpoints_of_an_app_are_added_up(fal: Fal, bench: Bench) -> None:
    rows = [
        counts("studio/my-app", 10, user_error_count=1, error_count=1, cold_boot_count=3, total_billable_duration=1.5),
        counts("studio/my-app/turbo", 4, cold_boot_count=1),
        counts("other/app", 100),
        {"endpoint_id": "studio/my-app"},
    ]
    fal.plays("/v1/serverless/analytics", as_json({"time_series": [bucket(10, *rows)], "has_more": False}))
    names = {"studio/my-app": "my-app", "studio/my-app/turbo": "my-app"}
    found = await read_requests(bench.client(), APP, names, WINDOW)
    assert tuple(found) == (RequestHour("prod", APP, "my-app", hour_number(START), 14, 10, 1, 1, 4, 1_500_000_000),)
    assert sum(found.rejected.values()) == 1
    assert fal.requests[0].query["endpoint_id"] == sorted(names)


async def test_an_endpoint_that_fal_does_not_know_hides_no_others(fal: Fal, bench: Bench) -> None:
    unknown = refused(404, "not_found", "Endpoint was not found.")
    known = as_json({"time_series": [bucket(11, counts("fal-ai/b", 5))], "has_more": False})
    fal.plays("/v1/models/analytics", unknown, unknown, known)
    found = await read_requests(bench.client(), MODEL, {"fal-ai/a": "fal-ai/a", "fal-ai/b": "fal-ai/b"}, WINDOW)
    assert [(item.name, item.requests, item.cold_starts) for item in found] == [("fal-ai/b", 5, 0)]


async def test_an_app_that_is_gone_is_told_of(fal: Fal, bench: Bench) -> None:
    fal.plays(HISTORY, refused(404, "not_found", "App was not found."))
    with pytest.raises(NotFoundError, match=r"/serverless/apps/\{owner\}/\{name\}/runners/history"):
        await read_runners(bench.client(), "studio", "my-app", WINDOW)
