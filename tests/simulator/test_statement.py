from decimal import Decimal

import httpx
import pytest

from exporter.simulator import Simulator

START, END = "2026-11-20T10:00:00Z", "2026-11-21T15:00:00Z"


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
