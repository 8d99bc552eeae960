from collections.abc import Awaitable, Callable
from datetime import timedelta

import httpx
import pytest

from exporter.simulator import ADMIN_KEY, API_KEY, Fault, Simulator, demo_faults

SPAN = {"start": "2026-11-20T00:00:00Z", "end": "2026-11-20T04:00:00Z", "timeframe": "hour"}
PATH = "/v1/models/usage"
Ask = Callable[..., Awaitable[dict[str, object]]]

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
    for second in range(0, 600, 2):
        if simulator.faults.hits("/v1/serverless/usage"):
            hit.append(second)
        simulator.clock.now += timedelta(seconds=2)
    assert hit == [*range(260, 300, 2), *range(560, 600, 2)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "gremlins"},
        {"kind": "server_error", "status": 404},
        {"kind": "rate_limited", "retry_after": "soon"},
        {"kind": "hang", "probability": 2},
        {"kind": "hang", "times": 0},
        {"kind": "hang", "every": 5, "lasts": 6},
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        Fault(**wrong)


def rows_of(page: dict[str, object]) -> list[dict[str, object]]:
    return [row for bucket in page["time_series"] for row in bucket["results"]]


async def test_a_duplicated_page_comes_under_a_cursor_of_its_own(
    simulator: Simulator, pages: Callable[..., Awaitable[list[dict[str, object]]]]
) -> None:
    whole = await pages(PATH, **SPAN, limit="20")
    simulator.faults.add(Fault("duplicated_page"))
    found = await pages(PATH, **SPAN, limit="20")
    assert [rows_of(page) for page in found] == [rows_of(page) for page in whole for _ in range(2)]
    cursors = [page["next_cursor"] for page in found]
    assert len({*cursors}) == len(cursors)


async def test_a_repeated_cursor_leads_to_the_same_page_for_ever(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("repeated_cursor"))
    first = await ask(PATH, **SPAN, limit="20")
    second = await ask(PATH, **SPAN, limit="20", cursor=first["next_cursor"])
    assert second == first
    assert second["has_more"] is True


async def test_endless_pages_have_ever_new_cursors(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("endless_pages"))
    cursors = [(await ask(PATH, **SPAN))["next_cursor"]]
    for _ in range(5):
        cursors.append((await ask(PATH, **SPAN, cursor=cursors[-1]))["next_cursor"])
    assert len({*cursors}) == 6


@pytest.mark.parametrize("path", [PATH, "/v1/serverless/usage", "/v1/organization/usage", "/billing/usage"])
async def test_an_empty_answer_is_right_in_shape(simulator: Simulator, ask: Ask, path: str) -> None:
    whole = await ask(path)
    simulator.faults.add(Fault("empty_answer"))
    empty = await ask(path)
    assert empty.keys() == whole.keys()
    assert not empty.get("time_series")
    assert not empty.get("usage")
    assert not empty.get("has_more")


async def test_fields_go_missing_in_every_so_many_th_row(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("missing_fields", fields=("cost", "cost_total"), every_row=3))
    for number, row in enumerate(rows_of(await ask(PATH, **SPAN)), start=1):
        assert ("cost_total" in row) == bool(number % 3)


async def test_types_are_wrong(simulator: Simulator, ask: Ask) -> None:
    simulator.faults.add(Fault("wrong_types", fields=("quantity",)))
    values = [row["quantity"] for row in rows_of(await ask(PATH, **SPAN))]
    assert all(value is None or isinstance(value, str | list | dict | bool) for value in values)
    assert await ask("/billing/user_balance") == "seven"


async def test_unknown_fields_leave_the_known_ones_alone(simulator: Simulator, ask: Ask) -> None:
    whole = await ask(PATH, **SPAN)
    simulator.faults.add(Fault("unknown_fields"))
    extended = await ask(PATH, **SPAN)
    assert extended.pop("x_new_field") == "unknown"
    assert all(row.pop("x_new_field") for row in rows_of(extended))
    assert extended == whole


@pytest.mark.parametrize("path", ["/billing/invoices", "/v1/account/billing", "/v1/models/billing-events"])
async def test_other_bodies_are_changed_too(simulator: Simulator, client: httpx.AsyncClient, path: str) -> None:
    parameters = {"expand": "credits"} if path.endswith("account/billing") else {}
    whole = (await client.get(path, params=parameters)).text
    simulator.faults.add(Fault("missing_fields"))
    assert len((await client.get(path, params=parameters)).text) < len(whole)
