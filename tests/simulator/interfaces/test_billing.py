from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import ADMIN_KEY, API_KEY, Fault, Key, Options, Simulator

Ask = Callable[..., Awaitable[object]]
Pages = Callable[..., Awaitable[list[dict[str, object]]]]


async def test_both_hosts_tell_the_same_balance(ask: Ask) -> None:
    billing = await ask("/v1/account/billing", expand="credits")
    assert billing["username"] == "acme"
    assert billing["credits"]["currency"] == "USD"
    assert billing["credits"]["current_balance"] == await ask("/billing/user_balance") > 0


async def test_credits_are_told_where_asked_only(ask: Ask) -> None:
    assert await ask("/v1/account/billing") == {"username": "acme"}


async def test_a_planted_balance_may_be_negative_on_the_older_host(ask: Ask, simulator: Simulator) -> None:
    simulator.faults.add(Fault("balance", amount=-180_000_000))
    assert await ask("/billing/user_balance") == Decimal("-0.18")
    assert (await ask("/v1/account/billing", expand="credits"))["credits"]["current_balance"] == 0


async def test_prices_are_the_list_prices_of_the_usage(ask: Ask) -> None:
    answer = await ask("/v1/models/pricing", endpoint_id="fal-ai/flux/dev,fal-ai/veo3")
    assert [(row["endpoint_id"], row["unit_price"], row["unit"]) for row in answer["prices"]] == [
        ("fal-ai/flux/dev", Decimal("0.025"), "image"),
        ("fal-ai/veo3", Decimal("0.4"), "second"),
    ]


async def test_a_price_needs_a_known_endpoint(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/models/pricing")).status_code == 400
    unknown = await client.get("/v1/models/pricing", params={"endpoint_id": "fal-ai/none"})
    assert unknown.status_code == 404
    assert unknown.json()["error"]["type"] == "not_found"


async def test_one_team_is_the_root(ask: Ask) -> None:
    teams = (await ask("/v1/organization/teams"))["teams"]
    assert [team["username"] for team in teams if team["is_org_root"]] == ["acme"]
    assert len(teams) == 5


async def test_invoices_are_an_array_newest_first(ask: Ask) -> None:
    invoices = await ask("/billing/invoices")
    starts = [invoice["period_start"] for invoice in invoices]
    assert starts == sorted(starts, reverse=True)
    assert invoices[0]["status"] == "draft"
    assert invoices[0]["issued_at"] is None
    for invoice in invoices:
        assert invoice["total"] == invoice["subtotal"] - invoice["credits"] + invoice["tax"]
        assert invoice["status"] in {"paid", "open", "draft", "void"}
        assert invoice["currency"] == "USD"
    assert len({invoice["id"] for invoice in invoices}) == len(invoices)


USER, DETAILS = "/users/current", "/billing/user_details"


async def test_both_account_calls_of_the_older_host_agree(ask: Ask) -> None:
    user, details = await ask(USER), await ask(DETAILS)
    assert user == {
        "full_name": "Acme",
        "nickname": "acme",
        "user_id": details["user_id"],
        "is_personal": False,
        "is_locked": False,
        "is_paying": True,
    }
    assert details == {
        "user_id": user["user_id"],
        "soft_monthly_budget": None,
        "hard_monthly_budget": None,
        "lock_reason": None,
        "is_paying": True,
        "is_locked": False,
    }


async def test_keys_of_one_team_are_of_one_user_and_those_of_another_are_not(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    simulator.keys["labs:secret"] = Key("labs:secret", team="acme-labs")
    users = [
        (await client.get(USER, headers={"authorization": f"Key {key}"})).json()
        for key in (ADMIN_KEY, API_KEY, "labs:secret")
    ]
    assert [user["nickname"] for user in users] == ["acme", "acme", "acme-labs"]
    assert users[0]["user_id"] == users[1]["user_id"] != users[2]["user_id"]


@pytest.mark.parametrize("readable", [0, 1])
async def test_a_lock_is_told_where_it_is_asked_for(
    client: httpx.AsyncClient, simulator: Simulator, readable: int
) -> None:
    simulator.faults.add(Fault("locked", reason="Admin lock. Write to support.", readable=bool(readable)))
    for path in (USER, DETAILS):
        answer = (await client.get(path)).json()
        assert (answer["is_locked"], answer["lock_reason"]) == (True, "Admin lock. Write to support.")
    statuses = {(await client.get(path)).status_code for path in ("/billing/user_balance", "/v1/models/usage")}
    assert statuses == {200 if readable else 403}


async def test_a_spent_hard_budget_locks_until_it_is_raised(
    client: httpx.AsyncClient, simulator: Simulator, truth: Callable[..., Decimal]
) -> None:
    spent = int(truth("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"))

    async def details(**budgets: object) -> dict[str, object]:
        await client.put("/_simulator/faults", json={"fault": "account_details", **budgets})
        return (await client.get(DETAILS)).json()

    locked = await details(soft_budget=10, hard_budget=spent - 1, is_paying=False)
    assert (locked["soft_monthly_budget"], locked["hard_monthly_budget"]) == (10, spent - 1)
    assert (locked["is_locked"], locked["is_paying"]) == (True, False)
    assert str(locked["lock_reason"]).startswith("User budget is exceeded.")
    raised = await details(hard_budget=spent + 1)
    assert (raised["is_locked"], raised["lock_reason"], raised["soft_monthly_budget"]) == (False, None, None)
    simulator.options = Options(hard_budget=spent - 1)
    await client.delete("/_simulator/faults")
    assert (await client.get(USER)).json()["is_locked"]


async def test_listed_keys_are_those_of_the_usage_and_some_unused(pages: Pages, simulator: Simulator) -> None:
    found = [key for page in await pages("/v1/keys", limit="3") for key in page["keys"]]
    assert len(await pages("/v1/keys", limit="3")) > 2
    assert all(key.keys() == {"key_id", "alias", "scope", "created_at"} for key in found)
    assert len({key["key_id"] for key in found}) == len(found)
    span = {"start": "2026-11-01T00:00:00Z", "end": "2026-11-21T00:00:00Z"}
    used = {row["api_key"] for row in simulator.statement(**span, source="models", group_by="api_key")["charges"]}
    assert used < {key["key_id"] for key in found}
    created = [key["created_at"] for key in found]
    assert created == sorted(created)
    assert created[-1] < "2026-11-21"


async def test_keys_tell_who_made_them_where_asked(ask: Ask) -> None:
    named = (await ask("/v1/keys", expand="creator_info"))["keys"]
    assert all(key["creator_email"].startswith(key["creator_nickname"]) for key in named)


async def test_new_keys_appear_with_time(ask: Ask, simulator: Simulator) -> None:
    before = {key["key_id"] for key in (await ask("/v1/keys"))["keys"]}
    simulator.clock.now += timedelta(days=61)
    assert len({key["key_id"] for key in (await ask("/v1/keys"))["keys"]} - before) in {1, 2}


async def test_an_alias_may_change_while_the_id_stays(ask: Ask, simulator: Simulator) -> None:
    before = (await ask("/v1/keys"))["keys"]
    simulator.faults.add(Fault("key_alias", of_key=before[0]["key_id"], alias="renamed"))
    after = (await ask("/v1/keys"))["keys"]
    assert after == [before[0] | {"alias": "renamed"}, *before[1:]]


async def test_a_team_lists_its_own_keys(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.keys["labs:secret"] = Key("labs:secret", team="acme-research")
    listed = (await client.get("/v1/keys", headers={"authorization": "Key labs:secret"})).json()["keys"]
    owners = {key.id: key.team for key in simulator.account.world.keys}
    assert {owners.get(key["key_id"], "acme-research") for key in listed} == {"acme-research"}
    assert len(listed) < len(simulator.account.world.keys)


async def test_prices_are_listed_of_endpoints_that_nobody_uses(ask: Ask, simulator: Simulator) -> None:
    unused = "fal-ai/sync-lipsync/v2"
    assert unused not in {line.model for line in simulator.account.world.lines}
    assert (await ask("/v1/models/pricing", endpoint_id=unused))["prices"][0]["unit_price"] == Decimal("0.05")
