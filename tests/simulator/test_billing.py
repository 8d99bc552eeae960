from collections.abc import Awaitable, Callable
from decimal import Decimal

import httpx

from exporter.simulator import Fault, Simulator

Ask = Callable[..., Awaitable[object]]


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
