from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import ADMIN_KEY, API_KEY, Key, Options, Simulator, World, WorldSize, simulator_app
from exporter.simulator.app import CALLS

APP = "/v1/serverless/apps/{owner}/{name}"
OPEN_TO_ALL = {
    *("/billing/user_balance", "/billing/user_details", "/users/current", "/v1/models/pricing"),
    *("/v1/models/analytics", "/v1/serverless/analytics", "/v1/serverless/apps"),
    *(f"{APP}/queue", f"{APP}/runners/history"),
}
OF_THE_ROOT = {
    *("/v1/organization/usage", "/v1/organization/teams", "/v1/organization/focus"),
    "/v1/organization/billing-events",
}


def parameters(path: str) -> dict[str, str]:
    if path.endswith("focus"):
        return {"source": "estimate"}
    endpoint = "acme/avatar-studio" if path.startswith("/v1/serverless") else "fal-ai/flux/dev"
    return {"endpoint_id": endpoint} if path.startswith(("/v1/models", "/v1/serverless/analytics")) else {}


def url(path: str) -> str:
    return path.format(owner="acme", name="avatar-studio")


@pytest.mark.parametrize("path", CALLS)
@pytest.mark.parametrize("header", [None, "Key wrong:key", f"Bearer {ADMIN_KEY}", "Key "])
async def test_without_an_accepted_key_every_call_answers_401(
    client: httpx.AsyncClient, path: str, header: str | None
) -> None:
    headers = {"authorization": header} if header else {"authorization": ""}
    response = await client.get(url(path), headers=headers)
    assert response.status_code == 401
    assert "wrong:key" not in response.text
    if path.startswith("/v1"):
        error = response.json()["error"]
        assert error["type"] == "authorization_error"
        assert error["message"]
        assert error["request_id"] == response.headers["x-request-id"]
    else:
        assert response.json().keys() == {"detail"}


@pytest.mark.parametrize("path", CALLS)
async def test_an_api_key_may_only_make_the_calls_that_are_open_to_it(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(url(path), params=parameters(path), headers={"authorization": f"Key {API_KEY}"})
    assert response.status_code == (200 if path in OPEN_TO_ALL else 403)
    if response.status_code == 403:
        assert "admin" in response.text


async def test_a_teams_key_sees_its_team_alone(
    simulator: Simulator,
    client: httpx.AsyncClient,
    truth: Callable[..., Decimal],
    rows: Callable[..., Awaitable[object]],
) -> None:
    simulator.keys["labs:secret"] = Key("labs:secret", team="acme-labs")
    span = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    client.headers["authorization"] = "Key labs:secret"
    found = await rows("/v1/models/usage", **span)
    assert sum(row["cost"] for row in found) == truth(**span, source="models", team="acme-labs") > 0
    for path in OF_THE_ROOT:
        assert (await client.get(path, params=parameters(path))).status_code == 403


@pytest.mark.parametrize("path", sorted(OF_THE_ROOT | {"/v1/account/focus"}))
async def test_without_the_enterprise_feature_its_calls_answer_403(
    simulator: Simulator, client: httpx.AsyncClient, path: str
) -> None:
    simulator.options = Options(enterprise=False)
    response = await client.get(path, params=parameters(path))
    assert response.status_code == 403
    assert "not enabled" in response.json()["error"]["message"]


async def test_too_many_requests_a_minute_answer_429_until_the_minute_is_over(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    simulator.options = Options(requests_per_minute=2)
    statuses = [(await client.get("/v1/account/billing")).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]
    refused = await client.get("/v1/account/billing")
    assert refused.headers["retry-after"] == "60"
    assert refused.json()["error"]["type"] == "rate_limited"
    simulator.clock.now += timedelta(seconds=60)
    assert (await client.get("/v1/account/billing")).status_code == 200


async def test_unknown_paths_answer_404_in_the_shape_of_their_host(client: httpx.AsyncClient) -> None:
    platform, older = await client.get("/v1/nothing"), await client.get("/billing/nothing")
    assert (platform.status_code, platform.json()["error"]["type"]) == (404, "not_found")
    assert (older.status_code, older.json()) == (404, {"detail": "Not Found"})


async def test_other_methods_are_not_allowed(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/models/usage")).status_code == 405


async def test_answers_are_dated_by_the_simulators_clock(client: httpx.AsyncClient) -> None:
    response = await client.get("/billing/user_balance")
    assert response.headers["date"] == "Sat, 21 Nov 2026 14:37:12 GMT"


async def test_calls_are_counted_by_path(simulator: Simulator, client: httpx.AsyncClient) -> None:
    await client.get("/billing/user_balance")
    await client.get("/billing/user_balance")
    assert simulator.seen == {"/billing/user_balance": 2}


async def test_two_simulators_of_one_seed_answer_alike(clock: object) -> None:
    answers = []
    for _ in range(2):
        simulator = Simulator(World(11, size=WorldSize(models=2, apps=1), invoiced_months=1), clock)
        transport = httpx.ASGITransport(simulator_app(simulator))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://fal", headers={"authorization": f"Key {ADMIN_KEY}"}
        ) as client:
            answers.append([(await client.get(path, params=parameters(path))).text for path in CALLS])
    assert answers[0] == answers[1]


def test_no_key_shows_in_a_repr() -> None:
    assert "secret" not in repr(Key("id:secret"))
