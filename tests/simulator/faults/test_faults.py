from datetime import timedelta

import httpx
import pytest

from exporter.simulator import ADMIN_KEY, API_KEY, Fault, Simulator, demo_faults

BALANCE = "/billing/user_balance"


async def statuses(client: httpx.AsyncClient, calls: int, path: str = BALANCE) -> list[int]:
    return [(await client.get(path)).status_code for _ in range(calls)]


async def test_a_fault_hits_the_next_so_many_calls(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("server_error", status=503, times=2))
    assert await statuses(client, 4) == [503, 503, 200, 200]


async def test_a_fault_hits_the_paths_of_its_pattern(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("server_error", path="/v1/*"))
    assert await statuses(client, 1) == [200]
    assert await statuses(client, 1, "/v1/account/billing") == [500]


async def test_a_fault_hits_its_share_of_calls_the_same_way_again(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    simulator.faults.add(Fault("server_error", probability=0.5))
    first = await statuses(client, 40)
    assert 8 < first.count(500) < 32
    again = Simulator(simulator.account.world, simulator.clock, faults=[Fault("server_error", probability=0.5)])
    assert [500 if again.faults.hits(BALANCE) else 200 for _ in range(40)] == first


async def test_a_scheduled_fault_is_a_function_of_time(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("server_error", every=60, lasts=10))
    seen = []
    for _ in range(24):
        seen += await statuses(client, 1)
        simulator.clock.now += timedelta(seconds=5)
    assert seen == ([200] * 10 + [500] * 2) * 2


async def test_a_fault_is_switched_off(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("server_error"), Fault("not_found"))
    simulator.faults.remove("server_error")
    assert await statuses(client, 1) == [404]
    simulator.faults.clear()
    assert await statuses(client, 1) == [200]


@pytest.mark.parametrize(
    ("form", "header"), [("none", None), ("seconds", "7"), ("date", "Sat, 21 Nov 2026 14:37:19 GMT")]
)
async def test_429_carries_retry_after_as_told(
    simulator: Simulator, client: httpx.AsyncClient, form: str, header: str | None
) -> None:
    simulator.faults.add(Fault("rate_limited", retry_after=form, seconds=7))
    response = await client.get("/v1/account/billing")
    assert response.status_code == 429
    assert response.headers.get("retry-after") == header
    assert response.json()["error"]["type"] == "rate_limited"


async def test_a_locked_account_answers_403_with_its_reason(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("locked", reason="TOP_UP"))
    older, platform = await client.get(BALANCE), await client.get("/v1/models/usage")
    assert (older.status_code, older.json()) == (403, {"detail": "User is locked. Reason: TOP_UP"})
    assert (platform.status_code, platform.json()["error"]["message"]) == (403, "User is locked. Reason: TOP_UP")


async def test_a_key_is_revoked(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("key_revoked", key_id=ADMIN_KEY.partition(":")[0]))
    assert await statuses(client, 1) == [401]
    client.headers["authorization"] = f"Key {API_KEY}"
    assert await statuses(client, 1) == [200]


async def test_the_admin_scope_is_removed(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("scope_removed"))
    assert await statuses(client, 1) == [200]
    assert await statuses(client, 1, "/v1/models/usage") == [403]


async def test_the_feature_is_disabled(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("feature_disabled"))
    assert await statuses(client, 1, "/v1/organization/usage") == [403]
    assert await statuses(client, 1, "/v1/models/usage") == [200]


async def test_a_skewed_clock_dates_answers_and_hides_what_it_has_not_seen(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    simulator.faults.add(Fault("clock_skew", seconds=-7200))
    response = await client.get("/v1/models/usage")
    assert response.headers["date"] == "Sat, 21 Nov 2026 12:37:12 GMT"
    assert response.json()["time_series"][-1]["bucket"] == "2026-11-21T12:00:00Z"


async def test_a_demo_fails_now_and_then_but_not_at_its_start(simulator: Simulator) -> None:
    simulator.faults.add(*demo_faults())
    hit = []
    for second in range(0, 2_400, 5):
        if simulator.faults.hits("/v1/serverless/usage"):
            hit.append(second)
        simulator.clock.now += timedelta(seconds=5)
    assert hit == [*range(1_175, 1_200, 5), *range(2_375, 2_400, 5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "gremlins"},
        {"kind": "server_error", "status": 404},
        {"kind": "refused", "status": 500},
        {"kind": "refused", "after": -1},
        {"kind": "refused", "query": "group_by"},
        {"kind": "odd_rows", "oddity": "blue"},
        {"kind": "split_rows", "rows": 0},
        {"kind": "rate_limited", "retry_after": "soon"},
        {"kind": "hang", "probability": 2},
        {"kind": "hang", "times": 0},
        {"kind": "hang", "every": 5, "lasts": 6},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Fault(**wrong)


async def test_one_refusal_of_a_detail_comes_after_good_answers(
    simulator: Simulator, client: httpx.AsyncClient
) -> None:
    simulator.faults.add(Fault("refused", path="/billing/usage", query="group_by=*,*", status=400, after=2, times=1))

    async def asked(group_by: str) -> int:
        return (await client.get("/billing/usage", params={"group_by": group_by})).status_code

    assert [await asked("model,gpu_class") for _ in range(2)] == [200, 200]
    assert await asked("model") == 200
    assert [await asked("model,gpu_class") for _ in range(3)] == [400, 200, 200]
    assert simulator.faults.planted[0].hits == 1


@pytest.mark.parametrize("status", [400, 403, 404, 422])
async def test_a_refusal_of_the_expanded_report_leaves_the_plain_one_alone(
    simulator: Simulator, client: httpx.AsyncClient, status: int
) -> None:
    simulator.faults.add(Fault("refused", path="/v1/account/focus", query="expand=organization", status=status))
    parameters = {"source": "estimate", "timeframe": "day"}
    expanded = await client.get("/v1/account/focus", params=parameters | {"expand": "organization"})
    assert expanded.status_code == status
    assert expanded.json()["error"]["message"]
    assert (await client.get("/v1/account/focus", params=parameters)).status_code == 200


async def test_a_refusal_can_be_of_one_key_and_have_a_message(simulator: Simulator, client: httpx.AsyncClient) -> None:
    simulator.faults.add(Fault("refused", path=BALANCE, key_id="simulator-api", message="Not today."))
    assert await statuses(client, 1) == [200]
    other = await client.get(BALANCE, headers={"authorization": f"Key {API_KEY}"})
    assert (other.status_code, other.json()) == (403, {"detail": "Not today."})
