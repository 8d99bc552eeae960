import re
from pathlib import Path

import httpx
import pytest

from exporter.simulator import Simulator
from exporter.simulator.faults.faults import PARAMETERS

PATH = "/_simulator/faults"
DOCUMENTATION = Path(__file__).parents[3] / "docs" / "contributing.md"


async def test_faults_are_switched_on_added_and_switched_off(client: httpx.AsyncClient) -> None:
    await client.put(PATH, json={"fault": "server_error", "status": 502, "times": 1})
    assert (await client.get("/billing/user_balance")).status_code == 502
    await client.post(PATH, json=[{"fault": "not_found", "path": "/v1/*"}])
    told = (await client.get(PATH)).json()["faults"]
    assert [(fault["fault"], fault["hits"]) for fault in told] == [("server_error", 1), ("not_found", 0)]
    await client.put(PATH, json={"faults": [{"fault": "not_found"}]})
    assert [fault["fault"] for fault in (await client.get(PATH)).json()["faults"]] == ["not_found"]
    assert (await client.delete(PATH)).json()["faults"] == []


@pytest.mark.parametrize("kind", PARAMETERS)
async def test_every_fault_can_be_ordered(client: httpx.AsyncClient, kind: str) -> None:
    response = await client.put(
        PATH, json={"fault": kind, "path": "/nowhere", "probability": 0.5, "every": 9, "lasts": 1.5}
    )
    assert response.status_code == 200
    assert response.json()["faults"][0]["fault"] == kind


async def test_spend_is_planted(client: httpx.AsyncClient) -> None:
    order = {"fault": "planted_spend", "hour": "2026-11-20T10:00:00Z", "amount_usd": "40500.000000001"}
    machine = {
        "product": "serverless",
        "app": "runaway",
        "machine_type": "GPU-H200",
        "amount_usd": "9",
        "quantity": "7200",
    }
    await client.post(PATH, json=[order, order | machine])
    span = {"start": "2026-11-20T10:00:00Z", "end": "2026-11-20T11:00:00Z", "group_by": "model,app,gpu_class"}
    told = (await client.get("/_simulator/statement", params=span)).json()["charges"]
    costs = {(row["model"], row["app"], row["gpu_class"]): (row["cost"], row["gpu_seconds"]) for row in told}
    assert costs["fal-ai/glitched-job", "", ""] == ("40500.000000001", "0")
    assert costs["", "runaway", "H200"] == ("9", "7200")


async def test_revisions_and_lateness_are_planted(client: httpx.AsyncClient) -> None:
    span = {"start": "2026-11-18T10:00:00Z", "end": "2026-11-18T11:00:00Z", "group_by": "product"}

    async def requests() -> int:
        return (await client.get("/_simulator/statement", params=span)).json()["requests"]

    whole = await requests()
    hour = {"hour": "2026-11-18T10:00:00Z"}
    await client.put(PATH, json={"fault": "planted_revision", **hour, "percent": 50})
    assert whole / 3 < await requests() < whole * 2 / 3
    await client.put(PATH, json={"fault": "planted_lateness", **hour, "until": "2026-11-25T00:00:00Z"})
    assert await requests() == 0
    await client.delete(PATH)
    assert await requests() == whole


@pytest.mark.parametrize(
    "order",
    [
        {},
        "server_error",
        {"fault": "gremlins"},
        {"fault": "hang", "colour": "blue"},
        {"fault": "hang", "seconds": "long"},
        {"fault": "server_error", "status": 200},
        {"fault": "balance", "amount_usd": "plenty"},
        {"fault": "missing_fields", "fields": "cost"},
        {"fault": "planted_spend"},
        {"fault": "planted_spend", "hour": "noon"},
        {"fault": "planted_spend", "hour": "2026-11-20T10:00:00"},
        {"fault": "planted_spend", "hour": "2026-11-20T10:00:00Z", "amount_usd": "1", "quantity": "7"},
        {"fault": "planted_spend", "hour": "2026-11-20T10:00:00Z", "product": "toys"},
        {"fault": "planted_spend", "hour": "2026-11-20T10:00:00Z", "product": "compute", "machine_type": "abacus"},
        {"fault": "planted_revision", "hour": "2026-11-20T10:00:00Z"},
        {"fault": "planted_lateness", "hour": "2026-11-20T10:00:00Z"},
        {"fault": "planted_relabelling", "hour": "2026-11-20T10:00:00Z"},
        {"fault": "planted_relabelling", "hour": "2026-11-20T10:00:00Z", "labels": {"model": 7}},
        {"fault": "planted_relabelling", "hour": "2026-11-20T10:00:00Z", "labels": {"colour": "blue"}},
        {"fault": "refused", "status": 500},
        {"fault": "odd_rows", "oddity": "blue"},
    ],
)
async def test_an_order_that_cannot_be_understood_is_answered_with_a_sentence(
    client: httpx.AsyncClient, simulator: Simulator, order: object
) -> None:
    response = await client.post(PATH, json=order)
    assert response.status_code == 400
    assert response.json()["detail"].endswith(".")
    assert simulator.faults.planted == []
    assert simulator.account.plants == ()


async def test_a_body_that_is_not_json_is_answered_with_a_sentence(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, content=b"{")
    assert (response.status_code, response.json()) == (400, {"detail": "The body is not JSON."})


async def test_a_relabelling_of_some_hours_is_ordered(client: httpx.AsyncClient, simulator: Simulator) -> None:
    order = {"fault": "planted_relabelling", "hour": "2026-11-20T10:00:00Z", "hours": 3, "labels": {"api_key": ""}}
    assert (await client.post(PATH, json=order)).status_code == 200
    span = {"start": "2026-11-20T09:00:00Z", "end": "2026-11-20T14:00:00Z", "source": "models"}
    rows = simulator.statement(**span, group_by="hour,api_key")["charges"]
    nameless = {row["hour"][11:13] for row in rows if not row["api_key"]}
    assert nameless == {"10", "11", "12"}
    assert {row["hour"][11:13] for row in rows if row["api_key"]} == {"09", "13"}


async def test_the_documentation_has_every_fault_with_its_parameters(client: httpx.AsyncClient) -> None:
    kinds = (await client.get(PATH)).json()["kinds"]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", DOCUMENTATION.read_text(), re.MULTILINE)
    assert {kind: re.findall(r"`(\w+)`", parameters) for kind, parameters in rows} == kinds
