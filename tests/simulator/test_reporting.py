from collections.abc import Awaitable, Callable
from decimal import Decimal

import httpx
import pytest

from exporter.simulator import Fault, Simulator

Ask = Callable[..., Awaitable[object]]
START, END = "2026-11-20T10:00:00Z", "2026-11-20T11:00:00Z"


@pytest.mark.parametrize("group_by", ["", "model", "app", "gpu_class", "model,gpu_class", "model,app,gpu_class"])
async def test_every_grouping_adds_up_to_the_truth(ask: Ask, truth: Callable[..., Decimal], group_by: str) -> None:
    parameters = {"group_by": group_by} if group_by else {}
    answer = await ask("/billing/usage", start=START, end=END, **parameters)
    assert sum(row["spend"] for row in answer["usage"]) == truth(START, END, source="reporting")
    assert answer["group_by"] == [name for name in group_by.split(",") if name]
    assert answer["currency"] == "USD"
    for row in answer["usage"]:
        assert row.keys() == {"model", "app", "gpu_class", "requests", "gpu_seconds", "spend"}
        assert all(row[name] is None for name in ("model", "app", "gpu_class") if name not in group_by)
    groups = [(row["model"], row["app"], row["gpu_class"]) for row in answer["usage"]]
    assert len({*groups}) == len(groups)


async def test_gpu_seconds_count_every_gpu(ask: Ask, simulator: Simulator) -> None:
    answer = await ask("/billing/usage", start=START, end=END, group_by="gpu_class")
    told = simulator.statement(start=START, end=END, group_by="gpu_class")["charges"]
    assert {row["gpu_class"] or "": row["gpu_seconds"] for row in answer["usage"]} == {
        row["gpu_class"]: Decimal(row["gpu_seconds"]) for row in told
    }
    compute = simulator.statement(start=START, end=END, group_by="product,machine_type")["charges"]
    eight = next(row for row in compute if row["machine_type"] == "gpu_8x_h100_sxm5")
    assert Decimal(eight["gpu_seconds"]) == 8 * Decimal(eight["quantity"])


async def test_an_upstream_may_take_one_dimension_only(client: httpx.AsyncClient, simulator: Simulator) -> None:
    simulator.faults.add(Fault("single_dimension"))
    refused = await client.get("/billing/usage", params={"group_by": "model,gpu_class"})
    assert refused.status_code == 422
    assert "one dimension" in refused.json()["detail"]
    assert (await client.get("/billing/usage", params={"group_by": "model"})).status_code == 200


async def test_an_unknown_dimension_is_refused_in_the_older_shape(client: httpx.AsyncClient) -> None:
    response = await client.get("/billing/usage", params={"group_by": "colour"})
    assert response.status_code == 400
    assert response.json() == {"detail": "group_by: 'colour' is not one of model, app, gpu_class."}


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
