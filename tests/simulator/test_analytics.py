from collections.abc import Awaitable, Callable

import httpx

from exporter.simulator import Simulator

Ask = Callable[..., Awaitable[dict[str, object]]]
PATH = "/v1/models/analytics"


async def test_successful_requests_are_the_charged_ones(ask: Ask, simulator: Simulator) -> None:
    span = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    answer = await ask(
        PATH, **span, endpoint_id="fal-ai/flux/dev", expand="time_series,summary,success_count,request_count"
    )
    told = simulator.statement(**span, group_by="model")["charges"]
    charged = next(row["requests"] for row in told if row["model"] == "fal-ai/flux/dev")
    assert answer["summary"][0]["success_count"] == charged
    assert answer["summary"][0]["request_count"] > charged
    series = [row for bucket in answer["time_series"] for row in bucket["results"]]
    assert sum(row["success_count"] for row in series) == charged


async def test_only_the_asked_metrics_are_told(ask: Ask) -> None:
    answer = await ask(PATH, endpoint_id="fal-ai/flux/dev", expand="summary,p50_duration,p99_duration")
    (row,) = answer["summary"]
    assert row.keys() == {"endpoint_id", "p50_duration", "p99_duration"}
    assert 0 < row["p50_duration"] < row["p99_duration"]


async def test_an_endpoint_is_required(client: httpx.AsyncClient) -> None:
    assert (await client.get(PATH)).status_code == 400
    assert (await client.get(PATH, params={"endpoint_id": "x", "expand": "summary"})).status_code == 400
