import json
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import Key, Simulator
from exporter.simulator.world.lines import PRODUCTS

START, END = "2026-11-20T10:00:00Z", "2026-11-21T15:00:00Z"

KEYS = "/_simulator/keys"


@pytest.mark.parametrize(
    "group_by", ["hour", "product", "team,product,model,app,environment,machine_type,unit,api_key"]
)
def test_series_add_up_to_the_total(simulator: Simulator, group_by: str) -> None:
    told = simulator.statement(start=START, end=END, group_by=group_by)
    for name in ("requests", "quantity", "gpu_seconds", "list_cost", "discount", "cost"):
        assert sum(Decimal(str(row[name])) for row in told["charges"]) == Decimal(str(told[name]))


def test_the_final_truth_differs_from_what_is_visible(simulator: Simulator) -> None:
    now = simulator.statement(start=START, end=END)
    final = simulator.statement(start=START, end=END, final="true")
    assert final["cost"] != now["cost"]
    assert final["as_of"] is None


def test_sources_are_the_products_that_they_tell_of(simulator: Simulator) -> None:
    def products(source: str) -> set[str]:
        told = simulator.statement(start=START, end=END, group_by="product", source=source)
        return {row["product"] for row in told["charges"]}

    assert products("models") == {"model_apis"}
    assert products("serverless") == {"serverless"}
    assert products("organization") == products("reporting") == {"model_apis", "serverless", "compute"}


async def test_the_statement_needs_no_key_and_amounts_are_exact_texts(client: httpx.AsyncClient) -> None:
    response = await client.get(
        "/_simulator/statement", params={"start": START, "end": END}, headers={"authorization": ""}
    )
    assert response.status_code == 200
    assert isinstance(response.json()["cost"], str)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"start": START}, {"start": END, "end": START}, {"start": START, "end": END, "group_by": "weather"}],
)
async def test_a_wrong_question_is_answered_with_a_sentence(
    client: httpx.AsyncClient, parameters: dict[str, str]
) -> None:
    response = await client.get("/_simulator/statement", params=parameters)
    assert response.status_code == 400
    assert response.json()["detail"].endswith(".")


async def test_a_key_gains_a_capability_while_running(client: httpx.AsyncClient) -> None:
    refused = {"key_id": "simulator-admin", "refused": {"/v1/organization/*": 404, "/v1/serverless/usage": 403}}
    listed = (await client.post(KEYS, json=refused)).json()["keys"]
    assert [key["refused"] for key in listed] == [refused["refused"], {}]
    assert "0000" not in str(listed)

    async def statuses() -> list[int]:
        paths = ("/v1/organization/usage", "/v1/serverless/usage", "/v1/models/usage")
        return [(await client.get(path)).status_code for path in paths]

    assert await statuses() == [404, 403, 200]
    await client.post(KEYS, json={"key_id": "simulator-admin", "refused": {}})
    assert await statuses() == [200, 200, 200]
    await client.post(KEYS, json={"key_id": "simulator-admin", "scope": "api"})
    assert await statuses() == [403, 403, 403]
    await client.put(KEYS, json=[{"key": "other:secret"}])
    assert await statuses() == [401, 401, 401]


@pytest.mark.parametrize(
    "document",
    [
        {},
        "simulator-admin",
        {"key_id": "nobody"},
        {"key_id": "simulator-admin", "scope": "root"},
        {"key_id": "simulator-admin", "own_only": "yes"},
        {"key_id": "simulator-admin", "refused": {"/v1/*": 500}},
        {"key_id": "simulator-admin", "refused": "all"},
        {"key_id": "simulator-admin", "colour": "blue"},
    ],
)
async def test_a_key_that_cannot_be_understood_is_answered_with_a_sentence(
    client: httpx.AsyncClient, simulator: Simulator, document: object
) -> None:
    before = dict(simulator.keys)
    response = await client.post(KEYS, json=document)
    assert response.status_code == 400
    assert response.json()["detail"].endswith(".")
    assert simulator.keys == before


UNREADABLE = [
    (Key("k:s"), {}, set()),
    (Key("k:s", "api"), {}, {"model_apis", "serverless", "compute"}),
    (Key("k:s", team="acme"), {"team": "acme"}, {"compute"}),
    (Key("k:s", refused=(("/v1/organization/*", 403),)), {}, {"compute"}),
    (Key("k:s", refused=(("/v1/organization/*", 403), ("/v1/serverless/*", 404))), {}, {"compute", "serverless"}),
    (Key("k:s", refused=(("/v1/*", 403),)), {"through": "reporting"}, set()),
    (Key("k:s"), {"through": "models,serverless"}, {"compute"}),
]


@pytest.mark.parametrize(("key", "parameters", "products"), UNREADABLE)
async def test_the_statement_tells_what_a_key_cannot_read(
    client: httpx.AsyncClient, simulator: Simulator, key: Key, parameters: dict[str, str], products: set[str]
) -> None:
    simulator.keys = {key.text: key}
    span = {"start": START, "end": END}
    told = simulator.statement(**span, **parameters, key_id="k", group_by="hour,product,model")
    assert {row["product"] for row in told["charges"] if row["unreadable_nano_usd"]} == products
    for row in told["charges"]:
        assert row["unreadable_nano_usd"] in {0, row["cost_nano_usd"]}
        assert Decimal(row["cost"]) * 10**9 == row["cost_nano_usd"]
    assert told["unreadable_nano_usd"] == sum(row["unreadable_nano_usd"] for row in told["charges"])
    assert told["account"] == "acme"
    if "through" not in parameters:
        headers = {"authorization": f"Key {key.text}"}
        expected = {"organization": PRODUCTS, "models": ("model_apis",), "serverless": ("serverless",)}
        answers = {name: await client.get(f"/v1/{name}/usage", headers=headers) for name in expected}
        read = {product for name in expected if answers[name].status_code == 200 for product in expected[name]}
        assert {*PRODUCTS} - read == products


async def test_a_root_may_see_the_other_teams_in_the_organization_only(
    client: httpx.AsyncClient, simulator: Simulator
) -> None:
    await client.post(KEYS, json={"key_id": "simulator-admin", "own_only": True})
    span = {"start": START, "end": END, "timeframe": "month", "bound_to_timeframe": "false"}

    async def total(path: str) -> Decimal:
        answer = json.loads((await client.get(path, params=span)).text, parse_float=Decimal)
        return sum((row["cost"] for bucket in answer["time_series"] for row in bucket["results"]), Decimal(0))

    def stated(**parameters: str) -> Decimal:
        return Decimal(simulator.statement(start=START, end=END, **parameters)["cost"])

    assert await total("/v1/models/usage") == stated(source="models", team="acme") < stated(source="models")
    assert await total("/v1/serverless/usage") == stated(source="serverless", team="acme")
    assert await total("/v1/organization/usage") == stated()
    told = simulator.statement(start=START, end=END, key_id="simulator-admin", through="models,serverless")
    assert Decimal(told["unreadable_cost"]) == stated() - await total("/v1/models/usage") - await total(
        "/v1/serverless/usage"
    )


async def test_a_statement_of_no_known_key_is_refused(client: httpx.AsyncClient) -> None:
    response = await client.get("/_simulator/statement", params={"start": START, "end": END, "key_id": "nobody"})
    assert (response.status_code, response.json()["detail"]) == (400, "key_id: there is no key 'nobody'.")
